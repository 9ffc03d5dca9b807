//! What becomes of locks whose owner ends, get_robust_list(2), and of who waits for the end itself, set_tid_address(2).

use super::{Key, Word};
use crate::mm::Mm;
use crate::task::Task;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use insula_abi::general as c;
use insula_abi::process::RobustListHead;

/// Entries of a list that are looked at: a program may have made it endless (Linux: `ROBUST_LIST_LIMIT`).
const MOST: usize = 2048;

/// A task leaves its memory, because it ends or by execve(2): its robust locks are marked and passed on, and who waits for its number to
/// become zero (pthread_join(3)) is woken. What is wrong in a program's lists is passed over.
pub fn leave(task: &Arc<Task>) {
    let head = task.robust_list.swap(0, Ordering::Relaxed);
    if head != 0 {
        walk(task, head);
    }
    task.kernel().futexes.owner_ends(task);
    let address = task.clear_child_tid.swap(0, Ordering::Relaxed);
    if address != 0 {
        let mm = task.mm();
        if mm.is_shared() && mm.put(address, &0u32).is_ok() {
            wake_one(task, &mm, address);
        }
    }
}

/// An entry as it stands in a list: its lowest bit says that the lock is one whose owner the kernel knows.
fn entry(link: u64) -> (u64, bool) {
    (link & !1, link & 1 != 0)
}

fn walk(task: &Arc<Task>, address: u64) {
    let mm = task.mm();
    let Ok(head) = mm.get::<RobustListHead>(address) else { return };
    let (pending, pending_owned) = entry(head.pending);
    let (mut at, mut owned) = entry(head.next);
    for _ in 0..MOST {
        if at == address {
            break;
        }
        // The entry may be gone once its lock is passed on.
        let next = mm.get::<u64>(at);
        if at != pending {
            pass_on(task, &mm, at.wrapping_add_signed(head.offset), owned, false);
        }
        match next {
            Ok(next) => (at, owned) = entry(next),
            Err(_) => break,
        }
    }
    if pending != 0 {
        pass_on(task, &mm, pending.wrapping_add_signed(head.offset), pending_owned, true);
    }
}

/// Marks a lock of this task's as left by it, and wakes one that waits for it.
fn pass_on(task: &Arc<Task>, mm: &Arc<Mm>, address: u64, owned: bool, pending: bool) {
    let Ok(key) = Key::of(mm, address, false) else { return };
    let word = Word { mm: mm.clone(), address, key };
    let before = word.update(|now| {
        let ours = now & c::FUTEX_TID_MASK == task.name_of(task.tid()) as u32;
        Ok(ours.then_some(now & c::FUTEX_WAITERS | c::FUTEX_OWNER_DIED))
    });
    let Ok(before) = before else { return };
    // It ended between giving the lock back and waking the next.
    let gave_back = pending && !owned && before == 0;
    let waited_for = before & c::FUTEX_TID_MASK == task.name_of(task.tid()) as u32 && before & c::FUTEX_WAITERS != 0 && !owned;
    if gave_back || waited_for {
        wake_one(task, mm, address);
    }
}

fn wake_one(task: &Arc<Task>, mm: &Arc<Mm>, address: u64) {
    if let Ok(key) = Key::of(mm, address, false) {
        // Waiters that want more than a wake-up aren't ours to wake.
        let _ = task.kernel().futexes.wake(key, 1, u32::MAX);
    }
}
