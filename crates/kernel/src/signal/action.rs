//! What a process does with each signal.

use super::{LAST, SigSet};
use insula_abi::general as c;
use insula_abi::signal::Sigaction;

/// `SIG_DFL`.
pub const BY_DEFAULT: u64 = 0;
/// `SIG_IGN`.
pub const IGNORE: u64 = 1;

/// Actions for all signals.
#[derive(Clone)]
pub struct Actions([Sigaction; LAST as usize]);

/// What happens by default, signal(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// Nothing.
    Ignore,
    /// The process ends.
    End,
    /// It ends, and would leave an image of its memory.
    Dump,
    /// It stops.
    Stop,
    /// It goes on, if it was stopped.
    Continue,
}

impl Default {
    /// Of a signal.
    pub const fn of(signal: i32) -> Self {
        match signal as u32 {
            c::SIGCHLD | c::SIGURG | c::SIGWINCH => Default::Ignore,
            c::SIGCONT => Default::Continue,
            c::SIGSTOP | c::SIGTSTP | c::SIGTTIN | c::SIGTTOU => Default::Stop,
            c::SIGQUIT
            | c::SIGILL
            | c::SIGTRAP
            | c::SIGABRT
            | c::SIGBUS
            | c::SIGFPE
            | c::SIGSEGV
            | c::SIGXCPU
            | c::SIGXFSZ
            | c::SIGSYS => Default::Dump,
            _ => Default::End,
        }
    }
}

impl core::default::Default for Actions {
    fn default() -> Self {
        Actions([Sigaction::default(); LAST as usize])
    }
}

impl Actions {
    /// Of a signal.
    pub fn get(&self, signal: i32) -> Sigaction {
        self.0.get(signal as usize - 1).copied().unwrap_or_default()
    }

    /// Sets that of a signal.
    pub fn set(&mut self, signal: i32, action: Sigaction) {
        if let Some(slot) = self.0.get_mut(signal as usize - 1) {
            *slot = action;
        }
    }

    /// Whether a signal does nothing at all.
    pub fn ignores(&self, signal: i32) -> bool {
        match self.get(signal).handler {
            IGNORE => true,
            BY_DEFAULT => Default::of(signal) == Default::Ignore,
            _ => false,
        }
    }

    /// Whether a signal has a handler.
    pub fn catches(&self, signal: i32) -> bool {
        self.get(signal).handler > IGNORE
    }

    /// As execve(2) and `CLONE_CLEAR_SIGHAND` leave them: handlers are gone, what is ignored stays so.
    pub fn reset(&mut self) {
        for action in &mut self.0 {
            let handler = if action.handler == IGNORE { IGNORE } else { BY_DEFAULT };
            *action = Sigaction { handler, ..Sigaction::default() };
        }
    }

    /// All signals for which `test` holds.
    pub fn all(&self, test: impl Fn(&Self, i32) -> bool) -> SigSet {
        (1..=LAST).filter(|signal| test(self, *signal)).fold(SigSet::EMPTY, |set, signal| set.with(SigSet::one(signal)))
    }
}
