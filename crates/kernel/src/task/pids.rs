//! Numbers of tasks and processes, and who is related to whom: the process tree, under one lock.

use super::{PidNamespace, Process, Task};
use crate::sync::{Mutex, MutexGuard};
use crate::{Errno, Result};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::Ordering;

/// The most numbers at a time (Linux: `kernel.pid_max` by default).
pub const MOST: i32 = 32768;

/// All tasks of a kernel.
#[derive(Default)]
pub struct Pids {
    tree: Mutex<Tree>,
}

/// Who is related to whom.
#[derive(Default)]
pub struct Tree {
    /// Numbers given out; those of ended tasks that are still somebody's stay, with nothing behind them.
    tasks: BTreeMap<i32, Weak<Task>>,
    /// Processes, also those that ended and weren't waited for.
    pub(crate) nodes: BTreeMap<i32, Node>,
    /// Process groups: who is in them.
    groups: BTreeMap<i32, BTreeSet<i32>>,
    /// Sessions that somebody is in.
    sessions: BTreeMap<i32, Weak<Session>>,
    /// Which of the numbers are in a namespace below the first, and the innermost.
    pub(super) enrolled: BTreeMap<i32, PidNamespace>,
    last: i32,
}

/// A process among its relations.
pub(crate) struct Node {
    /// The process.
    pub process: Arc<Process>,
    /// Its parent; 0 is the world outside.
    pub parent: i32,
    /// The task that made it, as long as that is `parent`'s (`__WNOTHREAD`, `PR_SET_PDEATHSIG`).
    pub maker: i32,
    /// Its children.
    pub children: BTreeSet<i32>,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: Arc<Session>,
    /// What its parent is sent when it ends; 0 is nothing.
    pub exit_signal: i32,
    /// It has ended, and its parent may wait for it.
    pub ended: bool,
    /// But its tracer is to do so first, or all others of the PID namespace that began with it are to be gone.
    pub tracer_first: bool,
    /// Something else to be waited for.
    pub report: Option<Report>,
    /// It has called execve(2): its parent may no longer move it to another group.
    pub executed: bool,
    /// It was made in here, and the world outside has taken it in.
    pub adopted: bool,
    /// The world outside stops and continues it, as a shell does its jobs: its parent is of another group of the same session.
    pub job: bool,
}

/// What a parent may wait for, beside an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// Stopped by this signal.
    Stopped(i32),
    /// Going on.
    Continued,
}

/// A session, setsid(2).
pub struct Session {
    /// Its number: that of the process that made it.
    pub id: i32,
    /// Its controlling terminal, as the terminals' own code knows it.
    pub terminal: Mutex<Option<Arc<dyn Terminal>>>,
}

/// A controlling terminal.
pub trait Terminal: Any + Send + Sync {
    /// The session's leader has ended, or left it.
    fn released(&self, session: &Session);
}

impl Pids {
    /// The tree itself. Nothing that may take this lock again may be called while it is held: no signal is sent.
    pub fn lock(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock()
    }

    /// A number that nobody has.
    ///
    /// # Errors
    /// `EAGAIN`: all are in use.
    pub fn allocate(&self) -> Result<i32> {
        self.lock().allocate()
    }

    /// The task of a number.
    pub fn task(&self, tid: i32) -> Option<Arc<Task>> {
        self.lock().tasks.get(&tid).and_then(Weak::upgrade)
    }

    /// The process of a number; also one that has ended and wasn't waited for.
    pub fn process(&self, pid: i32) -> Option<Arc<Process>> {
        self.lock().process(pid)
    }

    /// All processes.
    pub fn processes(&self) -> Vec<Arc<Process>> {
        self.lock().nodes.values().map(|node| node.process.clone()).collect()
    }

    /// A process's parent, process group and session.
    pub fn relations(&self, pid: i32) -> (i32, i32, i32) {
        let tree = self.lock();
        (tree.parent(pid), tree.group_of(pid), tree.session_of(pid).map_or(0, |session| session.id))
    }

    /// The signal that stopped a process that has no parent here, if it was since this was last asked; not if it goes on already.
    pub fn take_stop(&self, pid: i32) -> Option<i32> {
        match self.lock().nodes.get_mut(&pid)?.report.take()? {
            Report::Stopped(signal) => Some(signal),
            Report::Continued => None,
        }
    }

    /// The members of a process group.
    pub fn group(&self, group: i32) -> Vec<Arc<Process>> {
        self.lock().members(group)
    }
}

impl Tree {
    /// The number that was given out last.
    pub(crate) fn last(&self) -> i32 {
        self.last
    }

    /// See [`Pids::allocate`].
    pub(crate) fn allocate(&mut self) -> Result<i32> {
        for _ in 0..MOST {
            // As on Linux, low numbers are given out but once.
            let next = if self.last >= MOST - 1 { 300 } else { self.last + 1 };
            self.last = next;
            if self.reserve(next).is_ok() {
                return Ok(next);
            }
        }
        Err(Errno::EAGAIN)
    }

    /// Gives out this very number (clone3(2), `set_tid`).
    ///
    /// # Errors
    /// `EEXIST`: it is in use.
    pub(crate) fn reserve(&mut self, number: i32) -> Result<()> {
        if self.is_used(number) {
            return Err(Errno::EEXIST);
        }
        // A session that ended left it behind.
        self.forget(number);
        self.tasks.insert(number, Weak::new());
        Ok(())
    }

    /// Whether a task has a number, a group or a session.
    fn is_used(&self, number: i32) -> bool {
        let session = self.sessions.get(&number).is_some_and(|session| session.strong_count() > 0);
        session || self.tasks.contains_key(&number) || self.nodes.contains_key(&number) || self.groups.contains_key(&number)
    }

    fn forget_if_unused(&mut self, number: i32) {
        if !self.enrolled.is_empty() && !self.is_used(number) {
            self.forget(number);
        }
    }

    /// The number of a task is the task's own.
    pub(crate) fn adopt(&mut self, task: &Arc<Task>) {
        self.tasks.insert(task.tid(), Arc::downgrade(task));
    }

    /// Nobody has the number any more.
    pub(crate) fn release(&mut self, tid: i32) {
        self.tasks.remove(&tid);
        self.forget_if_unused(tid);
    }

    /// A task takes another number of its process (execve(2)).
    pub(crate) fn renumber(&mut self, task: &Arc<Task>, tid: i32) {
        self.release(task.tid());
        self.tasks.insert(tid, Arc::downgrade(task));
    }

    /// See [`Pids::process`].
    pub fn process(&self, pid: i32) -> Option<Arc<Process>> {
        self.nodes.get(&pid).map(|node| node.process.clone())
    }

    /// How many tasks there are.
    pub fn count(&self) -> usize {
        self.tasks.len()
    }

    /// All tasks.
    pub fn tasks(&self) -> impl Iterator<Item = Arc<Task>> + '_ {
        self.tasks.values().filter_map(Weak::upgrade)
    }

    /// The members of a process group.
    pub fn members(&self, group: i32) -> Vec<Arc<Process>> {
        self.groups.get(&group).into_iter().flatten().filter_map(|pid| self.process(*pid)).collect()
    }

    /// Whether there is such a group in this session.
    pub(crate) fn group_in(&self, group: i32, session: i32) -> bool {
        self.groups
            .get(&group)
            .into_iter()
            .flatten()
            .any(|pid| self.nodes.get(pid).is_some_and(|node| node.session.id == session))
    }

    /// A process's parent; 0 is the world outside. Orphans are told what they look for: that it is number 1.
    pub fn parent(&self, pid: i32) -> i32 {
        self.nodes.get(&pid).map_or(0, |node| if node.adopted { 1 } else { node.parent })
    }

    /// A process's group.
    pub fn group_of(&self, pid: i32) -> i32 {
        self.nodes.get(&pid).map_or(0, |node| node.group)
    }

    /// A process's session.
    pub fn session_of(&self, pid: i32) -> Option<Arc<Session>> {
        self.nodes.get(&pid).map(|node| node.session.clone())
    }

    /// A new session for a process, which isn't in the tree yet or is moved there.
    pub(crate) fn new_session(&mut self, id: i32) -> Arc<Session> {
        let session = Arc::new(Session { id, terminal: Mutex::default() });
        self.sessions.retain(|_, session| session.strong_count() > 0);
        self.sessions.insert(id, Arc::downgrade(&session));
        session
    }

    /// Puts a process into the tree.
    pub(crate) fn insert(&mut self, node: Node) {
        let pid = node.process.pid;
        if let Some(parent) = self.nodes.get_mut(&node.parent) {
            parent.children.insert(pid);
        }
        self.groups.entry(node.group).or_default().insert(pid);
        self.nodes.insert(pid, node);
    }

    /// Takes a process out of the tree: it was waited for, or never began.
    pub(crate) fn remove(&mut self, pid: i32) -> Option<Node> {
        let node = self.nodes.remove(&pid)?;
        if let Some(parent) = self.nodes.get_mut(&node.parent) {
            parent.children.remove(&pid);
        }
        self.leave_group(pid, node.group);
        let session = node.session.id;
        if Arc::strong_count(&node.session) == 1 {
            self.sessions.remove(&session);
        }
        self.release(pid);
        self.forget_if_unused(session);
        node.process.forgotten.store(true, Ordering::Relaxed);
        Some(node)
    }

    fn leave_group(&mut self, pid: i32, group: i32) {
        if let Some(members) = self.groups.get_mut(&group) {
            members.remove(&pid);
            if members.is_empty() {
                self.groups.remove(&group);
                self.forget_if_unused(group);
            }
        }
    }

    /// Moves a process to another group.
    pub(crate) fn join_group(&mut self, pid: i32, group: i32) {
        let Some(node) = self.nodes.get_mut(&pid) else { return };
        let before = core::mem::replace(&mut node.group, group);
        self.leave_group(pid, before);
        self.groups.entry(group).or_default().insert(pid);
    }

    /// Whether nobody outside a group, but in its session, is the parent of one of its members: nobody is there to continue it
    /// (POSIX: orphaned process group). `without` counts as gone already.
    pub fn is_orphaned(&self, group: i32, without: Option<i32>) -> bool {
        !self.groups.get(&group).into_iter().flatten().any(|pid| {
            let Some(node) = self.nodes.get(pid) else { return false };
            if node.ended || without == Some(*pid) {
                return false;
            }
            let Some(parent) = self.nodes.get(&node.parent) else { return node.job };
            parent.group != group && parent.session.id == node.session.id
        })
    }
}
