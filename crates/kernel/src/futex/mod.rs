//! Futexes, futex(2): tasks that wait at a word of memory until another task, which has changed it, wakes them.
//!
//! A [`Waiter`] is one task's wait at one word. It stands in a queue under the word's [`Key`], in the order of arrival, and is woken by
//! itself: nobody looks at the word again in vain. What a waiter expects of the word is looked at under the lock of its bucket, which
//! a waker takes after it has changed the word: one of the two sees the other, so no wake-up is lost.
//!
//! | module | holds |
//! |---|---|
//! | [`table`] | the queues: waking, moving, giving up |
//! | [`pi`] | locks whose owner the kernel knows (`FUTEX_LOCK_PI`) |
//! | [`robust`] | what becomes of locks whose owner ends |
//!
//! A bucket's lock is taken before an address space's: the word is read with it held.

pub mod pi;
pub mod robust;
pub mod table;

pub use table::{Futexes, Waiter};

use crate::mm::Mm;
use crate::task::Task;
use crate::{Errno, Result};
use alloc::sync::Arc;

/// What all waiters at one word have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// Of one address space, and said to be so (`FUTEX_PRIVATE_FLAG`).
    Private(usize, u64),
    /// Of one address space, as it turned out.
    Own(usize, u64),
    /// Of memory that several may map.
    Shared(u64, u64),
}

/// One past the highest address a program may name.
const HIGH: u64 = 1 << 47;

impl Key {
    /// The key of the word at `address`.
    ///
    /// # Errors
    /// `EINVAL`: not a multiple of four. `EFAULT`.
    pub fn of(mm: &Arc<Mm>, address: u64, private: bool) -> Result<Key> {
        if !address.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        if address >= HIGH {
            return Err(Errno::EFAULT);
        }
        let space = Arc::as_ptr(mm) as usize;
        if private {
            return Ok(Key::Private(space, address));
        }
        Ok(match mm.identity(address)? {
            Some((object, offset)) => Key::Shared(object, offset),
            None => Key::Own(space, address),
        })
    }
}

/// A word, and who names it.
#[derive(Clone)]
pub struct Word {
    /// Whose memory it is in.
    pub mm: Arc<Mm>,
    /// Where.
    pub address: u64,
    /// Its key.
    pub key: Key,
}

impl Word {
    /// The word at `address` in a task's memory.
    ///
    /// # Errors
    /// As [`Key::of`].
    pub fn of(task: &Arc<Task>, address: u64, private: bool) -> Result<Word> {
        let mm = task.mm();
        let key = Key::of(&mm, address, private)?;
        Ok(Word { mm, address, key })
    }

    /// What it is now.
    fn load(&self) -> Result<u32> {
        self.mm.load(self.address)
    }

    /// Makes it what `change` makes of it, in one piece; answers what it was. `change` says `None` to leave it.
    fn update(&self, mut change: impl FnMut(u32) -> Result<Option<u32>>) -> Result<u32> {
        let mut word = self.load()?;
        loop {
            let Some(new) = change(word)? else { return Ok(word) };
            let found = self.mm.compare_exchange(self.address, word, new)?;
            if found == word {
                return Ok(word);
            }
            word = found;
        }
    }
}

#[cfg(test)]
mod tests;
