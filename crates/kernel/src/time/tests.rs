//! Time as programs see it.

use crate::Errno;
use crate::testing::{self, EPOCH, World};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use insula_abi::Sysno;
use insula_abi::general as c;
use insula_abi::signal::Sigevent;
use insula_abi::time::{Itimerspec, Itimerval, SECOND, Timespec, Timeval};

#[test]
fn clocks_tell_time_and_refuse_what_they_are_not() {
    let world = World::new();
    let task = world.process();
    let at = testing::memory(&task, 4096);
    let now = |id: i32| {
        world.now(&task, Sysno::clock_gettime, &[id as u64, at]).map(|_| task.mm().get::<Timespec>(at).expect("memory"))
    };
    assert_eq!(now(0), Ok(Timespec::from_nanos(EPOCH + SECOND)));
    assert_eq!(now(1), Ok(Timespec::from_nanos(SECOND)));
    assert_eq!(now(7), now(1));
    assert_eq!(now(10), Err(Errno::EINVAL));
    assert_eq!(now(99), Err(Errno::EINVAL));
    task.meter.user.store(30, Ordering::Relaxed);
    task.meter.system.store(12, Ordering::Relaxed);
    assert_eq!(now(3), Ok(Timespec::from_nanos(42)));
    // pthread_getcpuclockid(3) of itself.
    assert_eq!(now(!task_number(&task) << 3 | 6), Ok(Timespec::from_nanos(42)));
    assert_eq!(now(!4444 << 3 | 6), Err(Errno::EINVAL));
    assert_eq!(world.now(&task, Sysno::clock_settime, &[0, at]), Err(Errno::EPERM));
    assert_eq!(world.now(&task, Sysno::clock_settime, &[1, at]), Err(Errno::EINVAL));
}

fn task_number(task: &crate::task::Task) -> i32 {
    task.tid()
}

#[test]
fn sleeps_end_in_time_or_say_what_is_left() {
    let world = World::new();
    let task = world.process();
    let at = testing::bytes(&task, &[0; 64]);
    task.mm().put(at, &Timespec { sec: 3, nsec: 0 }).expect("memory");
    let mut sleep = world.call(&task, Sysno::nanosleep, &[at, at + 16]);
    assert_eq!(task.deadline(), 4 * SECOND);
    world.advance(SECOND);
    task.interrupt();
    assert_eq!(sleep.woken(), Some(Err(Errno::RESTARTBLOCK)));
    assert_eq!(task.mm().get::<Timespec>(at + 16), Ok(Timespec { sec: 2, nsec: 0 }));
    task.set_attention(false);
    let arguments = [0, u64::from(c::TIMER_ABSTIME), at + 32, 0];
    task.mm().put(at + 32, &Timespec::from_nanos(EPOCH + 5 * SECOND)).expect("memory");
    let mut sleep = world.call(&task, Sysno::clock_nanosleep, &arguments);
    assert_eq!(task.deadline(), 5 * SECOND);
    world.advance(3 * SECOND);
    assert_eq!(sleep.poll(), Some(Ok(0)));
    assert_eq!(world.now(&task, Sysno::clock_nanosleep, &[3, 0, at, 0]), Err(Errno::EOPNOTSUPP));
    assert_eq!(world.now(&task, Sysno::clock_nanosleep, &[5, 0, at, 0]), Err(Errno::EOPNOTSUPP));
}

#[test]
fn a_timerfd_counts_and_wakes_its_reader() {
    let world = World::new();
    let task = world.process();
    let at = testing::bytes(&task, &[0; 128]);
    let fd = world.now(&task, Sysno::timerfd_create, &[1, 0]).expect("a timer");
    let spec = Itimerspec { interval: Timespec::from_nanos(10), value: Timespec::from_nanos(100) };
    task.mm().put(at, &spec).expect("memory");
    assert_eq!(world.now(&task, Sysno::timerfd_settime, &[fd, 0, at, at + 32]), Ok(0));
    assert_eq!(world.clock.armed.load(Ordering::SeqCst), SECOND + 100);
    let mut read = world.call(&task, Sysno::read, &[fd, at + 64, 8]);
    assert!(read.sleeps());
    world.advance(99);
    assert!(read.sleeps());
    world.advance(1);
    assert_eq!(read.woken(), Some(Ok(8)));
    assert_eq!(task.mm().get::<u64>(at + 64), Ok(1));
    world.advance(35);
    assert_eq!(world.now(&task, Sysno::timerfd_gettime, &[fd, at + 32]), Ok(0));
    assert_eq!(task.mm().get::<Itimerspec>(at + 32).expect("memory").value, Timespec::from_nanos(5));
    assert_eq!(world.now(&task, Sysno::read, &[fd, at + 64, 8]), Ok(8));
    assert_eq!(task.mm().get::<u64>(at + 64), Ok(3));
    // A moment that has passed fires at once; all zeros end it.
    let spec = Itimerspec { value: Timespec::from_nanos(1), ..Itimerspec::default() };
    task.mm().put(at, &spec).expect("memory");
    assert_eq!(world.now(&task, Sysno::timerfd_settime, &[fd, 1, at, 0]), Ok(0));
    assert_eq!(world.now(&task, Sysno::read, &[fd, at + 64, 8]), Ok(8));
    assert_eq!(world.now(&task, Sysno::timerfd_settime, &[fd, 4, at, 0]), Err(Errno::EINVAL));
    assert_eq!(world.now(&task, Sysno::timerfd_create, &[2, 0]), Err(Errno::EINVAL));
}

/// What a task has pending, as its process's.
fn pending(task: &crate::task::Task) -> Vec<(i32, i32, u64)> {
    let mut state = task.process.lock();
    core::iter::from_fn(|| state.pending.take(crate::signal::SigSet(u64::MAX)))
        .map(|info| (info.signo, if info.code == -2 { info.uid() as i32 } else { -1 }, info.value()))
        .collect()
}

/// A process whose signals stay pending.
fn blocked(world: &World) -> alloc::sync::Arc<crate::task::Task> {
    let task = world.process();
    task.set_blocked(crate::signal::SigSet(u64::MAX));
    task
}

#[test]
fn a_timer_sends_its_signal_and_counts_what_it_could_not() {
    let world = World::new();
    let task = blocked(&world);
    let at = testing::bytes(&task, &[0; 256]);
    let event = Sigevent { value: 77, signo: 40, notify: 0, ..Sigevent::default() };
    task.mm().put(at, &event).expect("memory");
    assert_eq!(world.now(&task, Sysno::timer_create, &[1, at, at + 64]), Ok(0));
    let id = u64::from(task.mm().get::<u32>(at + 64).expect("memory"));
    let spec = Itimerspec { interval: Timespec::from_nanos(10), value: Timespec::from_nanos(100) };
    task.mm().put(at, &spec).expect("memory");
    assert_eq!(world.now(&task, Sysno::timer_settime, &[id, 0, at, at + 128]), Ok(0));
    world.advance(99);
    assert_eq!(pending(&task), []);
    world.advance(1);
    assert_eq!(pending(&task), [(40, 0, 77)]);
    world.advance(10);
    world.advance(25);
    assert_eq!(world.now(&task, Sysno::timer_getoverrun, &[id]), Ok(2));
    assert_eq!(pending(&task), [(40, 2, 77)]);
    assert_eq!(world.now(&task, Sysno::timer_gettime, &[id, at + 128]), Ok(0));
    assert_eq!(task.mm().get::<Itimerspec>(at + 128).expect("memory").value, Timespec::from_nanos(5));
    assert_eq!(world.now(&task, Sysno::timer_delete, &[id]), Ok(0));
    world.advance(1000);
    assert_eq!(pending(&task), []);
    assert_eq!(world.now(&task, Sysno::timer_delete, &[id]), Err(Errno::EINVAL));
    assert_eq!(world.now(&task, Sysno::timer_create, &[4, 0, at]), Err(Errno::EOPNOTSUPP));
}

#[test]
fn alarms_and_interval_timers_are_one() {
    let world = World::new();
    let task = blocked(&world);
    let at = testing::bytes(&task, &[0; 256]);
    assert_eq!(world.now(&task, Sysno::alarm, &[5]), Ok(0));
    world.advance(2 * SECOND);
    assert_eq!(world.now(&task, Sysno::getitimer, &[0, at]), Ok(0));
    assert_eq!(task.mm().get::<Itimerval>(at).expect("memory").value, Timeval { sec: 3, usec: 0 });
    assert_eq!(world.now(&task, Sysno::alarm, &[1]), Ok(3));
    world.advance(SECOND);
    assert_eq!(pending(&task), [(14, -1, 0)]);
    assert_eq!(world.now(&task, Sysno::alarm, &[0]), Ok(0));
    // By processor time: it is looked at again until it was used.
    task.mm().put(at, &Itimerval { value: Timeval { sec: 0, usec: 10_000 }, ..Itimerval::default() }).expect("memory");
    assert_eq!(world.now(&task, Sysno::setitimer, &[2, at, 0]), Ok(0));
    world.advance(50_000_000);
    assert_eq!(pending(&task), []);
    task.meter.user.store(6_000_000, Ordering::Relaxed);
    task.meter.system.store(5_000_000, Ordering::Relaxed);
    world.advance(50_000_000);
    assert_eq!(pending(&task), [(27, -1, 0)]);
    assert_eq!(world.now(&task, Sysno::setitimer, &[3, at, 0]), Err(Errno::EINVAL));
}

#[test]
fn signals_can_be_read() {
    let world = World::new();
    let task = blocked(&world);
    let at = testing::bytes(&task, &[0; 512]);
    task.mm().put(at, &(1u64 << 13 | 1 << 9)).expect("memory");
    let fd = world.now(&task, Sysno::signalfd4, &[u64::MAX, at, 8, 0]).expect("a signalfd");
    let mut read = world.call(&task, Sysno::read, &[fd, at + 8, 300]);
    assert!(read.sleeps());
    assert_eq!(world.now(&task, Sysno::alarm, &[1]), Ok(0));
    world.advance(SECOND);
    assert_eq!(read.woken(), Some(Ok(128)));
    assert_eq!(task.mm().get::<u32>(at + 8), Ok(14));
    assert_eq!(world.now(&task, Sysno::read, &[fd, at + 8, 100]), Err(Errno::EINVAL));
    assert_eq!(world.now(&task, Sysno::signalfd4, &[u64::MAX, at, 4, 0]), Err(Errno::EINVAL));
}
