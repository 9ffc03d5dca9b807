//! An initial file system: whether it can be one, and whether it is whole, as far as its outside tells. Nothing is unpacked.
//!
//! The kernel takes cpio archives and packed ones, one behind the other, with zeros between. A cpio archive names the size of each of its
//! files; zstd and LZ4 name that of each of their blocks. So one that was cut short (a copy that failed, a disk that was full) is found at
//! the cost of a short read for each of them. What is packed otherwise (gzip, xz, bzip2, LZMA, LZO) has no such sizes: there the guest's
//! kernel finds it.
//!
//! Source: Linux `Documentation/driver-api/early-userspace/buffer-format.rst` and `lib/decompress_unlz4.c`; RFC 8878, section 3.1.

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

impl Outside<'_> {
    /// One archive after the other, until one doesn't say how long it is.
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
                CPIO => self.cpio(at)?,
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

    /// The place of the first byte from here on that isn't zero, or the end.
    fn skip_zeros(&self, mut at: u64) -> Found<u64> {
        let mut bytes = [0; 4096];
        while at < self.size {
            let count = match self.file.read_at(&mut bytes, at) {
                Ok(0) => return Ok(self.size),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Flaw::Unread(error)),
            };
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

    /// Where a frame of zstd's ends.
    fn zstd(&self, at: u64) -> Found<Option<u64>> {
        const RUN: u32 = 1;
        let [descriptor] = self.bytes(at + 4)?;
        let (single, checksum) = (descriptor >> 5 & 1, u64::from(descriptor >> 2 & 1));
        let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let content = [u64::from(single), 2, 4, 8][usize::from(descriptor >> 6)];
        let mut at = at + 5 + u64::from(1 - single) + dictionary + content;
        loop {
            let [a, b, c] = self.bytes(at)?;
            let header = u32::from_le_bytes([a, b, c, 0]);
            // A run has one byte, whatever it says of itself.
            at += 3 + if header >> 1 & 3 == RUN { 1 } else { u64::from(header >> 3) };
            if header & 1 == 1 {
                break;
            }
        }
        let end = at + 4 * checksum;
        if end > self.size { Err(Flaw::Short) } else { Ok(Some(end)) }
    }

    /// Where blocks of LZ4's end, in the form that the kernel takes ("legacy"): at a size of zero, or with the file.
    fn lz4(&self, at: u64) -> Found<Option<u64>> {
        let mut at = at + 4;
        while at < self.size {
            let size = self.bytes(at)?;
            let size = if size == LZ4 { 0 } else { u64::from(u32::from_le_bytes(size)) };
            match size {
                0 => return Ok(Some(at)),
                _ => at += 4 + size,
            }
        }
        if at > self.size { Err(Flaw::Short) } else { Ok(Some(at)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn header(name: &[u8], size: usize) -> Vec<u8> {
        let mut header = b"070701".to_vec();
        for field in [1, 0o100_644, 0, 0, 1, 0, size, 0, 0, 0, 0, name.len(), 0] {
            header.extend(format!("{field:08x}").bytes());
        }
        header.extend(name);
        header.resize(header.len().next_multiple_of(4), 0);
        header
    }

    /// An archive with two files.
    fn cpio() -> Vec<u8> {
        let mut archive = Vec::new();
        for (name, content) in [(&b"init\0"[..], &b"#!/bin/sh\n"[..]), (b"a/longer/name\0", &[7; 5000])] {
            archive.extend(header(name, content.len()));
            archive.extend(content);
            archive.resize(archive.len().next_multiple_of(4), 0);
        }
        archive.extend(header(b"TRAILER!!!\0", 0));
        archive
    }

    fn zstd(content: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(content, ruzstd::encoding::CompressionLevel::Fastest)
    }

    fn lz4(content: &[u8]) -> Vec<u8> {
        let blocks = content.chunks(2000).map(lz4_flex::block::compress);
        let blocks = blocks.flat_map(|block| [&(block.len() as u32).to_le_bytes()[..], &block].concat());
        LZ4.into_iter().chain(blocks).collect()
    }

    /// What is wrong with a file of these bytes.
    fn problem(bytes: &[u8]) -> Option<String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        open(file.path()).err().map(|error| error.to_string())
    }

    #[test]
    fn what_is_whole_is_taken() {
        let (plain, zeros) = (cpio(), vec![0; 600]);
        for whole in [
            plain.clone(),
            zstd(&plain),
            lz4(&plain),
            [&plain[..], &zeros, &plain].concat(),
            [&plain[..], &zeros[..3], &zstd(&plain), &zeros, &lz4(&plain)].concat(),
            // The kernel's to judge: packed by gzip, an image of a file system, bytes behind an archive, a damaged header.
            [&[0x1f, 0x8b, 8, 0][..], &[9; 50]].concat(),
            b"-rom1fs-and what follows".to_vec(),
            [&plain[..], b"rest"].concat(),
            plain.iter().map(|byte| if *byte == b'7' { b'8' } else { *byte }).collect(),
        ] {
            assert_eq!(problem(&whole), None);
        }
    }

    #[test]
    fn what_is_cut_short_is_refused_wherever_it_was_cut() {
        let plain = cpio();
        let packed = [&plain[..], &[0; 8], &zstd(&plain)].concat();
        // Without the zeros that fill its last word, an archive is whole as well; so is one of which no byte is left.
        let lengths = (4..plain.len() - 3).chain(plain.len() + 8 + 4..packed.len());
        for length in lengths {
            let problem = problem(&packed[..length]).unwrap_or_else(|| panic!("{length} of {} bytes", packed.len()));
            assert!(problem.contains(&format!("is cut short: what it holds goes on beyond its {length} bytes")), "{problem}");
        }
        // A block of LZ4's may be the last one.
        let blocks = lz4(&plain);
        assert!(problem(&blocks[..blocks.len() - 1]).unwrap().contains("is cut short"));
    }
}
