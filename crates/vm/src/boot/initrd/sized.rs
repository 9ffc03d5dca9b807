//! Forms that say how long their blocks are, or mark their end: found at the cost of a short read for each block, or of one pass.
//!
//! Source: RFC 8878, section 3.1 (zstd); Linux `lib/decompress_unlz4.c`, `lib/decompress_unlzo.c`, `lib/decompress_bunzip2.c`.

use super::{Flaw, Found, LZ4, Outside};

impl Outside<'_> {
    /// Where a frame of zstd's ends.
    pub(super) fn zstd(&self, at: u64) -> Found<Option<u64>> {
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
    pub(super) fn lz4(&self, at: u64) -> Found<Option<u64>> {
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

    /// Where a file of lzop's ends: at a block that unpacks to nothing. As the kernel has it: numbers are big-endian, each block has one checksum.
    fn lzo_blocks(&self, mut at: u64) -> Found<u64> {
        loop {
            let unpacked: [u8; 4] = self.bytes(at)?;
            if unpacked == [0; 4] {
                return Ok(at + 4);
            }
            let packed = u32::from_be_bytes(self.bytes(at + 4)?);
            at += 12 + u64::from(packed);
        }
    }

    /// Where a file of lzop's ends.
    pub(super) fn lzo(&self, at: u64) -> Found<Option<u64>> {
        const MAGIC: u64 = 9;
        /// From this version on a header says which one is needed, the level, and the upper half of the time.
        const NEWER: u16 = 0x0940;
        const FILTER: u32 = 0x800;
        let newer = u64::from(u16::from_be_bytes(self.bytes(at + MAGIC)?) >= NEWER);
        // Two versions and perhaps the one needed, method, perhaps a level.
        let flags = at + MAGIC + 5 + 3 * newer;
        let filter = u32::from_be_bytes(self.bytes(flags)?) & FILTER != 0;
        // Flags, perhaps a filter, mode and time.
        let name = flags + 12 + 4 * u64::from(filter) + 4 * newer;
        let [length] = self.bytes(name)?;
        self.lzo_blocks(name + 1 + u64::from(length) + 4).map(Some)
    }

    /// Where a file of bzip2's ends: with a mark, and a checksum behind it. Both begin at any bit; the last byte is filled with zeros.
    pub(super) fn bzip2(&self, at: u64) -> Found<Option<u64>> {
        /// The digits of the square root of π, as the mark of a block has those of π.
        const END: u64 = 0x1772_4538_5090;
        const CHECKSUM: u64 = 32;
        let (mut last, mut at) = (0_u64, at + 4);
        let mut bytes = [0; 4096];
        while at < self.size {
            let count = self.some(&mut bytes, at)?;
            for byte in &bytes[..count] {
                (last, at) = (last << 8 | u64::from(*byte), at + 1);
                if let Some(behind) = (0..8).find(|behind| last >> behind & 0xffff_ffff_ffff == END) {
                    let end = (at * 8 - behind + CHECKSUM).div_ceil(8);
                    return if end > self.size { Err(Flaw::Short) } else { Ok(Some(end)) };
                }
            }
        }
        Err(Flaw::Short)
    }
}
