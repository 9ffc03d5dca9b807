//! Changing attributes: `chmod chown utime truncate fallocate` and their kin, and what makes changes permanent.

use super::open::real;
use super::{Args, Cx, Entry, full, partial};
use crate::fs::inode::{SetTime, without_set_id};
use crate::fs::tree::change::lookup_flags;
use crate::fs::tree::{ContentsHold, Lookup, Path, access, walk};
use crate::fs::{Attributes, Changes, Description, FileType, file, notify};
use crate::task::{Credentials, Task};
use crate::{Errno, Flow, Result, SysResult};
use alloc::sync::Arc;
use insula_abi::Sysno;
use insula_abi::general as c;
use insula_abi::time::{Timespec, Timeval};

const HERE: u64 = c::AT_FDCWD as u64;

pub(super) const CALLS: &[Entry] = &[
    full(Sysno::chmod, |cx, [path, mode, ..]| chmod(cx, HERE, path, mode, 0)),
    full(Sysno::fchmodat, |cx, [dirfd, path, mode, ..]| chmod(cx, dirfd, path, mode, 0)),
    full(Sysno::fchmodat2, |cx, [dirfd, path, mode, flags, ..]| chmod(cx, dirfd, path, mode, flags)),
    full(Sysno::fchmod, fchmod),
    full(Sysno::chown, |cx, [path, uid, gid, ..]| chown(cx, [HERE, path, uid, gid, 0, 0])),
    full(Sysno::lchown, |cx, [path, uid, gid, ..]| chown(cx, [HERE, path, uid, gid, c::AT_SYMLINK_NOFOLLOW.into(), 0])),
    full(Sysno::fchownat, chown),
    full(Sysno::fchown, |cx, [fd, uid, gid, ..]| {
        let place = place_of(&*real(cx.task, fd as i32)?)?;
        set_owner(cx.task, &place, uid as u32, gid as u32)
    }),
    full(Sysno::utimensat, utimensat),
    full(Sysno::futimesat, |cx, [dirfd, path, times, ..]| utimes(cx, dirfd, path, times)),
    full(Sysno::utimes, |cx, [path, times, ..]| utimes(cx, HERE, path, times)),
    full(Sysno::utime, utime),
    full(Sysno::truncate, truncate),
    full(Sysno::ftruncate, ftruncate),
    full(Sysno::fallocate, fallocate),
    full(Sysno::fsync, |cx, [fd, ..]| real(cx.task, fd as i32)?.file.sync(false).map(Flow::from)),
    full(Sysno::fdatasync, |cx, [fd, ..]| real(cx.task, fd as i32)?.file.sync(true).map(Flow::from)),
    partial(Sysno::sync, "the host decides when files reach the disk; fsync asks it", |_, _| Ok(Flow::Done(0))),
    partial(Sysno::syncfs, "as sync", |cx, [fd, ..]| real(cx.task, fd as i32).map(|_| Flow::Done(0))),
    full(Sysno::sync_file_range, sync_file_range),
    partial(Sysno::readahead, "nothing is read ahead", readahead),
    partial(Sysno::fadvise64, "advice is taken and forgotten", fadvise),
];

/// Where an open file was found. What has no place has nothing of the kind that is changed here.
fn place_of(description: &Description) -> Result<Path> {
    description.path.clone().ok_or(Errno::EPERM)
}

/// What a descriptor and a path lead to.
fn at(cx: &Cx<'_>, dirfd: u64, path: u64, flags: u32) -> Result<Path> {
    if flags & !(c::AT_SYMLINK_NOFOLLOW | c::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let path = cx.task.mm().path(path)?;
    let lookup = lookup_flags(flags & c::AT_SYMLINK_NOFOLLOW == 0, flags & c::AT_EMPTY_PATH != 0);
    walk::resolve(cx.task, dirfd as i32, &path, lookup)
}

/// Changes attributes, and tells who watches.
fn change(task: &Arc<Task>, place: &Path, changes: &Changes) -> SysResult {
    place.inode().set_attributes(changes)?;
    notify::changed(task, place, changes);
    Ok(Flow::Done(0))
}

fn chmod(cx: &mut Cx<'_>, dirfd: u64, path: u64, mode: u64, flags: u64) -> SysResult {
    let place = at(cx, dirfd, path, flags as u32)?;
    if place.inode().file_type() == FileType::Symlink {
        return Err(Errno::EOPNOTSUPP);
    }
    set_mode(cx.task, &place, mode as u32)
}

fn fchmod(cx: &mut Cx<'_>, [fd, mode, ..]: Args) -> SysResult {
    let description = real(cx.task, fd as i32)?;
    match &description.path {
        Some(place) => set_mode(cx.task, place, mode as u32),
        None => {
            let mode = mode_of(&cx.task.credentials(), &description.file.attributes()?, mode as u32)?;
            description.file.set_mode(mode).map(Flow::from)
        }
    }
}

fn set_mode(task: &Arc<Task>, place: &Path, mode: u32) -> SysResult {
    access::writable(place)?;
    let mode = mode_of(&task.credentials(), &place.inode().attributes()?, mode)?;
    change(task, place, &Changes { mode: Some(mode), ..Changes::default() })
}

/// Permission bits that somebody may give a file who wants `mode`.
fn mode_of(credentials: &Credentials, attributes: &Attributes, mode: u32) -> Result<u32> {
    if !access::owns(credentials, attributes) {
        return Err(Errno::EPERM);
    }
    let of_group = credentials.in_group(attributes.gid) || credentials.has_for((attributes.uid, attributes.gid), c::CAP_FSETID);
    Ok(mode & if of_group { 0o7777 } else { 0o7777 & !c::S_ISGID })
}

fn chown(cx: &mut Cx<'_>, [dirfd, path, uid, gid, flags, _]: Args) -> SysResult {
    let place = at(cx, dirfd, path, flags as u32)?;
    set_owner(cx.task, &place, uid as u32, gid as u32)
}

fn set_owner(task: &Arc<Task>, place: &Path, uid: u32, gid: u32) -> SysResult {
    access::writable(place)?;
    let credentials = task.credentials();
    let attributes = place.inode().attributes()?;
    let uid = if uid == u32::MAX { None } else { Some(credentials.space.user(uid)?) };
    let gid = if gid == u32::MAX { None } else { Some(credentials.space.group(gid)?) };
    let owner = attributes.uid == credentials.uid.fs;
    let may = credentials.has_for((attributes.uid, attributes.gid), c::CAP_CHOWN);
    let same_user = uid.is_none_or(|uid| owner && uid == attributes.uid);
    let own_group = gid.is_none_or(|gid| owner && (gid == attributes.gid || credentials.in_group(gid)));
    if !(may || same_user && own_group) {
        return Err(Errno::EPERM);
    }
    let mut changes = Changes { uid, gid, ..Changes::default() };
    if attributes.file_type() != FileType::Directory && attributes.mode & (c::S_ISUID | c::S_ISGID) != 0 {
        changes.mode = Some(without_rights(&credentials, &attributes));
    }
    let outcome = change(task, place, &changes)?;
    // A program that changes hands loses its capabilities, too.
    if attributes.file_type() == FileType::Regular {
        let _ = place.inode().remove_xattr(b"security.capability");
    }
    Ok(outcome)
}

/// Permission bits after a change of owner.
fn without_rights(credentials: &Credentials, attributes: &Attributes) -> u32 {
    let mode = without_set_id(attributes.mode) & 0o7777;
    if credentials.in_group(attributes.gid) || credentials.has_for((attributes.uid, attributes.gid), c::CAP_FSETID) {
        mode
    } else {
        mode & !c::S_ISGID
    }
}

const UTIME_NOW: i64 = 0x3fff_ffff;
const UTIME_OMIT: i64 = 0x3fff_fffe;

/// A time as utimensat(2) takes it.
fn to_set(time: Timespec) -> Result<Option<SetTime>> {
    match time.nsec {
        UTIME_NOW => Ok(Some(SetTime::Now)),
        UTIME_OMIT => Ok(None),
        0..1_000_000_000 => Ok(Some(SetTime::To(time))),
        _ => Err(Errno::EINVAL),
    }
}

type Times = (Option<SetTime>, Option<SetTime>);

const NOW: Times = (Some(SetTime::Now), Some(SetTime::Now));

fn utimensat(cx: &mut Cx<'_>, [dirfd, path, times, flags, ..]: Args) -> SysResult {
    let times = match times {
        0 => NOW,
        address => {
            let [atime, mtime]: [Timespec; 2] = cx.task.mm().get(address)?;
            (to_set(atime)?, to_set(mtime)?)
        }
    };
    if times == (None, None) {
        return Ok(Flow::Done(0));
    }
    if path == 0 && dirfd as i32 != c::AT_FDCWD {
        if flags as u32 != 0 {
            return Err(Errno::EINVAL);
        }
        let place = place_of(&*real(cx.task, dirfd as i32)?)?;
        return set_times(cx.task, &place, times);
    }
    let place = at(cx, dirfd, path, flags as u32)?;
    set_times(cx.task, &place, times)
}

fn utimes(cx: &mut Cx<'_>, dirfd: u64, path: u64, times: u64) -> SysResult {
    let times = match times {
        0 => NOW,
        address => {
            let both: [Timeval; 2] = cx.task.mm().get(address)?;
            if both.iter().any(|time| !(0..1_000_000).contains(&time.usec)) {
                return Err(Errno::EINVAL);
            }
            let to = |time: Timeval| Some(SetTime::To(Timespec { sec: time.sec, nsec: time.usec * 1000 }));
            (to(both[0]), to(both[1]))
        }
    };
    if path == 0 && dirfd as i32 != c::AT_FDCWD {
        let place = place_of(&*real(cx.task, dirfd as i32)?)?;
        return set_times(cx.task, &place, times);
    }
    let place = at(cx, dirfd, path, 0)?;
    set_times(cx.task, &place, times)
}

fn utime(cx: &mut Cx<'_>, [path, times, ..]: Args) -> SysResult {
    let times = match times {
        0 => NOW,
        address => {
            let [atime, mtime]: [i64; 2] = cx.task.mm().get(address)?;
            let to = |sec| Some(SetTime::To(Timespec { sec, nsec: 0 }));
            (to(atime), to(mtime))
        }
    };
    let place = at(cx, HERE, path, 0)?;
    set_times(cx.task, &place, times)
}

fn set_times(task: &Arc<Task>, place: &Path, times: Times) -> SysResult {
    access::writable(place)?;
    let credentials = task.credentials();
    if !access::owns(&credentials, &place.inode().attributes()?) {
        if times != NOW {
            return Err(Errno::EPERM);
        }
        // Who may write it may say that it was written now.
        access::check(&credentials, place.inode(), access::WRITE)?;
    }
    change(task, place, &Changes { atime: times.0, mtime: times.1, ..Changes::default() })
}

/// Cuts or extends a regular file.
fn resize(task: &Arc<Task>, place: &Path, size: u64) -> SysResult {
    let attributes = place.inode().attributes()?;
    if size > attributes.size {
        file::limit(task, size)?;
    }
    let mut changes = Changes { size: Some(size), ..Changes::default() };
    if attributes.mode & (c::S_ISUID | c::S_ISGID) != 0 && !task.credentials().has(c::CAP_FSETID) {
        changes.mode = Some(without_set_id(attributes.mode) & 0o7777);
    }
    place.inode().set_attributes(&changes)?;
    notify::modified(task, place);
    Ok(Flow::Done(0))
}

fn truncate(cx: &mut Cx<'_>, [path, size, ..]: Args) -> SysResult {
    let path = cx.task.mm().path(path)?;
    if size > i64::MAX as u64 {
        return Err(Errno::EINVAL);
    }
    let place = walk::resolve(cx.task, c::AT_FDCWD, &path, Lookup::FOLLOW)?;
    match place.inode().file_type() {
        FileType::Regular => {}
        FileType::Directory => return Err(Errno::EISDIR),
        _ => return Err(Errno::EINVAL),
    }
    access::check_path(&cx.task.credentials(), &place, access::WRITE)?;
    let _hold = ContentsHold::to_write(&place)?;
    resize(cx.task, &place, size)
}

fn ftruncate(cx: &mut Cx<'_>, [fd, size, ..]: Args) -> SysResult {
    if size > i64::MAX as u64 {
        return Err(Errno::EINVAL);
    }
    let description = real(cx.task, fd as i32)?;
    if description.file.file_type() != FileType::Regular || !description.writable() {
        return Err(Errno::EINVAL);
    }
    match &description.path {
        Some(place) => resize(cx.task, place, size),
        None => description.file.resize(size).map(Flow::from),
    }
}

fn fallocate(cx: &mut Cx<'_>, [fd, mode, at, len, ..]: Args) -> SysResult {
    const KNOWN: u32 = c::FALLOC_FL_KEEP_SIZE
        | c::FALLOC_FL_PUNCH_HOLE
        | c::FALLOC_FL_COLLAPSE_RANGE
        | c::FALLOC_FL_ZERO_RANGE
        | c::FALLOC_FL_INSERT_RANGE
        | c::FALLOC_FL_UNSHARE_RANGE;
    let mode = mode as u32;
    let description = real(cx.task, fd as i32)?;
    if at > i64::MAX as u64 || len == 0 || len > i64::MAX as u64 {
        return Err(Errno::EINVAL);
    }
    let hole = mode & c::FALLOC_FL_PUNCH_HOLE != 0;
    if mode & !KNOWN != 0 || hole && mode & c::FALLOC_FL_KEEP_SIZE == 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    if !description.writable() {
        return Err(Errno::EBADF);
    }
    match description.file.file_type() {
        FileType::Regular | FileType::Block => {}
        FileType::Fifo => return Err(Errno::ESPIPE),
        FileType::Directory => return Err(Errno::EISDIR),
        _ => return Err(Errno::ENODEV),
    }
    let end = at.checked_add(len).filter(|end| *end <= i64::MAX as u64).ok_or(Errno::EFBIG)?;
    if mode & c::FALLOC_FL_KEEP_SIZE == 0 && end > super::stat::attributes_of(&description)?.size {
        file::limit(cx.task, end)?;
    }
    description.file.allocate(mode, at, len)?;
    if let Some(place) = &description.path {
        notify::modified(cx.task, place);
    }
    Ok(Flow::Done(0))
}

fn sync_file_range(cx: &mut Cx<'_>, [fd, at, len, flags, ..]: Args) -> SysResult {
    let known = c::SYNC_FILE_RANGE_WAIT_BEFORE | c::SYNC_FILE_RANGE_WRITE | c::SYNC_FILE_RANGE_WAIT_AFTER;
    let description = real(cx.task, fd as i32)?;
    let end = (at as i64).checked_add(len as i64);
    if flags as u32 & !known != 0 || (at as i64) < 0 || end.is_none_or(|end| end < at as i64) {
        return Err(Errno::EINVAL);
    }
    match description.file.file_type() {
        FileType::Regular | FileType::Block => description.file.sync(true).map(Flow::from),
        FileType::Directory | FileType::Symlink => Ok(Flow::Done(0)),
        _ => Err(Errno::ESPIPE),
    }
}

fn readahead(cx: &mut Cx<'_>, [fd, ..]: Args) -> SysResult {
    let description = real(cx.task, fd as i32)?;
    if !description.readable() {
        return Err(Errno::EBADF);
    }
    match description.file.file_type() {
        FileType::Regular | FileType::Block => Ok(Flow::Done(0)),
        _ => Err(Errno::EINVAL),
    }
}

fn fadvise(cx: &mut Cx<'_>, [fd, _, len, advice, ..]: Args) -> SysResult {
    let description = real(cx.task, fd as i32)?;
    if description.file.file_type() == FileType::Fifo {
        return Err(Errno::ESPIPE);
    }
    if (len as i64) < 0 || advice > u64::from(c::POSIX_FADV_NOREUSE) {
        return Err(Errno::EINVAL);
    }
    Ok(Flow::Done(0))
}
