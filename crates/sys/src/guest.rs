//! Files and the memory of a guest: bytes go from one to the other without a copy in between.
//!
//! A guest changes its memory while we look at it, so there must never be a Rust reference to it. A [`VolatileSlice`] is a range of such
//! memory that is mapped for as long as the slice lives; the kernel, which may write there at any time as the guest may, is handed the
//! addresses.

use crate::process::FromC;
use rustix::fd::{AsFd, AsRawFd};
use rustix::io::{Errno, Result};
use vm_memory::VolatileSlice;

/// The kernel takes no more pieces in one call (UIO_MAXIOV, readv(2)).
pub const PIECES: usize = 1024;

/// A page of x86-64's. (To ask for it is a system call, which a confined thread can't make.)
const PAGE: usize = 4096;

/// What the kernel takes for a piece of memory.
fn vectors(pieces: &[VolatileSlice<'_>]) -> Vec<libc::iovec> {
    let vector =
        |piece: &VolatileSlice<'_>| libc::iovec { iov_base: piece.ptr_guard_mut().as_ptr().cast(), iov_len: piece.len() };
    pieces.iter().take(PIECES).map(vector).collect()
}

fn offset(offset: u64) -> Result<i64> {
    i64::try_from(offset).map_err(|_| Errno::INVAL)
}

/// Reads a file from an offset in bytes on, preadv(2); answers how many bytes there were. Pieces beyond [`PIECES`] are left alone.
///
/// # Errors
/// The kernel's.
pub fn read_at(file: impl AsFd, pieces: &[VolatileSlice<'_>], from: u64) -> Result<usize> {
    let vectors = vectors(pieces);
    let (fd, from) = (file.as_fd().as_raw_fd(), offset(from)?);
    // SAFETY: each vector is a slice's memory, which stays mapped and writable through the call, and to which no reference exists.
    let result = unsafe { libc::preadv(fd, vectors.as_ptr(), vectors.len() as i32, from) };
    Errno::result(result as i64).map(|count| count as usize)
}

/// Writes a file from an offset in bytes on, pwritev2(2); answers how many bytes it took. If it is to be `durable`, it is on the disk
/// when this returns (RWF_DSYNC).
///
/// # Errors
/// The kernel's.
pub fn write_at(file: impl AsFd, pieces: &[VolatileSlice<'_>], to: u64, durable: bool) -> Result<usize> {
    let vectors = vectors(pieces);
    let (fd, to) = (file.as_fd().as_raw_fd(), offset(to)?);
    let flags = if durable { libc::RWF_DSYNC } else { 0 };
    // SAFETY: each vector is a slice's memory, which stays mapped through the call; the kernel only reads it.
    let result = unsafe { libc::pwritev2(fd, vectors.as_ptr(), vectors.len() as i32, to, flags) };
    Errno::result(result as i64).map(|count| count as usize)
}

/// Reads what a socket or device has, readv(2).
///
/// # Errors
/// The kernel's.
pub fn read(file: impl AsFd, pieces: &[VolatileSlice<'_>]) -> Result<usize> {
    let vectors = vectors(pieces);
    // SAFETY: as in `read_at`.
    let result = unsafe { libc::readv(file.as_fd().as_raw_fd(), vectors.as_ptr(), vectors.len() as i32) };
    Errno::result(result as i64).map(|count| count as usize)
}

/// Writes to a socket or device, writev(2). A socket whose other end is gone answers EPIPE, and the signal is the caller's to ignore.
///
/// # Errors
/// The kernel's.
pub fn write(file: impl AsFd, pieces: &[VolatileSlice<'_>]) -> Result<usize> {
    let vectors = vectors(pieces);
    // SAFETY: as in `write_at`.
    let result = unsafe { libc::writev(file.as_fd().as_raw_fd(), vectors.as_ptr(), vectors.len() as i32) };
    Errno::result(result as i64).map(|count| count as usize)
}

/// Hands memory back to the host, madvise(2): whoever reads it next, finds zeros. Only whole pages within the range go.
/// `shared` says that the memory is a file's: then the file loses the pages (MADV_REMOVE), else another mapping would keep them.
///
/// # Errors
/// The kernel's; EINVAL for memory of huge pages of which only a part was named.
pub fn give_back(piece: &VolatileSlice<'_>, shared: bool) -> Result<()> {
    let guard = piece.ptr_guard_mut();
    let start = (guard.as_ptr() as usize).next_multiple_of(PAGE);
    let end = (guard.as_ptr() as usize + piece.len()) / PAGE * PAGE;
    if start >= end {
        return Ok(());
    }
    let advice = if shared { libc::MADV_REMOVE } else { libc::MADV_DONTNEED };
    // SAFETY: the range lies within the slice's mapping, and to the memory it is as if zeros were written.
    let result = unsafe { libc::madvise(start as *mut libc::c_void, end - start, advice) };
    Errno::result(i64::from(result)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

    #[test]
    fn bytes_go_both_ways_in_pieces() {
        let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x4000)]).unwrap();
        memory.write_slice(b"first, second", GuestAddress(0x10)).unwrap();
        let piece = |at, length| memory.get_slice(GuestAddress(at), length).unwrap();
        let file = tempfile::tempfile().unwrap();
        assert_eq!(write_at(&file, &[piece(0x17, 6), piece(0x10, 5)], 4096, true), Ok(11));
        assert_eq!(read_at(&file, &[piece(0x1000, 3), piece(0x2000, 100)], 4096), Ok(11));
        let mut text = [0; 3];
        memory.read_slice(&mut text, GuestAddress(0x1000)).unwrap();
        assert_eq!(&text, b"sec");
        assert_eq!(read_at(&file, &[piece(0, 1)], u64::MAX), Err(Errno::INVAL));
        assert_eq!(read_at(&file, &[], 0), Ok(0));
    }

    #[test]
    fn memory_given_back_is_zero_and_what_is_beside_it_stays() {
        let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x4000)]).unwrap();
        memory.write_slice(&[7; 0x4000], GuestAddress(0)).unwrap();
        give_back(&memory.get_slice(GuestAddress(0xfff), 0x2000).unwrap(), false).unwrap();
        assert_eq!(memory.read_obj::<u8>(GuestAddress(0xfff)).unwrap(), 7);
        assert_eq!(memory.read_obj::<u8>(GuestAddress(0x1000)).unwrap(), 0);
        assert_eq!(memory.read_obj::<u8>(GuestAddress(0x2000)).unwrap(), 7);
        give_back(&memory.get_slice(GuestAddress(0x10), 0x20).unwrap(), false).unwrap();
        assert_eq!(memory.read_obj::<u8>(GuestAddress(0x10)).unwrap(), 7);
    }
}
