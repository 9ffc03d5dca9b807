//! Calls that are the program's own to answer, prctl(2) at `PR_SET_SYSCALL_USER_DISPATCH`: it is sent `SIGSYS` in their place.
//!
//! A program that runs another system's code asks for it: calls from all but its own code are the other system's. Nothing else is asked about such a
//! call, for its number and arguments may mean anything.

use crate::cpu::{Call, Cpu};
use crate::seccomp::ARCH;
use crate::signal::send::{force, force_fatal};
use crate::task::Task;
use crate::{Errno, Flow, Result, SysResult};
use alloc::sync::Arc;
use insula_abi::general as c;
use insula_abi::prctl as p;
use insula_abi::signal::Siginfo;

/// From where calls are made as ever, and what says whether others are.
#[derive(Clone, Copy, Default)]
pub(crate) struct UserDispatch {
    /// Addresses from `start` on, `len` bytes, around the end of the address space if need be.
    start: u64,
    len: u64,
    /// Where the program has a byte that lets all calls be made, or none; 0 if there is no such byte.
    selector: u64,
}

/// What that byte may be (`SYSCALL_DISPATCH_FILTER_*`).
const ALLOW: u8 = 0;
const BLOCK: u8 = 1;

/// Begins it, or ends it.
///
/// # Errors
/// `EINVAL`: no such mode, or range. `EFAULT`: a selector that no program can have.
pub(super) fn set(task: &Task, mode: u64, start: u64, len: u64, selector: u64) -> Result<()> {
    let past_end = start.wrapping_add(len) <= start;
    let (start, len) = match u32::try_from(mode) {
        Ok(p::PR_SYS_DISPATCH_OFF) if start != 0 || len != 0 || selector != 0 => return Err(Errno::EINVAL),
        Ok(p::PR_SYS_DISPATCH_OFF) => (0, 0),
        Ok(p::PR_SYS_DISPATCH_EXCLUSIVE_ON) if start != 0 && past_end => return Err(Errno::EINVAL),
        Ok(p::PR_SYS_DISPATCH_EXCLUSIVE_ON) => (start, len),
        _ => return Err(Errno::EINVAL),
    };
    if selector >= task.mm().layout().high {
        return Err(Errno::EFAULT);
    }
    *task.user_dispatch.lock() = UserDispatch { start, len, selector };
    task.confinement.set_sends_back(mode != u64::from(p::PR_SYS_DISPATCH_OFF));
    Ok(())
}

/// What becomes of a call of a task that has begun it; none if it is made as ever.
pub(super) fn check(task: &Arc<Task>, cpu: &mut dyn Cpu, call: &Call) -> Option<SysResult> {
    let UserDispatch { start, len, selector } = *task.user_dispatch.lock();
    let behind = cpu.regs().rip;
    if behind.wrapping_sub(start) < len {
        return None;
    }
    if selector != 0 {
        match task.mm().get(selector) {
            Ok(ALLOW) => return None,
            Ok(BLOCK) => {}
            // A program that can't say what it wants can't be sent a signal about it, either.
            unclear => {
                force_fatal(task, if unclear.is_ok() { c::SIGSYS } else { c::SIGSEGV } as i32);
                return Some(Ok(Flow::Registers));
            }
        }
    }
    cpu.regs().rax = call.number;
    force(task, Siginfo::sent_back(behind, call.number as i32, ARCH));
    Some(Ok(Flow::Registers))
}
