//! What a process may use, and has used: `prlimit64 getrlimit setrlimit getrusage times`.

use super::{Args, Cx, Entry, full, partial};
use crate::signal::stop::ticks;
use crate::task::cpu_limit::CpuLimit;
use crate::task::{Process, Task, Usage};
use crate::{Errno, Flow, Result, SysResult};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use insula_abi::Sysno;
use insula_abi::general as c;
use insula_abi::process::{Rlimit, Rusage, Tms};
use insula_abi::time::Timeval;

/// Those that are remembered only.
const REMEMBERED: &str = "RLIMIT_CORE, RSS, LOCKS, MSGQUEUE, RTTIME are remembered, not enforced";

pub(crate) const CALLS: &[Entry] = &[
    partial(Sysno::prlimit64, REMEMBERED, prlimit),
    partial(Sysno::setrlimit, REMEMBERED, |cx, [resource, new, ..]| {
        let limit = cx.task.mm().get(new)?;
        set(cx, &cx.task.process.clone(), resource as u32, limit).map(Flow::from)
    }),
    full(Sysno::getrlimit, |cx, [resource, old, ..]| {
        let limit = cx.task.process.limits.lock().get(resource as u32).ok_or(Errno::EINVAL)?;
        cx.task.mm().put(old, &limit).map(Flow::from)
    }),
    partial(Sysno::getrusage, "times and memory; a minor fault is a page given out", getrusage),
    full(Sysno::times, times),
];

/// The most descriptors anybody may be given (Linux: `fs.nr_open`).
const MOST_DESCRIPTORS: u64 = 1 << 20;

fn prlimit(cx: &mut Cx<'_>, [pid, resource, new, old, ..]: Args) -> SysResult {
    let (pid, resource) = (pid as i32, resource as u32);
    let mm = cx.task.mm();
    let limit: Option<Rlimit> = if new == 0 { None } else { Some(mm.get(new)?) };
    let target = if pid == 0 { cx.task.clone() } else { cx.kernel.pids.task(cx.task.number_of(pid)).ok_or(Errno::ESRCH)? };
    if !Arc::ptr_eq(&target.process, &cx.task.process) {
        check_access(cx.task, &target)?;
    }
    let before = target.process.limits.lock().get(resource).ok_or(Errno::EINVAL)?;
    if let Some(limit) = limit {
        set(cx, &target.process, resource, limit)?;
    }
    if old != 0 {
        mm.put(old, &before)?;
    }
    Ok(Flow::Done(0))
}

/// Whether a task may look at another's limits and change them: it must be all of the same user's and group's.
fn check_access(task: &Task, target: &Task) -> Result<()> {
    let (own, other) = (task.credentials(), target.credentials());
    let uids = [other.uid.real, other.uid.effective, other.uid.saved].iter().all(|uid| *uid == own.uid.real);
    let gids = [other.gid.real, other.gid.effective, other.gid.saved].iter().all(|gid| *gid == own.gid.real);
    if uids && gids || own.has_in(&other.space, c::CAP_SYS_RESOURCE) { Ok(()) } else { Err(Errno::EPERM) }
}

fn set(cx: &Cx<'_>, process: &Arc<Process>, resource: u32, limit: Rlimit) -> Result<()> {
    if limit.soft > limit.hard {
        return Err(Errno::EINVAL);
    }
    {
        let mut limits = process.limits.lock();
        let before = limits.get(resource).ok_or(Errno::EINVAL)?;
        if resource == c::RLIMIT_NOFILE && limit.hard > MOST_DESCRIPTORS
            || limit.hard > before.hard && !cx.task.credentials().has(c::CAP_SYS_RESOURCE)
        {
            return Err(Errno::EPERM);
        }
        limits.set(resource, limit);
    }
    if resource == c::RLIMIT_CPU {
        CpuLimit::watch(cx.kernel, process);
    }
    if let Some(task) = process.leader() {
        task.mm().set_limits(process.limit(c::RLIMIT_AS), process.limit(c::RLIMIT_STACK), process.limit(c::RLIMIT_DATA));
    }
    Ok(())
}

fn getrusage(cx: &mut Cx<'_>, [who, usage, ..]: Args) -> SysResult {
    /// `RUSAGE_SELF`, as a signed number like the others.
    const OWN: i32 = c::RUSAGE_SELF as i32;
    const THREAD: i32 = c::RUSAGE_THREAD as i32;
    let process = &cx.task.process;
    let used = Usage::default();
    match who as i32 {
        OWN => {
            let (user, system) = process.times();
            used.user.store(user, Ordering::Relaxed);
            used.system.store(system, Ordering::Relaxed);
            let memory = cx.task.mm().sizes().1;
            used.memory.store(memory.max(process.usage.memory.load(Ordering::Relaxed)), Ordering::Relaxed);
            used.pages.store(memory / insula_abi::PAGE, Ordering::Relaxed);
        }
        THREAD => {
            let (user, system) = cx.task.times();
            used.user.store(user, Ordering::Relaxed);
            used.system.store(system, Ordering::Relaxed);
            used.memory.store(cx.task.mm().sizes().1, Ordering::Relaxed);
        }
        c::RUSAGE_CHILDREN => used.add(&process.children_usage),
        _ => return Err(Errno::EINVAL),
    }
    cx.task.mm().put(usage, &rusage(&used)).map(Flow::from)
}

/// As programs are told it.
pub(super) fn rusage(usage: &Usage) -> Rusage {
    Rusage {
        utime: Timeval::from_nanos(usage.user.load(Ordering::Relaxed)),
        stime: Timeval::from_nanos(usage.system.load(Ordering::Relaxed)),
        maxrss: (usage.memory.load(Ordering::Relaxed) / 1024) as i64,
        minflt: usage.pages.load(Ordering::Relaxed) as i64,
        ..Rusage::default()
    }
}

fn times(cx: &mut Cx<'_>, [address, ..]: Args) -> SysResult {
    let process = &cx.task.process;
    if address != 0 {
        let (user, system) = process.times();
        let children = &process.children_usage;
        let tms = Tms {
            utime: ticks(user),
            stime: ticks(system),
            cutime: ticks(children.user.load(Ordering::Relaxed)),
            cstime: ticks(children.system.load(Ordering::Relaxed)),
        };
        cx.task.mm().put(address, &tms)?;
    }
    Ok(ticks(cx.kernel.host.clock.monotonic()).into())
}
