//! Timers that send signals: `timer_create timer_settime timer_gettime timer_getoverrun timer_delete setitimer getitimer alarm`.

use super::{Args, Cx, Entry, full, partial};
use crate::signal::LAST;
use crate::time::Clock;
use crate::time::clock::Processor;
use crate::time::timers::{Notice, Timer};
use crate::{Errno, Flow, Result, SysResult};
use alloc::sync::Arc;
use insula_abi::Sysno;
use insula_abi::general as c;
use insula_abi::signal::Sigevent;
use insula_abi::time::{Itimerspec, Itimerval, SECOND, Timespec, Timeval};

pub(super) const CALLS: &[Entry] = &[
    full(Sysno::timer_create, timer_create),
    full(Sysno::timer_settime, timer_settime),
    full(Sysno::timer_gettime, |cx, [id, at, ..]| {
        let left = cx.task.process.timers.get(id as i32)?.left();
        cx.task.mm().put(at, &spec(left)).map(Flow::from)
    }),
    full(Sysno::timer_getoverrun, |cx, [id, ..]| Ok(cx.task.process.timers.get(id as i32)?.overrun().into())),
    full(Sysno::timer_delete, |cx, [id, ..]| cx.task.process.timers.remove(id as i32).map(Flow::from)),
    partial(Sysno::setitimer, "timers of processor time are late by up to 4 ms", setitimer),
    full(Sysno::getitimer, |cx, [which, at, ..]| {
        let left = interval(cx, which)?.left();
        cx.task.mm().put(at, &value(left)).map(Flow::from)
    }),
    full(Sysno::alarm, |cx, [seconds, ..]| {
        let (left, _) = interval(cx, u64::from(c::ITIMER_REAL))?.set(u64::from(seconds as u32) * SECOND, 0, false);
        // An alarm that is set never says 0.
        let rounded = (left + SECOND / 2) / SECOND;
        Ok(Flow::Done(if left > 0 { rounded.max(1) } else { 0 }))
    }),
];

fn spec((left, interval): (u64, u64)) -> Itimerspec {
    Itimerspec { interval: Timespec::from_nanos(interval), value: Timespec::from_nanos(left) }
}

fn value((left, interval): (u64, u64)) -> Itimerval {
    // What is left is rounded up, for 0 would say that it isn't set.
    let left = if left > 0 { left.max(1000) } else { 0 };
    Itimerval { interval: Timeval::from_nanos(interval), value: Timeval::from_nanos(left) }
}

fn timer_create(cx: &mut Cx<'_>, [clock, event, id, ..]: Args) -> SysResult {
    let clock = match clock as u32 {
        c::CLOCK_MONOTONIC_RAW | c::CLOCK_MONOTONIC_COARSE | c::CLOCK_REALTIME_COARSE => return Err(Errno::EOPNOTSUPP),
        c::CLOCK_REALTIME_ALARM | c::CLOCK_BOOTTIME_ALARM if !cx.task.credentials().has(c::CAP_WAKE_ALARM) => {
            return Err(Errno::EPERM);
        }
        _ => Clock::of(cx.task, clock as i32)?,
    };
    let event = match event {
        0 => None,
        at => Some(cx.task.mm().get::<Sigevent>(at)?),
    };
    let notice = notice(cx, event.as_ref())?;
    let most = cx.task.process.limit(c::RLIMIT_SIGPENDING);
    let timers = &cx.task.process.timers;
    let number = timers.add(most, |id| {
        // Without an event, the timer's number is the value.
        let notice = match (&event, notice) {
            (None, Notice::Process(signal, _)) => Notice::Process(signal, id as u64),
            (_, notice) => notice,
        };
        Timer::new(cx.kernel, &cx.task.process, clock, id, notice)
    })?;
    cx.task.mm().put(id, &number).inspect_err(|_| {
        // Nobody could know of it.
        let _ = timers.remove(number);
    })?;
    Ok(Flow::Done(0))
}

fn notice(cx: &Cx<'_>, event: Option<&Sigevent>) -> Result<Notice> {
    let Some(event) = event else { return Ok(Notice::Process(c::SIGALRM as i32, 0)) };
    let kind = event.notify as u32;
    if kind == c::SIGEV_NONE {
        return Ok(Notice::None);
    }
    if !(1..=LAST).contains(&event.signo) {
        return Err(Errno::EINVAL);
    }
    match kind {
        c::SIGEV_SIGNAL | c::SIGEV_THREAD => Ok(Notice::Process(event.signo, event.value)),
        c::SIGEV_THREAD_ID => {
            let task =
                cx.kernel.pids.task(cx.task.number_of(event.tid)).filter(|task| Arc::ptr_eq(&task.process, &cx.task.process));
            Ok(Notice::Task(Arc::downgrade(&task.ok_or(Errno::EINVAL)?), event.signo, event.value))
        }
        _ => Err(Errno::EINVAL),
    }
}

fn timer_settime(cx: &mut Cx<'_>, [id, flags, new, old, ..]: Args) -> SysResult {
    let mm = cx.task.mm();
    if new == 0 {
        return Err(Errno::EINVAL);
    }
    let wanted: Itimerspec = mm.get(new)?;
    let (value, interval) = (wanted.value.to_nanos()?, wanted.interval.to_nanos()?);
    let timer = cx.task.process.timers.get(id as i32)?;
    let before = timer.set(value, interval, flags as u32 & c::TIMER_ABSTIME != 0);
    if old != 0 {
        mm.put(old, &spec(before))?;
    }
    Ok(Flow::Done(0))
}

/// The caller's interval timer.
fn interval(cx: &Cx<'_>, which: u64) -> Result<Arc<Timer>> {
    let (task, process) = (cx.task.clone(), &cx.task.process);
    process.timers.interval(which as u32, || {
        let (clock, signal) = match which as u32 {
            c::ITIMER_VIRTUAL => (Clock::Process(task, Processor::User), c::SIGVTALRM),
            c::ITIMER_PROF => (Clock::Process(task, Processor::All), c::SIGPROF),
            _ => (Clock::Monotonic, c::SIGALRM),
        };
        Timer::new(cx.kernel, process, clock, -1, Notice::Plain(signal as i32))
    })
}

fn setitimer(cx: &mut Cx<'_>, [which, new, old, ..]: Args) -> SysResult {
    let mm = cx.task.mm();
    let wanted: Itimerval = if new == 0 { Itimerval::default() } else { mm.get(new)? };
    let (left, period) = (wanted.value.to_nanos()?, wanted.interval.to_nanos()?);
    // One that is never set again has no period to tell of.
    let before = interval(cx, which)?.set(left, if left == 0 { 0 } else { period }, false);
    if old != 0 {
        mm.put(old, &value(before))?;
    }
    Ok(Flow::Done(0))
}
