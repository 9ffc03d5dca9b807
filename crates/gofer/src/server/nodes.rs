//! Requests about one open place.
//!
//! A place is opened for reading or writing by the kernel's link to it in `/proc/self/fd`, which leads to this very file, whatever its
//! name is now. That directory, and nothing else of `/proc`, is this process's working directory.

use super::{Node, Outcome, Worker, attributes};
use crate::protocol::{FileSystem, Id, NewOwner, OpenFlags, TARGET_MOST, Times};
use crate::wire::{Bytes, Writer};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use rustix::path::DecInt;

/// The kernel's link to an open file of ours, relative to the working directory.
pub(super) fn magic_link(file: impl AsFd) -> DecInt {
    DecInt::from_fd(file)
}

/// Opens an open file once more, in another way.
pub(super) fn reopen(file: impl AsFd, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(CWD, magic_link(file), flags | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())
}

/// What is to be changed.
#[derive(Debug)]
pub(super) struct Changes {
    pub(super) owner: Option<NewOwner>,
    pub(super) mode: Option<u32>,
    pub(super) size: Option<u64>,
    pub(super) times: Option<Times>,
}

impl Worker<'_> {
    pub(super) fn stat(&self, node: Id, out: &mut Writer<'_>) -> Outcome {
        out.put(&attributes(&self.node(node)?.place)?);
        Ok(None)
    }

    pub(super) fn open(&self, node: Id, flags: OpenFlags) -> Outcome {
        self.open_node(&*self.node(node)?, flags).map(Some)
    }

    /// Opens a place, if that can't wake anybody or wait for anybody. What kind of file it is can't change under us.
    pub(super) fn open_node(&self, node: &Node, flags: OpenFlags) -> Result<OwnedFd, Errno> {
        let export = self.export(node)?;
        let never_wait = match node.kind {
            FileType::RegularFile | FileType::Directory => OFlags::empty(),
            FileType::Symlink => return Err(Errno::LOOP),
            FileType::Fifo if export.pipes => OFlags::NONBLOCK,
            FileType::CharacterDevice | FileType::BlockDevice if export.devices => OFlags::NONBLOCK,
            _ => return Err(Errno::NXIO),
        };
        reopen(&node.place, OFlags::from_bits_retain(flags.bits()) | never_wait)
    }

    pub(super) fn read_link(&self, node: Id, out: &mut Writer<'_>) -> Outcome {
        let node = self.node(node)?;
        if node.kind != FileType::Symlink {
            return Err(Errno::INVAL);
        }
        let mut target = [0; TARGET_MOST];
        let length = rustix::fs::readlinkat_raw(&node.place, c"", &mut target[..])?;
        out.put(&Bytes(target.get(..length).unwrap_or_default()));
        Ok(None)
    }

    pub(super) fn change(&self, node: Id, changes: &Changes, out: &mut Writer<'_>) -> Outcome {
        let node = self.node(node)?;
        if let Some(owner) = changes.owner {
            change_owner(&node, owner)?;
        }
        if let Some(mode) = changes.mode {
            change_mode(&node, mode)?;
        }
        if let Some(size) = changes.size {
            change_size(&node, size)?;
        }
        if let Some(times) = &changes.times {
            change_times(&node, times)?;
        }
        out.put(&attributes(&node.place)?);
        Ok(None)
    }

    pub(super) fn stat_fs(&self, node: Id, out: &mut Writer<'_>) -> Outcome {
        let node = self.node(node)?;
        // Two calls, as only the second tells the number, and only the first the kind.
        let (stat, vfs) = (rustix::fs::fstatfs(&node.place)?, rustix::fs::fstatvfs(&node.place)?);
        out.put(&FileSystem {
            kind: stat.f_type.cast_unsigned(),
            block_size: stat.f_bsize.cast_unsigned(),
            blocks: stat.f_blocks,
            free: stat.f_bfree,
            available: stat.f_bavail,
            files: stat.f_files,
            files_free: stat.f_ffree,
            id: vfs.f_fsid,
            name_most: stat.f_namelen.cast_unsigned(),
            fragment_size: stat.f_frsize.cast_unsigned(),
            flags: stat.f_flags.cast_unsigned(),
        });
        Ok(None)
    }
}

fn change_owner(node: &Node, NewOwner { uid, gid }: NewOwner) -> Result<(), Errno> {
    // To the kernel this number says "leave it", which is what "none" is for.
    if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
        return Err(Errno::INVAL);
    }
    rustix::fs::chownat(&node.place, c"", uid.map(Uid::from_raw), gid.map(Gid::from_raw), AtFlags::EMPTY_PATH)
}

fn change_mode(node: &Node, mode: u32) -> Result<(), Errno> {
    if node.kind == FileType::Symlink {
        return Err(Errno::OPNOTSUPP);
    }
    rustix::fs::chmodat(CWD, magic_link(&node.place), Mode::from_raw_mode(mode & 0o7777), AtFlags::empty())
}

fn change_size(node: &Node, size: u64) -> Result<(), Errno> {
    match node.kind {
        FileType::RegularFile => rustix::fs::ftruncate(reopen(&node.place, OFlags::WRONLY)?, size),
        FileType::Directory => Err(Errno::ISDIR),
        _ => Err(Errno::INVAL),
    }
}

fn change_times(node: &Node, times: &Times) -> Result<(), Errno> {
    let [last_access, last_modification] =
        [times.accessed, times.modified].map(|time| Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() });
    rustix::fs::utimensat(&node.place, c"", &Timestamps { last_access, last_modification }, AtFlags::EMPTY_PATH)
}
