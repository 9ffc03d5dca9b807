//! Futexes as programs use them.

use crate::task::Task;
use crate::testing::{self, EPOCH, World};
use crate::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use insula_abi::Sysno;
use insula_abi::general as c;
use insula_abi::process::RobustListHead;
use insula_abi::time::Timespec;

const PRIVATE: u32 = c::FUTEX_PRIVATE_FLAG;

/// Two threads, and memory of both.
fn two() -> (World, Arc<Task>, Arc<Task>, u64) {
    let world = World::new();
    let first = world.process();
    let second = world.thread(&first);
    let at = testing::memory(&first, 4096);
    (world, first, second, at)
}

fn futex(world: &World, task: &Arc<Task>, at: u64, operation: u32, rest: &[u64]) -> testing::Call {
    let mut arguments = alloc::vec![at, u64::from(operation)];
    arguments.extend_from_slice(rest);
    world.call(task, Sysno::futex, &arguments)
}

fn wake(world: &World, task: &Arc<Task>, at: u64, count: u64) -> Result<u64> {
    futex(world, task, at, c::FUTEX_WAKE | PRIVATE, &[count]).result()
}

#[test]
fn a_waiter_is_woken_once_and_in_order() {
    let (world, first, second, at) = two();
    let third = world.thread(&first);
    let mut a = futex(&world, &first, at, c::FUTEX_WAIT | PRIVATE, &[0]);
    let mut b = futex(&world, &second, at, c::FUTEX_WAIT | PRIVATE, &[0]);
    assert!(a.sleeps() && b.sleeps());
    assert_eq!(wake(&world, &third, at, 1), Ok(1));
    assert_eq!(a.woken(), Some(Ok(0)));
    assert_eq!(b.woken(), None, "nobody else was bothered");
    assert_eq!(wake(&world, &third, at, 5), Ok(1));
    assert_eq!(b.woken(), Some(Ok(0)));
    assert_eq!(wake(&world, &third, at, 5), Ok(0));
}

#[test]
fn a_wait_for_something_else_fails_at_once() {
    let (world, first, _, at) = two();
    assert_eq!(futex(&world, &first, at, c::FUTEX_WAIT, &[1]).result(), Err(Errno::EAGAIN));
    assert_eq!(futex(&world, &first, at + 2, c::FUTEX_WAIT, &[0]).result(), Err(Errno::EINVAL));
    assert_eq!(futex(&world, &first, 64, c::FUTEX_WAIT, &[0]).result(), Err(Errno::EFAULT));
    assert_eq!(futex(&world, &first, at, c::FUTEX_WAIT_BITSET, &[0, 0, 0, 0]).result(), Err(Errno::EINVAL));
    assert_eq!(futex(&world, &first, at, c::FUTEX_WAIT | c::FUTEX_CLOCK_REALTIME, &[0]).result(), Err(Errno::ENOSYS));
    assert_eq!(futex(&world, &first, at, 99, &[0]).result(), Err(Errno::ENOSYS));
}

#[test]
fn private_and_shared_waits_do_not_meet_but_words_of_two_spaces_do() {
    let (world, first, second, at) = two();
    let mut private = futex(&world, &first, at, c::FUTEX_WAIT | PRIVATE, &[0]);
    assert_eq!(futex(&world, &second, at, c::FUTEX_WAKE, &[1]).result(), Ok(0));
    assert_eq!(wake(&world, &second, at, 1), Ok(1));
    assert_eq!(private.woken(), Some(Ok(0)));

    let flags = u64::from(c::MAP_SHARED | c::MAP_ANONYMOUS);
    let shared = world.now(&first, Sysno::mmap, &[0, 4096, 3, flags, u64::MAX, 0]).expect("memory");
    let child = world.process();
    child.set_mm(first.mm().fork().expect("a copy"));
    let mut waits = futex(&world, &child, shared, c::FUTEX_WAIT, &[0]);
    assert_eq!(futex(&world, &first, shared, c::FUTEX_WAKE, &[1]).result(), Ok(1));
    assert_eq!(waits.woken(), Some(Ok(0)));
    // The same address in memory of one's own is another word.
    let waits = futex(&world, &child, at, c::FUTEX_WAIT, &[0]);
    assert_eq!(futex(&world, &first, at, c::FUTEX_WAKE, &[1]).result(), Ok(0));
    assert!(waits.sleeps());
}

#[test]
fn deadlines_are_relative_for_wait_and_absolute_for_sets() {
    let (world, first, _, at) = two();
    let mm = first.mm();
    mm.put(at + 64, &Timespec { sec: 2, nsec: 0 }).expect("memory");
    mm.put(at + 80, &Timespec::from_nanos(EPOCH + 9_000_000_000)).expect("memory");
    let mut relative = futex(&world, &first, at, c::FUTEX_WAIT, &[0, at + 64]);
    assert_eq!(first.deadline(), 3_000_000_000);
    assert_eq!(relative.poll(), None);
    world.advance(2_000_000_000);
    assert_eq!(relative.poll(), Some(Err(Errno::ETIMEDOUT)));
    let any = u64::from(u32::MAX);
    let passed = futex(&world, &first, at, c::FUTEX_WAIT_BITSET, &[0, at + 64, 0, any]);
    assert_eq!(passed.result(), Err(Errno::ETIMEDOUT));
    let real = futex(&world, &first, at, c::FUTEX_WAIT_BITSET | c::FUTEX_CLOCK_REALTIME, &[0, at + 80, 0, any]);
    assert!(real.sleeps());
    assert_eq!(first.deadline(), 9_000_000_000);
    drop(real);
    mm.put(at + 64, &Timespec { sec: 0, nsec: 1_000_000_000 }).expect("memory");
    assert_eq!(futex(&world, &first, at, c::FUTEX_WAIT, &[0, at + 64]).result(), Err(Errno::EINVAL));
}

#[test]
fn signals_end_waits_and_say_how_to_go_on() {
    let (world, first, second, at) = two();
    let mut forever = futex(&world, &first, at, c::FUTEX_WAIT, &[0]);
    first.interrupt();
    assert_eq!(forever.woken(), Some(Err(Errno::RESTARTSYS)));
    first.set_attention(false);
    first.mm().put(at + 64, &Timespec { sec: 2, nsec: 0 }).expect("memory");
    let mut limited = futex(&world, &first, at, c::FUTEX_WAIT, &[0, at + 64]);
    first.interrupt();
    assert_eq!(limited.woken(), Some(Err(Errno::RESTARTBLOCK)));
    assert!(first.restart.lock().take().is_some());
    first.set_attention(false);
    // A wake-up that came before the signal was looked at counts.
    let mut both = futex(&world, &first, at, c::FUTEX_WAIT, &[0]);
    assert_eq!(futex(&world, &second, at, c::FUTEX_WAKE, &[1]).result(), Ok(1));
    first.interrupt();
    assert_eq!(both.woken(), Some(Ok(0)));
}

#[test]
fn a_wait_that_is_dropped_leaves_no_waiter() {
    let (world, first, second, at) = two();
    drop(futex(&world, &first, at, c::FUTEX_WAIT | PRIVATE, &[0]));
    assert_eq!(wake(&world, &second, at, 1), Ok(0));
}

#[test]
fn sets_choose_whom_to_wake() {
    let (world, first, second, at) = two();
    let third = world.thread(&first);
    let mut odd = futex(&world, &first, at, c::FUTEX_WAIT_BITSET, &[0, 0, 0, 0b01]);
    let mut even = futex(&world, &second, at, c::FUTEX_WAIT_BITSET, &[0, 0, 0, 0b10]);
    assert_eq!(futex(&world, &third, at, c::FUTEX_WAKE_BITSET, &[9, 0, 0, 0b10]).result(), Ok(1));
    assert_eq!((odd.woken(), even.woken()), (None, Some(Ok(0))));
    assert_eq!(futex(&world, &third, at, c::FUTEX_WAKE, &[9]).result(), Ok(1));
    assert_eq!(odd.woken(), Some(Ok(0)));
}

#[test]
fn waiters_are_moved_and_woken_where_they_went() {
    let (world, first, second, at) = two();
    let third = world.thread(&first);
    let to = at + 128;
    let mut a = futex(&world, &first, at, c::FUTEX_WAIT, &[0]);
    let mut b = futex(&world, &second, at, c::FUTEX_WAIT, &[0]);
    assert_eq!(futex(&world, &third, at, c::FUTEX_CMP_REQUEUE, &[1, 1, to, 7]).result(), Err(Errno::EAGAIN));
    assert_eq!(futex(&world, &third, at, c::FUTEX_CMP_REQUEUE, &[1, 1, to, 0]).result(), Ok(2));
    assert_eq!((a.woken(), b.woken()), (Some(Ok(0)), None));
    assert_eq!(futex(&world, &third, at, c::FUTEX_WAKE, &[1]).result(), Ok(0));
    assert_eq!(futex(&world, &third, to, c::FUTEX_WAKE, &[1]).result(), Ok(1));
    assert_eq!(b.woken(), Some(Ok(0)));
    assert_eq!(futex(&world, &third, at, c::FUTEX_REQUEUE, &[u64::MAX, 1, to]).result(), Err(Errno::EINVAL));
}

#[test]
fn wake_op_changes_a_word_and_wakes_by_what_was_there() {
    let (world, first, second, at) = two();
    let third = world.thread(&first);
    let other = at + 128;
    let mut a = futex(&world, &first, at, c::FUTEX_WAIT, &[0]);
    let mut b = futex(&world, &second, other, c::FUTEX_WAIT, &[0]);
    // *other |= 1 << 3; wake there if it was less than 1.
    let operation = u64::from((c::FUTEX_OP_OR | c::FUTEX_OP_OPARG_SHIFT) << 28 | c::FUTEX_OP_CMP_LT << 24 | 3 << 12 | 1);
    assert_eq!(futex(&world, &third, at, c::FUTEX_WAKE_OP, &[1, 1, other, operation]).result(), Ok(2));
    assert_eq!(first.mm().get::<u32>(other), Ok(8));
    assert_eq!((a.woken(), b.woken()), (Some(Ok(0)), Some(Ok(0))));
}

#[test]
fn locks_are_handed_over_and_outlive_their_owner() {
    let (world, first, second, at) = two();
    let third = world.thread(&first);
    let mm = first.mm();
    assert_eq!(futex(&world, &first, at, c::FUTEX_LOCK_PI, &[]).result(), Ok(0));
    assert_eq!(mm.get::<u32>(at), Ok(first.tid() as u32));
    assert_eq!(futex(&world, &first, at, c::FUTEX_LOCK_PI, &[]).result(), Err(Errno::EDEADLK));
    assert_eq!(futex(&world, &second, at, c::FUTEX_TRYLOCK_PI, &[]).result(), Err(Errno::EAGAIN));
    assert_eq!(futex(&world, &second, at, c::FUTEX_UNLOCK_PI, &[]).result(), Err(Errno::EPERM));
    let mut b = futex(&world, &second, at, c::FUTEX_LOCK_PI2, &[]);
    let mut d = futex(&world, &third, at, c::FUTEX_LOCK_PI, &[]);
    assert_eq!(mm.get::<u32>(at), Ok(first.tid() as u32 | c::FUTEX_WAITERS));
    assert_eq!(futex(&world, &first, at, c::FUTEX_WAKE, &[1]).result(), Err(Errno::EINVAL));
    assert_eq!(futex(&world, &first, at, c::FUTEX_UNLOCK_PI, &[]).result(), Ok(0));
    assert_eq!((b.woken(), d.woken()), (Some(Ok(0)), None));
    assert_eq!(mm.get::<u32>(at), Ok(second.tid() as u32 | c::FUTEX_WAITERS));
    super::robust::leave(&second);
    assert_eq!(d.woken(), Some(Ok(0)));
    assert_eq!(mm.get::<u32>(at), Ok(third.tid() as u32 | c::FUTEX_WAITERS | c::FUTEX_OWNER_DIED));
    assert_eq!(futex(&world, &third, at, c::FUTEX_UNLOCK_PI, &[]).result(), Ok(0));
    assert_eq!(mm.get::<u32>(at), Ok(0));
    assert_eq!(world.kernel.futexes.owned.load(Ordering::SeqCst), 0);
    mm.put(at, &12345u32).expect("memory");
    assert_eq!(futex(&world, &first, at, c::FUTEX_LOCK_PI, &[]).result(), Err(Errno::ESRCH));
}

#[test]
fn waiters_for_a_condition_get_the_lock_one_after_the_other() {
    let (world, first, second, at) = two();
    let third = world.thread(&first);
    let (lock, any) = (at + 128, u64::from(u32::MAX));
    let mut a = futex(&world, &first, at, c::FUTEX_WAIT_REQUEUE_PI, &[0, 0, lock, any]);
    let mut b = futex(&world, &second, at, c::FUTEX_WAIT_REQUEUE_PI, &[0, 0, lock, any]);
    assert_eq!(futex(&world, &third, at, c::FUTEX_CMP_REQUEUE_PI, &[1, 9, lock, 0]).result(), Ok(2));
    assert_eq!((a.woken(), b.woken()), (Some(Ok(0)), None));
    assert_eq!(first.mm().get::<u32>(lock), Ok(first.tid() as u32 | c::FUTEX_WAITERS));
    assert_eq!(futex(&world, &first, lock, c::FUTEX_UNLOCK_PI, &[]).result(), Ok(0));
    assert_eq!(b.woken(), Some(Ok(0)));
    assert_eq!(first.mm().get::<u32>(lock), Ok(second.tid() as u32 | c::FUTEX_WAITERS));
}

#[test]
fn one_of_many_words_wakes_a_waiter_that_waits_at_all() {
    let (world, first, second, at) = two();
    let flags = u64::from(c::FUTEX_32 | PRIVATE);
    let entries = [[0, at, flags], [0, at + 4, flags], [0, at + 8, flags]].concat();
    let raw: alloc::vec::Vec<u8> = entries.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let vector = testing::bytes(&first, &raw);
    let mut waits = world.call(&first, Sysno::futex_waitv, &[vector, 3, 0, 0, 0]);
    assert!(waits.sleeps());
    assert_eq!(wake(&world, &second, at + 4, 1), Ok(1));
    assert_eq!(waits.woken(), Some(Ok(1)));
    assert_eq!(wake(&world, &second, at, 1), Ok(0), "it waits nowhere else any more");
    first.mm().put(at + 8, &1u32).expect("memory");
    assert_eq!(world.now(&first, Sysno::futex_waitv, &[vector, 3, 0, 0, 0]), Err(Errno::EAGAIN));
    assert_eq!(world.now(&first, Sysno::futex_waitv, &[vector, 129, 0, 0, 0]), Err(Errno::EINVAL));
}

#[test]
fn a_task_that_ends_marks_its_locks_and_clears_its_number() {
    let (world, first, second, at) = two();
    let mm = first.mm();
    let (head, entry, lock) = (at, at + 256, at + 256 + 16);
    mm.put(head, &RobustListHead { next: entry, offset: 16, pending: 0 }).expect("memory");
    mm.put(entry, &head).expect("memory");
    let held = first.tid() as u32 | c::FUTEX_WAITERS;
    mm.put(lock, &held).expect("memory");
    let size = size_of::<RobustListHead>() as u64;
    assert_eq!(world.now(&first, Sysno::set_robust_list, &[head, size - 1]), Err(Errno::EINVAL));
    assert_eq!(world.now(&first, Sysno::set_robust_list, &[head, size]), Ok(0));
    first.clear_child_tid.store(at + 1024, Ordering::Relaxed);
    mm.put(at + 1024, &first.tid()).expect("memory");
    let mut waits = futex(&world, &second, lock, c::FUTEX_WAIT, &[u64::from(held)]);
    let third = world.thread(&first);
    let mut joins = futex(&world, &third, at + 1024, c::FUTEX_WAIT, &[first.tid() as u64]);
    super::robust::leave(&first);
    assert_eq!((waits.woken(), joins.woken()), (Some(Ok(0)), Some(Ok(0))));
    assert_eq!(mm.get::<u32>(lock), Ok(c::FUTEX_OWNER_DIED | c::FUTEX_WAITERS));
    assert_eq!(mm.get::<u32>(at + 1024), Ok(0));
}

#[test]
fn an_endless_list_ends() {
    let (_, first, _, at) = two();
    let mm = first.mm();
    mm.put(at, &RobustListHead { next: at + 64, offset: 8, pending: u64::MAX }).expect("memory");
    mm.put(at + 64, &(at + 64)).expect("memory");
    first.robust_list.store(at, Ordering::Relaxed);
    super::robust::leave(&first);
}
