//! Programs: `execve execveat`.

use super::{Args, Cx, Entry, full};
use crate::exec::{self, Loaded, Request, stack};
use crate::mm::Mm;
use crate::task::Task;
use crate::{Errno, Flow, Result, SysResult};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use insula_abi::Sysno;
use insula_abi::general as c;

pub(crate) const CALLS: &[Entry] = &[
    full(Sysno::execve, |cx, [path, arguments, environment, ..]| execute(cx, c::AT_FDCWD, [path, arguments, environment], 0)),
    full(Sysno::execveat, execveat),
];

fn execveat(cx: &mut Cx<'_>, [at, path, arguments, environment, flags, _]: Args) -> SysResult {
    let flags = flags as u32;
    if flags & !(c::AT_EMPTY_PATH | c::AT_SYMLINK_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL);
    }
    execute(cx, at as i32, [path, arguments, environment], flags)
}

fn execute(cx: &mut Cx<'_>, at: i32, [path, arguments, environment]: [u64; 3], flags: u32) -> SysResult {
    let mm = cx.task.mm();
    let path = mm.path(path)?;
    if path.is_empty() && flags & c::AT_EMPTY_PATH == 0 {
        return Err(Errno::ENOENT);
    }
    let mut left = stack::room(cx.task);
    let arguments = strings(&mm, arguments, &mut left)?;
    let environment = strings(&mm, environment, &mut left)?;
    let loaded = exec::load(cx.task, Request { at, path, flags, arguments, environment })?;
    let task = cx.task.clone();
    if task.process.lock().threads.len() == 1 {
        begin(&task, loaded);
        return Ok(Flow::Done(0));
    }
    let alone = exec::alone(cx.task)?;
    Ok(Flow::block(async move {
        alone.await?;
        begin(&task, loaded);
        Ok(0)
    }))
}

/// The program begins on the task's way back.
fn begin(task: &Arc<Task>, loaded: Loaded) {
    let regs = exec::begin(task, loaded);
    task.signals().entry = Some(Box::new(regs));
    task.set_attention(true);
}

/// Reads a list of strings that a null pointer ends; `left` bytes may be used, of strings and pointers.
fn strings(mm: &Mm, address: u64, left: &mut u64) -> Result<Vec<Vec<u8>>> {
    let mut strings = Vec::new();
    if address == 0 {
        return Ok(strings);
    }
    for index in 0.. {
        let pointer: u64 = mm.get(address.checked_add(index * 8).ok_or(Errno::EFAULT)?)?;
        if pointer == 0 {
            break;
        }
        let string = match mm.string(pointer, stack::LONGEST) {
            Err(Errno::ENAMETOOLONG) => return Err(Errno::E2BIG),
            string => string?,
        };
        *left = left.checked_sub(string.len() as u64 + 1 + 8).ok_or(Errno::E2BIG)?;
        strings.push(string);
    }
    Ok(strings)
}
