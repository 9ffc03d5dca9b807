//! Where a program leaves a call for somebody who looks, and finds the answer.
//!
//! The program's side is in [`super::traps`]; ours has two parties, who never work for one task at the same time. The *owner* is the task's
//! thread: it has the task from each stop to the next resumption. In between, a *server*, another thread on another CPU, may claim the
//! task for the time of one call.
//!
//! The page is the program's, who may write what it likes there whenever it likes: each word is read once, a call found here is as good as one
//! from a stop, and who has the task isn't in the page.
#![allow(unsafe_code)]

use super::Call;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::thread::Thread;

/// Bytes of a mailbox. The program alone uses the second half.
pub(super) const SIZE: u64 = 128;

/// Offsets in it.
pub(super) const STATE: usize = 0;
pub(super) const WATCHED: usize = 4;
/// The answer, later.
pub(super) const NUMBER: usize = 8;
pub(super) const ARGS: usize = 16;
pub(super) const FLAGS: usize = 64;
pub(super) const DATA: usize = 72;

/// Its states. There is nothing to do;
pub(super) const IDLE: u32 = 0;
/// a call is to be made;
pub(super) const ASKED: u32 = 1;
/// somebody makes it;
pub(super) const CLAIMED: u32 = 2;
/// it was made;
pub(super) const ANSWERED: u32 = 3;
/// the program is to make it as ever.
pub(super) const REFUSED: u32 = 4;

/// Who has the task: its owner; nobody, as the program runs; a server; a server, and the owner waits for it.
const OWNED: u8 = 0;
const RUNNING: u8 = 1;
const SERVED: u8 = 2;
const AWAITED: u8 = 3;

/// How often an owner looks before it sleeps: most calls are short.
const LOOKS: usize = 2000;

/// Of one task.
#[derive(Debug)]
pub struct Mailbox {
    /// Sees to it that the words stay where they are.
    _page: std::sync::Arc<dyn std::fmt::Debug + Send + Sync>,
    words: *mut u8,
    holder: AtomicU8,
    owner: Thread,
}

// SAFETY: the words are only used as atomics, and stay there as long as the value.
unsafe impl Send for Mailbox {}
// SAFETY: as above.
unsafe impl Sync for Mailbox {}

impl Mailbox {
    /// For the calling thread's task, which is stopped.
    ///
    /// # Safety
    /// `words` are [`SIZE`] bytes that are mapped as long as `page` lives, aligned to 8.
    pub(super) unsafe fn new(page: std::sync::Arc<dyn std::fmt::Debug + Send + Sync>, words: *mut u8) -> Mailbox {
        let mailbox = Mailbox { _page: page, words, holder: AtomicU8::new(OWNED), owner: std::thread::current() };
        mailbox.word(WATCHED).store(0, Ordering::Relaxed);
        mailbox.word(STATE).store(IDLE, Ordering::Relaxed);
        mailbox
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        debug_assert!(at < SIZE as usize);
        // SAFETY: by the promise to `new`; offsets are constants of this file.
        unsafe { AtomicU32::from_ptr(self.words.add(at).cast()) }
    }

    fn long(&self, at: usize) -> &AtomicU64 {
        debug_assert!(at < SIZE as usize);
        // SAFETY: as above.
        unsafe { AtomicU64::from_ptr(self.words.add(at).cast()) }
    }

    /// Tells the program whether somebody looks.
    pub fn set_watched(&self, watched: bool) {
        self.word(WATCHED).store(u32::from(watched), Ordering::SeqCst);
    }

    /// The owner is about to let the program run.
    pub(super) fn open(&self) {
        self.holder.store(RUNNING, Ordering::Release);
    }

    /// The program has stopped: the owner has the task again.
    pub(super) fn close(&self) {
        for look in 0.. {
            let (from, to) = if look < LOOKS { (RUNNING, OWNED) } else { (SERVED, AWAITED) };
            match self.holder.compare_exchange(from, to, Ordering::Acquire, Ordering::Acquire) {
                Ok(RUNNING) | Err(OWNED) => return,
                Ok(_) | Err(AWAITED) => std::thread::park(),
                Err(RUNNING) => drop(self.holder.compare_exchange(RUNNING, OWNED, Ordering::Acquire, Ordering::Relaxed)),
                Err(_) => std::hint::spin_loop(),
            }
        }
    }

    /// What is in it, for the owner, who empties it: whether the program waited in vain, and the answer that it hasn't seen.
    pub(super) fn take(&self) -> Left {
        match self.word(STATE).swap(IDLE, Ordering::AcqRel) {
            ASKED => Left::Unasked,
            ANSWERED => Left::Answer(self.long(NUMBER).load(Ordering::Relaxed)),
            _ => Left::Nothing,
        }
    }

    /// Has a program that waits for an answer make its call as ever; for the owner.
    pub(super) fn turn_away(&self) {
        let _ = self.word(STATE).compare_exchange(ASKED, REFUSED, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// For a server: a call to be made, if there is one. Then the task is the server's until it answers or refuses.
    pub fn claim(&self) -> Option<Call> {
        if self.word(STATE).load(Ordering::Acquire) != ASKED {
            return None;
        }
        self.holder.compare_exchange(RUNNING, SERVED, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        // The owner may have had it in between.
        if self.word(STATE).load(Ordering::Acquire) != ASKED {
            self.release();
            return None;
        }
        self.word(STATE).store(CLAIMED, Ordering::Release);
        let number = self.long(NUMBER).load(Ordering::Relaxed);
        let args = std::array::from_fn(|index| self.long(ARGS + 8 * index).load(Ordering::Relaxed));
        Some(Call { number, args, ip: 0, sp: 0, trapped: true, answer: None })
    }

    /// It was made.
    pub fn answer(&self, result: u64) {
        self.long(NUMBER).store(result, Ordering::Relaxed);
        self.word(STATE).store(ANSWERED, Ordering::Release);
        self.release();
    }

    /// The program is to make it as ever.
    pub fn refuse(&self) {
        self.word(STATE).store(REFUSED, Ordering::Release);
        self.release();
    }

    fn release(&self) {
        if self.holder.compare_exchange(SERVED, RUNNING, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            self.holder.store(OWNED, Ordering::Release);
            self.owner.unpark();
        }
    }
}

/// What an owner finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    /// A call that nobody has made: the program asks another way.
    Unasked,
    /// The result of one that was made.
    Answer(u64),
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_call_is_made_by_one_party_only() {
        let page: Arc<Vec<AtomicU64>> = Arc::new((0..16).map(|_| AtomicU64::new(0)).collect());
        let words = page.as_ptr().cast_mut().cast::<u8>();
        // SAFETY: the words are the page's.
        let mailbox = unsafe { Mailbox::new(page, words) };
        let ask = |number: u64| {
            mailbox.long(NUMBER).store(number, Ordering::Relaxed);
            mailbox.word(STATE).store(ASKED, Ordering::Release);
        };
        ask(39);
        assert!(mailbox.claim().is_none(), "its owner has it");
        mailbox.open();
        let call = mailbox.claim().expect("a call");
        assert_eq!((call.number, call.trapped), (39, true));
        assert!(mailbox.claim().is_none(), "one has it");
        std::thread::scope(|scope| {
            scope.spawn(|| mailbox.answer(7));
            // This isn't the owner's thread, which would be woken.
            while mailbox.holder.load(Ordering::Relaxed) != RUNNING {
                std::thread::yield_now();
            }
            mailbox.close();
        });
        assert_eq!(mailbox.take(), Left::Answer(7));
        assert_eq!(mailbox.take(), Left::Nothing);
        mailbox.open();
        ask(40);
        mailbox.close();
        assert_eq!(mailbox.take(), Left::Unasked);
        assert!(mailbox.claim().is_none());
        mailbox.open();
        ask(41);
        assert_eq!(mailbox.claim().map(|call| call.number), Some(41));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while mailbox.holder.load(Ordering::Relaxed) != AWAITED {
                    std::thread::yield_now();
                }
                mailbox.refuse();
            });
            mailbox.close();
        });
        assert_eq!(mailbox.take(), Left::Nothing);
    }
}
