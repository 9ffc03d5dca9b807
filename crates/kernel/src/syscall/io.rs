//! Reading and writing: `read write pread64 pwrite64 readv writev preadv pwritev preadv2 pwritev2 lseek`.

use super::{Args, Cx, Entry, Level, full};
use crate::fs::{Description, FileType, Io, notify};
use crate::mm::UserBuf;
use crate::socket::control::Sent;
use crate::socket::transfer::{self, Header};
use crate::task::Task;
use crate::task::account::{Way, counted};
use crate::wait::Events;
use crate::{Errno, Flow, Result, SysResult};
use alloc::sync::Arc;
use insula_abi::Sysno;
use insula_abi::general as c;

pub(super) const CALLS: &[Entry] = &[
    full(Sysno::read, |cx, [fd, base, len, ..]| read(cx, fd, Ok(UserBuf::new(&cx.task.mm(), base, len)), None)),
    full(Sysno::write, |cx, [fd, base, len, ..]| write(cx, fd, Ok(UserBuf::new(&cx.task.mm(), base, len)), None)),
    full(Sysno::pread64, |cx, [fd, base, len, at, ..]| read(cx, fd, Ok(UserBuf::new(&cx.task.mm(), base, len)), Some(at))),
    full(Sysno::pwrite64, |cx, [fd, base, len, at, ..]| write(cx, fd, Ok(UserBuf::new(&cx.task.mm(), base, len)), Some(at))),
    full(Sysno::readv, |cx, [fd, vector, count, ..]| read(cx, fd, pieces(cx, vector, count), None)),
    full(Sysno::writev, |cx, [fd, vector, count, ..]| write(cx, fd, pieces(cx, vector, count), None)),
    full(Sysno::preadv, |cx, [fd, vector, count, at, ..]| read(cx, fd, pieces(cx, vector, count), Some(at))),
    full(Sysno::pwritev, |cx, [fd, vector, count, at, ..]| write(cx, fd, pieces(cx, vector, count), Some(at))),
    Entry { number: Sysno::preadv2, level: Level::Partial("RWF_HIPRI, RWF_DSYNC and RWF_SYNC are hints"), handler: preadv2 },
    Entry { number: Sysno::pwritev2, level: Level::Partial("flags are hints, but RWF_APPEND"), handler: pwritev2 },
    full(Sysno::lseek, lseek),
];

/// An open file, if it has the position that a call gives; none uses and moves the file's own. As on Linux that comes before whether it is
/// open for reading or writing.
fn opened(cx: &mut Cx<'_>, fd: u64, position: Option<u64>) -> Result<Arc<Description>> {
    if position.is_some_and(|at| at > i64::MAX as u64) {
        return Err(Errno::EINVAL);
    }
    let description = cx.task.file(fd as i32)?;
    if description.flags() & c::O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    let seekable = description.file.is_seekable() || description.file.file_type() == FileType::Directory;
    if position.is_some() && !seekable { Err(Errno::ESPIPE) } else { Ok(description) }
}

fn read(cx: &mut Cx<'_>, fd: u64, buffer: Result<UserBuf>, position: Option<u64>) -> SysResult {
    read_with(cx, fd, buffer, position, true)
}

fn read_with(cx: &mut Cx<'_>, fd: u64, buffer: Result<UserBuf>, position: Option<u64>, waits: bool) -> SysResult {
    let description = opened(cx, fd, position)?;
    if !description.readable() {
        return Err(Errno::EBADF);
    }
    let buffer = buffer?;
    counted(cx.task, Way::Read, read_open(cx.task, &description, buffer, position, waits))
}

fn read_open(
    task: &Arc<Task>,
    description: &Arc<Description>,
    mut buffer: UserBuf,
    position: Option<u64>,
    waits: bool,
) -> SysResult {
    if description.file.file_type() == FileType::Socket {
        let empty = buffer.left() == 0;
        let flags = if waits { 0 } else { insula_abi::net::MSG_DONTWAIT };
        return if empty { Ok(Flow::Done(0)) } else { transfer::receive(task, description, buffer, Header::None, flags) };
    }
    if !waits {
        return read_once(description, task, position, &mut buffer).map(Flow::Done);
    }
    description
        .attempt(task, Events::READABLE, None, move |description, task| read_once(description, task, position, &mut buffer))
}

fn read_once(description: &Arc<Description>, task: &Arc<Task>, position: Option<u64>, buffer: &mut UserBuf) -> Result<u64> {
    let outcome = read_from(description, task, position, buffer);
    if matches!(outcome, Ok(1..)) {
        notify::accessed(task, description);
    }
    outcome
}

fn read_from(description: &Arc<Description>, task: &Arc<Task>, position: Option<u64>, buffer: &mut UserBuf) -> Result<u64> {
    let io = Io { task, flags: description.flags() };
    match position {
        Some(at) => description.file.read(&io, at, buffer).map(|count| count as u64),
        None if description.file.is_seekable() => {
            let mut position = description.position();
            let count = description.file.read(&io, *position, buffer)? as u64;
            *position += count;
            Ok(count)
        }
        None => description.file.read(&io, 0, buffer).map(|count| count as u64),
    }
}

fn write(cx: &mut Cx<'_>, fd: u64, buffer: Result<UserBuf>, position: Option<u64>) -> SysResult {
    write_with(cx, fd, buffer, position, false)
}

fn write_with(cx: &mut Cx<'_>, fd: u64, buffer: Result<UserBuf>, position: Option<u64>, append: bool) -> SysResult {
    let description = opened(cx, fd, position)?;
    if !description.writable() {
        return Err(Errno::EBADF);
    }
    let buffer = buffer?;
    counted(cx.task, Way::Write, write_open(cx.task, &description, buffer, position, append))
}

fn write_open(
    task: &Arc<Task>,
    description: &Arc<Description>,
    mut buffer: UserBuf,
    position: Option<u64>,
    append: bool,
) -> SysResult {
    if description.file.file_type() == FileType::Socket {
        return transfer::send(task, description, buffer, None, Sent::default(), 0);
    }
    // A write that is cut short by a signal, or by an error, has written what it has.
    let mut done = 0;
    description.attempt(task, Events::WRITABLE, None, move |description, task| {
        loop {
            match write_once(description, task, position, append, &mut buffer) {
                Ok(count) => {
                    done += count;
                    notify::written(task, description);
                    if count == 0 || buffer.left() == 0 || description.file.is_seekable() {
                        return Ok(done);
                    }
                }
                Err(Errno::EAGAIN) if done > 0 && (description.nonblocking() || task.interrupted()) => return Ok(done),
                Err(errno) if done > 0 && errno != Errno::EAGAIN => return Ok(done),
                Err(errno) => return Err(errno),
            }
        }
    })
}

fn write_once(
    description: &Arc<Description>,
    task: &Arc<Task>,
    position: Option<u64>,
    append: bool,
    buffer: &mut UserBuf,
) -> Result<u64> {
    let io = Io { task, flags: description.flags() };
    let file = &description.file;
    if !file.is_seekable() {
        return file.write(&io, 0, buffer).map(|count| count as u64);
    }
    if append || io.flags & c::O_APPEND != 0 {
        let mut own = description.position();
        let (count, end) = file.append(&io, buffer)?;
        if position.is_none() {
            *own = end;
        }
        return Ok(count as u64);
    }
    match position {
        Some(at) => file.write(&io, at, buffer).map(|count| count as u64),
        None => {
            let mut position = description.position();
            let count = file.write(&io, *position, buffer)? as u64;
            *position += count;
            Ok(count)
        }
    }
}

/// The pieces of a vector; Linux counts them with 32 bits.
fn pieces(cx: &Cx<'_>, vector: u64, count: u64) -> Result<UserBuf> {
    UserBuf::vectored(&cx.task.mm(), vector, u64::from(count as u32))
}

/// Flags that only hint at how: they change speed, or when the medium has it.
const HINTS: u32 = c::RWF_HIPRI | c::RWF_DSYNC | c::RWF_SYNC;

fn preadv2(cx: &mut Cx<'_>, [fd, vector, count, at, _, flags]: Args) -> SysResult {
    let flags = flags as u32;
    if flags & !(HINTS | c::RWF_NOWAIT) != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let position = (at != u64::MAX).then_some(at);
    let waits = flags & c::RWF_NOWAIT == 0;
    read_with(cx, fd, pieces(cx, vector, count), position, waits)
}

fn pwritev2(cx: &mut Cx<'_>, [fd, vector, count, at, _, flags]: Args) -> SysResult {
    let flags = flags as u32;
    if flags & !(HINTS | c::RWF_APPEND) != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let position = (at != u64::MAX).then_some(at);
    write_with(cx, fd, pieces(cx, vector, count), position, flags & c::RWF_APPEND != 0)
}

fn lseek(cx: &mut Cx<'_>, [fd, offset, whence, ..]: Args) -> SysResult {
    let description = cx.task.file(fd as i32)?;
    if description.flags() & c::O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    let file = &description.file;
    let mut position = description.position();
    let directory = file.file_type() == crate::fs::FileType::Directory;
    if !file.is_seekable() && !directory {
        return Err(Errno::ESPIPE);
    }
    if file.stays_at_start() {
        *position = 0;
        return Ok(Flow::Done(0));
    }
    let offset = offset as i64;
    let base = match whence as u32 {
        c::SEEK_SET => 0,
        c::SEEK_CUR => *position,
        c::SEEK_END => file.end()?,
        c::SEEK_DATA | c::SEEK_HOLE => {
            let from = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
            *position = file.seek_data(from, whence as u32 == c::SEEK_HOLE)?;
            return Ok(Flow::Done(*position));
        }
        _ => return Err(Errno::EINVAL),
    };
    let target = base.checked_add_signed(offset).filter(|target| *target <= i64::MAX as u64);
    *position = target.ok_or(if offset < 0 { Errno::EINVAL } else { Errno::EOVERFLOW })?;
    Ok(Flow::Done(*position))
}
