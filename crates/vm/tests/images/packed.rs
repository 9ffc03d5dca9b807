//! bzImages packed in each way the kernel's build knows and we unpack.

use super::{bzimage, with_size};
use flate2::write::GzEncoder;
use lzma_rust2::filter::FilterConfig;
use lzma_rust2::{CheckType, XzOptions, XzWriter};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use std::io::Write;

/// A bzImage of each kind, by name.
pub(crate) fn all(elf: &[u8]) -> [(&'static str, Vec<u8>); 4] {
    let sized = |packed| bzimage(&with_size(packed, elf.len()));
    [
        ("gzip", bzimage(&gzip(elf))),
        ("xz", sized(xz(elf))),
        ("zstd", sized(compress_to_vec(elf, CompressionLevel::Fastest))),
        ("lz4", sized(lz4(elf))),
    ]
}

/// As `gzip -n`.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = GzEncoder::new(Vec::new(), flate2::Compression::best());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

/// As `xz --check=crc32 --x86 --lzma2`.
pub(crate) fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut options = XzOptions::with_preset(1);
    options.set_check_sum_type(CheckType::Crc32);
    options.filters = vec![FilterConfig::new_bcj_x86(0)];
    let mut writer = XzWriter::new(Vec::new(), options).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

/// As `lz4 -l`, in smaller blocks.
pub(crate) fn lz4(bytes: &[u8]) -> Vec<u8> {
    let mut packed = 0x184c_2102_u32.to_le_bytes().to_vec();
    for block in bytes.chunks(0x1_0000) {
        let block = lz4_flex::block::compress(block);
        packed.extend((block.len() as u32).to_le_bytes());
        packed.extend(block);
    }
    packed
}
