//! Handles of files: `name_to_handle_at open_by_handle_at`.
//!
//! No file system here has any, as an overlay on Linux hasn't: who holds one could reach a file past every directory above it.

use super::{Args, Cx, Entry, partial};
use crate::fs::tree::change::lookup_flags;
use crate::fs::tree::walk;
use crate::{Errno, SysResult};
use insula_abi::Sysno;
use insula_abi::general as c;

pub(super) const CALLS: &[Entry] = &[
    partial(Sysno::name_to_handle_at, "no file system has handles: EOPNOTSUPP", name_to_handle),
    partial(Sysno::open_by_handle_at, "no file system has handles: ESTALE, or EPERM", open_by_handle),
];

/// The longest handle (`MAX_HANDLE_SZ`).
const LONGEST: u32 = 128;

fn name_to_handle(cx: &mut Cx<'_>, [dirfd, path, _, _, flags, _]: Args) -> SysResult {
    let flags = flags as u32;
    if flags & !(c::AT_SYMLINK_FOLLOW | c::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let path = cx.task.mm().path(path)?;
    let lookup = lookup_flags(flags & c::AT_SYMLINK_FOLLOW != 0, flags & c::AT_EMPTY_PATH != 0);
    walk::resolve(cx.task, dirfd as i32, &path, lookup)?;
    Err(Errno::EOPNOTSUPP)
}

fn open_by_handle(cx: &mut Cx<'_>, [mount, handle, ..]: Args) -> SysResult {
    if !cx.task.credentials().has(c::CAP_DAC_READ_SEARCH) {
        return Err(Errno::EPERM);
    }
    if mount as i32 != c::AT_FDCWD {
        walk::place(cx.task, mount as i32)?;
    }
    let [bytes, _kind]: [u32; 2] = cx.task.mm().get(handle)?;
    Err(if (1..=LONGEST).contains(&bytes) { Errno::ESTALE } else { Errno::EINVAL })
}
