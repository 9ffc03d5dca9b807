//! Sets of signals.

use insula_abi::general as c;

/// A set of signals: bit *n* - 1 stands for signal *n*, as in user memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SigSet(pub u64);

impl SigSet {
    /// None.
    pub const EMPTY: SigSet = SigSet(0);
    /// `SIGKILL` and `SIGSTOP`, which nobody blocks, catches or ignores.
    pub const UNSTOPPABLE: SigSet = SigSet::of(&[c::SIGKILL, c::SIGSTOP]);
    /// Those that stop a process by default.
    pub const STOPS: SigSet = SigSet::of(&[c::SIGSTOP, c::SIGTSTP, c::SIGTTIN, c::SIGTTOU]);
    /// Those that the program's own instructions cause: taken before others.
    pub const SYNCHRONOUS: SigSet = SigSet::of(&[c::SIGSEGV, c::SIGBUS, c::SIGILL, c::SIGTRAP, c::SIGFPE, c::SIGSYS]);

    /// These.
    pub const fn of(signals: &[u32]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < signals.len() {
            bits |= 1 << (signals[index] - 1);
            index += 1;
        }
        SigSet(bits)
    }

    /// This one.
    pub const fn one(signal: i32) -> Self {
        SigSet(1 << (signal - 1))
    }

    /// What a program may block: all that it asks for but `SIGKILL` and `SIGSTOP`.
    pub const fn blockable(bits: u64) -> Self {
        SigSet(bits & !SigSet::UNSTOPPABLE.0)
    }

    /// Whether it holds this signal.
    pub const fn has(self, signal: i32) -> bool {
        self.0 & SigSet::one(signal).0 != 0
    }

    /// Both.
    pub const fn with(self, other: SigSet) -> Self {
        SigSet(self.0 | other.0)
    }

    /// Without those.
    pub const fn without(self, other: SigSet) -> Self {
        SigSet(self.0 & !other.0)
    }

    /// What both hold.
    pub const fn and(self, other: SigSet) -> Self {
        SigSet(self.0 & other.0)
    }

    /// Whether it holds none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The lowest.
    pub const fn first(self) -> Option<i32> {
        if self.0 == 0 { None } else { Some(self.0.trailing_zeros() as i32 + 1) }
    }
}
