//! io_uring for disks of guests: many reads and writes handed over by one call, straight from and to guest memory.
//! Source: io_uring(7), io_uring_enter(2).
//!
//! The kernel uses an operation's buffers until it is complete. So a [`Ring`] owns all of it: the files, a handle on the guest's memory, and
//! the list of pieces of each operation; and it isn't gone before its last operation is.
//!
//! What a ring does, no system-call filter sees. So a ring is made before the filters are there, and can do what [`Operation`] names, with
//! the files it was made with, and nothing else, whoever writes into it. Source: io_uring_register(2), `IORING_REGISTER_RESTRICTIONS`.

use io_uring::register::Restriction;
use io_uring::{IoUring, opcode, squeue, types};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, Result};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

/// One of the files that a [`Ring`] was made with, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileIndex(pub u32);

/// An operation on one of the files; offsets and lengths in bytes.
#[derive(Clone, Copy, Debug)]
pub enum Operation<'a> {
    /// Reads into these pieces of guest memory.
    Read {
        /// Where the bytes go: address and length.
        pieces: &'a [(GuestAddress, u32)],
        /// From where in the file.
        offset: u64,
    },
    /// Writes these pieces of guest memory.
    Write {
        /// Where the bytes are: address and length.
        pieces: &'a [(GuestAddress, u32)],
        /// To where in the file.
        offset: u64,
        /// It isn't complete before it is on the disk (RWF_DSYNC).
        durable: bool,
    },
    /// What was written before is brought to the disk, fdatasync(2).
    Sync,
    /// Makes or removes space, fallocate(2).
    Allocate {
        /// FALLOC_FL_*.
        mode: i32,
        /// From where.
        offset: u64,
        /// How much.
        length: u64,
    },
}

/// What an operation that isn't complete needs to stay where it is.
struct Pending {
    id: u64,
    _vectors: Box<[libc::iovec]>,
}

// SAFETY: the addresses in the vectors are only ever used by the kernel, which doesn't care for our threads.
unsafe impl Send for Pending {}

/// A ring with its files and its memory.
pub struct Ring {
    ring: IoUring,
    pending: Vec<Option<Pending>>,
    free: Vec<u32>,
    memory: GuestMemoryMmap<()>,
    files: Vec<OwnedFd>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("pending", &self.in_flight()).field("files", &self.files).finish_non_exhaustive()
    }
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

impl Ring {
    /// Makes a ring for at most `entries` operations at once on these files.
    ///
    /// # Errors
    /// The kernel has no io_uring (ENOSYS), it is forbidden (EPERM), or it is too old for restrictions (EINVAL; Linux 5.10 has them).
    pub fn new(entries: u16, files: Vec<OwnedFd>) -> Result<Ring> {
        // Without interrupting a thread that is busy (Linux 5.19): it comes to the kernel soon enough.
        let quiet = IoUring::builder().setup_r_disabled().setup_coop_taskrun().build(entries.into());
        let ring = quiet.or_else(|_| IoUring::builder().setup_r_disabled().build(entries.into()));
        let ring = ring.map_err(|error| errno(&error))?;
        let numbers: Vec<i32> = files.iter().map(AsRawFd::as_raw_fd).collect();
        ring.submitter().register_files(&numbers).map_err(|error| errno(&error))?;
        restrict(&ring).map_err(|error| errno(&error))?;
        let pending = (0..entries).map(|_| None).collect();
        Ok(Ring { ring, pending, free: (0..u32::from(entries)).rev().collect(), memory: GuestMemoryMmap::new(), files })
    }

    /// From now on, pieces are of this memory.
    ///
    /// # Errors
    /// EBUSY: operations are under way.
    pub fn set_memory(&mut self, memory: GuestMemoryMmap<()>) -> Result<()> {
        if self.in_flight() > 0 {
            return Err(Errno::BUSY);
        }
        self.memory = memory;
        Ok(())
    }

    /// Waits until nothing is under way, and forgets what came of it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn finish(&mut self) -> Result<()> {
        while self.in_flight() > 0 {
            self.wait()?;
            while self.complete().is_some() {}
        }
        Ok(())
    }

    /// The files, in the order in which they were given.
    pub fn files(&self) -> &[OwnedFd] {
        &self.files
    }

    /// How many operations aren't complete.
    pub fn in_flight(&self) -> usize {
        self.pending.len() - self.free.len()
    }

    /// Puts an operation into the ring; the kernel learns of it by [`Ring::submit`]. `id` comes back with its completion.
    ///
    /// # Errors
    /// EBUSY: as many operations as the ring takes are under way. EFAULT: a piece isn't guest memory. EINVAL: too many pieces.
    pub fn push(&mut self, file: FileIndex, operation: Operation<'_>, id: u64) -> Result<()> {
        let slot = *self.free.last().ok_or(Errno::BUSY)?;
        let vectors = self.vectors(operation)?;
        let entry = entry(types::Fixed(file.0), operation, &vectors).user_data(u64::from(slot));
        // SAFETY: the vectors are boxed and kept in `pending` until the completion; they name memory of `self.memory`, which stays mapped
        // while we hold it; the file is registered. When this ring goes, `drop` waits for the operation, or leaks all of that.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.map_err(|_| Errno::BUSY)?;
        self.free.pop();
        self.pending[slot as usize] = Some(Pending { id, _vectors: vectors });
        Ok(())
    }

    fn vectors(&self, operation: Operation<'_>) -> Result<Box<[libc::iovec]>> {
        let (Operation::Read { pieces, .. } | Operation::Write { pieces, .. }) = operation else {
            return Ok(Box::default());
        };
        if pieces.len() > crate::guest::PIECES {
            return Err(Errno::INVAL);
        }
        let vector = |&(address, length): &(GuestAddress, u32)| {
            let slice = self.memory.get_slice(address, length as usize).map_err(|_| Errno::FAULT)?;
            Ok(libc::iovec { iov_base: slice.ptr_guard_mut().as_ptr().cast(), iov_len: slice.len() })
        };
        pieces.iter().map(vector).collect()
    }

    /// Hands all that was pushed to the kernel, in one call.
    ///
    /// # Errors
    /// The kernel's. What it didn't take goes with the next call.
    pub fn submit(&mut self) -> Result<()> {
        if self.ring.submission().is_empty() {
            return Ok(());
        }
        self.ring.submit().map(drop).map_err(|error| errno(&error))
    }

    /// Waits until an operation is complete.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait(&mut self) -> Result<()> {
        match self.ring.submit_and_wait(1) {
            Err(error) if error.raw_os_error() != Some(libc::EINTR) => Err(errno(&error)),
            _ => Ok(()),
        }
    }

    /// The next operation that is complete: its `id`, and how many bytes it moved.
    pub fn complete(&mut self) -> Option<(u64, Result<u32>)> {
        let completion = self.ring.completion().next()?;
        let slot = completion.user_data();
        let pending = self.pending.get_mut(slot as usize)?.take()?;
        self.free.push(slot as u32);
        let result = completion.result();
        let result = if result < 0 { Err(Errno::from_raw_os_error(-result)) } else { Ok(result as u32) };
        Some((pending.id, result))
    }
}

fn entry(file: types::Fixed, operation: Operation<'_>, vectors: &[libc::iovec]) -> squeue::Entry {
    let (list, count) = (vectors.as_ptr(), vectors.len() as u32);
    match operation {
        Operation::Read { offset, .. } => opcode::Readv::new(file, list, count).offset(offset).build(),
        Operation::Write { offset, durable, .. } => {
            let flags = if durable { libc::RWF_DSYNC } else { 0 };
            opcode::Writev::new(file, list, count).offset(offset).rw_flags(flags as _).build()
        }
        Operation::Sync => opcode::Fsync::new(file).flags(types::FsyncFlags::DATASYNC).build(),
        Operation::Allocate { mode, offset, length } => opcode::Fallocate::new(file, length).offset(offset).mode(mode).build(),
    }
}

impl AsFd for Ring {
    /// Readable when an operation is complete.
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is the ring's and stays open as long as we do.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }
}

/// What [`entry`] makes is allowed, with files that are registered, and then nothing more can be registered.
fn restrict(ring: &IoUring) -> std::io::Result<()> {
    let calls =
        [opcode::Readv::CODE, opcode::Writev::CODE, opcode::Fsync::CODE, opcode::Fallocate::CODE].map(Restriction::sqe_op);
    let mut allowed: Vec<Restriction> = calls.into();
    allowed.push(Restriction::sqe_flags_required(squeue::Flags::FIXED_FILE.bits()));
    ring.submitter().register_restrictions(&mut allowed)?;
    ring.submitter().register_enable_rings()
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.finish().is_err() {
            // The kernel may still write there: so the memory stays for ever.
            std::mem::forget(std::mem::take(&mut self.pending));
            std::mem::forget(self.memory.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::Bytes;

    #[test]
    fn a_batch_is_done_and_errors_come_back() {
        let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x4000)]).unwrap();
        memory.write_slice(b"hello", GuestAddress(0)).unwrap();
        let file = tempfile::tempfile().unwrap();
        let Ok(mut ring) = Ring::new(2, vec![file.into()]) else {
            return eprintln!("skipped: no io_uring here");
        };
        ring.set_memory(memory.clone()).unwrap();
        let pieces = [(GuestAddress(2), 3), (GuestAddress(0), 2)];
        let file = FileIndex(0);
        ring.push(file, Operation::Write { pieces: &pieces, offset: 10, durable: true }, 7).unwrap();
        assert_eq!(ring.push(file, Operation::Read { pieces: &[(GuestAddress(0x3fff), 2)], offset: 0 }, 8), Err(Errno::FAULT));
        ring.push(file, Operation::Allocate { mode: 0x7777, offset: 0, length: 1 }, 9).unwrap();
        assert_eq!(ring.push(file, Operation::Sync, 10), Err(Errno::BUSY));
        let mut done = Vec::new();
        ring.submit().unwrap();
        assert_eq!(ring.set_memory(GuestMemoryMmap::new()), Err(Errno::BUSY));
        while done.len() < 2 {
            ring.wait().unwrap();
            done.extend(std::iter::from_fn(|| ring.complete()));
        }
        done.sort_by_key(|(id, _)| *id);
        assert_eq!(done, [(7, Ok(5)), (9, Err(Errno::OPNOTSUPP))]);
        ring.push(file, Operation::Read { pieces: &[(GuestAddress(0x100), 5)], offset: 10 }, 1).unwrap();
        drop(ring);
        let mut text = [0; 5];
        memory.read_slice(&mut text, GuestAddress(0x100)).unwrap();
        assert!(&text == b"llohe" || text == [0; 5], "done before the ring goes, or never handed over");
    }

    /// A thread that has been taken over can write entries of its own into the ring's memory.
    #[test]
    fn a_ring_does_nothing_else() {
        let (inside, outside) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let Ok(mut ring) = Ring::new(4, vec![inside.into()]) else { return eprintln!("skipped: no io_uring here") };
        let entries = [
            opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), c"/dev/null".as_ptr()).build(),
            opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).build(),
            opcode::Fsync::new(types::Fd(outside.as_raw_fd())).build(),
            opcode::Fsync::new(types::Fixed(0)).build(),
        ];
        for entry in &entries {
            // SAFETY: what the entries point to is a constant.
            unsafe { ring.ring.submission().push(entry) }.unwrap();
        }
        while ring.ring.completion().len() < entries.len() {
            ring.ring.submit_and_wait(1).unwrap();
        }
        let results: Vec<i32> = ring.ring.completion().map(|completion| completion.result()).collect();
        assert_eq!(results, [-libc::EACCES, -libc::EACCES, -libc::EACCES, 0]);
        let registered = ring.ring.submitter().register_files(&[outside.as_raw_fd()]);
        assert_eq!(registered.unwrap_err().raw_os_error(), Some(libc::EACCES));
    }
}
