//! Where the guest finds its virtio devices: each in a page of registers of its own (virtio-mmio), or as functions on PCI. Interrupts and
//! kicks are connected here, so that they go between the guest and KVM, or KVM and the event loop, without coming to a processor's thread.

use crate::config::DeviceBus;
use crate::error::Result;
use insula_virtio::transport::{Transport, pci};
use insula_virtio::{Device, interrupt};
use insula_vm::acpi;
use insula_vm::event::Event;
use insula_vm::kvm::{Router, Vm};
use insula_vm::memory::layout;
use insula_vm::window::{PAGE, Window};
use std::sync::{Arc, Mutex, PoisonError};

/// Lines below belong to devices of a PC; the I/O APIC has 24.
const FIRST_LINE: u32 = 5;
const LAST_LINE: u32 = 23;
/// As many as there are lines.
pub(crate) const MOST: usize = (LAST_LINE - FIRST_LINE + 1) as usize;
/// Register QueueNotify, virtio 1.2 section 4.2.2.
const QUEUE_NOTIFY: u64 = 0x50;
/// Register InterruptACK.
const INTERRUPT_ACK: u64 = 0x64;

/// What lies at an address: the device's number, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Registers(usize, u64),
    /// The configuration space of a function.
    Space(usize, u64),
}

impl DeviceBus {
    /// Puts devices where the guest finds them, in order.
    pub(crate) fn place(self, vm: &mut Vm, devices: Vec<Box<dyn Device>>) -> Result<Vec<Transport>> {
        match self {
            DeviceBus::Mmio => on_mmio(vm, devices),
            DeviceBus::Pci => on_pci(vm, devices),
        }
    }

    /// How the kernel is told of so many.
    pub(crate) fn described(self, count: usize) -> Vec<acpi::Device> {
        match self {
            DeviceBus::Mmio => {
                (0..count as u32).map(|window| acpi::Device::Virtio { window, line: FIRST_LINE + window }).collect()
            }
            DeviceBus::Pci => vec![acpi::Device::Pci],
        }
    }

    /// What of so many devices lies at this address.
    pub(crate) fn find(self, count: usize, address: u64) -> Option<Found> {
        // A row of places of the same size.
        let within = |start: u64, size: u64| {
            let offset = address.checked_sub(start)?;
            let slot = usize::try_from(offset / size).ok().filter(|slot| *slot < count)?;
            Some((slot, offset % size))
        };
        if self == DeviceBus::Mmio {
            return within(layout::DEVICES, layout::DEVICE_SIZE).map(|(slot, offset)| Found::Registers(slot, offset));
        }
        let registers = within(layout::PCI_REGISTERS, pci::REGISTERS);
        // Doorbells count on behind the registers.
        let doorbells = || within(layout::PCI_DOORBELLS, pci::DOORBELLS).map(|(slot, offset)| (slot, pci::REGISTERS + offset));
        let found = registers.or_else(doorbells).map(|(slot, offset)| Found::Registers(slot, offset));
        found.or_else(|| within(layout::PCI_SPACE, PAGE as u64).map(|(slot, offset)| Found::Space(slot, offset)))
    }
}

fn on_mmio(vm: &mut Vm, devices: Vec<Box<dyn Device>>) -> Result<Vec<Transport>> {
    let registers = Window::new(devices.len())?;
    vm.show(&registers, layout::DEVICES)?;
    // Nobody waits for it: what is signalled needs no answer.
    let acknowledged = Event::new()?;
    let mut transports = Vec::new();
    for (number, device) in devices.into_iter().enumerate() {
        let transport = Transport::on_mmio(device, vm.memory().clone(), registers.page(number))?;
        if let Some(line) = transport.interrupt().as_line() {
            vm.interrupt_on(line.event(), FIRST_LINE + number as u32)?;
        }
        let start = layout::DEVICES + number as u64 * layout::DEVICE_SIZE;
        for (queue, kick) in (0..).zip(transport.kicks()) {
            vm.event_on_write(kick.as_ref(), start + QUEUE_NOTIFY, queue)?;
        }
        vm.event_on_write(&acknowledged, start + INTERRUPT_ACK, interrupt::QUEUE)?;
        transports.push(transport);
    }
    Ok(transports)
}

/// The first eight devices are the functions of PCI device 0, the next eight of 1: so their configuration spaces are neighbours. Where nothing
/// lies, the guest reads all ones.
fn on_pci(vm: &mut Vm, devices: Vec<Box<dyn Device>>) -> Result<Vec<Transport>> {
    let count = devices.len();
    let (spaces, registers) = (Window::new(count)?, Window::new(2 * count)?);
    vm.show(&spaces, layout::PCI_SPACE)?;
    vm.show(&registers, layout::PCI_REGISTERS)?;
    let router = Arc::new(Mutex::new(vm.router()));
    let mut transports = Vec::new();
    for (number, device) in devices.into_iter().enumerate() {
        let doorbells = layout::PCI_DOORBELLS + number as u64 * pci::DOORBELLS;
        let place = pci::Place {
            space: spaces.page(number),
            registers: [registers.page(2 * number), registers.page(2 * number + 1)],
            // Below 4 GiB, as firmware would have it.
            addresses: [(layout::PCI_REGISTERS + number as u64 * pci::REGISTERS) as u32, doorbells as u32],
            several: count > 1,
        };
        let numbers = Arc::new(Mutex::new(Vec::new()));
        let route = Messages { router: router.clone(), numbers: numbers.clone() };
        let transport = Transport::on_pci(device, vm.memory().clone(), place, Box::new(route))?;
        for event in transport.interrupt().as_messages().into_iter().flat_map(|messages| messages.events()) {
            let number = lock(&router).message_on(event)?;
            lock(&numbers).push(number);
        }
        for (queue, kick) in (0..).zip(transport.kicks()) {
            vm.event_on_any_write(kick.as_ref(), doorbells + queue * pci::DOORBELL)?;
        }
        transports.push(transport);
    }
    Ok(transports)
}

/// How a function's messages reach the guest.
struct Messages {
    router: Arc<Mutex<Router>>,
    /// By which numbers the router knows them.
    numbers: Arc<Mutex<Vec<u32>>>,
}

impl pci::Route for Messages {
    fn set(&mut self, message: u16, address: u64, data: u32) {
        if let Some(number) = lock(&self.numbers).get(usize::from(message)) {
            // What goes to no APIC is the guest's to miss.
            let _ = lock(&self.router).route(*number, address, data);
        }
    }
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_leads_to_its_device() {
        let mmio = |address| DeviceBus::Mmio.find(2, address);
        assert_eq!(mmio(layout::DEVICES + 0x1064), Some(Found::Registers(1, 0x64)));
        assert_eq!((mmio(layout::DEVICES + 0x2000), mmio(layout::DEVICES - 1), mmio(layout::PCI_SPACE)), (None, None, None));
        let pci = |address| DeviceBus::Pci.find(2, address);
        assert_eq!(pci(layout::PCI_REGISTERS + 0x3014), Some(Found::Registers(1, 0x1014)));
        assert_eq!(pci(layout::PCI_DOORBELLS + 0x1008), Some(Found::Registers(1, 0x2008)));
        assert_eq!(pci(layout::PCI_SPACE + 0x1004), Some(Found::Space(1, 4)));
        assert_eq!(
            (pci(layout::PCI_SPACE + 0x2000), pci(layout::PCI_REGISTERS + 0x4000), pci(layout::DEVICES)),
            (None, None, None)
        );
    }
}
