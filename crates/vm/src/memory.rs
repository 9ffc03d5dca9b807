//! The guest's physical memory: memory of this process's, none of it touched before the guest does.
//!
//! ```text
//! 0 ─────────────── 3 GiB ──────────────── 4 GiB ───────────────
//!   memory           | devices, APICs      |  the rest of memory
//! ```
//!
//! Below 1 MiB lie the tables the kernel is started with ([`layout`]); the kernel itself lies from 1 MiB or 16 MiB on, where its file
//! says; the initial file system at the end of the lower memory.

use crate::{Error, Result};
use rustix::fs::SealFlags;
use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd;
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap, MmapRegion};

/// The guest's memory. A clone is another handle on the same memory.
pub type GuestMemory = GuestMemoryMmap<()>;

/// Where what lies in guest physical memory; all addresses in bytes.
pub mod layout {
    /// From here to [`HIGH`] there is no memory: devices, I/O APIC and local APICs.
    pub const GAP: u64 = 3 << 30;
    /// Memory beyond the gap.
    pub const HIGH: u64 = 4 << 30;
    /// The first device on virtio-mmio; each has a page. (Above the kernel's own fixed addresses, below the I/O APIC.)
    pub const DEVICES: u64 = 0xd000_0000;
    /// Bytes of one device's window.
    pub const DEVICE_SIZE: u64 = 0x1000;
    /// On a machine with PCI: the registers of its functions, their doorbells, and the end of both.
    pub const PCI_REGISTERS: u64 = 0xd100_0000;
    /// As above.
    pub const PCI_DOORBELLS: u64 = 0xd200_0000;
    /// As above.
    pub const PCI_END: u64 = 0xd300_0000;
    /// The configuration space of PCI's one bus, 4 KiB a function (PCI Express Base Specification, section 7.2.2).
    pub const PCI_SPACE: u64 = 0xe000_0000;
    /// Bytes of it.
    pub const PCI_SPACE_SIZE: u64 = 1 << 20;
}

/// What guest memory is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backing {
    /// Private pages; transparent huge ones where the host has them.
    #[default]
    Private,
    /// A file in memory that another process (vhost-user, a snapshot) can map.
    Shared,
    /// Huge pages of 2 MiB that the host has set aside (`vm.nr_hugepages`).
    Huge,
}

/// Gets memory for a guest. No page of it is touched.
///
/// # Errors
/// The host has less address space, or not enough huge pages set aside.
pub fn allocate(bytes: u64, backing: Backing) -> Result<GuestMemory> {
    let mebibytes = bytes >> 20;
    let failed = |cause: String| {
        let advice = if backing == Backing::Huge { "; are enough huge pages set aside (/proc/sys/vm/nr_hugepages)?" } else { "" };
        Error::Memory { mebibytes, cause: format!("{cause}{advice}") }
    };
    let file = match backing {
        Backing::Private => None,
        Backing::Shared => Some(memory_file(bytes, 0)),
        Backing::Huge => Some(memory_file(bytes, libc::MFD_HUGETLB)),
    };
    let file = file.transpose().map_err(|error| failed(error.to_string()))?;
    let mut regions = Vec::new();
    let mut offset = 0;
    for (start, length) in ranges(bytes) {
        let file = file.as_ref().map(|file| file.try_clone().map(|file| FileOffset::new(file, offset)));
        let file = file.transpose().map_err(|error| failed(error.to_string()))?;
        let region = map(length as usize, file).map_err(|error| failed(error.to_string()))?;
        if backing != Backing::Huge {
            // SAFETY: the range is the mapping just made; the advice changes no content. Whether it is followed matters only for speed.
            unsafe { libc::madvise(region.as_ptr().cast(), length as usize, libc::MADV_HUGEPAGE) };
        }
        offset += length;
        regions.push(GuestRegionMmap::new(region, GuestAddress(start)).ok_or_else(|| failed("it is too large".into()))?);
    }
    GuestMemory::from_regions(regions).map_err(|error| failed(error.to_string()))
}

/// Maps a piece of guest memory so that its large pages are large pages of this process's: KVM can give the guest a page of 2 MiB only
/// where both agree on where it begins. The mapping is there for as long as the process: a machine is.
fn map(length: usize, file: Option<FileOffset>) -> std::io::Result<MmapRegion> {
    const LARGE: usize = 2 << 20;
    let place = |result: *mut libc::c_void| match result {
        libc::MAP_FAILED => Err(std::io::Error::last_os_error()),
        address => Ok(address.cast::<u8>()),
    };
    let none = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping, where the kernel finds room.
    let room = place(unsafe { libc::mmap(std::ptr::null_mut(), length + LARGE, libc::PROT_NONE, none, -1, 0) })?;
    let address = room.wrapping_add(room.align_offset(LARGE));
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let (flags, descriptor, offset) = match &file {
        // With a reservation, so that huge pages that aren't there are told of now and not by a signal later.
        Some(file) => (libc::MAP_SHARED, file.file().as_raw_fd(), file.start()),
        None => (none, -1, 0),
    };
    // SAFETY: the range lies in the mapping just made, which nobody knows of.
    let mapped = unsafe { libc::mmap(address.cast(), length, protection, flags | libc::MAP_FIXED, descriptor, offset as i64) };
    if let Err(error) = place(mapped) {
        // SAFETY: the mapping just made, which nobody knows of.
        unsafe { libc::munmap(room.cast(), length + LARGE) };
        return Err(error);
    }
    let builder = MmapRegionBuilder::new(length).with_mmap_prot(protection).with_mmap_flags(flags);
    // SAFETY: the range is a mapping of ours that stays.
    let builder = unsafe { builder.with_raw_mmap_pointer(address) };
    let builder = if let Some(file) = file { builder.with_file_offset(file) } else { builder };
    builder.build().map_err(|error| std::io::Error::other(error.to_string()))
}

/// Where its pieces lie among this process's addresses.
pub fn places(memory: &GuestMemory) -> Vec<Range<u64>> {
    let place = |region: &GuestRegionMmap<()>| {
        let start = region.as_ptr() as u64;
        start..start + region.len()
    };
    memory.iter().map(place).collect()
}

/// Start and length of each piece: the part that would lie in the gap lies beyond it.
fn ranges(bytes: u64) -> Vec<(u64, u64)> {
    let low = bytes.min(layout::GAP);
    let mut ranges = vec![(0, low)];
    if bytes > low {
        ranges.push((layout::HIGH, bytes - low));
    }
    ranges
}

fn memory_file(bytes: u64, flags: libc::c_uint) -> std::io::Result<File> {
    use std::os::fd::FromRawFd;
    // SAFETY: the name is a NUL-terminated constant.
    let fd = unsafe { libc::memfd_create(c"guest".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | flags) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and ours.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(bytes)?;
    // Whoever shares it could take pages away from under us, and our next access would end us.
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::{Bytes, GuestMemoryBackend, GuestMemoryRegion};

    #[test]
    fn memory_goes_around_the_gap() {
        assert_eq!(ranges(256 << 20), [(0, 256 << 20)]);
        assert_eq!(ranges(5 << 30), [(0, 3 << 30), (4 << 30, 2 << 30)]);
    }

    #[test]
    fn every_backing_holds_what_is_written() {
        for backing in [Backing::Private, Backing::Shared] {
            let memory = allocate(4 << 20, backing).unwrap();
            memory.write_obj(0x1234_5678_u32, GuestAddress(0x10_0000)).unwrap();
            assert_eq!(memory.read_obj::<u32>(GuestAddress(0x10_0000)).unwrap(), 0x1234_5678);
            assert_eq!(memory.num_regions(), 1);
        }
    }

    #[test]
    fn memory_that_others_map_keeps_its_size() {
        let memory = allocate(4 << 20, Backing::Shared).unwrap();
        let file = memory.iter().next().unwrap().file_offset().unwrap().file();
        assert!(file.set_len(0).is_err() && file.set_len(8 << 20).is_err() && file.metadata().unwrap().len() == 4 << 20);
    }

    #[test]
    fn what_the_host_lacks_is_said() {
        let error = allocate(1 << 50, Backing::Private).unwrap_err().to_string();
        assert!(error.starts_with("can't get 1073741824 MiB of memory for the guest: "), "{error}");
    }
}
