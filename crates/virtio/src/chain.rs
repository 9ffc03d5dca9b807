//! The memory of one request: a chain of descriptors, copied out of the guest's memory once, and checked then (section 2.7.5).

use insula_vm::memory::GuestMemory;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, VolatileSlice};

/// A chain has at most so many descriptors, as the host's kernel takes no more in one call (UIO_MAXIOV), with one for a header and one for a
/// status. A longer one is malformed: no device says that it takes more.
pub const PIECES: usize = insula_sys::guest::PIECES + 2;

/// Pieces of guest memory, all of which exist. What lies in them can change at any time.
#[derive(Clone, Debug, Default)]
pub struct Buffers {
    pieces: Vec<(GuestAddress, u32)>,
    length: u32,
}

impl Buffers {
    /// How many bytes there are.
    pub fn len(&self) -> u32 {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The pieces: where, and how many bytes.
    pub fn pieces(&self) -> &[(GuestAddress, u32)] {
        &self.pieces
    }

    fn clear(&mut self) {
        self.pieces.clear();
        self.length = 0;
    }

    /// Adds a piece; false if it isn't memory. Pieces beside each other become one.
    fn add(&mut self, memory: &GuestMemory, address: GuestAddress, length: u32) -> bool {
        let Some(total) = self.length.checked_add(length) else { return false };
        let mut at = address.0;
        for slice in memory.get_slices(address, length as usize) {
            let Ok(slice) = slice else { return false };
            // It is a part of `length`, so it fits.
            let part = slice.len() as u32;
            match self.pieces.last_mut() {
                Some((before, count))
                    if before.0 + u64::from(*count) == at && memory.get_slice(*before, (*count + part) as usize).is_ok() =>
                {
                    *count += part;
                }
                _ => self.pieces.push((GuestAddress(at), part)),
            }
            at += u64::from(part);
        }
        self.length = total;
        true
    }

    /// The pieces of a part of it; shorter if it ends before.
    pub fn part(&self, offset: u32, length: u32) -> Vec<(GuestAddress, u32)> {
        let (mut skip, mut left) = (offset, length);
        let mut part = Vec::with_capacity(self.pieces.len());
        for &(address, count) in &self.pieces {
            if skip >= count {
                skip -= count;
                continue;
            }
            let taken = (count - skip).min(left);
            if taken == 0 {
                break;
            }
            part.push((GuestAddress(address.0 + u64::from(skip)), taken));
            (skip, left) = (0, left - taken);
        }
        part
    }

    /// The same as memory, for a system call.
    pub fn slices<'a>(&self, memory: &'a GuestMemory, offset: u32, length: u32) -> Vec<VolatileSlice<'a>> {
        slices(memory, &self.part(offset, length))
    }

    /// Copies bytes out of guest memory; how many there were.
    pub fn read(&self, memory: &GuestMemory, offset: u32, data: &mut [u8]) -> usize {
        let mut done = 0;
        for (address, count) in self.part(offset, data.len() as u32) {
            let piece = &mut data[done..done + count as usize];
            if memory.read_slice(piece, address).is_err() {
                break;
            }
            done += count as usize;
        }
        done
    }

    /// Copies bytes into guest memory; how many fitted.
    pub fn write(&self, memory: &GuestMemory, offset: u32, data: &[u8]) -> usize {
        let mut done = 0;
        for (address, count) in self.part(offset, data.len() as u32) {
            if memory.write_slice(&data[done..done + count as usize], address).is_err() {
                break;
            }
            done += count as usize;
        }
        done
    }

    /// Reads a structure of `N` bytes; none if there aren't as many.
    pub fn array<const N: usize>(&self, memory: &GuestMemory, offset: u32) -> Option<[u8; N]> {
        let mut data = [0; N];
        (self.read(memory, offset, &mut data) == N).then_some(data)
    }
}

/// Pieces of guest memory for a system call.
pub fn slices<'a>(memory: &'a GuestMemory, pieces: &[(GuestAddress, u32)]) -> Vec<VolatileSlice<'a>> {
    pieces.iter().filter_map(|&(address, length)| memory.get_slice(address, length as usize).ok()).collect()
}

/// One request: what the driver gives to read, and what it gives to be written (section 2.7.4.2: in this order).
#[derive(Debug, Default)]
pub struct Chain {
    head: u16,
    readable: Buffers,
    writable: Buffers,
}

impl Chain {
    /// The number of its first descriptor, by which the driver knows it.
    pub fn head(&self) -> u16 {
        self.head
    }

    /// What the device may read.
    pub fn readable(&self) -> &Buffers {
        &self.readable
    }

    /// What the device may write.
    pub fn writable(&self) -> &Buffers {
        &self.writable
    }

    /// Fills it from the descriptors; false if they make no chain: one isn't memory, they go round in a circle, an index is beyond the
    /// table, or one to be read comes after one to be written.
    pub(crate) fn fill(&mut self, memory: &GuestMemory, head: u16, descriptors: impl Iterator<Item = Descriptor>) -> bool {
        self.head = head;
        self.readable.clear();
        self.writable.clear();
        let mut complete = false;
        for (count, descriptor) in descriptors.enumerate() {
            let (address, length) = (descriptor.addr(), descriptor.len());
            let added = if descriptor.is_write_only() {
                self.writable.add(memory, address, length)
            } else {
                self.writable.pieces.is_empty() && self.readable.add(memory, address, length)
            };
            if !added || count >= PIECES {
                return false;
            }
            // The iterator stops without a word where it can't go on; but then the last one names a next.
            complete = !descriptor.has_next();
        }
        complete
    }
}
