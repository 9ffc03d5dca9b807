//! POSIX message queues, mq_overview(7): `mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr`.

use super::{Args, Cx, Entry, full, partial, pipe};
use crate::fs::Description;
use crate::ipc::mqueue::{Notice, Open, PRIORITIES, Queue, Received};
use crate::signal::LAST;
use crate::time;
use crate::wait::{Ended, Events, until};
use crate::{Errno, Flow, Result, SysResult};
use alloc::sync::Arc;
use insula_abi::Sysno;
use insula_abi::general as c;
use insula_abi::ipc::MqAttr;
use insula_abi::signal::Sigevent;
use insula_abi::time::Timespec;

pub(super) const CALLS: &[Entry] = &[
    full(Sysno::mq_open, mq_open),
    full(Sysno::mq_unlink, |cx, [name, ..]| {
        let name = cx.task.mm().path(name)?;
        cx.task.spaces().ipc.holds.queues.unlink(cx.task, &name).map(Flow::from)
    }),
    full(Sysno::mq_timedsend, send),
    full(Sysno::mq_timedreceive, receive),
    partial(Sysno::mq_notify, "no SIGEV_THREAD", notify),
    full(Sysno::mq_getsetattr, getsetattr),
];

fn mq_open(cx: &mut Cx<'_>, [name, flags, mode, attributes, ..]: Args) -> SysResult {
    let (mm, flags) = (cx.task.mm(), flags as u32);
    let attributes = if attributes == 0 { None } else { Some(mm.get::<MqAttr>(attributes)?) };
    let name = mm.path(name)?;
    let queue = cx.task.spaces().ipc.holds.queues.open(cx.task, &name, flags, mode as u32, attributes)?;
    let kept = flags & (c::O_ACCMODE | c::O_NONBLOCK);
    Ok(pipe::install(cx, Arc::new(Open(queue)), kept, flags)?.into())
}

/// An open queue.
fn opened(cx: &Cx<'_>, fd: u64) -> Result<(Arc<Description>, Arc<Queue>)> {
    let description = cx.task.file(fd as i32)?;
    let queue = description.as_file::<Open>().ok_or(Errno::EBADF)?.0.clone();
    Ok((description, queue))
}

/// Until when a call waits, by the monotonic clock; it says so by the other.
fn deadline(cx: &Cx<'_>, timeout: u64) -> Result<Option<u64>> {
    if timeout == 0 {
        return Ok(None);
    }
    let at = cx.task.mm().get::<Timespec>(timeout)?.to_nanos()?;
    Ok(Some(time::from_realtime(cx.kernel, at)))
}

fn ended(ended: Ended) -> Errno {
    if ended == Ended::TimedOut { Errno::ETIMEDOUT } else { Errno::RESTARTSYS }
}

fn send(cx: &mut Cx<'_>, [fd, address, len, priority, timeout, _]: Args) -> SysResult {
    let priority = priority as u32;
    if priority >= PRIORITIES {
        return Err(Errno::EINVAL);
    }
    let deadline = deadline(cx, timeout)?;
    let (description, queue) = opened(cx, fd)?;
    if !description.writable() {
        return Err(Errno::EBADF);
    }
    if len > queue.limits().1 as u64 {
        return Err(Errno::EMSGSIZE);
    }
    let mut text = alloc::vec![0; len as usize];
    cx.task.mm().read(address, &mut text)?;
    match queue.send(cx.task, priority, &mut text) {
        Err(Errno::EAGAIN) if !description.nonblocking() => {}
        outcome => return outcome.map(Flow::from),
    }
    let task = cx.task.clone();
    let wait =
        until(cx.task, &[(&*description.file, Events::WRITABLE)], deadline, move || queue.send(&task, priority, &mut text));
    Ok(Flow::block(async move {
        let _open = description;
        wait.await.unwrap_or_else(|why| Err(ended(why))).map(|()| 0)
    }))
}

fn receive(cx: &mut Cx<'_>, [fd, address, room, priority, timeout, _]: Args) -> SysResult {
    let deadline = deadline(cx, timeout)?;
    let (description, queue) = opened(cx, fd)?;
    if !description.readable() {
        return Err(Errno::EBADF);
    }
    if room < queue.limits().1 as u64 {
        return Err(Errno::EMSGSIZE);
    }
    let mm = cx.task.mm();
    let give = move |(of, text): Received| {
        if priority != 0 {
            mm.put(priority, &of)?;
        }
        mm.write(address, &text)?;
        Ok(text.len() as u64)
    };
    match queue.receive() {
        Err(Errno::EAGAIN) if !description.nonblocking() => {}
        outcome => return give(outcome?).map(Flow::Done),
    }
    let waiting = queue.waits();
    let wait = until(cx.task, &[(&*description.file, Events::READABLE)], deadline, move || waiting.receive());
    Ok(Flow::block(async move {
        let _open = description;
        let outcome = wait.await;
        give(outcome.unwrap_or_else(|why| Err(ended(why)))?)
    }))
}

fn notify(cx: &mut Cx<'_>, [fd, event, ..]: Args) -> SysResult {
    let event: Option<Sigevent> = if event == 0 { None } else { Some(cx.task.mm().get(event)?) };
    let signal = match &event {
        None => 0,
        Some(event) => match event.notify as u32 {
            c::SIGEV_NONE => 0,
            c::SIGEV_SIGNAL if (1..=LAST).contains(&event.signo) => event.signo,
            _ => return Err(Errno::EINVAL),
        },
    };
    let (_, queue) = opened(cx, fd)?;
    let process = &cx.task.process;
    let notice = event.map(|event| Notice { process: Arc::downgrade(process), signal, value: event.value });
    queue.notify(process, notice).map(Flow::from)
}

fn getsetattr(cx: &mut Cx<'_>, [fd, new, old, ..]: Args) -> SysResult {
    let mm = cx.task.mm();
    let new: Option<MqAttr> = if new == 0 { None } else { Some(mm.get(new)?) };
    if new.is_some_and(|new| new.flags & !i64::from(c::O_NONBLOCK) != 0) {
        return Err(Errno::EINVAL);
    }
    let (description, queue) = opened(cx, fd)?;
    let (maxmsg, msgsize) = queue.limits();
    let flags = i64::from(description.flags() & c::O_NONBLOCK);
    let before = MqAttr { flags, maxmsg, msgsize, curmsgs: queue.count(), ..MqAttr::default() };
    if let Some(new) = new {
        description.set_flags(c::O_NONBLOCK, new.flags as u32);
    }
    if old != 0 {
        mm.put(old, &before)?;
    }
    Ok(Flow::Done(0))
}
