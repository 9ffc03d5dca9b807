//! When a timer fires, once or again and again.

use crate::{Kernel, Result};
use insula_abi::time::{Itimerspec, Timespec};

use super::Clock;

/// When a timer fires next, by the monotonic clock, and its period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Nanoseconds; may be before the clock began. None if it isn't set.
    next: Option<i64>,
    /// Nanoseconds; 0 fires once.
    interval: u64,
}

impl Schedule {
    /// As a program sets it, by a clock that the monotonic one can follow.
    ///
    /// # Errors
    /// `EINVAL`: not times.
    pub fn new(kernel: &Kernel, clock: &Clock, spec: &Itimerspec, absolute: bool) -> Result<Self> {
        let (value, interval) = (spec.value.to_nanos()?, spec.interval.to_nanos()?);
        if value == 0 {
            return Ok(Schedule { next: None, interval });
        }
        let now = kernel.host.clock.monotonic();
        let relative = i64::try_from(now.saturating_add(value)).unwrap_or(i64::MAX);
        let next = if absolute { clock.to_monotonic(kernel, value).unwrap_or(relative) } else { relative };
        Ok(Schedule { next: Some(next), interval })
    }

    /// At this moment, and each `interval` after that.
    pub fn at(next: i64, interval: u64) -> Self {
        Schedule { next: Some(next), interval }
    }

    /// In so many nanoseconds, and each `interval` after that; 0 is never.
    pub fn after(now: u64, value: u64, interval: u64) -> Self {
        let next = (value != 0).then(|| i64::try_from(now.saturating_add(value)).unwrap_or(i64::MAX));
        Schedule { next, interval }
    }

    /// When it wants to be looked at.
    pub fn next(&self) -> Option<u64> {
        self.next.map(|next| next.max(0) as u64)
    }

    /// How often it has fired up to `now`, since this was last asked.
    pub fn advance(&mut self, now: u64) -> u64 {
        let Some(next) = self.next else { return 0 };
        let Some(late) = (now as i64).checked_sub(next).filter(|late| *late >= 0) else { return 0 };
        if self.interval == 0 {
            self.next = None;
            return 1;
        }
        let count = late as u64 / self.interval + 1;
        let step = i64::try_from(count.saturating_mul(self.interval)).unwrap_or(i64::MAX);
        self.next = Some(next.saturating_add(step));
        count
    }

    /// What is left until it fires, and its period, in nanoseconds; call [`advance`](Schedule::advance) before.
    pub fn left(&self, now: u64) -> (u64, u64) {
        // One that is set never says 0, which would be "not set".
        let left = self.next.map_or(0, |next| next.saturating_sub(now as i64).max(1) as u64);
        (left, self.interval)
    }

    /// The same, as a program reads it.
    pub fn spec(&self, now: u64) -> Itimerspec {
        let (value, interval) = self.left(now);
        Itimerspec { interval: Timespec::from_nanos(interval), value: Timespec::from_nanos(value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_counts_what_was_missed() {
        let mut schedule = Schedule::after(100, 10, 5);
        assert_eq!(schedule.advance(109), 0);
        assert_eq!(schedule.left(109), (1, 5));
        assert_eq!(schedule.advance(110), 1);
        assert_eq!(schedule.advance(131), 4);
        assert_eq!(schedule.left(131), (4, 5));
        let mut once = Schedule::after(0, 7, 0);
        assert_eq!((once.advance(100), once.advance(200), once.left(200)), (1, 0, (0, 0)));
    }
}
