//! Barriers on the processors of others: `membarrier`.
//!
//! The placement makes one on all processors that run programs of the sandbox; whom a command means is a part of them, which is all that the
//! commands differ by.

use super::{Args, Cx, Entry, partial};
use crate::{Errno, Flow, SysResult};
use insula_abi::Sysno;
use insula_abi::general::membarrier_cmd as command;

pub(super) const CALLS: &[Entry] = &[partial(Sysno::membarrier, "not for code that changes, nor for rseq", membarrier)];

const GLOBAL: u32 = command::MEMBARRIER_CMD_GLOBAL as u32;
const GLOBAL_EXPEDITED: u32 = command::MEMBARRIER_CMD_GLOBAL_EXPEDITED as u32;
const REGISTER_GLOBAL: u32 = command::MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED as u32;
const PRIVATE_EXPEDITED: u32 = command::MEMBARRIER_CMD_PRIVATE_EXPEDITED as u32;
const REGISTER_PRIVATE: u32 = command::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED as u32;
const REGISTRATIONS: u32 = command::MEMBARRIER_CMD_GET_REGISTRATIONS as u32;

const KNOWN: u32 = GLOBAL | GLOBAL_EXPEDITED | REGISTER_GLOBAL | PRIVATE_EXPEDITED | REGISTER_PRIVATE | REGISTRATIONS;

fn membarrier(cx: &mut Cx<'_>, [command, flags, ..]: Args) -> SysResult {
    let (command, flags) = (command as u32, flags as u32);
    let mm = cx.task.mm();
    let order = || if cx.kernel.host.memory.order() { Ok(Flow::Done(0)) } else { Err(Errno::ENOSYS) };
    match command {
        _ if flags != 0 => Err(Errno::EINVAL),
        0 if cx.kernel.host.memory.order() => Ok(Flow::Done(KNOWN.into())),
        0 => Err(Errno::ENOSYS),
        GLOBAL | GLOBAL_EXPEDITED => order(),
        PRIVATE_EXPEDITED if mm.barriers() & REGISTER_PRIVATE != 0 => order(),
        PRIVATE_EXPEDITED => Err(Errno::EPERM),
        REGISTER_GLOBAL | REGISTER_PRIVATE => {
            mm.add_barriers(command);
            Ok(Flow::Done(0))
        }
        REGISTRATIONS => Ok(Flow::Done(mm.barriers().into())),
        _ => Err(Errno::EINVAL),
    }
}
