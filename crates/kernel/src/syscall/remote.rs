//! Memory of other processes, `process_vm_readv process_vm_writev`; and keys of memory, which there are none of: `pkey_*`.

use super::{Args, Cx, Entry, full, memory, partial};
use crate::mm::UserBuf;
use crate::{Errno, Flow, Result, SysResult};
use insula_abi::Sysno;

const NO_KEYS: &str = "a processor without protection keys";

pub(super) const CALLS: &[Entry] = &[
    full(Sysno::process_vm_readv, |cx, arguments| copy(cx, arguments, true)),
    full(Sysno::process_vm_writev, |cx, arguments| copy(cx, arguments, false)),
    partial(Sysno::pkey_alloc, NO_KEYS, |_, [flags, rights, ..]| {
        // What a key could forbid: all access, or writing.
        Err(if flags != 0 || rights & !3 != 0 { Errno::EINVAL } else { Errno::ENOSPC })
    }),
    partial(Sysno::pkey_free, NO_KEYS, |_, _| Err(Errno::EINVAL)),
    partial(Sysno::pkey_mprotect, NO_KEYS, |cx, [start, len, protection, key, ..]| match key as i32 {
        -1 => memory::mprotect(cx, [start, len, protection, 0, 0, 0]),
        _ => Err(Errno::EINVAL),
    }),
];

/// The most bytes that are carried at once.
const STEP: usize = 64 << 10;

fn copy(cx: &mut Cx<'_>, [pid, own, own_count, other, other_count, flags]: Args, reads: bool) -> SysResult {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let mm = cx.task.mm();
    let mut near = UserBuf::vectored(&mm, own, own_count)?;
    let far = UserBuf::vectored(&mm, other, other_count)?;
    let target = cx.kernel.pids.task(cx.task.number_of(pid as i32)).ok_or(Errno::ESRCH)?;
    if !cx.task.may_attach(&target) {
        return Err(Errno::EPERM);
    }
    let mut far = far.of(&target.mm());
    let outcome = if reads { carry(cx, &mut far, &mut near) } else { carry(cx, &mut near, &mut far) };
    outcome.map(Flow::Done)
}

/// Copies as far as both sides go; answers how much that was.
fn carry(cx: &Cx<'_>, from: &mut UserBuf, to: &mut UserBuf) -> Result<u64> {
    let mut buffer = alloc::vec![0; STEP];
    let mut done = 0;
    while from.left() > 0 && to.left() > 0 {
        let most = buffer.len().min(usize::try_from(to.left()).unwrap_or(usize::MAX));
        let moved = from.take(&mut buffer[..most]).and_then(|count| Ok((count, to.put(&buffer[..count])?)));
        match moved {
            Ok((taken, put)) => {
                done += put as u64;
                if put < taken || taken < most && from.left() > 0 || cx.task.interrupted() {
                    break;
                }
            }
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(done)
}
