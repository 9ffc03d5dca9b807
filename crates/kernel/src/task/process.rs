//! Processes: what a group of tasks has together.

use super::cpu_limit::CpuLimit;
use super::{Limits, PidNamespace, Task, UserNamespace};
use crate::fs::Description;
use crate::signal::stop::Stop;
use crate::signal::{Actions, Pending};
use crate::sync::{Mutex, MutexGuard};
use crate::time::timers::ProcessTimers;
use crate::trace::Tracees;
use crate::wait::{Events, Observer, Pollable, Queue, Registration};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};

/// A process: one or more tasks.
pub struct Process {
    /// Its number: that of its first task.
    pub pid: i32,
    /// In which namespace it has another, and what numbers it knows.
    pub space: PidNamespace,
    /// Its limits.
    pub limits: Mutex<Limits>,
    state: Mutex<State>,
    actions: Mutex<Arc<Mutex<Actions>>>,
    /// The program it runs, `/proc/PID/exe`.
    pub program: Mutex<Option<Arc<Description>>>,
    /// Whether others may look into it: 0 no, 1 yes, 2 only the superuser (prctl(2), `PR_SET_DUMPABLE`).
    pub dumpable: AtomicU8,
    /// The user namespace in which one needs a right to look into it all the same: that in which its program began. It may have secrets from
    /// there, whatever namespace it has entered since.
    pub memory_owner: Mutex<UserNamespace>,
    /// The first process is a command that is to be interrupted like any other, not an init: that is shielded from signals it doesn't handle,
    /// and takes in all orphans.
    pub ordinary: AtomicBool,
    /// It becomes the parent of orphans below it (prctl(2), `PR_SET_CHILD_SUBREAPER`).
    pub subreaper: AtomicBool,
    /// It has ended and was waited for: its number is nobody's, or another's.
    pub(crate) forgotten: AtomicBool,
    /// When it began, in nanoseconds of the monotonic clock.
    pub started: u64,
    /// The user of its last task.
    pub(crate) uid: AtomicU32,
    /// What it would like the killer of processes to add when memory is short; remembered only.
    pub oom_adjustment: AtomicI32,
    /// It wants no huge pages (prctl(2), `PR_SET_THP_DISABLE`); remembered only, as memory is the host's.
    pub thp_disabled: AtomicBool,
    /// Watches its processor time, if that is limited.
    pub(crate) cpu_limit: Mutex<Option<Arc<CpuLimit>>>,
    /// Its asynchronous reading and writing.
    pub aio: crate::syscall::aio::Contexts,
    /// Its timers that send signals.
    pub timers: ProcessTimers,
    /// Used by tasks that have ended.
    pub usage: Usage,
    /// Read and written by tasks that have ended, and by children that were waited for.
    pub account: super::account::Account,
    /// Used by children that were waited for.
    pub children_usage: Usage,
    /// Tasks that its tasks trace, ptrace(2).
    pub(crate) tracees: Mutex<Tracees>,
    /// Whose task traces its first one.
    pub(crate) first_traced_by: Mutex<Weak<Process>>,
    /// Told whenever a child, or a tracee, has something to be waited for.
    pub(crate) children: Arc<Queue>,
    /// Told when a signal becomes pending, for signalfd(2).
    pub(crate) pending_changed: Arc<Queue>,
    /// Told when tasks come to an end or a stop, and when the process ends.
    pub(crate) changed: Arc<Queue>,
}

/// What changes under the process's lock.
#[derive(Default)]
pub(crate) struct State {
    /// Tasks that have not ended, by number.
    pub threads: BTreeMap<i32, Arc<Task>>,
    /// Sent to the process.
    pub pending: Pending,
    /// It is stopped, or about to be.
    pub stop: Option<Stop>,
    /// It is about to end, with this status as wait(2) tells it.
    pub ending: Option<i32>,
    /// This task is about to replace the program: all others end.
    pub replacing: Option<i32>,
    /// What wait(2) is told, once it has ended.
    pub status: i32,
    /// It has ended: nobody may join or signal it.
    pub ended: bool,
}

/// What somebody has used.
#[derive(Debug, Default)]
pub struct Usage {
    /// Nanoseconds in programs.
    pub user: AtomicU64,
    /// Nanoseconds here for them.
    pub system: AtomicU64,
    /// Most bytes of memory.
    pub memory: AtomicU64,
    /// Pages that were given to it: what Linux counts as minor faults, for it gives one page a fault.
    pub pages: AtomicU64,
}

impl Usage {
    /// Adds what another has used.
    pub fn add(&self, other: &Usage) {
        self.user.fetch_add(other.user.load(Ordering::Relaxed), Ordering::Relaxed);
        self.system.fetch_add(other.system.load(Ordering::Relaxed), Ordering::Relaxed);
        self.pages.fetch_add(other.pages.load(Ordering::Relaxed), Ordering::Relaxed);
        self.memory.fetch_max(other.memory.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl Process {
    /// A process with no task yet.
    pub fn new(pid: i32, space: PidNamespace, limits: Limits, actions: Arc<Mutex<Actions>>, started: u64) -> Arc<Self> {
        Arc::new(Process {
            pid,
            space,
            limits: Mutex::new(limits),
            state: Mutex::default(),
            actions: Mutex::new(actions),
            program: Mutex::default(),
            dumpable: AtomicU8::new(1),
            memory_owner: Mutex::default(),
            ordinary: AtomicBool::new(false),
            subreaper: AtomicBool::new(false),
            forgotten: AtomicBool::new(false),
            started,
            uid: AtomicU32::new(0),
            oom_adjustment: AtomicI32::new(0),
            thp_disabled: AtomicBool::new(false),
            cpu_limit: Mutex::default(),
            aio: Default::default(),
            timers: ProcessTimers::default(),
            usage: Usage::default(),
            account: super::account::Account::default(),
            children_usage: Usage::default(),
            tracees: Mutex::default(),
            first_traced_by: Mutex::default(),
            children: Queue::new(),
            pending_changed: Queue::new(),
            changed: Queue::new(),
        })
    }

    /// The enforced limit of a resource, `RLIMIT_*`.
    pub fn limit(&self, resource: u32) -> u64 {
        self.limits.lock().soft(resource)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// What it does with each signal; another process may have the same (`CLONE_SIGHAND`).
    pub fn actions(&self) -> Arc<Mutex<Actions>> {
        self.actions.lock().clone()
    }

    /// From now on its actions are its own, as execve(2) leaves them.
    pub(crate) fn reset_actions(&self) {
        let mut actions = self.actions().lock().clone();
        actions.reset();
        *self.actions.lock() = Arc::new(Mutex::new(actions));
    }

    /// Its tasks that have not ended.
    pub fn tasks(&self) -> Vec<Arc<Task>> {
        self.lock().threads.values().cloned().collect()
    }

    /// Whether it is the sandbox's init, or that of a PID namespace.
    pub fn is_init(&self) -> bool {
        self.pid == 1 && !self.ordinary.load(Ordering::Relaxed) || self.is_first_of_namespace()
    }

    /// Its first task; any other, if that has ended.
    pub fn leader(&self) -> Option<Arc<Task>> {
        let state = self.lock();
        state.threads.get(&self.pid).or_else(|| state.threads.values().next()).cloned()
    }

    /// Whether it has ended, and only its status is left.
    pub fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// How it ended, as wait(2) tells it.
    pub fn status(&self) -> Option<i32> {
        let state = self.lock();
        state.ended.then_some(state.status)
    }

    /// All its tasks are to end; the first to say so decides the status, as wait(2) tells it.
    pub fn end(&self, status: i32) {
        let tasks: Vec<_> = {
            let mut state = self.lock();
            state.ending.get_or_insert(status);
            state.threads.values().cloned().collect()
        };
        for task in tasks {
            task.interrupt();
        }
    }

    /// Nanoseconds in its program and here for it, of all its tasks.
    pub fn times(&self) -> (u64, u64) {
        let state = self.lock();
        let (mut user, mut system) = (self.usage.user.load(Ordering::Relaxed), self.usage.system.load(Ordering::Relaxed));
        for task in state.threads.values() {
            let (in_program, here) = task.times();
            user += in_program;
            system += here;
        }
        (user, system)
    }
}

/// Ready to be read once it has ended, as a pidfd is.
impl Pollable for Process {
    fn poll(&self) -> Events {
        if self.has_ended() { Events::READABLE } else { Events::empty() }
    }

    fn observe(&self, interest: Events, observer: &Arc<dyn Observer>) -> Vec<Registration> {
        alloc::vec![self.changed.register(interest, observer.clone())]
    }
}

/// What a parent waits for: a change of any child.
pub(crate) struct Children<'a>(pub &'a Process);

impl Pollable for Children<'_> {
    fn poll(&self) -> Events {
        Events::empty()
    }

    fn observe(&self, interest: Events, observer: &Arc<dyn Observer>) -> Vec<Registration> {
        alloc::vec![self.0.children.register(interest, observer.clone())]
    }
}
