//! Bytes and operations a second: token buckets, filled by time.
//!
//! A request that is larger than a bucket passes when that is full, and takes it into debt; the next waits until that is paid. So the average
//! holds whatever the size of requests.

use crate::error::{Result, Tried};
use rustix::event::PollFlags;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// A limit: `size` tokens for each `refill_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    /// How many tokens (bytes, operations) there are when it is full.
    pub size: u64,
    /// How many there are once, beside those, at the start.
    #[serde(default)]
    pub one_time_burst: u64,
    /// In how many milliseconds an empty one is full.
    pub refill_ms: u64,
}

/// The limits of a device or of one of its directions; none where a field is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bucket>,
    /// Operations: requests, packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operations: Option<Bucket>,
}

/// A bucket in use. Tokens are counted in nanoseconds of refilling, so that nothing is lost to rounding.
#[derive(Clone, Copy, Debug)]
struct Level {
    size: u64,
    /// Time that fills all of it.
    full: i128,
    level: i128,
    burst: u64,
    since: Instant,
}

impl Level {
    /// None without a limit, which a size or a time of zero means.
    fn new(bucket: Bucket, now: Instant) -> Option<Level> {
        let full = i128::from(bucket.refill_ms) * 1_000_000;
        let limits = bucket.size > 0 && full > 0;
        limits.then_some(Level { size: bucket.size, full, level: full, burst: bucket.one_time_burst, since: now })
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since).as_nanos();
        self.level = self.level.saturating_add(i128::try_from(passed).unwrap_or(self.full)).min(self.full);
        self.since = now;
    }

    /// What so many tokens cost beyond the burst.
    fn cost(&self, tokens: u64) -> i128 {
        i128::from(tokens.saturating_sub(self.burst)).saturating_mul(self.full) / i128::from(self.size)
    }

    fn take(&mut self, tokens: u64) {
        self.level = self.level.saturating_sub(self.cost(tokens));
        self.burst = self.burst.saturating_sub(tokens);
    }

    /// How long until so many can be taken: until the bucket is full, if it never holds as many.
    fn wait(&self, tokens: u64) -> Duration {
        let missing = self.cost(tokens).min(self.full).saturating_sub(self.level);
        if missing <= 0 { Duration::ZERO } else { Duration::from_nanos(u64::try_from(missing).unwrap_or(u64::MAX)) }
    }
}

/// A limiter with its clock.
#[derive(Debug)]
pub struct Limiter {
    bandwidth: Option<Level>,
    operations: Option<Level>,
    timer: Option<OwnedFd>,
    waits: bool,
}

impl Limiter {
    /// A limiter whose buckets are full.
    ///
    /// # Errors
    /// No descriptor is left for its timer.
    pub fn new(limits: Limits) -> Result<Limiter> {
        let now = Instant::now();
        let bandwidth = limits.bandwidth.and_then(|bucket| Level::new(bucket, now));
        let operations = limits.operations.and_then(|bucket| Level::new(bucket, now));
        let timer = if bandwidth.is_some() || operations.is_some() {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            Some(rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags).tried("make a timer for a rate limit")?)
        } else {
            None
        };
        Ok(Limiter { bandwidth, operations, timer, waits: false })
    }

    /// Lets one operation of so many bytes pass, or says that it has to wait: the timer is set.
    pub fn pass(&mut self, bytes: u64) -> bool {
        if self.timer.is_none() {
            return true;
        }
        !self.waits && self.pass_at(bytes, Instant::now())
    }

    fn pass_at(&mut self, bytes: u64, now: Instant) -> bool {
        let mut wait = Duration::ZERO;
        for (level, tokens) in [(&mut self.bandwidth, bytes), (&mut self.operations, 1)] {
            if let Some(level) = level {
                level.refill(now);
                wait = wait.max(level.wait(tokens));
            }
        }
        if wait > Duration::ZERO {
            self.set(wait);
            return false;
        }
        if let Some(level) = &mut self.bandwidth {
            level.take(bytes);
        }
        if let Some(level) = &mut self.operations {
            level.take(1);
        }
        true
    }

    /// Takes bytes that have passed already; what comes next pays for them. `pass(0)` before asks whether something may.
    pub fn charge(&mut self, bytes: u64) {
        if let Some(level) = &mut self.bandwidth {
            level.take(bytes);
        }
    }

    /// Gives back what an operation was let pass with and didn't use.
    pub fn give_back(&mut self, bytes: u64) {
        for (level, tokens) in [(&mut self.bandwidth, bytes), (&mut self.operations, 1)] {
            if let Some(level) = level {
                let back = i128::from(tokens).saturating_mul(level.full) / i128::from(level.size);
                level.level = level.level.saturating_add(back).min(level.full);
            }
        }
    }

    fn set(&mut self, wait: Duration) {
        let Some(timer) = &self.timer else { return };
        // A millisecond at least, that a limit of many operations isn't a timer for each.
        let wait = wait.max(Duration::from_millis(1));
        let it_value =
            Timespec { tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(wait.subsec_nanos()) };
        let time = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
        self.waits = rustix::time::timerfd_settime(timer, TimerfdTimerFlags::empty(), &time).is_ok();
    }

    /// Whether something waits for the timer.
    pub fn waits(&self) -> bool {
        self.waits
    }

    /// The timer has come.
    pub fn event(&mut self) {
        if let Some(timer) = &self.timer {
            let _ = rustix::io::read(timer, &mut [0_u8; 8]);
        }
        self.waits = false;
    }

    /// The timer to wait for, if there is a limit at all.
    pub fn source(&self, token: crate::Token) -> Option<crate::Source> {
        self.timer.as_ref().map(|timer| crate::Source { fd: timer.as_raw_fd(), token, interest: PollFlags::IN })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(size: u64, one_time_burst: u64, refill_ms: u64) -> Limiter {
        Limiter::new(Limits { bandwidth: Some(Bucket { size, one_time_burst, refill_ms }), operations: None }).unwrap()
    }

    #[test]
    fn the_average_holds_whatever_the_size_of_requests() {
        for request in [1, 7, 1000, 4096, 100_000] {
            let mut limiter = limiter(1000, 0, 100);
            let start = Instant::now();
            let passed = (0..10_000_u64)
                .filter(|ms| {
                    // As if the timer had come.
                    limiter.waits = false;
                    limiter.pass_at(request, start + Duration::from_millis(*ms))
                })
                .count() as u64
                * request;
            let most = 10_000 * 10 + 1000 + request;
            assert!(passed <= most && passed + request >= most.min(10_000 * request) / 2, "{request}: {passed}");
        }
    }

    #[test]
    fn a_burst_passes_once() {
        let mut limiter = limiter(10, 100, 1000);
        let now = Instant::now();
        assert_eq!((0..200).filter(|_| limiter.pass_at(1, now)).count(), 110);
        assert_eq!((0..200).filter(|_| limiter.pass_at(1, now + Duration::from_secs(60))).count(), 10);
        assert!(limiter.waits());
        assert!(!limiter.pass(1), "while the timer runs, nothing passes");
        limiter.event();
        assert!(!limiter.waits());
    }

    #[test]
    fn without_a_limit_everything_passes_and_there_is_no_timer() {
        let none = Limits { bandwidth: Some(Bucket { size: 0, one_time_burst: 0, refill_ms: 1 }), operations: None };
        let mut limiter = Limiter::new(none).unwrap();
        assert!(limiter.pass(u64::MAX) && limiter.pass(u64::MAX) && limiter.source(0).is_none());
    }

    #[test]
    fn numbers_without_measure_do_no_harm() {
        let mut limiter = limiter(1, u64::MAX, u64::MAX);
        for _ in 0..3 {
            limiter.pass_at(u64::MAX, Instant::now());
        }
        limiter.give_back(u64::MAX);
    }
}
