//! ELF files of x86-64: what of them goes where, and how they are entered.
//!
//! Source: the System V ABI, "Object Files"; for the PVH note, xen/include/public/elfnote.h.

use super::source::{Source, release as release_at, u16_at, u32_at, u64_at};
use super::{Checked, MAX_SIZE, Problem, Segment};
use memchr::memmem::Finder;

const ET_REL: u16 = 1;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const ET_CORE: u16 = 4;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_NOTE: u32 = 4;
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
/// Linux has five of them.
const MAX_HEADERS: u16 = 128;
/// Linux's notes have about 500 bytes.
const MAX_NOTES: u64 = 64 << 10;
const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;
/// No processor has more bits of a physical address.
const ADDRESS_BITS: u32 = 52;

const NEEDED: &str = "a kernel built for x86-64 is needed";
const VMLINUX: &str = "give a vmlinux or a vmlinuz (bzImage) of x86-64";

/// What a kernel's ELF file says.
#[derive(Debug)]
pub(super) struct Elf {
    pub(super) segments: Vec<Segment>,
    pub(super) entry: Option<u64>,
    pub(super) pvh_entry: Option<u32>,
}

/// A program header.
struct Part {
    kind: u32,
    offset: u64,
    virtual_address: u64,
    address: u64,
    file_size: u64,
    memory_size: u64,
    align: u64,
}

impl Part {
    fn parse(bytes: &[u8]) -> Option<Part> {
        Some(Part {
            kind: u32_at(bytes, 0)?,
            offset: u64_at(bytes, 8)?,
            virtual_address: u64_at(bytes, 16)?,
            address: u64_at(bytes, 24)?,
            file_size: u64_at(bytes, 32)?,
            memory_size: u64_at(bytes, 40)?,
            align: u64_at(bytes, 48)?,
        })
    }

    /// A segment, if it can be one.
    fn segment(&self, number: usize, size: u64) -> Checked<Segment> {
        let wrong = |what: &str| Problem::Damaged(format!("segment {number} {what}"));
        let end = self.offset.checked_add(self.file_size).filter(|end| *end <= size);
        end.ok_or_else(|| wrong("lies beyond the end of the file"))?;
        if self.file_size > self.memory_size {
            return Err(wrong("is larger in the file than in memory"));
        }
        if self.memory_size > MAX_SIZE {
            return Err(wrong("needs more than 512 MiB"));
        }
        let end = self.address.checked_add(self.memory_size).filter(|end| *end <= 1 << ADDRESS_BITS);
        end.ok_or_else(|| wrong("lies beyond any memory"))?;
        let Part { offset, address, file_size, memory_size, .. } = *self;
        Ok(Segment { offset, address, file_size, memory_size })
    }
}

/// Reads the headers and notes.
pub(super) fn parse(source: &Source) -> Checked<Elf> {
    let parts = program_headers(source)?;
    if parts.iter().any(|part| part.kind == PT_INTERP) {
        return Err(Problem::Foreign("a program for Linux".into(), VMLINUX));
    }
    let mut segments = Vec::new();
    let mut virtual_addresses = Vec::new();
    for (number, part) in parts.iter().enumerate().filter(|(_, part)| part.kind == PT_LOAD && part.memory_size > 0) {
        segments.push(part.segment(number, source.size())?);
        virtual_addresses.push(part.virtual_address);
    }
    if segments.is_empty() {
        return Err(Problem::Foreign("an ELF file with nothing to load".into(), VMLINUX));
    }
    let mut pvh_entry = None;
    for part in parts.iter().filter(|part| part.kind == PT_NOTE) {
        pvh_entry = pvh_entry.or(pvh(source, part)?);
    }
    if pvh_entry.is_some_and(|entry| !segments.iter().any(|segment| holds(segment, entry.into()))) {
        return Err(Problem::Damaged("its PVH entry lies in no segment".into()));
    }
    let entry = entry(source, &segments, &virtual_addresses, pvh_entry.is_some())?;
    Ok(Elf { segments, entry, pvh_entry })
}

fn short() -> Problem {
    Problem::Damaged("it ends within its ELF header".into())
}

/// The file's header; it is one of a kernel for x86-64.
fn header(source: &Source) -> Checked<[u8; HEADER]> {
    let mut header = [0; HEADER];
    let length = source.size().min(HEADER as u64) as usize;
    source.read(0, header.get_mut(..length).unwrap_or_default())?;
    if !header.starts_with(b"\x7fELF") {
        return Err(Problem::Damaged("what it unpacks to is no ELF file".into()));
    }
    if length < HEADER {
        return Err(short());
    }
    // Class and byte order.
    match (header[4], header[5]) {
        (2, 1) => {}
        (1, _) => return Err(Problem::Unusable("an ELF file for a 32-bit machine".into(), NEEDED)),
        (_, 2) => return Err(Problem::Unusable("an ELF file for a big-endian machine".into(), NEEDED)),
        _ => return Err(Problem::Damaged("its ELF header names no class and byte order".into())),
    }
    let (kind, machine) = u16_at(&header, 16).zip(u16_at(&header, 18)).ok_or_else(short)?;
    if machine != EM_X86_64 {
        return Err(Problem::Unusable(format!("an ELF file for {}", machine_name(machine)), NEEDED));
    }
    match kind {
        ET_EXEC | ET_DYN => Ok(header),
        ET_REL => Err(Problem::Foreign("an object file or a kernel module".into(), VMLINUX)),
        ET_CORE => Err(Problem::Foreign("a core dump".into(), VMLINUX)),
        other => Err(Problem::Damaged(format!("its ELF header names an unknown type, {other}"))),
    }
}

fn machine_name(machine: u16) -> String {
    match machine {
        3 => "32-bit x86".into(),
        21 => "64-bit PowerPC".into(),
        22 => "S/390".into(),
        40 => "32-bit ARM".into(),
        183 => "64-bit ARM".into(),
        243 => "RISC-V".into(),
        258 => "LoongArch".into(),
        other => format!("machine {other}"),
    }
}

fn program_headers(source: &Source) -> Checked<Vec<Part>> {
    let header = header(source)?;
    let offset = u64_at(&header, 32).ok_or_else(short)?;
    let (size, count) = u16_at(&header, 54).zip(u16_at(&header, 56)).ok_or_else(short)?;
    if count == 0 {
        return Err(Problem::Foreign("an ELF file with nothing to load".into(), VMLINUX));
    }
    if usize::from(size) != PROGRAM_HEADER {
        return Err(Problem::Damaged(format!("its program headers have {size} bytes instead of 56")));
    }
    if count > MAX_HEADERS {
        return Err(Problem::Damaged(format!("it has {count} program headers; {MAX_HEADERS} are the limit")));
    }
    let mut bytes = vec![0; usize::from(count) * PROGRAM_HEADER];
    let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= source.size());
    end.ok_or_else(|| Problem::Damaged("its program headers lie beyond the end of the file".into()))?;
    source.read(offset, &mut bytes)?;
    bytes.chunks_exact(PROGRAM_HEADER).map(|bytes| Part::parse(bytes).ok_or_else(short)).collect()
}

/// Whether a physical address lies in what a segment has from the file.
fn holds(segment: &Segment, address: u64) -> bool {
    address.checked_sub(segment.address).is_some_and(|into| into < segment.file_size)
}

/// Linux's header names a physical address; other kernels' name a virtual one, as for any program, or none (0). They can't be expected to
/// know Linux's protocol, unless there is no other way in.
fn entry(source: &Source, segments: &[Segment], virtual_addresses: &[u64], pvh: bool) -> Checked<Option<u64>> {
    let entry = u64_at(&header(source)?, 24).ok_or_else(short)?;
    if segments.iter().any(|segment| holds(segment, entry)) {
        return Ok(Some(entry));
    }
    let physical = |(segment, start): (&Segment, &u64)| {
        let into = entry.checked_sub(*start).filter(|into| *into < segment.file_size)?;
        segment.address.checked_add(into)
    };
    match segments.iter().zip(virtual_addresses).find_map(physical) {
        found if pvh && (found.is_some() || entry == 0) => Ok(None),
        None => Err(Problem::Damaged(format!("its entry {entry:#x} lies in no segment"))),
        found => Ok(found),
    }
}

/// The PVH entry among notes.
fn pvh(source: &Source, part: &Part) -> Checked<Option<u32>> {
    if part.file_size > MAX_NOTES {
        return Err(Problem::Damaged(format!("it has {} KiB of notes; {} are the limit", part.file_size >> 10, MAX_NOTES >> 10)));
    }
    let end = part.offset.checked_add(part.file_size).filter(|end| *end <= source.size());
    end.ok_or_else(|| Problem::Damaged("its notes lie beyond the end of the file".into()))?;
    let mut notes = vec![0; part.file_size as usize];
    source.read(part.offset, &mut notes)?;
    // Notes are padded to four bytes, unless the header says eight.
    Ok(find_pvh(&notes, if part.align == 8 { 8 } else { 4 }))
}

fn find_pvh(mut notes: &[u8], align: usize) -> Option<u32> {
    loop {
        let (name_size, value_size) = (u32_at(notes, 0)? as usize, u32_at(notes, 4)? as usize);
        let kind = u32_at(notes, 8)?;
        let value_start = name_size.checked_add(12)?.checked_next_multiple_of(align)?;
        let value = notes.get(value_start..value_start.checked_add(value_size)?)?;
        if kind == XEN_ELFNOTE_PHYS32_ENTRY && notes.get(12..12_usize.checked_add(name_size)?)? == b"Xen\0" {
            // A 64-bit kernel writes eight bytes, of which the upper four are zero.
            let entry = u64_at(value, 0).or_else(|| u32_at(value, 0).map(u64::from))?;
            return u32::try_from(entry).ok();
        }
        notes = notes.get(value_start.checked_add(value_size)?.checked_next_multiple_of(align)?..)?;
    }
}

/// The release out of the banner that `/proc/version` shows: "Linux version 6.1.0-9-amd64 (…". Only what goes to memory is searched.
pub(super) fn release(source: &Source, segments: &[Segment]) -> Checked<Option<String>> {
    const BANNER: &[u8] = b"Linux version ";
    const CHUNK: u64 = 1 << 20;
    /// What may follow the banner's start and belong to it.
    const OVERLAP: u64 = 128;
    let finder = Finder::new(BANNER);
    let mut chunk = Vec::new();
    // Overlapping segments don't make it last longer.
    let mut budget = MAX_SIZE;
    for segment in segments {
        let (mut at, end) = (segment.offset, segment.offset.saturating_add(segment.file_size));
        while at < end && budget > 0 {
            chunk.resize((end - at).min(CHUNK + OVERLAP) as usize, 0);
            source.read(at, &mut chunk)?;
            let found = finder.find_iter(&chunk).find_map(|place| release_at(chunk.get(place + BANNER.len()..)?));
            if found.is_some() {
                return Ok(found);
            }
            at = at.saturating_add(CHUNK);
            budget = budget.saturating_sub(CHUNK);
        }
    }
    Ok(None)
}
