//! Time: `clock_gettime clock_getres clock_settime clock_nanosleep nanosleep gettimeofday settimeofday time adjtimex clock_adjtime
//! timerfd_create timerfd_settime timerfd_gettime`.

use super::pipe::install;
use super::{Args, Cx, Entry, full, partial};
use crate::fs::Description;
use crate::fs::timerfd::Timerfd;
use crate::task::Task;
use crate::time::clock::{self, Clock};
use crate::wait::{Ended, until_woken};
use crate::{Errno, Flow, Result, SysResult};
use alloc::sync::Arc;
use insula_abi::Sysno;
use insula_abi::general as c;
use insula_abi::time::{Itimerspec, SECOND, Timespec, Timeval, Timex};

pub(super) const CALLS: &[Entry] = &[
    full(Sysno::clock_gettime, |cx, [id, at, ..]| {
        let now = Clock::of(cx.task, id as i32)?.now(cx.kernel);
        cx.task.mm().put(at, &Timespec::from_nanos(now)).map(Flow::from)
    }),
    full(Sysno::clock_getres, |cx, [id, at, ..]| {
        Clock::of(cx.task, id as i32)?;
        match at {
            0 => Ok(Flow::Done(0)),
            at => cx.task.mm().put(at, &Timespec::from_nanos(clock::resolution(id as i32))).map(Flow::from),
        }
    }),
    partial(Sysno::clock_settime, "clocks are the host's: EPERM", clock_settime),
    partial(Sysno::clock_nanosleep, "not by clocks of processor time", clock_nanosleep),
    full(Sysno::nanosleep, |cx, [at, left, ..]| {
        let span = cx.task.mm().get::<Timespec>(at)?.to_nanos()?;
        sleep(cx.task, Some(cx.kernel.host.clock.monotonic().saturating_add(span)), left)
    }),
    full(Sysno::gettimeofday, |cx, [at, zone, ..]| {
        let mm = cx.task.mm();
        if at != 0 {
            mm.put(at, &Timeval::from_nanos(cx.kernel.host.clock.realtime()))?;
        }
        if zone != 0 {
            mm.put(zone, &[0u32; 2])?;
        }
        Ok(Flow::Done(0))
    }),
    partial(Sysno::settimeofday, "clocks are the host's: EPERM", settimeofday),
    full(Sysno::time, |cx, [at, ..]| {
        let now = cx.kernel.host.clock.realtime() / SECOND;
        if at != 0 {
            cx.task.mm().put(at, &now)?;
        }
        Ok(Flow::Done(now))
    }),
    partial(Sysno::adjtimex, "clocks are the host's: reading only", |cx, [at, ..]| adjust(cx, at)),
    partial(Sysno::clock_adjtime, "clocks are the host's: reading only", |cx, [id, at, ..]| match id as u32 {
        c::CLOCK_REALTIME => adjust(cx, at),
        _ => Err(Clock::of(cx.task, id as i32).err().unwrap_or(Errno::EOPNOTSUPP)),
    }),
    full(Sysno::timerfd_create, timerfd_create),
    full(Sysno::timerfd_settime, timerfd_settime),
    full(Sysno::timerfd_gettime, |cx, [fd, at, ..]| {
        let description = cx.task.file(fd as i32)?;
        cx.task.mm().put(at, &timerfd(&description)?.get()).map(Flow::from)
    }),
];

fn clock_settime(cx: &mut Cx<'_>, [id, at, ..]: Args) -> SysResult {
    if id as u32 != c::CLOCK_REALTIME {
        return Err(Errno::EINVAL);
    }
    cx.task.mm().get::<Timespec>(at)?.to_nanos()?;
    Err(Errno::EPERM)
}

fn settimeofday(cx: &mut Cx<'_>, [at, zone, ..]: Args) -> SysResult {
    if at != 0 {
        cx.task.mm().get::<Timeval>(at)?.to_nanos()?;
    }
    if zone != 0 {
        cx.task.mm().get::<[u32; 2]>(zone)?;
    }
    Err(Errno::EPERM)
}

/// What ntpd(8) would be told: a clock that nobody keeps in step from here.
fn adjust(cx: &Cx<'_>, at: u64) -> SysResult {
    const UNSYNCHRONIZED: i32 = 0x40;
    const TIME_ERROR: u64 = 5;
    let mm = cx.task.mm();
    let asked: Timex = mm.get(at)?;
    if asked.modes != 0 {
        return Err(Errno::EPERM);
    }
    let answer = Timex {
        maxerror: 16_000_000,
        esterror: 16_000_000,
        status: UNSYNCHRONIZED,
        constant: 2,
        precision: 1,
        tolerance: 32_768_000,
        time: Timeval::from_nanos(cx.kernel.host.clock.realtime()),
        tick: 10_000,
        ..Timex::default()
    };
    mm.put(at, &answer)?;
    Ok(Flow::Done(TIME_ERROR))
}

fn clock_nanosleep(cx: &mut Cx<'_>, [id, flags, at, left, ..]: Args) -> SysResult {
    let clock = match id as u32 {
        // The manual page has EINVAL for the first.
        c::CLOCK_THREAD_CPUTIME_ID | c::CLOCK_MONOTONIC_RAW | c::CLOCK_MONOTONIC_COARSE | c::CLOCK_REALTIME_COARSE => {
            return Err(Errno::EOPNOTSUPP);
        }
        c::CLOCK_REALTIME_ALARM | c::CLOCK_BOOTTIME_ALARM if !cx.task.credentials().has(c::CAP_WAKE_ALARM) => {
            return Err(Errno::EPERM);
        }
        _ => Clock::of(cx.task, id as i32)?,
    };
    let value = cx.task.mm().get::<Timespec>(at)?.to_nanos()?;
    let absolute = flags as u32 & c::TIMER_ABSTIME != 0;
    if !absolute && !matches!(clock, Clock::Task(..) | Clock::Process(..)) {
        return sleep(cx.task, Some(cx.kernel.host.clock.monotonic().saturating_add(value)), left);
    }
    let deadline = clock.to_monotonic(cx.kernel, value).ok_or(Errno::EOPNOTSUPP)?.max(0) as u64;
    let wait = until_woken(cx.task, Some(deadline), || Err::<(), _>(Errno::EAGAIN));
    Ok(Flow::block(async move {
        match wait.await {
            Err(Ended::Interrupted) => Err(Errno::RESTARTNOHAND),
            _ => Ok(0),
        }
    }))
}

/// Sleeps; if a signal ends it, what is left goes to `left`.
fn sleep(task: &Arc<Task>, deadline: Option<u64>, left: u64) -> SysResult {
    let wait = until_woken(task, deadline, || Err::<(), _>(Errno::EAGAIN));
    let task = task.clone();
    Ok(Flow::block(async move {
        if wait.await != Err(Ended::Interrupted) {
            return Ok(0);
        }
        if left != 0 {
            let rest = deadline.unwrap_or(u64::MAX).saturating_sub(task.kernel().host.clock.monotonic());
            task.mm().put(left, &Timespec::from_nanos(rest))?;
        }
        Err(task.restart_with(move |cx| sleep(cx.task, deadline, left)))
    }))
}

fn timerfd_create(cx: &mut Cx<'_>, [id, flags, ..]: Args) -> SysResult {
    let (id, flags) = (id as u32, flags as u32);
    if flags & !(c::TFD_CLOEXEC | c::TFD_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    match id {
        c::CLOCK_REALTIME | c::CLOCK_MONOTONIC | c::CLOCK_BOOTTIME => {}
        c::CLOCK_REALTIME_ALARM | c::CLOCK_BOOTTIME_ALARM if cx.task.credentials().has(c::CAP_WAKE_ALARM) => {}
        c::CLOCK_REALTIME_ALARM | c::CLOCK_BOOTTIME_ALARM => return Err(Errno::EPERM),
        _ => return Err(Errno::EINVAL),
    }
    let file = Timerfd::new(cx.kernel, Clock::of(cx.task, id as i32)?, id);
    Ok(install(cx, file, c::O_RDWR | flags & c::TFD_NONBLOCK, flags)?.into())
}

fn timerfd(description: &Description) -> Result<&Timerfd> {
    description.as_file().ok_or(Errno::EINVAL)
}

fn timerfd_settime(cx: &mut Cx<'_>, [fd, flags, new, old, ..]: Args) -> SysResult {
    let flags = flags as u32;
    let mm = cx.task.mm();
    let spec: Itimerspec = mm.get(new)?;
    if flags & !(c::TFD_TIMER_ABSTIME | c::TFD_TIMER_CANCEL_ON_SET) != 0 {
        return Err(Errno::EINVAL);
    }
    let description = cx.task.file(fd as i32)?;
    // The clock is never set, so there is nothing that would cancel it.
    let before = timerfd(&description)?.set(&spec, flags & c::TFD_TIMER_ABSTIME != 0, flags)?;
    if old != 0 {
        mm.put(old, &before)?;
    }
    Ok(Flow::Done(0))
}
