//! Looking at files: `stat lstat fstat newfstatat statx access faccessat faccessat2 readlink readlinkat statfs fstatfs`.

use super::{Args, Cx, Entry, full};
use crate::fs::tree::change::lookup_flags;
use crate::fs::tree::{Lookup, MountFlags, Path, Walk, access, walk};
use crate::fs::{Attributes, FileType};
use crate::task::{Credentials, Task};
use crate::{Errno, Flow, Result, SysResult};
use alloc::sync::Arc;
use insula_abi::Sysno;
use insula_abi::file::{Stat, Statfs, Statx, StatxTime};
use insula_abi::general as c;
use insula_abi::time::Timespec;

pub(super) const CALLS: &[Entry] = &[
    full(Sysno::stat, |cx, [path, to, ..]| stat(cx, c::AT_FDCWD, path, to, 0)),
    full(Sysno::lstat, |cx, [path, to, ..]| stat(cx, c::AT_FDCWD, path, to, c::AT_SYMLINK_NOFOLLOW)),
    full(Sysno::newfstatat, |cx, [dirfd, path, to, flags, ..]| stat(cx, dirfd as i32, path, to, flags as u32)),
    full(Sysno::fstat, fstat),
    full(Sysno::statx, statx),
    full(Sysno::access, |cx, [path, mode, ..]| accessible(cx, c::AT_FDCWD, path, mode, 0)),
    full(Sysno::faccessat, |cx, [dirfd, path, mode, ..]| accessible(cx, dirfd as i32, path, mode, 0)),
    full(Sysno::faccessat2, |cx, [dirfd, path, mode, flags, ..]| accessible(cx, dirfd as i32, path, mode, flags as u32)),
    full(Sysno::readlink, |cx, [path, to, len, ..]| readlink(cx, c::AT_FDCWD, path, to, len)),
    full(Sysno::readlinkat, |cx, [dirfd, path, to, len, ..]| readlink(cx, dirfd as i32, path, to, len)),
    full(Sysno::statfs, |cx, [path, to, ..]| {
        let path = cx.task.mm().path(path)?;
        let place = walk::resolve(cx.task, c::AT_FDCWD, &path, Lookup::FOLLOW)?;
        put_statfs(cx.task, &place, to)
    }),
    full(Sysno::fstatfs, |cx, [fd, to, ..]| {
        let description = cx.task.file(fd as i32)?;
        match &description.path {
            Some(place) => put_statfs(cx.task, place, to),
            // What has no place is of a file system that can't be mounted, like pipes.
            None => cx.task.mm().put(to, &internal_statfs(description.file.file_type())).map(Flow::from),
        }
    }),
];

/// What statfs(2) tells of files that never had a name in a tree, by their kind.
pub(crate) fn internal_statfs(kind: FileType) -> Statfs {
    let kind = match kind {
        FileType::Fifo => c::PIPEFS_MAGIC,
        FileType::Socket => c::SOCKFS_MAGIC,
        _ => c::ANON_INODE_FS_MAGIC,
    };
    Statfs { kind: i64::from(kind), bsize: 4096, frsize: 4096, namelen: 255, ..Statfs::default() }
}

/// What stat(2) tells of an open file.
pub(super) fn attributes_of(description: &crate::fs::Description) -> Result<Attributes> {
    match &description.path {
        Some(path) => path.inode().attributes(),
        None => description.file.attributes(),
    }
}

/// What stat(2) tells of what a descriptor and a path lead to.
fn attributes_at(task: &Arc<Task>, dirfd: i32, address: u64, flags: u32) -> Result<(Attributes, Option<Path>)> {
    let empty = flags & c::AT_EMPTY_PATH != 0;
    // A null pointer with AT_EMPTY_PATH is an empty path (since Linux 6.11).
    let path = if empty && address == 0 { alloc::vec::Vec::new() } else { task.mm().path(address)? };
    if path.is_empty() && empty && dirfd != c::AT_FDCWD {
        let description = task.file(dirfd)?;
        return Ok((attributes_of(&description)?, description.path.clone()));
    }
    let place = walk::resolve(task, dirfd, &path, lookup_flags(flags & c::AT_SYMLINK_NOFOLLOW == 0, empty))?;
    Ok((place.inode().attributes()?, Some(place)))
}

/// As it lies in user memory.
fn to_stat(attributes: &Attributes, task: &Task) -> Stat {
    let space = &task.credentials().space;
    Stat {
        dev: attributes.dev,
        ino: attributes.ino,
        nlink: attributes.nlink.into(),
        mode: attributes.mode,
        uid: space.show_user(attributes.uid),
        gid: space.show_group(attributes.gid),
        rdev: attributes.rdev,
        size: attributes.size as i64,
        blksize: attributes.blksize.into(),
        blocks: attributes.blocks as i64,
        atime: attributes.atime,
        mtime: attributes.mtime,
        ctime: attributes.ctime,
        ..Stat::default()
    }
}

fn stat(cx: &mut Cx<'_>, dirfd: i32, path: u64, to: u64, flags: u32) -> SysResult {
    if flags & !(c::AT_SYMLINK_NOFOLLOW | c::AT_EMPTY_PATH | c::AT_NO_AUTOMOUNT) != 0 {
        return Err(Errno::EINVAL);
    }
    let (attributes, _) = attributes_at(cx.task, dirfd, path, flags)?;
    cx.task.mm().put(to, &to_stat(&attributes, cx.task))?;
    Ok(Flow::Done(0))
}

fn fstat(cx: &mut Cx<'_>, [fd, to, ..]: Args) -> SysResult {
    let attributes = attributes_of(&*cx.task.file(fd as i32)?)?;
    cx.task.mm().put(to, &to_stat(&attributes, cx.task))?;
    Ok(Flow::Done(0))
}

/// The two halves of a device's number, makedev(3).
fn device(number: u64) -> (u32, u32) {
    let major = number >> 8 & 0xfff | number >> 32 & !0xfff;
    let minor = number & 0xff | number >> 12 & !0xff;
    (major as u32, minor as u32)
}

fn statx(cx: &mut Cx<'_>, [dirfd, path, flags, mask, to, ..]: Args) -> SysResult {
    let flags = flags as u32;
    let known = c::AT_SYMLINK_NOFOLLOW | c::AT_EMPTY_PATH | c::AT_NO_AUTOMOUNT | c::AT_STATX_SYNC_TYPE;
    let sync = flags & c::AT_STATX_SYNC_TYPE;
    if flags & !known != 0 || sync == c::AT_STATX_SYNC_TYPE || mask as u32 & c::STATX__RESERVED != 0 {
        return Err(Errno::EINVAL);
    }
    let (found, place) = attributes_at(cx.task, dirfd as i32, path, flags & !c::AT_STATX_SYNC_TYPE)?;
    let time = |time: Timespec| StatxTime { sec: time.sec, nsec: time.nsec as u32, pad: 0 };
    let (dev_major, dev_minor) = device(found.dev);
    let (rdev_major, rdev_minor) = device(found.rdev);
    let space = &cx.task.credentials().space;
    let mut statx = Statx {
        mask: c::STATX_BASIC_STATS,
        blksize: found.blksize,
        nlink: found.nlink,
        uid: space.show_user(found.uid),
        gid: space.show_group(found.gid),
        mode: found.mode as u16,
        ino: found.ino,
        size: found.size,
        blocks: found.blocks,
        atime: time(found.atime),
        ctime: time(found.ctime),
        mtime: time(found.mtime),
        rdev_major,
        rdev_minor,
        dev_major,
        dev_minor,
        attributes_mask: c::STATX_ATTR_MOUNT_ROOT.into(),
        ..Statx::default()
    };
    if let Some(btime) = found.btime {
        statx.btime = time(btime);
        statx.mask |= c::STATX_BTIME;
    }
    if let Some(place) = place {
        statx.mnt_id = place.mount.id as u64;
        statx.mask |= c::STATX_MNT_ID;
        if Arc::ptr_eq(&place.dentry, &place.mount.root) {
            statx.attributes |= u64::from(c::STATX_ATTR_MOUNT_ROOT);
        }
    }
    cx.task.mm().put(to, &statx)?;
    Ok(Flow::Done(0))
}

/// As whom access(2) asks: as the real user, with what capabilities that one would have.
fn real_credentials(task: &Arc<Task>) -> Arc<Credentials> {
    let own = task.credentials();
    let mut real = (*own).clone();
    (real.uid.fs, real.gid.fs) = (own.uid.real, own.gid.real);
    // SECBIT_NO_SETUID_FIXUP is the first bit of its pair, number 2.
    if own.secure_bits & 1 << 2 == 0 {
        real.capabilities.effective = if own.space.is_root(own.uid.real) { own.capabilities.permitted } else { 0 };
    }
    Arc::new(real)
}

fn accessible(cx: &mut Cx<'_>, dirfd: i32, path: u64, mode: u64, flags: u32) -> SysResult {
    let wanted = mode as u32;
    if wanted & !7 != 0 || flags & !(c::AT_EACCESS | c::AT_SYMLINK_NOFOLLOW | c::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let credentials = if flags & c::AT_EACCESS != 0 { cx.task.credentials() } else { real_credentials(cx.task) };
    let path = cx.task.mm().path(path)?;
    let lookup = lookup_flags(flags & c::AT_SYMLINK_NOFOLLOW == 0, flags & c::AT_EMPTY_PATH != 0);
    let place = Walk::begin(cx.task, dirfd, &path, lookup)?.with_credentials(credentials.clone()).to_end(&path)?;
    let regular = place.inode().file_type() == FileType::Regular;
    if wanted & access::EXECUTE != 0 && regular && place.mount.flags().contains(MountFlags::NO_EXEC) {
        return Err(Errno::EACCES);
    }
    if wanted != 0 {
        access::check(&credentials, place.inode(), wanted)?;
        access::check_path(&credentials, &place, wanted)?;
    }
    Ok(Flow::Done(0))
}

fn readlink(cx: &mut Cx<'_>, dirfd: i32, path: u64, to: u64, len: u64) -> SysResult {
    if len as i32 <= 0 {
        return Err(Errno::EINVAL);
    }
    let path = cx.task.mm().path(path)?;
    let place = walk::resolve(cx.task, dirfd, &path, Lookup::EMPTY)?;
    if place.inode().file_type() != FileType::Symlink {
        return Err(if path.is_empty() { Errno::ENOENT } else { Errno::EINVAL });
    }
    let target = place.inode().read_link_for(cx.task)?;
    let count = target.len().min(len as i32 as usize);
    cx.task.mm().write(to, &target[..count])?;
    Ok(count.into())
}

fn put_statfs(task: &Arc<Task>, place: &Path, to: u64) -> SysResult {
    const VALID: i64 = 0x20;
    let mut statfs = place.inode().statfs()?;
    let flags = place.mount.flags();
    let bits = [
        (MountFlags::READ_ONLY, 1),
        (MountFlags::NO_SUID, 2),
        (MountFlags::NO_DEV, 4),
        (MountFlags::NO_EXEC, 8),
        (MountFlags::NO_ATIME, 0x400),
        (MountFlags::NO_DIR_ATIME, 0x800),
        (MountFlags::REL_ATIME, 0x1000),
        (MountFlags::NO_SYMFOLLOW, 0x2000),
    ];
    statfs.flags = VALID | bits.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, bit)| bit).sum::<i64>();
    task.mm().put(to, &statfs)?;
    Ok(Flow::Done(0))
}
