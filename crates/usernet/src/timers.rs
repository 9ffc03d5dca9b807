//! Times at which something is to be looked at, and one descriptor that says when the first has come.
//!
//! A time is often moved further away (each acknowledgement does that), and hardly ever nearer. So an alarm that is moved away stays where it
//! is in the order, and is moved when it goes off: in most cases a number is written and nothing else.

use insula_sys::error::Context;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use std::collections::BTreeSet;

/// What has alarms and events.
pub(crate) type Id = u64;
/// No time.
const NEVER: u64 = u64::MAX;

/// When something is to be looked at, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Alarm {
    deadline: u64,
    /// When it goes off; not later.
    queued: u64,
}

impl Default for Alarm {
    fn default() -> Alarm {
        Alarm { deadline: NEVER, queued: NEVER }
    }
}

/// All alarms that are set.
#[derive(Debug)]
pub(crate) struct Timers {
    timer: OwnedFd,
    order: BTreeSet<(u64, Id)>,
    /// For when the timer is set.
    armed: u64,
}

impl Timers {
    pub(crate) fn new() -> insula_sys::Result<Timers> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags).on("make", "a timer")?;
        Ok(Timers { timer, order: BTreeSet::new(), armed: NEVER })
    }

    /// Sets an alarm, or moves it.
    pub(crate) fn set(&mut self, alarm: &mut Alarm, id: Id, now: u64, deadline: u64) {
        alarm.deadline = deadline;
        if deadline < alarm.queued {
            self.order.remove(&(alarm.queued, id));
            self.order.insert((deadline, id));
            alarm.queued = deadline;
            self.arm(now);
        }
    }

    /// Whether no time is set.
    pub(crate) fn is_unset(&self, alarm: &Alarm) -> bool {
        alarm.deadline == NEVER
    }

    /// Forgets an alarm.
    pub(crate) fn remove(&mut self, alarm: &mut Alarm, id: Id) {
        self.order.remove(&(alarm.queued, id));
        *alarm = Alarm::default();
    }

    /// Whose alarm goes off now, one after the other.
    pub(crate) fn expired(&mut self, now: u64) -> Option<Id> {
        let first = *self.order.first().filter(|(at, _)| *at <= now)?;
        self.order.remove(&first);
        Some(first.1)
    }

    /// An alarm has gone off: whether its time has come. Else it goes on.
    pub(crate) fn is_due(&mut self, alarm: &mut Alarm, id: Id, now: u64) -> bool {
        alarm.queued = NEVER;
        if alarm.deadline <= now {
            alarm.deadline = NEVER;
            return true;
        }
        if alarm.deadline != NEVER {
            self.set(alarm, id, now, alarm.deadline);
        }
        false
    }

    /// The timer has gone off.
    pub(crate) fn rearm(&mut self, now: u64) {
        // Empty if it was set anew meanwhile.
        let _ = rustix::io::read(&self.timer, &mut [0_u8; 8]);
        self.armed = NEVER;
        self.arm(now);
    }

    fn arm(&mut self, now: u64) {
        let Some(&(first, _)) = self.order.first() else { return };
        if first >= self.armed {
            return;
        }
        self.armed = first;
        // Zero would switch it off.
        let wait = first.saturating_sub(now).max(1);
        let value = Timespec { tv_sec: (wait / 1000) as i64, tv_nsec: (wait % 1000 * 1_000_000) as i64 };
        let once = Itimerspec { it_interval: Timespec::default(), it_value: value };
        // It is a timer, and the time is one.
        let _ = rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once);
    }
}

impl AsFd for Timers {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_that_is_moved_away_goes_off_once_and_later() {
        let mut timers = Timers::new().unwrap();
        let (mut one, mut other) = (Alarm::default(), Alarm::default());
        timers.set(&mut one, 1, 0, 100);
        timers.set(&mut one, 1, 50, 400);
        timers.set(&mut other, 2, 50, 300);
        assert_eq!(timers.expired(99), None);
        assert_eq!(timers.expired(100), Some(1));
        assert!(!timers.is_due(&mut one, 1, 100));
        assert_eq!(timers.expired(350), Some(2));
        assert!(timers.is_due(&mut other, 2, 350));
        timers.set(&mut one, 1, 350, 360);
        assert_eq!((timers.expired(360), timers.expired(1000)), (Some(1), None), "it was moved nearer");
        assert!(timers.is_due(&mut one, 1, 360));
        timers.set(&mut one, 1, 360, 370);
        timers.remove(&mut one, 1);
        assert_eq!(timers.expired(1000), None);
    }

    #[test]
    fn the_descriptor_says_when_the_first_has_come() {
        use rustix::event::{PollFd, PollFlags, poll};
        let mut timers = Timers::new().unwrap();
        let mut alarm = Alarm::default();
        timers.set(&mut alarm, 1, 0, 60_000);
        timers.set(&mut alarm, 1, 0, 5);
        let mut waited = [PollFd::new(&timers, PollFlags::IN)];
        assert_eq!(poll(&mut waited, None), Ok(1));
        timers.rearm(5);
        let mut waited = [PollFd::new(&timers, PollFlags::IN)];
        assert_eq!(poll(&mut waited, Some(&Timespec::default())), Ok(0), "it was read");
    }
}
