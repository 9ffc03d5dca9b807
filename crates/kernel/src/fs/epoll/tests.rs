//! Epolls, and poll and select beside them.

use super::*;
use crate::fs::pipe::Pipe;
use crate::task::Task;
use crate::testing::{self, World};
use insula_abi::Sysno;
use insula_abi::file::Pollfd;
use insula_abi::time::{Timespec, Timeval};

struct Setup {
    world: World,
    task: Arc<Task>,
    epoll: u64,
    read: u64,
    write: u64,
    memory: u64,
}

fn setup() -> Setup {
    let world = World::new();
    let task = world.process();
    let epoll = world.now(&task, Sysno::epoll_create1, &[0]).expect("an epoll");
    let (read, write) = Pipe::ends(1);
    let read = testing::install(&task, read, c::O_RDONLY);
    let write = testing::install(&task, write, c::O_WRONLY);
    let memory = testing::memory(&task, 4096);
    Setup { world, task, epoll, read, write, memory }
}

impl Setup {
    fn control(&self, epoll: u64, operation: u32, fd: u64, events: u32) -> Result<u64> {
        let event = EpollEvent { events, data: fd + 100 };
        self.task.mm().put(self.memory, &event).expect("memory");
        self.world.now(&self.task, Sysno::epoll_ctl, &[epoll, u64::from(operation), fd, self.memory])
    }

    fn add(&self, fd: u64, events: u32) -> Result<u64> {
        self.control(self.epoll, c::EPOLL_CTL_ADD, fd, events)
    }

    fn wait(&self, timeout: i32) -> testing::Call {
        self.world.call(&self.task, Sysno::epoll_wait, &[self.epoll, self.memory, 10, timeout as u64])
    }

    fn ready(&self) -> Vec<(u64, u32)> {
        let count = self.wait(0).result().expect("epoll_wait");
        let events: Vec<EpollEvent> = self.task.mm().get_all(self.memory, count as usize).expect("memory");
        events.iter().map(|event| (event.data - 100, event.events)).collect()
    }

    fn put(&self) {
        assert_eq!(self.world.now(&self.task, Sysno::write, &[self.write, self.memory, 1]), Ok(1));
    }

    fn take(&self) {
        assert_eq!(self.world.now(&self.task, Sysno::read, &[self.read, self.memory, 1]), Ok(1));
    }
}

#[test]
fn level_triggered_files_are_reported_as_long_as_they_are_ready() {
    let s = setup();
    assert_eq!(s.add(s.read, c::EPOLLIN), Ok(0));
    assert_eq!(s.add(s.read, c::EPOLLIN), Err(Errno::EEXIST));
    assert_eq!(s.ready(), []);
    s.put();
    assert_eq!(s.ready(), [(s.read, c::EPOLLIN)]);
    assert_eq!(s.ready(), [(s.read, c::EPOLLIN)]);
    s.take();
    assert_eq!(s.ready(), []);
}

#[test]
fn edges_are_reported_once_and_oneshots_until_they_are_changed() {
    let s = setup();
    s.put();
    assert_eq!(s.add(s.read, c::EPOLLIN | c::EPOLLET), Ok(0));
    assert_eq!(s.ready(), [(s.read, c::EPOLLIN)]);
    assert_eq!(s.ready(), []);
    s.put();
    assert_eq!(s.ready(), [(s.read, c::EPOLLIN)]);
    assert_eq!(s.control(s.epoll, c::EPOLL_CTL_MOD, s.read, c::EPOLLIN | c::EPOLLONESHOT), Ok(0));
    assert_eq!(s.ready(), [(s.read, c::EPOLLIN)]);
    s.put();
    assert_eq!(s.ready(), []);
    assert_eq!(s.control(s.epoll, c::EPOLL_CTL_MOD, s.read, c::EPOLLIN | c::EPOLLONESHOT), Ok(0));
    assert_eq!(s.ready(), [(s.read, c::EPOLLIN)]);
}

#[test]
fn a_waiter_is_woken_and_a_timeout_ends_a_wait() {
    let s = setup();
    assert_eq!(s.add(s.read, c::EPOLLIN), Ok(0));
    let other = s.world.thread(&s.task);
    let mut wait = s.wait(-1);
    assert!(wait.sleeps());
    let write = [s.write, s.memory, 1];
    assert_eq!(s.world.now(&other, Sysno::write, &write), Ok(1));
    assert_eq!(wait.woken(), Some(Ok(1)));
    s.take();
    let mut wait = s.wait(5);
    s.world.advance(5_000_000);
    assert_eq!(wait.poll(), Some(Ok(0)));
    let mut wait = s.wait(-1);
    s.task.interrupt();
    assert_eq!(wait.woken(), Some(Err(Errno::EINTR)));
}

#[test]
fn closed_files_are_forgotten_but_not_while_a_duplicate_is_left() {
    let s = setup();
    s.put();
    assert_eq!(s.add(s.read, c::EPOLLIN), Ok(0));
    let file = s.task.descriptors().take(s.read as i32).expect("open");
    assert_eq!(s.ready(), [(s.read, c::EPOLLIN)]);
    drop(file);
    assert_eq!(s.ready(), []);
    assert_eq!(s.world.kernel.epolls.watches.load(Ordering::Relaxed), 0);
}

#[test]
fn epolls_watch_epolls_but_not_in_a_circle() {
    let s = setup();
    let outer = s.world.now(&s.task, Sysno::epoll_create1, &[0]).expect("an epoll");
    assert_eq!(s.add(s.read, c::EPOLLIN), Ok(0));
    assert_eq!(s.control(outer, c::EPOLL_CTL_ADD, s.epoll, c::EPOLLIN), Ok(0));
    assert_eq!(s.add(s.epoll, c::EPOLLIN), Err(Errno::EINVAL));
    assert_eq!(s.add(outer, c::EPOLLIN), Err(Errno::ELOOP));
    let mut wait = s.world.call(&s.task, Sysno::epoll_wait, &[outer, s.memory, 10, u64::MAX]);
    let other = s.world.thread(&s.task);
    assert!(wait.sleeps());
    assert_eq!(s.world.now(&other, Sysno::write, &[s.write, s.memory, 1]), Ok(1));
    assert_eq!(wait.woken(), Some(Ok(1)));
    s.take();
    assert_eq!(s.world.now(&s.task, Sysno::epoll_wait, &[outer, s.memory, 10, 0]), Ok(0));
    // Too deep.
    let mut last = outer;
    for depth in 0..4 {
        let next = s.world.now(&s.task, Sysno::epoll_create1, &[0]).expect("an epoll");
        let expected = if depth < 3 { Ok(0) } else { Err(Errno::ELOOP) };
        assert_eq!(s.control(next, c::EPOLL_CTL_ADD, last, c::EPOLLIN), expected, "{depth}");
        last = next;
    }
}

#[test]
fn one_of_several_exclusive_watchers_is_told() {
    let s = setup();
    let second = s.world.now(&s.task, Sysno::epoll_create1, &[0]).expect("an epoll");
    for epoll in [s.epoll, second] {
        assert_eq!(s.control(epoll, c::EPOLL_CTL_ADD, s.read, c::EPOLLIN | c::EPOLLEXCLUSIVE), Ok(0));
    }
    assert_eq!(s.control(second, c::EPOLL_CTL_MOD, s.read, c::EPOLLIN), Err(Errno::EINVAL));
    let other = s.world.thread(&s.task);
    let first = s.wait(-1);
    let last = s.world.call(&other, Sysno::epoll_wait, &[second, s.memory, 1, u64::MAX]);
    let writer = s.world.thread(&s.task);
    assert_eq!(s.world.now(&writer, Sysno::write, &[s.write, s.memory, 1]), Ok(1));
    assert_eq!((first.sleeps(), last.sleeps()), (false, true));
    assert_eq!(s.world.now(&writer, Sysno::write, &[s.write, s.memory, 1]), Ok(1));
    assert!(!last.sleeps());
}

#[test]
fn poll_reports_what_is_asked_and_what_always_is() {
    let s = setup();
    let at = s.memory + 512;
    let entry = |fd: i32, events: u16| Pollfd { fd, events, revents: 0 };
    let entries = [entry(s.read as i32, 1), entry(s.write as i32, 4), entry(77, 1), entry(-1, 1)];
    for (index, entry) in entries.iter().enumerate() {
        s.task.mm().put(at + index as u64 * 8, entry).expect("memory");
    }
    let found =
        || -> Vec<u16> { (0..4).map(|index| s.task.mm().get::<Pollfd>(at + index * 8).expect("memory").revents).collect() };
    assert_eq!(s.world.now(&s.task, Sysno::poll, &[at, 4, u64::MAX]), Ok(2));
    assert_eq!(found(), [0, 4, 0x20, 0]);
    let mut wait = s.world.call(&s.task, Sysno::poll, &[at, 1, u64::MAX]);
    let other = s.world.thread(&s.task);
    assert!(wait.sleeps());
    assert_eq!(s.world.now(&other, Sysno::write, &[s.write, s.memory, 1]), Ok(1));
    assert_eq!(wait.woken(), Some(Ok(1)));
    assert_eq!(found()[0], 1);
    assert_eq!(s.world.now(&s.task, Sysno::poll, &[at, 1025, 0]), Err(Errno::EINVAL));
}

#[test]
fn select_counts_bits_and_says_what_time_is_left() {
    let s = setup();
    let (sets, time) = (s.memory + 512, s.memory + 1024);
    let mm = s.task.mm();
    let bits = |fds: &[u64]| fds.iter().fold(0u64, |all, fd| all | 1 << fd);
    mm.put(sets, &bits(&[s.read])).expect("memory");
    mm.put(sets + 64, &bits(&[s.write])).expect("memory");
    mm.put(time, &Timeval { sec: 2, usec: 0 }).expect("memory");
    assert_eq!(s.world.now(&s.task, Sysno::select, &[10, sets, sets + 64, 0, time]), Ok(1));
    assert_eq!((mm.get::<u64>(sets), mm.get::<u64>(sets + 64)), (Ok(0), Ok(bits(&[s.write]))));
    mm.put(sets, &bits(&[s.read])).expect("memory");
    mm.put(time, &Timespec { sec: 2, nsec: 0 }).expect("memory");
    let mut wait = s.world.call(&s.task, Sysno::pselect6, &[10, sets, 0, 0, time, 0]);
    s.world.advance(500_000_000);
    let other = s.world.thread(&s.task);
    assert_eq!(s.world.now(&other, Sysno::write, &[s.write, s.memory, 1]), Ok(1));
    assert_eq!(wait.woken(), Some(Ok(1)));
    assert_eq!(mm.get::<Timespec>(time), Ok(Timespec { sec: 1, nsec: 500_000_000 }));
    mm.put(sets, &bits(&[50])).expect("memory");
    assert_eq!(s.world.now(&s.task, Sysno::select, &[64, sets, 0, 0, 0]), Err(Errno::EBADF));
    assert_eq!(s.world.now(&s.task, Sysno::select, &[u64::MAX, sets, 0, 0, 0]), Err(Errno::EINVAL));
}

#[test]
fn counters_count_and_refuse_what_does_not_fit() {
    let s = setup();
    let fd = s.world.now(&s.task, Sysno::eventfd2, &[3, u64::from(c::EFD_NONBLOCK)]).expect("an eventfd");
    let at = s.memory + 64;
    let mm = s.task.mm();
    assert_eq!(s.world.now(&s.task, Sysno::read, &[fd, at, 8]), Ok(8));
    assert_eq!(mm.get::<u64>(at), Ok(3));
    assert_eq!(s.world.now(&s.task, Sysno::read, &[fd, at, 8]), Err(Errno::EAGAIN));
    assert_eq!(s.world.now(&s.task, Sysno::read, &[fd, at, 7]), Err(Errno::EINVAL));
    mm.put(at, &(u64::MAX - 1)).expect("memory");
    assert_eq!(s.world.now(&s.task, Sysno::write, &[fd, at, 8]), Ok(8));
    mm.put(at, &1u64).expect("memory");
    assert_eq!(s.world.now(&s.task, Sysno::write, &[fd, at, 8]), Err(Errno::EAGAIN));
    mm.put(at, &u64::MAX).expect("memory");
    assert_eq!(s.world.now(&s.task, Sysno::write, &[fd, at, 8]), Err(Errno::EINVAL));
}
