//! Sending signals, and who may.

use super::action::{BY_DEFAULT, Default as DefaultAction};
use super::{FIRST_QUEUED, Pending, SigSet};
use crate::task::{Credentials, Process, Task};
use crate::trace::relation;
use crate::{Errno, Result};
use alloc::sync::Arc;
use insula_abi::general as c;
use insula_abi::signal::{Sigaction, Siginfo};

/// Whom a signal is sent to.
#[derive(Clone, Copy)]
pub enum Target<'a> {
    /// Any task of the process that doesn't block it.
    Process(&'a Arc<Process>),
    /// This task.
    Task(&'a Arc<Task>),
}

/// The status of a process that a signal ended, as wait(2) tells it.
pub const fn status_of(signal: i32, dumped: bool) -> i32 {
    signal & 0x7f | if dumped { 0x80 } else { 0 }
}

/// Sends a signal. It is not checked who may; see [`may_signal`]. Must not be called with the process tree locked.
///
/// # Errors
/// `EAGAIN`: too many are queued (`RLIMIT_SIGPENDING`), and what it carries must not be lost.
pub fn send(target: Target<'_>, info: Siginfo) -> Result<()> {
    send_from(target, info, false)
}

/// Sends a signal from outside the sandbox: `SIGKILL` and `SIGSTOP` reach even its init.
///
/// # Errors
/// See [`send`].
pub fn send_from_outside(target: Target<'_>, info: Siginfo) -> Result<()> {
    send_from(target, info, true)
}

/// Sends a signal for `sender`: to who is in a PID namespace below, it is one from outside.
///
/// # Errors
/// See [`send`].
pub fn send_by(sender: &Task, target: Target<'_>, info: Siginfo) -> Result<()> {
    let process = match target {
        Target::Process(process) => process,
        Target::Task(task) => &task.process,
    };
    send_from(target, info, !sender.process.space.is_within(&process.space))
}

fn send_from(target: Target<'_>, info: Siginfo, outside: bool) -> Result<()> {
    let process = match target {
        Target::Process(process) => process.clone(),
        Target::Task(task) => task.process.clone(),
    };
    let signal = info.signo;
    if !(1..=super::LAST).contains(&signal) {
        return Err(Errno::EINVAL);
    }
    super::stop::prepare(&process, signal);
    if signal == c::SIGKILL as i32 {
        if !is_protected(&process, signal, outside) {
            process.end(status_of(signal, false));
            relation::killed(&process);
        }
        return Ok(());
    }
    let chosen = {
        let mut state = process.lock();
        if state.ended {
            return Ok(());
        }
        let info = state.threads.values().next().map_or(info, |task| told(task, info));
        let first = match target {
            Target::Task(task) => Some(task),
            Target::Process(_) => state.threads.get(&process.pid),
        };
        // A tracer wants to know of what is ignored, too.
        let ignored = (process.actions().lock().ignores(signal) || is_protected(&process, signal, outside))
            && !first.is_some_and(|task| task.is_traced());
        let taker = match target {
            Target::Task(task) => Some(task.clone()),
            Target::Process(_) => choose(&state, process.pid, signal),
        };
        // What is ignored but blocked may be waited for, or unignored before it is taken.
        let blocked = match target {
            Target::Task(task) => task.signals().blocked.has(signal),
            Target::Process(_) => state.threads.values().all(|task| task.signals().blocked.has(signal)),
        };
        if ignored && !blocked {
            return Ok(());
        }
        let limit = usize::try_from(process.limit(c::RLIMIT_SIGPENDING)).unwrap_or(usize::MAX);
        let queued = state.pending.len() + state.threads.values().map(|task| task.signals().pending.len()).sum::<usize>();
        let kept = {
            let add = |pending: &mut Pending| add(pending, info, limit.saturating_sub(queued));
            match target {
                Target::Task(task) => add(&mut task.signals().pending),
                Target::Process(_) => add(&mut state.pending),
            }
        };
        kept?;
        taker.filter(|task| task.signals().takes(signal))
    };
    if let Some(task) = chosen {
        task.interrupt();
    }
    process.notify_pending();
    Ok(())
}

/// As a task is told it: with the numbers that the sender has where the task is.
fn told(task: &Task, info: Siginfo) -> Siginfo {
    if info.has_sender() { info.from(task.name_of(info.pid()), task.credentials().space.show_user(info.uid())) } else { info }
}

fn add(pending: &mut Pending, info: Siginfo, room: usize) -> Result<()> {
    // A process that sends with a value must know whether it got through; kill(2) never fails for this.
    if room == 0 && info.signo >= FIRST_QUEUED && info.code != c::SI_USER as i32 {
        return Err(Errno::EAGAIN);
    }
    pending.push(info, room);
    Ok(())
}

/// Which task is to take a process's signal: the first one, unless it blocks it.
fn choose(state: &crate::task::process::State, pid: i32, signal: i32) -> Option<Arc<Task>> {
    let first = state.threads.get(&pid);
    first.into_iter().chain(state.threads.values()).find(|task| task.signals().takes(signal)).cloned()
}

/// Whether the first process doesn't get this signal: from inside, it only gets those it has a handler for, unless it is an
/// [ordinary](Process::ordinary) command.
pub(super) fn is_protected(process: &Process, signal: i32, outside: bool) -> bool {
    let fatal = SigSet::UNSTOPPABLE.has(signal);
    process.is_init() && !(outside && fatal) && process.actions().lock().get(signal).handler == BY_DEFAULT
}

/// Whether a signal that waits ends the task's process without more ado. As with Linux, one that would leave an image of its memory doesn't.
pub(crate) fn is_doomed(task: &Task) -> bool {
    let deliverable = task.deliverable();
    let actions = task.process.actions();
    let ends = |signal, handler| handler == BY_DEFAULT && DefaultAction::of(signal) == DefaultAction::End;
    let fatal = actions.lock().all(|all, signal| ends(signal, all.get(signal).handler));
    !task.is_traced() && !task.process.is_init() && !deliverable.and(fatal).is_empty()
}

/// Sends a signal that the task's own instructions caused: if it can't be taken, it ends the process.
pub fn force(task: &Arc<Task>, info: Siginfo) {
    let signal = info.signo;
    let actions = task.process.actions();
    {
        let mut actions = actions.lock();
        let mut own = task.signals();
        if own.blocked.has(signal) || actions.ignores(signal) {
            own.blocked = own.blocked.without(SigSet::one(signal));
            actions.set(signal, Sigaction::default());
        }
        own.pending.push(info, 1);
    }
    // Even an init ends if it can't go on.
    let deadly = !actions.lock().catches(signal) && matches!(DefaultAction::of(signal), DefaultAction::End | DefaultAction::Dump);
    if deadly && task.process.is_init() && !task.is_traced() {
        task.process.end(status_of(signal, false));
    }
    task.interrupt();
}

/// Tells a task that it writes to where nobody reads; answers the error that it gets as well.
pub fn broken_pipe(task: &Arc<Task>) -> Errno {
    let uid = task.credentials().uid.real;
    let info = Siginfo::sent(c::SIGPIPE as i32, c::SI_USER as i32, task.process.pid, uid);
    // A standard signal is never refused for want of room.
    let _ = send(Target::Task(task), info);
    Errno::EPIPE
}

/// Ends the process as if by a signal that it can't take.
pub fn force_fatal(task: &Arc<Task>, signal: i32) {
    task.process.end(status_of(signal, false));
}

/// Whether `sender` may send `signal` to `target`, kill(2).
///
/// # Errors
/// `EPERM`.
pub fn may_signal(sender: &Arc<Task>, target: &Arc<Process>, signal: i32) -> Result<()> {
    if Arc::ptr_eq(&sender.process, target) {
        return Ok(());
    }
    let credentials = sender.credentials();
    // Who has ended is still somebody; only who they were is gone.
    let Some(other) = target.leader().map(|task| task.credentials()) else { return Ok(()) };
    if same_user(&credentials, &other) || credentials.has_in(&other.space, c::CAP_KILL) {
        return Ok(());
    }
    if signal == c::SIGCONT as i32 {
        let tree = sender.kernel().pids.lock();
        let session = |pid| tree.session_of(pid).map(|session| session.id);
        if session(sender.process.pid) == session(target.pid) {
            return Ok(());
        }
    }
    Err(Errno::EPERM)
}

fn same_user(sender: &Credentials, target: &Credentials) -> bool {
    [sender.uid.effective, sender.uid.real].iter().any(|uid| *uid == target.uid.saved || *uid == target.uid.real)
}

impl Process {
    /// Somebody may wait for what is pending (signalfd).
    pub(crate) fn notify_pending(&self) {
        self.pending_changed.wake(crate::wait::Events::READABLE);
    }
}
