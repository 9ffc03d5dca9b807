//! An initial file system: whether it can be one, and whether it is whole. Nothing is kept of what is in it.
//!
//! The kernel takes cpio archives and packed ones, one behind the other, with zeros between. Each is followed to its end, so that one which was
//! cut short (a copy that failed, a disk that was full) is found before a guest is started with it:
//!
//! | form | where it ends |
//! |---|---|
//! | cpio | it names the size of each of its files |
//! | zstd, LZ4, LZO ([`sized`]) | they name that of each of their blocks |
//! | bzip2 ([`sized`]) | a mark of 48 bits, on no boundary |
//! | gzip, xz, LZMA ([`unpacked`]) | only who unpacks it knows |
//!
//! What is damaged otherwise, or is of no form that is known here, is the kernel's to judge.
//!
//! Source: Linux `Documentation/driver-api/early-userspace/buffer-format.rst` and `lib/decompress.c`.

mod sized;
mod unpacked;

use crate::{Error, Result};
use rustix::fs::OFlags;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Opens an initial file system.
///
/// # Errors
/// It isn't there, is no file that has something in it, or ends before what is in it does.
pub fn open(path: &Path) -> Result<File> {
    let failed = |problem: String| Error::InitialFileSystem { path: path.to_owned(), problem };
    // A pipe without a writer would keep us for ever, and a terminal must not become ours.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
    let file = File::options().read(true).custom_flags(flags).open(path);
    let file = file.map_err(|error| failed(format!("can't be opened: {error}")))?;
    let about = file.metadata().map_err(|error| failed(error.to_string()))?;
    match () {
        () if about.is_dir() => Err(failed("is a directory; pack it: find . | cpio -o -H newc > FILE".into())),
        () if !about.is_file() => Err(failed("is a pipe or a device; write it to a file and give that".into())),
        () if about.len() == 0 => Err(failed("is an empty file".into())),
        () => match (Outside { file: &file, size: about.len() }).check() {
            Ok(()) => Ok(file),
            Err(Flaw::Short) => {
                Err(failed(format!("is cut short: what it holds goes on beyond its {} bytes; copy or make it anew", about.len())))
            }
            Err(Flaw::Unread(error)) => Err(failed(format!("can't be read: {error}"))),
        },
    }
}

/// Why it can't be used.
enum Flaw {
    /// It ends before it should.
    Short,
    Unread(io::Error),
}

type Found<T> = std::result::Result<T, Flaw>;

/// A file, and how many bytes it has.
struct Outside<'a> {
    file: &'a File,
    size: u64,
}

/// How a header of cpio's begins; the last two digits tell the form apart.
const CPIO: [u8; 4] = *b"0707";
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const LZ4: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
const LZO: [u8; 4] = [0x89, b'L', b'Z', b'O'];
const GZIP: [u8; 2] = [0x1f, 0x8b];
const BZIP2: [u8; 3] = *b"BZh";
const XZ: [u8; 4] = [0xfd, b'7', b'z', b'X'];
/// The usual properties, and the low byte of a dictionary's size.
const LZMA: [u8; 2] = [0x5d, 0];

impl Outside<'_> {
    /// One archive after the other, until it isn't known where one ends.
    fn check(&self) -> Found<()> {
        let mut at = 0;
        loop {
            at = self.skip_zeros(at)?;
            // Less than any archive has, if anything: the kernel says what it thinks of it.
            if self.size - at < 4 {
                return Ok(());
            }
            let magic = self.bytes(at)?;
            let end = match magic {
                ZSTD => self.zstd(at)?,
                LZ4 => self.lz4(at)?,
                LZO => self.lzo(at)?,
                CPIO => self.cpio(at)?,
                XZ => self.xz(at)?,
                [a, b, ..] if [a, b] == GZIP => self.gzip(at)?,
                [a, b, c, _] if [a, b, c] == BZIP2 => self.bzip2(at)?,
                [a, b, ..] if [a, b] == LZMA => self.lzma(at)?,
                _ => None,
            };
            match end {
                Some(end) if end < self.size => at = end,
                _ => return Ok(()),
            }
        }
    }

    fn bytes<const N: usize>(&self, at: u64) -> Found<[u8; N]> {
        let mut bytes = [0; N];
        match self.file.read_exact_at(&mut bytes, at) {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Flaw::Short),
            Err(error) => Err(Flaw::Unread(error)),
        }
    }

    /// As many bytes as come at once, at least one.
    fn some(&self, bytes: &mut [u8], at: u64) -> Found<usize> {
        loop {
            match self.file.read_at(bytes, at) {
                Ok(0) => return Err(Flaw::Short),
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Flaw::Unread(error)),
            }
        }
    }

    /// The place of the first byte from here on that isn't zero, or the end.
    fn skip_zeros(&self, mut at: u64) -> Found<u64> {
        let mut bytes = [0; 4096];
        while at < self.size {
            let count = self.some(&mut bytes, at)?;
            match bytes[..count].iter().position(|byte| *byte != 0) {
                Some(zeros) => return Ok(at + zeros as u64),
                None => at += count as u64,
            }
        }
        Ok(self.size)
    }

    /// Where a cpio archive ends. None if what should be a header is none.
    fn cpio(&self, mut at: u64) -> Found<Option<u64>> {
        const HEADER: u64 = 110;
        const TRAILER: &[u8; 11] = b"TRAILER!!!\0";
        let aligned = |at: u64| at.next_multiple_of(4);
        loop {
            let header: [u8; HEADER as usize] = self.bytes(at)?;
            // Eight hexadecimal digits each.
            let field = |place: usize| u32::from_str_radix(std::str::from_utf8(&header[place..place + 8]).ok()?, 16).ok();
            let (true, Some(size), Some(name)) = (header.starts_with(b"07070"), field(54), field(94)) else { return Ok(None) };
            let body = aligned(at + HEADER + u64::from(name));
            let end = body + u64::from(size);
            if name == TRAILER.len() as u32 && self.bytes(at + HEADER)? == *TRAILER {
                return Ok(Some(end));
            }
            if end > self.size {
                return Err(Flaw::Short);
            }
            at = aligned(end);
        }
    }
}

#[cfg(test)]
mod tests;
