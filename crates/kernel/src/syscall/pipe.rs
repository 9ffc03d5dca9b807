//! Pipes: `pipe pipe2`.

use super::{Args, Cx, Entry, full};
use crate::fs::pipe::Pipe;
use crate::fs::{Description, File};
use crate::{Errno, Flow, Result, SysResult};
use alloc::sync::Arc;
use insula_abi::Sysno;
use insula_abi::general as c;

pub(super) const CALLS: &[Entry] =
    &[full(Sysno::pipe, |cx, [ends, ..]| pipe2(cx, [ends, 0, 0, 0, 0, 0])), full(Sysno::pipe2, pipe2)];

fn pipe2(cx: &mut Cx<'_>, [ends, flags, ..]: Args) -> SysResult {
    let flags = flags as u32;
    if flags & !(c::O_CLOEXEC | c::O_NONBLOCK | c::O_DIRECT) != 0 {
        return Err(Errno::EINVAL);
    }
    let (read, write) = Pipe::of(cx.task, cx.kernel.anonymous_inode()).both();
    let kept = flags & (c::O_NONBLOCK | c::O_DIRECT);
    let read = install(cx, read, c::O_RDONLY | kept, flags)?;
    let close = |fd: i32| drop(cx.task.descriptors().take(fd));
    let write = install(cx, write, c::O_WRONLY | kept, flags).inspect_err(|_| close(read))?;
    match cx.task.mm().put(ends, &[read, write]) {
        Ok(()) => Ok(Flow::Done(0)),
        Err(errno) => {
            close(read);
            close(write);
            Err(errno)
        }
    }
}

/// Gives the caller a descriptor of a file without a name, with the file's own flags; closed by execve(2) if `asked` has `O_CLOEXEC`.
pub(super) fn install(cx: &Cx<'_>, file: Arc<dyn File>, flags: u32, asked: u32) -> Result<i32> {
    let limit = cx.task.process.limit(c::RLIMIT_NOFILE);
    cx.task.descriptors().add(Description::new(file, None, flags), asked & c::O_CLOEXEC != 0, 0, limit)
}
