//! Locks whose owner the kernel knows (`FUTEX_LOCK_PI`): the word holds the owner's number, and who unlocks hands it to the next.
//!
//! Priorities aren't inherited: all tasks of a sandbox are scheduled alike by the host. What programs rely on beside that is here: locks
//! are handed over in the order of arrival, deadlocks of one task with itself are found, and a lock whose owner ends goes to the next.

use super::Word;
use super::table::{Bucket, Futexes, Role, Waiter, Woken, first_of};
use crate::task::Task;
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use insula_abi::general as c;

impl Futexes {
    /// Takes the lock at `word` for `task`, or lets it wait for it: then the waiter is answered. Whoever it is woken by has made it the owner.
    ///
    /// # Errors
    /// `EDEADLK`: it has the lock. `ESRCH`: the owner isn't there. `EAGAIN`: the lock is taken, and it should only `attempt`. `EINVAL`: others
    /// wait there, but not for a lock. `EFAULT`.
    pub fn lock_owned(&self, task: &Arc<Task>, word: &Word, attempt: bool) -> Result<Option<Arc<Waiter>>> {
        let mut bucket = self.bucket(word.key);
        if first_of(&bucket, word.key).is_some_and(|first| !first.waits_for_lock()) {
            return Err(Errno::EINVAL);
        }
        if self.acquire(&bucket, word, task)? {
            return Ok(None);
        }
        if attempt {
            return Err(Errno::EAGAIN);
        }
        let waiter = Waiter::owner(task, word);
        self.insert(&mut bucket, word.key, &waiter);
        Ok(Some(waiter))
    }

    /// Makes `task` the owner, or marks the word as waited for; answers whether it is the owner.
    fn acquire(&self, bucket: &Bucket, word: &Word, task: &Arc<Task>) -> Result<bool> {
        let tid = task.name_of(task.tid()) as u32;
        let waited = if first_of(bucket, word.key).is_some() { c::FUTEX_WAITERS } else { 0 };
        let before = word.update(|now| match now & c::FUTEX_TID_MASK {
            0 => Ok(Some(now & c::FUTEX_OWNER_DIED | tid | waited)),
            owner if owner == tid => Err(Errno::EDEADLK),
            owner if task.kernel().pids.task(task.number_of(owner as i32)).is_none() => Err(Errno::ESRCH),
            _ => Ok(Some(now | c::FUTEX_WAITERS)),
        })?;
        Ok(before & c::FUTEX_TID_MASK == 0)
    }

    /// Gives the lock at `word` to the first that waits for it, or to nobody.
    ///
    /// # Errors
    /// `EPERM`: it isn't `task`'s. `EINVAL`: others wait there, but not for a lock. `EFAULT`.
    pub fn unlock_owned(&self, task: &Arc<Task>, word: &Word) -> Result<()> {
        if word.load()? & c::FUTEX_TID_MASK != task.name_of(task.tid()) as u32 {
            return Err(Errno::EPERM);
        }
        let mut woken = Woken::default();
        self.hand_over(&mut self.bucket(word.key), word, 0, &mut woken)?;
        woken.tell();
        Ok(())
    }

    fn hand_over(&self, bucket: &mut Bucket, word: &Word, more: u32, woken: &mut Woken) -> Result<()> {
        let next = bucket.range((word.key, 0)..=(word.key, u64::MAX)).next().map(|(at, waiter)| (*at, waiter.clone()));
        let Some((at, waiter)) = next else { return word.update(|_| Ok(Some(more))).map(|_| ()) };
        if !waiter.waits_for_lock() {
            return Err(Errno::EINVAL);
        }
        word.update(|_| Ok(Some(waiter.task.name_of(waiter.task.tid()) as u32 | c::FUTEX_WAITERS | more)))?;
        self.remove(bucket, at);
        woken.add(waiter);
        Ok(())
    }

    /// Lets the first waiter at `from` own the lock at `to`, if it is free, and up to `most` others (or all) wait for it; answers how many that
    /// were together (`FUTEX_CMP_REQUEUE_PI`).
    ///
    /// # Errors
    /// `EAGAIN`: `expected` isn't at `from`. `EINVAL`: waiters there don't wait to be moved to `to`. `EFAULT`, `EDEADLK`, `ESRCH`.
    pub fn requeue_owned(&self, from: &Word, to: &Word, most: u32, expected: u32) -> Result<usize> {
        let mut woken = Woken::default();
        let mut pair = self.pair(from.key, to.key);
        if from.load()? != expected {
            return Err(Errno::EAGAIN);
        }
        let all: Vec<_> = pair.first().range((from.key, 0)..=(from.key, u64::MAX)).map(|(at, _)| *at).collect();
        let mut moved = 0;
        let mut outcome = Ok(());
        for at in all.into_iter().take((most as usize).saturating_add(1)) {
            let Some(waiter) = pair.first().get(&at).cloned() else { continue };
            let target = match waiter.role() {
                Role::Moves(target) if target.key == to.key => target,
                _ => {
                    outcome = Err(Errno::EINVAL);
                    break;
                }
            };
            match self.acquire(pair.second(), &target, &waiter.task) {
                Ok(true) => {
                    self.remove(pair.first(), at);
                    woken.add(waiter);
                }
                Ok(false) => {
                    self.move_to(&mut pair, at, to.key, Some(target));
                    moved += 1;
                }
                Err(errno) => {
                    outcome = Err(errno);
                    break;
                }
            }
        }
        // Others wait for the lock that the first got at once: it mustn't unlock it without us.
        if moved > 0 && woken.count() > 0 {
            to.update(|now| Ok(Some(now | c::FUTEX_WAITERS)))?;
        }
        drop(pair);
        let count = woken.tell() + moved;
        outcome.map(|()| count)
    }

    /// A task ends: locks it has, for which others wait, go to the first of those, marked with `FUTEX_OWNER_DIED`.
    pub(super) fn owner_ends(&self, task: &Arc<Task>) {
        if self.owned.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut woken = Woken::default();
        for mut bucket in self.each_bucket() {
            let waited: Vec<Word> = bucket
                .values()
                .filter_map(|waiter| if let Role::Owner(word) = waiter.role() { Some(word) } else { None })
                .collect();
            for word in waited {
                if word.load().is_ok_and(|now| now & c::FUTEX_TID_MASK == task.name_of(task.tid()) as u32) {
                    // Memory that is gone has no lock to hand over.
                    let _ = self.hand_over(&mut bucket, &word, c::FUTEX_OWNER_DIED, &mut woken);
                }
            }
        }
        woken.tell();
    }
}
