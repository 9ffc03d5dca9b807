//! Files to wait at: `signalfd signalfd4 eventfd eventfd2 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2`.

use super::pipe::install;
use super::poll::Mask;
use super::{Args, Cx, Entry, full, partial};
use crate::fs::Description;
use crate::fs::epoll::Epoll;
use crate::fs::eventfd::Eventfd;
use crate::fs::signalfd::Signalfd;
use crate::signal::SigSet;
use crate::task::Task;
use crate::wait::{Ended, Events, until};
use crate::{Errno, Flow, Result, SysResult};
use alloc::sync::Arc;
use insula_abi::Sysno;
use insula_abi::file::EpollEvent;
use insula_abi::general as c;
use insula_abi::time::Timespec;

pub(super) const CALLS: &[Entry] = &[
    partial(
        Sysno::signalfd,
        "who inherits one from another process isn't woken by its own signals",
        |cx, [fd, mask, size, ..]| signalfd(cx, fd, mask, size, 0),
    ),
    partial(Sysno::signalfd4, "as signalfd", |cx, [fd, mask, size, flags, ..]| signalfd(cx, fd, mask, size, flags)),
    full(Sysno::eventfd, |cx, [count, ..]| eventfd(cx, count, 0)),
    full(Sysno::eventfd2, |cx, [count, flags, ..]| eventfd(cx, count, flags)),
    full(Sysno::epoll_create, |cx, [size, ..]| if size as i32 <= 0 { Err(Errno::EINVAL) } else { epoll_create(cx, 0) }),
    full(Sysno::epoll_create1, |cx, [flags, ..]| epoll_create(cx, flags)),
    full(Sysno::epoll_ctl, epoll_ctl),
    full(Sysno::epoll_wait, |cx, [fd, events, most, timeout, ..]| {
        let deadline = milliseconds(cx, timeout);
        epoll_wait(cx, fd, events, most, deadline, Mask::NONE)
    }),
    full(Sysno::epoll_pwait, |cx, [fd, events, most, timeout, mask, size]| {
        let deadline = milliseconds(cx, timeout);
        let mask = Mask::read(cx, mask, size)?;
        epoll_wait(cx, fd, events, most, deadline, mask)
    }),
    full(Sysno::epoll_pwait2, |cx, [fd, events, most, timeout, mask, size]| {
        let deadline = match timeout {
            0 => None,
            at => Some(cx.kernel.host.clock.monotonic().saturating_add(cx.task.mm().get::<Timespec>(at)?.to_nanos()?)),
        };
        let mask = Mask::read(cx, mask, size)?;
        epoll_wait(cx, fd, events, most, deadline, mask)
    }),
];

fn eventfd(cx: &mut Cx<'_>, count: u64, flags: u64) -> SysResult {
    let flags = flags as u32;
    if flags & !(c::EFD_CLOEXEC | c::EFD_NONBLOCK | c::EFD_SEMAPHORE) != 0 {
        return Err(Errno::EINVAL);
    }
    let file = Eventfd::new(count as u32, flags & c::EFD_SEMAPHORE != 0);
    Ok(install(cx, file, c::O_RDWR | flags & c::EFD_NONBLOCK, flags)?.into())
}

fn signalfd(cx: &mut Cx<'_>, fd: u64, mask: u64, size: u64, flags: u64) -> SysResult {
    let flags = flags as u32;
    if flags & !(c::O_CLOEXEC | c::O_NONBLOCK) != 0 || size != 8 {
        return Err(Errno::EINVAL);
    }
    let mask = SigSet::blockable(cx.task.mm().get(mask)?);
    if fd as i32 == -1 {
        let file = Signalfd::new(cx.task, mask);
        return Ok(install(cx, file, c::O_RDWR | flags & c::O_NONBLOCK, flags)?.into());
    }
    let description = cx.task.file(fd as i32)?;
    description.as_file::<Signalfd>().ok_or(Errno::EINVAL)?.set(mask);
    Ok(fd.into())
}

fn epoll_create(cx: &mut Cx<'_>, flags: u64) -> SysResult {
    let flags = flags as u32;
    if flags & !c::EPOLL_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(install(cx, Epoll::new(cx.kernel), c::O_RDWR, flags)?.into())
}

/// A wait's deadline from milliseconds; negative ones are none.
pub(super) fn milliseconds(cx: &Cx<'_>, timeout: u64) -> Option<u64> {
    let timeout = u64::try_from(timeout as i32).ok()?;
    Some(cx.kernel.host.clock.monotonic() + timeout * 1_000_000)
}

fn epoll_of(description: &Description) -> Result<&Epoll> {
    description.as_file().ok_or(Errno::EINVAL)
}

fn epoll_ctl(cx: &mut Cx<'_>, [epoll, operation, fd, event, ..]: Args) -> SysResult {
    let operation = operation as u32;
    let event = match operation {
        c::EPOLL_CTL_DEL => EpollEvent::default(),
        _ => cx.task.mm().get::<EpollEvent>(event)?,
    };
    let own = cx.task.file(epoll as i32)?;
    let target = cx.task.file(fd as i32)?;
    if target.flags() & c::O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    if !target.file.can_be_watched() {
        return Err(Errno::EPERM);
    }
    if Arc::ptr_eq(&own, &target) {
        return Err(Errno::EINVAL);
    }
    let epoll = epoll_of(&own)?;
    match operation {
        c::EPOLL_CTL_ADD => epoll.add(fd as i32, &target, event)?,
        c::EPOLL_CTL_MOD => epoll.modify(fd as i32, &target, event)?,
        c::EPOLL_CTL_DEL => epoll.delete(fd as i32, &target)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(Flow::Done(0))
}

/// The most events one call may ask for (Linux: `EP_MAX_EVENTS`).
const MOST: u64 = i32::MAX as u64 / size_of::<EpollEvent>() as u64;

fn epoll_wait(cx: &mut Cx<'_>, fd: u64, events: u64, most: u64, deadline: Option<u64>, mask: Mask) -> SysResult {
    let most = most as i32 as u64;
    if !(1..=MOST).contains(&most) {
        return Err(Errno::EINVAL);
    }
    let description = cx.task.file(fd as i32)?;
    epoll_of(&description)?;
    let most = most as usize;
    let collect = {
        let (task, description) = (cx.task.clone(), description.clone());
        move || report(&task, &description, events, most)
    };
    match collect() {
        Err(Errno::EAGAIN) => {}
        outcome => return outcome.map(Flow::Done),
    }
    if deadline.is_some_and(|deadline| deadline <= cx.kernel.host.clock.monotonic()) {
        return Ok(Flow::Done(0));
    }
    let mask = mask.apply(cx.task);
    let wait = until(cx.task, &[(&*description.file, Events::IN)], deadline, collect);
    Ok(Flow::block(async move {
        let outcome = wait.await;
        mask.end(matches!(outcome, Err(Ended::Interrupted)));
        match outcome {
            Ok(outcome) => outcome,
            Err(Ended::TimedOut) => Ok(0),
            Err(Ended::Interrupted) => Err(Errno::EINTR),
        }
    }))
}

/// Tells the program what is ready.
fn report(task: &Arc<Task>, description: &Description, events: u64, most: usize) -> Result<u64> {
    let found = epoll_of(description)?.collect(most)?;
    let mm = task.mm();
    let mut at = events;
    for event in &found {
        mm.put(at, event)?;
        at += size_of::<EpollEvent>() as u64;
    }
    Ok(found.len() as u64)
}
