//! How a device reaches its driver (section 2.3, Notifications, and 4.2.3.4 for virtio-mmio).

use crate::error::{Result, Tried};
use insula_vm::window::Page;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use virtio_bindings::virtio_mmio as register;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// The driver is to look at its used rings (VIRTIO_MMIO_INT_VRING).
pub const QUEUE: u32 = 1;
/// The device's configuration has changed, or its status has (VIRTIO_MMIO_INT_CONFIG).
pub const CONFIG: u32 = 2;

/// A device's interrupt line: the bits that say why, in the page of registers that the driver reads, and the eventfd that KVM raises the
/// line for (irqfd). A clone is the same line.
#[derive(Clone, Debug)]
pub struct Interrupt {
    event: Arc<EventFd>,
    page: Page,
    /// The driver is to be told of another configuration or status, once its registers say so.
    untold: Arc<AtomicBool>,
}

impl Interrupt {
    /// Makes a line that nobody listens to yet.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new(page: Page) -> Result<Interrupt> {
        let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).tried("make an eventfd for an interrupt")?;
        Ok(Interrupt { event: Arc::new(event), page, untold: Arc::default() })
    }

    /// What is to be registered as the irqfd.
    pub fn event(&self) -> &EventFd {
        &self.event
    }

    /// Says that a used ring has something new.
    pub fn queue(&self) {
        self.raise(QUEUE);
    }

    /// The device's configuration has changed (section 2.5). The driver hears of it when its registers say so ([`Self::tell`]).
    pub fn config(&self) {
        self.page.word(register::VIRTIO_MMIO_CONFIG_GENERATION).fetch_add(1, Ordering::AcqRel);
        self.untold.store(true, Ordering::Release);
    }

    /// The status (DEVICE_NEEDS_RESET) has changed, and nothing in the configuration.
    pub(crate) fn status_changed(&self) {
        self.untold.store(true, Ordering::Release);
    }

    /// The registers are as the device is: the driver is told, if there is something it doesn't know.
    pub(crate) fn tell(&self) {
        if self.untold.swap(false, Ordering::AcqRel) {
            self.raise(CONFIG);
        }
    }

    fn raise(&self, why: u32) {
        // Before the event: the driver reads it as soon as the line is up.
        self.page.word(register::VIRTIO_MMIO_INTERRUPT_STATUS).fetch_or(why, Ordering::AcqRel);
        // It fails only if the counter is full, and then the line is up anyway.
        let _ = self.event.write(1);
    }

    /// Why the line is up: [`QUEUE`], [`CONFIG`] (register InterruptStatus).
    pub fn status(&self) -> u32 {
        self.page.word(register::VIRTIO_MMIO_INTERRUPT_STATUS).load(Ordering::Acquire)
    }

    /// Takes reasons away that the driver has seen (register InterruptACK).
    pub(crate) fn acknowledge(&self, seen: u32) {
        self.page.word(register::VIRTIO_MMIO_INTERRUPT_STATUS).fetch_and(!seen, Ordering::AcqRel);
    }

    /// Nobody waits for it any more: the driver has reset the device.
    pub(crate) fn reset(&self) {
        self.acknowledge(u32::MAX);
        self.untold.store(false, Ordering::Release);
        let _ = self.event.read();
    }

    /// The generation of the configuration (register ConfigGeneration).
    pub fn generation(&self) -> u32 {
        self.page.word(register::VIRTIO_MMIO_CONFIG_GENERATION).load(Ordering::Acquire)
    }

    pub(crate) fn restore(&self, status: u32, generation: u32) {
        self.page.word(register::VIRTIO_MMIO_INTERRUPT_STATUS).store(status & (QUEUE | CONFIG), Ordering::Release);
        self.page.word(register::VIRTIO_MMIO_CONFIG_GENERATION).store(generation, Ordering::Release);
        if self.status() != 0 {
            let _ = self.event.write(1);
        }
    }
}
