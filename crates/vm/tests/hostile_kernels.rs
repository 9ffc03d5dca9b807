//! Kernel images that nobody built: nothing may make us panic, or take more memory than is announced and allowed.
//!
//! The same entry, `kernel::fuzz`, is what a fuzzer with coverage calls: `fuzz_target!(|data: &[u8]| insula_vm::kernel::fuzz(data))`.

#![allow(unsafe_code, reason = "counting what is allocated takes an allocator")]

mod images;
#[path = "images/packed.rs"]
mod packed;

use images::{bzimage, elf, put, with_size};
use insula_vm::kernel::{MAX_SIZE, fuzz};
use proptest::prelude::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::OnceLock;

thread_local! {
    /// Bytes this thread has, and the most it had.
    static MEMORY: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

struct Counting;

fn count(bytes: isize) {
    // While the thread ends, nothing is counted any more.
    let _ = MEMORY.try_with(|memory| {
        let (now, most) = memory.get();
        memory.set((now + bytes, most.max(now + bytes)));
    });
}

// SAFETY: every call goes to the system's allocator as it came; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are those of this trait.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as above. Memory of zeros isn't touched: a dictionary that isn't used costs nothing.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a decoder may have beside its output: a window or dictionary of 128 MiB, which zstd's decoder has to double for a moment, and some.
const BESIDE: isize = 300 << 20;

/// Does with bytes all that is done with an image; they unpack to no more than `announced`.
#[track_caller]
fn tried(data: &[u8], announced: u64) {
    MEMORY.set((0, 0));
    fuzz(data);
    let (_, most) = MEMORY.get();
    // A vector that grows has up to twice its content, and the old half while it moves.
    let limit = 3 * announced.min(MAX_SIZE) as isize + BESIDE;
    assert!(most <= limit, "{} bytes took {most}, more than {limit}", data.len());
}

/// Valid images of every kind; packing them takes longer than a trial.
fn samples() -> &'static [Vec<u8>] {
    static SAMPLES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let mut samples = vec![elf()];
        samples.extend(packed::all(&elf()).map(|(_, image)| image));
        samples
    })
}

/// What an image announces: the last four bytes of the payload, wherever a changed header says that is.
fn announced(image: &[u8]) -> u64 {
    let number = |at: usize| image.get(at..at + 4).map_or(0, |bytes| u32::from_le_bytes(bytes.try_into().unwrap()) as usize);
    let sectors = image.get(0x1f1).map_or(4, |sectors| if *sectors == 0 { 4 } else { usize::from(*sectors) });
    let end = (sectors + 1) * 512 + number(0x248) + number(0x24c);
    end.checked_sub(4).map_or(0, |at| number(at) as u64)
}

/// How many images are changed; `INSULA_FUZZ=1000000` makes it a long night.
fn rounds() -> u64 {
    std::env::var("INSULA_FUZZ").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1000)
}

/// What fuzzers do to a file: bits, bytes, interesting numbers, holes, repetitions, ends cut off.
fn mutate(image: &mut Vec<u8>, random: &mut fastrand::Rng) {
    for _ in 0..random.usize(1..6) {
        if image.is_empty() {
            return;
        }
        // Half of the changes go where the headers are.
        let at = if random.bool() { random.usize(..image.len()) } else { random.usize(..image.len().min(0x900)) };
        match random.u8(..7) {
            0 => image[at] ^= 1 << random.u8(..8),
            1 => image[at] = random.u8(..),
            2 => {
                let number = *random.choice([0, 1, 4, 0x7fff_ffff, 0xffff_ffff, 0x8000_0000, u64::MAX, 1 << 63].iter()).unwrap();
                let length = 8.min(image.len() - at);
                image[at..at + length].copy_from_slice(&number.to_le_bytes()[..length]);
            }
            3 => image.truncate(at),
            4 => drop(image.drain(at..(at + random.usize(..64)).min(image.len()))),
            5 => {
                let piece = image[at..(at + random.usize(..256)).min(image.len())].to_vec();
                let to = random.usize(..=image.len());
                image.splice(to..to, piece);
            }
            _ => {
                let end = (at + random.usize(..32)).min(image.len());
                image[at..end].iter_mut().for_each(|byte| *byte = random.u8(..));
            }
        }
    }
}

#[test]
fn no_mutation_does_harm() {
    let samples = samples();
    let seed = std::env::var("INSULA_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..rounds() {
        let mut image = samples[random.usize(..samples.len())].clone();
        mutate(&mut image, &mut random);
        tried(&image, announced(&image));
    }
}

/// Damage inside the compressed bytes reaches the decoders; damage inside the ELF file, through a valid wrapping, reaches its reader.
#[test]
fn no_mutation_within_does_harm() {
    let mut random = fastrand::Rng::with_seed(2);
    for round in 0..rounds() / 30 {
        let mut inner = elf();
        mutate(&mut inner, &mut random);
        let packed = if round % 2 == 0 { packed::lz4(&inner) } else { packed::xz(&inner) };
        tried(&bzimage(&with_size(packed, inner.len())), inner.len() as u64);
    }
    let streams = [packed::gzip(&elf()), packed::xz(&elf()), packed::lz4(&elf()), ruzstd_stream()];
    for _ in 0..rounds() {
        let mut stream = streams[random.usize(..streams.len())].clone();
        let kept = stream[..4].to_vec();
        mutate(&mut stream, &mut random);
        stream.splice(..stream.len().min(4), kept);
        tried(&bzimage(&with_size(stream, elf().len())), elf().len() as u64);
    }
}

fn ruzstd_stream() -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(&elf()[..], ruzstd::encoding::CompressionLevel::Fastest)
}

/// A few bytes that unpack to very many, behind an honest and a dishonest size.
#[test]
fn a_bomb_stays_small() {
    let zeros = vec![0; 16 << 20];
    for (name, image) in packed::all(&zeros) {
        for size in [1_u32, 4096, 1 << 20] {
            let mut image = image.clone();
            let at = image.len() - 516;
            put(&mut image, at, &size.to_le_bytes());
            println!("{name}: {} bytes", image.len());
            tried(&image, size.into());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_do_no_harm(data in proptest::collection::vec(any::<u8>(), 0..4096)) {
        tried(&data, announced(&data));
    }

    /// Random bytes that are taken for what we read.
    #[test]
    fn random_bytes_behind_a_magic_number_do_no_harm(
        data in proptest::collection::vec(any::<u8>(), 0..4096),
        magic in proptest::sample::select(vec![&b"\x1f\x8b\x08\0"[..], b"\xfd7zXZ\0\0\x01", b"\x28\xb5\x2f\xfd", b"\x02\x21\x4c\x18", b"\x7fELF\x02\x01\x01"]),
    ) {
        let bytes = [magic, &data].concat();
        tried(&bytes, 0);
        tried(&bzimage(&with_size(bytes, 1 << 20)), 1 << 20);
    }

    #[test]
    fn no_truncation_does_harm(which in 0..5_usize, part in 0.0..1.0_f64) {
        let image = &samples()[which];
        let data = &image[..(image.len() as f64 * part) as usize];
        tried(data, announced(data));
    }

    #[test]
    fn no_flipped_bit_does_harm(which in 0..5_usize, part in 0.0..1.0_f64, bit in 0..8_u32) {
        let mut image = samples()[which].clone();
        let at = (image.len() as f64 * part) as usize;
        image[at] ^= 1_u8 << bit;
        tried(&image, announced(&image));
    }

    /// Segments stay in the file and below the end of memory, whatever the header says.
    #[test]
    fn what_is_opened_is_in_bounds(at in 0..232_usize, value in any::<u64>()) {
        let mut image = elf();
        put(&mut image, at, &value.to_le_bytes());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &image).unwrap();
        if let Ok(kernel) = insula_vm::kernel::Kernel::open(file.path(), None) {
            for segment in &kernel.segments {
                prop_assert!(segment.offset.checked_add(segment.file_size).unwrap() <= image.len() as u64);
                prop_assert!(segment.file_size <= segment.memory_size && segment.memory_size > 0);
                prop_assert!(segment.address.checked_add(segment.memory_size).is_some());
            }
            let inside = |entry: u64| kernel.segments.iter().any(|s| s.address <= entry && entry - s.address < s.file_size);
            prop_assert!(kernel.entry.is_none_or(inside) && kernel.pvh_entry.is_none_or(|entry| inside(entry.into())));
        }
    }
}
