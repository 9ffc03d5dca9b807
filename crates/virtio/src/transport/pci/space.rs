//! A function's configuration space: who it is, where it lies, what it can. Source: *PCI Local Bus Specification 3.0*, chapter 6, and
//! virtio 1.2, section 4.1.2 to 4.1.4.

use super::{DEVICE, DEVICE_SIZE, DOORBELL, DOORBELLS, PENDING, REGISTERS, STATUS, TABLE};
use insula_vm::window::Page;
use std::sync::atomic::Ordering;

const SIZE: usize = 256;
const COMMAND: usize = 0x04;
const BARS: usize = 0x10;
const CAPABILITIES: usize = 0x34;
const INTERRUPT_LINE: usize = 0x3c;
/// The capabilities, one after the other.
const MSIX: usize = 0x40;
const COMMON: usize = 0x50;
const NOTIFY: usize = 0x60;
const ISR: usize = 0x74;
const OWN: usize = 0x84;
const DOOR: usize = 0x94;

/// "Red Hat": who gives virtio's numbers.
const VENDOR: u16 = 0x1af4;
/// The number of a device that is nothing but of virtio 1: this, and its kind.
const DEVICE_BASE: u16 = 0x1040;
/// As above, for the board.
const BOARD: u16 = 0x1100;

/// The space, as far as it isn't zeros.
pub(super) struct Space {
    page: Page,
    bytes: [u8; SIZE],
    /// Bits that can be written.
    mask: [u8; SIZE],
}

/// Base class and subclass (PCI 3.0, appendix D).
fn class(kind: u32) -> [u8; 2] {
    match kind {
        crate::net::KIND => [0x00, 0x02],
        crate::block::KIND => [0x80, 0x01],
        crate::vsock::KIND => [0x80, 0x07],
        _ => [0x00, 0xff],
    }
}

impl Space {
    pub(super) fn new(page: Page, kind: u32, addresses: [u32; 2], messages: u16, several: bool) -> Space {
        let mut space = Space { page, bytes: [0; SIZE], mask: [0; SIZE] };
        // There are no more kinds than fit.
        space.put(0x00, &[VENDOR, DEVICE_BASE + kind as u16].map(u16::to_le_bytes).concat());
        // "Has a list of capabilities"; revision 1 (section 4.1.2.1).
        space.put(COMMAND + 2, &[0x10, 0, 1, 0]);
        space.put(0x0a, &class(kind));
        space.put(0x0e, &[u8::from(several) << 7]);
        space.put(0x2c, &[VENDOR, BOARD].map(u16::to_le_bytes).concat());
        // Memory, bus master, and no interrupt pin.
        space.writable(COMMAND, &0x0406_u16.to_le_bytes());
        space.writable(INTERRUPT_LINE, &[0xff]);
        for (bar, address, size) in [(0, addresses[0], REGISTERS), (2, addresses[1], DOORBELLS)] {
            space.put(BARS + 4 * bar, &address.to_le_bytes());
            space.writable(BARS + 4 * bar, &(!(size as u32 - 1)).to_le_bytes());
        }
        space.list_capabilities(messages);
        space.show(0, SIZE);
        space
    }

    fn list_capabilities(&mut self, messages: u16) {
        const ID_MSIX: u8 = 0x11;
        self.put(CAPABILITIES, &[MSIX as u8]);
        self.put(MSIX, &[ID_MSIX, COMMON as u8]);
        self.put(MSIX + 2, &(messages - 1).to_le_bytes());
        self.put(MSIX + 4, &[TABLE, PENDING].map(u32::to_le_bytes).concat());
        // Enable, and the mask of all.
        self.writable(MSIX + 2, &0xc000_u16.to_le_bytes());
        // Where (bar, offset, length) what (section 4.1.4) is.
        self.put_virtio(COMMON, NOTIFY, [1, 0], 0, 0x38, &[]);
        self.put_virtio(NOTIFY, ISR, [2, 2], 0, DOORBELLS as u32, &(DOORBELL as u32).to_le_bytes());
        self.put_virtio(ISR, OWN, [3, 0], STATUS, 1, &[]);
        self.put_virtio(OWN, DOOR, [4, 0], DEVICE, DEVICE_SIZE, &[]);
        self.put_virtio(DOOR, 0, [5, 0], 0, 0, &[0; 4]);
        self.writable(DOOR + 4, &[0xff]);
        self.writable(DOOR + 8, &[0xff; 12]);
    }

    fn put_virtio(&mut self, at: usize, next: usize, [kind, bar]: [u8; 2], offset: u32, length: u32, more: &[u8]) {
        const ID_VENDOR: u8 = 0x09;
        let size = 16 + more.len() as u8;
        self.put(at, &[ID_VENDOR, next as u8, size, kind, bar, 0, 0, 0]);
        self.put(at + 8, &[offset, length].map(u32::to_le_bytes).concat());
        self.put(at + 16, more);
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn writable(&mut self, at: usize, bits: &[u8]) {
        self.mask[at..at + bits.len()].copy_from_slice(bits);
    }

    /// Lets the guest see so many bytes.
    fn show(&self, at: usize, length: usize) {
        let start = at / 4 * 4;
        self.page.put(start as u32, &self.bytes[start..(at + length).next_multiple_of(4).min(SIZE)]);
    }

    pub(super) fn read(&self, offset: u64, data: &mut [u8]) {
        self.page.get(offset, data);
    }

    /// Writes what can be written. What the door's capability passes on is answered: where in the registers, what, and how long it is.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> Option<(u64, [u8; 4], usize)> {
        let at = usize::try_from(offset).ok().filter(|at| at.saturating_add(data.len()) <= SIZE)?;
        for (index, byte) in (at..).zip(data) {
            self.bytes[index] = self.bytes[index] & !self.mask[index] | byte & self.mask[index];
        }
        self.show(at, data.len());
        let (target, length) = self.door().filter(|_| at == DOOR + 16)?;
        Some((target, self.bytes[DOOR + 16..DOOR + 20].try_into().ok()?, length))
    }

    /// Section 4.1.4.9: what of the registers the driver looks at by the space alone. Doorbells follow registers.
    pub(super) fn door(&self) -> Option<(u64, usize)> {
        let word = |at: usize| self.bytes[at..at + 4].try_into().map_or(0, u32::from_le_bytes);
        let (bar, offset, length) = (self.bytes[DOOR + 4], u64::from(word(DOOR + 8)), word(DOOR + 12));
        let (start, size) = match bar {
            0 => (0, REGISTERS),
            2 => (REGISTERS, DOORBELLS),
            _ => return None,
        };
        let fits = matches!(length, 1 | 2 | 4) && offset.is_multiple_of(length.into()) && offset < size;
        fits.then_some((start + offset, length as usize))
    }

    pub(super) fn show_through_door(&self, data: [u8; 4]) {
        self.page.word(DOOR as u32 + 16).store(u32::from_le_bytes(data), Ordering::Release);
    }

    /// MSI-X is enabled, and not masked as a whole.
    pub(super) fn messages_are_on(&self) -> bool {
        self.bytes[MSIX + 3] & 0xc0 == 0x80
    }

    pub(super) fn save(&self) -> Vec<u8> {
        self.bytes.to_vec()
    }

    pub(super) fn restore(&mut self, saved: &[u8]) {
        for (index, byte) in saved.iter().enumerate().take(SIZE) {
            self.bytes[index] = self.bytes[index] & !self.mask[index] | byte & self.mask[index];
        }
        self.show(0, SIZE);
    }
}
