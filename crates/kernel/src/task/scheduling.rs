//! How tasks want to be scheduled, sched(7). The host schedules them; what they ask for is remembered, and told to who asks.

use insula_abi::general as c;

/// A task's policy and priorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheduling {
    /// `SCHED_*`.
    pub policy: u32,
    /// 1 to 99 for real-time policies, else 0.
    pub priority: i32,
    /// -20 to 19.
    pub nice: i32,
    /// Children begin with the default (`SCHED_RESET_ON_FORK`).
    pub reset_on_fork: bool,
    /// Processors it may use, a bit each; more than 64 aren't told apart.
    pub processors: u64,
    /// ioprio_set(2).
    pub io_priority: u16,
    /// Nanoseconds by which timers may be late (prctl(2), `PR_SET_TIMERSLACK`).
    pub timer_slack: u64,
}

/// `SCHED_OTHER`.
pub const SCHED_OTHER: u32 = c::SCHED_NORMAL;

impl Default for Scheduling {
    fn default() -> Self {
        Scheduling {
            policy: SCHED_OTHER,
            priority: 0,
            nice: 0,
            reset_on_fork: false,
            processors: u64::MAX,
            io_priority: 0,
            timer_slack: 50_000,
        }
    }
}

impl Scheduling {
    /// A child's.
    pub fn of_child(self) -> Self {
        if !self.reset_on_fork {
            return self;
        }
        let real_time = matches!(self.policy, c::SCHED_FIFO | c::SCHED_RR);
        Scheduling {
            policy: if real_time { SCHED_OTHER } else { self.policy },
            priority: 0,
            nice: self.nice.max(0),
            reset_on_fork: false,
            ..self
        }
    }
}
