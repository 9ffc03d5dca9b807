//! Open directories of the host's.

use super::inode::HostInode;
use crate::host::errno;
use insula_kernel::fs::{AlwaysReady, Attributes, EachEntry, File, FileType, Inode, Io};
use insula_kernel::sync::Mutex;
use insula_kernel::{Errno, Result};
use rustix::fd::OwnedFd;
use rustix::fs::{RawDir, SeekFrom};
use std::mem::MaybeUninit;
use std::sync::{Arc, OnceLock};

/// Room for entries that are fetched at once, in bytes.
const BATCH: usize = 32 << 10;

/// A descriptor of a directory. Its position is set anew for each call, so all who have the directory open can share it.
pub(super) type Listing = Mutex<OwnedFd>;

/// An open directory. Most are only opened to be the start of a path: the host opens it when it is to be read.
pub(super) struct HostDirectory {
    inode: Arc<HostInode>,
    listing: OnceLock<Arc<Listing>>,
}

impl HostDirectory {
    pub(super) fn new(inode: Arc<HostInode>) -> Self {
        HostDirectory { inode, listing: OnceLock::new() }
    }

    fn listing(&self) -> Result<&Listing> {
        if let Some(listing) = self.listing.get() {
            return Ok(listing);
        }
        let opened = self.inode.listing()?;
        Ok(self.listing.get_or_init(|| opened))
    }
}

/// Calls `each` with the names from `at` on, as long as it wants more.
pub(super) fn entries(listing: &Listing, at: u64, each: &mut EachEntry<'_>) -> Result<()> {
    let fd = listing.lock();
    rustix::fs::seek(&*fd, SeekFrom::Start(at)).map_err(errno)?;
    let mut room = vec![MaybeUninit::uninit(); BATCH];
    let mut entries = RawDir::new(&*fd, &mut room);
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(errno)?;
        // The kernel adds these two itself.
        if matches!(entry.file_name().to_bytes(), b"." | b"..") {
            continue;
        }
        let kind = FileType::of_mode(entry.file_type().as_raw_mode());
        if !each(entry.file_name().to_bytes(), entry.ino(), kind, entry.next_entry_cookie()) {
            break;
        }
    }
    Ok(())
}

impl AlwaysReady for HostDirectory {}

impl File for HostDirectory {
    fn file_type(&self) -> FileType {
        FileType::Directory
    }

    fn read(&self, _: &Io<'_>, _: u64, _: &mut insula_kernel::mm::UserBuf) -> Result<usize> {
        Err(Errno::EISDIR)
    }

    fn entries(&self, _: &Io<'_>, at: u64, each: &mut EachEntry<'_>) -> Result<()> {
        entries(self.listing()?, at, each)
    }

    fn end(&self) -> Result<u64> {
        Ok(i64::MAX as u64)
    }

    fn sync(&self, _: bool) -> Result<()> {
        rustix::fs::fsync(&*self.listing()?.lock()).map_err(errno)
    }

    fn attributes(&self) -> Result<Attributes> {
        self.inode.attributes()
    }
}
