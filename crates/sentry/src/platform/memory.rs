//! The memory file: all memory of all guests of a sandbox.
//!
//! Guests have it mapped and write to it whenever they like, so no Rust reference to plain bytes of it may ever exist. Bytes are moved by
//! string instructions in assembly, of which the compiler only knows that they touch memory it can't see; words that have to be read or changed
//! whole are atomics, which is what they are to the guest, too.
#![allow(unsafe_code)]

use super::{PAGE, Result, Tried};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags, SeekFrom};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use std::arch::asm;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// A range that isn't in the memory file, or an atomic that isn't aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not in guest memory: {0:#x}")]
pub struct OutOfRange(pub u64);

/// A sparse file without a name, mapped whole. Offsets and lengths are in bytes.
#[derive(Debug)]
pub struct Memory {
    file: OwnedFd,
    base: *mut u8,
    size: u64,
    /// Guests, as copies of this process, take part in barriers.
    ordered: bool,
}

// SAFETY: the mapping lives as long as the value, and every access through it is an atomic or opaque to the compiler.
unsafe impl Send for Memory {}
// SAFETY: as above; the methods take `&self` because guests share the memory anyway.
unsafe impl Sync for Memory {}

impl Memory {
    /// Makes a memory file of `size` bytes; nothing of it takes memory before it is touched.
    ///
    /// # Errors
    /// No address space (RLIMIT_AS) or file size (RLIMIT_FSIZE) of that size, or no room.
    pub fn new(size: u64) -> Result<Memory> {
        let length = usize::try_from(size).map_err(|_| rustix::io::Errno::NOMEM).tried("map guest memory")?;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("guest-memory", flags).tried("make the memory file")?;
        rustix::fs::ftruncate(&file, size).tried("size the memory file")?;
        // Its size is checked here, once: an access to what is cut off would be a SIGBUS.
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals).tried("seal the memory file's size")?;
        let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::NORESERVE);
        // SAFETY: a new mapping at an address that the kernel chooses.
        let base = unsafe { rustix::mm::mmap(std::ptr::null_mut(), length, prot, flags, &file, 0) }.tried("map guest memory")?;
        const REGISTER_GLOBAL_EXPEDITED: u64 = 4;
        Ok(Memory { file, base: base.cast(), size, ordered: membarrier(REGISTER_GLOBAL_EXPEDITED) })
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// A barrier on every processor that runs a guest; whether the host can make one. Source: membarrier(2).
    pub fn order(&self) -> bool {
        const GLOBAL_EXPEDITED: u64 = 2;
        self.ordered && membarrier(GLOBAL_EXPEDITED)
    }

    /// Bytes of the host's that it takes.
    pub fn taken(&self) -> u64 {
        // In units of 512 bytes, whatever the file system's are: inode(7).
        rustix::fs::fstat(&self.file).map_or(0, |stat| stat.st_blocks as u64 * 512)
    }

    /// Copies from guest memory at `offset`. Pages that were never written take memory by this, too.
    ///
    /// # Errors
    /// Not all of it is there; then nothing is copied.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> std::result::Result<(), OutOfRange> {
        let from = self.at(offset, buffer.len() as u64)?;
        // SAFETY: `at` checked the source, which can't overlap a buffer of Rust's; a race gives torn bytes and no worse, as the
        // compiler assumes nothing of what assembly reads.
        unsafe { copy(from, buffer.as_mut_ptr(), buffer.len()) };
        Ok(())
    }

    /// Copies to guest memory at `offset`.
    ///
    /// # Errors
    /// Not all of it is there; then nothing is copied.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> std::result::Result<(), OutOfRange> {
        let to = self.at(offset, bytes.len() as u64)?;
        // SAFETY: as in `read`.
        unsafe { copy(bytes.as_ptr(), to, bytes.len()) };
        Ok(())
    }

    /// Copies within guest memory; the ranges must not overlap, or the result is unspecified.
    ///
    /// # Errors
    /// Not all of it is there; then nothing is copied.
    pub fn copy_within(&self, from: u64, to: u64, len: u64) -> std::result::Result<(), OutOfRange> {
        let (from, to) = (self.at(from, len)?, self.at(to, len)?);
        // SAFETY: as in `read`; `at` knows that `len` fits the address space.
        unsafe { copy(from, to, len as usize) };
        Ok(())
    }

    /// Writes zeros.
    ///
    /// # Errors
    /// Not all of it is there; then nothing is written.
    pub fn zero(&self, range: Range<u64>) -> std::result::Result<(), OutOfRange> {
        let len = range.end.checked_sub(range.start).ok_or(OutOfRange(range.start))?;
        let to = self.at(range.start, len)?;
        // SAFETY: `at` checked the range; as in `read`.
        unsafe {
            asm!("rep stosb", inout("rcx") len => _, inout("rdi") to => _, in("al") 0u8, options(nostack, preserves_flags));
        }
        Ok(())
    }

    /// The parts of a range that take memory, in order.
    pub fn present(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut parts = Vec::new();
        let mut at = range.start;
        // Where the file's position is doesn't matter: nobody reads or writes by it.
        while at < range.end
            && let Ok(start) = rustix::fs::seek(&self.file, SeekFrom::Data(at))
            && start < range.end
        {
            let end = rustix::fs::seek(&self.file, SeekFrom::Hole(start)).unwrap_or(range.end).clamp(start + 1, range.end);
            parts.push(start..end);
            at = end;
        }
        parts
    }

    /// Gives whole pages back to the host: they read as zeros, in every mapping.
    ///
    /// # Errors
    /// A range that isn't of whole pages of the file, as INVAL; or the host's.
    pub fn discard(&self, range: Range<u64>) -> Result<()> {
        let whole = range.start.is_multiple_of(PAGE)
            && range.end.is_multiple_of(PAGE)
            && range.start < range.end
            && range.end <= self.size;
        let punch = if whole {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            rustix::fs::fallocate(&self.file, flags, range.start, range.end - range.start)
        } else {
            Err(rustix::io::Errno::INVAL)
        };
        punch.tried("give guest memory back")
    }

    /// The 32-bit word at `offset`.
    ///
    /// # Errors
    /// Not in the file, or not aligned.
    pub fn atomic_u32(&self, offset: u64) -> std::result::Result<&AtomicU32, OutOfRange> {
        let word = self.at(offset, 4)?.cast::<u32>();
        // SAFETY: in the mapping, which lives as long as `self`; aligned; and nobody uses it but with atomics, assembly, or as another process.
        if word.is_aligned() { Ok(unsafe { AtomicU32::from_ptr(word) }) } else { Err(OutOfRange(offset)) }
    }

    /// The 64-bit word at `offset`.
    ///
    /// # Errors
    /// Not in the file, or not aligned.
    pub fn atomic_u64(&self, offset: u64) -> std::result::Result<&AtomicU64, OutOfRange> {
        let word = self.at(offset, 8)?.cast::<u64>();
        // SAFETY: as in `atomic_u32`.
        if word.is_aligned() { Ok(unsafe { AtomicU64::from_ptr(word) }) } else { Err(OutOfRange(offset)) }
    }

    /// The range as the host's preadv(2) and pwritev(2) want it. Valid as long as `self`.
    ///
    /// # Errors
    /// Not all of it is there.
    pub fn iovec(&self, range: Range<u64>) -> std::result::Result<libc::iovec, OutOfRange> {
        let len = range.end.checked_sub(range.start).ok_or(OutOfRange(range.start))?;
        Ok(libc::iovec { iov_base: self.at(range.start, len)?.cast(), iov_len: len as usize })
    }

    /// Reads from a file, at a position of its, straight into pieces of the memory. Source: preadv(2).
    ///
    /// # Errors
    /// The host's; `EFAULT` for a piece that isn't there.
    pub fn read_file(&self, file: &OwnedFd, at: u64, pieces: &[Range<u64>]) -> rustix::io::Result<usize> {
        let vector = self.vector(pieces)?;
        // SAFETY: each piece lies in the mapping, which lives as long as `self`, and may be written by anybody at any time.
        let count = unsafe { libc::preadv(file.as_raw_fd(), vector.as_ptr(), vector.len() as libc::c_int, at as libc::off_t) };
        usize::try_from(count).map_err(|_| last_error())
    }

    /// Writes to a file, at a position of its, straight from pieces of the memory. Source: pwritev(2).
    ///
    /// # Errors
    /// As [`Self::read_file`].
    pub fn write_file(&self, file: &OwnedFd, at: u64, pieces: &[Range<u64>]) -> rustix::io::Result<usize> {
        let vector = self.vector(pieces)?;
        // SAFETY: as in `read_file`.
        let count = unsafe { libc::pwritev(file.as_raw_fd(), vector.as_ptr(), vector.len() as libc::c_int, at as libc::off_t) };
        usize::try_from(count).map_err(|_| last_error())
    }

    fn vector(&self, pieces: &[Range<u64>]) -> rustix::io::Result<Vec<libc::iovec>> {
        pieces.iter().map(|piece| self.iovec(piece.clone()).map_err(|_| Errno::FAULT)).collect()
    }

    /// The address of a range, if all of it is there.
    fn at(&self, offset: u64, len: u64) -> std::result::Result<*mut u8, OutOfRange> {
        match offset.checked_add(len) {
            // SAFETY: within the mapping.
            Some(end) if end <= self.size => Ok(unsafe { self.base.add(offset as usize) }),
            _ => Err(OutOfRange(offset)),
        }
    }
}

impl AsFd for Memory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: ours, and all that was lent from it is gone. A failure leaves it mapped, which harms nobody.
        let _ = unsafe { rustix::mm::munmap(self.base.cast(), self.size as usize) };
    }
}

/// Copies bytes that others may be changing meanwhile.
///
/// # Safety
/// Both ranges must be mapped for as long as it takes.
unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller's promise; the direction flag is clear by the ABI.
    unsafe {
        asm!("rep movsb", inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _, options(nostack, preserves_flags));
    }
}

/// A command of membarrier(2), without flags; whether it was done.
fn membarrier(command: u64) -> bool {
    // SAFETY: it takes no pointer.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}

/// Why the last call of the C library's failed.
fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn bytes_and_words_arrive_and_ranges_are_checked() {
        let memory = Memory::new(1 << 40).expect("a tebibyte of nothing");
        let end = memory.size();
        memory.write(end - 5, b"hello").expect("in range");
        let mut buffer = [0; 5];
        memory.read(end - 5, &mut buffer).expect("in range");
        assert_eq!(&buffer, b"hello");
        assert_eq!(memory.write(end - 4, b"hello"), Err(OutOfRange(end - 4)));
        assert_eq!(memory.read(u64::MAX, &mut buffer), Err(OutOfRange(u64::MAX)));
        assert!(memory.iovec(0..end + 1).is_err());
        assert!(memory.atomic_u32(2).is_err());
        assert!(memory.atomic_u64(end - 4).is_err());
        memory.atomic_u32(4096).expect("aligned").store(7, Ordering::Relaxed);
        memory.copy_within(4096, 1 << 30, 4).expect("in range");
        memory.read(1 << 30, &mut buffer[..4]).expect("in range");
        assert_eq!(buffer[..4], [7, 0, 0, 0]);
    }

    #[test]
    fn what_is_given_back_reads_as_zeros() {
        let memory = Memory::new(1 << 20).expect("memory");
        memory.write(0, &[1; 8192]).expect("in range");
        assert!(memory.discard(1..4096).is_err());
        memory.discard(0..4096).expect("whole pages");
        assert_eq!(memory.taken(), 4096);
        memory.zero(4096..4097).expect("in range");
        let mut buffer = [9; 4098];
        memory.read(0, &mut buffer).expect("in range");
        assert_eq!((buffer[4095], buffer[4096], buffer[4097]), (0, 0, 1));
    }
}
