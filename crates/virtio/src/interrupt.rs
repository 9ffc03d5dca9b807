//! How a device reaches its driver (section 2.3, Notifications, and 4.2.3.4 for virtio-mmio).

use crate::error::{Result, Tried};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// The driver is to look at its used rings (VIRTIO_MMIO_INT_VRING).
pub const QUEUE: u32 = 1;
/// The device's configuration has changed, or its status has (VIRTIO_MMIO_INT_CONFIG).
pub const CONFIG: u32 = 2;

/// A device's interrupt line: the bits that say why, and the eventfd that KVM raises the line for (irqfd). A clone is the same line.
#[derive(Clone, Debug)]
pub struct Interrupt {
    event: Arc<EventFd>,
    status: Arc<AtomicU32>,
    generation: Arc<AtomicU32>,
}

impl Interrupt {
    /// Makes a line that nobody listens to yet.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> Result<Interrupt> {
        let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).tried("make an eventfd for an interrupt")?;
        Ok(Interrupt { event: Arc::new(event), status: Arc::default(), generation: Arc::default() })
    }

    /// What is to be registered as the irqfd.
    pub fn event(&self) -> &EventFd {
        &self.event
    }

    /// Says that a used ring has something new.
    pub fn queue(&self) {
        self.raise(QUEUE);
    }

    /// Says that the device's configuration has changed (section 2.5); it gets a new generation before the driver hears of it.
    pub fn config(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.raise(CONFIG);
    }

    /// The status (DEVICE_NEEDS_RESET) has changed, and nothing in the configuration.
    pub(crate) fn status_changed(&self) {
        self.raise(CONFIG);
    }

    fn raise(&self, why: u32) {
        // Before the event: the driver reads it as soon as the line is up.
        self.status.fetch_or(why, Ordering::AcqRel);
        // It fails only if the counter is full, and then the line is up anyway.
        let _ = self.event.write(1);
    }

    /// Why the line is up: [`QUEUE`], [`CONFIG`] (register InterruptStatus).
    pub fn status(&self) -> u32 {
        self.status.load(Ordering::Acquire)
    }

    /// Takes reasons away that the driver has seen (register InterruptACK).
    pub(crate) fn acknowledge(&self, seen: u32) {
        self.status.fetch_and(!seen, Ordering::AcqRel);
    }

    /// Nobody waits for it any more: the driver has reset the device.
    pub(crate) fn reset(&self) {
        self.acknowledge(u32::MAX);
        let _ = self.event.read();
    }

    /// The generation of the configuration (register ConfigGeneration).
    pub fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn restore(&self, status: u32, generation: u32) {
        self.status.store(status & (QUEUE | CONFIG), Ordering::Release);
        self.generation.store(generation, Ordering::Release);
        if self.status() != 0 {
            let _ = self.event.write(1);
        }
    }
}
