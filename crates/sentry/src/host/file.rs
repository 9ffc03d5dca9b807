//! Files of the host's, by descriptors the gofer gave.

use super::{Room, errno};
use crate::platform::Memory;
use insula_kernel::{Result, host};
use rustix::fd::{AsRawFd, OwnedFd};
use std::ops::Range;
use std::sync::Arc;

/// A descriptor of a regular file.
#[derive(Debug)]
pub struct HostDescriptor {
    fd: OwnedFd,
    memory: Arc<Memory>,
    /// For a file whose contents are in memory of the sandbox's.
    room: Option<Arc<Room>>,
}

impl HostDescriptor {
    /// Takes the descriptor over; data can move between it and `memory` directly.
    pub fn new(fd: OwnedFd, memory: &Arc<Memory>, room: Option<&Arc<Room>>) -> Self {
        HostDescriptor { fd, memory: memory.clone(), room: room.cloned() }
    }

    /// Whether so many bytes may be written.
    ///
    /// # Errors
    /// `ENOSPC`: its contents are in memory, and that is full.
    pub fn may_write(&self, bytes: u64) -> Result<()> {
        self.room.as_ref().map_or(Ok(()), |room| room.write(bytes))
    }

    /// The descriptor.
    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }
}

impl host::HostFile for HostDescriptor {
    fn token(&self) -> u64 {
        self.fd.as_raw_fd() as u64
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        rustix::io::retry_on_intr(|| rustix::io::pread(&self.fd, &mut *into, at)).map_err(errno)
    }

    fn write_at(&self, at: u64, from: &[u8]) -> Result<usize> {
        self.may_write(from.len() as u64)?;
        rustix::io::retry_on_intr(|| rustix::io::pwrite(&self.fd, from, at)).map_err(errno)
    }

    fn read_into(&self, at: u64, pieces: &[Range<u64>]) -> Result<usize> {
        self.memory.read_file(&self.fd, at, pieces).map_err(errno)
    }

    fn write_from(&self, at: u64, pieces: &[Range<u64>]) -> Result<usize> {
        self.may_write(pieces.iter().map(|piece| piece.end - piece.start).sum())?;
        self.memory.write_file(&self.fd, at, pieces).map_err(errno)
    }

    fn size(&self) -> Result<u64> {
        rustix::fs::fstat(&self.fd).map(|stat| stat.st_size as u64).map_err(errno)
    }
}
