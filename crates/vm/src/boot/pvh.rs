//! What a kernel that is entered by PVH finds: a list of what there is, and a processor in 32-bit mode without paging.
//!
//! Source: Xen's `docs/misc/pvh.pandoc` (the state of the processor) and `xen/include/public/arch-x86/hvm/start_info.h` (the list).

use super::{COMMAND_LINE, FIRMWARE, MEBIBYTE, PARAMETERS, memory_map, too_small};
use crate::Result;
use crate::memory::GuestMemory;
use linux_loader::loader::elf::start_info::{hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info};
use vm_memory::{Bytes, GuestAddress};

const MAGIC: u32 = 0x336e_c578;
/// The version that tells of the memory.
const VERSION: u32 = 1;
/// Behind the list, on its page.
const MODULES: u64 = PARAMETERS + 0x40;
const MEMORY_MAP: u64 = PARAMETERS + 0x80;

/// Writes the list where [`PARAMETERS`] lie otherwise.
pub(super) fn put_start_info(memory: &GuestMemory, initrd: Option<(u64, u64)>) -> Result<()> {
    let map: Vec<_> = memory_map(memory)
        .into_iter()
        .map(|(addr, size, type_)| hvm_memmap_table_entry { addr, size, type_, reserved: 0 })
        .collect();
    let list = hvm_start_info {
        magic: MAGIC,
        version: VERSION,
        nr_modules: u32::from(initrd.is_some()),
        modlist_paddr: if initrd.is_some() { MODULES } else { 0 },
        cmdline_paddr: COMMAND_LINE,
        rsdp_paddr: FIRMWARE,
        memmap_paddr: MEMORY_MAP,
        memmap_entries: map.len() as u32,
        ..Default::default()
    };
    let put = |result: vm_memory::GuestMemoryResult<()>| result.map_err(|_| too_small("the kernel", 2 * MEBIBYTE));
    put(memory.write_obj(list, GuestAddress(PARAMETERS)))?;
    if let Some((paddr, size)) = initrd {
        put(memory.write_obj(hvm_modlist_entry { paddr, size, ..Default::default() }, GuestAddress(MODULES)))?;
    }
    for (entry, at) in map.into_iter().zip((MEMORY_MAP..).step_by(size_of::<hvm_memmap_table_entry>())) {
        put(memory.write_obj(entry, GuestAddress(at)))?;
    }
    Ok(())
}
