//! Odds and ends of a task: `prctl arch_prctl personality`.

use super::{Args, Cx, Entry, identity, partial, seccomp, user_dispatch};
use crate::task::credentials::{KEEP_CAPABILITIES, NO_AMBIENT_RAISE};
use crate::{Errno, Flow, SysResult};
use core::sync::atomic::Ordering;
use insula_abi::general as c;
use insula_abi::prctl as p;
use insula_abi::{PAGE, Sysno};

pub(crate) const CALLS: &[Entry] = &[
    partial(Sysno::prctl, "no PR_SET_MM; hints about memory are forgotten", prctl),
    partial(Sysno::arch_prctl, "no changes of CPUID or of features", arch_prctl),
    partial(Sysno::personality, "it is remembered, and changes nothing", personality),
];

fn prctl(cx: &mut Cx<'_>, [option, two, three, four, five, _]: Args) -> SysResult {
    let task = cx.task;
    let mm = task.mm();
    let process = &task.process;
    // Newer options want what they don't use to be zero.
    let only = |used: usize| {
        if [two, three, four, five][used..].iter().all(|argument| *argument == 0) { Ok(()) } else { Err(Errno::EINVAL) }
    };
    match option as u32 {
        p::PR_SET_PDEATHSIG => {
            let signal = i32::try_from(two).ok().filter(|signal| *signal <= crate::signal::LAST).ok_or(Errno::EINVAL)?;
            task.parent_death_signal.store(signal, Ordering::Relaxed);
            Ok(Flow::Done(0))
        }
        p::PR_GET_PDEATHSIG => mm.put(two, &task.parent_death_signal.load(Ordering::Relaxed)).map(Flow::from),
        p::PR_GET_DUMPABLE => Ok(u64::from(process.dumpable.load(Ordering::Relaxed)).into()),
        p::PR_SET_DUMPABLE if two > 1 => Err(Errno::EINVAL),
        p::PR_SET_DUMPABLE => {
            process.dumpable.store(two as u8, Ordering::Relaxed);
            Ok(Flow::Done(0))
        }
        p::PR_SET_NAME => {
            let mut name = [0; 16];
            let given = match mm.string(two, 15) {
                // What doesn't fit is cut off.
                Err(Errno::ENAMETOOLONG) => mm.get::<[u8; 15]>(two)?.to_vec(),
                given => given?,
            };
            name[..given.len()].copy_from_slice(&given);
            *task.name.lock() = name;
            Ok(Flow::Done(0))
        }
        p::PR_GET_NAME => {
            let name = *task.name.lock();
            mm.put(two, &name).map(Flow::from)
        }
        p::PR_GET_TIMING => Ok(Flow::Done(0)),
        p::PR_SET_TIMING if two == u64::from(p::PR_TIMING_STATISTICAL) => Ok(Flow::Done(0)),
        p::PR_GET_SECCOMP => Ok(task.confinement.mode().into()),
        p::PR_SET_SECCOMP => seccomp::set_mode(cx, two, three),
        p::PR_SET_SYSCALL_USER_DISPATCH => user_dispatch::set(task, two, three, four, five).map(Flow::from),
        p::PR_GET_TSC => mm.put(two, &p::PR_TSC_ENABLE).map(Flow::from),
        p::PR_SET_TSC if two == u64::from(p::PR_TSC_ENABLE) => Ok(Flow::Done(0)),
        p::PR_SET_TIMERSLACK => {
            task.scheduling.lock().timer_slack = if two == 0 { 50_000 } else { two };
            Ok(Flow::Done(0))
        }
        p::PR_GET_TIMERSLACK => Ok(task.scheduling.lock().timer_slack.into()),
        p::PR_SET_CHILD_SUBREAPER => {
            process.subreaper.store(two != 0, Ordering::Relaxed);
            Ok(Flow::Done(0))
        }
        p::PR_GET_CHILD_SUBREAPER => mm.put(two, &i32::from(process.subreaper.load(Ordering::Relaxed))).map(Flow::from),
        p::PR_SET_NO_NEW_PRIVS => {
            only(1)?;
            if two != 1 {
                return Err(Errno::EINVAL);
            }
            let mut now = (*task.credentials()).clone();
            now.no_new_privileges = true;
            task.set_credentials(now);
            Ok(Flow::Done(0))
        }
        p::PR_GET_NO_NEW_PRIVS => only(0).map(|()| u64::from(task.credentials().no_new_privileges).into()),
        p::PR_SET_THP_DISABLE => only(1).map(|()| {
            process.thp_disabled.store(two != 0, Ordering::Relaxed);
            Flow::Done(0)
        }),
        p::PR_GET_THP_DISABLE => only(0).map(|()| u64::from(process.thp_disabled.load(Ordering::Relaxed)).into()),
        // No event is ever counted.
        p::PR_TASK_PERF_EVENTS_DISABLE | p::PR_TASK_PERF_EVENTS_ENABLE => Ok(Flow::Done(0)),
        p::PR_MCE_KILL => only(2).and_then(|()| {
            let policy = match (two as u32, three as u32) {
                (p::PR_MCE_KILL_CLEAR, 0) => p::PR_MCE_KILL_DEFAULT,
                (p::PR_MCE_KILL_SET, policy) if policy <= p::PR_MCE_KILL_DEFAULT => policy,
                _ => return Err(Errno::EINVAL),
            };
            task.memory_errors.store(policy, Ordering::Relaxed);
            Ok(Flow::Done(0))
        }),
        p::PR_MCE_KILL_GET => only(0).map(|()| u64::from(task.memory_errors.load(Ordering::Relaxed)).into()),
        p::PR_GET_AUXV => {
            if four != 0 || five != 0 {
                return Err(Errno::EINVAL);
            }
            let (start, end) = mm.image().auxiliary;
            let len = end - start;
            let mut vector = alloc::vec![0; len.min(PAGE) as usize];
            mm.read(start, &mut vector)?;
            vector.truncate(usize::try_from(three).unwrap_or(usize::MAX));
            mm.write(two, &vector)?;
            Ok(len.into())
        }
        _ => capabilities(cx, option as u32, [two, three, four, five]),
    }
}

/// Options that are about capabilities.
fn capabilities(cx: &mut Cx<'_>, option: u32, [two, three, four, five]: [u64; 4]) -> SysResult {
    let before = cx.task.credentials();
    let mut now = (*before).clone();
    let capability = |number: u64| if number <= u64::from(c::CAP_LAST_CAP) { Ok(1u64 << number) } else { Err(Errno::EINVAL) };
    match option {
        p::PR_GET_KEEPCAPS => return Ok(u64::from(before.secure_bits & KEEP_CAPABILITIES != 0).into()),
        p::PR_SET_KEEPCAPS => {
            // The bit above each locks it.
            if two > 1 {
                return Err(Errno::EINVAL);
            }
            if before.secure_bits & KEEP_CAPABILITIES << 1 != 0 {
                return Err(Errno::EPERM);
            }
            now.secure_bits = before.secure_bits & !KEEP_CAPABILITIES | if two == 1 { KEEP_CAPABILITIES } else { 0 };
        }
        p::PR_CAPBSET_READ => return Ok(u64::from(before.capabilities.bounding & capability(two)? != 0).into()),
        p::PR_CAPBSET_DROP => {
            if !before.has_own(c::CAP_SETPCAP) {
                return Err(Errno::EPERM);
            }
            now.capabilities.bounding &= !capability(two)?;
        }
        p::PR_GET_SECUREBITS => return Ok(before.secure_bits.into()),
        p::PR_SET_SECUREBITS => {
            /// Every second bit locks the one below it.
            const LOCKS: u32 = 0xaa;
            let bits = u32::try_from(two).ok().filter(|bits| *bits <= 0xff).ok_or(Errno::EPERM)?;
            let changed = bits ^ before.secure_bits;
            let locked = (before.secure_bits & LOCKS) >> 1;
            let unlocked = before.secure_bits & LOCKS & !bits;
            if changed & locked != 0 || unlocked != 0 || !before.has_own(c::CAP_SETPCAP) {
                return Err(Errno::EPERM);
            }
            now.secure_bits = bits;
        }
        p::PR_CAP_AMBIENT => {
            if four != 0 || five != 0 {
                return Err(Errno::EINVAL);
            }
            let sets = &mut now.capabilities;
            match two as u32 {
                p::PR_CAP_AMBIENT_CLEAR_ALL if three == 0 => sets.ambient = 0,
                p::PR_CAP_AMBIENT_IS_SET => return Ok(u64::from(sets.ambient & capability(three)? != 0).into()),
                p::PR_CAP_AMBIENT_RAISE => {
                    let bit = capability(three)?;
                    if sets.permitted & sets.inheritable & bit == 0 || before.secure_bits & NO_AMBIENT_RAISE != 0 {
                        return Err(Errno::EPERM);
                    }
                    sets.ambient |= bit;
                }
                p::PR_CAP_AMBIENT_LOWER => sets.ambient &= !capability(three)?,
                _ => return Err(Errno::EINVAL),
            }
        }
        _ => return Err(Errno::EINVAL),
    }
    identity::commit(cx.task, &before, now);
    Ok(Flow::Done(0))
}

fn arch_prctl(cx: &mut Cx<'_>, [code, address, ..]: Args) -> SysResult {
    /// `asm/prctl.h`.
    const SET_GS: u32 = 0x1001;
    const GET_FS: u32 = 0x1003;
    const GET_GS: u32 = 0x1004;
    const GET_CPUID: u32 = 0x1011;
    const SET_CPUID: u32 = 0x1012;
    let mm = cx.task.mm();
    let high = mm.layout().high;
    match code as u32 {
        c::ARCH_SET_FS | SET_GS if address >= high => Err(Errno::EPERM),
        c::ARCH_SET_FS => {
            cx.cpu.regs().fs_base = address;
            Ok(Flow::Done(0))
        }
        SET_GS => {
            cx.cpu.regs().gs_base = address;
            Ok(Flow::Done(0))
        }
        GET_FS => mm.put(address, &cx.cpu.regs().fs_base).map(Flow::from),
        GET_GS => mm.put(address, &cx.cpu.regs().gs_base).map(Flow::from),
        GET_CPUID => Ok(Flow::Done(1)),
        SET_CPUID => Err(Errno::ENODEV),
        _ => Err(Errno::EINVAL),
    }
}

fn personality(cx: &mut Cx<'_>, [persona, ..]: Args) -> SysResult {
    let persona = persona as u32;
    let before = cx.task.personality.load(Ordering::Relaxed);
    if persona != u32::MAX {
        cx.task.personality.store(persona, Ordering::Relaxed);
    }
    Ok(before.into())
}
