//! Unpacking a payload, never further than the size it announced.

use super::source::u32_at;
use super::{Checked, Compression, Problem};
use std::io::{Read, Write};

/// What `zstd --ultra -22` makes needs this window; no kernel needs more.
const ZSTD_WINDOW: u64 = 128 << 20;
/// Memory for a dictionary of 128 MiB, the largest a kernel's build asks xz for, and what the decoder has beside it; in KiB.
const XZ_MEMORY: u32 = (128 << 10) + 1024;
/// A block of LZ4's legacy frame unpacks to this at most.
const LZ4_BLOCK: usize = 8 << 20;
/// How much is passed on at once.
const CHUNK: usize = 128 << 10;

/// Unpacks a payload into a sink.
pub(super) fn unpack(payload: &[u8], compression: Compression, size: u64, sink: &mut dyn Write) -> Checked<()> {
    let mut output = Output { sink, left: size, size };
    match compression {
        Compression::Gzip => output.all(&mut flate2::bufread::GzDecoder::new(payload))?,
        Compression::Xz => output.all(&mut lzma_rust2::XzReader::new_mem_limit(payload, false, XZ_MEMORY))?,
        Compression::Zstd => zstd(payload, &mut output)?,
        Compression::Lz4 => lz4(payload, &mut output)?,
    }
    if output.left > 0 {
        return Err(Problem::Damaged(format!("it unpacks to {} of the {size} bytes it announces", size - output.left)));
    }
    Ok(())
}

/// A sink that takes so much and no more.
struct Output<'a> {
    sink: &'a mut dyn Write,
    left: u64,
    size: u64,
}

impl Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> Checked<()> {
        let left = self.left.checked_sub(bytes.len() as u64);
        self.left =
            left.ok_or_else(|| Problem::Damaged(format!("it unpacks to more than the {} bytes it announces", self.size)))?;
        self.sink.write_all(bytes).map_err(Problem::Keep)
    }

    /// Takes all that a decoder gives. A decoder is never asked again after a failure.
    fn all(&mut self, decoder: &mut dyn Read) -> Checked<()> {
        let mut chunk = vec![0; CHUNK];
        loop {
            match decoder.read(&mut chunk).map_err(damaged)? {
                0 => return Ok(()),
                length => self.write(chunk.get(..length).unwrap_or_default())?,
            }
        }
    }
}

fn damaged(error: impl std::fmt::Display) -> Problem {
    Problem::Damaged(format!("its payload can't be unpacked: {error}"))
}

fn zstd(payload: &[u8], output: &mut Output) -> Checked<()> {
    let decoder = ruzstd::decoding::StreamingDecoder::new_with_max_window_size(payload, ZSTD_WINDOW);
    let mut decoder = decoder.map_err(damaged)?;
    output.all(&mut decoder)?;
    // The decoder calculates it and leaves comparing to us.
    match decoder.decoder.get_checksum_from_data() {
        Some(sum) if decoder.decoder.get_calculated_checksum() != Some(sum) => Err(damaged("wrong checksum")),
        _ => Ok(()),
    }
}

/// The legacy frame: a magic number, then blocks, each with its compressed length before it. It has no end mark and no checksum; another
/// magic number may stand between two blocks. (Source: lz4_Frame_format.md, "Legacy frame"; lib/decompress_unlz4.c in Linux.)
fn lz4(payload: &[u8], output: &mut Output) -> Checked<()> {
    const MAGIC: u32 = 0x184c_2102;
    let mut block = Vec::new();
    let mut rest = payload;
    while let Some(length) = u32_at(rest, 0) {
        rest = rest.get(4..).unwrap_or_default();
        if length == MAGIC {
            continue;
        }
        let (packed, behind) = rest.split_at_checked(length as usize).ok_or_else(|| damaged("a block lacks its end"))?;
        // The last block is seldom a full one. One byte more than may come tells a block that is too large.
        let room = usize::try_from(output.left).unwrap_or(LZ4_BLOCK).saturating_add(1).min(LZ4_BLOCK);
        block.resize(room, 0);
        let unpacked = lz4_flex::block::decompress_into(packed, &mut block).map_err(damaged)?;
        output.write(block.get(..unpacked).unwrap_or_default())?;
        rest = behind;
    }
    if rest.is_empty() { Ok(()) } else { Err(damaged("there is something behind the last block")) }
}
