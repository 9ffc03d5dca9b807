//! The tables by which the kernel finds its processors, interrupt controllers and devices. The machine is of the "hardware-reduced"
//! kind: no legacy timer, no legacy interrupt controller, nothing to be probed for.
//!
//! Source: ACPI 6.5, sections 5.2 (tables), 19 and 20 (AML).

use crate::boot::FIRMWARE;
use crate::memory::{GuestMemory, layout};
use crate::{Error, Result};
use acpi_tables::Aml;
use acpi_tables::aml;
use acpi_tables::madt::{EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic};
use acpi_tables::mcfg::MCFG;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::{GenericAddress, Sdt};
use acpi_tables::xsdt::XSDT;
use vm_memory::{Bytes, GuestAddress};

/// Writing the sleep type 5 and the "go" bit here switches the machine off.
pub const SLEEP_PORT: u16 = 0x600;
/// What is written there for that.
pub const SLEEP_OFF: u8 = 5 << 2 | 1 << 5;
/// The keyboard controller's port for commands, through which the machine is reset.
pub const RESET_PORT: u16 = 0x64;
/// The command for that.
pub const RESET: u8 = 0xfe;

const OEM: [u8; 6] = *b"INSULA";
const TABLE: [u8; 8] = *b"INSULAVM";
const LOCAL_APICS: u32 = 0xfee0_0000;
const IO_APIC: u32 = 0xfec0_0000;

/// A device that the kernel is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// A virtio device: number of its window ([`layout::DEVICES`]), and its interrupt line.
    Virtio {
        /// Which window.
        window: u32,
        /// Which line.
        line: u32,
    },
    /// PCI with one bus: its configuration space is memory, its functions lie where firmware has put them.
    Pci,
    /// A serial port at 0x3f8, on line 4.
    Serial,
    /// What the machine itself has to say ([`SHUTDOWN_REQUEST`]), on this line.
    Events {
        /// Which line.
        line: u32,
    },
}

/// "Graceful shutdown request" to the system bus, ACPI 6.5 section 6.3.5.1. Linux answers it (`acpi_sb_notify`) without a driver or a
/// program that listens for buttons: it runs /sbin/poweroff, and switches off by itself if that can't be run.
const SHUTDOWN_REQUEST: u8 = 0x81;

/// Writes the tables for so many processors and these devices.
///
/// # Errors
/// They don't fit where the kernel looks for them.
pub fn write(memory: &GuestMemory, vcpus: u8, devices: &[Device]) -> Result<()> {
    // The first table is found by its place; the others follow it.
    let mut area = Area { memory, next: FIRMWARE + Rsdp::len() as u64 };
    let dsdt = area.put(dsdt(devices).as_slice())?;
    let fadt = area.put(fadt(dsdt).as_slice())?;
    let madt = area.put_aml(&madt(vcpus))?;
    let mut xsdt = XSDT::new(OEM, TABLE, 1);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    if devices.contains(&Device::Pci) {
        let mut table = MCFG::new(OEM, TABLE, 1);
        table.add_ecam(layout::PCI_SPACE, 0, 0, 0);
        xsdt.add_entry(area.put_aml(&table)?);
    }
    let xsdt = area.put_aml(&xsdt)?;
    area.next = FIRMWARE;
    area.put_aml(&Rsdp::new(OEM, xsdt)).map(drop)
}

struct Area<'m> {
    memory: &'m GuestMemory,
    next: u64,
}

impl Area<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<u64> {
        const END: u64 = 1 << 20;
        let failed = |cause: String| Error::Boot { what: "describe the machine to the kernel", cause };
        let at = self.next;
        let after = at + bytes.len() as u64;
        if after > END {
            return Err(failed("it has too many devices".into()));
        }
        self.next = after.next_multiple_of(16);
        self.memory.write_slice(bytes, GuestAddress(at)).map_err(|error| failed(error.to_string()))?;
        Ok(at)
    }

    fn put_aml(&mut self, table: &dyn Aml) -> Result<u64> {
        let mut bytes = Vec::new();
        table.to_aml_bytes(&mut bytes);
        self.put(&bytes)
    }
}

/// What the devices are, as code for the kernel's interpreter.
fn dsdt(devices: &[Device]) -> Sdt {
    let mut code = Vec::new();
    // How to switch off: sleep type 5.
    aml::Name::new("_S5_".into(), &aml::Package::new(vec![&5_u8, &aml::ZERO])).to_aml_bytes(&mut code);
    let mut inside = Vec::new();
    for device in devices {
        describe(*device, &mut inside);
    }
    code.extend(aml::Scope::raw("_SB_".into(), inside));
    let mut table = Sdt::new(*b"DSDT", 36, 6, OEM, TABLE, 1);
    table.append_slice(&code);
    table
}

fn describe(device: Device, code: &mut Vec<u8>) {
    match device {
        Device::Virtio { window, line } => {
            let base = layout::DEVICES + u64::from(window) * layout::DEVICE_SIZE;
            let memory = aml::Memory32Fixed::new(true, base as u32, layout::DEVICE_SIZE as u32);
            let interrupt = aml::Interrupt::new(true, true, false, false, line);
            let resources = aml::ResourceTemplate::new(vec![&memory, &interrupt]);
            let name = format!("V{window:03X}");
            aml::Device::new(
                name.as_str().into(),
                vec![
                    // The ID of virtio-mmio, virtio 1.2 section 4.2.3.1.
                    &aml::Name::new("_HID".into(), &"LNRO0005"),
                    &aml::Name::new("_UID".into(), &window),
                    &aml::Name::new("_CCA".into(), &aml::ONE),
                    &aml::Name::new("_CRS".into(), &resources),
                ],
            )
            .to_aml_bytes(code);
        }
        Device::Events { line } => {
            let interrupt = aml::Interrupt::new(true, true, false, false, line);
            let request = aml::Path::new("\\_SB_");
            let request = aml::Notify::new(&request, &SHUTDOWN_REQUEST);
            aml::Device::new(
                "EVTS".into(),
                vec![
                    // The generic event device, ACPI 6.5 section 5.6.9: an interrupt that runs a method.
                    &aml::Name::new("_HID".into(), &"ACPI0013"),
                    &aml::Name::new("_UID".into(), &aml::ZERO),
                    &aml::Name::new("_CRS".into(), &aml::ResourceTemplate::new(vec![&interrupt])),
                    &aml::Method::new("_EVT".into(), 1, true, vec![&request]),
                ],
            )
            .to_aml_bytes(code);
        }
        Device::Pci => describe_pci(code),
        Device::Serial => {
            let ports = aml::IO::new(0x3f8, 0x3f8, 0, 8);
            let interrupt = aml::Interrupt::new(true, true, false, false, 4);
            let resources = aml::ResourceTemplate::new(vec![&interrupt, &ports]);
            aml::Device::new(
                "COM1".into(),
                vec![
                    &aml::Name::new("_HID".into(), &aml::EISAName::new("PNP0501")),
                    &aml::Name::new("_UID".into(), &aml::ZERO),
                    &aml::Name::new("_CRS".into(), &resources),
                ],
            )
            .to_aml_bytes(code);
        }
    }
}

/// The bus, and that its configuration space is taken: Linux believes the table (MCFG) only if a device says so, too (PCI Firmware
/// Specification 3.3, section 4.1.2). There is no interrupt line on it.
fn describe_pci(code: &mut Vec<u8>) {
    let bus = aml::AddressSpace::new_bus_number(0_u16, 0);
    let (start, end) = (layout::PCI_REGISTERS as u32, layout::PCI_END as u32 - 1);
    let window = aml::AddressSpace::new_memory(aml::AddressSpaceCacheable::NotCacheable, true, start, end, None);
    let resources = aml::ResourceTemplate::new(vec![&bus, &window]);
    aml::Device::new(
        "PCI0".into(),
        vec![
            &aml::Name::new("_HID".into(), &aml::EISAName::new("PNP0A08")),
            &aml::Name::new("_CID".into(), &aml::EISAName::new("PNP0A03")),
            &aml::Name::new("_UID".into(), &aml::ZERO),
            &aml::Name::new("_SEG".into(), &aml::ZERO),
            &aml::Name::new("_BBN".into(), &aml::ZERO),
            &aml::Name::new("_CCA".into(), &aml::ONE),
            &aml::Name::new("_CRS".into(), &resources),
        ],
    )
    .to_aml_bytes(code);
    let space = aml::Memory32Fixed::new(true, layout::PCI_SPACE as u32, layout::PCI_SPACE_SIZE as u32);
    let resources = aml::ResourceTemplate::new(vec![&space]);
    aml::Device::new(
        "MBRD".into(),
        vec![
            &aml::Name::new("_HID".into(), &aml::EISAName::new("PNP0C02")),
            &aml::Name::new("_UID".into(), &aml::ZERO),
            &aml::Name::new("_CRS".into(), &resources),
        ],
    )
    .to_aml_bytes(code);
}

/// The fixed part, ACPI 6.5 section 5.2.9; offsets are the table's there.
fn fadt(dsdt: u64) -> Sdt {
    const NO_VGA: u16 = 1 << 2;
    const NO_CLOCK: u16 = 1 << 5;
    const RESET_BY_REGISTER: u32 = 1 << 10;
    const HARDWARE_REDUCED: u32 = 1 << 20;
    let mut table = Sdt::new(*b"FACP", 276, 6, OEM, TABLE, 1);
    // No word of a keyboard controller: the kernel would wait a second for its answers. Its reset works all the same.
    table.write_u16(109, NO_VGA | NO_CLOCK);
    table.write_u32(112, RESET_BY_REGISTER | HARDWARE_REDUCED);
    table.write(116, GenericAddress::io_port_address::<u8>(RESET_PORT));
    table.write_u8(128, RESET);
    // Minor version of the table.
    table.write_u8(131, 5);
    table.write_u64(140, dsdt);
    table.write(244, GenericAddress::io_port_address::<u8>(SLEEP_PORT));
    table.write(256, GenericAddress::io_port_address::<u8>(SLEEP_PORT));
    table.write_bytes(268, &TABLE);
    table.update_checksum();
    table
}

fn madt(vcpus: u8) -> MADT {
    let mut table = MADT::new(OEM, TABLE, 1, LocalInterruptController::Address(LOCAL_APICS));
    table.add_structure(IoApic::new(0, IO_APIC, 0));
    for number in 0..vcpus {
        table.add_structure(ProcessorLocalApic::new(number, number, EnabledStatus::Enabled));
    }
    table
}
