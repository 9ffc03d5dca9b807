//! Descriptors: `open openat openat2 creat close close_range dup dup2 dup3`.

use super::{Args, Cx, Entry, full};
use crate::fs::open::{self, How};
use crate::fs::{Description, FileType};
use crate::task::Task;
use crate::wait::{Events, until};
use crate::{Errno, Flow, Result, SysResult};
use alloc::sync::Arc;
use insula_abi::Sysno;
use insula_abi::file::OpenHow;
use insula_abi::general as c;

pub(super) const CALLS: &[Entry] = &[
    full(Sysno::open, |cx, [path, flags, mode, ..]| open(cx, c::AT_FDCWD, path, flags, mode)),
    full(Sysno::creat, |cx, [path, mode, ..]| {
        open(cx, c::AT_FDCWD, path, u64::from(c::O_CREAT | c::O_WRONLY | c::O_TRUNC), mode)
    }),
    full(Sysno::openat, |cx, [dirfd, path, flags, mode, ..]| open(cx, dirfd as i32, path, flags, mode)),
    full(Sysno::openat2, openat2),
    full(Sysno::close, close),
    full(Sysno::close_range, close_range),
    full(Sysno::dup, |cx, [fd, ..]| {
        let description = cx.task.file(fd as i32)?;
        install(cx.task, description, false)
    }),
    full(Sysno::dup2, dup2),
    full(Sysno::dup3, dup3),
];

/// Gives the caller a descriptor of an open file.
pub(super) fn install(task: &Arc<Task>, description: Arc<Description>, close_on_exec: bool) -> SysResult {
    let limit = task.process.limit(c::RLIMIT_NOFILE);
    Ok(task.descriptors().add(description, close_on_exec, 0, limit)?.into())
}

fn open(cx: &mut Cx<'_>, dirfd: i32, path: u64, flags: u64, mode: u64) -> SysResult {
    let mut flags = flags as u32 & open::KNOWN;
    if flags & c::O_PATH != 0 {
        flags &= open::WITH_PATH;
    }
    let makes = flags & (c::O_CREAT | c::O_TMPFILE & !c::O_DIRECTORY) != 0;
    let how = How { flags, mode: if makes { mode as u32 & 0o7777 } else { 0 }, resolve: 0 };
    open_how(cx, dirfd, path, &how)
}

fn openat2(cx: &mut Cx<'_>, [dirfd, path, address, size, ..]: Args) -> SysResult {
    let how: OpenHow = super::structure(cx.task, address, size, size_of::<OpenHow>())?;
    let known = open::KNOWN;
    let resolve = c::RESOLVE_NO_XDEV
        | c::RESOLVE_NO_MAGICLINKS
        | c::RESOLVE_NO_SYMLINKS
        | c::RESOLVE_BENEATH
        | c::RESOLVE_IN_ROOT
        | c::RESOLVE_CACHED;
    let both = u64::from(c::RESOLVE_BENEATH | c::RESOLVE_IN_ROOT);
    if how.flags & !u64::from(known) != 0 || how.resolve & !u64::from(resolve) != 0 || how.resolve & both == both {
        return Err(Errno::EINVAL);
    }
    let flags = how.flags as u32;
    let makes = flags & (c::O_CREAT | c::O_TMPFILE & !c::O_DIRECTORY) != 0;
    if how.mode & !0o7777 != 0 || !makes && how.mode != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & c::O_PATH != 0 && flags & !open::WITH_PATH != 0 {
        return Err(Errno::EINVAL);
    }
    if how.resolve & u64::from(c::RESOLVE_CACHED) != 0 && (makes || flags & c::O_TRUNC != 0) {
        return Err(Errno::EAGAIN);
    }
    open_how(cx, dirfd as i32, path, &How { flags, mode: how.mode as u32, resolve: how.resolve })
}

fn open_how(cx: &mut Cx<'_>, dirfd: i32, path: u64, how: &How) -> SysResult {
    let unnamed = c::O_TMPFILE & !c::O_DIRECTORY;
    if how.flags & unnamed != 0 && (how.flags & c::O_DIRECTORY == 0 || how.flags & c::O_ACCMODE == c::O_RDONLY) {
        return Err(Errno::EINVAL);
    }
    if how.flags & (c::O_CREAT | c::O_DIRECTORY) == c::O_CREAT | c::O_DIRECTORY {
        return Err(Errno::EINVAL);
    }
    let path = cx.task.mm().path(path)?;
    let description = open::open(cx.task, dirfd, &path, how)?;
    let close_on_exec = how.flags & c::O_CLOEXEC != 0;
    match description.file.opening() {
        Err(Errno::EAGAIN) => {}
        outcome => return outcome.and_then(|()| install(cx.task, description, close_on_exec)),
    }
    let opened = description.clone();
    let wait = until(cx.task, &[(&*description.file, Events::all())], None, move || opened.file.opening());
    let task = cx.task.clone();
    Ok(Flow::block(async move {
        match wait.await {
            Ok(outcome) => outcome?,
            Err(_) => return Err(Errno::RESTARTSYS),
        }
        let limit = task.process.limit(c::RLIMIT_NOFILE);
        Ok(task.descriptors().add(description, close_on_exec, 0, limit)? as u64)
    }))
}

/// A descriptor of an open file was taken out of a table.
pub(crate) fn closed(task: &Arc<Task>, description: &Arc<Description>) {
    description.file.flush(task);
    crate::fs::dnotify::end(description, task.descriptors().as_owner());
    task.descriptors().unlock(description, &task.kernel().locks);
}

fn close(cx: &mut Cx<'_>, [fd, ..]: Args) -> SysResult {
    let description = cx.task.descriptors().take(fd as i32)?;
    closed(cx.task, &description);
    Ok(Flow::Done(0))
}

/// close_range(2): from a copy of the table.
const CLOSE_RANGE_UNSHARE: u32 = 2;
/// close_range(2): only mark them to be closed by execve(2).
const CLOSE_RANGE_CLOEXEC: u32 = 4;

fn close_range(cx: &mut Cx<'_>, [first, last, flags, ..]: Args) -> SysResult {
    let (first, last, flags) = (first as u32, last as u32, flags as u32);
    if first > last || flags & !(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & CLOSE_RANGE_UNSHARE != 0 {
        let own = cx.task.descriptors().copy();
        cx.task.set_descriptors(own);
    }
    for description in cx.task.descriptors().take_range(first, last, flags & CLOSE_RANGE_CLOEXEC != 0) {
        closed(cx.task, &description);
    }
    Ok(Flow::Done(0))
}

fn dup2(cx: &mut Cx<'_>, [old, new, ..]: Args) -> SysResult {
    if old as i32 == new as i32 {
        cx.task.file(old as i32)?;
        return Ok((new as i32).into());
    }
    put(cx, old, new, false)
}

fn dup3(cx: &mut Cx<'_>, [old, new, flags, ..]: Args) -> SysResult {
    if old as i32 == new as i32 || flags as u32 & !c::O_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    put(cx, old, new, flags as u32 & c::O_CLOEXEC != 0)
}

fn put(cx: &mut Cx<'_>, old: u64, new: u64, close_on_exec: bool) -> SysResult {
    let limit = cx.task.process.limit(c::RLIMIT_NOFILE);
    if u64::from(new as u32) >= limit {
        return Err(Errno::EBADF);
    }
    let description = cx.task.file(old as i32)?;
    if let Some(before) = cx.task.descriptors().put(new as i32, description, close_on_exec, limit)? {
        closed(cx.task, &before);
    }
    Ok((new as i32).into())
}

/// An open file that isn't just named (`O_PATH`).
pub(crate) fn real(task: &Arc<Task>, fd: i32) -> Result<Arc<Description>> {
    let description = task.file(fd)?;
    if description.flags() & c::O_PATH != 0 { Err(Errno::EBADF) } else { Ok(description) }
}

/// An open file that is a directory.
pub(super) fn directory(task: &Arc<Task>, fd: i32) -> Result<Arc<Description>> {
    let description = real(task, fd)?;
    if description.file.file_type() == FileType::Directory { Ok(description) } else { Err(Errno::ENOTDIR) }
}
