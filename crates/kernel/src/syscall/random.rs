//! Randomness: `getrandom`.

use super::{Args, Cx, Entry, full};
use crate::fs::dev::random;
use crate::mm::UserBuf;
use crate::{Errno, SysResult};
use insula_abi::Sysno;

pub(super) const CALLS: &[Entry] = &[full(Sysno::getrandom, getrandom)];

/// getrandom(2): without waiting.
const NONBLOCK: u32 = 1;
/// getrandom(2): from the same source as `/dev/random`.
const RANDOM: u32 = 2;
/// getrandom(2): also before there is enough entropy.
const INSECURE: u32 = 4;

fn getrandom(cx: &mut Cx<'_>, [base, len, flags, ..]: Args) -> SysResult {
    let flags = flags as u32;
    if flags & !(NONBLOCK | RANDOM | INSECURE) != 0 || flags & (RANDOM | INSECURE) == RANDOM | INSECURE {
        return Err(Errno::EINVAL);
    }
    Ok(random::fill(cx.kernel, &mut UserBuf::new(&cx.task.mm(), base, len))?.into())
}
