//! The register file of a device on virtio-mmio, version 2 (section 4.2).
//!
//! A driver reads and writes registers of 4 bytes, aligned; the configuration from 0x100 on in any size. What isn't so, what comes out of
//! order (a queue set up while the device runs), and what names nothing (a queue that isn't there) is ignored, and reads as zero.
//!
//! What can be read lies in a page that the guest reads as memory, without coming back to us; it is brought up to date after all that may
//! change it. Only writes come here, and of these not the two that belong to each request: KVM turns the kick into an event, and takes
//! in the acknowledgement of a used ring, after which InterruptStatus says, as before, that there may be something in one. A driver looks,
//! and finds it or not.

use super::common::{Area, Core, Field};
use crate::device::Change;
use crate::error::Result;
use insula_vm::window::Page;
use std::sync::atomic::Ordering;
use virtio_bindings::virtio_mmio as register;

#[cfg(test)]
mod tests;

/// "virt", little-endian.
const MAGIC: u32 = 0x7472_6976;
/// "insu": who made the device; drivers don't care.
const VENDOR: u32 = 0x7573_6e69;
/// What [`register()`] knows; the two that change by themselves are the interrupt's.
const READABLE: [u32; 12] = [
    register::VIRTIO_MMIO_MAGIC_VALUE,
    register::VIRTIO_MMIO_VERSION,
    register::VIRTIO_MMIO_DEVICE_ID,
    register::VIRTIO_MMIO_VENDOR_ID,
    register::VIRTIO_MMIO_DEVICE_FEATURES,
    register::VIRTIO_MMIO_QUEUE_NUM_MAX,
    register::VIRTIO_MMIO_QUEUE_READY,
    register::VIRTIO_MMIO_STATUS,
    register::VIRTIO_MMIO_SHM_LEN_LOW,
    register::VIRTIO_MMIO_SHM_LEN_HIGH,
    register::VIRTIO_MMIO_SHM_BASE_LOW,
    register::VIRTIO_MMIO_SHM_BASE_HIGH,
];
/// The page in which the guest reads them.
pub(super) struct Registers {
    page: Page,
}

impl Registers {
    pub(super) fn new(page: Page) -> Registers {
        Registers { page }
    }

    pub(super) fn read(&self, offset: u64, data: &mut [u8]) {
        self.page.get(offset, data);
    }

    /// Brings the page up to date.
    pub(super) fn publish(&self, core: &Core) {
        /// No device's configuration is longer.
        const CONFIGURATION: usize = 128;
        for offset in READABLE {
            self.page.word(offset).store(register(core, offset), Ordering::Release);
        }
        let mut configuration = [0; CONFIGURATION];
        core.device.read_config(0, &mut configuration);
        self.page.put(register::VIRTIO_MMIO_CONFIG, &configuration);
    }
}

/// Table 4.1, but for what the interrupt's line keeps in the page itself.
fn register(core: &Core, offset: u32) -> u32 {
    match offset {
        register::VIRTIO_MMIO_MAGIC_VALUE => MAGIC,
        register::VIRTIO_MMIO_VERSION => 2,
        register::VIRTIO_MMIO_DEVICE_ID => core.device.kind(),
        register::VIRTIO_MMIO_VENDOR_ID => VENDOR,
        register::VIRTIO_MMIO_DEVICE_FEATURES => core.offered_half(),
        register::VIRTIO_MMIO_QUEUE_NUM_MAX => {
            let size = core.device.queue_sizes().get(core.registers.queue_select as usize);
            size.copied().map_or(0, u32::from)
        }
        register::VIRTIO_MMIO_QUEUE_READY => core.queue().is_some_and(|queue| queue.ready).into(),
        register::VIRTIO_MMIO_STATUS => core.registers.status,
        // No device has shared memory: regions that don't exist are -1 long (section 4.2.2).
        register::VIRTIO_MMIO_SHM_LEN_LOW | register::VIRTIO_MMIO_SHM_LEN_HIGH => u32::MAX,
        register::VIRTIO_MMIO_SHM_BASE_LOW | register::VIRTIO_MMIO_SHM_BASE_HIGH => u32::MAX,
        _ => 0,
    }
}

/// The driver writes.
pub(super) fn write(core: &mut Core, offset: u64, data: &[u8]) -> Result<Change> {
    let config = u64::from(register::VIRTIO_MMIO_CONFIG);
    if offset >= config {
        core.write_config(offset - config, data);
        return Ok(Change::Nothing);
    }
    let Ok(data) = <[u8; 4]>::try_from(data) else { return Ok(Change::Nothing) };
    let value = u32::from_le_bytes(data);
    match offset as u32 {
        register::VIRTIO_MMIO_STATUS => return core.set_status(value),
        register::VIRTIO_MMIO_DEVICE_FEATURES_SEL => core.registers.device_features_select = value,
        register::VIRTIO_MMIO_DRIVER_FEATURES_SEL => core.registers.driver_features_select = value,
        register::VIRTIO_MMIO_DRIVER_FEATURES => core.set_features(value),
        register::VIRTIO_MMIO_QUEUE_SEL => core.registers.queue_select = value,
        // The usual kick never comes here; KVM turns it into the event itself.
        register::VIRTIO_MMIO_QUEUE_NOTIFY => core.kick(value),
        register::VIRTIO_MMIO_INTERRUPT_ACK => core.interrupt.acknowledge(value),
        offset => {
            if let Some(field) = field(offset) {
                core.set_queue(field, value);
            }
        }
    }
    Ok(Change::Nothing)
}

/// What of a queue a register is.
fn field(offset: u32) -> Option<Field> {
    Some(match offset {
        register::VIRTIO_MMIO_QUEUE_NUM => Field::Size,
        register::VIRTIO_MMIO_QUEUE_READY => Field::Ready,
        register::VIRTIO_MMIO_QUEUE_DESC_LOW => Field::Low(Area::Descriptors),
        register::VIRTIO_MMIO_QUEUE_DESC_HIGH => Field::High(Area::Descriptors),
        register::VIRTIO_MMIO_QUEUE_AVAIL_LOW => Field::Low(Area::Available),
        register::VIRTIO_MMIO_QUEUE_AVAIL_HIGH => Field::High(Area::Available),
        register::VIRTIO_MMIO_QUEUE_USED_LOW => Field::Low(Area::Used),
        register::VIRTIO_MMIO_QUEUE_USED_HIGH => Field::High(Area::Used),
        _ => return None,
    })
}
