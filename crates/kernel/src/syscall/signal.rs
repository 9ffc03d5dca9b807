//! Signals: `rt_sigaction rt_sigprocmask kill` and their kin.

use super::{Args, Cx, Entry, full};
use crate::fs::Description;
use crate::fs::pseudo::Node;
use crate::signal::send::{Target, may_signal, send_by};
use crate::signal::{self, SigSet, frame};
use crate::task::pidfd::Pidfd;
use crate::task::{Process, Task, users};
use crate::wait::{Ended, until_woken};
use crate::{Errno, Flow, Result, SysResult};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use insula_abi::Sysno;
use insula_abi::general as c;
use insula_abi::signal::{Sigaction, Siginfo, Stack};
use insula_abi::time::Timespec;

pub(crate) const CALLS: &[Entry] = &[
    full(Sysno::rt_sigaction, sigaction),
    full(Sysno::rt_sigprocmask, sigprocmask),
    full(Sysno::rt_sigpending, sigpending),
    full(Sysno::rt_sigsuspend, sigsuspend),
    full(Sysno::rt_sigtimedwait, sigtimedwait),
    full(Sysno::rt_sigreturn, |cx, _| {
        cx.task.signals().returning = true;
        cx.task.set_attention(true);
        Ok(Flow::Registers)
    }),
    full(Sysno::sigaltstack, sigaltstack),
    full(Sysno::pause, |cx, _| wait_for_signal(cx)),
    full(Sysno::restart_syscall, |cx, _| {
        let restart = cx.task.restart.lock().take();
        match restart {
            Some(restart) => restart(cx),
            None => Err(Errno::EINTR),
        }
    }),
    full(Sysno::kill, kill),
    full(Sysno::tkill, |cx, [tid, signal, ..]| kill_task(cx, None, tid as i32, signal as i32)),
    full(Sysno::tgkill, |cx, [pid, tid, signal, ..]| {
        if pid as i32 <= 0 {
            return Err(Errno::EINVAL);
        }
        kill_task(cx, Some(pid as i32), tid as i32, signal as i32)
    }),
    full(Sysno::rt_sigqueueinfo, sigqueueinfo),
    full(Sysno::rt_tgsigqueueinfo, tgsigqueueinfo),
    full(Sysno::pidfd_send_signal, pidfd_send_signal),
];

/// Bytes of a set of signals, as all these calls must say.
const SET: u64 = 8;

/// Reads a set of signals of `size` bytes.
///
/// # Errors
/// `EINVAL`, `EFAULT`.
pub(super) fn read_set(task: &Task, address: u64, size: u64) -> Result<SigSet> {
    if size != SET {
        return Err(Errno::EINVAL);
    }
    Ok(SigSet::blockable(task.mm().get(address)?))
}

/// Flags of actions that mean something; others are kept out, so that programs can find out (sigaction(2), `SA_UNSUPPORTED`).
const FLAGS: u64 = (c::SA_NOCLDSTOP
    | c::SA_NOCLDWAIT
    | c::SA_SIGINFO
    | c::SA_ONSTACK
    | c::SA_RESTART
    | c::SA_NODEFER
    | c::SA_RESETHAND
    | c::SA_RESTORER) as u64;

fn sigaction(cx: &mut Cx<'_>, [signal, new, old, size, ..]: Args) -> SysResult {
    if size != SET {
        return Err(Errno::EINVAL);
    }
    let signal = signal as i32;
    let mm = cx.task.mm();
    let action = if new == 0 { None } else { Some(mm.get::<Sigaction>(new)?) };
    if !(1..=signal::LAST).contains(&signal) || action.is_some() && SigSet::UNSTOPPABLE.has(signal) {
        return Err(Errno::EINVAL);
    }
    let actions = cx.task.process.actions();
    let before = {
        let mut actions = actions.lock();
        let before = actions.get(signal);
        if let Some(action) = action {
            let mask = SigSet::blockable(action.mask).0;
            actions.set(signal, Sigaction { flags: action.flags & FLAGS, mask, ..action });
        }
        before
    };
    if action.is_some() && actions.lock().ignores(signal) {
        // POSIX: what is pending and now ignored is forgotten.
        let mut state = cx.task.process.lock();
        let set = SigSet::one(signal);
        state.pending.discard(set);
        for task in state.threads.values() {
            task.signals().pending.discard(set);
        }
    }
    if old != 0 {
        mm.put(old, &before)?;
    }
    Ok(Flow::Done(0))
}

fn sigprocmask(cx: &mut Cx<'_>, [how, set, old, size, ..]: Args) -> SysResult {
    if size != SET {
        return Err(Errno::EINVAL);
    }
    let before = cx.task.signals().blocked;
    if set != 0 {
        let set = read_set(cx.task, set, size)?;
        let blocked = match how as u32 {
            c::SIG_BLOCK => before.with(set),
            c::SIG_UNBLOCK => before.without(set),
            c::SIG_SETMASK => set,
            _ => return Err(Errno::EINVAL),
        };
        cx.task.set_blocked(blocked);
    }
    if old != 0 {
        cx.task.mm().put(old, &before.0)?;
    }
    Ok(Flow::Done(0))
}

fn sigpending(cx: &mut Cx<'_>, [set, size, ..]: Args) -> SysResult {
    let size = usize::try_from(size).ok().filter(|size| *size <= SET as usize).ok_or(Errno::EINVAL)?;
    let shared = cx.task.process.lock().pending.set();
    let pending = {
        let own = cx.task.signals();
        own.pending.set().with(shared).and(own.blocked)
    };
    cx.task.mm().write(set, &pending.0.to_ne_bytes()[..size])?;
    Ok(Flow::Done(0))
}

fn sigsuspend(cx: &mut Cx<'_>, [set, size, ..]: Args) -> SysResult {
    let set = read_set(cx.task, set, size)?;
    cx.task.set_temporary_mask(set);
    wait_for_signal(cx)
}

fn wait_for_signal(cx: &mut Cx<'_>) -> SysResult {
    let wait = until_woken(cx.task, None, || Err::<u64, _>(Errno::EAGAIN));
    Ok(Flow::block(async move {
        match wait.await {
            Ok(outcome) => outcome,
            Err(_) => Err(Errno::RESTARTNOHAND),
        }
    }))
}

fn sigtimedwait(cx: &mut Cx<'_>, [set, info, timeout, size, ..]: Args) -> SysResult {
    let set = read_set(cx.task, set, size)?;
    let deadline = match timeout {
        0 => None,
        timeout => Some(cx.kernel.host.clock.monotonic().saturating_add(cx.task.mm().get::<Timespec>(timeout)?.to_nanos()?)),
    };
    let attempt = move |task: &Arc<Task>| {
        let taken = {
            let mut state = task.process.lock();
            let mut own = task.signals();
            own.pending.take(set).or_else(|| state.pending.take(set)).ok_or(Errno::EAGAIN)?
        };
        if info != 0 {
            task.mm().put(info, &taken)?;
        }
        Ok(taken.signo as u64)
    };
    match attempt(cx.task) {
        Err(Errno::EAGAIN) => {}
        outcome => return outcome.map(Flow::Done),
    }
    let task = cx.task.clone();
    // From now on a signal of the set wakes the task although it is blocked.
    task.signals().awaited = set;
    let owner = task.clone();
    let wait = until_woken(cx.task, deadline, move || {
        let outcome = attempt(&owner);
        if outcome.is_err() && owner.interrupted() && owner.deliverable().is_empty() && owner.ends().is_none() {
            // It was woken for a signal of the set that somebody else took.
            owner.set_attention(owner.process.lock().stop.is_some());
        }
        outcome
    });
    Ok(Flow::block(async move {
        let outcome = wait.await;
        task.signals().awaited = SigSet::EMPTY;
        match outcome {
            Ok(outcome) => outcome,
            Err(Ended::TimedOut) => Err(Errno::EAGAIN),
            Err(Ended::Interrupted) => Err(Errno::EINTR),
        }
    }))
}

fn sigaltstack(cx: &mut Cx<'_>, [new, old, ..]: Args) -> SysResult {
    let mm = cx.task.mm();
    let sp = cx.cpu.regs().rsp;
    let mut before = cx.task.signals().alternate;
    if before.size == 0 {
        before.flags |= c::SS_DISABLE as i32;
    } else if frame::is_on(&before, sp) {
        before.flags |= c::SS_ONSTACK as i32;
    }
    if new != 0 {
        cx.task.set_alternate_stack(mm.get::<Stack>(new)?, sp)?;
    }
    if old != 0 {
        mm.put(old, &before)?;
    }
    Ok(Flow::Done(0))
}

/// Who sends, as the receiver is told.
fn from_us(cx: &Cx<'_>, signal: i32, code: i32) -> Siginfo {
    Siginfo::sent(signal, code, cx.task.process.pid, cx.task.credentials().uid.real)
}

fn check_number(signal: i32) -> Result<()> {
    if (0..=signal::LAST).contains(&signal) { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Sends to a process, if that is allowed; signal 0 only asks.
fn send_to(cx: &Cx<'_>, process: &Arc<Process>, info: Siginfo) -> Result<()> {
    may_signal(cx.task, process, info.signo)?;
    if info.signo == 0 { Ok(()) } else { send_by(cx.task, Target::Process(process), info) }
}

fn kill(cx: &mut Cx<'_>, [pid, signal, ..]: Args) -> SysResult {
    let (pid, signal) = (pid as i32, signal as i32);
    let targets: Vec<Arc<Process>> = match pid {
        i32::MIN => return Err(Errno::ESRCH),
        -1 => {
            let others = |process: &Arc<Process>| {
                let init = process.is_init() && cx.task.name_of(process.pid) == 1;
                !init && process.pid != cx.task.process.pid && process.space.is_within(&cx.task.process.space)
            };
            cx.kernel.pids.processes().into_iter().filter(others).collect()
        }
        0 => {
            let tree = cx.kernel.pids.lock();
            tree.members(tree.group_of(cx.task.process.pid))
        }
        group if group < 0 => cx.kernel.pids.group(cx.task.number_of(-group)),
        pid => {
            let pid = cx.task.number_of(pid);
            let leader = cx.kernel.pids.task(pid).map(|task| task.process.clone());
            leader.or_else(|| cx.kernel.pids.process(pid)).into_iter().collect()
        }
    };
    if targets.is_empty() {
        return Err(Errno::ESRCH);
    }
    check_number(signal)?;
    let info = from_us(cx, signal, c::SI_USER as i32);
    // Of many it is enough to reach one.
    let mut outcome = Err(Errno::EPERM);
    for process in targets {
        match send_to(cx, &process, info) {
            Ok(()) => outcome = Ok(Flow::Done(0)),
            Err(errno) if outcome.is_err() => outcome = Err(errno),
            Err(_) => {}
        }
    }
    outcome
}

/// The task of a number, in this process if one is named.
fn find_task(cx: &Cx<'_>, pid: Option<i32>, tid: i32) -> Result<Arc<Task>> {
    if tid <= 0 {
        return Err(Errno::EINVAL);
    }
    let task = cx.kernel.pids.task(cx.task.number_of(tid)).ok_or(Errno::ESRCH)?;
    if pid.is_some_and(|pid| cx.task.number_of(pid) != task.process.pid) { Err(Errno::ESRCH) } else { Ok(task) }
}

fn send_to_task(cx: &Cx<'_>, task: &Arc<Task>, info: Siginfo) -> SysResult {
    may_signal(cx.task, &task.process, info.signo)?;
    if info.signo != 0 {
        send_by(cx.task, Target::Task(task), info)?;
    }
    Ok(Flow::Done(0))
}

fn kill_task(cx: &mut Cx<'_>, pid: Option<i32>, tid: i32, signal: i32) -> SysResult {
    let task = find_task(cx, pid, tid)?;
    check_number(signal)?;
    send_to_task(cx, &task, from_us(cx, signal, c::SI_TKILL))
}

/// With the kernel's numbers of the process and the user that a program says it is from.
fn from_elsewhere(cx: &Cx<'_>, info: Siginfo) -> Siginfo {
    let space = &cx.task.credentials().space;
    if space.is_first() && cx.task.process.space.is_first() || !info.has_sender() {
        return info;
    }
    info.from(cx.task.number_of(info.pid()), space.user(info.uid()).unwrap_or(users::NOBODY))
}

/// What a program sends with a signal. It must not look as if the kernel, or kill(2), had sent it to others.
fn given(cx: &Cx<'_>, signal: i32, address: u64, own: bool) -> Result<Siginfo> {
    let mut info: Siginfo = cx.task.mm().get(address)?;
    info.signo = signal;
    info = from_elsewhere(cx, info);
    if !own && (info.code >= 0 || info.code == c::SI_TKILL) {
        return Err(Errno::EPERM);
    }
    Ok(info)
}

fn sigqueueinfo(cx: &mut Cx<'_>, [pid, signal, info, ..]: Args) -> SysResult {
    let (pid, signal) = (cx.task.number_of(pid as i32), signal as i32);
    let info = given(cx, signal, info, pid == cx.task.process.pid)?;
    check_number(signal)?;
    let process = match cx.kernel.pids.task(pid) {
        Some(task) => task.process.clone(),
        None => cx.kernel.pids.process(pid).ok_or(Errno::ESRCH)?,
    };
    send_to(cx, &process, info).map(Flow::from)
}

fn tgsigqueueinfo(cx: &mut Cx<'_>, [pid, tid, signal, info, ..]: Args) -> SysResult {
    let (pid, tid, signal) = (pid as i32, tid as i32, signal as i32);
    if pid <= 0 || tid <= 0 {
        return Err(Errno::EINVAL);
    }
    let info = given(cx, signal, info, cx.task.number_of(pid) == cx.task.process.pid)?;
    let task = find_task(cx, Some(pid), tid)?;
    check_number(signal)?;
    send_to_task(cx, &task, info)
}

/// The process that a descriptor stands for: a pidfd, or the directory `/proc/PID`, as from before there were pidfds.
fn process_of(description: &Description) -> Result<Arc<Process>> {
    if let Some(pidfd) = description.as_file::<Pidfd>() {
        return Ok(pidfd.process.clone());
    }
    let path = description.path.as_ref().ok_or(Errno::EBADF)?;
    let inode: &dyn Any = &**path.inode();
    inode.downcast_ref::<Node>().and_then(Node::process).ok_or(Errno::EBADF)?
}

fn pidfd_send_signal(cx: &mut Cx<'_>, [fd, signal, info, flags, ..]: Args) -> SysResult {
    /// `PIDFD_SIGNAL_THREAD`, `..._THREAD_GROUP` and `..._PROCESS_GROUP`: to whom, instead of what the descriptor says.
    const THREAD: u64 = 1;
    const GROUP: u64 = 4;
    if flags > GROUP || flags.count_ones() > 1 {
        return Err(Errno::EINVAL);
    }
    let description = cx.task.file(fd as i32)?;
    let process = process_of(&description)?;
    let signal = signal as i32;
    let info = match info {
        0 => from_us(cx, signal, c::SI_USER as i32),
        address => {
            let own = Arc::ptr_eq(&process, &cx.task.process);
            let info: Siginfo = cx.task.mm().get(address)?;
            let info = from_elsewhere(cx, info);
            if info.signo != signal {
                return Err(Errno::EINVAL);
            }
            if !own && (info.code >= 0 || info.code == c::SI_TKILL) {
                return Err(Errno::EPERM);
            }
            info
        }
    };
    check_number(signal)?;
    if process.has_ended() && cx.kernel.pids.process(process.pid).is_none_or(|now| !Arc::ptr_eq(&now, &process)) {
        return Err(Errno::ESRCH);
    }
    match flags {
        THREAD => send_to_task(cx, &process.leader().ok_or(Errno::ESRCH)?, info),
        GROUP => {
            let members = cx.kernel.pids.group(process.pid);
            let mut outcome = Err(Errno::ESRCH);
            for member in members {
                outcome = send_to(cx, &member, info).map(Flow::from);
            }
            outcome
        }
        _ => send_to(cx, &process, info).map(Flow::from),
    }
}
