//! Signals that are pending.

use super::{FIRST_QUEUED, SigSet};
use alloc::collections::VecDeque;
use insula_abi::general as c;
use insula_abi::signal::Siginfo;

/// `SI_TIMER`, a negative number.
const SI_TIMER: i32 = -2;

/// Signals that are pending on a task or a process. Each of the first 31 is pending at most once; the others as often as they were sent.
#[derive(Default)]
pub struct Pending {
    set: SigSet,
    queue: VecDeque<Siginfo>,
}

impl Pending {
    /// Which are pending.
    pub fn set(&self) -> SigSet {
        self.set
    }

    /// How many are queued, with what was sent along.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// The one before which so many others were sent.
    pub fn nth(&self, index: usize) -> Option<Siginfo> {
        self.queue.get(index).copied()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Adds one; beyond `room`, what was sent along is lost, but not that something was. Answers whether all of it was kept.
    pub fn push(&mut self, info: Siginfo, room: usize) -> bool {
        if info.signo < FIRST_QUEUED && self.set.has(info.signo) {
            return true;
        }
        self.set = self.set.with(SigSet::one(info.signo));
        let kept = room > 0 || info.signo < FIRST_QUEUED;
        if kept {
            self.queue.push_back(info);
        }
        kept
    }

    /// The signal of a timer that has fired `count` times more, if it is still pending: it tells of them, too.
    pub fn overrun(&mut self, timer: i32, count: u64) -> bool {
        let of_timer = |info: &&mut Siginfo| info.code == SI_TIMER && info.pid() == timer;
        let Some(info) = self.queue.iter_mut().find(of_timer) else { return false };
        let overrun = (u64::from(info.uid()) + count).min(i32::MAX as u64);
        *info = Siginfo::timer(info.signo, timer, overrun as i32, info.value());
        true
    }

    /// Takes the next of `set`: what the program's own instructions caused first, then the lowest number, then the oldest.
    pub fn take(&mut self, set: SigSet) -> Option<Siginfo> {
        let ready = self.set.and(set);
        let signal = ready.and(SigSet::SYNCHRONOUS).first().or(ready.first())?;
        let found = self.queue.iter().position(|info| info.signo == signal).and_then(|index| self.queue.remove(index));
        if !self.queue.iter().any(|info| info.signo == signal) {
            self.set = self.set.without(SigSet::one(signal));
        }
        // What was sent along was lost for want of room: Linux says the same of it.
        Some(found.unwrap_or(Siginfo { signo: signal, code: c::SI_USER as i32, ..Siginfo::default() }))
    }

    /// Forgets all of `set`.
    pub fn discard(&mut self, set: SigSet) {
        if !self.set.and(set).is_empty() {
            self.set = self.set.without(set);
            self.queue.retain(|info| !set.has(info.signo));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(signal: u32, value: u64) -> Siginfo {
        Siginfo { signo: signal as i32, ..Siginfo::default() }.with_value(value)
    }

    #[test]
    fn standard_signals_are_pending_once_and_others_queue() {
        let mut pending = Pending::default();
        for value in 0..3 {
            assert!(pending.push(info(c::SIGUSR1, value), 10));
            assert!(pending.push(info(c::SIGRTMIN + 2, value), 10));
        }
        assert_eq!(pending.len(), 4);
        let all = SigSet(u64::MAX);
        let taken: alloc::vec::Vec<_> =
            core::iter::from_fn(|| pending.take(all)).map(|info| (info.signo, info.value())).collect();
        assert_eq!(taken, [(10, 0), (34, 0), (34, 1), (34, 2)]);
        assert!(pending.is_empty());
    }

    #[test]
    fn faults_come_first() {
        let mut pending = Pending::default();
        pending.push(info(c::SIGHUP, 0), 10);
        pending.push(info(c::SIGSEGV, 0), 10);
        assert_eq!(pending.take(SigSet(u64::MAX)).map(|info| info.signo), Some(11));
        assert_eq!(pending.take(SigSet::one(2)), None);
        assert_eq!(pending.take(SigSet(u64::MAX)).map(|info| info.signo), Some(1));
    }

    #[test]
    fn without_room_a_signal_is_pending_without_its_value() {
        let mut pending = Pending::default();
        assert!(!pending.push(info(c::SIGRTMIN, 7), 0));
        assert_eq!(pending.take(SigSet(u64::MAX)), Some(info(c::SIGRTMIN, 0)));
        assert_eq!(pending.take(SigSet(u64::MAX)), None);
    }
}
