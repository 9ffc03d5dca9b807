//! Program files, elf(5): headers, and segments in memory. Everything in them is as hostile as the program's author wants it.

use super::find::{Found, find};
use super::{HEAD, random, read};
use crate::fs::{Description, Io};
use crate::mm::{Area, MapRequest, Mm, Place, Protection};
use crate::task::Task;
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use insula_abi::elf::{Ehdr, Phdr};
use insula_abi::elf_uapi as e;
use insula_abi::zerocopy::{FromBytes, IntoBytes};
use insula_abi::{PAGE, general as c};

/// The most bytes of program headers (Linux: `ELF_MIN_ALIGN` × 16).
const MOST_HEADERS: usize = 65536;

/// A program file, and the interpreter it asks for.
pub struct Image {
    program: File,
    interpreter: Option<File>,
    /// Its stack may be executed: its headers say so, or say nothing.
    pub executable_stack: bool,
}

/// One file.
struct File {
    file: Arc<Description>,
    header: Ehdr,
    segments: Vec<Phdr>,
}

/// Where a program lies.
pub struct Placed {
    /// Where it begins to run: in its interpreter, if it has one.
    pub start: u64,
    /// Its own first instruction (`AT_ENTRY`).
    pub entry: u64,
    /// Where its interpreter lies, or 0 (`AT_BASE`).
    pub base: u64,
    /// Its program headers in memory (`AT_PHDR`).
    pub headers: u64,
    /// How many (`AT_PHNUM`).
    pub count: u64,
}

/// Where segments have come to lie.
struct Extent {
    /// What is added to each address in the file.
    bias: u64,
    code: Range<u64>,
    data: Range<u64>,
    end: u64,
}

impl File {
    /// Reads headers.
    ///
    /// # Errors
    /// `ENOEXEC`: it isn't a program for this machine.
    fn parse(task: &Arc<Task>, file: &Arc<Description>, head: &[u8; HEAD]) -> Result<File> {
        let header = Ehdr::read_from_bytes(&head[..size_of::<Ehdr>()]).map_err(|_| Errno::ENOEXEC)?;
        let kind = u32::from(header.kind);
        let size = usize::from(header.phnum) * size_of::<Phdr>();
        let known = header.ident.starts_with(b"\x7fELF")
            && matches!(kind, e::ET_EXEC | e::ET_DYN)
            && u32::from(header.machine) == e::EM_X86_64
            && usize::from(header.phentsize) == size_of::<Phdr>()
            && (1..=MOST_HEADERS).contains(&size);
        if !known {
            return Err(Errno::ENOEXEC);
        }
        let mut segments = vec![Phdr::default(); usize::from(header.phnum)];
        let bytes = segments.as_mut_slice().as_mut_bytes();
        if read(task, file, header.phoff, bytes).ok() != Some(size) {
            return Err(Errno::ENOEXEC);
        }
        Ok(File { file: file.clone(), header, segments })
    }

    fn loads(&self) -> impl Iterator<Item = &Phdr> {
        self.segments.iter().filter(|segment| segment.kind == e::PT_LOAD)
    }

    fn is_relocatable(&self) -> bool {
        u32::from(self.header.kind) == e::ET_DYN
    }

    /// First address, and one past the last, of all segments together.
    ///
    /// # Errors
    /// `EINVAL`: there is none, or no such addresses.
    fn span(&self, high: u64) -> Result<Range<u64>> {
        let (mut first, mut last) = (u64::MAX, 0);
        for segment in self.loads() {
            let end = segment.vaddr.checked_add(segment.memsz).filter(|end| *end <= high).ok_or(Errno::EINVAL)?;
            if segment.filesz > segment.memsz {
                return Err(Errno::EINVAL);
            }
            (first, last) = (first.min(segment.vaddr & !(PAGE - 1)), last.max(end.next_multiple_of(PAGE)));
        }
        if first >= last { Err(Errno::EINVAL) } else { Ok(first..last) }
    }

    /// The largest alignment a segment asks for.
    fn alignment(&self) -> u64 {
        self.loads().map(|segment| segment.align).filter(|align| align.is_power_of_two()).max().unwrap_or(PAGE).max(PAGE)
    }

    /// Maps all segments: a relocatable file near `at`, wherever there is room if that is 0.
    fn map(&self, task: &Arc<Task>, mm: &Arc<Mm>, at: u64) -> Result<Extent> {
        let layout = mm.layout();
        let span = self.span(layout.high)?;
        let mut bias = 0;
        if self.is_relocatable() {
            let start = reserve(mm, span.end - span.start, self.alignment(), at)?;
            bias = start.wrapping_sub(span.start);
        }
        let mut extent = Extent { bias, code: 0..0, data: 0..0, end: 0 };
        for segment in self.loads() {
            let start = bias.wrapping_add(segment.vaddr);
            self.map_one(task, mm, segment, start)?;
            let (file_end, end) = (start + segment.filesz, start + segment.memsz);
            if segment.flags & e::PF_X != 0 {
                let first = if extent.code.is_empty() { start } else { extent.code.start.min(start) };
                extent.code = first..extent.code.end.max(file_end);
            }
            if start >= extent.data.start {
                extent.data = start..file_end;
            }
            extent.end = extent.end.max(end);
        }
        Ok(extent)
    }

    fn map_one(&self, task: &Arc<Task>, mm: &Arc<Mm>, segment: &Phdr, start: u64) -> Result<()> {
        let protection = protection(segment.flags);
        // Segments of a file with fixed addresses must not lie over one another; those of others replace what they overlap.
        let place = if self.is_relocatable() { Place::Replace } else { Place::Vacant };
        let page = start & !(PAGE - 1);
        let mut mapped = page;
        if segment.filesz > 0 {
            let within = start - page;
            let offset = segment.offset.checked_sub(within).filter(|offset| offset.is_multiple_of(PAGE)).ok_or(Errno::EINVAL)?;
            let len = (segment.filesz + within).next_multiple_of(PAGE);
            if offset.checked_add(len).is_none_or(|end| end > i64::MAX as u64) {
                return Err(Errno::EINVAL);
            }
            let io = Io { task, flags: c::O_RDONLY };
            let mapping = self.file.file.map(&io, false, protection.contains(Protection::WRITE))?;
            let mut area = Area::anonymous(protection);
            area.source = mapping.source;
            area.offset = mapping.base + offset;
            area.file = Some(self.file.clone());
            mm.map(MapRequest { place: place(page), len, area })?;
            mapped = page + len;
            let end = start + segment.filesz;
            if segment.memsz > segment.filesz && protection.contains(Protection::WRITE) {
                // The rest of the last page is zeros, not what comes next in the file.
                const ZEROS: [u8; PAGE as usize] = [0; PAGE as usize];
                mm.write(end, &ZEROS[..(mapped - end) as usize])?;
            }
        }
        let end = (start + segment.memsz).next_multiple_of(PAGE);
        if end > mapped {
            mm.map(MapRequest { place: place(mapped), len: end - mapped, area: Area::anonymous(protection) })?;
        }
        Ok(())
    }

    /// Where program headers lie in memory: in the segment that holds their bytes of the file.
    fn headers(&self, bias: u64) -> u64 {
        let at = self.header.phoff;
        let holds = |segment: &&Phdr| segment.offset <= at && at - segment.offset < segment.filesz;
        self.loads().find(holds).map_or(0, |segment| (at - segment.offset).wrapping_add(segment.vaddr).wrapping_add(bias))
    }
}

/// Finds room for `len` bytes.
fn reserve(mm: &Arc<Mm>, len: u64, align: u64, at: u64) -> Result<u64> {
    let room = len.checked_add(align - PAGE).ok_or(Errno::ENOMEM)?;
    let hint = at & !(align - 1);
    // Nothing of it is touched before it is given back: it only finds the place.
    let found = mm.map(MapRequest { place: Place::Hint(hint), len: room, area: Area::anonymous(Protection::empty()) })?;
    mm.unmap(found, room)?;
    Ok(found.next_multiple_of(align))
}

fn protection(flags: u32) -> Protection {
    let mut protection = Protection::empty();
    for (flag, bit) in [(e::PF_R, Protection::READ), (e::PF_W, Protection::WRITE), (e::PF_X, Protection::EXEC)] {
        if flags & flag != 0 {
            protection |= bit;
        }
    }
    protection
}

impl Image {
    /// Reads a program's headers, and those of its interpreter.
    ///
    /// # Errors
    /// `ENOEXEC`: it isn't a program for this machine. `ELIBBAD`: its interpreter isn't. Those of finding the interpreter.
    pub fn parse(task: &Arc<Task>, file: &Arc<Description>, head: &[u8; HEAD]) -> Result<Image> {
        let program = File::parse(task, file, head)?;
        let interpreter = match program.segments.iter().find(|segment| segment.kind == e::PT_INTERP) {
            Some(segment) => Some(interpreter(task, file, segment)?),
            None => None,
        };
        let stack = program.segments.iter().rfind(|segment| segment.kind == e::PT_GNU_STACK);
        // Programs for this machine that say nothing get a stack that can't be executed, since Linux 5.8.
        let executable_stack = stack.is_some_and(|segment| segment.flags & e::PF_X != 0);
        Ok(Image { program, interpreter, executable_stack })
    }

    /// Maps the program, and its interpreter.
    ///
    /// # Errors
    /// `EINVAL`, `EEXIST`, `ENOMEM`: segments can't lie as they want to.
    pub fn place(&self, task: &Arc<Task>, mm: &Arc<Mm>) -> Result<Placed> {
        let layout = mm.layout();
        // As Linux: a program that others are loaded with lies two thirds up, so that they find room above and its heap does too.
        let own = ((layout.high / 3 * 2) & !(PAGE - 1)) + random(task, 28);
        let extent = self.program.map(task, mm, own)?;
        let heap = extent.end.next_multiple_of(PAGE).saturating_add(random(task, 13));
        mm.set_heap(if heap < layout.high { heap } else { extent.end.next_multiple_of(PAGE) });
        mm.set_image(|image| {
            image.code = (extent.code.start, extent.code.end);
            image.data = (extent.data.start, extent.data.end);
        });
        let entry = self.program.header.entry.wrapping_add(extent.bias);
        let (start, base) = match &self.interpreter {
            Some(file) => {
                let extent = file.map(task, mm, 0)?;
                (file.header.entry.wrapping_add(extent.bias), extent.bias)
            }
            None => (entry, 0),
        };
        if start >= layout.high {
            return Err(Errno::EINVAL);
        }
        let count = self.program.segments.len() as u64;
        Ok(Placed { start, entry, base, headers: self.program.headers(extent.bias), count })
    }
}

/// Opens the interpreter that a segment names.
fn interpreter(task: &Arc<Task>, file: &Arc<Description>, segment: &Phdr) -> Result<File> {
    let len = usize::try_from(segment.filesz).ok().filter(|len| (2..=crate::mm::user::PATH_MAX).contains(len));
    let mut path = vec![0; len.ok_or(Errno::ENOEXEC)?];
    if read(task, file, segment.offset, &mut path)? != path.len() {
        return Err(Errno::EIO);
    }
    if path.pop() != Some(0) {
        return Err(Errno::ENOEXEC);
    }
    let path = path.split(|byte| *byte == 0).next().unwrap_or_default();
    let Found { file, .. } = find(task, c::AT_FDCWD, path, 0)?;
    let mut head = [0; HEAD];
    if read(task, &file, 0, &mut head)? < size_of::<Ehdr>() {
        return Err(Errno::EIO);
    }
    File::parse(task, &file, &head).map_err(|_| Errno::ELIBBAD)
}
