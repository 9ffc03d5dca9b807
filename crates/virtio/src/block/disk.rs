//! The host's side of a disk: a file or a block device, opened once for the page cache, and once more without it.

use super::{Cache, SECTOR};
use crate::error::{Error, Result, Tried};
use insula_sys::error::Context;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, SeekFrom, StatxFlags};
use rustix::io::Errno;
use std::path::Path;
use vm_memory::GuestAddress;

/// An open disk.
#[derive(Debug)]
pub(super) struct Disk {
    cached: OwnedFd,
    direct: Option<Direct>,
    read_only: bool,
    sectors: u64,
}

/// What O_DIRECT wants, in bytes (`STATX_DIOALIGN`, statx(2)).
#[derive(Debug)]
struct Direct {
    file: OwnedFd,
    memory: u32,
    offset: u32,
}

impl Disk {
    pub(super) fn open(path: &Path, read_only: bool, cache: Cache) -> Result<Disk> {
        let access = if read_only { OFlags::RDONLY } else { OFlags::RDWR };
        let open = |flags| rustix::fs::open(path, access | OFlags::CLOEXEC | OFlags::NOCTTY | flags, Mode::empty());
        // Not to wait for the other end of a named pipe; to files and disks it means nothing.
        let cached = open(OFlags::NONBLOCK).on("open the disk", path.display())?;
        let stat = rustix::fs::fstat(&cached).on("look at the disk", path.display())?;
        let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
        if !kind.is_file() && !kind.is_block_device() {
            return Err(refuse(path, "is neither a file nor a block device"));
        }
        // Two guests that write one file system destroy it.
        let lock = if read_only { FlockOperation::NonBlockingLockShared } else { FlockOperation::NonBlockingLockExclusive };
        match rustix::fs::flock(&cached, lock) {
            Err(Errno::WOULDBLOCK) => return Err(refuse(path, "is in use by another machine, and one of the two writes to it")),
            result => result.on("lock the disk", path.display())?,
        }
        let direct = match cache {
            Cache::Cached => None,
            Cache::Direct => Some(match open(OFlags::DIRECT | OFlags::NONBLOCK) {
                Err(Errno::INVAL) => return Err(refuse(path, "is on a file system without direct access; `cached` needs none")),
                file => Direct::new(file.on("open the disk", path.display())?),
            }),
        };
        let mut disk = Disk { cached, direct, read_only, sectors: 0 };
        disk.refresh()?;
        Ok(disk)
    }

    /// Asks for the size; whether it has changed.
    pub(super) fn refresh(&mut self) -> Result<bool> {
        let now = self.bytes()? / SECTOR;
        let before = std::mem::replace(&mut self.sectors, now);
        Ok(before != self.sectors)
    }

    /// How large it is now.
    pub(super) fn bytes(&self) -> Result<u64> {
        // Block devices say it in this way only.
        rustix::fs::seek(&self.cached, SeekFrom::End(0)).tried("ask for the size of a disk")
    }

    pub(super) fn sectors(&self) -> u64 {
        self.sectors
    }

    pub(super) fn read_only(&self) -> bool {
        self.read_only
    }

    /// What the guest should read and write at once, in bytes: its file systems keep to that, and so all is aligned for O_DIRECT.
    pub(super) fn block_size(&self) -> u32 {
        self.direct.as_ref().map_or(SECTOR as u32, |direct| direct.offset)
    }

    /// The files, in the order of [`Disk::choose`]'s answer.
    pub(super) fn files(&self) -> Vec<BorrowedFd<'_>> {
        let direct = self.direct.as_ref().map(|direct| direct.file.as_fd());
        std::iter::once(self.cached.as_fd()).chain(direct).collect()
    }

    /// The file for whatever isn't aligned.
    pub(super) fn cached(&self) -> BorrowedFd<'_> {
        self.cached.as_fd()
    }

    /// By which of the files to move these pieces: 1 without the page cache, if there is such a file and all is aligned for it.
    pub(super) fn choose(&self, offset: u64, pieces: &[(GuestAddress, u32)]) -> u32 {
        let Some(direct) = &self.direct else { return 0 };
        let (file, memory) = (u64::from(direct.offset - 1), u64::from(direct.memory - 1));
        // Guest memory is mapped at whole pages, so what is aligned in it is so for the host.
        let fits = |&(address, length): &(GuestAddress, u32)| address.0 & memory == 0 && u64::from(length) & file == 0;
        u32::from(offset & file == 0 && pieces.iter().all(fits))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // An io_uring that is being taken down keeps its descriptors open a while longer, and the lock with them.
        let _ = rustix::fs::flock(&self.cached, FlockOperation::NonBlockingUnlock);
    }
}

impl Direct {
    fn new(file: OwnedFd) -> Direct {
        let statx = rustix::fs::statx(&file, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN);
        // A kernel that doesn't say (before 6.1) still works with pages.
        let known = |value: u32| if value.is_power_of_two() { value.clamp(512, 4096) } else { 4096 };
        let (memory, offset) = statx.map_or((0, 0), |statx| (statx.stx_dio_mem_align, statx.stx_dio_offset_align));
        Direct { file, memory: known(memory), offset: known(offset) }
    }
}

fn refuse(path: &Path, cause: &str) -> Error {
    Error::Config { device: "block", cause: format!("{} {cause}", path.display()) }
}
