//! Waiting for many descriptors: poll, ppoll, select, pselect6; and eventfd and timerfd, which are made for it.

use super::prelude::*;

tests!("poll":
    poll_tells_what_is_ready, poll_of_bad_descriptors, poll_arguments, poll_of_hangups, poll_waits, ppoll_swaps_the_mask, ppoll_writes_the_rest, select_tells, select_arguments, select_writes_the_rest, pselect_swaps_the_mask, eventfd_counts, eventfd_semaphore, eventfd_limits, eventfd_arguments, timerfd_once_and_again, timerfd_arguments, timerfd_absolute, timerfd_is_settable, sockets_are_ready,
);

pub(super) fn entry(fd: usize, events: i16) -> pollfd {
    pollfd { fd: fd as c_int, events, revents: 0x7fff }
}

fn poll_tells_what_is_ready() {
    let (reader, writer) = pipe();
    let mut list = [entry(reader, POLLIN | POLLRDNORM), entry(writer, POLLOUT), entry(file(c"file", b""), POLLIN | POLLOUT)];
    gives!(poll(&mut list, 3, 0) => 2);
    eq!(list.map(|entry| entry.revents), [0, POLLOUT, POLLIN | POLLOUT]);
    gives!(write(writer, b"x", 1) => 1);
    gives!(poll(&mut list, 3, -1) => 3);
    eq!(list[0].revents, POLLIN | POLLRDNORM);
    // Only what was asked for is told, except errors.
    list[0].events = POLLPRI;
    gives!(poll(&mut list, 1, 0) => 0);
    eq!(list[0].revents, 0);
}

fn poll_of_bad_descriptors() {
    let (reader, _writer) = pipe();
    let mut list = [entry(999, POLLIN), entry(usize::MAX, POLLIN), entry(reader, 0)];
    gives!(poll(&mut list, 3, -1) => 1);
    // A negative one is left out.
    eq!(list.map(|entry| entry.revents), [POLLNVAL, 0, 0]);
}

fn poll_arguments() {
    fails!(poll(BAD, 1, 0) => EFAULT);
    gives!(poll(0, 0, 0) => 0);
    gives!(poll(BAD, 0, 1) => 0);
    in_child(|| {
        gives!(setrlimit(RLIMIT_NOFILE, &rlimit { rlim_cur: 4, rlim_max: 4 }) => 0);
        let mut list = [entry(usize::MAX, 0); 5];
        fails!(poll(&mut list, 5, 0) => EINVAL);
        gives!(poll(&mut list, 4, 0) => 0);
    });
    fails!(ppoll(BAD, 0, BAD, 0, 8) => EFAULT);
    fails!(ppoll(0, 0, &timespec { tv_sec: 0, tv_nsec: 1_000_000_000 }, 0, 8) => EINVAL);
    fails!(ppoll(0, 0, &timespec { tv_sec: -1, tv_nsec: 0 }, 0, 8) => EINVAL);
    fails!(ppoll(0, 0, &timespec { tv_sec: 0, tv_nsec: 0 }, &0u64, 4) => EINVAL);
    fails!(ppoll(0, 0, &timespec { tv_sec: 0, tv_nsec: 0 }, BAD, 8) => EFAULT);
}

fn poll_of_hangups() {
    let (reader, writer) = pipe();
    works!(close(writer));
    let mut list = [entry(reader, POLLIN)];
    gives!(poll(&mut list, 1, -1) => 1);
    eq!(list[0].revents, POLLHUP);
    let (reader, writer) = pipe();
    works!(close(reader));
    let mut list = [entry(writer, POLLOUT)];
    gives!(poll(&mut list, 1, -1) => 1);
    eq!(list[0].revents, POLLOUT | POLLERR);
    // Told also if nothing was asked for.
    list[0].events = 0;
    gives!(poll(&mut list, 1, -1) => 1);
    eq!(list[0].revents, POLLERR);
}

fn poll_waits() {
    let (reader, writer) = pipe();
    let own = process::id();
    let other = child(|| {
        until_asleep(own);
        works!(write(writer, b"x", 1));
    });
    let mut list = [entry(reader, POLLIN)];
    gives!(poll(&mut list, 1, 100_000) => 1);
    join(other);
    gives!(read(reader, &mut [0u8; 1], 1) => 1);
    gives!(poll(&mut list, 1, 1) => 0);
    eq!(list[0].revents, 0);
}

fn ppoll_swaps_the_mask() {
    signal::on(SIGUSR1, 0);
    signal::block(&[SIGUSR1]);
    let _ = sys!(kill(process::id(), SIGUSR1));
    let (reader, _writer) = pipe();
    let mut list = [entry(reader, POLLIN)];
    fails!(ppoll(&mut list, 1, 0, &0u64, 8) => EINTR);
    eq!(signal::count(), 1);
    let mut now = 0u64;
    gives!(rt_sigprocmask(SIG_BLOCK, 0, &mut now, 8) => 0);
    eq!(now, signal::set(&[SIGUSR1]));
    // The other way round: what it blocks comes afterwards.
    signal::block(&[]);
    let mask = signal::set(&[SIGUSR1]);
    let own = process::id();
    let other = child(|| {
        until_asleep(own);
        let _ = sys!(kill(own, SIGUSR1));
    });
    gives!(ppoll(&mut list, 1, &timespec { tv_sec: 0, tv_nsec: 50_000_000 }, &mask, 8) => 0);
    join(other);
    eq!(signal::count(), 2);
}

fn ppoll_writes_the_rest() {
    let (reader, writer) = pipe();
    gives!(write(writer, b"x", 1) => 1);
    let mut list = [entry(reader, POLLIN)];
    let mut left = timespec { tv_sec: 1000, tv_nsec: 0 };
    gives!(ppoll(&mut list, 1, &mut left, 0, 0) => 1);
    is!(left.tv_sec == 999 || left.tv_sec == 1000, "the rest of the time, not {} s", left.tv_sec);
    let (empty, _other) = pipe();
    let mut list = [entry(empty, POLLIN)];
    let mut left = timespec { tv_sec: 0, tv_nsec: 1 };
    gives!(ppoll(&mut list, 1, &mut left, 0, 0) => 0);
    eq!((left.tv_sec, left.tv_nsec), (0, 0));
}

fn bits(fds: &[usize]) -> [u64; 16] {
    let mut set = [0; 16];
    for fd in fds {
        set[fd / 64] |= 1 << (fd % 64);
    }
    set
}

fn select_tells() {
    let (reader, writer) = pipe();
    let highest = reader.max(writer) + 1;
    let now: timeval = zeroed();
    let (mut reading, mut writing, mut odd) = (bits(&[reader]), bits(&[writer]), bits(&[reader, writer]));
    gives!(select(highest, &mut reading, &mut writing, &mut odd, &mut [now; 1]) => 1);
    eq!((reading, writing, odd), (bits(&[]), bits(&[writer]), bits(&[])));
    gives!(write(writer, b"x", 1) => 1);
    let (mut reading, mut writing) = (bits(&[reader]), bits(&[writer]));
    gives!(select(highest, &mut reading, &mut writing, 0, 0) => 2);
    eq!((reading, writing), (bits(&[reader]), bits(&[writer])));
    // Ends count as readable; a file always is.
    works!(close(writer));
    gives!(read(reader, &mut [0u8; 1], 1) => 1);
    let mut reading = bits(&[reader]);
    gives!(select(highest, &mut reading, 0, 0, 0) => 1);
    let high = works!(dup2(file(c"file", b""), 700));
    let mut reading = bits(&[high]);
    gives!(select(701, &mut reading, 0, 0, 0) => 1);
    // Beyond the number of descriptors nothing is looked at.
    let mut reading = bits(&[high]);
    gives!(select(700, &mut reading, 0, 0, &mut [now; 1]) => 0);
}

fn select_arguments() {
    // Below 64: beyond what the table of descriptors has room for, nothing is looked at.
    let mut set = bits(&[50]);
    fails!(select(64, &mut set, 0, 0, 0) => EBADF);
    fails!(select(-1, 0, 0, 0, 0) => EINVAL);
    fails!(select(64, BAD, 0, 0, 0) => EFAULT);
    fails!(select(0, 0, 0, 0, BAD) => EFAULT);
    fails!(select(0, 0, 0, 0, &mut timeval { tv_sec: -1, tv_usec: 0 }) => EINVAL);
    gives!(select(0, 0, 0, 0, &mut timeval { tv_sec: 0, tv_usec: 1 }) => 0);
    fails!(pselect6(0, 0, 0, 0, &timespec { tv_sec: 0, tv_nsec: -1 }, 0) => EINVAL);
}

fn select_writes_the_rest() {
    let (reader, writer) = pipe();
    gives!(write(writer, b"x", 1) => 1);
    let mut left = timeval { tv_sec: 1000, tv_usec: 0 };
    gives!(select(reader + 1, &mut bits(&[reader]), 0, 0, &mut left) => 1);
    is!(left.tv_sec == 999 || left.tv_sec == 1000, "the rest of the time, not {} s", left.tv_sec);
    let mut left = timeval { tv_sec: 0, tv_usec: 1 };
    gives!(select(0, 0, 0, 0, &mut left) => 0);
    eq!((left.tv_sec, left.tv_usec), (0, 0));
}

fn pselect_swaps_the_mask() {
    signal::on(SIGUSR1, 0);
    signal::block(&[SIGUSR1]);
    let _ = sys!(kill(process::id(), SIGUSR1));
    let mask = 0u64;
    let with_size: [usize; 2] = [std::ptr::from_ref(&mask) as usize, 8];
    fails!(pselect6(0, 0, 0, 0, 0, &with_size) => EINTR);
    eq!(signal::count(), 1);
    let mut now = 0u64;
    gives!(rt_sigprocmask(SIG_BLOCK, 0, &mut now, 8) => 0);
    eq!(now, signal::set(&[SIGUSR1]));
    let wrong: [usize; 2] = [with_size[0], 4];
    fails!(pselect6(0, 0, 0, 0, 0, &wrong) => EINVAL);
    fails!(pselect6(0, 0, 0, 0, 0, BAD) => EFAULT);
    gives!(pselect6(0, 0, 0, 0, &timespec { tv_sec: 0, tv_nsec: 1 }, &[0usize, 0]) => 0);
}

fn eventfd_counts() {
    let fd = works!(eventfd2(3, EFD_NONBLOCK | EFD_CLOEXEC));
    gives!(fcntl(fd, F_GETFD) => FD_CLOEXEC);
    let mut value = 0u64;
    gives!(read(fd, &mut value, 8) => 8);
    eq!(value, 3);
    fails!(read(fd, &mut value, 8) => EAGAIN);
    gives!(write(fd, &5u64, 8) => 8);
    gives!(write(fd, &6u64, 8) => 8);
    gives!(write(fd, &0u64, 8) => 8);
    gives!(read(fd, &mut value, 8) => 8);
    eq!(value, 11);
    // Blocking, until somebody writes.
    let fd = works!(eventfd(0));
    let own = process::id();
    let other = child(|| {
        until_asleep(own);
        works!(write(fd, &9u64, 8));
    });
    gives!(read(fd, &mut value, 8) => 8);
    eq!(value, 9);
    join(other);
    signal::tick(false);
    fails!(read(fd, &mut value, 8) => EINTR);
}

fn eventfd_semaphore() {
    let fd = works!(eventfd2(2, EFD_SEMAPHORE | EFD_NONBLOCK));
    let mut value = 0u64;
    for _ in 0..2 {
        gives!(read(fd, &mut value, 8) => 8);
        eq!(value, 1);
    }
    fails!(read(fd, &mut value, 8) => EAGAIN);
}

fn eventfd_limits() {
    let fd = works!(eventfd2(0, EFD_NONBLOCK));
    fails!(write(fd, &u64::MAX, 8) => EINVAL);
    gives!(write(fd, &(u64::MAX - 1), 8) => 8);
    fails!(write(fd, &1u64, 8) => EAGAIN);
    let mut list = [entry(fd, POLLIN | POLLOUT)];
    gives!(poll(&mut list, 1, 0) => 1);
    eq!(list[0].revents, POLLIN);
    let mut value = 0u64;
    gives!(read(fd, &mut value, 8) => 8);
    eq!(value, u64::MAX - 1);
    gives!(poll(&mut list, 1, 0) => 1);
    eq!(list[0].revents, POLLOUT);
}

fn eventfd_arguments() {
    fails!(eventfd2(0, 0x2) => EINVAL);
    let fd = works!(eventfd2(0, EFD_NONBLOCK));
    fails!(write(fd, &1u32, 4) => EINVAL);
    fails!(read(fd, &mut 0u32, 4) => EINVAL);
    fails!(write(fd, BAD, 8) => EFAULT);
    fails!(pread64(fd, &mut 0u64, 8, 0) => ESPIPE);
}

fn timer(interval: i64, value: i64) -> itimerspec {
    let nanos = |nanos: i64| timespec { tv_sec: nanos / 1_000_000_000, tv_nsec: nanos % 1_000_000_000 };
    itimerspec { it_interval: nanos(interval), it_value: nanos(value) }
}

fn timerfd_once_and_again() {
    let fd = works!(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
    gives!(fcntl(fd, F_GETFD) => FD_CLOEXEC);
    let mut count = 0u64;
    gives!(timerfd_settime(fd, 0, &timer(0, 1), 0) => 0);
    gives!(read(fd, &mut count, 8) => 8);
    eq!(count, 1);
    let mut now = timer(9, 9);
    gives!(timerfd_gettime(fd, &mut now) => 0);
    eq!((now.it_value.tv_sec, now.it_value.tv_nsec), (0, 0));
    gives!(timerfd_settime(fd, 0, &timer(1_000_000, 1_000_000), 0) => 0);
    let mut sum = 0;
    while sum < 5 {
        gives!(read(fd, &mut count, 8) => 8);
        is!(count >= 1, "at least one");
        sum += count;
    }
    // Setting it takes away what has not been read.
    let mut list = [entry(fd, POLLIN)];
    gives!(poll(&mut list, 1, -1) => 1);
    gives!(timerfd_settime(fd, 0, &timer(0, 1_000_000_000_000), &mut now) => 0);
    eq!(now.it_interval.tv_nsec, 1_000_000);
    gives!(fcntl(fd, F_SETFL, O_NONBLOCK) => 0);
    fails!(read(fd, &mut count, 8) => EAGAIN);
    gives!(timerfd_gettime(fd, &mut now) => 0);
    is!(now.it_value.tv_sec > 900 && now.it_value.tv_sec <= 1000, "the time that is left");
    gives!(timerfd_settime(fd, 0, &timer(0, 0), 0) => 0);
    gives!(poll(&mut list, 1, 0) => 0);
}

fn timerfd_arguments() {
    fails!(timerfd_create(99, 0) => EINVAL);
    fails!(timerfd_create(CLOCK_PROCESS_CPUTIME_ID, 0) => EINVAL);
    fails!(timerfd_create(CLOCK_MONOTONIC, 0x1) => EINVAL);
    for clock in [CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME] {
        works!(timerfd_create(clock, TFD_NONBLOCK));
    }
    let fd = works!(timerfd_create(CLOCK_MONOTONIC, 0));
    let mut bad = timer(0, 1);
    bad.it_value.tv_nsec = 1_000_000_000;
    fails!(timerfd_settime(fd, 0, &bad, 0) => EINVAL);
    bad.it_value.tv_nsec = -1;
    fails!(timerfd_settime(fd, 0, &bad, 0) => EINVAL);
    fails!(timerfd_settime(fd, 0x80, &timer(0, 1), 0) => EINVAL);
    fails!(timerfd_settime(fd, 0, BAD, 0) => EFAULT);
    fails!(timerfd_gettime(fd, BAD) => EFAULT);
    fails!(timerfd_settime(-1, 0, &timer(0, 1), 0) => EBADF);
    fails!(timerfd_settime(file(c"file", b""), 0, &timer(0, 1), 0) => EINVAL);
    fails!(timerfd_gettime(file(c"file", b""), &mut timer(0, 0)) => EINVAL);
    fails!(read(fd, &mut 0u32, 4) => EINVAL);
    fails!(write(fd, &1u64, 8) => EINVAL);
}

fn timerfd_absolute() {
    let fd = works!(timerfd_create(CLOCK_MONOTONIC, 0));
    // A time that is over already.
    gives!(timerfd_settime(fd, TFD_TIMER_ABSTIME, &timer(0, 1), 0) => 0);
    let mut count = 0u64;
    gives!(read(fd, &mut count, 8) => 8);
    eq!(count, 1);
    let mut now: timespec = zeroed();
    gives!(clock_gettime(CLOCK_MONOTONIC, &mut now) => 0);
    now.tv_sec += 1000;
    gives!(timerfd_settime(fd, TFD_TIMER_ABSTIME, &itimerspec { it_interval: zeroed(), it_value: now }, 0) => 0);
    let mut left = timer(0, 0);
    gives!(timerfd_gettime(fd, &mut left) => 0);
    is!(left.it_value.tv_sec > 900 && left.it_value.tv_sec <= 1000, "what is left is relative");
    // Missed ones are all counted.
    gives!(clock_gettime(CLOCK_MONOTONIC, &mut now) => 0);
    now.tv_sec -= i64::from(now.tv_sec > 1);
    let every = itimerspec { it_interval: timespec { tv_sec: 0, tv_nsec: 100_000_000 }, it_value: now };
    gives!(timerfd_settime(fd, TFD_TIMER_ABSTIME, &every, 0) => 0);
    gives!(read(fd, &mut count, 8) => 8);
    is!(count >= 10, "ten in the second that is over, not {count}");
}

fn timerfd_is_settable() {
    let fd = works!(timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK));
    // Without an absolute time of the wall clock, the flag for its being set is ignored.
    const CANCEL_ON_SET: c_int = 2;
    gives!(timerfd_settime(fd, TFD_TIMER_ABSTIME | CANCEL_ON_SET, &timer(0, 1), 0) => 0);
    let mut list = [entry(fd, POLLIN)];
    gives!(poll(&mut list, 1, -1) => 1);
    gives!(read(fd, &mut 0u64, 8) => 8);
    let info = contents(&format!("/proc/self/fdinfo/{fd}"));
    is!(info.contains("clockid: 0\nticks: 0\n"), "fdinfo to tell clock and ticks: {info}");
}

fn sockets_are_ready() {
    let mut pair = [0i32; 2];
    works!(socketpair(AF_UNIX, SOCK_STREAM, 0, &mut pair));
    let mut list = [entry(pair[0] as usize, POLLIN | POLLOUT | POLLRDHUP)];
    gives!(poll(&mut list, 1, 0) => 1);
    eq!(list[0].revents, POLLOUT);
    gives!(write(pair[1], b"x", 1) => 1);
    gives!(poll(&mut list, 1, 0) => 1);
    eq!(list[0].revents, POLLIN | POLLOUT);
    gives!(shutdown(pair[1], SHUT_WR) => 0);
    gives!(poll(&mut list, 1, 0) => 1);
    eq!(list[0].revents, POLLIN | POLLOUT | POLLRDHUP);
    works!(close(pair[1]));
    gives!(poll(&mut list, 1, 0) => 1);
    eq!(list[0].revents, POLLIN | POLLOUT | POLLRDHUP | POLLHUP);
    let lonely = works!(socket(AF_UNIX, SOCK_STREAM, 0));
    let mut list = [entry(lonely, POLLIN | POLLOUT)];
    gives!(poll(&mut list, 1, 0) => 1);
    eq!(list[0].revents, POLLOUT | POLLHUP);
}
