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

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn xz(content: &[u8]) -> Vec<u8> {
    let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// As `xz --format=lzma` makes it: with a mark at its end, and no size before it; or the other way round.
fn lzma(content: &[u8], sized: bool) -> Vec<u8> {
    let (options, size) = (lzma_rust2::LzmaOptions::with_preset(1), sized.then_some(content.len() as u64));
    let mut encoder = lzma_rust2::LzmaWriter::new_use_header(Vec::new(), &options, size).unwrap();
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// What bzip2 makes of a line of text.
const BZIP2_FILE: [u8; 68] = [
    66, 90, 104, 57, 49, 65, 89, 38, 83, 89, 52, 6, 148, 22, 0, 0, 4, 89, 128, 0, 16, 64, 0, 96, 128, 50, 225, 14, 128, 32, 0,
    49, 76, 0, 19, 66, 38, 131, 212, 244, 152, 35, 74, 116, 73, 64, 112, 74, 181, 62, 158, 229, 106, 197, 214, 193, 79, 139, 185,
    34, 156, 40, 72, 26, 3, 74, 11, 0,
];

/// A file of lzop's, as version 1.04 writes it; what is in its blocks doesn't matter here.
fn lzo(blocks: &[usize]) -> Vec<u8> {
    let mut file = [&LZO[..], &[0, 13, 10, 26, 10], &[0x10, 0x40, 0x20, 0xa0, 0x09, 0x40, 3, 9]].concat();
    file.extend([3, 0, 0, 1].into_iter().chain([0; 12]).chain([4]).chain(*b"init").chain([0; 4]));
    for size in blocks {
        file.extend(256_u32.to_be_bytes().into_iter().chain((*size as u32).to_be_bytes()).chain([0; 4]));
        file.resize(file.len() + size, 7);
    }
    file.extend([0; 4]);
    file
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
        [&gzip(&plain)[..], &xz(&plain), &zeros, &BZIP2_FILE, &lzo(&[100, 7]), &lzma(&plain, false)].concat(),
        lzma(&plain, true),
        // The kernel's to judge: damaged gzip, an image of a file system, bytes behind an archive, a damaged header.
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
    for packed in [gzip(&plain), xz(&plain), lzma(&plain, false), lzma(&plain, true), BZIP2_FILE.into(), lzo(&[100, 7])] {
        // Behind another, which must be told apart from it.
        let before = gzip(b"before");
        let whole = [&before[..], &packed].concat();
        for length in before.len() + 4..whole.len() {
            let problem = problem(&whole[..length]).unwrap_or_else(|| panic!("{length} of {:x?}", whole));
            assert!(problem.contains("is cut short"), "{problem}");
        }
    }
    // A block of LZ4's may be the last one.
    let blocks = lz4(&plain);
    assert!(problem(&blocks[..blocks.len() - 1]).unwrap().contains("is cut short"));
}
