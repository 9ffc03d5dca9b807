//! Bytes at offsets, of a file or of memory, and integers in them.

use super::{Checked, FileExt, Problem};
use std::fs::File;
use std::io;

/// How much of a file is looked at to tell what it is: all of a bzImage's real-mode part (at most 256 sectors).
const HEAD: usize = 128 << 10;

/// What is parsed.
pub(super) enum Source<'a> {
    /// A file and its size.
    File(&'a File, u64),
    /// Memory.
    Bytes(&'a [u8]),
}

impl Source<'_> {
    pub(super) fn size(&self) -> u64 {
        match self {
            Source::File(_, size) => *size,
            Source::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Fills the buffer from an offset on.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> Checked<()> {
        let short = || Problem::Damaged("it ends too early".into());
        match self {
            Source::File(file, _) => file.read_exact_at(buffer, offset).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => short(),
                _ => Problem::Read(error),
            }),
            Source::Bytes(bytes) => {
                let start = usize::try_from(offset).map_err(|_| short())?;
                let rest = bytes.get(start..).ok_or_else(short)?;
                buffer.copy_from_slice(rest.get(..buffer.len()).ok_or_else(short)?);
                Ok(())
            }
        }
    }
}

/// A file's first bytes.
pub(super) fn head(file: &File) -> Checked<Vec<u8>> {
    let mut head = vec![0; HEAD];
    let mut length = 0;
    while length < HEAD {
        match file.read_at(&mut head[length..], length as u64) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Problem::Read(error)),
        }
    }
    head.truncate(length);
    Ok(head)
}

/// An array out of bytes; none if they end before.
pub(super) fn array<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset.checked_add(N)?)?.try_into().ok()
}

/// A little-endian integer of two bytes.
pub(super) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    array(bytes, offset).map(u16::from_le_bytes)
}

/// A little-endian integer of four bytes.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    array(bytes, offset).map(u32::from_le_bytes)
}

/// A little-endian integer of eight bytes.
pub(super) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    array(bytes, offset).map(u64::from_le_bytes)
}

/// The release at the start of a text: up to the first blank, at most 64 characters (`__NEW_UTS_LEN`), beginning with a digit.
pub(super) fn release(text: &[u8]) -> Option<String> {
    let length = text.iter().position(|byte| !byte.is_ascii_graphic()).unwrap_or(text.len());
    let release = text.get(..length).filter(|release| release.len() <= 64 && release.first().is_some_and(u8::is_ascii_digit))?;
    String::from_utf8(release.to_vec()).ok()
}
