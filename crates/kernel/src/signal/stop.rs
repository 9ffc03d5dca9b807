//! Stopping and going on.

use super::send::{Target, send};
use super::{DefaultAction, SigSet};
use crate::flow::Blocked;
use crate::task::pids::Report;
use crate::task::{Process, Task};
use crate::trace::relation;
use crate::wait::Events;
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::task::Poll;
use insula_abi::general as c;
use insula_abi::signal::Siginfo;

/// A process that is stopped, or about to be.
pub(crate) struct Stop {
    /// By which signal.
    pub signal: i32,
    /// Tasks that have stopped.
    pub stopped: BTreeSet<i32>,
    /// All have, and the parent was told.
    pub complete: bool,
}

/// Before `signal` is sent: what stops and what goes on undo each other, even if they are blocked or ignored.
pub(super) fn prepare(process: &Arc<Process>, signal: i32) {
    if DefaultAction::of(signal) == DefaultAction::Stop {
        discard(process, SigSet::one(c::SIGCONT as i32));
        return;
    }
    if signal == c::SIGCONT as i32 {
        discard(process, SigSet::STOPS);
        resume(process);
    }
}

fn discard(process: &Process, set: SigSet) {
    let mut state = process.lock();
    state.pending.discard(set);
    for task in state.threads.values() {
        task.signals().pending.discard(set);
    }
}

/// A stopped process goes on, and its parent may know.
fn resume(process: &Arc<Process>) {
    let (stop, tasks): (_, Vec<_>) = {
        let mut state = process.lock();
        (state.stop.take(), state.threads.values().cloned().collect())
    };
    let Some(stop) = stop else { return };
    for task in &tasks {
        if task.is_traced() {
            relation::group_goes_on(task);
        }
        task.interrupt();
    }
    if stop.complete
        && let Some(task) = tasks.first()
    {
        tell_parent(task, process, Report::Continued);
    }
}

/// The parent may wait for this change, and is sent `SIGCHLD` unless it doesn't want it.
fn tell_parent(task: &Task, process: &Process, report: Report) {
    let (code, status) = match report {
        Report::Stopped(signal) => (c::CLD_STOPPED, signal),
        Report::Continued => (c::CLD_CONTINUED, c::SIGCONT as i32),
    };
    let parent = {
        let mut tree = task.kernel().pids.lock();
        let Some(node) = tree.nodes.get_mut(&process.pid) else { return };
        let parent = node.parent;
        // Who traces its own child hears of it as a tracer.
        if relation::traces(parent, process) {
            return;
        }
        node.report = Some(report);
        tree.process(parent)
    };
    let Some(parent) = parent else { return };
    let action = parent.actions().lock().get(c::SIGCHLD as i32);
    if action.flags & u64::from(c::SA_NOCLDSTOP) == 0 {
        let (user, system) = process.times();
        let uid = task.credentials().uid.real;
        let info = Siginfo::child(code as i32, process.pid, uid, status, ticks(user), ticks(system));
        // Nobody is to be told that a parent's queue is full: the state itself can still be waited for.
        let _ = send(Target::Process(&parent), info);
    }
    parent.children.wake(Events::READABLE);
}

/// Nanoseconds as clock ticks, a hundred a second.
pub(crate) const fn ticks(nanos: u64) -> u64 {
    nanos / 10_000_000
}

/// `task` has taken a signal that stops its process.
pub(super) fn begin(task: &Arc<Task>, signal: i32) {
    let tasks: Vec<_> = {
        let mut state = task.process.lock();
        if state.ending.is_some() || state.replacing.is_some() {
            return;
        }
        if state.stop.is_some() {
            relation::stop_again(task);
            return;
        }
        state.stop = Some(Stop { signal, stopped: BTreeSet::new(), complete: false });
        state.threads.values().cloned().collect()
    };
    for other in tasks {
        other.interrupt();
    }
}

/// Where a task of a stopped process waits until it goes on, or is to end; none if it isn't stopped.
pub(super) fn hold(task: &Arc<Task>) -> Option<Blocked> {
    // A tracee stands still for its tracer.
    if task.is_traced() && task.trace.lock().by.is_some() || !take_part(task) {
        return None;
    }
    let task = task.clone();
    Some(Box::pin(poll_fn(move |context| {
        task.wait_with(context.waker());
        let state = task.process.lock();
        if state.stop.is_none() || state.ending.is_some() || state.replacing.is_some() || task.is_traced() {
            Poll::Ready(Ok(0))
        } else {
            Poll::Pending
        }
    })))
}

/// A task stands still with its process; whether that is stopped at all.
pub(crate) fn take_part(task: &Arc<Task>) -> bool {
    {
        let mut state = task.process.lock();
        if state.ending.is_some() || state.replacing.is_some() {
            return false;
        }
        let Some(stop) = &mut state.stop else { return false };
        stop.stopped.insert(task.tid());
    }
    check_complete(task);
    true
}

/// If all tasks have stopped, the parent is told. Called whenever one stops or ends.
pub(crate) fn check_complete(task: &Arc<Task>) {
    let signal = {
        let mut state = task.process.lock();
        let tids: Vec<i32> = state.threads.keys().copied().collect();
        let Some(stop) = state.stop.as_mut() else { return };
        if stop.complete || tids.is_empty() || !tids.iter().all(|tid| stop.stopped.contains(tid)) {
            return;
        }
        stop.complete = true;
        stop.signal
    };
    tell_parent(task, &task.process, Report::Stopped(signal));
    task.process.changed.wake(Events::READABLE);
}
