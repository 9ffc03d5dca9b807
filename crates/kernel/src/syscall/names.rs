//! Names: `mkdir rmdir unlink rename link symlink mknod`, and their kin with descriptors.

use super::{Args, Cx, Entry, full};
use crate::fs::FileType;
use crate::fs::tree::change::{self, Wanted, lookup_flags};
use crate::fs::tree::walk;
use crate::{Errno, Flow, SysResult};
use insula_abi::Sysno;
use insula_abi::general as c;

const HERE: u64 = c::AT_FDCWD as u64;

pub(super) const CALLS: &[Entry] = &[
    full(Sysno::mkdir, |cx, [path, mode, ..]| mkdir(cx, HERE, path, mode)),
    full(Sysno::mkdirat, |cx, [dirfd, path, mode, ..]| mkdir(cx, dirfd, path, mode)),
    full(Sysno::rmdir, |cx, [path, ..]| remove(cx, HERE, path, true)),
    full(Sysno::unlink, |cx, [path, ..]| remove(cx, HERE, path, false)),
    full(Sysno::unlinkat, |cx, [dirfd, path, flags, ..]| match flags as u32 {
        0 => remove(cx, dirfd, path, false),
        c::AT_REMOVEDIR => remove(cx, dirfd, path, true),
        _ => Err(Errno::EINVAL),
    }),
    full(Sysno::rename, |cx, [old, new, ..]| rename(cx, [HERE, old, HERE, new, 0, 0])),
    full(Sysno::renameat, |cx, [old_dir, old, new_dir, new, ..]| rename(cx, [old_dir, old, new_dir, new, 0, 0])),
    full(Sysno::renameat2, rename),
    full(Sysno::link, |cx, [old, new, ..]| link(cx, [HERE, old, HERE, new, 0, 0])),
    full(Sysno::linkat, link),
    full(Sysno::symlink, |cx, [target, path, ..]| symlink(cx, target, HERE, path)),
    full(Sysno::symlinkat, |cx, [target, dirfd, path, ..]| symlink(cx, target, dirfd, path)),
    full(Sysno::mknod, |cx, [path, mode, device, ..]| mknod(cx, HERE, path, mode, device)),
    full(Sysno::mknodat, |cx, [dirfd, path, mode, device, ..]| mknod(cx, dirfd, path, mode, device)),
];

fn mkdir(cx: &mut Cx<'_>, dirfd: u64, path: u64, mode: u64) -> SysResult {
    let path = cx.task.mm().path(path)?;
    let wanted = Wanted { mode: c::S_IFDIR | mode as u32 & 0o1777, rdev: 0, target: &[] };
    change::make(cx.task, dirfd as i32, &path, &wanted)?;
    Ok(Flow::Done(0))
}

fn remove(cx: &mut Cx<'_>, dirfd: u64, path: u64, directory: bool) -> SysResult {
    let path = cx.task.mm().path(path)?;
    change::remove(cx.task, dirfd as i32, &path, directory).map(Flow::from)
}

fn rename(cx: &mut Cx<'_>, [old_dir, old, new_dir, new, flags, _]: Args) -> SysResult {
    let mm = cx.task.mm();
    let (old, new) = (mm.path(old)?, mm.path(new)?);
    change::rename(cx.task, (old_dir as i32, &old), (new_dir as i32, &new), flags as u32).map(Flow::from)
}

fn link(cx: &mut Cx<'_>, [old_dir, old, new_dir, new, flags, _]: Args) -> SysResult {
    let flags = flags as u32;
    if flags & !(c::AT_SYMLINK_FOLLOW | c::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let mm = cx.task.mm();
    let (old, new) = (mm.path(old)?, mm.path(new)?);
    let empty = flags & c::AT_EMPTY_PATH != 0;
    if empty && !cx.task.credentials().has(c::CAP_DAC_READ_SEARCH) {
        return Err(Errno::ENOENT);
    }
    let from = walk::resolve(cx.task, old_dir as i32, &old, lookup_flags(flags & c::AT_SYMLINK_FOLLOW != 0, empty))?;
    change::link(cx.task, &from, new_dir as i32, &new).map(Flow::from)
}

fn symlink(cx: &mut Cx<'_>, target: u64, dirfd: u64, path: u64) -> SysResult {
    let mm = cx.task.mm();
    let (target, path) = (mm.path(target)?, mm.path(path)?);
    if target.is_empty() {
        return Err(Errno::ENOENT);
    }
    change::make(cx.task, dirfd as i32, &path, &Wanted { mode: c::S_IFLNK | 0o777, rdev: 0, target: &target })?;
    Ok(Flow::Done(0))
}

fn mknod(cx: &mut Cx<'_>, dirfd: u64, path: u64, mode: u64, device: u64) -> SysResult {
    let mode = mode as u32;
    let path = cx.task.mm().path(path)?;
    let kind = match mode & c::S_IFMT {
        0 => c::S_IFREG,
        kind => kind,
    };
    let rdev = match FileType::of_mode(kind) {
        FileType::Regular | FileType::Fifo | FileType::Socket => 0,
        // Number 0/0 is a whiteout, which anybody may make.
        FileType::Character if device == 0 => 0,
        FileType::Character | FileType::Block if cx.task.credentials().has(c::CAP_MKNOD) => u64::from(device as u32),
        FileType::Character | FileType::Block | FileType::Directory => return Err(Errno::EPERM),
        _ => return Err(Errno::EINVAL),
    };
    change::make(cx.task, dirfd as i32, &path, &Wanted { mode: kind | mode & 0o7777, rdev, target: &[] })?;
    Ok(Flow::Done(0))
}
