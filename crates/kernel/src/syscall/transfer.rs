//! From one open file to another: `sendfile copy_file_range splice tee vmsplice`.

use super::open::real;
use super::{Args, Cx, Entry, full};
use crate::fs::pipe::{self, Pipe};
use crate::fs::{Description, FileType, Io, file, notify};
use crate::mm::UserBuf;
use crate::task::Task;
use crate::task::account::{Way, counted};
use crate::wait::{self, Ended, Events, Pollable};
use crate::{Errno, Flow, Result, SysResult};
use alloc::sync::Arc;
use alloc::vec::Vec;
use insula_abi::Sysno;
use insula_abi::general as c;

pub(super) const CALLS: &[Entry] = &[
    full(Sysno::sendfile, sendfile),
    full(Sysno::copy_file_range, copy_file_range),
    full(Sysno::splice, splice),
    full(Sysno::tee, tee),
    full(Sysno::vmsplice, vmsplice),
];

/// Bytes that are carried at once.
const CHUNK: usize = 64 << 10;

/// The most bytes of one call that can't be interrupted.
const MOST: u64 = 64 << 20;

/// One side of a transfer: an open file, and where in it, if not at its own position.
#[derive(Clone)]
struct Side {
    description: Arc<Description>,
    at: Option<u64>,
    /// Where the program has `at`, and wants to find it afterwards.
    address: u64,
}

impl Side {
    /// `address` points to the position to use, or is null.
    fn new(cx: &Cx<'_>, description: Arc<Description>, address: u64) -> Result<Side> {
        let at = if address == 0 { None } else { Some(cx.task.mm().get::<i64>(address)?) };
        let at = at.map(|at| u64::try_from(at).map_err(|_| Errno::EINVAL)).transpose()?;
        if at.is_some() && !description.file.is_seekable() {
            return Err(Errno::ESPIPE);
        }
        Ok(Side { description, at, address })
    }

    fn position(&self) -> u64 {
        self.at.unwrap_or_else(|| *self.description.position())
    }

    fn advance(&mut self, by: u64) {
        match &mut self.at {
            Some(at) => *at += by,
            None if self.description.file.is_seekable() => *self.description.position() += by,
            None => {}
        }
    }

    fn io<'a>(&self, task: &'a Arc<Task>) -> Io<'a> {
        Io { task, flags: self.description.flags() }
    }

    fn read(&self, task: &Arc<Task>, into: &mut [u8]) -> Result<usize> {
        let count = self.description.file.read_bytes(&self.io(task), self.position(), into)?;
        notify::accessed(task, &self.description);
        Ok(count)
    }

    fn write(&self, task: &Arc<Task>, from: &[u8]) -> Result<usize> {
        let io = self.io(task);
        let mut from = from;
        let at = self.position();
        if self.description.file.file_type() == FileType::Regular && !from.is_empty() {
            let room = file::room(&io, at)?;
            from = &from[..usize::try_from(room).unwrap_or(usize::MAX).min(from.len())];
        }
        let count = self.description.file.write_bytes(&io, at, from)?;
        notify::written(task, &self.description);
        Ok(count)
    }

    fn pipe(&self) -> Option<&Arc<Pipe>> {
        pipe::of(&self.description)
    }

    /// Tells the program where its position is now.
    fn store(&self, task: &Arc<Task>) -> Result<()> {
        match self.at {
            Some(at) => task.mm().put(self.address, &at),
            None => Ok(()),
        }
    }
}

/// Moves a piece of at most so many bytes; 0 is the end.
type Step = fn(&Arc<Task>, &mut Side, &mut Side, &mut [u8]) -> Result<usize>;

/// How bytes are moved.
#[derive(Clone, Copy)]
struct Manner {
    step: Step,
    /// It waits for the first byte.
    waits: bool,
    /// And for all others.
    all: bool,
    /// One step is all.
    once: bool,
}

/// Moves bytes until there are `len`, or no more, or none without waiting.
fn transfer(task: &Arc<Task>, from: Side, to: Side, len: u64, manner: Manner) -> SysResult {
    let Manner { step, waits, all, once } = manner;
    let mut buffer: Vec<u8> = alloc::vec![0; CHUNK.min(usize::try_from(len).unwrap_or(CHUNK))];
    let (mut source, mut target, mut done) = (from.clone(), to.clone(), 0u64);
    let len = len.min(MOST);
    let owner = task.clone();
    let mut attempt = move || {
        let outcome = loop {
            if done == len || once && done > 0 {
                break Ok(());
            }
            let most = buffer.len().min((len - done) as usize);
            match step(&owner, &mut source, &mut target, &mut buffer[..most]) {
                Ok(0) => break Ok(()),
                Ok(count) => done += count as u64,
                Err(errno) => break Err(errno),
            }
        };
        match outcome {
            Err(Errno::EAGAIN) if done > 0 && all && waits && !owner.interrupted() => return Err(Errno::EAGAIN),
            Err(errno) if done == 0 => return Err(errno),
            _ => {}
        }
        source.store(&owner)?;
        target.store(&owner)?;
        Ok(done)
    };
    match attempt() {
        Err(Errno::EAGAIN) if waits => {}
        outcome => return outcome.map(Flow::Done),
    }
    let sources: [(&dyn Pollable, Events); 2] =
        [(&*from.description.file, Events::READABLE), (&*to.description.file, Events::WRITABLE)];
    let wait = wait::until(task, &sources, None, attempt);
    Ok(Flow::block(async move {
        match wait.await {
            Ok(outcome) => outcome,
            Err(Ended::Interrupted | Ended::TimedOut) => Err(Errno::RESTARTSYS),
        }
    }))
}

/// How many of so many bytes can be written now, as far as that is known before.
fn room(task: &Arc<Task>, to: &Side, len: usize) -> Result<usize> {
    let Some(pipe) = to.pipe() else { return Ok(len) };
    match pipe.writable() {
        // The pipe itself knows what else happens to who writes to nobody.
        Err(Errno::EPIPE) => to.write(task, &[0]),
        outcome => outcome.map(|room| room.min(len)),
    }
}

/// From a file that can be read anywhere: what isn't written is read again.
fn from_file(task: &Arc<Task>, from: &mut Side, to: &mut Side, buffer: &mut [u8]) -> Result<usize> {
    // More than a pipe takes is read in vain.
    let most = room(task, to, buffer.len())?;
    let got = from.read(task, &mut buffer[..most])?;
    if got == 0 {
        return Ok(0);
    }
    let count = to.write(task, &buffer[..got])?;
    from.advance(count as u64);
    to.advance(count as u64);
    Ok(count)
}

/// From a pipe: bytes are taken out once they are written.
fn from_pipe(task: &Arc<Task>, from: &mut Side, to: &mut Side, buffer: &mut [u8]) -> Result<usize> {
    let count = copy_from_pipe(task, from, to, buffer)?;
    if count > 0 {
        from.read(task, &mut buffer[..count])?;
    }
    Ok(count)
}

/// From a pipe, where the bytes stay.
fn copy_from_pipe(task: &Arc<Task>, from: &mut Side, to: &mut Side, buffer: &mut [u8]) -> Result<usize> {
    let pipe = from.pipe().ok_or(Errno::EINVAL)?.clone();
    let most = room(task, to, buffer.len())?;
    let got = pipe.peek(&mut buffer[..most])?;
    if got == 0 {
        return Ok(0);
    }
    let count = to.write(task, &buffer[..got])?;
    to.advance(count as u64);
    Ok(count)
}

fn sendfile(cx: &mut Cx<'_>, [out, input, offset, count, ..]: Args) -> SysResult {
    let from = real(cx.task, input as i32)?;
    let to = real(cx.task, out as i32)?;
    if !from.readable() || !to.writable() {
        return Err(Errno::EBADF);
    }
    let source = Side::new(cx, from.clone(), offset)?;
    if from.file.file_type() == FileType::Directory || !from.file.is_seekable() || to.flags() & c::O_APPEND != 0 {
        return Err(Errno::EINVAL);
    }
    let waits = !to.nonblocking();
    let target = Side::new(cx, to, 0)?;
    counted(
        cx.task,
        Way::Both,
        transfer(cx.task, source, target, count, Manner { step: from_file, waits, all: true, once: false }),
    )
}

fn copy_file_range(cx: &mut Cx<'_>, [input, from_at, out, to_at, len, flags]: Args) -> SysResult {
    let from = real(cx.task, input as i32)?;
    let to = real(cx.task, out as i32)?;
    if flags as u32 != 0 {
        return Err(Errno::EINVAL);
    }
    for description in [&from, &to] {
        match description.file.file_type() {
            FileType::Regular => {}
            FileType::Directory => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
    }
    if !from.readable() || !to.writable() || to.flags() & c::O_APPEND != 0 {
        return Err(Errno::EBADF);
    }
    let same = crate::fs::locks::key(&from)? == crate::fs::locks::key(&to)?;
    let source = Side::new(cx, from, from_at)?;
    let target = Side::new(cx, to, to_at)?;
    let (start, into) = (source.position(), target.position());
    let fits = |at: u64| at.checked_add(len).is_some_and(|end| end <= i64::MAX as u64);
    if !fits(start) || !fits(into) {
        return Err(Errno::EOVERFLOW);
    }
    if same && start < into.saturating_add(len) && into < start.saturating_add(len) {
        return Err(Errno::EINVAL);
    }
    let manner = Manner { step: from_file, waits: false, all: true, once: false };
    counted(cx.task, Way::Both, transfer(cx.task, source, target, len, manner))
}

const SPLICE_FLAGS: u32 = c::SPLICE_F_MOVE | c::SPLICE_F_NONBLOCK | c::SPLICE_F_MORE | c::SPLICE_F_GIFT;

fn splice(cx: &mut Cx<'_>, [input, from_at, out, to_at, len, flags]: Args) -> SysResult {
    let flags = flags as u32;
    if len == 0 {
        return Ok(Flow::Done(0));
    }
    if flags & !SPLICE_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let from = real(cx.task, input as i32)?;
    let to = real(cx.task, out as i32)?;
    if !from.readable() || !to.writable() {
        return Err(Errno::EBADF);
    }
    let (source_pipe, target_pipe) = (pipe::of(&from).cloned(), pipe::of(&to).cloned());
    if source_pipe.is_some() && from_at != 0 || target_pipe.is_some() && to_at != 0 {
        return Err(Errno::ESPIPE);
    }
    match (&source_pipe, &target_pipe) {
        (None, None) => return Err(Errno::EINVAL),
        (Some(one), Some(other)) if Arc::ptr_eq(one, other) => return Err(Errno::EINVAL),
        _ => {}
    }
    if to.flags() & c::O_APPEND != 0 && target_pipe.is_none() {
        return Err(Errno::EINVAL);
    }
    let waits = flags & c::SPLICE_F_NONBLOCK == 0 && !from.nonblocking() && !to.nonblocking();
    let source = Side::new(cx, from, from_at)?;
    let target = Side::new(cx, to, to_at)?;
    let step = if source_pipe.is_some() { from_pipe } else { from_file };
    transfer(cx.task, source, target, len, Manner { step, waits, all: false, once: false })
}

fn tee(cx: &mut Cx<'_>, [input, out, len, flags, ..]: Args) -> SysResult {
    let flags = flags as u32;
    if flags & !SPLICE_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(Flow::Done(0));
    }
    let from = real(cx.task, input as i32)?;
    let to = real(cx.task, out as i32)?;
    if !from.readable() || !to.writable() {
        return Err(Errno::EBADF);
    }
    match (pipe::of(&from), pipe::of(&to)) {
        (Some(one), Some(other)) if !Arc::ptr_eq(one, other) => {}
        _ => return Err(Errno::EINVAL),
    }
    let waits = flags & c::SPLICE_F_NONBLOCK == 0 && !from.nonblocking() && !to.nonblocking();
    let source = Side::new(cx, from, 0)?;
    let target = Side::new(cx, to, 0)?;
    // The bytes stay: a second step would copy the first ones again.
    transfer(cx.task, source, target, len, Manner { step: copy_from_pipe, waits, all: false, once: true })
}

fn vmsplice(cx: &mut Cx<'_>, [fd, vector, count, flags, ..]: Args) -> SysResult {
    let flags = flags as u32;
    if flags & !SPLICE_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let description = real(cx.task, fd as i32)?;
    if pipe::of(&description).is_none() {
        return Err(Errno::EBADF);
    }
    let mut buffer = UserBuf::vectored(&cx.task.mm(), vector, count)?;
    let once = flags & c::SPLICE_F_NONBLOCK != 0;
    let writes = description.writable();
    let operation = move |description: &Arc<Description>, task: &Arc<Task>| {
        let io = Io { task, flags: description.flags() };
        let file = &description.file;
        let count = if writes { file.write(&io, 0, &mut buffer) } else { file.read(&io, 0, &mut buffer) };
        count.map(|count| count as u64)
    };
    if once {
        let mut operation = operation;
        return operation(&description, cx.task).map(Flow::Done);
    }
    description.attempt(cx.task, if writes { Events::WRITABLE } else { Events::READABLE }, None, operation)
}
