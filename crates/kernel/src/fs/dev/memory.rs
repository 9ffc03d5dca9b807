//! `/dev/null`, `/dev/zero` and `/dev/full`, null(4) and full(4).

use crate::fs::{AlwaysReady, File, FileType, Io, Mapping};
use crate::mm::{Object, Source, UserBuf};
use crate::{Errno, Result};

/// Takes everything, gives nothing.
pub struct Null;

impl AlwaysReady for Null {}

impl File for Null {
    fn file_type(&self) -> FileType {
        FileType::Character
    }

    fn can_be_watched(&self) -> bool {
        false
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn stays_at_start(&self) -> bool {
        true
    }

    fn end(&self) -> Result<u64> {
        Ok(0)
    }

    fn read(&self, _: &Io<'_>, _: u64, _: &mut UserBuf) -> Result<usize> {
        Ok(0)
    }

    fn write(&self, _: &Io<'_>, _: u64, buffer: &mut UserBuf) -> Result<usize> {
        let count = buffer.left();
        buffer.skip_all();
        Ok(count as usize)
    }

    fn read_bytes(&self, _: &Io<'_>, _: u64, _: &mut [u8]) -> Result<usize> {
        Ok(0)
    }

    fn write_bytes(&self, _: &Io<'_>, _: u64, from: &[u8]) -> Result<usize> {
        Ok(from.len())
    }
}

/// Gives zeros; takes everything, or is always full.
pub struct Zero {
    /// It has no room.
    pub full: bool,
}

/// Shared zeros are as many as anybody may map.
const ENDLESS: u64 = 1 << 46;

impl AlwaysReady for Zero {}

impl File for Zero {
    fn file_type(&self) -> FileType {
        FileType::Character
    }

    fn can_be_watched(&self) -> bool {
        false
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn stays_at_start(&self) -> bool {
        true
    }

    fn end(&self) -> Result<u64> {
        Ok(0)
    }

    fn read(&self, _: &Io<'_>, _: u64, buffer: &mut UserBuf) -> Result<usize> {
        let zeros = [0; 4096];
        let mut done = 0;
        while buffer.left() > 0 {
            let most = buffer.left().min(zeros.len() as u64) as usize;
            match buffer.put(&zeros[..most]) {
                Ok(count) if count == most => done += count,
                Ok(count) => return Ok(done + count),
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }

    fn write(&self, io: &Io<'_>, at: u64, buffer: &mut UserBuf) -> Result<usize> {
        if self.full && buffer.left() > 0 { Err(Errno::ENOSPC) } else { Null.write(io, at, buffer) }
    }

    fn read_bytes(&self, _: &Io<'_>, _: u64, into: &mut [u8]) -> Result<usize> {
        into.fill(0);
        Ok(into.len())
    }

    fn write_bytes(&self, _: &Io<'_>, _: u64, from: &[u8]) -> Result<usize> {
        if self.full && !from.is_empty() { Err(Errno::ENOSPC) } else { Ok(from.len()) }
    }

    fn map(&self, io: &Io<'_>, shared: bool, _: bool) -> Result<Mapping> {
        if self.full {
            return Err(Errno::ENODEV);
        }
        let source = if shared { Source::Object(Object::new(&io.task.kernel().frames, ENDLESS)) } else { Source::Zero };
        Ok(Mapping { source, base: 0 })
    }
}
