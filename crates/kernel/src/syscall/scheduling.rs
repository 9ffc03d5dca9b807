//! Scheduling, sched(7): `sched_* getpriority setpriority ioprio_* getcpu`. The host schedules; what is asked for is remembered.

use super::{Args, Cx, Entry, full, partial, structure};
use crate::task::scheduling::SCHED_OTHER;
use crate::task::{Credentials, Scheduling, Task};
use crate::{Errno, Flow, Result, SysResult};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use insula_abi::Sysno;
use insula_abi::general as c;
use insula_abi::process::SchedAttr;
use insula_abi::time::Timespec;
use insula_abi::zerocopy::IntoBytes;

const REMEMBERED: &str = "it is remembered; the host schedules as it likes";

pub(crate) const CALLS: &[Entry] = &[
    full(Sysno::sched_yield, |_, _| Ok(Flow::Done(0))),
    partial(Sysno::sched_setscheduler, REMEMBERED, |cx, [pid, policy, param, ..]| {
        if (policy as i32) < 0 {
            return Err(Errno::EINVAL);
        }
        set_by_param(cx, pid, Some(policy as u32), param)
    }),
    partial(Sysno::sched_setparam, REMEMBERED, |cx, [pid, param, ..]| set_by_param(cx, pid, None, param)),
    full(Sysno::sched_getscheduler, |cx, [pid, ..]| {
        let scheduling = *target(cx, pid)?.scheduling.lock();
        Ok((scheduling.policy | if scheduling.reset_on_fork { c::SCHED_RESET_ON_FORK } else { 0 }).into())
    }),
    full(Sysno::sched_getparam, |cx, [pid, param, ..]| {
        if param == 0 {
            return Err(Errno::EINVAL);
        }
        let priority = target(cx, pid)?.scheduling.lock().priority;
        cx.task.mm().put(param, &priority).map(Flow::from)
    }),
    partial(Sysno::sched_setattr, REMEMBERED, setattr),
    full(Sysno::sched_getattr, getattr),
    full(Sysno::sched_setaffinity, setaffinity),
    full(Sysno::sched_getaffinity, getaffinity),
    full(Sysno::sched_get_priority_max, |_, [policy, ..]| Ok(priorities(policy as u32)?.1.into())),
    full(Sysno::sched_get_priority_min, |_, [policy, ..]| Ok(priorities(policy as u32)?.0.into())),
    full(Sysno::sched_rr_get_interval, rr_interval),
    partial(Sysno::setpriority, REMEMBERED, setpriority),
    full(Sysno::getpriority, |cx, [which, who, ..]| {
        let tasks = several(cx, which as u32, who as i32)?;
        let best = tasks.iter().map(|task| task.scheduling.lock().nice).min().ok_or(Errno::ESRCH)?;
        Ok((20 - best).into())
    }),
    partial(Sysno::ioprio_set, REMEMBERED, ioprio_set),
    full(Sysno::ioprio_get, |cx, [which, who, ..]| {
        let tasks = several(cx, (which as u32).wrapping_sub(1), who as i32)?;
        let best = tasks.iter().map(|task| u64::from(task.scheduling.lock().io_priority)).min().ok_or(Errno::ESRCH)?;
        Ok(best.into())
    }),
    full(Sysno::getcpu, |cx, [cpu, node, ..]| {
        let mm = cx.task.mm();
        if cpu != 0 {
            // The host may have it elsewhere than it may be, as far as it knows.
            let allowed = cx.task.scheduling.lock().processors & all(cx);
            let now = cx.task.processor.load(Ordering::Relaxed);
            let known = allowed.checked_shr(now).is_some_and(|rest| rest & 1 != 0);
            mm.put(cpu, &if known { now } else { allowed.trailing_zeros() })?;
        }
        if node != 0 {
            mm.put(node, &0u32)?;
        }
        Ok(Flow::Done(0))
    }),
];

/// The task of a number; 0 is the caller.
fn target(cx: &Cx<'_>, pid: u64) -> Result<Arc<Task>> {
    match pid as i32 {
        pid if pid < 0 => Err(Errno::EINVAL),
        0 => Ok(cx.task.clone()),
        pid => cx.kernel.pids.task(cx.task.number_of(pid)).ok_or(Errno::ESRCH),
    }
}

/// The same for calls about processors, to which a number below zero is nobody's.
fn target_of_affinity(cx: &Cx<'_>, pid: u64) -> Result<Arc<Task>> {
    target(cx, pid).map_err(|_| Errno::ESRCH)
}

/// The lowest and the highest priority of a policy.
fn priorities(policy: u32) -> Result<(i32, i32)> {
    match policy {
        c::SCHED_FIFO | c::SCHED_RR => Ok((1, 99)),
        SCHED_OTHER | c::SCHED_BATCH | c::SCHED_IDLE | c::SCHED_DEADLINE => Ok((0, 0)),
        _ => Err(Errno::EINVAL),
    }
}

/// Whether a task may change how another is scheduled.
fn check_owner(own: &Credentials, target: &Task) -> Result<()> {
    let other = target.credentials();
    let same = own.uid.effective == other.uid.effective || own.uid.effective == other.uid.real;
    if same || own.has_in(&other.space, c::CAP_SYS_NICE) { Ok(()) } else { Err(Errno::EPERM) }
}

fn set_by_param(cx: &mut Cx<'_>, pid: u64, policy: Option<u32>, param: u64) -> SysResult {
    if param == 0 || (pid as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let priority: i32 = cx.task.mm().get(param)?;
    let task = target(cx, pid)?;
    let before = *task.scheduling.lock();
    let mut now = Scheduling { priority, ..before };
    if let Some(policy) = policy {
        now.policy = policy & !c::SCHED_RESET_ON_FORK;
        now.reset_on_fork = policy & c::SCHED_RESET_ON_FORK != 0;
    }
    set(cx, &task, now)
}

fn set(cx: &Cx<'_>, task: &Arc<Task>, now: Scheduling) -> SysResult {
    let (low, high) = priorities(now.policy)?;
    // Deadlines are promises that nobody here could keep.
    if now.policy == c::SCHED_DEADLINE || !(low..=high).contains(&now.priority) {
        return Err(Errno::EINVAL);
    }
    let credentials = cx.task.credentials();
    check_owner(&credentials, task)?;
    let before = *task.scheduling.lock();
    if !credentials.has(c::CAP_SYS_NICE) {
        let limit = task.process.limit(c::RLIMIT_RTPRIO);
        let real_time = now.priority > 0;
        let other = now.policy != before.policy && limit == 0;
        let higher = now.priority > before.priority && now.priority as u64 > limit;
        if real_time && (other || higher) || before.reset_on_fork && !now.reset_on_fork {
            return Err(Errno::EPERM);
        }
        // The way back from idle is like a better nice value.
        if before.policy == c::SCHED_IDLE && now.policy != c::SCHED_IDLE && !may_be_nice(task, now.nice) {
            return Err(Errno::EPERM);
        }
        if now.nice < before.nice && !may_be_nice(task, now.nice) {
            return Err(Errno::EPERM);
        }
    }
    *task.scheduling.lock() = now;
    Ok(Flow::Done(0))
}

/// Whether `RLIMIT_NICE` allows it.
fn may_be_nice(task: &Task, nice: i32) -> bool {
    (20 - nice) as u64 <= task.process.limit(c::RLIMIT_NICE)
}

fn setattr(cx: &mut Cx<'_>, [pid, address, flags, ..]: Args) -> SysResult {
    /// Bytes of the first version (`SCHED_ATTR_SIZE_VER0`).
    const FIRST: usize = 48;
    if address == 0 || (pid as i32) < 0 || flags as u32 != 0 {
        return Err(Errno::EINVAL);
    }
    let mm = cx.task.mm();
    let size = match mm.get::<u32>(address)? {
        0 => FIRST as u32,
        size => size,
    };
    let attributes: SchedAttr = match structure(cx.task, address, u64::from(size), FIRST) {
        Err(Errno::EINVAL | Errno::E2BIG) => {
            mm.put(address, &(size_of::<SchedAttr>() as u32))?;
            return Err(Errno::E2BIG);
        }
        found => found?,
    };
    if attributes.flags & !u64::from(c::SCHED_FLAG_RESET_ON_FORK | c::SCHED_FLAG_KEEP_ALL) != 0 {
        return Err(Errno::EINVAL);
    }
    let task = target(cx, pid)?;
    let before = *task.scheduling.lock();
    let keeps = |flag: u32| attributes.flags & u64::from(flag) != 0;
    let policy = if keeps(c::SCHED_FLAG_KEEP_POLICY) { before.policy } else { attributes.policy };
    let mut now = Scheduling { policy, reset_on_fork: keeps(c::SCHED_FLAG_RESET_ON_FORK), ..before };
    if !keeps(c::SCHED_FLAG_KEEP_PARAMS) {
        now.priority = i32::try_from(attributes.priority).map_err(|_| Errno::EINVAL)?;
        if matches!(policy, SCHED_OTHER | c::SCHED_BATCH) {
            now.nice = attributes.nice.clamp(-20, 19);
        }
    }
    set(cx, &task, now)
}

fn getattr(cx: &mut Cx<'_>, [pid, address, size, flags, ..]: Args) -> SysResult {
    const FIRST: u64 = 48;
    let size = u64::from(size as u32);
    if address == 0 || (pid as i32) < 0 || flags as u32 != 0 || !(FIRST..=insula_abi::PAGE).contains(&size) {
        return Err(Errno::EINVAL);
    }
    let scheduling = *target(cx, pid)?.scheduling.lock();
    let known = size.min(size_of::<SchedAttr>() as u64);
    let attributes = SchedAttr {
        size: known as u32,
        policy: scheduling.policy,
        flags: u64::from(if scheduling.reset_on_fork { c::SCHED_FLAG_RESET_ON_FORK } else { 0 }),
        nice: scheduling.nice,
        priority: scheduling.priority as u32,
        util_max: 1024,
        ..SchedAttr::default()
    };
    cx.task.mm().write(address, &attributes.as_bytes()[..known as usize])?;
    Ok(Flow::Done(0))
}

/// All processors there are, a bit each.
fn all(cx: &Cx<'_>) -> u64 {
    match cx.kernel.host.machine.processors.clamp(1, 64) {
        64 => u64::MAX,
        count => (1 << count) - 1,
    }
}

fn setaffinity(cx: &mut Cx<'_>, [pid, len, mask, ..]: Args) -> SysResult {
    let mut bits = [0; 8];
    let len = (len as u32 as usize).min(bits.len());
    cx.task.mm().read(mask, &mut bits[..len])?;
    let task = target_of_affinity(cx, pid)?;
    check_owner(&cx.task.credentials(), &task)?;
    let processors = u64::from_ne_bytes(bits) & all(cx);
    if processors == 0 {
        return Err(Errno::EINVAL);
    }
    task.move_to(processors);
    Ok(Flow::Done(0))
}

fn getaffinity(cx: &mut Cx<'_>, [pid, len, mask, ..]: Args) -> SysResult {
    let len = len as u32;
    if u64::from(len) * 8 < u64::from(cx.kernel.host.machine.processors) || !len.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let processors = target_of_affinity(cx, pid)?.scheduling.lock().processors & all(cx);
    cx.task.mm().put(mask, &processors)?;
    Ok(Flow::Done(8))
}

fn rr_interval(cx: &mut Cx<'_>, [pid, interval, ..]: Args) -> SysResult {
    let policy = target(cx, pid)?.scheduling.lock().policy;
    // What Linux gives by default: 100 ms to who takes turns, and to others the slice of its fair scheduler.
    let nanos = match policy {
        c::SCHED_RR => 100_000_000,
        c::SCHED_FIFO => 0,
        _ => 3_000_000,
    };
    cx.task.mm().put(interval, &Timespec::from_nanos(nanos)).map(Flow::from)
}

/// The tasks of a process number, a process group or a user; 0 is the caller's.
fn several(cx: &Cx<'_>, which: u32, who: i32) -> Result<Vec<Arc<Task>>> {
    let tasks = match which {
        c::PRIO_PROCESS => {
            let task = if who == 0 { Some(cx.task.clone()) } else { cx.kernel.pids.task(cx.task.number_of(who)) };
            task.into_iter().collect()
        }
        c::PRIO_PGRP => {
            let group = if who == 0 { cx.kernel.pids.lock().group_of(cx.task.process.pid) } else { cx.task.number_of(who) };
            cx.kernel.pids.group(group).iter().flat_map(|process| process.tasks()).collect()
        }
        c::PRIO_USER => {
            let own = cx.task.credentials();
            let uid = if who == 0 { Ok(own.uid.real) } else { own.space.user(who as u32) };
            let uid = uid.map_err(|_| Errno::ESRCH)?;
            let all: Vec<_> = cx.kernel.pids.lock().tasks().collect();
            all.into_iter().filter(|task| task.credentials().uid.real == uid).collect()
        }
        _ => return Err(Errno::EINVAL),
    };
    Ok(tasks)
}

fn setpriority(cx: &mut Cx<'_>, [which, who, nice, ..]: Args) -> SysResult {
    let tasks = several(cx, which as u32, who as i32)?;
    let nice = (nice as i32).clamp(-20, 19);
    let credentials = cx.task.credentials();
    let mut outcome = Err(Errno::ESRCH);
    for task in tasks {
        let before = task.scheduling.lock().nice;
        let allowed = nice >= before || credentials.has(c::CAP_SYS_NICE) || may_be_nice(&task, nice);
        match check_owner(&credentials, &task) {
            Err(errno) => outcome = Err(errno),
            Ok(()) if !allowed => outcome = Err(Errno::EACCES),
            Ok(()) => {
                task.scheduling.lock().nice = nice;
                if outcome == Err(Errno::ESRCH) {
                    outcome = Ok(());
                }
            }
        }
    }
    outcome.map(Flow::from)
}

fn ioprio_set(cx: &mut Cx<'_>, [which, who, priority, ..]: Args) -> SysResult {
    let (class, level) = ((priority as u32) >> 13, priority as u32 & 7);
    let credentials = cx.task.credentials();
    match class {
        // Real time.
        1 if !credentials.has(c::CAP_SYS_ADMIN) && !credentials.has(c::CAP_SYS_NICE) => return Err(Errno::EPERM),
        0 if level != 0 => return Err(Errno::EINVAL),
        0..=3 => {}
        _ => return Err(Errno::EINVAL),
    }
    let tasks = several(cx, (which as u32).wrapping_sub(1), who as i32)?;
    if tasks.is_empty() {
        return Err(Errno::ESRCH);
    }
    for task in tasks {
        check_owner(&credentials, &task)?;
        task.scheduling.lock().io_priority = priority as u16;
    }
    Ok(Flow::Done(0))
}
