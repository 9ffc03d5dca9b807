//! Time: clocks, and what is to happen at a moment, whoever runs then.
//!
//! | module | holds |
//! |---|---|
//! | [`clock`] | clocks, by number |
//! | [`schedule`] | when a timer fires, once or again and again |
//! | [`timers`] | timers of a process that send signals |

pub mod clock;
pub mod schedule;
#[cfg(test)]
mod tests;
pub mod timers;

pub use clock::Clock;
pub use schedule::Schedule;

use crate::Kernel;
use crate::host;
use crate::sync::Mutex;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

/// Happens at a moment.
pub trait Alarm: Send + Sync {
    /// The moment has come; answers when to be called again.
    fn expire(&self, now: u64) -> Option<u64>;
}

/// All alarms of a kernel, by the monotonic clock.
pub struct Timers {
    clock: Arc<dyn host::Clock>,
    queue: Mutex<BTreeMap<(u64, u64), Weak<dyn Alarm>>>,
    next: AtomicU64,
}

/// A set alarm; [`Timers::cancel`] takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64, u64);

impl Timers {
    /// None set.
    pub fn new(clock: Arc<dyn host::Clock>) -> Self {
        Timers { clock, queue: Mutex::new(BTreeMap::new()), next: AtomicU64::new(0) }
    }

    /// Calls `alarm` at this moment, if it still exists then.
    pub fn set(&self, at: u64, alarm: Weak<dyn Alarm>) -> Ticket {
        let ticket = Ticket(at, self.next.fetch_add(1, Ordering::Relaxed));
        let mut queue = self.queue.lock();
        queue.insert((ticket.0, ticket.1), alarm);
        let first = queue.first_key_value().is_some_and(|(key, _)| *key == (ticket.0, ticket.1));
        drop(queue);
        if first {
            self.clock.arm(at);
        }
        ticket
    }

    /// Takes an alarm back; it may be running at this moment.
    pub fn cancel(&self, ticket: Ticket) {
        self.queue.lock().remove(&(ticket.0, ticket.1));
    }

    /// Calls all alarms whose moment has come, and arms the clock for the next.
    pub fn expire(&self) {
        let now = self.clock.monotonic();
        let due: Vec<_> = {
            let mut queue = self.queue.lock();
            let later = queue.split_off(&(now + 1, 0));
            core::mem::replace(&mut *queue, later).into_values().collect()
        };
        for alarm in due {
            if let Some(strong) = alarm.upgrade()
                && let Some(again) = strong.expire(now)
            {
                self.set(again, alarm);
            }
        }
        let next = self.queue.lock().first_key_value().map(|(key, _)| key.0);
        if let Some(at) = next {
            self.clock.arm(at);
        }
    }
}

/// A moment of `CLOCK_REALTIME` by the monotonic clock, as both go now; one that has passed is 0.
pub fn from_realtime(kernel: &Kernel, at: u64) -> u64 {
    let clock = &kernel.host.clock;
    match at.checked_sub(clock.realtime()) {
        Some(left) => clock.monotonic().saturating_add(left),
        None => 0,
    }
}
