//! Fills guest memory from files: what the guest needs at once before it starts, and the rest, if that can be, while it runs.
//!
//! Memory is filled in pieces of 2 MiB, each a large page. What is left when the guest starts is brought by a thread ([`Rest::bring`]): each
//! piece is read beside the guest's memory, and then takes its place at once. Until then the kernel lets whoever touches that place wait
//! (userfaultfd(2)), be it a processor of the guest's, KVM, or a device of ours. So the guest never sees a piece half filled, and no
//! instruction of it is repeated.

use crate::memory::GuestMemory;
use crate::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::collections::VecDeque;
use std::fs::File;
use std::io::ErrorKind;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryRegion, ReadVolatile, VolatileMemoryError};

/// A large page.
const LARGE: u64 = 2 << 20;

/// Part of a file that goes to one place.
#[derive(Clone, Debug)]
struct Part {
    file: Arc<File>,
    offset: u64,
    address: u64,
    length: u64,
    /// For errors.
    what: &'static str,
}

/// All that goes to one large page, in the order in which it is to be read.
#[derive(Debug)]
struct Piece {
    start: u64,
    parts: Vec<Part>,
}

/// What is to be read into guest memory.
#[derive(Debug)]
pub struct Filling {
    memory: GuestMemory,
    pieces: VecDeque<Piece>,
    /// Guest physical addresses that the guest needs at once.
    first: Vec<u64>,
}

impl Filling {
    /// Of this memory, nothing yet. The pieces with these guest physical addresses are needed at once.
    pub(crate) fn new(memory: &GuestMemory, first: Vec<u64>) -> Filling {
        Filling { memory: memory.clone(), pieces: VecDeque::new(), first }
    }

    /// Adds a part of a file; it lies in guest memory.
    pub(crate) fn add(&mut self, file: &Arc<File>, offset: u64, address: u64, length: u64, what: &'static str) {
        let end = address + length;
        let mut at = address;
        while at < end {
            let start = at / LARGE * LARGE;
            let length = (start + LARGE).min(end) - at;
            let part = Part { file: file.clone(), offset: offset + (at - address), address: at, length, what };
            match self.pieces.iter_mut().find(|piece| piece.start == start) {
                Some(piece) => piece.parts.push(part),
                None => self.pieces.push_back(Piece { start, parts: vec![part] }),
            }
            at += length;
        }
    }

    /// Reads what is needed at once, and then more for as long as it may.
    ///
    /// # Errors
    /// A file can't be read to the end it had.
    pub fn read_while(&mut self, may: impl Fn() -> bool) -> Result<()> {
        let first = |piece: &Piece| self.first.iter().any(|address| address / LARGE * LARGE == piece.start);
        self.pieces.make_contiguous().sort_by_key(|piece| (!first(piece), piece.start));
        let needed = self.pieces.iter().filter(|piece| first(piece)).count();
        for number in 0.. {
            if number >= needed && !may() {
                break;
            }
            let Some(piece) = self.pieces.pop_front() else { break };
            piece.parts.iter().try_for_each(|part| part.read_to(&self.memory))?;
        }
        Ok(())
    }

    /// What is left, to be brought while the guest runs. None if nothing is left, or this can't be done with this memory or by this user
    /// (userfaultfd(2), `/proc/sys/vm/unprivileged_userfaultfd`): then it has been read.
    ///
    /// # Errors
    /// A file can't be read to the end it had.
    pub fn rest(mut self) -> Result<Option<Rest>> {
        if self.pieces.is_empty() {
            return Ok(None);
        }
        if let Some(rest) = self.guarded() {
            return Ok(Some(rest));
        }
        self.read_while(|| true)?;
        Ok(None)
    }

    /// Has the kernel guard all places that aren't filled yet.
    fn guarded(&mut self) -> Option<Rest> {
        let places: Option<VecDeque<(Range<u64>, Piece)>> = {
            let host = |piece: &Piece| self.place(piece);
            // Checked before any is taken.
            if self.pieces.iter().any(|piece| host(piece).is_none()) {
                return None;
            }
            let places: Vec<_> = self.pieces.iter().filter_map(host).collect();
            Some(places.into_iter().zip(self.pieces.drain(..)).collect())
        };
        let pieces = places?;
        let staging = Staging::new();
        let guard = Guard::new().and_then(|guard| {
            pieces.iter().try_for_each(|(place, _)| guard.watch(place))?;
            Ok(guard)
        });
        match (guard, staging) {
            (Ok(guard), Ok(staging)) => Some(Rest { guard, staging, pieces, _memory: self.memory.clone() }),
            _ => {
                self.pieces = pieces.into_iter().map(|(_, piece)| piece).collect();
                None
            }
        }
    }

    /// Where a piece lies among our addresses, if it is a large page of private memory.
    fn place(&self, piece: &Piece) -> Option<Range<u64>> {
        let region = self.memory.find_region(GuestAddress(piece.start))?;
        let whole =
            self.memory.check_range(GuestAddress(piece.start), LARGE as usize) && piece.start + LARGE - 1 <= region.last_addr().0;
        let address = region.as_ptr() as u64 + (piece.start - region.start_addr().0);
        (whole && region.file_offset().is_none() && address.is_multiple_of(LARGE)).then_some(address..address + LARGE)
    }
}

impl Part {
    fn failed(&self, cause: String) -> Error {
        Error::Boot { what: self.what, cause }
    }

    fn shorter(&self) -> Error {
        self.failed("its file became shorter while it was read".into())
    }

    /// Straight into the guest's memory; a file that is shorter than it was is an error, not zeros.
    fn read_to(&self, memory: &GuestMemory) -> Result<()> {
        let mut space =
            memory.get_slice(GuestAddress(self.address), self.length as usize).map_err(|error| self.failed(error.to_string()))?;
        rustix::fs::seek(&*self.file, rustix::fs::SeekFrom::Start(self.offset))
            .map_err(|error| self.failed(error.to_string()))?;
        let mut file = &*self.file;
        file.read_exact_volatile(&mut space).map_err(|error| match error {
            VolatileMemoryError::IOError(error) if error.kind() == ErrorKind::UnexpectedEof => self.shorter(),
            error => self.failed(error.to_string()),
        })
    }

    fn read_into(&self, mut space: &mut [u8]) -> Result<()> {
        let mut offset = self.offset;
        while !space.is_empty() {
            match rustix::io::pread(&self.file, &mut *space, offset) {
                Ok(0) => return Err(self.shorter()),
                Ok(length) => {
                    space = &mut space[length..];
                    offset += length as u64;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(self.failed(errno.to_string())),
            }
        }
        Ok(())
    }
}

/// What is left of a [`Filling`] when the guest starts.
#[derive(Debug)]
pub struct Rest {
    // First: when it goes, nobody waits any more.
    guard: Guard,
    staging: Staging,
    pieces: VecDeque<(Range<u64>, Piece)>,
    _memory: GuestMemory,
}

impl Rest {
    /// Brings all of it, first of all what somebody waits for, until it is done or `stop` says so. If it fails, those who wait find zeros.
    ///
    /// # Errors
    /// A file can't be read to the end it had.
    pub fn bring(mut self, stop: &AtomicBool) -> Result<()> {
        // The processors start now, too. What they need first is there; so they are let go first, where there is one processor for all.
        self.guard.wait_a_moment();
        while !stop.load(Ordering::Relaxed) {
            let wanted =
                self.guard.wanted().and_then(|address| self.pieces.iter().position(|(place, _)| place.contains(&address)));
            let Some((place, piece)) = self.pieces.remove(wanted.unwrap_or(0)) else { break };
            for part in &piece.parts {
                let from = (part.address - piece.start) as usize;
                part.read_into(&mut self.staging.space()[from..from + part.length as usize])?;
            }
            let failed = |cause: std::io::Error| Error::Boot { what: "fill the guest's memory", cause: cause.to_string() };
            self.staging.move_to(place.start).map_err(failed)?;
            self.guard.wake(&place).map_err(failed)?;
        }
        Ok(())
    }
}

/// A large page beside the guest's memory, in which the next piece is put together. It is there for as long as the process.
#[derive(Debug)]
struct Staging(u64);

impl Staging {
    fn new() -> std::io::Result<Staging> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let mapped = |result: *mut libc::c_void| match result {
            libc::MAP_FAILED => Err(std::io::Error::last_os_error()),
            address => Ok(address as u64),
        };
        // SAFETY: a new mapping, where the kernel finds room. What of it isn't used stays closed, and so no neighbour of anything.
        let room = mapped(unsafe { libc::mmap(std::ptr::null_mut(), 2 * LARGE as usize, libc::PROT_NONE, flags, -1, 0) })?;
        let (address, open) = (room.next_multiple_of(LARGE), libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: the range lies in the mapping just made, which nobody knows of.
        mapped(unsafe { libc::mmap(address as *mut _, LARGE as usize, open, flags | libc::MAP_FIXED, -1, 0) })?;
        // SAFETY: the same range; the advice changes no content.
        unsafe { libc::madvise(address as *mut _, LARGE as usize, libc::MADV_HUGEPAGE) };
        Ok(Staging(address))
    }

    fn space(&mut self) -> &mut [u8] {
        // SAFETY: the range is a mapping of ours that nobody else knows of, and stays; what was moved away reads as zeros.
        unsafe { std::slice::from_raw_parts_mut(self.0 as *mut u8, LARGE as usize) }
    }

    /// Has the page take this place, whatever lies there, at once; another, empty, takes its own.
    fn move_to(&mut self, place: u64) -> std::io::Result<()> {
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
        let (from, size, to) = (self.0 as *mut libc::c_void, LARGE as usize, place as *mut libc::c_void);
        // SAFETY: no reference into the page is alive, and the place is guest memory (`Filling::place`), to which there never are
        // references; it is mapped as it was, and stays so.
        let moved = unsafe { libc::mremap(from, size, size, flags, to) };
        if moved == libc::MAP_FAILED { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Lets whoever touches a place that is watched, and empty, wait. Nobody waits any more when this goes. Source: ioctl_userfaultfd(2).
#[derive(Debug)]
struct Guard(OwnedFd);

const UFFDIO_API: u64 = 0xc018_aa3f;
const UFFDIO_REGISTER: u64 = 0xc020_aa00;
/// Whoever waits within a range looks again.
pub const UFFDIO_WAKE: u64 = 0x8010_aa02;

impl Guard {
    /// For accesses of the kernel's, too: KVM's are.
    fn new() -> std::io::Result<Guard> {
        const API: u64 = 0xaa;
        // SAFETY: no memory is read.
        let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and ours.
        let guard = Guard(unsafe { OwnedFd::from_raw_fd(fd as i32) });
        // What is wanted, features, and what can be done.
        guard.control(UFFDIO_API, &mut [API, 0, 0])?;
        Ok(guard)
    }

    fn control<const N: usize>(&self, request: u64, argument: &mut [u64; N]) -> std::io::Result<()> {
        // SAFETY: the argument has the size that the request names, and outlives the call. Ranges are guest memory, or refused.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), request as _, argument.as_mut_ptr()) };
        if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    }

    fn watch(&self, place: &Range<u64>) -> std::io::Result<()> {
        const MISSING: u64 = 1;
        self.control(UFFDIO_REGISTER, &mut [place.start, place.end - place.start, MISSING, 0])
    }

    fn wake(&self, place: &Range<u64>) -> std::io::Result<()> {
        self.control(UFFDIO_WAKE, &mut [place.start, place.end - place.start])
    }

    /// Until somebody waits, or a millisecond has passed.
    fn wait_a_moment(&self) {
        let moment = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        let _ = poll(&mut [PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN)], Some(&moment));
    }

    /// The address that somebody waits for.
    fn wanted(&self) -> Option<u64> {
        const PAGE_FAULT: u8 = 0x12;
        // `struct uffd_msg`.
        let mut message = [0_u8; 32];
        let read = rustix::io::read(&self.0, &mut message);
        let address = message[16..24].try_into().map(u64::from_ne_bytes).ok()?;
        (read == Ok(message.len()) && message[0] == PAGE_FAULT).then_some(address)
    }
}
