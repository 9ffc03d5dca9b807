//! Which CPU a guest task and its thread of the sentry share.
//!
//! They take turns, so one CPU is enough for both, and a switch on one CPU is much cheaper than a wake-up of another.

use super::raw::Tid;
use super::space::lock;
use rustix::thread::{CpuSet, Pid};
use std::sync::{Arc, Mutex};

/// The CPUs we may use, and how many tasks are on each.
#[derive(Debug)]
pub(super) struct Cpus {
    usable: Vec<usize>,
    tasks: Mutex<Vec<usize>>,
}

/// A task's place on a CPU.
#[derive(Debug)]
pub(super) struct Seat {
    cpus: Arc<Cpus>,
    index: usize,
}

impl Cpus {
    /// Those that this thread may use.
    pub(super) fn new() -> rustix::io::Result<Arc<Cpus>> {
        let allowed = rustix::thread::sched_getaffinity(None)?;
        let usable: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
        Ok(Arc::new(Cpus { tasks: Mutex::new(vec![0; usable.len()]), usable }))
    }

    /// Seats the calling thread and its stub thread on the CPU with the fewest tasks. Being refused only costs time.
    pub(super) fn seat(self: &Arc<Cpus>, stub: Tid) -> Seat {
        let index = {
            let mut tasks = lock(&self.tasks);
            let index = (0..tasks.len()).min_by_key(|index| tasks[*index]).unwrap_or(0);
            if let Some(count) = tasks.get_mut(index) {
                *count += 1;
            }
            index
        };
        let mut set = CpuSet::new();
        if let Some(cpu) = self.usable.get(index) {
            set.set(*cpu);
            let _ = rustix::thread::sched_setaffinity(None, &set);
            let _ = rustix::thread::sched_setaffinity(Pid::from_raw(stub), &set);
        }
        Seat { cpus: Arc::clone(self), index }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(count) = lock(&self.cpus.tasks).get_mut(self.index) {
            *count -= 1;
        }
    }
}
