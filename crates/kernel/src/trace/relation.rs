//! Who traces whom.

use super::{Pace, Report, Tracer, Tracked};
use crate::signal::send::{Target, send, send_from_outside};
use crate::signal::stop::ticks;
use crate::task::clone::Request;
use crate::task::wait::code_of;
use crate::task::{Process, Task};
use crate::wait::Events;
use crate::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use insula_abi::general as c;
use insula_abi::ptrace as p;
use insula_abi::signal::Siginfo;

/// `tracer` traces `task` from now on.
///
/// # Errors
/// `EPERM`: somebody does already, or it has ended.
fn begin(tracer: &Arc<Task>, task: &Arc<Task>, seized: bool, options: u32) -> Result<()> {
    // Both under one lock: who ends must find those that it is to let go.
    let mut tracees = tracer.process.tracees.lock();
    let mut trace = task.trace.lock();
    if trace.by.is_some() || task.has_ended() || tracer.has_ended() {
        return Err(Errno::EPERM);
    }
    trace.by = Some(Tracer { task: Arc::downgrade(tracer), seized, options });
    trace.pace = Pace::Free;
    trace.passed_group_stop = false;
    task.confinement.set_traced(true);
    tracees.insert(task.tid(), Tracked { task: task.clone(), tracer: tracer.tid(), ended: None });
    if task.tid() == task.process.pid {
        *task.process.first_traced_by.lock() = Arc::downgrade(&tracer.process);
    }
    Ok(())
}

/// `PTRACE_TRACEME`: its parent traces it.
///
/// # Errors
/// `EPERM`: somebody does already, the parent is outside or may not.
pub(super) fn by_parent(task: &Arc<Task>) -> Result<()> {
    let kernel = task.kernel();
    let maker = kernel.pids.lock().nodes.get(&task.process.pid).map(|node| (node.parent, node.maker));
    let (parent, maker) = maker.ok_or(Errno::EPERM)?;
    let maker = kernel.pids.task(maker).filter(|maker| maker.process.pid == parent);
    let tracer = maker.or_else(|| kernel.pids.process(parent)?.leader()).ok_or(Errno::EPERM)?;
    if !tracer.may_attach(task) {
        return Err(Errno::EPERM);
    }
    begin(&tracer, task, false, 0)
}

/// `PTRACE_ATTACH` and `PTRACE_SEIZE`.
///
/// # Errors
/// `EPERM`.
pub(super) fn attach(tracer: &Arc<Task>, task: &Arc<Task>, seized: bool, options: u32) -> Result<()> {
    if Arc::ptr_eq(&tracer.process, &task.process) || !tracer.may_attach(task) {
        return Err(Errno::EPERM);
    }
    begin(tracer, task, seized, options)?;
    if !seized {
        let _ = send_from_outside(Target::Task(task), Siginfo::sent(c::SIGSTOP as i32, c::SI_KERNEL as i32, 0, 0));
    }
    // Who stands still with its group does so for its tracer now.
    task.interrupt();
    Ok(())
}

/// A new child, which is not placed yet: its maker's tracer traces it as well, if it wants to, and is told of it.
pub(crate) fn inherit(maker: &Task, child: &Arc<Task>, request: &Request) {
    let Some(by) = maker.trace.lock().by.clone() else { return };
    let (option, event) = match () {
        () if request.has(c::CLONE_VFORK) => (p::PTRACE_O_TRACEVFORK, p::PTRACE_EVENT_VFORK),
        () if request.exit_signal != c::SIGCHLD as i32 => (p::PTRACE_O_TRACECLONE, p::PTRACE_EVENT_CLONE),
        () => (p::PTRACE_O_TRACEFORK, p::PTRACE_EVENT_FORK),
    };
    let told = by.options & option != 0 && !request.has(c::CLONE_UNTRACED);
    if told {
        maker
            .trace
            .lock()
            .reports
            .push_back(Report::Event(event, by.task.upgrade().map_or(0, |tracer| tracer.name_of(child.tid())) as u64));
    }
    if !told && !request.has(c::CLONE_PTRACE) {
        return;
    }
    let Some(tracer) = by.task.upgrade() else { return };
    if begin(&tracer, child, by.seized, by.options).is_err() {
        return;
    }
    if by.seized {
        child.trace.lock().trap = true;
    } else {
        let stop = Siginfo::sent(c::SIGSTOP as i32, c::SI_USER as i32, 0, 0);
        child.signals().pending.push(stop, 1);
    }
    child.set_attention(true);
}

/// A new child never was.
pub(crate) fn abandon(maker: &Task, child: &Task) {
    maker.trace.lock().reports.clear();
    if let Some(tracer) = child.tracer() {
        let tracked = tracer.process.tracees.lock().remove(&child.tid());
        drop(tracked);
    }
    child.trace.lock().by = None;
}

/// A task has begun a new program, and with it taken over its process's number; `before` was its own.
pub(crate) fn executed(task: &Arc<Task>, before: i32) {
    let process = &task.process;
    if process.pid != before {
        // The first task is gone without a word.
        if let Some(tracer) = process.first_tracer() {
            tracer.tracees.lock().remove(&process.pid);
        }
        *process.first_traced_by.lock() = Weak::new();
    }
    let Some(tracer) = task.tracer() else { return };
    if process.pid != before {
        let mut tracees = tracer.process.tracees.lock();
        if let Some(tracked) = tracees.remove(&before) {
            tracees.insert(process.pid, tracked);
        }
        *process.first_traced_by.lock() = Arc::downgrade(&tracer.process);
    }
    let mut trace = task.trace.lock();
    if trace.has(p::PTRACE_O_TRACEEXEC) {
        trace.reports.push_back(Report::Event(p::PTRACE_EVENT_EXEC, before as u64));
    } else if !trace.is_seized() {
        drop(trace);
        let trap = Siginfo::sent(c::SIGTRAP as i32, c::SI_USER as i32, process.pid, task.credentials().uid.real);
        let _ = send(Target::Task(task), trap);
    }
}

/// Whether a program that `task` begins may gain privileges: not if its tracer has none.
pub(crate) fn may_gain(task: &Task) -> bool {
    !task.is_traced()
        || task.tracer().is_none_or(|tracer| tracer.credentials().has_in(&task.credentials().space, c::CAP_SYS_PTRACE))
}

/// `task` goes its own way, with this signal.
pub(super) fn release(task: &Arc<Task>, signal: i32) {
    if task.tid() == task.process.pid {
        *task.process.first_traced_by.lock() = Weak::new();
    }
    let mut trace = task.trace.lock();
    trace.by = None;
    trace.reports.clear();
    trace.pace = Pace::Free;
    trace.trap = false;
    trace.passed_group_stop = false;
    match &mut trace.stop {
        Some(stop) => drop(stop.resumed.get_or_insert(signal)),
        // Else the bit goes when the stop is over.
        None => task.confinement.set_traced(false),
    }
    drop(trace);
    // If its group stands still, so does it.
    task.interrupt();
}

/// `task` ends, and traces nobody any more.
pub(crate) fn leave(task: &Arc<Task>) {
    let own = |tracked: &Tracked| tracked.tracer == task.tid();
    let left: Vec<_> = {
        let mut tracees = task.process.tracees.lock();
        let numbers: Vec<i32> = tracees.iter().filter(|(_, tracked)| own(tracked)).map(|(number, _)| *number).collect();
        numbers.into_iter().filter_map(|number| tracees.remove(&number)).collect()
    };
    for Tracked { task: tracee, ended, .. } in left {
        if ended.is_some() {
            if tracee.tid() == tracee.process.pid {
                crate::task::exit::give_to_parent(task.kernel(), tracee.process.pid);
            }
            continue;
        }
        let kills = tracee.trace.lock().has(p::PTRACE_O_EXITKILL);
        release(&tracee, 0);
        if kills {
            let _ =
                send_from_outside(Target::Process(&tracee.process), Siginfo::sent(c::SIGKILL as i32, c::SI_KERNEL as i32, 0, 0));
        }
    }
}

/// The group of `process` goes on, by `SIGCONT`.
pub(crate) fn group_goes_on(task: &Task) {
    let mut trace = task.trace.lock();
    if trace.is_seized() {
        trace.trap = true;
        if let Some(stop) = trace.stop.as_mut().filter(|stop| stop.listening) {
            stop.resumed = Some(0);
        }
    }
}

/// `process` is killed: who only waits to tell that it is about to end waits no more.
pub(crate) fn killed(process: &Process) {
    for task in process.tasks().iter().filter(|task| task.is_traced()) {
        let mut trace = task.trace.lock();
        if let Some(stop) = &mut trace.stop
            && let Report::Event(p::PTRACE_EVENT_EXIT, _) = stop.report
        {
            stop.resumed.get_or_insert(0);
        }
        drop(trace);
        task.wake();
    }
}

/// The group stops by a signal once more: those that were let go on while it stood still stop again.
pub(crate) fn stop_again(task: &Task) {
    if task.is_traced() {
        task.trace.lock().passed_group_stop = false;
        task.set_attention(true);
    }
}

/// A task that isn't its process's first has ended, with this status: its tracer may wait for that, and nobody else.
pub(crate) fn thread_has_ended(task: &Task, status: i32) {
    let Some(tracer) = task.tracer() else { return };
    if let Some(tracked) = tracer.process.tracees.lock().get_mut(&task.tid()) {
        tracked.ended = Some(status);
    }
    let (code, value) = code_of(status);
    let (user, system) = task.times();
    let info = Siginfo::child(code, task.tid(), task.credentials().uid.real, value, ticks(user), ticks(system));
    // The end itself can be waited for, if the queue is full.
    let _ = send(Target::Process(&tracer.process), info);
    tracer.process.children.wake(Events::READABLE);
}

/// A process has ended. If a tracer is to wait for it before its parent, answers that one. The process tree is locked.
pub(crate) fn process_has_ended(process: &Process, parent: i32, status: i32) -> Option<Arc<Process>> {
    let tracer = process.first_tracer()?;
    let mut tracees = tracer.tracees.lock();
    if tracer.pid == parent {
        // It hears of it once.
        tracees.remove(&process.pid);
        return None;
    }
    tracees.get_mut(&process.pid)?.ended = Some(status);
    drop(tracees);
    Some(tracer)
}

/// Whether a process traces the first task of another.
pub(crate) fn traces(tracer: i32, process: &Process) -> bool {
    process.first_tracer().is_some_and(|first| first.pid == tracer)
}

impl Process {
    /// The tracer of its first task.
    fn first_tracer(&self) -> Option<Arc<Process>> {
        self.first_traced_by.lock().upgrade()
    }
}
