//! Clocks, clock_getres(2).

use crate::task::Task;
use crate::{Errno, Kernel, Result};
use alloc::sync::Arc;
use insula_abi::general as c;

/// How often coarse clocks tick, in nanoseconds: a Linux with 250 ticks a second.
pub const TICK: u64 = 4_000_000;

/// A clock.
#[derive(Clone)]
pub enum Clock {
    /// Since 1970.
    Realtime,
    /// Since the sandbox began. A sandbox isn't suspended, so `CLOCK_BOOTTIME` is the same.
    Monotonic,
    /// Processor time of a task.
    Task(Arc<Task>, Processor),
    /// One that can only be read: that of this number.
    Other(u32),
    /// Processor time of a task's process.
    Process(Arc<Task>, Processor),
}

/// Which processor time counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processor {
    /// All.
    All,
    /// Only that in the program.
    User,
}

impl Clock {
    /// The clock of a number, as `task` uses it.
    ///
    /// # Errors
    /// `EINVAL`: there is none.
    pub fn of(task: &Arc<Task>, id: i32) -> Result<Clock> {
        if id < 0 {
            return Clock::of_processor(task, id);
        }
        Ok(match id as u32 {
            c::CLOCK_REALTIME | c::CLOCK_REALTIME_ALARM | c::CLOCK_TAI => Clock::Realtime,
            c::CLOCK_MONOTONIC | c::CLOCK_BOOTTIME | c::CLOCK_BOOTTIME_ALARM => Clock::Monotonic,
            other @ (c::CLOCK_MONOTONIC_RAW | c::CLOCK_MONOTONIC_COARSE | c::CLOCK_REALTIME_COARSE) => Clock::Other(other),
            c::CLOCK_PROCESS_CPUTIME_ID => Clock::Process(task.clone(), Processor::All),
            c::CLOCK_THREAD_CPUTIME_ID => Clock::Task(task.clone(), Processor::All),
            _ => return Err(Errno::EINVAL),
        })
    }

    /// Of a task or process: its number is in the upper bits, negated (clock_getcpuclockid(3)).
    fn of_processor(task: &Arc<Task>, id: i32) -> Result<Clock> {
        let which = match id & 3 {
            0 | 2 => Processor::All,
            1 => Processor::User,
            _ => return Err(Errno::EINVAL),
        };
        let of_task = id & 4 != 0;
        let target = match !(id >> 3) {
            0 => task.clone(),
            number => task.kernel().pids.task(task.number_of(number)).ok_or(Errno::EINVAL)?,
        };
        match of_task {
            // Other processes' tasks are none of its business.
            true if !Arc::ptr_eq(&target.process, &task.process) => Err(Errno::EINVAL),
            true => Ok(Clock::Task(target, which)),
            false => Ok(Clock::Process(target, which)),
        }
    }

    /// What it says, in nanoseconds.
    pub fn now(&self, kernel: &Kernel) -> u64 {
        match self {
            Clock::Realtime => kernel.host.clock.realtime(),
            Clock::Monotonic => kernel.host.clock.monotonic(),
            Clock::Other(id) => kernel.host.clock.other(*id),
            Clock::Task(task, which) => {
                let (user, system) = task.times();
                which.of(user, system)
            }
            Clock::Process(task, which) => {
                let (user, system) = process_times(task);
                which.of(user, system)
            }
        }
    }

    /// A moment of this clock by the monotonic one, as both go now; it may be before that began. None for a clock that goes otherwise.
    pub fn to_monotonic(&self, kernel: &Kernel, at: u64) -> Option<i64> {
        let at = i64::try_from(at).unwrap_or(i64::MAX);
        match self {
            Clock::Monotonic => Some(at),
            Clock::Realtime => {
                let clock = &kernel.host.clock;
                Some(at.saturating_sub(clock.realtime() as i64).saturating_add(clock.monotonic() as i64))
            }
            _ => None,
        }
    }
}

impl Processor {
    fn of(self, user: u64, system: u64) -> u64 {
        match self {
            Processor::All => user + system,
            Processor::User => user,
        }
    }
}

/// Nanoseconds in its program and here for it, of a task's process.
pub fn process_times(task: &Arc<Task>) -> (u64, u64) {
    task.process.times()
}

/// How fine a clock is, in nanoseconds.
pub fn resolution(id: i32) -> u64 {
    match id as u32 {
        c::CLOCK_REALTIME_COARSE | c::CLOCK_MONOTONIC_COARSE => TICK,
        _ => 1,
    }
}
