//! Directories: `getdents getdents64 getcwd chdir fchdir chroot umask`.

use super::open::directory;
use super::{Args, Cx, Entry, full};
use crate::fs::tree::{Lookup, Path, access, walk};
use crate::fs::{FileType, Io};
use crate::{Errno, Flow, Result, SysResult};
use alloc::vec::Vec;
use insula_abi::Sysno;
use insula_abi::general as c;

pub(super) const CALLS: &[Entry] = &[
    full(Sysno::getdents64, |cx, args| getdents(cx, args, record64)),
    full(Sysno::getdents, |cx, args| getdents(cx, args, record)),
    full(Sysno::getcwd, getcwd),
    full(Sysno::chdir, |cx, [path, ..]| {
        let path = cx.task.mm().path(path)?;
        let place = walk::resolve(cx.task, c::AT_FDCWD, &path, Lookup::FOLLOW | Lookup::DIRECTORY)?;
        chdir(cx, place)
    }),
    full(Sysno::fchdir, |cx, [fd, ..]| {
        let place = cx.task.file(fd as i32)?.path.clone().ok_or(Errno::ENOTDIR)?;
        chdir(cx, place)
    }),
    full(Sysno::chroot, chroot),
    full(Sysno::umask, |cx, [mask, ..]| {
        let fs = cx.task.fs();
        let before = core::mem::replace(&mut fs.lock().umask, mask as u32 & 0o777);
        Ok(before.into())
    }),
];

/// The most bytes of entries that one call answers.
const MOST: u64 = 1 << 20;

/// Appends an entry; its length is a multiple of eight.
type Record = fn(&mut Vec<u8>, ino: u64, next: u64, kind: FileType, name: &[u8]);

/// `struct linux_dirent64`.
fn record64(to: &mut Vec<u8>, ino: u64, next: u64, kind: FileType, name: &[u8]) {
    let len = (19 + name.len() + 1).next_multiple_of(8);
    let end = to.len() + len;
    to.extend_from_slice(&ino.to_ne_bytes());
    to.extend_from_slice(&next.to_ne_bytes());
    to.extend_from_slice(&(len as u16).to_ne_bytes());
    to.push(kind.dirent());
    to.extend_from_slice(name);
    to.resize(end, 0);
}

/// `struct linux_dirent`: the kind is in the last byte.
fn record(to: &mut Vec<u8>, ino: u64, next: u64, kind: FileType, name: &[u8]) {
    let len = (18 + name.len() + 2).next_multiple_of(8);
    let end = to.len() + len;
    to.extend_from_slice(&ino.to_ne_bytes());
    to.extend_from_slice(&next.to_ne_bytes());
    to.extend_from_slice(&(len as u16).to_ne_bytes());
    to.extend_from_slice(name);
    to.resize(end, 0);
    to[end - 1] = kind.dirent();
}

fn getdents(cx: &mut Cx<'_>, [fd, to, len, ..]: Args, record: Record) -> SysResult {
    let description = directory(cx.task, fd as i32)?;
    if !description.readable() {
        return Err(Errno::EBADF);
    }
    let most = u64::from(len as u32).min(MOST) as usize;
    let mut bytes = Vec::with_capacity(most.min(32 << 10));
    let mut position = description.position();
    let start = *position;
    if description.path.as_ref().is_some_and(|path| path.dentry.is_gone()) {
        return Err(Errno::ENOENT);
    }
    // The kernel's own two come first: positions of the file system's begin behind them.
    const DOTS: u64 = 2;
    let mut next = start;
    let mut full = false;
    let mut add = |ino: u64, after: u64, kind: FileType, name: &[u8]| {
        let before = bytes.len();
        record(&mut bytes, ino, after, kind, name);
        full = bytes.len() > most;
        if full {
            bytes.truncate(before);
        } else {
            next = after;
        }
        !full
    };
    let own = super::stat::attributes_of(&description)?.ino;
    let above = || -> Result<u64> {
        let up = description.path.as_ref().and_then(Path::up);
        up.map_or(Ok(own), |up| up.inode().identity().map(|(_, ino)| ino))
    };
    let dots =
        (start > 0 || add(own, 1, FileType::Directory, b".")) && (start > 1 || add(above()?, DOTS, FileType::Directory, b".."));
    if dots {
        let io = Io { task: cx.task, flags: description.flags() };
        description.file.entries(&io, start.saturating_sub(DOTS), &mut |name, ino, kind, after| {
            add(ino, after.saturating_add(DOTS).min(i64::MAX as u64), kind, name)
        })?;
    }
    if bytes.is_empty() && full {
        return Err(Errno::EINVAL);
    }
    cx.task.mm().write(to, &bytes)?;
    // Entries that couldn't be given come again.
    *position = next;
    Ok(bytes.len().into())
}

fn getcwd(cx: &mut Cx<'_>, [to, len, ..]: Args) -> SysResult {
    let (root, cwd) = {
        let fs = cx.task.fs();
        let fs = fs.lock();
        (fs.root.clone(), fs.cwd.clone())
    };
    if cwd.dentry.is_gone() {
        return Err(Errno::ENOENT);
    }
    let mut text = cwd.text(&root);
    text.push(0);
    if text.len() > insula_abi::PAGE as usize {
        return Err(Errno::ENAMETOOLONG);
    }
    if text.len() as u64 > len {
        return Err(Errno::ERANGE);
    }
    cx.task.mm().write(to, &text)?;
    Ok(text.len().into())
}

fn chdir(cx: &mut Cx<'_>, place: Path) -> SysResult {
    if place.inode().file_type() != FileType::Directory {
        return Err(Errno::ENOTDIR);
    }
    access::check(&cx.task.credentials(), place.inode(), access::EXECUTE)?;
    let fs = cx.task.fs();
    let before = core::mem::replace(&mut fs.lock().cwd, place);
    drop(before);
    Ok(Flow::Done(0))
}

fn chroot(cx: &mut Cx<'_>, [path, ..]: Args) -> SysResult {
    let path = cx.task.mm().path(path)?;
    let place = walk::resolve(cx.task, c::AT_FDCWD, &path, Lookup::FOLLOW | Lookup::DIRECTORY)?;
    let credentials = cx.task.credentials();
    access::check(&credentials, place.inode(), access::EXECUTE)?;
    if !credentials.has_own(c::CAP_SYS_CHROOT) {
        return Err(Errno::EPERM);
    }
    let fs = cx.task.fs();
    let before = core::mem::replace(&mut fs.lock().root, place);
    drop(before);
    Ok(Flow::Done(0))
}
