//! Tasks and processes: `clone clone3 fork vfork exit exit_group wait4 waitid` and who is who.

use super::limits::rusage;
use super::{Args, Cx, Entry, full, partial, structure};
use crate::fs::Description;
use crate::fs::epoll::Epoll;
use crate::task::Task;
use crate::task::clone::{Request, clone};
use crate::task::pidfd::Pidfd;
use crate::task::process::Children;
use crate::task::wait::{Change, Which, code_of, look};
use crate::wait::{Ended, Events, until};
use crate::{Errno, Flow, Result, SysResult};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use insula_abi::Sysno;
use insula_abi::general as c;
use insula_abi::process::CloneArgs;
use insula_abi::signal::Siginfo;

pub(crate) const CALLS: &[Entry] = &[
    partial(Sysno::clone, "namespaces of mounts, UTS, IPC, networks, control groups, users, PIDs", clone_by_registers),
    partial(Sysno::clone3, "namespaces of mounts, UTS, IPC, networks, control groups, users, PIDs; no cgroups", clone3),
    full(Sysno::fork, |cx, _| clone(cx, &Request { exit_signal: c::SIGCHLD as i32, ..Request::default() })),
    full(Sysno::vfork, |cx, _| {
        let flags = u64::from(c::CLONE_VFORK | c::CLONE_VM);
        clone(cx, &Request { flags, exit_signal: c::SIGCHLD as i32, ..Request::default() })
    }),
    full(Sysno::exit, |cx, [status, ..]| {
        let status = (status as i32 & 0xff) << 8;
        if cx.task.is_traced() {
            // It may have to tell of it, on its way back.
            cx.task.trace.lock().leaving = Some(status);
            cx.task.set_attention(true);
            return Ok(Flow::Registers);
        }
        cx.task.exit(status);
        Ok(Flow::Exit)
    }),
    full(Sysno::exit_group, exit_group),
    full(Sysno::wait4, wait4),
    full(Sysno::waitid, waitid),
    full(Sysno::set_tid_address, |cx, [address, ..]| {
        cx.task.clear_child_tid.store(address, Ordering::Relaxed);
        Ok(cx.task.name_of(cx.task.tid()).into())
    }),
    full(Sysno::gettid, |cx, _| Ok(cx.task.name_of(cx.task.tid()).into())),
    full(Sysno::getpid, |cx, _| Ok(cx.task.name_of(cx.task.process.pid).into())),
    full(Sysno::getppid, |cx, _| Ok(cx.task.name_of(cx.kernel.pids.lock().parent(cx.task.process.pid)).into())),
    full(Sysno::getpgrp, |cx, _| Ok(cx.task.name_of(cx.kernel.pids.lock().group_of(cx.task.process.pid)).into())),
    full(Sysno::getpgid, |cx, [pid, ..]| with_node(cx, pid, |tree, pid| tree.group_of(pid))),
    full(Sysno::getsid, |cx, [pid, ..]| with_node(cx, pid, |tree, pid| tree.session_of(pid).map_or(0, |session| session.id))),
    full(Sysno::setpgid, setpgid),
    full(Sysno::setsid, setsid),
    partial(Sysno::pidfd_open, "no descriptors of single threads", pidfd_open),
    full(Sysno::pidfd_getfd, pidfd_getfd),
    partial(Sysno::kcmp, "no epoll targets", kcmp),
];

fn clone_by_registers(cx: &mut Cx<'_>, [flags, stack, parent_tid, child_tid, tls, _]: Args) -> SysResult {
    let flags = flags & 0xffff_ffff;
    let request = Request {
        flags: flags & !u64::from(c::CSIGNAL),
        exit_signal: (flags & u64::from(c::CSIGNAL)) as i32,
        stack,
        tls,
        parent_tid,
        child_tid,
        pidfd: parent_tid,
        number: 0,
    };
    if request.has(c::CLONE_PIDFD) && request.has(c::CLONE_PARENT_SETTID) {
        return Err(Errno::EINVAL);
    }
    clone(cx, &Request { exit_signal: usable(request.exit_signal), ..request })
}

/// What isn't a signal is sent to nobody.
fn usable(signal: i32) -> i32 {
    if (0..=crate::signal::LAST).contains(&signal) { signal } else { 0 }
}

fn clone3(cx: &mut Cx<'_>, [address, size, ..]: Args) -> SysResult {
    /// Bytes of the first version (`CLONE_ARGS_SIZE_VER0`).
    const FIRST: usize = 64;
    let arguments: CloneArgs = structure(cx.task, address, size, FIRST)?;
    if arguments.set_tid_size > 1 {
        return Err(Errno::EINVAL);
    }
    if (arguments.set_tid == 0) != (arguments.set_tid_size == 0) {
        return Err(Errno::EINVAL);
    }
    let known = u64::from(u32::MAX) & !u64::from(c::CSIGNAL | c::CLONE_DETACHED)
        | c::CLONE_CLEAR_SIGHAND
        | c::CLONE_INTO_CGROUP
        | u64::from(c::CLONE_NEWTIME);
    let odd_stack = (arguments.stack == 0) != (arguments.stack_size == 0);
    let threads = u64::from(c::CLONE_THREAD | c::CLONE_PARENT);
    if arguments.flags & !known != 0
        || arguments.exit_signal > crate::signal::LAST as u64
        || odd_stack
        || arguments.flags & threads != 0 && arguments.exit_signal != 0
    {
        return Err(Errno::EINVAL);
    }
    let number = if arguments.set_tid_size == 1 { cx.task.mm().get::<i32>(arguments.set_tid)? } else { 0 };
    if arguments.set_tid_size == 1 && number <= 0 {
        return Err(Errno::EINVAL);
    }
    let request = Request {
        flags: arguments.flags,
        exit_signal: arguments.exit_signal as i32,
        stack: if arguments.stack == 0 { 0 } else { arguments.stack.wrapping_add(arguments.stack_size) },
        tls: arguments.tls,
        parent_tid: arguments.parent_tid,
        child_tid: arguments.child_tid,
        pidfd: arguments.pidfd,
        number,
    };
    clone(cx, &request)
}

fn exit_group(cx: &mut Cx<'_>, [status, ..]: Args) -> SysResult {
    let status = (status as i32 & 0xff) << 8;
    cx.task.process.end(status);
    if cx.task.is_traced() {
        return Ok(Flow::Registers);
    }
    cx.task.exit(status);
    Ok(Flow::Exit)
}

/// Waits for a change of a child, and does `found` with it; `hang` says whether it waits at all.
fn wait(
    cx: &mut Cx<'_>,
    which: Which,
    options: u32,
    mut found: impl FnMut(&Arc<Task>, Option<Change>) -> Result<u64> + Send + Unpin + 'static,
) -> SysResult {
    let mut attempt = move |task: &Arc<Task>| match look(task, &which, options) {
        Ok(change) => found(task, Some(change)),
        Err(Errno::EAGAIN) if options & c::WNOHANG != 0 => found(task, None),
        Err(errno) => Err(errno),
    };
    match attempt(cx.task) {
        Err(Errno::EAGAIN) if options & c::WNOHANG == 0 => {}
        outcome => return outcome.map(Flow::Done),
    }
    let task = cx.task.clone();
    let process = task.process.clone();
    let waiting = until(cx.task, &[(&Children(&process), Events::all())], None, move || attempt(&task));
    Ok(Flow::block(async move {
        match waiting.await {
            Ok(outcome) => outcome,
            Err(Ended::TimedOut | Ended::Interrupted) => Err(Errno::RESTARTSYS),
        }
    }))
}

fn wait4(cx: &mut Cx<'_>, [pid, status, options, usage, ..]: Args) -> SysResult {
    let options = options as u32;
    let known = c::WNOHANG | c::WUNTRACED | c::WCONTINUED | c::__WNOTHREAD | c::__WCLONE | c::__WALL;
    if options & !known != 0 {
        return Err(Errno::EINVAL);
    }
    let which = match pid as i32 {
        i32::MIN => return Err(Errno::ESRCH),
        -1 => Which::Any,
        0 => Which::Group(0),
        group if group < 0 => Which::Group(cx.task.number_of(-group)),
        pid => Which::Process(cx.task.number_of(pid)),
    };
    wait(cx, which, options | c::WEXITED, move |task, change| {
        let Some(change) = change else { return Ok(0) };
        let mm = task.mm();
        if status != 0 {
            mm.put(status, &change.status)?;
        }
        if usage != 0 {
            mm.put(usage, &rusage(&change.usage))?;
        }
        Ok(change.pid as u64)
    })
}

fn waitid(cx: &mut Cx<'_>, [kind, id, info, options, usage, _]: Args) -> SysResult {
    let options = options as u32;
    let known = c::WNOHANG | c::WNOWAIT | c::WEXITED | c::WSTOPPED | c::WCONTINUED | c::__WNOTHREAD | c::__WCLONE | c::__WALL;
    if options & !known != 0 || options & (c::WEXITED | c::WSTOPPED | c::WCONTINUED) == 0 {
        return Err(Errno::EINVAL);
    }
    let asked = options;
    let mut options = options;
    let id = id as i32;
    let which = match kind as u32 {
        c::P_ALL => Which::Any,
        c::P_PID if id > 0 => Which::Process(cx.task.number_of(id)),
        c::P_PGID if id >= 0 => Which::Group(cx.task.number_of(id)),
        c::P_PIDFD if id >= 0 => {
            let description = cx.task.file(id)?;
            let process = description.as_file::<Pidfd>().ok_or(Errno::EBADF)?.process.clone();
            if description.nonblocking() {
                options |= c::WNOHANG;
            }
            Which::Same(process)
        }
        _ => return Err(Errno::EINVAL),
    };
    // A descriptor that doesn't wait says so, unless the call itself asked not to.
    let nonblocking = options & c::WNOHANG != 0 && asked & c::WNOHANG == 0;
    wait(cx, which, options, move |task, change| {
        let mm = task.mm();
        let Some(change) = change else {
            if nonblocking {
                return Err(Errno::EAGAIN);
            }
            if info != 0 {
                put_info(&mm, info, &Siginfo::default())?;
            }
            return Ok(0);
        };
        if usage != 0 {
            mm.put(usage, &rusage(&change.usage))?;
        }
        if info != 0 {
            let (code, value) = match change.traced {
                true => (c::CLD_TRAPPED as i32, change.status >> 8),
                false => code_of(change.status),
            };
            put_info(&mm, info, &Siginfo::child(code, change.pid, task.credentials().space.show_user(change.uid), value, 0, 0))?;
        }
        Ok(0)
    })
}

/// As Linux: only the fields that waitid(2) names are written.
fn put_info(mm: &crate::mm::Mm, address: u64, info: &Siginfo) -> Result<()> {
    mm.put(address, &[info.signo, info.errno, info.code])?;
    mm.put(address.wrapping_add(16), &info.fields[0])?;
    mm.put(address.wrapping_add(24), &info.status())
}

/// Answers something of a process; 0 is the caller's.
fn with_node(cx: &Cx<'_>, pid: u64, ask: impl FnOnce(&crate::task::pids::Tree, i32) -> i32) -> SysResult {
    let pid = process_of(cx, pid as i32)?;
    let tree = cx.kernel.pids.lock();
    tree.process(pid).ok_or(Errno::ESRCH)?;
    Ok(cx.task.name_of(ask(&tree, pid)).into())
}

/// The process that a number means, which may be that of any of its tasks; 0 is the caller's.
///
/// # Errors
/// `ESRCH`.
pub(super) fn process_of(cx: &Cx<'_>, pid: i32) -> Result<i32> {
    match pid {
        0 => Ok(cx.task.process.pid),
        pid => {
            let number = cx.task.number_of(pid);
            let task = cx.kernel.pids.task(number).map(|task| task.process.clone());
            task.or_else(|| cx.kernel.pids.process(number)).map(|process| process.pid).ok_or(Errno::ESRCH)
        }
    }
}

fn setpgid(cx: &mut Cx<'_>, [pid, group, ..]: Args) -> SysResult {
    let (pid, group) = (cx.task.number_of(pid as i32), cx.task.number_of(group as i32));
    let ours = cx.task.process.pid;
    let pid = if pid == 0 { ours } else { pid };
    let group = if group == 0 { pid } else { group };
    if group < 0 {
        return Err(Errno::EINVAL);
    }
    let mut tree = cx.kernel.pids.lock();
    let session = tree.session_of(ours).ok_or(Errno::ESRCH)?;
    let node = tree.nodes.get(&pid).ok_or(Errno::ESRCH)?;
    if node.parent == ours {
        if node.session.id != session.id {
            return Err(Errno::EPERM);
        }
        if node.executed {
            return Err(Errno::EACCES);
        }
    } else if pid != ours {
        return Err(Errno::ESRCH);
    }
    let leads = node.session.id == pid;
    if leads || group != pid && !tree.group_in(group, session.id) {
        return Err(Errno::EPERM);
    }
    tree.join_group(pid, group);
    Ok(Flow::Done(0))
}

fn setsid(cx: &mut Cx<'_>, _: Args) -> SysResult {
    let pid = cx.task.process.pid;
    let mut tree = cx.kernel.pids.lock();
    let leads = tree.session_of(pid).is_some_and(|session| session.id == pid);
    if leads || !tree.members(pid).is_empty() {
        return Err(Errno::EPERM);
    }
    let session = tree.new_session(pid);
    if let Some(node) = tree.nodes.get_mut(&pid) {
        node.session = session;
    }
    tree.join_group(pid, pid);
    Ok(cx.task.name_of(pid).into())
}

fn pidfd_open(cx: &mut Cx<'_>, [pid, flags, ..]: Args) -> SysResult {
    let pid = pid as i32;
    if flags as u32 & !c::O_NONBLOCK != 0 || pid <= 0 {
        return Err(Errno::EINVAL);
    }
    let pid = cx.task.number_of(pid);
    let process = match cx.kernel.pids.process(pid) {
        Some(process) => process,
        // A thread that isn't its process's first: it has no descriptor of its own here.
        None if cx.kernel.pids.task(pid).is_some() => return Err(Errno::EINVAL),
        None => return Err(Errno::ESRCH),
    };
    let description = Description::new(Pidfd::new(process), None, c::O_RDWR | flags as u32);
    let fd = cx.task.descriptors().add(description, true, 0, cx.task.process.limit(c::RLIMIT_NOFILE))?;
    Ok(fd.into())
}

fn pidfd_getfd(cx: &mut Cx<'_>, [pidfd, fd, flags, ..]: Args) -> SysResult {
    if flags as u32 != 0 {
        return Err(Errno::EINVAL);
    }
    let process = cx.task.file(pidfd as i32)?.as_file::<Pidfd>().ok_or(Errno::EBADF)?.process.clone();
    let task = process.leader().ok_or(Errno::ESRCH)?;
    if !cx.task.may_attach(&task) {
        return Err(Errno::EPERM);
    }
    let description = task.file(fd as i32)?;
    Ok(cx.task.descriptors().add(description, true, 0, cx.task.process.limit(c::RLIMIT_NOFILE))?.into())
}

/// Compares what two tasks have: 0 if it is the same, else which comes first in an order that means nothing.
fn kcmp(cx: &mut Cx<'_>, [first, second, kind, one, other, _]: Args) -> SysResult {
    /// `KCMP_FILE` and those after it, `linux/kcmp.h`.
    const FILE: i32 = 0;
    const VM: i32 = 1;
    const FILES: i32 = 2;
    const FS: i32 = 3;
    const SIGHAND: i32 = 4;
    const IO: i32 = 5;
    const SYSVSEM: i32 = 6;
    const EPOLL_TFD: i32 = 7;
    let task = |tid: u64| cx.kernel.pids.task(cx.task.number_of(tid as i32)).ok_or(Errno::ESRCH);
    let (first, second) = (task(first)?, task(second)?);
    if !cx.task.may_attach(&first) || !cx.task.may_attach(&second) {
        return Err(Errno::EPERM);
    }
    let order = match kind as i32 {
        FILE => {
            let (a, b) = (first.file(one as i32)?, second.file(other as i32)?);
            Arc::as_ptr(&a).addr().cmp(&Arc::as_ptr(&b).addr())
        }
        EPOLL_TFD => {
            // `struct kcmp_epoll_slot`: an epoll, the number of a file in it, and the how-manieth of that number.
            let [epoll, fd, nth] = cx.task.mm().get::<[u32; 3]>(other)?;
            let (a, epoll) = (first.file(one as i32)?, second.file(epoll as i32)?);
            let b = epoll.as_file::<Epoll>().ok_or(Errno::EINVAL)?.target(fd as i32, nth as usize).ok_or(Errno::ENOENT)?;
            Arc::as_ptr(&a).addr().cmp(&Arc::as_ptr(&b).addr())
        }
        VM => Arc::as_ptr(&first.mm()).addr().cmp(&Arc::as_ptr(&second.mm()).addr()),
        FILES => Arc::as_ptr(&first.descriptors()).addr().cmp(&Arc::as_ptr(&second.descriptors()).addr()),
        FS => Arc::as_ptr(&first.fs()).addr().cmp(&Arc::as_ptr(&second.fs()).addr()),
        SIGHAND => Arc::as_ptr(&first.process.actions()).addr().cmp(&Arc::as_ptr(&second.process.actions()).addr()),
        // Nobody has any of these.
        IO | SYSVSEM => core::cmp::Ordering::Equal,
        _ => return Err(Errno::EINVAL),
    };
    Ok(Flow::Done(match order {
        core::cmp::Ordering::Equal => 0,
        core::cmp::Ordering::Less => 1,
        core::cmp::Ordering::Greater => 2,
    }))
}
