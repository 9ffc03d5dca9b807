//! Where a message's bytes come from, and where they go: user memory, or the kernel's own.

use crate::fs::pipe::Ring;
use crate::mm::UserBuf;
use crate::{Errno, Result};
use alloc::vec::Vec;

/// Where bytes come from.
pub enum Source<'a> {
    /// A program.
    User(&'a mut UserBuf),
    /// The kernel itself: sendfile(2), splice(2).
    Kernel(&'a [u8]),
}

impl Source<'_> {
    /// Bytes that are left.
    pub fn left(&self) -> usize {
        match self {
            Source::User(buffer) => usize::try_from(buffer.left()).unwrap_or(usize::MAX),
            Source::Kernel(bytes) => bytes.len(),
        }
    }

    /// Puts up to `most` bytes into a ring; answers how many.
    ///
    /// # Errors
    /// `EFAULT`: not even one.
    pub fn give_to(&mut self, ring: &mut Ring, most: usize) -> Result<usize> {
        match self {
            Source::User(buffer) => ring.take_from(buffer, most.min(usize::try_from(buffer.left()).unwrap_or(usize::MAX))),
            Source::Kernel(bytes) => {
                let (now, later) = bytes.split_at(most.min(bytes.len()));
                ring.push(now);
                *bytes = later;
                Ok(now.len())
            }
        }
    }

    /// So many bytes count as sent.
    pub fn skip(&mut self, count: usize) {
        match self {
            Source::User(buffer) => buffer.skip(count as u64),
            Source::Kernel(bytes) => *bytes = &bytes[count.min(bytes.len())..],
        }
    }

    /// Appends all of it, which the caller knows to be little enough; what a caller that must try again would send stays.
    ///
    /// # Errors
    /// `EFAULT`: not all of it is there.
    pub fn append_to(&mut self, into: &mut Vec<u8>) -> Result<()> {
        match self {
            Source::User(buffer) => {
                let before = into.len();
                let len = usize::try_from(buffer.left()).unwrap_or(usize::MAX);
                into.try_reserve(len).map_err(|_| Errno::ENOBUFS)?;
                into.resize(before + len, 0);
                match buffer.take(&mut into[before..]) {
                    Ok(count) if count == len => Ok(()),
                    _ => {
                        into.truncate(before);
                        Err(Errno::EFAULT)
                    }
                }
            }
            Source::Kernel(bytes) => {
                into.extend_from_slice(bytes);
                *bytes = &[];
                Ok(())
            }
        }
    }
}

/// Where bytes go.
pub enum Sink<'a> {
    /// A program.
    User(&'a mut UserBuf),
    /// The kernel itself; how much of it is used.
    Kernel(&'a mut [u8], usize),
}

impl Sink<'_> {
    /// Bytes that have room.
    pub fn left(&self) -> usize {
        match self {
            Sink::User(buffer) => usize::try_from(buffer.left()).unwrap_or(usize::MAX),
            Sink::Kernel(bytes, used) => bytes.len() - used,
        }
    }

    /// Copies as much as has room; answers how much.
    ///
    /// # Errors
    /// `EFAULT`: not even one byte.
    pub fn put(&mut self, from: &[u8]) -> Result<usize> {
        match self {
            Sink::User(buffer) => buffer.put(from),
            Sink::Kernel(bytes, used) => {
                let count = from.len().min(bytes.len() - *used);
                bytes[*used..*used + count].copy_from_slice(&from[..count]);
                *used += count;
                Ok(count)
            }
        }
    }

    /// So many bytes are passed over, as if they had been copied.
    pub fn skip(&mut self, count: usize) {
        match self {
            Sink::User(buffer) => buffer.skip(count as u64),
            Sink::Kernel(bytes, used) => *used = (*used + count).min(bytes.len()),
        }
    }
}
