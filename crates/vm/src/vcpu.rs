//! A virtual processor: what it says of itself, its registers at the start, and running it.

use crate::boot::{Protocol, Start};
use crate::kvm::failed;
use crate::memory::GuestMemory;
use crate::{Error, Result};
use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_dtable, kvm_fpu, kvm_lapic_state, kvm_msr_entry, kvm_regs, kvm_segment, kvm_xcr,
    kvm_xcrs,
};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Who answers a guest's accesses to what is no memory. Called by all virtual processors at once.
pub trait Bus: Send + Sync {
    /// The guest reads a port: 1, 2 or 4 bytes.
    fn read_port(&self, port: u16, data: &mut [u8]);
    /// The guest writes a port. Whether it goes on: no longer, if it has switched itself off.
    fn write_port(&self, port: u16, data: &[u8]) -> bool;
    /// The guest reads an address where there is no memory: up to 8 bytes.
    fn read(&self, address: u64, data: &mut [u8]);
    /// The guest writes an address where there is no memory.
    fn write(&self, address: u64, data: &[u8]);
}

/// Why a virtual processor stopped running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Somebody wants it to look up: a signal came, or [`Vcpu::leave_at_once`] was asked for.
    Asked,
    /// The guest switched the machine off, or reset it, by a port.
    Off,
    /// The guest shut the machine down, or crashed so that a real one would reset (triple fault).
    Shutdown,
}

/// How often a virtual processor came back to us, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exits {
    /// Ports read and written.
    pub ports: u64,
    /// Devices' memory read and written.
    pub memory: u64,
    /// Anything else.
    pub others: u64,
}

/// The same while it runs, for others to read.
#[derive(Debug, Default)]
pub struct ExitCounter {
    ports: AtomicU64,
    memory: AtomicU64,
    others: AtomicU64,
}

impl ExitCounter {
    /// How often so far.
    pub fn read(&self) -> Exits {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Exits { ports: read(&self.ports), memory: read(&self.memory), others: read(&self.others) }
    }
}

/// Only the processor's own thread counts.
fn count(count: &AtomicU64) {
    count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// A virtual processor.
#[derive(Debug)]
pub struct Vcpu {
    fd: VcpuFd,
    /// Must outlive it: the guest that it runs reads and writes there.
    _memory: GuestMemory,
    number: u8,
    exits: Arc<ExitCounter>,
}

impl Vcpu {
    pub(crate) fn new(kvm: &Kvm, fd: VcpuFd, memory: GuestMemory, number: u8, count: u8) -> Result<Vcpu> {
        let mut cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(failed("learn what the processor can do"))?;
        describe(&mut cpuid, number, count);
        fd.set_cpuid2(&cpuid).map_err(failed("describe the processor"))?;
        enable_states(&fd, &cpuid)?;
        Ok(Vcpu { fd, _memory: memory, number, exits: Arc::default() })
    }

    /// Sets it to start at the kernel's entry, with the address of the kernel's parameters; the others wait for it to wake them.
    ///
    /// # Errors
    /// The kernel refuses a register.
    pub fn start_at(&self, start: &Start) -> Result<()> {
        self.set_model_registers()?;
        let fpu = kvm_fpu { fcw: 0x37f, mxcsr: 0x1f80, ..Default::default() };
        self.fd.set_fpu(&fpu).map_err(failed("set the floating-point registers"))?;
        let regs = kvm_regs { rflags: 2, rip: start.entry, rsp: start.stack, rbp: start.stack, ..Default::default() };
        let regs = match start.protocol {
            Protocol::Linux64 => kvm_regs { rsi: start.parameters, ..regs },
            Protocol::Pvh => kvm_regs { rbx: start.parameters, ..regs },
        };
        self.fd.set_regs(&regs).map_err(failed("set the registers"))?;
        self.set_mode(start)?;
        self.set_local_interrupts()
    }

    /// What firmware would have set. Source: Intel SDM volume 4.
    fn set_model_registers(&self) -> Result<()> {
        const MISC_ENABLE: u32 = 0x1a0;
        const MTRR_DEFAULT_TYPE: u32 = 0x2ff;
        // Fast string operations; all memory is cached, write-back.
        let entries = [(MISC_ENABLE, 1), (MTRR_DEFAULT_TYPE, 1 << 11 | 6)];
        let entries = entries.map(|(index, data)| kvm_msr_entry { index, data, ..Default::default() });
        let msrs =
            Msrs::from_entries(&entries).map_err(|error| Error::Kvm { what: "list registers", cause: format!("{error:?}") })?;
        let set = self.fd.set_msrs(&msrs).map_err(failed("set the processor's model registers"))?;
        if set != entries.len() {
            let cause = format!("register {:#x} is refused", entries[set].index);
            return Err(Error::Kvm { what: "set the processor's model registers", cause });
        }
        Ok(())
    }

    /// Linux: 64-bit mode with the page tables and segments that [`crate::boot`] has laid down. PVH: 32-bit mode without paging.
    fn set_mode(&self, start: &Start) -> Result<()> {
        const PROTECTION: u64 = 1;
        const EXTENSION_TYPE: u64 = 1 << 4;
        const PAGING: u64 = 1 << 31;
        const PHYSICAL_ADDRESS_EXTENSION: u64 = 1 << 5;
        const LONG_MODE: u64 = 1 << 8 | 1 << 10;
        let mut sregs = self.fd.get_sregs().map_err(failed("read the segment registers"))?;
        let long = start.protocol == Protocol::Linux64;
        let segment = |selector: u16, kind: u8, code: bool| kvm_segment {
            base: 0,
            limit: 0xffff_ffff,
            selector,
            type_: kind,
            present: 1,
            s: 1,
            db: u8::from(!code || !long),
            l: u8::from(code && long),
            g: 1,
            ..Default::default()
        };
        sregs.cs = segment(0x10, 0xb, true);
        for data in [&mut sregs.ds, &mut sregs.es, &mut sregs.fs, &mut sregs.gs, &mut sregs.ss] {
            *data = segment(0x18, 0x3, false);
        }
        sregs.tr = kvm_segment { selector: 0x20, type_: 0xb, present: 1, limit: 0x67, ..Default::default() };
        sregs.gdt = kvm_dtable { base: start.segments, limit: start.segments_limit, ..Default::default() };
        sregs.idt = kvm_dtable::default();
        if long {
            sregs.cr3 = start.page_tables;
            sregs.cr4 |= PHYSICAL_ADDRESS_EXTENSION;
            sregs.cr0 |= PROTECTION | PAGING;
            sregs.efer |= LONG_MODE;
        } else {
            (sregs.cr0, sregs.cr4, sregs.efer) = (PROTECTION | EXTENSION_TYPE, 0, 0);
        }
        self.fd.set_sregs(&sregs).map_err(failed("set the segment registers"))
    }

    /// The two pins of the local APIC, as firmware leaves them: one passes the PIC's interrupts on, the other non-maskable ones.
    fn set_local_interrupts(&self) -> Result<()> {
        const LINT0: usize = 0x350;
        const LINT1: usize = 0x360;
        const EXTERNAL: i8 = 7;
        const NON_MASKABLE: i8 = 4;
        let mut lapic: kvm_lapic_state = self.fd.get_lapic().map_err(failed("read the local APIC"))?;
        for (register, mode) in [(LINT0, EXTERNAL), (LINT1, NON_MASKABLE)] {
            // The delivery mode is in bits 8 to 10.
            lapic.regs[register + 1] = (lapic.regs[register + 1] & !7) | mode;
        }
        self.fd.set_lapic(&lapic).map_err(failed("set the local APIC"))
    }

    /// Its number, from 0.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// How often it came back to us so far.
    pub fn exits(&self) -> Exits {
        self.exits.read()
    }

    /// The same for as long as it runs.
    pub fn exit_counter(&self) -> Arc<ExitCounter> {
        self.exits.clone()
    }

    /// Whether the next [`Self::run`] comes back at once. A signal alone could come just before the guest is entered, and be lost.
    pub fn leave_at_once(&mut self, at_once: bool) {
        self.fd.set_kvm_immediate_exit(u8::from(at_once));
    }

    /// Runs the guest until something stops it; its accesses to devices are answered by `bus`.
    ///
    /// # Errors
    /// The processor can't run what the guest wants it to.
    pub fn run(&mut self, bus: &dyn Bus) -> Result<Stopped> {
        loop {
            match self.fd.run() {
                Ok(VcpuExit::IoIn(port, data)) => {
                    count(&self.exits.ports);
                    bus.read_port(port, data);
                }
                Ok(VcpuExit::IoOut(port, data)) => {
                    count(&self.exits.ports);
                    if !bus.write_port(port, data) {
                        return Ok(Stopped::Off);
                    }
                }
                Ok(VcpuExit::MmioRead(address, data)) => {
                    count(&self.exits.memory);
                    bus.read(address, data);
                }
                Ok(VcpuExit::MmioWrite(address, data)) => {
                    count(&self.exits.memory);
                    bus.write(address, data);
                }
                Ok(VcpuExit::Shutdown | VcpuExit::SystemEvent(..)) => return Ok(Stopped::Shutdown),
                Ok(VcpuExit::Intr) => return Ok(Stopped::Asked),
                // With the interrupt controllers in the kernel, it waits there for interrupts.
                Ok(VcpuExit::Hlt | VcpuExit::IrqWindowOpen) => count(&self.exits.others),
                Ok(exit) => {
                    let cause = format!("{exit:?}");
                    return Err(Error::Stuck { number: self.number, cause });
                }
                Err(errno) if errno.errno() == libc::EINTR => return Ok(Stopped::Asked),
                Err(errno) if errno.errno() == libc::EAGAIN => count(&self.exits.others),
                Err(errno) => return Err(Error::Stuck { number: self.number, cause: errno.to_string() }),
            }
        }
    }
}

/// Enables every state that XSAVE can keep, which the guest's kernel would do with its first look at it. A KVM that runs on an emulated processor
/// (QEMU's TCG) never hears of that instruction: there the processor would go on to say how much memory no state but the oldest needs, and
/// Linux complains of it at length in each start. Source: Intel SDM volume 1, section 13.3; KVM_SET_XCRS.
fn enable_states(fd: &VcpuFd, cpuid: &CpuId) -> Result<()> {
    const STATES: u32 = 0xd;
    let states = cpuid.as_slice().iter().find(|entry| entry.function == STATES && entry.index == 0);
    let Some(value) = states.map(|entry| u64::from(entry.edx) << 32 | u64::from(entry.eax)).filter(|value| *value != 0) else {
        return Ok(());
    };
    let mut registers = kvm_xcrs { nr_xcrs: 1, ..Default::default() };
    registers.xcrs[0] = kvm_xcr { xcr: 0, reserved: 0, value };
    fd.set_xcrs(&registers).map_err(failed("enable the processor's extended states"))
}

/// Fills in what differs from one virtual processor to the next, and what this machine hasn't. Source: Intel SDM volume 2, CPUID; AMD
/// APM volume 3, appendix E.
fn describe(cpuid: &mut CpuId, number: u8, count: u8) {
    let bits = u32::from(count).next_power_of_two().trailing_zeros();
    for entry in cpuid.as_mut_slice() {
        match entry.function {
            1 => {
                const HYPERVISOR: u32 = 1 << 31;
                const TSC_DEADLINE: u32 = 1 << 24;
                const THREADS: u32 = 1 << 28;
                entry.ecx |= HYPERVISOR | TSC_DEADLINE;
                entry.ebx = entry.ebx & 0xffff | u32::from(count) << 16 | u32::from(number) << 24;
                entry.edx = if count > 1 { entry.edx | THREADS } else { entry.edx & !THREADS };
            }
            // Cores that share caches.
            4 => entry.eax = entry.eax & !(0x3f << 26) | (u32::from(count) - 1).min(0x3f) << 26,
            // Power management and performance counters, which this machine hasn't.
            6 => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0),
            0xa => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0),
            0xb | 0x1f => {
                entry.edx = u32::from(number);
                // One thread a core; all cores in one package.
                (entry.eax, entry.ebx, entry.ecx) = match entry.index {
                    0 => (0, 1, 1 << 8),
                    1 => (bits, u32::from(count), 2 << 8 | 1),
                    index => (0, 0, index),
                };
            }
            0x8000_0008 => entry.ecx = bits << 12 | (u32::from(count) - 1),
            0x8000_001e => (entry.eax, entry.ebx, entry.ecx) = (u32::from(number), u32::from(number), 0),
            _ => {}
        }
    }
}
