//! How requests get to the host's kernel: by io_uring, all of a kick in one call; or one after the other by `preadv` and `pwritev`.

use super::disk::Disk;
use super::request::{HEADER, Job, Request, Status};
use crate::chain::slices;
use crate::error::{Result, Tried};
use insula_sys::guest;
use insula_sys::uring::{FileIndex, Operation, Ring};
use insula_vm::memory::GuestMemory;
use rustix::fd::{AsFd, AsRawFd};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::os::fd::RawFd;
use vm_memory::{GuestAddress, VolatileSlice};

/// The kernel moves no more in one call (read(2)); what is left is moved by the next.
const STEP: u32 = 1 << 30;

/// One of the two ways.
#[derive(Debug)]
pub(super) enum Engine {
    Uring {
        ring: Box<Ring>,
        /// By the number that the kernel knows them by.
        jobs: Vec<Option<Job>>,
        free: Vec<u16>,
    },
    Plain,
}

impl Engine {
    /// An engine on io_uring for as many requests as a queue holds. It is made with the device: once a guest runs, no ring can be made.
    pub(super) fn uring(size: u16, disk: &Disk) -> rustix::io::Result<Engine> {
        let files =
            disk.files().iter().map(|file| rustix::io::fcntl_dupfd_cloexec(file, 0)).collect::<rustix::io::Result<_>>()?;
        let ring = Box::new(Ring::new(size, files)?);
        Ok(Engine::Uring { ring, jobs: (0..size).map(|_| None).collect(), free: (0..size).rev().collect() })
    }

    /// There is a driver, whose requests are in this memory.
    pub(super) fn begin(&mut self, memory: &GuestMemory) -> Result<()> {
        match self {
            Engine::Uring { ring, .. } => ring.set_memory(memory.clone()).tried("start a disk whose requests are under way"),
            Engine::Plain => Ok(()),
        }
    }

    /// There is a driver no more: waits for what is under way, and forgets it.
    pub(super) fn end(&mut self) {
        let Engine::Uring { ring, jobs, free } = self else { return };
        if ring.finish().is_err() {
            // The kernel still has what it didn't finish; the ring goes with that. Plain calls do the same work.
            *self = Engine::Plain;
            return;
        }
        jobs.fill_with(|| None);
        *free = (0..jobs.len() as u16).rev().collect();
    }

    /// Readable when a request is done that was under way.
    pub(super) fn fd(&self) -> Option<RawFd> {
        match self {
            Engine::Uring { ring, .. } => Some(ring.as_fd().as_raw_fd()),
            Engine::Plain => None,
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        match self {
            Engine::Uring { ring, .. } => ring.in_flight(),
            Engine::Plain => 0,
        }
    }

    /// Starts a request; one that is done by that comes back.
    pub(super) fn start(&mut self, job: Job, memory: &GuestMemory, disk: &Disk, durable: bool) -> Option<(Job, Status)> {
        if let Request::Done { status, .. } = job.request {
            return Some((job, status));
        }
        let Engine::Uring { ring, jobs, free } = self else {
            let status = finish(&job, 0, memory, disk, durable);
            return Some((job, status));
        };
        // There are as many places as the queue has descriptors; if there were not, the plain way would do.
        let place = free.last().copied();
        if place.is_none_or(|place| push(ring, &job, disk, durable, place).is_err()) {
            let status = finish(&job, 0, memory, disk, durable);
            return Some((job, status));
        }
        if let Some(place) = free.pop() {
            jobs[usize::from(place)] = Some(job);
        }
        None
    }

    /// Hands over what was started.
    pub(super) fn submit(&mut self) -> Result<()> {
        let Engine::Uring { ring, .. } = self else { return Ok(()) };
        match ring.submit() {
            // Completions have to be taken first, and the next call hands it over.
            Err(Errno::BUSY | Errno::AGAIN | Errno::INTR) => Ok(()),
            result => result.tried("hand requests of a disk to io_uring"),
        }
    }

    pub(super) fn wait(&mut self) -> Result<()> {
        match self {
            Engine::Uring { ring, .. } => ring.wait().tried("wait for requests of a disk"),
            Engine::Plain => Ok(()),
        }
    }

    /// The next request that is done.
    pub(super) fn complete(&mut self, memory: &GuestMemory, disk: &Disk, durable: bool) -> Option<(Job, Status)> {
        let Engine::Uring { ring, jobs, free } = self else { return None };
        let (place, result) = ring.complete()?;
        let job = jobs.get_mut(place as usize)?.take()?;
        free.push(place as u16);
        let status = match (job.request, result) {
            (Request::Read { length, .. } | Request::Write { length, .. }, Ok(done)) if done < length => {
                finish(&job, done, memory, disk, durable)
            }
            // Without flushes, all that was written is on the disk.
            (Request::Zero { .. }, Ok(_)) if durable => status(rustix::fs::fdatasync(disk.cached())),
            (_, Ok(_)) => Status::Ok,
            // Again by a call: what can't be done in this way (an alignment that the kernel didn't name, a file system without ZERO_RANGE),
            // or was interrupted, may go by another. What fails, fails once more.
            (_, Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::INTR | Errno::AGAIN)) => finish(&job, 0, memory, disk, durable),
            (_, Err(_)) => Status::Error,
        };
        Some((job, status))
    }
}

fn push(ring: &mut Ring, job: &Job, disk: &Disk, durable: bool, place: u16) -> rustix::io::Result<()> {
    let id = u64::from(place);
    let allocate = |flags: FallocateFlags, offset, length| Operation::Allocate { mode: flags.bits() as i32, offset, length };
    match job.request {
        Request::Read { offset, length } => {
            let pieces = job.chain.writable().part(0, length);
            ring.push(FileIndex(disk.choose(offset, &pieces)), Operation::Read { pieces: &pieces, offset }, id)
        }
        Request::Write { offset, length } => {
            let pieces = job.chain.readable().part(HEADER, length);
            ring.push(FileIndex(disk.choose(offset, &pieces)), Operation::Write { pieces: &pieces, offset, durable }, id)
        }
        Request::Flush | Request::Done { .. } => ring.push(FileIndex(0), Operation::Sync, id),
        Request::Discard { offset, length } => ring.push(FileIndex(0), allocate(hole(), offset, length), id),
        Request::Zero { offset, length, unmap } => ring.push(FileIndex(0), allocate(zero(unmap), offset, length), id),
    }
}

fn hole() -> FallocateFlags {
    FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE
}

/// A hole reads as zeros too, but gives the space away, which is only allowed with the unmap flag (section 5.2.6.2).
fn zero(unmap: bool) -> FallocateFlags {
    if unmap { hole() } else { FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE }
}

/// Carries a request out, or what is left of it after so many bytes, by calls that return when it is done.
fn finish(job: &Job, done: u32, memory: &GuestMemory, disk: &Disk, durable: bool) -> Status {
    let result = match job.request {
        Request::Read { offset, length } => {
            let part = |from: u32| job.chain.writable().part(from, (length - from).min(STEP));
            transfer(memory, length, done, part, |pieces, slices, at| {
                guest::read_at(disk.files()[disk.choose(offset + at, pieces) as usize], slices, offset + at).or_else(|error| {
                    if error == Errno::INVAL { guest::read_at(disk.cached(), slices, offset + at) } else { Err(error) }
                })
            })
        }
        Request::Write { offset, length } => {
            let part = |from: u32| job.chain.readable().part(HEADER + from, (length - from).min(STEP));
            transfer(memory, length, done, part, |pieces, slices, at| {
                let write = |file| guest::write_at(file, slices, offset + at, durable);
                let file = disk.files()[disk.choose(offset + at, pieces) as usize];
                write(file).or_else(|error| if error == Errno::INVAL { write(disk.cached()) } else { Err(error) })
            })
        }
        Request::Flush => rustix::fs::fdatasync(disk.cached()),
        Request::Discard { offset, length } => rustix::fs::fallocate(disk.cached(), hole(), offset, length),
        Request::Zero { offset, length, unmap } => match rustix::fs::fallocate(disk.cached(), zero(unmap), offset, length) {
            Err(Errno::OPNOTSUPP) => write_zeros(disk, offset, length),
            result => result,
        }
        .and_then(|()| if durable { rustix::fs::fdatasync(disk.cached()) } else { Ok(()) }),
        Request::Done { status, .. } => return status,
    };
    status(result)
}

fn status(result: rustix::io::Result<()>) -> Status {
    match result {
        Ok(()) => Status::Ok,
        Err(Errno::OPNOTSUPP) => Status::Unsupported,
        Err(_) => Status::Error,
    }
}

/// Moves bytes until all are moved. A file that ends before they are has shrunk: an I/O error.
fn transfer(
    memory: &GuestMemory,
    length: u32,
    mut done: u32,
    part: impl Fn(u32) -> Vec<(GuestAddress, u32)>,
    step: impl Fn(&[(GuestAddress, u32)], &[VolatileSlice<'_>], u64) -> rustix::io::Result<usize>,
) -> rustix::io::Result<()> {
    while done < length {
        let pieces = part(done);
        match step(&pieces, &slices(memory, &pieces), u64::from(done)) {
            Ok(0) => return Err(Errno::IO),
            // No call moves more than it was given.
            Ok(count) => done += count as u32,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn write_zeros(disk: &Disk, offset: u64, length: u64) -> rustix::io::Result<()> {
    const ZEROS: &[u8] = &[0; 64 << 10];
    let mut done = 0;
    while done < length {
        let count = (length - done).min(ZEROS.len() as u64) as usize;
        match rustix::io::pwrite(disk.cached(), &ZEROS[..count], offset + done) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => done += count as u64,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
