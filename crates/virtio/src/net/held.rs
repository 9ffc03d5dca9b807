//! Word of sent frames, kept back for a moment.
//!
//! Most of what a guest sends is answered soon, by data or by an acknowledgement, and what comes in interrupts the guest anyway. So that its
//! frames are gone needs no interrupt of its own: it goes along with the next frame that comes in, or by a timer if none does. A guest that
//! has sent much is told at once, as it may wait for room.

use crate::device::{Source, Token};
use crate::error::{Result, Tried};
use rustix::event::PollFlags;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

/// How long word is kept back; twice as long at most, as the timer isn't set anew for each frame. A guest counts what it sent as in its
/// memory so long: with 100 µs, hosts' cards do about the same (`ethtool -c`, tx-usecs).
const MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000 };
/// Of such a part of a queue the guest is told at once: it may wait for room.
pub(super) const MANY: u16 = 8;

/// The timer for all pairs of a card.
#[derive(Debug)]
pub(super) struct Timer {
    timer: OwnedFd,
    set: bool,
    /// What is held now has been held since the timer was set, not for a part of that time only.
    since_set: bool,
}

impl Timer {
    /// # Errors
    /// No descriptor is left.
    pub(super) fn new() -> Result<Timer> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags).tried("make a timer for sent frames")?;
        Ok(Timer { timer, set: false, since_set: false })
    }

    pub(super) fn source(&self, token: Token) -> Source {
        Source { fd: self.timer.as_raw_fd(), token, interest: PollFlags::IN }
    }

    /// There is word to be kept back; false if it can't be.
    pub(super) fn hold(&mut self) -> bool {
        if !self.set {
            let time = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: MOMENT };
            self.set = rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &time).is_ok();
            self.since_set = self.set;
        }
        self.set
    }

    /// What was held has been told of.
    pub(super) fn told(&mut self) {
        self.since_set = false;
    }

    /// The timer has come; whether what is held is to be told of now. If it isn't held for long, it has another moment.
    pub(super) fn event(&mut self, held: bool) -> bool {
        let _ = rustix::io::read(&self.timer, &mut [0_u8; 8]);
        self.set = false;
        held && (self.since_set || !self.hold())
    }
}
