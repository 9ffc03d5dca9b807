//! Ends of tasks and processes.

use super::pids::{Node, Tree};
use super::{Busy, PidNamespace, Process, Task};
use crate::Kernel;
use crate::fs::Descriptors;
use crate::signal::action::IGNORE;
use crate::signal::send::{Target, send, send_by, send_from_outside};
use crate::signal::stop::{check_complete, ticks};
use crate::trace::relation;
use crate::wait::Events;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use insula_abi::general as c;
use insula_abi::signal::Siginfo;

/// Signals that are to be sent once the process tree is free again.
type Letters = Vec<(Arc<Process>, Siginfo)>;

impl Task {
    /// The task ends, with this status as wait(2) tells it; if it is its process's last, so does the process. What it had is given back, and who
    /// waits for it is told. A second call does nothing.
    pub fn exit(self: &Arc<Self>, status: i32) {
        if self.ended.swap(true, Ordering::SeqCst) {
            return;
        }
        crate::futex::robust::leave(self);
        self.mm().leave();
        self.release_vfork();
        self.leave_files();
        self.confinement.leave();
        let (tid, own) = (self.tid(), status);
        self.process.uid.store(self.credentials().uid.real, Ordering::Relaxed);
        let (last, status) = {
            let mut state = self.process.lock();
            let usage = &self.process.usage;
            self.busy(Busy::No);
            let (user, system) = self.times();
            usage.user.fetch_add(user, Ordering::Relaxed);
            usage.system.fetch_add(system, Ordering::Relaxed);
            let memory = self.mm().sizes().1;
            usage.memory.fetch_max(memory, Ordering::Relaxed);
            self.process.account.add(&self.account);
            state.threads.remove(&tid);
            let last = state.threads.is_empty();
            if last {
                usage.pages.fetch_add(memory / insula_abi::PAGE, Ordering::Relaxed);
                // Since Linux 5.17 it is the last task that decides, if none has spoken for all.
                state.status = state.ending.unwrap_or(status);
                state.ended = true;
            }
            (last, state.status)
        };
        relation::leave(self);
        if self.is_traced() && tid != self.process.pid {
            relation::thread_has_ended(self, own);
        }
        if last {
            // What it ran may be written again.
            let program = self.process.program.lock().take();
            drop(program);
            self.end_process(status);
        } else {
            if tid != self.process.pid {
                self.kernel.pids.lock().release(tid);
            }
            check_complete(self);
            self.tell_children_of_maker(tid);
        }
        self.process.changed.wake(Events::READABLE | Events::HUP);
    }

    /// Whether it has ended, or is about to.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Its descriptors and its place in the tree of files, which others may have, too.
    fn leave_files(self: &Arc<Self>) {
        let descriptors = core::mem::replace(&mut *self.descriptors.lock(), Descriptors::new());
        if let Some(last) = Arc::into_inner(descriptors) {
            for (_, description) in last.all() {
                description.file.flush(self);
                crate::fs::dnotify::end(&description, last.as_owner());
            }
        }
    }

    /// The last task of a process has ended.
    fn end_process(self: &Arc<Self>, status: i32) {
        let process = &self.process;
        process.timers.clear(true);
        if process.is_first_of_namespace() {
            self.end_namespace();
        }
        self.spaces().ipc.holds.semaphores.undo(process.pid);
        let mut letters = Letters::new();
        let (parent, terminal) = {
            let mut tree = self.kernel.pids.lock();
            give_children_away(&mut tree, process, &mut letters);
            let group = tree.group_of(process.pid);
            let orphaned = tree.parent_is_outside(process.pid, group) && tree.is_orphaned(group, Some(process.pid));
            if orphaned {
                hang_up(&tree, group, &mut letters);
            }
            let session = tree.session_of(process.pid).filter(|session| session.id == process.pid);
            let parent = self.report_end(&mut tree, status, &mut letters);
            (parent, session)
        };
        if let Some(session) = terminal {
            let terminal = session.terminal.lock().take();
            if let Some(terminal) = terminal {
                terminal.released(&session);
            }
        }
        for (process, info) in letters {
            // Linux doesn't tell anybody either that this didn't fit.
            let _ = send_by(self, Target::Process(&process), info);
        }
        if let Some(parent) = parent {
            parent.children.wake(Events::READABLE);
        }
        release_init(&self.kernel, &process.space);
        if process.pid == 1 {
            // Without its first process a sandbox is over.
            for other in self.kernel.pids.processes() {
                other.end(c::SIGKILL as i32);
            }
        }
    }

    /// With its first process a PID namespace is over.
    fn end_namespace(&self) {
        let space = &self.process.space;
        space.close();
        for other in self.kernel.pids.processes() {
            if other.pid != self.process.pid && other.space.is_within(space) {
                let info = Siginfo { signo: c::SIGKILL as i32, code: c::SI_KERNEL as i32, ..Siginfo::default() };
                let _ = send_from_outside(Target::Process(&other), info);
            }
        }
    }

    /// The parent may wait for it, unless it doesn't want to.
    fn report_end(&self, tree: &mut Tree, status: i32, letters: &mut Letters) -> Option<Arc<Process>> {
        let process = &self.process;
        let node = tree.nodes.get_mut(&process.pid)?;
        node.ended = true;
        let (exit_signal, parent) = (node.exit_signal, node.parent);
        // Who waits for the first of a namespace may count on all the others being gone.
        let waits = process.is_first_of_namespace() && tree.is_inhabited(&process.space);
        let tracer = if waits { None } else { relation::process_has_ended(process, parent, status) };
        if (waits || tracer.is_some())
            && let Some(node) = tree.nodes.get_mut(&process.pid)
        {
            node.tracer_first = true;
        }
        if waits {
            return None;
        }
        if let Some(tracer) = tracer {
            let (code, value) = super::wait::code_of(status);
            let (user, system) = process.times();
            let uid = self.credentials().uid.real;
            letters.push((tracer.clone(), Siginfo::child(code, process.pid, uid, value, ticks(user), ticks(system))));
            return Some(tracer);
        }
        let Some(parent) = tree.process(parent) else {
            // The world outside asks the process itself.
            tree.remove(process.pid);
            return None;
        };
        let (user, system) = process.times();
        let uid = self.credentials().uid.real;
        if notify_end(&parent, process.pid, exit_signal, status, uid, (user, system), letters) {
            tree.remove(process.pid);
        }
        Some(parent)
    }

    /// Processes that this thread made are told of its end, if they asked (`PR_SET_PDEATHSIG`), and go on as its process's.
    fn tell_children_of_maker(&self, tid: i32) {
        let mut letters = Letters::new();
        {
            let mut tree = self.kernel.pids.lock();
            let heir = self.process.leader().map_or(self.process.pid, |task| task.tid());
            for node in tree.nodes.values_mut().filter(|node| node.parent == self.process.pid && node.maker == tid) {
                node.maker = heir;
                tell_of_parents_end(node, self.process.pid, &mut letters);
            }
        }
        for (process, info) in letters {
            let _ = send(Target::Process(&process), info);
        }
    }
}

/// Somebody has ended in these namespaces: the first process of one that has ended, too, and in which nobody is left, is its parent's.
fn release_init(kernel: &Kernel, space: &PidNamespace) {
    let mut at = Some(space);
    while let Some(space) = at.filter(|space| !space.is_first()) {
        let over = {
            let tree = kernel.pids.lock();
            let init =
                space.init().and_then(|init| tree.nodes.get(&init)).filter(|init| init.ended && init.process.space == *space);
            init.filter(|_| !tree.is_inhabited(space)).map(|init| init.process.pid)
        };
        if let Some(init) = over {
            give_to_parent(kernel, init);
        }
        at = space.parent();
    }
}

/// A process that has ended, and that its tracer doesn't wait for any more, is its parent's.
pub(crate) fn give_to_parent(kernel: &Kernel, pid: i32) {
    let mut letters = Letters::new();
    let parent = {
        let mut tree = kernel.pids.lock();
        let Some(node) = tree.nodes.get_mut(&pid).filter(|node| node.tracer_first) else { return };
        node.tracer_first = false;
        let (parent, exit_signal, process) = (node.parent, node.exit_signal, node.process.clone());
        let Some(parent) = tree.process(parent) else {
            tree.remove(pid);
            return;
        };
        let (status, uid) = (process.status().unwrap_or_default(), process.uid.load(Ordering::Relaxed));
        if notify_end(&parent, pid, exit_signal, status, uid, process.times(), &mut letters) {
            tree.remove(pid);
        }
        parent
    };
    for (process, info) in letters {
        let _ = send(Target::Process(&process), info);
    }
    parent.children.wake(Events::READABLE);
}

/// Tells a parent of an end; answers whether it doesn't want to wait for it.
fn notify_end(
    parent: &Arc<Process>,
    pid: i32,
    exit_signal: i32,
    status: i32,
    uid: u32,
    times: (u64, u64),
    letters: &mut Letters,
) -> bool {
    let mut unwanted = false;
    if exit_signal == c::SIGCHLD as i32 {
        let action = parent.actions().lock().get(exit_signal);
        unwanted = action.handler == IGNORE || action.flags & u64::from(c::SA_NOCLDWAIT) != 0;
    }
    if exit_signal != 0 {
        let (code, value) = super::wait::code_of(status);
        let mut info = Siginfo::child(code, pid, uid, value, ticks(times.0), ticks(times.1));
        info.signo = exit_signal;
        letters.push((parent.clone(), info));
    }
    unwanted
}

/// Children of a process that ends get another parent: the nearest above it that takes orphans, else the sandbox's init, else
/// the world outside, which doesn't ask how they end.
fn give_children_away(tree: &mut Tree, process: &Arc<Process>, letters: &mut Letters) {
    let Some(node) = tree.nodes.get_mut(&process.pid) else { return };
    let (group, session) = (node.group, node.session.id);
    let children = core::mem::take(&mut node.children);
    if children.is_empty() {
        return;
    }
    // Those of the first in a namespace end with it.
    let heir = if process.is_first_of_namespace() { None } else { reaper(tree, process) };
    let heir_process = heir.and_then(|heir| tree.process(heir));
    for pid in children {
        let Some(child) = tree.nodes.get_mut(&pid) else { continue };
        child.parent = heir.unwrap_or(0);
        child.maker = child.parent;
        child.adopted = heir.is_none();
        tell_of_parents_end(child, process.pid, letters);
        let (ended, child_group, child_session) = (child.ended, child.group, child.session.id);
        let tracer_first = child.tracer_first;
        // Whoever takes orphans in expects the usual signal.
        child.exit_signal = if child.exit_signal == 0 { 0 } else { c::SIGCHLD as i32 };
        let (exit_signal, child_process) = (child.exit_signal, child.process.clone());
        match &heir_process {
            Some(parent) => {
                if let Some(node) = tree.nodes.get_mut(&parent.pid) {
                    node.children.insert(pid);
                }
                if ended && !tracer_first {
                    let status = child_process.status().unwrap_or_default();
                    if notify_end(
                        parent,
                        pid,
                        exit_signal,
                        status,
                        child_process.uid.load(Ordering::Relaxed),
                        child_process.times(),
                        letters,
                    ) {
                        tree.remove(pid);
                    }
                    parent.children.wake(Events::READABLE);
                }
            }
            None if ended && !tracer_first => drop(tree.remove(pid)),
            None => {}
        }
        if child_group != group && child_session == session && tree.is_orphaned(child_group, Some(process.pid)) {
            hang_up(tree, child_group, letters);
        }
    }
}

/// Who takes in the children of a process: one of its own namespace.
fn reaper(tree: &Tree, process: &Process) -> Option<i32> {
    let mut at = tree.parent(process.pid);
    // A tree has no circles, so this ends; the bound is for the reader.
    for _ in 0..super::pids::MOST {
        let Some(node) = tree.nodes.get(&at).filter(|node| node.process.space == process.space) else { break };
        if node.process.subreaper.load(Ordering::Relaxed) && !node.ended {
            return Some(at);
        }
        at = node.parent;
    }
    let init = process.space.init().unwrap_or(1);
    tree.nodes.get(&init).filter(|node| node.process.is_init() && process.pid != init && !node.ended).map(|_| init)
}

/// Sends what a process asked to be sent when its parent ends.
fn tell_of_parents_end(child: &Node, parent: i32, letters: &mut Letters) {
    for task in child.process.tasks() {
        let signal = task.parent_death_signal.load(Ordering::Relaxed);
        if signal != 0 {
            letters.push((child.process.clone(), Siginfo::sent(signal, c::SI_USER as i32, parent, 0)));
        }
    }
}

/// A group has become orphaned: if a member is stopped, nobody is left to continue it, so all are told and continued.
fn hang_up(tree: &Tree, group: i32, letters: &mut Letters) {
    let members = tree.members(group);
    if members.iter().any(|process| process.lock().stop.is_some()) {
        for process in members {
            for signal in [c::SIGHUP, c::SIGCONT] {
                let info = Siginfo { signo: signal as i32, code: c::SI_KERNEL as i32, ..Siginfo::default() };
                letters.push((process.clone(), info));
            }
        }
    }
}

impl Tree {
    /// Whether somebody in a PID namespace hasn't ended.
    fn is_inhabited(&self, space: &PidNamespace) -> bool {
        self.nodes.values().any(|node| !node.ended && node.process.space.is_within(space))
    }

    /// Whether a process is one that keeps its group from being orphaned: its parent is of another group of the same session.
    fn parent_is_outside(&self, pid: i32, group: i32) -> bool {
        let Some(node) = self.nodes.get(&pid) else { return false };
        self.nodes.get(&node.parent).is_some_and(|parent| parent.group != group && parent.session.id == node.session.id)
    }
}
