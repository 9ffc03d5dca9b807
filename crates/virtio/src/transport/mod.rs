//! A device behind the registers that its driver finds it by: in a page of its own (virtio-mmio, section 4.2), or on PCI (section 4.1).
//!
//! ```text
//! the guest writes ─> Transport ─┬─ mmio::Registers ─┐
//!                                └─ pci::Function ───┴─> common::Core ─activate, reset──> Device
//! the guest reads <─ pages of memory <───── publish ────────┘
//! ```
//!
//! [`common`] is what both have in common: the status of the driver, features, queues. What a guest can read lies in pages that it reads as
//! memory, without coming back to us; they are brought up to date after all that may change them.

mod common;
mod mmio;
pub mod pci;

use self::common::{Core, Registers};
use crate::device::{Change, Counters, Device, Saved, Source, Token};
use crate::error::{Error, Result};
use crate::interrupt::{Interrupt, Messages};
use insula_vm::memory::GuestMemory;
use insula_vm::window::Page;
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::sync::Arc;
use vmm_sys_util::eventfd::EventFd;

/// A device and its registers.
pub struct Transport {
    core: Core,
    face: Face,
}

/// How the driver sees it.
enum Face {
    Mmio(mmio::Registers),
    Pci(Box<pci::Function>),
}

/// A transport's state, with its device's: serde writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    kind: u32,
    registers: Registers,
    interrupt: u32,
    generation: u32,
    active: bool,
    pci: Option<pci::State>,
    saved: Saved,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").field("kind", &self.kind()).field("registers", &self.core.registers).finish_non_exhaustive()
    }
}

impl Transport {
    /// Puts a device behind registers of virtio-mmio, which are read in this page. The machine then registers the interrupt's
    /// [`event`](crate::interrupt::Line::event) as an irqfd, and [`Transport::kicks`] as ioeventfds on register 0x50 (QueueNotify), with the
    /// queue's number as what has to match; and it may let KVM take in [`QUEUE`](crate::interrupt::QUEUE) on register 0x64 (InterruptACK).
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn on_mmio(device: Box<dyn Device>, memory: GuestMemory, page: Page) -> Result<Transport> {
        let core = Core::new(device, memory, Interrupt::line(page.clone())?)?;
        let transport = Transport { core, face: Face::Mmio(mmio::Registers::new(page)) };
        transport.publish();
        Ok(transport)
    }

    /// Makes a device a function on PCI, whose registers are read in these pages. The machine then registers each of the
    /// [`Messages`]' events as an irqfd, and [`Transport::kicks`] as ioeventfds, 4 bytes apart in the doorbells' page.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn on_pci(
        device: Box<dyn Device>,
        memory: GuestMemory,
        place: pci::Place,
        route: Box<dyn pci::Route>,
    ) -> Result<Transport> {
        // Those of queues, and one for the configuration. A driver does with as many as there are (section 4.1.5.1.2).
        let messages = Arc::new(Messages::new(device.interrupts(), device.queue_sizes().len())?);
        let core = Core::new(device, memory, Interrupt::messages(messages.clone()))?;
        let function = pci::Function::new(&core, place, messages, route);
        let transport = Transport { core, face: Face::Pci(Box::new(function)) };
        transport.publish();
        Ok(transport)
    }

    /// The device's number.
    pub fn kind(&self) -> u32 {
        self.core.device.kind()
    }

    /// How the device reaches its driver.
    pub fn interrupt(&self) -> &Interrupt {
        &self.core.interrupt
    }

    /// One eventfd for each queue: the driver's kick.
    pub fn kicks(&self) -> &[Arc<EventFd>] {
        &self.core.kicks
    }

    /// Asks something of the device, if it is of this type, on behalf of the host.
    pub fn ask<D: Device, R>(&mut self, what: impl FnOnce(&mut D) -> R) -> Option<R> {
        let device: &mut dyn Any = self.core.device.as_mut();
        let answer = device.downcast_mut().map(what);
        self.publish();
        answer
    }

    /// What the device has done.
    pub fn counters(&self) -> Counters {
        self.core.device.counters()
    }

    /// What to wait for: nothing before the driver is ready.
    pub fn sources(&self) -> Vec<Source> {
        self.core.sources()
    }

    /// One of the sources is ready. A device that fails asks its driver to be reset, and what failed is answered for the log.
    ///
    /// # Errors
    /// As [`Device::event`]. Then there is nothing to wait for until the driver resets the device.
    pub fn event(&mut self, token: Token) -> Result<Change> {
        let change = self.core.event(token);
        // Requests alone change nothing that is read.
        if change.is_err() || self.core.interrupt.has_news() {
            self.publish();
        }
        change
    }

    /// The driver reads, which needs no transport where the pages are shown to the guest; `offset` counts from the start of the registers.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        match &self.face {
            Face::Mmio(registers) => registers.read(offset, data),
            Face::Pci(function) => function.read(offset, data),
        }
    }

    /// The driver writes. If there is something else to wait for by that, it is said.
    ///
    /// # Errors
    /// The device refused to start; the driver has been told. For the log.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<Change> {
        let change = match &mut self.face {
            Face::Mmio(_) => mmio::write(&mut self.core, offset, data),
            Face::Pci(function) => function.write(&mut self.core, offset, data),
        };
        self.publish();
        change
    }

    /// The guest reads the configuration space of a function on PCI.
    pub fn read_space(&self, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let Face::Pci(function) = &self.face {
            function.read_space(offset, data);
        }
    }

    /// The guest writes it; as [`Transport::write`], to whose registers the space has a door.
    ///
    /// # Errors
    /// As [`Transport::write`].
    pub fn write_space(&mut self, offset: u64, data: &[u8]) -> Result<Change> {
        let Face::Pci(function) = &mut self.face else { return Ok(Change::Nothing) };
        let change = function.write_space(&mut self.core, offset, data);
        self.publish();
        change
    }

    /// Brings what the driver reads up to date; then it hears of what has changed.
    fn publish(&self) {
        match &self.face {
            Face::Mmio(registers) => registers.publish(&self.core),
            Face::Pci(function) => function.publish(&self.core),
        }
        self.core.interrupt.tell();
    }

    /// What is needed to go on elsewhere, once the virtual processors stand still.
    ///
    /// # Errors
    /// The device can't finish what is under way.
    pub fn save(&mut self) -> Result<State> {
        let saved = self.core.device.save()?;
        let (interrupt, generation) = (self.core.interrupt.status(), self.core.interrupt.generation());
        let pci = match &self.face {
            Face::Mmio(_) => None,
            Face::Pci(function) => Some(function.save()),
        };
        let (kind, registers, active) = (self.kind(), self.core.registers.clone(), self.core.active);
        Ok(State { kind, registers, interrupt, generation, active, pci, saved })
    }

    /// Goes on where another transport was saved, over the same memory. The file it comes from may be hostile, too.
    ///
    /// # Errors
    /// It is another device's, or contradicts itself.
    pub fn restore(&mut self, state: State) -> Result<Change> {
        let kind = self.kind();
        let refuse = |cause: &str| Error::State { kind, cause: cause.to_owned() };
        if state.kind != kind {
            return Err(refuse(&format!("it is of device {}", state.kind)));
        }
        let fits = match (&self.face, &state.pci) {
            (Face::Mmio(_), None) => true,
            (Face::Pci(function), Some(pci)) => function.fits(pci),
            _ => false,
        };
        if !fits {
            return Err(refuse("it is of another transport"));
        }
        self.core.restore(state.registers, &state.saved)?;
        self.core.interrupt.restore(state.interrupt, state.generation);
        if let (Face::Pci(function), Some(pci)) = (&mut self.face, state.pci) {
            function.restore(pci);
        }
        self.publish();
        let change = self.core.go_on(state.active, &state.saved.rings);
        self.publish();
        change
    }
}
