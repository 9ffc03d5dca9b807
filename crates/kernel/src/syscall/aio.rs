//! Asynchronous reading and writing, io_setup(2): `io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents`.
//!
//! As on Linux with files that are read through its cache, an operation is over when io_submit(2) returns; what is asynchronous is only who
//! asks how it went.

use super::{Args, Cx, Entry, full, partial};
use crate::fs::eventfd::Eventfd;
use crate::fs::{Description, Io};
use crate::mm::{Area, MapRequest, Place, Protection, UserBuf};
use crate::signal::SigSet;
use crate::sync::Mutex;
use crate::task::Task;
use crate::wait::{Ended, Events, Observer, Pollable, Queue, Registration, until};
use crate::{Errno, Flow, Result, SysResult};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use insula_abi::file::{IoEvent, Iocb};
use insula_abi::general as c;
use insula_abi::time::Timespec;
use insula_abi::{PAGE, Sysno};

pub(super) const CALLS: &[Entry] = &[
    full(Sysno::io_setup, io_setup),
    full(Sysno::io_destroy, io_destroy),
    partial(
        Sysno::io_submit,
        "operations are over when it returns; what would wait fails with EAGAIN; no IOCB_CMD_POLL",
        io_submit,
    ),
    full(Sysno::io_cancel, |cx, [context, block, ..]| {
        // Nothing is ever under way.
        cx.task.mm().get::<Iocb>(block)?;
        Err(find(cx.task, context).err().unwrap_or(Errno::EINVAL))
    }),
    full(Sysno::io_getevents, |cx, [context, least, most, to, timeout, _]| {
        get_events(cx, [context, least, most, to, timeout], None)
    }),
    full(Sysno::io_pgetevents, |cx, [context, least, most, to, timeout, signals]| {
        let mask = match signals {
            0 => None,
            at => {
                let [mask, size]: [u64; 2] = cx.task.mm().get(at)?;
                match mask {
                    0 => None,
                    _ if size != 8 => return Err(Errno::EINVAL),
                    mask => Some(cx.task.mm().get::<u64>(mask)?),
                }
            }
        };
        get_events(cx, [context, least, most, to, timeout], mask)
    }),
];

/// The most events of all contexts of a process (`fs.aio-max-nr`).
const MOST: u64 = 65536;

/// The contexts of a process, by the address that stands for each.
#[derive(Default)]
pub struct Contexts(Mutex<BTreeMap<u64, Arc<Context>>>);

/// A context: events that nobody has asked for yet.
struct Context {
    most: u64,
    events: Mutex<VecDeque<IoEvent>>,
    queue: Arc<Queue>,
}

impl Contexts {
    /// All are gone, by execve(2).
    pub fn clear(&self) {
        let all = core::mem::take(&mut *self.0.lock());
        drop(all);
    }
}

impl Pollable for Context {
    fn poll(&self) -> Events {
        if self.events.lock().is_empty() { Events::empty() } else { Events::READABLE }
    }

    fn observe(&self, interest: Events, observer: &Arc<dyn Observer>) -> Vec<Registration> {
        alloc::vec![self.queue.register(interest, observer.clone())]
    }
}

impl Context {
    /// Takes up to `most` events, if there are `least`.
    fn take(&self, least: u64, most: u64) -> Result<Vec<IoEvent>> {
        let mut events = self.events.lock();
        let count = events.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        if (events.len() as u64) < least { Err(Errno::EAGAIN) } else { Ok(events.drain(..count).collect()) }
    }
}

fn find(task: &Task, context: u64) -> Result<Arc<Context>> {
    task.process.aio.0.lock().get(&context).cloned().ok_or(Errno::EINVAL)
}

fn io_setup(cx: &mut Cx<'_>, [count, to, ..]: Args) -> SysResult {
    let mm = cx.task.mm();
    let count = u64::from(count as u32);
    if mm.get::<u64>(to)? != 0 || count == 0 {
        return Err(Errno::EINVAL);
    }
    let contexts = &cx.task.process.aio;
    let used: u64 = contexts.0.lock().values().map(|context| context.most).sum();
    if used + count > MOST {
        return Err(Errno::EAGAIN);
    }
    // Programs look for a ring there; zeros aren't one, so they ask us.
    let area = Area { label: "[aio]", ..Area::anonymous(Protection::READ | Protection::WRITE) };
    let at = mm.map(MapRequest { place: Place::Hint(0), len: PAGE, area })?;
    let context = Context { most: count, events: Mutex::default(), queue: Queue::new() };
    contexts.0.lock().insert(at, Arc::new(context));
    mm.put(to, &at).map(Flow::from)
}

fn io_destroy(cx: &mut Cx<'_>, [context, ..]: Args) -> SysResult {
    let removed = cx.task.process.aio.0.lock().remove(&context);
    removed.ok_or(Errno::EINVAL)?;
    // The program may have unmapped it itself.
    let _ = cx.task.mm().unmap(context, PAGE);
    Ok(Flow::Done(0))
}

fn io_submit(cx: &mut Cx<'_>, [context, count, list, ..]: Args) -> SysResult {
    let mm = cx.task.mm();
    if (count as i64) < 0 {
        return Err(Errno::EINVAL);
    }
    let context = find(cx.task, context)?;
    let mut done = 0;
    while done < count {
        let outcome = mm.get::<u64>(list.wrapping_add(done * 8)).and_then(|block| submit(cx.task, &context, block));
        match outcome {
            Ok(()) => done += 1,
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        }
        if cx.task.interrupted() {
            break;
        }
    }
    Ok(done.into())
}

/// Does one operation.
fn submit(task: &Arc<Task>, context: &Context, address: u64) -> Result<()> {
    let block: Iocb = task.mm().get(address)?;
    if block.reserved != 0 || block.count > i64::MAX as u64 {
        return Err(Errno::EINVAL);
    }
    if context.events.lock().len() as u64 >= context.most {
        return Err(Errno::EAGAIN);
    }
    let description = task.file(block.fd as i32)?;
    let told = match block.flags & Iocb::RESFD {
        0 => None,
        _ => Some(task.file(block.told as i32)?),
    };
    if told.as_ref().is_some_and(|told| told.as_file::<Eventfd>().is_none()) {
        return Err(Errno::EINVAL);
    }
    let result = match perform(task, &description, &block)? {
        Ok(count) => count as i64,
        Err(errno) => -i64::from(errno.0),
    };
    context.events.lock().push_back(IoEvent { data: block.data, block: address, result, more: 0 });
    context.queue.wake(Events::READABLE);
    if let Some(events) = told.as_ref().and_then(|told| told.as_file::<Eventfd>()) {
        events.add(1);
    }
    Ok(())
}

/// What becomes of an operation; an error outside says that it isn't one.
fn perform(task: &Arc<Task>, description: &Arc<Description>, block: &Iocb) -> Result<Result<u64>> {
    let (reads, vectored) = match block.operation {
        Iocb::PREAD => (true, false),
        Iocb::PWRITE => (false, false),
        Iocb::PREADV => (true, true),
        Iocb::PWRITEV => (false, true),
        Iocb::FSYNC => return Ok(description.file.sync(false).map(|()| 0)),
        Iocb::FDSYNC => return Ok(description.file.sync(true).map(|()| 0)),
        _ => return Err(Errno::EINVAL),
    };
    let open = if reads { description.readable() } else { description.writable() };
    if !open || description.flags() & c::O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    if block.offset > i64::MAX as u64 {
        return Err(Errno::EINVAL);
    }
    let mm = task.mm();
    let mut buffer =
        if vectored { UserBuf::vectored(&mm, block.buffer, block.count)? } else { UserBuf::new(&mm, block.buffer, block.count) };
    let io = Io { task, flags: description.flags() };
    let count = match reads {
        true => description.file.read(&io, block.offset, &mut buffer),
        false if description.flags() & c::O_APPEND != 0 => description.file.append(&io, &mut buffer).map(|(count, _)| count),
        false => description.file.write(&io, block.offset, &mut buffer),
    };
    Ok(count.map(|count| count as u64))
}

fn get_events(cx: &mut Cx<'_>, [context, least, most, to, timeout]: [u64; 5], mask: Option<u64>) -> SysResult {
    let mm = cx.task.mm();
    if (least as i64) < 0 || (most as i64) < 0 || least > most {
        return Err(Errno::EINVAL);
    }
    let deadline = match timeout {
        0 => None,
        at => Some(cx.kernel.host.clock.monotonic().saturating_add(mm.get::<Timespec>(at)?.to_nanos()?)),
    };
    let context = find(cx.task, context)?;
    let give = move |events: Vec<IoEvent>| {
        for (index, event) in events.iter().enumerate() {
            mm.put(to.wrapping_add(index as u64 * size_of::<IoEvent>() as u64), event)?;
        }
        Ok(events.len() as u64)
    };
    match context.take(least, most) {
        Err(Errno::EAGAIN) => {}
        outcome => return give(outcome?).map(Flow::Done),
    }
    if let Some(mask) = mask {
        cx.task.set_temporary_mask(SigSet(mask));
    }
    let (own, task) = (context.clone(), cx.task.clone());
    let wait = until(cx.task, &[(&*context, Events::READABLE)], deadline, move || own.take(least, most));
    Ok(Flow::block(async move {
        let outcome = wait.await;
        match outcome {
            Err(Ended::Interrupted) => return Err(Errno::RESTARTNOHAND),
            _ if mask.is_some() => task.end_temporary_mask(),
            _ => {}
        }
        // When the time is over, what there is is enough.
        give(outcome.unwrap_or_else(|_| context.take(0, most))?)
    }))
}
