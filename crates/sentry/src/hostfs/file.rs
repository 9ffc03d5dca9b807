//! Open regular files of the host's.

use super::attributes_of;
use super::inode::HostInode;
use crate::host::{HostDescriptor, errno};
use insula_kernel::fs::{AlwaysReady, Attributes, File, FileType, Inode, Io, Mapping, limit_size, room};
use insula_kernel::host::HostFile;
use insula_kernel::mm::{Access, Source, UserBuf};
use insula_kernel::{Errno, Result};
use rustix::fs::{FallocateFlags, SeekFrom};
use std::sync::Arc;

/// What is carried at once where data can't move directly, in bytes.
const AT_ONCE: usize = 64 << 10;

/// An open regular file.
pub(super) struct HostOpen {
    inode: Arc<HostInode>,
    descriptor: Arc<HostDescriptor>,
}

impl HostOpen {
    pub(super) fn new(inode: Arc<HostInode>, descriptor: Arc<HostDescriptor>) -> Self {
        HostOpen { inode, descriptor }
    }

    /// Writes all that is left from `at` on.
    fn write_all(&self, mut at: u64, buffer: &mut UserBuf) -> Result<usize> {
        let mut done = 0;
        while buffer.left() > 0 {
            match self.write_some(at, buffer) {
                Ok(0) => break,
                Ok(count) => (done, at) = (done + count, at + count as u64),
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        self.inode.forget();
        Ok(done)
    }

    fn write_some(&self, at: u64, buffer: &mut UserBuf) -> Result<usize> {
        let pinned = buffer.pin(Access::Read, u64::MAX)?;
        if !pinned.is_empty() {
            let count = self.descriptor.write_from(at, pinned.pieces())?;
            buffer.skip(count as u64);
            return Ok(count);
        }
        let mut bytes = vec![0; AT_ONCE.min(usize::try_from(buffer.left()).unwrap_or(AT_ONCE))];
        let count = buffer.take(&mut bytes)?;
        self.descriptor.write_at(at, &bytes[..count])
    }
}

impl AlwaysReady for HostOpen {}

impl File for HostOpen {
    fn file_type(&self) -> FileType {
        FileType::Regular
    }

    fn read(&self, _: &Io<'_>, mut at: u64, buffer: &mut UserBuf) -> Result<usize> {
        let mut done = 0;
        while buffer.left() > 0 {
            let got = match buffer.pin(Access::Write, u64::MAX) {
                Ok(pinned) if !pinned.is_empty() => {
                    let wanted = pinned.len() as usize;
                    self.descriptor.read_into(at, pinned.pieces()).map(|count| {
                        buffer.skip(count as u64);
                        (count, wanted)
                    })
                }
                Ok(_) => {
                    let mut bytes = vec![0; AT_ONCE.min(usize::try_from(buffer.left()).unwrap_or(AT_ONCE))];
                    let read = self.descriptor.read_at(at, &mut bytes);
                    read.and_then(|count| Ok((buffer.put(&bytes[..count])?, bytes.len())))
                }
                Err(errno) => Err(errno),
            };
            match got {
                Ok((count, wanted)) => {
                    (done, at) = (done + count, at + count as u64);
                    if count < wanted {
                        break;
                    }
                }
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn write(&self, io: &Io<'_>, at: u64, buffer: &mut UserBuf) -> Result<usize> {
        if buffer.left() > 0 {
            limit_size(io, at, buffer)?;
        }
        self.write_all(at, buffer)
    }

    fn append(&self, io: &Io<'_>, buffer: &mut UserBuf) -> Result<(usize, u64)> {
        let _alone = self.inode.appending.lock();
        let end = self.end()?;
        if buffer.left() > 0 {
            limit_size(io, end, buffer)?;
        }
        let count = self.write_all(end, buffer)?;
        Ok((count, end + count as u64))
    }

    fn read_bytes(&self, _: &Io<'_>, at: u64, into: &mut [u8]) -> Result<usize> {
        self.descriptor.read_at(at, into)
    }

    fn write_bytes(&self, io: &Io<'_>, at: u64, from: &[u8]) -> Result<usize> {
        let room = usize::try_from(room(io, at)?).unwrap_or(usize::MAX);
        let from = &from[..from.len().min(room)];
        let count = self.descriptor.write_at(at, from);
        self.inode.forget();
        count
    }

    fn end(&self) -> Result<u64> {
        self.descriptor.size()
    }

    fn seek_data(&self, from: u64, hole: bool) -> Result<u64> {
        let to = if hole { SeekFrom::Hole(from) } else { SeekFrom::Data(from) };
        rustix::fs::seek(self.descriptor.fd(), to).map_err(errno)
    }

    fn map(&self, _: &Io<'_>, _: bool, _: bool) -> Result<Mapping> {
        // What is written through a mapping changes the file's times, some time.
        self.inode.forget();
        Ok(Mapping { source: Source::Host(self.descriptor.clone()), base: 0 })
    }

    fn sync(&self, data_only: bool) -> Result<()> {
        let fd = self.descriptor.fd();
        if data_only { rustix::fs::fdatasync(fd) } else { rustix::fs::fsync(fd) }.map_err(errno)
    }

    fn allocate(&self, mode: u32, at: u64, len: u64) -> Result<()> {
        let flags = FallocateFlags::from_bits(mode).ok_or(Errno::EOPNOTSUPP)?;
        if !flags.contains(FallocateFlags::PUNCH_HOLE) {
            self.descriptor.may_write(len)?;
        }
        self.inode.forget();
        rustix::fs::fallocate(self.descriptor.fd(), flags, at, len).map_err(errno)
    }

    fn resize(&self, size: u64) -> Result<()> {
        self.inode.forget();
        rustix::fs::ftruncate(self.descriptor.fd(), size).map_err(errno)
    }

    fn attributes(&self) -> Result<Attributes> {
        match self.inode.attributes() {
            Ok(known) => Ok(known),
            Err(_) => rustix::fs::fstat(self.descriptor.fd()).map(|stat| attributes_of(&stat)).map_err(errno),
        }
    }
}
