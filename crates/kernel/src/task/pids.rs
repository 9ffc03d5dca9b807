//! Numbers of tasks and processes, and who is related to whom.

use super::{Limits, Task};
use crate::sync::Mutex;
use crate::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::sync::{Arc, Weak};

/// The most numbers at a time (Linux: `kernel.pid_max` by default).
const MOST: i32 = 32768;

/// All tasks of a kernel.
#[derive(Default)]
pub struct Pids {
    tree: Mutex<Tree>,
}

/// Numbers in use.
#[derive(Default)]
struct Tree {
    tasks: BTreeMap<i32, Weak<Task>>,
    last: i32,
}

impl Pids {
    /// A number that nobody has.
    ///
    /// # Errors
    /// `EAGAIN`: all are in use.
    pub fn allocate(&self) -> Result<i32> {
        let mut tree = self.tree.lock();
        for _ in 0..MOST {
            let next = if tree.last >= MOST - 1 { 2 } else { tree.last + 1 };
            tree.last = next;
            if let Entry::Vacant(slot) = tree.tasks.entry(next) {
                slot.insert(Weak::new());
                return Ok(next);
            }
        }
        Err(Errno::EAGAIN)
    }

    /// The number is this task's.
    pub fn publish(&self, task: &Arc<Task>) {
        self.tree.lock().tasks.insert(task.tid, Arc::downgrade(task));
    }

    /// Nobody has the number any more.
    pub fn release(&self, tid: i32) {
        self.tree.lock().tasks.remove(&tid);
    }

    /// The task of a number.
    pub fn task(&self, tid: i32) -> Option<Arc<Task>> {
        self.tree.lock().tasks.get(&tid).and_then(Weak::upgrade)
    }
}

/// A process: one or more tasks.
pub struct Process {
    /// Its number: that of its first task.
    pub pid: i32,
    /// Its limits.
    pub limits: Mutex<Limits>,
}

impl Process {
    /// A process with no task yet.
    pub fn new(pid: i32, limits: Limits) -> Arc<Self> {
        Arc::new(Process { pid, limits: Mutex::new(limits) })
    }

    /// The enforced limit of a resource, `RLIMIT_*`.
    pub fn limit(&self, resource: u32) -> u64 {
        self.limits.lock().soft(resource)
    }
}
