//! Making a context's `enter` return, from any thread.

use super::super::Kick;
use super::raw::{self, Tid};
use std::sync::atomic::{AtomicU8, Ordering};

/// The guest doesn't run, and nobody wants anything.
const IDLE: u8 = 0;
/// It runs, or is about to.
const RUNNING: u8 = 1;
/// Somebody wants it to return.
const KICKED: u8 = 2;

/// What interrupts a stub. It is one that does nothing to a thread that isn't traced, where one that comes too late may end up.
pub(super) const SIGNAL: i32 = libc::SIGURG;

/// For one stub thread.
#[derive(Debug)]
pub(super) struct Kicker {
    state: AtomicU8,
    pid: Tid,
    tid: Tid,
}

impl Kicker {
    pub(super) fn new(pid: Tid, tid: Tid) -> Kicker {
        Kicker { state: AtomicU8::new(IDLE), pid, tid }
    }

    /// The owner is about to run the guest: from here on, a kick sends a signal. Not if there was one.
    pub(super) fn begin(&self) -> bool {
        let begun = self.state.compare_exchange(IDLE, RUNNING, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        if !begun {
            self.obey();
        }
        begun
    }

    /// Whether there was one since [`Self::begin`].
    pub(super) fn is_kicked(&self) -> bool {
        self.state.load(Ordering::SeqCst) == KICKED
    }

    /// The guest has stopped for a reason of its own. A kick that comes now, or has just come, counts for the next [`Self::begin`]: not whatever
    /// the guest has stopped for makes its owner look who wants it. Its signal stops the stub once more, for nothing.
    pub(super) fn end(&self) {
        let _ = self.state.compare_exchange(RUNNING, IDLE, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// The owner returns because of the kick.
    pub(super) fn obey(&self) {
        self.state.store(IDLE, Ordering::SeqCst);
    }
}

impl Kick for Kicker {
    fn kick(&self) {
        if self.state.swap(KICKED, Ordering::SeqCst) == RUNNING {
            // Fails if the stub is gone, which its owner will see. Numbers of threads are reused late, and only if process and thread have
            // the same numbers again, another stub gets a signal that does nothing.
            let _ = raw::tell(self.pid, self.tid, SIGNAL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of this thread, which ignores the signal.
    fn kicker() -> Kicker {
        let (pid, tid) = (rustix::process::getpid().as_raw_nonzero().get(), rustix::thread::gettid().as_raw_nonzero().get());
        Kicker::new(pid, tid)
    }

    #[test]
    fn a_kick_lasts_until_it_is_obeyed() {
        let kicker = kicker();
        // Before the guest runs.
        kicker.kick();
        assert!(!kicker.begin());
        // While it runs.
        assert!(kicker.begin());
        kicker.kick();
        assert!(kicker.is_kicked());
        kicker.obey();
        // When it has just stopped for something else.
        assert!(kicker.begin());
        kicker.kick();
        kicker.end();
        assert!(!kicker.begin());
        assert!(kicker.begin());
        kicker.end();
        assert!(kicker.begin());
    }
}
