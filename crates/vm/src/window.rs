//! Pages that the guest reads as memory and writes as a device's registers: a read costs nothing, a write comes to the device.
//!
//! Source: Linux `Documentation/virt/kvm/api.rst`, KVM_SET_USER_MEMORY_REGION, "KVM_MEM_READONLY".

use crate::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes of a page.
pub const PAGE: usize = 4096;

/// A row of such pages. A clone is another handle on the same ones.
#[derive(Clone, Debug)]
pub struct Window(Arc<Mapping>);

#[derive(Debug)]
struct Mapping {
    words: *mut AtomicU32,
    bytes: usize,
}

// SAFETY: it is atomic words, which any thread may use.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `Window::new`, which nobody has a reference to any more.
        unsafe { libc::munmap(self.words.cast(), self.bytes) };
    }
}

impl Window {
    /// So many pages of zeros.
    ///
    /// # Errors
    /// There is no memory for them.
    pub fn new(pages: usize) -> Result<Window> {
        let bytes = pages * PAGE;
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, where the kernel finds room.
        let words = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
        if words == libc::MAP_FAILED {
            let cause = std::io::Error::last_os_error().to_string();
            return Err(Error::Kvm { what: "get memory for registers", cause });
        }
        Ok(Window(Arc::new(Mapping { words: words.cast(), bytes })))
    }

    /// One of the pages.
    ///
    /// # Panics
    /// There are fewer.
    pub fn page(&self, number: usize) -> Page {
        assert!((number + 1) * PAGE <= self.0.bytes);
        Page { mapping: self.0.clone(), first: number * PAGE / 4 }
    }

    pub(crate) fn address(&self) -> u64 {
        self.0.words as u64
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.0.bytes as u64
    }
}

/// A page of registers, as the guest reads them: words of 4 bytes, little-endian. A clone is another handle on the same one.
#[derive(Clone, Debug)]
pub struct Page {
    mapping: Arc<Mapping>,
    first: usize,
}

impl Page {
    /// The word at a multiple of 4 below [`PAGE`].
    ///
    /// # Panics
    /// The offset is none.
    pub fn word(&self, offset: u32) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && (offset as usize) < PAGE);
        // SAFETY: the word lies in the page, the page in the mapping (`Window::page`), and the mapping lives as long as `self`. The guest
        // can't write it, and reads that race with our stores are atomic on x86.
        unsafe { &*self.mapping.words.add(self.first + offset as usize / 4) }
    }

    /// Writes bytes at a multiple of 4; what is left of the last word becomes zero. What lies beyond the page is left out.
    pub fn put(&self, offset: u32, bytes: &[u8]) {
        for (at, bytes) in (offset..PAGE as u32).step_by(4).zip(bytes.chunks(4)) {
            let mut word = [0; 4];
            word[..bytes.len()].copy_from_slice(bytes);
            self.word(at).store(u32::from_ne_bytes(word), Ordering::Release);
        }
    }

    /// Reads bytes, as a guest does; what lies beyond the page is zero.
    pub fn get(&self, offset: u64, bytes: &mut [u8]) {
        for (index, byte) in bytes.iter_mut().enumerate() {
            let at = offset.checked_add(index as u64).filter(|at| *at < PAGE as u64);
            *byte = at.map_or(0, |at| self.word(at as u32 & !3).load(Ordering::Acquire).to_ne_bytes()[at as usize % 4]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_as_it_was_written() {
        let page = Window::new(3).unwrap().page(1);
        page.put(0x100, b"seven b");
        page.word(0x60).store(0x0403_0201, Ordering::Relaxed);
        let mut read = [0xff; 9];
        page.get(0x101, &mut read);
        assert_eq!(&read, b"even b\0\0\0");
        page.get(0x61, &mut read[..2]);
        assert_eq!(read[..2], [2, 3]);
        page.put(0xffc, &[1; 64]);
        page.get(0xffe, &mut read[..4]);
        assert_eq!(read[..4], [1, 1, 0, 0]);
        page.get(u64::MAX - 2, &mut read);
        assert_eq!(read[..3], [0; 3]);
    }
}
