//! A task's memory: `maps`, `smaps`, `smaps_rollup`.

use super::process::Subject;
use crate::Result;
use crate::mm::{Area, Protection, Traits};
use crate::task::Task;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

/// Major and minor number of a device.
pub(super) const fn numbers(device: u64) -> (u64, u64) {
    (device >> 8 & 0xfff | device >> 32 & !0xfff, device & 0xff | device >> 12 & 0xfff_ff00)
}

/// The page of old calls, which can be called and not read (Linux: `vsyscall=xonly`).
const VSYSCALL: &[u8] = b"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n";

/// One line of `maps`.
fn line(range: &Range<u64>, area: &Area, reader: &Arc<Task>) -> Vec<u8> {
    let protection = area.protection;
    let letter = |flag, letter| if protection.contains(flag) { letter } else { '-' };
    let shared = if area.is_shared() { 's' } else { 'p' };
    let (mut dev, mut ino, mut name) = ((0, 0), 0, area.label.as_bytes().to_vec());
    if let Some(description) = &area.file {
        let attributes = match &description.path {
            Some(path) => path.inode().attributes(),
            None => description.file.attributes(),
        };
        if let Ok(attributes) = attributes {
            (dev, ino) = (numbers(attributes.dev), attributes.ino);
        }
        name = super::files::text_of(description, reader);
    }
    let offset = if area.file.is_some() { area.offset } else { 0 };
    let mut text = format!(
        "{:08x}-{:08x} {}{}{}{shared} {offset:08x} {:02x}:{:02x} {ino} ",
        range.start,
        range.end,
        letter(Protection::READ, 'r'),
        letter(Protection::WRITE, 'w'),
        letter(Protection::EXEC, 'x'),
        dev.0,
        dev.1,
    )
    .into_bytes();
    if !name.is_empty() {
        text.resize(text.len().max(73), b' ');
        for byte in name {
            if byte == b'\n' { text.extend_from_slice(b"\\012") } else { text.push(byte) }
        }
    }
    text.push(b'\n');
    text
}

/// `/proc/PID/maps`.
pub(super) fn maps(subject: &Subject, reader: &Arc<Task>) -> Result<Vec<u8>> {
    let areas = subject.memory(reader)?.map(|mm| mm.areas()).unwrap_or_default();
    let mut text: Vec<u8> = areas.iter().flat_map(|(range, area)| line(range, area, reader)).collect();
    if reader.kernel().host.machine.vsyscall && !areas.is_empty() {
        text.extend_from_slice(VSYSCALL);
    }
    Ok(text)
}

fn numbers_of(size: Option<u64>, resident: u64, shared: u64, locked: u64) -> String {
    let own = resident - shared;
    let mut text = String::new();
    if let Some(size) = size {
        text.push_str(&format!(
            "Size:           {:8} kB\nKernelPageSize:        4 kB\nMMUPageSize:           4 kB\n",
            size / 1024
        ));
    }
    for (name, bytes) in [
        ("Rss:", resident),
        ("Pss:", resident),
        ("Pss_Dirty:", resident),
        ("Shared_Clean:", 0),
        ("Shared_Dirty:", shared),
        ("Private_Clean:", 0),
        ("Private_Dirty:", own),
        ("Referenced:", resident),
        ("Anonymous:", own),
        ("LazyFree:", 0),
        ("AnonHugePages:", 0),
        ("ShmemPmdMapped:", 0),
        ("FilePmdMapped:", 0),
        ("Shared_Hugetlb:", 0),
        ("Private_Hugetlb:", 0),
        ("Swap:", 0),
        ("SwapPss:", 0),
        ("Locked:", locked),
    ] {
        text.push_str(&format!("{name:<16}{:8} kB\n", bytes / 1024));
    }
    text
}

/// What an area is, in words of two letters.
fn flags(area: &Area) -> String {
    let is = |flag| area.protection.contains(flag);
    let has = |flag| area.traits.contains(flag);
    let words = [
        (is(Protection::READ), "rd "),
        (is(Protection::WRITE), "wr "),
        (is(Protection::EXEC), "ex "),
        (has(Traits::SHARED) && !has(Traits::NEVER_WRITE), "sh "),
        (true, "mr "),
        (!has(Traits::NEVER_WRITE), "mw "),
        (!has(Traits::NEVER_EXEC), "me "),
        (has(Traits::SHARED), "ms "),
        (has(Traits::GROWS_DOWN), "gd "),
        (has(Traits::LOCKED), "lo "),
        (has(Traits::DONT_FORK), "dc "),
        (has(Traits::NO_RESERVE), "nr "),
        (has(Traits::WIPE_ON_FORK), "wf "),
        (has(Traits::DONT_DUMP), "dd "),
        (has(Traits::SEALED), "sl "),
    ];
    words.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect()
}

/// `/proc/PID/smaps`.
pub(super) fn smaps(subject: &Subject, reader: &Arc<Task>) -> Result<Vec<u8>> {
    let Some(mm) = subject.memory(reader)? else { return Ok(Vec::new()) };
    let mut text = Vec::new();
    for (range, area) in mm.areas() {
        text.extend(line(&range, &area, reader));
        let there = mm.resident_bytes(range.clone());
        let shared = if area.is_shared() { there } else { 0 };
        let locked = if area.traits.contains(Traits::LOCKED) { there } else { 0 };
        text.extend(numbers_of(Some(range.end - range.start), there, shared, locked).bytes());
        text.extend(format!("THPeligible:           0\nVmFlags: {}\n", flags(&area)).bytes());
    }
    Ok(text)
}

/// `/proc/PID/smaps_rollup`.
pub(super) fn rollup(subject: &Subject, reader: &Arc<Task>) -> Result<Vec<u8>> {
    let Some(mm) = subject.memory(reader)? else { return Ok(Vec::new()) };
    let areas = mm.areas();
    let (mut all, mut shared, mut locked) = (0, 0, 0);
    for (range, area) in &areas {
        let there = mm.resident_bytes(range.clone());
        all += there;
        shared += if area.is_shared() { there } else { 0 };
        locked += if area.traits.contains(Traits::LOCKED) { there } else { 0 };
    }
    let start = areas.first().map_or(0, |(range, _)| range.start);
    let end = areas.last().map_or(0, |(range, _)| range.end);
    let mut text = format!("{start:08x}-{end:08x} ---p 00000000 00:00 0 ");
    text.push_str(&" ".repeat(73usize.saturating_sub(text.len())));
    text.push_str("[rollup]\n");
    text.push_str(&numbers_of(None, all, shared, locked));
    Ok(text.into_bytes())
}
