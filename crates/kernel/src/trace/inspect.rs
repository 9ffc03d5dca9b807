//! What a tracer may know of its tracee beside registers and memory: signals that wait, and filters.

use crate::seccomp::{DISABLED, Filter};
use crate::syscall::Cx;
use crate::task::Task;
use crate::{Errno, Result, SysResult};
use alloc::sync::Arc;
use insula_abi::general as c;
use insula_abi::ptrace as p;
use insula_abi::ptrace_info::PeekSiginfo;
use insula_abi::seccomp::Metadata;
use insula_abi::signal::Siginfo;
use insula_abi::zerocopy::IntoBytes;

/// `PTRACE_PEEKSIGINFO`: signals that wait for the task, or for its process, the oldest first.
///
/// # Errors
/// `EINVAL`: flags, or a count that isn't one. `EFAULT`.
pub(super) fn pending(cx: &Cx<'_>, task: &Task, address: u64, data: u64) -> SysResult {
    let own = cx.task.mm();
    let wanted: PeekSiginfo = own.get(address)?;
    if wanted.flags & !p::PTRACE_PEEKSIGINFO_SHARED != 0 || wanted.count < 0 {
        return Err(Errno::EINVAL);
    }
    let first = usize::try_from(wanted.offset).unwrap_or(usize::MAX);
    let mut told = 0;
    while told < wanted.count as usize {
        let index = first.saturating_add(told);
        let of_process = wanted.flags != 0;
        let found = if of_process { task.process.lock().pending.nth(index) } else { task.signals().pending.nth(index) };
        let Some(info) = found else { break };
        match own.put(data.wrapping_add((told * size_of::<Siginfo>()) as u64), &info) {
            Err(errno) if told == 0 => return Err(errno),
            Err(_) => break,
            Ok(()) => told += 1,
        }
    }
    Ok(told.into())
}

/// A filter of the task, by how many are older.
///
/// # Errors
/// `EACCES`: who is confined, or has no rights, sees none. `EINVAL`: there are none. `ENOENT`: there are fewer.
fn nth(cx: &Cx<'_>, task: &Task, index: u64) -> Result<Arc<Filter>> {
    if !cx.task.credentials().has(c::CAP_SYS_ADMIN) || cx.task.confinement.mode() != DISABLED {
        return Err(Errno::EACCES);
    }
    task.confinement.nth(index)
}

/// `PTRACE_SECCOMP_GET_FILTER`: a filter's program; answers how many instructions it has.
///
/// # Errors
/// `EACCES`, `EINVAL`, `ENOENT`, `EFAULT`.
pub(super) fn filter(cx: &Cx<'_>, task: &Task, index: u64, data: u64) -> SysResult {
    let filter = nth(cx, task, index)?;
    let instructions = filter.program().instructions();
    if data != 0 {
        cx.task.mm().write(data, instructions.as_bytes())?;
    }
    Ok(instructions.len().into())
}

/// `PTRACE_SECCOMP_GET_METADATA`: how a filter was loaded; answers how many bytes it tells.
///
/// # Errors
/// As [`filter`].
pub(super) fn metadata(cx: &Cx<'_>, task: &Task, size: u64, data: u64) -> SysResult {
    const LOGS: u64 = 2;
    let size = size.min(size_of::<Metadata>() as u64) as usize;
    let own = cx.task.mm();
    // Who may not ask at all is told that first.
    let denied = |errno: &Errno| *errno == Errno::EACCES;
    if let Some(errno) = nth(cx, task, 0).err().filter(denied) {
        return Err(errno);
    }
    if size < 8 {
        return Err(Errno::EINVAL);
    }
    let index = own.get(data)?;
    let flags = if nth(cx, task, index)?.logs() { LOGS } else { 0 };
    own.write(data, &Metadata { filter: index, flags }.as_bytes()[..size])?;
    Ok(size.into())
}
