//! The machine as KVM has it: memory slots, the interrupt controllers and the timer in the kernel, and the two kinds of event by which
//! devices work without an exit: *irqfd* (a descriptor that raises an interrupt) and *ioeventfd* (a guest's write that only signals).

use crate::memory::GuestMemory;
use crate::vcpu::Vcpu;
use crate::window::Window;
use crate::{Error, Result};
use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE,
    KVM_MEM_READONLY, KVM_PIT_SPEAKER_DUMMY, KvmIrqRouting, kvm_irq_routing_entry, kvm_irq_routing_entry__bindgen_ty_1,
    kvm_irq_routing_irqchip, kvm_irq_routing_msi, kvm_pit_config, kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, NoDatamatch, VmFd};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd};
use std::sync::{Arc, Mutex, PoisonError};
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};
use vmm_sys_util::eventfd::EventFd;

/// Three pages that Intel's processors need for real mode: above all memory and devices, as KVM's documentation advises.
const TASK_STATE: usize = 0xfffb_d000;
/// The one page beside them.
const IDENTITY_MAP: u64 = 0xfffb_c000;

/// What the kernel must offer; anything since Linux 4.14 does.
const NEEDED: [(Cap, &str); 10] = [
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::Irqchip, "KVM_CAP_IRQCHIP"),
    (Cap::Pit2, "KVM_CAP_PIT2"),
    (Cap::Irqfd, "KVM_CAP_IRQFD"),
    (Cap::IrqRouting, "KVM_CAP_IRQ_ROUTING"),
    (Cap::Ioeventfd, "KVM_CAP_IOEVENTFD"),
    (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID"),
    (Cap::AdjustClock, "KVM_CAP_ADJUST_CLOCK"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
    (Cap::ReadonlyMem, "KVM_CAP_READONLY_MEM"),
];

/// A machine without devices.
#[derive(Debug)]
pub struct Vm {
    kvm: Kvm,
    fd: Arc<Fd>,
    /// How many windows it shows.
    windows: u32,
}

/// The kernel's machine, and all of our memory that it reads and writes for as long as it exists.
#[derive(Debug)]
struct Fd {
    // Before the rest, which must outlive it.
    fd: VmFd,
    memory: GuestMemory,
    /// What the guest reads as memory.
    windows: Mutex<Vec<Window>>,
}

impl Vm {
    /// Makes a machine with this memory, an I/O APIC, two PICs and a PIT.
    ///
    /// # Errors
    /// `/dev/kvm` isn't there or closed to us, or the kernel lacks something.
    pub fn new(memory: GuestMemory) -> Result<Vm> {
        let kvm = open()?;
        if let Some((_, name)) = NEEDED.iter().find(|(cap, _)| !kvm.check_extension(*cap)) {
            return Err(Error::Kvm { what: "use this host's KVM", cause: format!("it lacks {name}; a newer kernel has it") });
        }
        let fd = kvm.create_vm().map_err(failed("make a machine"))?;
        fd.set_identity_map_address(IDENTITY_MAP).map_err(failed("place the identity map"))?;
        fd.set_tss_address(TASK_STATE).map_err(failed("place the task state"))?;
        fd.create_irq_chip().map_err(failed("make the interrupt controllers"))?;
        let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
        fd.create_pit2(pit).map_err(failed("make the timer"))?;
        for (slot, region) in memory.iter().enumerate() {
            let range = kvm_userspace_memory_region {
                slot: slot as u32,
                guest_phys_addr: region.start_addr().0,
                memory_size: region.len(),
                userspace_addr: region.as_ptr() as u64,
                flags: 0,
            };
            // SAFETY: the range is a mapping of ours, which `memory` keeps for as long as this machine exists; regions don't overlap.
            unsafe { fd.set_user_memory_region(range) }.map_err(failed("give the guest its memory"))?;
        }
        let fd = Arc::new(Fd { fd, memory, windows: Mutex::default() });
        Ok(Vm { kvm, fd, windows: 0 })
    }

    /// The guest's memory.
    pub fn memory(&self) -> &GuestMemory {
        &self.fd.memory
    }

    /// From now on the guest reads this window at this address; what it writes there comes to the bus, or signals an event.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn show(&mut self, window: &Window, address: u64) -> Result<()> {
        let range = kvm_userspace_memory_region {
            slot: self.memory().num_regions() as u32 + self.windows,
            guest_phys_addr: address,
            memory_size: window.bytes(),
            userspace_addr: window.address(),
            flags: KVM_MEM_READONLY,
        };
        self.fd.windows.lock().unwrap_or_else(PoisonError::into_inner).push(window.clone());
        // SAFETY: the range is the window's mapping, which `self.fd.windows` keeps for as long as this machine exists.
        unsafe { self.fd.fd.set_user_memory_region(range) }.map_err(failed("show the guest the devices"))?;
        self.windows += 1;
        Ok(())
    }

    /// Makes the virtual processor of this number, of so many.
    ///
    /// # Errors
    /// The kernel allows no more, or refuses a register.
    pub fn vcpu(&self, number: u8, count: u8) -> Result<Vcpu> {
        let fd = self.fd.fd.create_vcpu(u64::from(number)).map_err(failed("make a virtual processor"))?;
        Vcpu::new(&self.kvm, fd, self.memory().clone(), number, count)
    }

    /// From now on, writing this event (an eventfd) raises an interrupt line.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn interrupt_on(&self, event: &impl AsRawFd, line: u32) -> Result<()> {
        self.fd.fd.register_irqfd(&for_kvm(event)?, line).map_err(failed("connect an interrupt"))
    }

    /// From now on, when the guest writes this 32-bit value to this address, the event is signalled, and nothing else happens.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn event_on_write(&self, event: &impl AsRawFd, address: u64, value: u32) -> Result<()> {
        self.fd.fd.register_ioevent(&for_kvm(event)?, &IoEventAddress::Mmio(address), value).map_err(failed("connect a device"))
    }

    /// The same for whatever the guest writes to this address.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn event_on_any_write(&self, event: &impl AsRawFd, address: u64) -> Result<()> {
        let doorbell = IoEventAddress::Mmio(address);
        self.fd.fd.register_ioevent(&for_kvm(event)?, &doorbell, NoDatamatch).map_err(failed("connect a device"))
    }

    /// By which messages reach the guest. There may be one for a machine: it knows of no other's messages.
    pub fn router(&self) -> Router {
        Router { fd: self.fd.clone(), messages: Vec::new() }
    }
}

/// The first number of an interrupt that is no line of an interrupt controller's.
const MESSAGES: u32 = 24;
/// As many lines does the I/O APIC have; the PICs have the first [`PIC_LINES`] of them, too.
const APIC_LINES: u32 = 24;
const PIC_LINES: u32 = 16;

/// Interrupts as messages: what a device on PCI writes where. Source: Linux `Documentation/virt/kvm/api.rst`, KVM_SET_GSI_ROUTING.
#[derive(Debug)]
pub struct Router {
    fd: Arc<Fd>,
    /// By their numbers, from [`MESSAGES`] on; none as long as nobody has said where it goes.
    messages: Vec<Option<(u64, u32)>>,
}

impl Router {
    /// Another message, sent when this event (an eventfd) is written; answers its number. It goes nowhere yet.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn message_on(&mut self, event: &impl AsRawFd) -> Result<u32> {
        let number = MESSAGES + self.messages.len() as u32;
        self.fd.fd.register_irqfd(&for_kvm(event)?, number).map_err(failed("connect an interrupt"))?;
        self.messages.push(None);
        Ok(number)
    }

    /// From now on this message is so much data written to this address.
    ///
    /// # Errors
    /// The kernel refuses: it is no address of an APIC.
    pub fn route(&mut self, number: u32, address: u64, data: u32) -> Result<()> {
        let message = number.checked_sub(MESSAGES).and_then(|index| self.messages.get_mut(index as usize));
        let Some(message) = message else { return Ok(()) };
        *message = Some((address, data));
        let sent = (MESSAGES..).zip(&self.messages).filter_map(|(number, message)| Some((number, (*message)?)));
        let entries: Vec<_> = lines().chain(sent.map(|(number, (address, data))| by_message(number, address, data))).collect();
        let table = KvmIrqRouting::from_entries(&entries);
        let table = table.map_err(|error| Error::Kvm { what: "route interrupts", cause: format!("{error:?}") })?;
        self.fd.fd.set_gsi_routing(&table).map_err(failed("route interrupts"))
    }
}

/// The lines as the kernel has them at the start; a table replaces all.
fn lines() -> impl Iterator<Item = kvm_irq_routing_entry> {
    let line = |gsi, irqchip, pin| kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_IRQCHIP,
        u: kvm_irq_routing_entry__bindgen_ty_1 { irqchip: kvm_irq_routing_irqchip { irqchip, pin } },
        ..Default::default()
    };
    let apic = (0..APIC_LINES).map(move |gsi| line(gsi, KVM_IRQCHIP_IOAPIC, gsi));
    let pic =
        (0..PIC_LINES).map(move |gsi| line(gsi, if gsi < 8 { KVM_IRQCHIP_PIC_MASTER } else { KVM_IRQCHIP_PIC_SLAVE }, gsi % 8));
    apic.chain(pic)
}

fn by_message(gsi: u32, address: u64, data: u32) -> kvm_irq_routing_entry {
    let (address_lo, address_hi) = (address as u32, (address >> 32) as u32);
    let msi = kvm_irq_routing_msi { address_lo, address_hi, data, ..Default::default() };
    let u = kvm_irq_routing_entry__bindgen_ty_1 { msi };
    kvm_irq_routing_entry { gsi, type_: KVM_IRQ_ROUTING_MSI, u, ..Default::default() }
}

/// What fits into the 8 bits of an APIC's number; the last one means all.
const MOST_VCPUS: usize = 254;

/// How many virtual processors one machine may have on this host.
///
/// # Errors
/// `/dev/kvm` doesn't open.
pub fn most_vcpus() -> Result<usize> {
    Ok(open()?.get_max_vcpus().min(MOST_VCPUS))
}

fn open() -> Result<Kvm> {
    Kvm::new().map_err(failed("open /dev/kvm"))
}

/// The same event as the library's type; the kernel keeps the event itself.
fn for_kvm(event: &impl AsRawFd) -> Result<EventFd> {
    // SAFETY: the descriptor belongs to `event`, which is borrowed for as long.
    let borrowed = unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) };
    let copy = borrowed.try_clone_to_owned();
    let copy = copy.map_err(|error| Error::Kvm { what: "connect an event", cause: error.to_string() })?;
    // SAFETY: the descriptor is new, and handed over. One that is no event is refused by the kernel.
    Ok(unsafe { EventFd::from_raw_fd(copy.into_raw_fd()) })
}

/// A kernel's refusal as an error of ours.
pub(crate) fn failed(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> Error {
    move |errno| Error::Kvm { what, cause: errno.to_string() }
}
