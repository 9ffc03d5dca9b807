//! Puts a kernel into the guest's memory and lays down what it expects of a boot loader, so that a processor can start at its first
//! instruction: no firmware runs, and no part of the guest unpacks anything.
//!
//! There are two ways in ([`Protocol`]): Linux's own, in 64-bit mode, and PVH, which other kernels have as well.
//!
//! Source: Linux `Documentation/arch/x86/boot.rst`, "64-bit BOOT PROTOCOL"; `zero-page.rst`.

mod initrd;
mod pvh;

use crate::fill::Filling;
use crate::kernel::{Kernel, Segment};
use crate::memory::{GuestMemory, layout};
use crate::{Error, Result};
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params};
use std::fs::File;
use std::sync::Arc;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

pub use initrd::open as open_initrd;

/// Below 1 MiB, each on pages of its own.
const SEGMENTS: u64 = 0x1000;
const PARAMETERS: u64 = 0x7000;
const STACK: u64 = 0x8ff0;
const PAGE_TABLES: u64 = 0x9000;
const COMMAND_LINE: u64 = 0x2_0000;
/// The kernel reads 2048 bytes of it, and no more (`COMMAND_LINE_SIZE`).
const COMMAND_LINE_MOST: usize = 2047;
/// Where firmware's own memory begins on a PC; memory below is the kernel's.
const EXTENDED_BIOS: u64 = 0x9_fc00;
/// From here on the kernel looks for what firmware has left: see [`crate::acpi`].
pub(crate) const FIRMWARE: u64 = 0xe_0000;
const MEBIBYTE: u64 = 1 << 20;
const PAGE: u64 = 4096;

/// How a kernel is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Linux's 64-bit boot protocol.
    Linux64,
    /// PVH: in 32-bit mode, where a note in the kernel's file says.
    Pvh,
}

/// How the first processor starts.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    pub(crate) protocol: Protocol,
    pub(crate) entry: u64,
    pub(crate) parameters: u64,
    pub(crate) stack: u64,
    pub(crate) page_tables: u64,
    pub(crate) segments: u64,
    pub(crate) segments_limit: u16,
}

/// Where a kernel is entered: by the protocol that is asked for, or by Linux's own if it can be, else by PVH.
///
/// # Errors
/// The kernel has no such entry.
pub fn entry(kernel: &Kernel, asked: Option<Protocol>) -> Result<(Protocol, u64)> {
    let linux = kernel.entry.map(|entry| (Protocol::Linux64, entry));
    let pvh = kernel.pvh_entry.map(|entry| (Protocol::Pvh, u64::from(entry)));
    let (found, cause) = match asked {
        None => (linux.or(pvh), "it has no entry"),
        Some(Protocol::Linux64) => {
            (linux, "it has none of Linux's 64-bit boot protocol; leave --boot out, and it is entered by PVH")
        }
        Some(Protocol::Pvh) => {
            (pvh, "it has none of PVH (Linux: CONFIG_PVH); leave --boot out, and it is entered by Linux's protocol")
        }
    };
    found.ok_or_else(|| Error::Boot { what: "find the kernel's entry", cause: cause.into() })
}

/// Puts a kernel's command line and parameters into memory, and says what of its file and of its initial file system goes where.
///
/// # Errors
/// Memory is too small for them, the command line is too long, or the kernel can't be entered by the protocol that is asked for.
pub fn load(
    memory: &GuestMemory,
    kernel: &Kernel,
    asked: Option<Protocol>,
    initrd: Option<&Arc<File>>,
    command_line: &str,
) -> Result<(Start, Filling)> {
    let (protocol, entry) = entry(kernel, asked)?;
    // What we write ourselves, too, lies in the first piece.
    let mut filling = Filling::new(memory, vec![0, entry]);
    let mut end = MEBIBYTE;
    for segment in &kernel.segments {
        put_segment(memory, &mut filling, &kernel.file, segment)?;
        end = end.max(segment.address.saturating_add(segment.memory_size));
    }
    let initrd = initrd.map(|file| put_initrd(memory, &mut filling, file, end)).transpose()?;
    put_command_line(memory, command_line)?;
    match protocol {
        Protocol::Linux64 => put_parameters(memory, initrd, command_line)?,
        Protocol::Pvh => pvh::put_start_info(memory, initrd)?,
    }
    put_page_tables(memory)?;
    let segments_limit = put_segments(memory)?;
    let (parameters, stack, page_tables, segments) = (PARAMETERS, STACK, PAGE_TABLES, SEGMENTS);
    Ok((Start { protocol, entry, parameters, stack, page_tables, segments, segments_limit }, filling))
}

fn put_segment(memory: &GuestMemory, filling: &mut Filling, file: &Arc<File>, segment: &Segment) -> Result<()> {
    let &Segment { offset, address, file_size, memory_size } = segment;
    if memory.check_range(GuestAddress(address), memory_size as usize) {
        filling.add(file, offset, address, file_size, "read the kernel");
        return Ok(());
    }
    Err(too_small("the kernel", address.saturating_add(memory_size)))
}

/// At the end of the memory below the gap, where the kernel's own start-up needs nothing.
fn put_initrd(memory: &GuestMemory, filling: &mut Filling, file: &Arc<File>, kernel_end: u64) -> Result<(u64, u64)> {
    let what = "read the initial file system";
    let size = file.metadata().map_err(|error| Error::Boot { what, cause: error.to_string() })?.len();
    let low_end = low_end(memory);
    let address = low_end.checked_sub(size).map(|start| start / PAGE * PAGE);
    let address = address.filter(|start| *start >= kernel_end);
    let address = address.ok_or_else(|| too_small("the kernel and its initial file system", kernel_end.saturating_add(size)))?;
    filling.add(file, 0, address, size, what);
    Ok((address, size))
}

fn too_small(what: &str, need: u64) -> Error {
    let need = need.div_ceil(MEBIBYTE);
    Error::Boot {
        what: "start the guest",
        cause: format!("its memory is too small for {what}; give it more than {need} MiB (--memory)"),
    }
}

fn low_end(memory: &GuestMemory) -> u64 {
    memory.iter().next().map_or(0, GuestMemoryRegion::len)
}

fn put_command_line(memory: &GuestMemory, text: &str) -> Result<()> {
    let what = "pass the kernel its command line";
    if text.len() > COMMAND_LINE_MOST {
        let cause = format!("it has {} bytes; the kernel reads at most {COMMAND_LINE_MOST}", text.len());
        return Err(Error::Boot { what, cause });
    }
    if text.contains('\0') {
        return Err(Error::Boot { what, cause: "it has a NUL byte".into() });
    }
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    memory.write_slice(&bytes, GuestAddress(COMMAND_LINE)).map_err(|_| too_small("the kernel", 2 * MEBIBYTE))
}

/// The "zero page".
fn put_parameters(memory: &GuestMemory, initrd: Option<(u64, u64)>, command_line: &str) -> Result<()> {
    const BOOT_FLAG: u16 = 0xaa55;
    const MAGIC: u32 = 0x5372_6448;
    const UNREGISTERED_LOADER: u8 = 0xff;
    let mut parameters = boot_params::default();
    parameters.hdr.boot_flag = BOOT_FLAG;
    parameters.hdr.header = MAGIC;
    parameters.hdr.type_of_loader = UNREGISTERED_LOADER;
    parameters.hdr.kernel_alignment = MEBIBYTE as u32;
    parameters.hdr.cmd_line_ptr = COMMAND_LINE as u32;
    parameters.hdr.cmdline_size = command_line.len() as u32 + 1;
    if let Some((address, size)) = initrd {
        // Below the gap, so both fit.
        parameters.hdr.ramdisk_image = address as u32;
        parameters.hdr.ramdisk_size = size as u32;
    }
    parameters.acpi_rsdp_addr = FIRMWARE;
    for (index, (addr, size, r#type)) in memory_map(memory).into_iter().enumerate() {
        parameters.e820_table[index] = boot_e820_entry { addr, size, r#type };
        parameters.e820_entries = index as u8 + 1;
    }
    memory.write_obj(parameters, GuestAddress(PARAMETERS)).map_err(|_| too_small("the kernel", 2 * MEBIBYTE))
}

/// What of the memory is the kernel's to use: start, bytes, kind.
fn memory_map(memory: &GuestMemory) -> Vec<(u64, u64, u32)> {
    const USABLE: u32 = 1;
    const RESERVED: u32 = 2;
    let low_end = low_end(memory);
    let mut map = vec![
        (0, EXTENDED_BIOS, USABLE),
        (EXTENDED_BIOS, MEBIBYTE - EXTENDED_BIOS, RESERVED),
        (MEBIBYTE, low_end.saturating_sub(MEBIBYTE), USABLE),
    ];
    map.extend(memory.iter().skip(1).map(|region| (region.start_addr().0, region.len(), USABLE)));
    debug_assert!(low_end <= layout::GAP);
    map
}

/// The first 4 GiB where they are, in pages of 2 MiB.
fn put_page_tables(memory: &GuestMemory) -> Result<()> {
    const PRESENT_WRITABLE: u64 = 3;
    const LARGE: u64 = 1 << 7;
    let directories = PAGE_TABLES + PAGE;
    let mut tables = vec![0_u64; 512 * 6];
    tables[0] = directories | PRESENT_WRITABLE;
    for number in 0..4 {
        tables[512 + number] = (directories + PAGE * (1 + number as u64)) | PRESENT_WRITABLE;
    }
    for (number, entry) in tables[1024..].iter_mut().enumerate() {
        *entry = (number as u64) << 21 | PRESENT_WRITABLE | LARGE;
    }
    let bytes: Vec<u8> = tables.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    memory.write_slice(&bytes, GuestAddress(PAGE_TABLES)).map_err(|_| too_small("the kernel", 2 * MEBIBYTE))
}

/// The segments the boot protocol asks for: code at selector 0x10, data at 0x18; and a task state, which virtualisation wants.
/// Gives back the table's limit.
fn put_segments(memory: &GuestMemory) -> Result<u16> {
    const CODE: u64 = 0x00af_9b00_0000_ffff;
    const DATA: u64 = 0x00cf_9300_0000_ffff;
    const TASK: u64 = 0x0000_8b00_0000_0067;
    let table = [0, 0, CODE, DATA, TASK, 0];
    let bytes: Vec<u8> = table.iter().flat_map(|entry: &u64| entry.to_le_bytes()).collect();
    memory.write_slice(&bytes, GuestAddress(SEGMENTS)).map_err(|_| too_small("the kernel", 2 * MEBIBYTE))?;
    Ok(bytes.len() as u16 - 1)
}
