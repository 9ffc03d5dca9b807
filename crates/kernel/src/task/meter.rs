//! Processor time of a task: what its program used, and what was done here for it.

use super::Task;
use crate::sync::Mutex;
use core::sync::atomic::{AtomicU64, Ordering};

/// What a task's processor is busy with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Busy {
    /// Nothing: the task waits, or has ended.
    #[default]
    No,
    /// The task's program.
    Program,
    /// The kernel, for the task.
    Kernel,
}

/// Counts a task's time. The placement says when it changes sides; in between, who asks is told what has gone by till now.
#[derive(Default)]
pub struct Meter {
    /// Nanoseconds in its program, up to the last change.
    pub user: AtomicU64,
    /// Nanoseconds here for it, up to the last change.
    pub system: AtomicU64,
    /// What goes on, and since when by the monotonic clock.
    current: Mutex<(Busy, u64)>,
}

impl Meter {
    fn change(&self, busy: Busy, now: u64) {
        let mut current = self.current.lock();
        let (before, since) = *current;
        self.counter(before).map(|counter| counter.fetch_add(now.saturating_sub(since), Ordering::Relaxed));
        *current = (busy, now);
    }

    fn counter(&self, busy: Busy) -> Option<&AtomicU64> {
        match busy {
            Busy::No => None,
            Busy::Program => Some(&self.user),
            Busy::Kernel => Some(&self.system),
        }
    }

    fn times(&self, now: impl FnOnce() -> u64) -> (u64, u64) {
        let current = self.current.lock();
        let (user, system) = (self.user.load(Ordering::Relaxed), self.system.load(Ordering::Relaxed));
        let (busy, since) = *current;
        match busy {
            Busy::No => (user, system),
            Busy::Program => (user + now().saturating_sub(since), system),
            Busy::Kernel => (user, system + now().saturating_sub(since)),
        }
    }
}

impl Task {
    /// From now on its processor is busy with something else.
    pub fn busy(&self, with: Busy) {
        self.meter.change(with, self.kernel.host.clock.monotonic());
    }

    /// Nanoseconds of processor time in its program, and here for it.
    pub fn times(&self) -> (u64, u64) {
        self.meter.times(|| self.kernel.host.clock.monotonic())
    }
}
