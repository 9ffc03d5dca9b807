//! `RLIMIT_CPU`: a process that has used more processor time than it may is told by `SIGXCPU`, each second once more, and killed at the hard
//! limit, setrlimit(2).
//!
//! Nobody is told when a process has used so much, so this looks again whenever what is left could have been used up.

use super::Process;
use super::limits::INFINITE;
use crate::Kernel;
use crate::signal::send::{Target, send, status_of};
use crate::sync::Mutex;
use crate::time::clock::TICK;
use crate::time::{Alarm, Ticket};
use alloc::sync::{Arc, Weak};
use insula_abi::general as c;
use insula_abi::process::Rlimit;
use insula_abi::signal::Siginfo;
use insula_abi::time::SECOND;

/// Watches what a process uses.
pub struct CpuLimit {
    this: Weak<CpuLimit>,
    kernel: Weak<Kernel>,
    process: Weak<Process>,
    ticket: Mutex<Option<Ticket>>,
}

impl CpuLimit {
    /// Watches a process by the limit that it has now; replaces who watched it before.
    pub(crate) fn watch(kernel: &Arc<Kernel>, process: &Arc<Process>) {
        let limit = process.limits.lock().get(c::RLIMIT_CPU).unwrap_or_default();
        let watch = (limit.soft != INFINITE || limit.hard != INFINITE).then(|| {
            Arc::new_cyclic(|this| CpuLimit {
                this: this.clone(),
                kernel: Arc::downgrade(kernel),
                process: Arc::downgrade(process),
                ticket: Mutex::default(),
            })
        });
        if let Some(watch) = &watch {
            watch.look_at(kernel, 0);
        }
        let before = core::mem::replace(&mut *process.cpu_limit.lock(), watch);
        drop(before);
    }

    /// Looks at this moment. There is one ticket at a time, which goes with this: limits may be set as often as a program likes.
    fn look_at(&self, kernel: &Kernel, at: u64) {
        let alarm: Weak<dyn Alarm> = self.this.clone();
        *self.ticket.lock() = Some(kernel.timers.set(at, alarm));
    }
}

impl Alarm for CpuLimit {
    fn expire(&self, now: u64) -> Option<u64> {
        let process = self.process.upgrade()?;
        if process.has_ended() {
            return None;
        }
        let (user, system) = process.times();
        let used = user + system;
        let mut limit = process.limits.lock().get(c::RLIMIT_CPU).unwrap_or_default();
        if used >= limit.hard.saturating_mul(SECOND) {
            process.end(status_of(c::SIGKILL as i32, false));
            return None;
        }
        if used >= limit.soft.saturating_mul(SECOND) {
            let info = Siginfo { signo: c::SIGXCPU as i32, code: c::SI_KERNEL as i32, ..Siginfo::default() };
            // A standard signal is never refused for want of room.
            let _ = send(Target::Process(&process), info);
            // As on Linux: the limit itself moves.
            limit = Rlimit { soft: used / SECOND + 1, ..limit };
            process.limits.lock().set(c::RLIMIT_CPU, limit);
        }
        let next = limit.soft.min(limit.hard).saturating_mul(SECOND);
        let tasks = process.tasks().len().max(1) as u64;
        let kernel = self.kernel.upgrade()?;
        self.look_at(&kernel, now.saturating_add(((next - used) / tasks).max(TICK)));
        None
    }
}

impl Drop for CpuLimit {
    fn drop(&mut self) {
        if let (Some(kernel), Some(ticket)) = (self.kernel.upgrade(), self.ticket.lock().take()) {
            kernel.timers.cancel(ticket);
        }
    }
}
