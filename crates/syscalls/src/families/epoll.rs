//! epoll: level and edge, once and exclusively, one in another.

use super::poll::entry;
use super::prelude::*;

tests!("epoll":
    epoll_level, epoll_edge, epoll_oneshot, epoll_exclusive_and_wakeup, epoll_ctl_arguments, epoll_wait_arguments, epoll_of_epolls, epoll_keeps_the_open_file, epoll_rotates, epoll_waits, epoll_pwait_swaps_the_mask, epoll_pwait2_takes_nanoseconds, epoll_of_hangups, epoll_shows,
);

fn event(events: c_int, data: u64) -> epoll_event {
    epoll_event { events: events as u32, u64: data }
}

/// What is ready now: events and data.
fn ready(epoll: usize) -> Vec<(c_int, u64)> {
    let mut list = [event(0, 0); 8];
    let count = works!(epoll_wait(epoll, &mut list, 8, 0));
    list[..count].iter().map(|event| (event.events as c_int, event.u64)).collect()
}

fn epoll_level() {
    let epoll = works!(epoll_create1(EPOLL_CLOEXEC));
    gives!(fcntl(epoll, F_GETFD) => FD_CLOEXEC);
    let (reader, writer) = pipe();
    gives!(epoll_ctl(epoll, EPOLL_CTL_ADD, reader, &event(EPOLLIN, 7)) => 0);
    gives!(epoll_ctl(epoll, EPOLL_CTL_ADD, writer, &event(EPOLLOUT | EPOLLIN, 8)) => 0);
    eq!(ready(epoll), [(EPOLLOUT, 8)]);
    gives!(write(writer, b"xy", 2) => 2);
    eq!(ready(epoll).len(), 2);
    gives!(read(reader, &mut [0u8; 1], 1) => 1);
    // As long as something is left it is told.
    is!(ready(epoll).contains(&(EPOLLIN, 7)), "the reader");
    is!(ready(epoll).contains(&(EPOLLIN, 7)), "the reader again");
    gives!(epoll_ctl(epoll, EPOLL_CTL_MOD, reader, &event(0, 7)) => 0);
    eq!(ready(epoll), [(EPOLLOUT, 8)]);
    gives!(epoll_ctl(epoll, EPOLL_CTL_MOD, reader, &event(EPOLLIN, 9)) => 0);
    is!(ready(epoll).contains(&(EPOLLIN, 9)), "the new data");
    gives!(epoll_ctl(epoll, EPOLL_CTL_DEL, writer, 0) => 0);
    eq!(ready(epoll), [(EPOLLIN, 9)]);
    works!(epoll_create(1));
}

fn epoll_edge() {
    let epoll = works!(epoll_create1(0));
    let (reader, writer) = pipe();
    gives!(epoll_ctl(epoll, EPOLL_CTL_ADD, reader, &event(EPOLLIN | EPOLLET, 1)) => 0);
    eq!(ready(epoll), []);
    gives!(write(writer, b"xy", 2) => 2);
    eq!(ready(epoll), [(EPOLLIN, 1)]);
    eq!(ready(epoll), []);
    // Reading a part is no news; another write is.
    gives!(read(reader, &mut [0u8; 1], 1) => 1);
    eq!(ready(epoll), []);
    gives!(write(writer, b"z", 1) => 1);
    eq!(ready(epoll), [(EPOLLIN, 1)]);
    // Changing it looks anew.
    gives!(epoll_ctl(epoll, EPOLL_CTL_MOD, reader, &event(EPOLLIN | EPOLLET, 2)) => 0);
    eq!(ready(epoll), [(EPOLLIN, 2)]);
    eq!(ready(epoll), []);
    let counter = works!(eventfd2(0, 0));
    gives!(epoll_ctl(epoll, EPOLL_CTL_ADD, counter, &event(EPOLLIN | EPOLLOUT | EPOLLET, 3)) => 0);
    eq!(ready(epoll), [(EPOLLOUT, 3)]);
    gives!(write(counter, &1u64, 8) => 8);
    eq!(ready(epoll), [(EPOLLIN | EPOLLOUT, 3)]);
    gives!(write(counter, &1u64, 8) => 8);
    eq!(ready(epoll), [(EPOLLIN | EPOLLOUT, 3)]);
    eq!(ready(epoll), []);
}

fn epoll_oneshot() {
    let epoll = works!(epoll_create1(0));
    let (reader, writer) = pipe();
    gives!(epoll_ctl(epoll, EPOLL_CTL_ADD, reader, &event(EPOLLIN | EPOLLONESHOT, 1)) => 0);
    gives!(write(writer, b"x", 1) => 1);
    eq!(ready(epoll), [(EPOLLIN, 1)]);
    gives!(write(writer, b"x", 1) => 1);
    eq!(ready(epoll), []);
    fails!(epoll_ctl(epoll, EPOLL_CTL_ADD, reader, &event(EPOLLIN, 1)) => EEXIST);
    gives!(epoll_ctl(epoll, EPOLL_CTL_MOD, reader, &event(EPOLLIN | EPOLLONESHOT, 2)) => 0);
    eq!(ready(epoll), [(EPOLLIN, 2)]);
}

fn epoll_exclusive_and_wakeup() {
    let epoll = works!(epoll_create1(0));
    let (reader, writer) = pipe();
    gives!(epoll_ctl(epoll, EPOLL_CTL_ADD, reader, &event(EPOLLIN | EPOLLEXCLUSIVE, 1)) => 0);
    fails!(epoll_ctl(epoll, EPOLL_CTL_MOD, reader, &event(EPOLLIN, 1)) => EINVAL);
    fails!(epoll_ctl(epoll, EPOLL_CTL_ADD, writer, &event(EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT, 1)) => EINVAL);
    gives!(epoll_ctl(epoll, EPOLL_CTL_ADD, writer, &event(EPOLLOUT | EPOLLWAKEUP, 2)) => 0);
    fails!(epoll_ctl(epoll, EPOLL_CTL_MOD, writer, &event(EPOLLOUT | EPOLLEXCLUSIVE, 2)) => EINVAL);
    gives!(write(writer, b"x", 1) => 1);
    eq!(ready(epoll).len(), 2);
}

fn epoll_ctl_arguments() {
    let epoll = works!(epoll_create1(0));
    let (reader, _writer) = pipe();
    let wanted = event(EPOLLIN, 0);
    fails!(epoll_create1(1) => EINVAL);
    fails!(epoll_create(0) => EINVAL);
    fails!(epoll_create(-1) => EINVAL);
    fails!(epoll_ctl(-1, EPOLL_CTL_ADD, reader, &wanted) => EBADF);
    fails!(epoll_ctl(epoll, EPOLL_CTL_ADD, 999, &wanted) => EBADF);
    fails!(epoll_ctl(reader, EPOLL_CTL_ADD, epoll, &wanted) => EINVAL);
    fails!(epoll_ctl(epoll, EPOLL_CTL_ADD, epoll, &wanted) => EINVAL);
    fails!(epoll_ctl(epoll, 99, reader, &wanted) => EINVAL);
    fails!(epoll_ctl(epoll, EPOLL_CTL_MOD, reader, &wanted) => ENOENT);
    fails!(epoll_ctl(epoll, EPOLL_CTL_DEL, reader, 0) => ENOENT);
    fails!(epoll_ctl(epoll, EPOLL_CTL_ADD, reader, BAD) => EFAULT);
    fails!(epoll_ctl(epoll, EPOLL_CTL_ADD, file(c"file", b""), &wanted) => EPERM);
    fails!(epoll_ctl(epoll, EPOLL_CTL_ADD, works!(openat(AT_FDCWD, c".", O_RDONLY)), &wanted) => EPERM);
    gives!(epoll_ctl(epoll, EPOLL_CTL_ADD, reader, &wanted) => 0);
    fails!(epoll_ctl(epoll, EPOLL_CTL_ADD, reader, &wanted) => EEXIST);
    // Another descriptor of the same open file is another entry.
    gives!(epoll_ctl(epoll, EPOLL_CTL_ADD, works!(dup(reader)), &wanted) => 0);
}

fn epoll_wait_arguments() {
    let epoll = works!(epoll_create1(0));
    let mut list = [event(0, 0); 2];
    fails!(epoll_wait(epoll, &mut list, 0, 0) => EINVAL);
    fails!(epoll_wait(epoll, &mut list, -1, 0) => EINVAL);
    fails!(epoll_wait(epoll, &mut list, i32::MAX, 0) => EINVAL);
    fails!(epoll_wait(-1, &mut list, 1, 0) => EBADF);
    fails!(epoll_wait(file(c"file", b""), &mut list, 1, 0) => EINVAL);
    let counter = works!(eventfd2(1, 0));
    gives!(epoll_ctl(epoll, EPOLL_CTL_ADD, counter, &event(EPOLLIN, 1)) => 0);
    fails!(epoll_wait(epoll, BAD, 1, 0) => EFAULT);
    // The event was not lost.
    gives!(epoll_wait(epoll, &mut list, 1, 0) => 1);
    fails!(epoll_pwait(epoll, &mut list, 1, 0, &0u64, 4) => EINVAL);
    fails!(read(epoll, &mut [0u8; 8], 8) => EINVAL);
}

fn epoll_of_epolls() {
    let (outer, inner) = (works!(epoll_create1(0)), works!(epoll_create1(0)));
    let counter = works!(eventfd2(0, 0));
    gives!(epoll_ctl(outer, EPOLL_CTL_ADD, inner, &event(EPOLLIN, 1)) => 0);
    gives!(epoll_ctl(inner, EPOLL_CTL_ADD, counter, &event(EPOLLIN, 2)) => 0);
    eq!(ready(outer), []);
    gives!(write(counter, &1u64, 8) => 8);
    eq!(ready(outer), [(EPOLLIN, 1)]);
    eq!(ready(inner), [(EPOLLIN, 2)]);
    let mut list = [entry(outer, POLLIN)];
    gives!(poll(&mut list, 1, 0) => 1);
    fails!(epoll_ctl(inner, EPOLL_CTL_ADD, outer, &event(EPOLLIN, 3)) => ELOOP);
    // Five deep, not more.
    let mut top = outer;
    for _ in 0..3 {
        let next = works!(epoll_create1(0));
        gives!(epoll_ctl(next, EPOLL_CTL_ADD, top, &event(EPOLLIN, 4)) => 0);
        top = next;
    }
    let last = works!(epoll_create1(0));
    fails!(epoll_ctl(last, EPOLL_CTL_ADD, top, &event(EPOLLIN, 5)) => ELOOP | EINVAL);
}

fn epoll_keeps_the_open_file() {
    let epoll = works!(epoll_create1(0));
    let (reader, writer) = pipe();
    let copy = works!(dup(reader));
    gives!(epoll_ctl(epoll, EPOLL_CTL_ADD, reader, &event(EPOLLIN, 1)) => 0);
    gives!(write(writer, b"x", 1) => 1);
    works!(close(reader));
    // The open file lives on in the copy, and so does the entry.
    eq!(ready(epoll), [(EPOLLIN, 1)]);
    fails!(epoll_ctl(epoll, EPOLL_CTL_DEL, reader, 0) => EBADF);
    works!(close(copy));
    eq!(ready(epoll), []);
}

fn epoll_rotates() {
    let epoll = works!(epoll_create1(0));
    for data in 0..3 {
        gives!(epoll_ctl(epoll, EPOLL_CTL_ADD, works!(eventfd2(1, 0)), &event(EPOLLIN, data)) => 0);
    }
    // Nobody starves: one at a time, each gets its turn.
    let mut seen = Vec::new();
    for _ in 0..3 {
        let mut one = [event(0, 9)];
        gives!(epoll_wait(epoll, &mut one, 1, 0) => 1);
        seen.push(one[0].u64);
    }
    seen.sort_unstable();
    eq!(seen, [0, 1, 2]);
}

fn epoll_waits() {
    let epoll = works!(epoll_create1(0));
    let counter = works!(eventfd2(0, 0));
    let own = process::id();
    let other = child(|| {
        until_asleep(own);
        // Added while somebody waits.
        works!(write(counter, &1u64, 8));
        until_asleep(own);
        works!(epoll_ctl(epoll, EPOLL_CTL_ADD, counter, &event(EPOLLIN, 5)));
    });
    let mut list = [event(0, 0)];
    gives!(epoll_wait(epoll, &mut list, 1, -1) => 1);
    eq!({ list[0].u64 }, 5);
    join(other);
    gives!(epoll_ctl(epoll, EPOLL_CTL_DEL, counter, 0) => 0);
    gives!(epoll_wait(epoll, &mut list, 1, 1) => 0);
}

fn epoll_pwait_swaps_the_mask() {
    signal::on(SIGUSR1, 0);
    signal::block(&[SIGUSR1]);
    let _ = sys!(kill(process::id(), SIGUSR1));
    let epoll = works!(epoll_create1(0));
    let mut list = [event(0, 0)];
    fails!(epoll_pwait(epoll, &mut list, 1, -1, &0u64, 8) => EINTR);
    eq!(signal::count(), 1);
    // Something ready goes before a signal.
    gives!(epoll_ctl(epoll, EPOLL_CTL_ADD, works!(eventfd2(1, 0)), &event(EPOLLIN, 1)) => 0);
    let _ = sys!(kill(process::id(), SIGUSR1));
    gives!(epoll_pwait(epoll, &mut list, 1, -1, &0u64, 8) => 1);
    eq!(signal::pending(), signal::set(&[SIGUSR1]));
}

fn epoll_pwait2_takes_nanoseconds() {
    let epoll = works!(epoll_create1(0));
    let mut list = [event(0, 0)];
    if sys!(epoll_pwait2(epoll, &mut list, 1, &timespec { tv_sec: 0, tv_nsec: 0 }, 0, 8)) == Err(Errno::ENOSYS) {
        skip!("no epoll_pwait2 (Linux 5.11)");
    }
    gives!(epoll_pwait2(epoll, &mut list, 1, &timespec { tv_sec: 0, tv_nsec: 1000 }, 0, 8) => 0);
    fails!(epoll_pwait2(epoll, &mut list, 1, &timespec { tv_sec: 0, tv_nsec: -1 }, 0, 8) => EINVAL);
    fails!(epoll_pwait2(epoll, &mut list, 1, BAD, 0, 8) => EFAULT);
    gives!(epoll_ctl(epoll, EPOLL_CTL_ADD, works!(eventfd2(1, 0)), &event(EPOLLIN, 1)) => 0);
    gives!(epoll_pwait2(epoll, &mut list, 1, 0, 0, 8) => 1);
}

fn epoll_of_hangups() {
    let epoll = works!(epoll_create1(0));
    let (reader, writer) = pipe();
    gives!(epoll_ctl(epoll, EPOLL_CTL_ADD, reader, &event(EPOLLIN, 1)) => 0);
    works!(close(writer));
    eq!(ready(epoll), [(EPOLLHUP, 1)]);
    let mut pair = [0i32; 2];
    works!(socketpair(AF_UNIX, SOCK_STREAM, 0, &mut pair));
    let epoll = works!(epoll_create1(0));
    gives!(epoll_ctl(epoll, EPOLL_CTL_ADD, pair[0], &event(EPOLLIN | EPOLLRDHUP, 2)) => 0);
    gives!(shutdown(pair[1], SHUT_WR) => 0);
    eq!(ready(epoll), [(EPOLLIN | EPOLLRDHUP, 2)]);
    works!(close(pair[1]));
    eq!(ready(epoll), [(EPOLLIN | EPOLLRDHUP | EPOLLHUP, 2)]);
}

fn epoll_shows() {
    let epoll = works!(epoll_create1(0));
    let counter = works!(eventfd2(5, 0));
    gives!(epoll_ctl(epoll, EPOLL_CTL_ADD, counter, &event(EPOLLIN, 0xabc)) => 0);
    let info = contents(&format!("/proc/self/fdinfo/{epoll}"));
    is!(info.contains(&format!("tfd: {counter:8} events:")) && info.contains("data:              abc"), "its entries: {info}");
    is!(contents(&format!("/proc/self/fdinfo/{counter}")).contains("eventfd-count:                5"), "the count");
}
