//! Memory: mappings by address, touching what may fault, and memory shared with children.

use super::{signal, sys};
use crate::check::{fail, name};
use libc::{MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, PROT_NONE, PROT_READ, PROT_WRITE};
use std::sync::atomic::AtomicU32;

/// The size of a page, in bytes; the suite is for x86-64.
pub(crate) const PAGE: usize = 4096;

/// An address in the page that never is mapped: EFAULT as an argument.
pub(crate) const BAD: usize = 8;

/// Types that may lie in memory shared between processes.
///
/// # Safety
/// Atomics only, and all zeros must be a value.
pub(crate) unsafe trait Shared: Sync {}
// SAFETY: an atomic.
unsafe impl Shared for AtomicU32 {}
// SAFETY: an atomic.
unsafe impl Shared for std::sync::atomic::AtomicU64 {}

/// Memory that this process and the children it makes share, full of zeros. It stays mapped.
pub(crate) fn share<T: Shared>(count: usize) -> &'static [T] {
    let length = (size_of::<T>() * count).max(1);
    match sys!(mmap(0, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) {
        // SAFETY: a new mapping, long enough, page-aligned, of zeros, never unmapped by us; `Shared` says zeros and sharing are
        // right.
        Ok(address) => unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance(address), count) },
        Err(error) => fail(&format!("shared memory of {length} bytes: {}", name(error))),
    }
}

/// Writes bytes if the memory is there and may be written; answers whether it was.
pub(crate) fn put_if_there(address: usize, bytes: &[u8]) -> bool {
    bytes.iter().enumerate().all(|(index, byte)| write_at(address + index, *byte).is_ok())
}

/// A word that children share.
pub(crate) fn shared_word() -> &'static AtomicU32 {
    &share(1)[0]
}

/// New private memory of so many pages, readable and writable.
#[track_caller]
pub(crate) fn pages(count: usize) -> usize {
    match sys!(mmap(0, count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
        Ok(address) => address,
        Err(error) => fail(&format!("mmap of {count} pages: {}", name(error))),
    }
}

/// The address of `length` bytes at the end of a page, after which nothing can be touched.
#[track_caller]
pub(crate) fn edge(length: usize) -> usize {
    let count = length.div_ceil(PAGE).max(1);
    let start = pages(count + 1);
    if let Err(error) = sys!(mprotect(start + count * PAGE, PAGE, PROT_NONE)) {
        fail(&format!("mprotect of a guard page: {}", name(error)));
    }
    start + count * PAGE - length
}

/// What a touch of memory raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) signal: i32,
    pub(crate) code: i32,
    pub(crate) address: usize,
}

// Touches of memory that may fault: the handler of `signal` sends a fault between `insula_probe_read` and `insula_probe_end` on
// to `insula_probe_fault`, which returns in their place.
std::arch::global_asm!(
    ".globl insula_probe_read, insula_probe_write, insula_probe_run, insula_probe_end, insula_probe_fault",
    "insula_probe_read:",
    "movzx eax, byte ptr [rdi]",
    "ret",
    "insula_probe_write:",
    "mov byte ptr [rdi], sil",
    "xor eax, eax",
    "ret",
    "insula_probe_run:",
    "call rdi",
    "xor eax, eax",
    "ret",
    "insula_probe_end:",
    "insula_probe_fault:",
    "mov eax, -1",
    "ret",
);

unsafe extern "C" {
    fn insula_probe_read(address: usize) -> i32;
    fn insula_probe_write(address: usize, byte: u8) -> i32;
    fn insula_probe_run(address: usize) -> i32;
    fn insula_probe_end();
    fn insula_probe_fault();
}

/// If a fault at this instruction, with this stack, came from a probe: where to go on, and with which stack.
pub(super) fn rescue(instruction: usize, stack: usize) -> Option<(usize, usize)> {
    let probes = insula_probe_read as *const () as usize..insula_probe_end as *const () as usize;
    let exit = insula_probe_fault as *const () as usize;
    if probes.contains(&instruction) {
        return Some((exit, stack));
    }
    // Code that couldn't be run has been called: on top of the stack is where it should return to, inside the probe.
    // SAFETY: the interrupted stack; a program without one would not have come here.
    let caller = unsafe { *std::ptr::with_exposed_provenance::<usize>(stack) };
    probes.contains(&caller).then_some((exit, stack + size_of::<usize>()))
}

fn probe(touch: impl FnOnce() -> i32) -> Result<u8, Fault> {
    signal::catch_faults();
    match touch() {
        -1 => Err(signal::last_fault()),
        value => Ok(value as u8),
    }
}

/// Reads the byte there.
pub(crate) fn read_at(address: usize) -> Result<u8, Fault> {
    // SAFETY: one load, whose fault is caught.
    probe(|| unsafe { insula_probe_read(address) })
}

/// Writes the byte there, which must be memory that the test mapped, or memory that faults.
pub(crate) fn write_at(address: usize, byte: u8) -> Result<(), Fault> {
    // SAFETY: one store, whose fault is caught, to memory that no reference of Rust's points to.
    probe(|| unsafe { insula_probe_write(address, byte) }).map(|_| ())
}

/// Calls what is there: either it faults at once, or it is code that a test put there.
pub(crate) fn run_at(address: usize) -> Result<(), Fault> {
    // SAFETY: the fault is caught; code that is there is a test's, and returns.
    probe(|| unsafe { insula_probe_run(address) }).map(|_| ())
}

/// The byte there; a fault fails the test.
#[track_caller]
pub(crate) fn peek(address: usize) -> u8 {
    read_at(address).unwrap_or_else(|fault| fail(&format!("reading {address:#x}: {fault:?}")))
}

/// Writes a byte there; a fault fails the test.
#[track_caller]
pub(crate) fn poke(address: usize, byte: u8) {
    write_at(address, byte).unwrap_or_else(|fault| fail(&format!("writing {address:#x}: {fault:?}")));
}

/// So many bytes from there on; a fault fails the test.
#[track_caller]
pub(crate) fn bytes_at(address: usize, length: usize) -> Vec<u8> {
    (address..address + length).map(|address| peek(address)).collect()
}

/// Writes bytes there; a fault fails the test.
#[track_caller]
pub(crate) fn put(address: usize, bytes: &[u8]) {
    for (index, byte) in bytes.iter().enumerate() {
        poke(address + index, *byte);
    }
}

/// The word there, as an atomic: the address must be a multiple of four in memory that stays mapped.
pub(crate) fn word_at(address: usize) -> &'static AtomicU32 {
    // SAFETY: aligned memory that the test mapped, and touches by atomics alone.
    unsafe { &*std::ptr::with_exposed_provenance::<AtomicU32>(address) }
}
