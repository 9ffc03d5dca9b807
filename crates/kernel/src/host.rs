//! What a host offers a kernel: a handful of small traits, each with one concern.

use crate::mm::Layout;
use crate::socket::Socket;
use crate::{Errno, Kernel, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt::Debug;
use core::ops::Range;

/// All that a host offers.
#[derive(Clone)]
pub struct Host {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// The memory of all programs.
    pub memory: Arc<dyn Memory>,
    /// What programs find.
    pub machine: Machine,
    /// A network that isn't the kernel's own, if programs are to have that.
    pub network: Option<Arc<dyn Network>>,
}

/// What programs find where they are placed.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Addresses that programs may use, whole pages; the rest is the placement's.
    pub user: Range<u64>,
    /// Bytes of extended state (`XSAVE`, in its standard form); at least 512.
    pub extended: u64,
    /// What the processor can do, as programs are told it: `CPUID` 1 in `edx` (`AT_HWCAP`).
    pub capabilities: u64,
    /// More of that (`AT_HWCAP2`).
    pub capabilities2: u64,
    /// Code that reads the clocks without a call.
    pub vdso: Option<Arc<Vdso>>,
    /// Whether the old calls at an address of their own, outside of `user`, are answered without us (`[vsyscall]`).
    pub vsyscall: bool,
    /// Processors.
    pub processors: u32,
}

/// Code that each program finds, outside of [`Machine::user`], an ELF object (`AT_SYSINFO_EHDR`, vdso(7)). The placement maps it; whoever else is to read
/// it, a tracer or a call, is shown these bytes.
#[derive(Clone, Debug)]
pub struct Vdso {
    /// Where.
    pub address: u64,
    /// The bytes.
    pub code: Vec<u8>,
}

impl HostFile for Vdso {
    fn token(&self) -> u64 {
        u64::MAX
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let from = usize::try_from(at).ok().and_then(|at| self.code.get(at..)).unwrap_or_default();
        let count = from.len().min(into.len());
        into[..count].copy_from_slice(&from[..count]);
        Ok(count)
    }

    fn write_at(&self, _: u64, _: &[u8]) -> Result<usize> {
        Err(Errno::EBADF)
    }

    fn read_into(&self, _: u64, _: &[Range<u64>]) -> Result<usize> {
        Err(Errno::EIO)
    }

    fn write_from(&self, _: u64, _: &[Range<u64>]) -> Result<usize> {
        Err(Errno::EBADF)
    }

    fn size(&self) -> Result<u64> {
        Ok(self.code.len() as u64)
    }
}

/// Room that a stack may grow into, at least, and at most without its limit saying so.
const STACK_ROOM: u64 = 128 << 20;

impl Machine {
    /// The layout of an address space in which mappings begin this many bytes below where they could.
    pub fn layout(&self, random: u64) -> Layout {
        let size = self.user.end - self.user.start;
        // Above lies the stack, which itself begins up to 16 GiB below the top.
        let above = (STACK_ROOM + (16 << 30)).min(size / 8);
        let mmap_top = self.user.end - above - random % (size / 4) / insula_abi::PAGE * insula_abi::PAGE;
        Layout { low: self.user.start, high: self.user.end, mmap_top: mmap_top & !(insula_abi::PAGE - 1) }
    }
}

/// Time.
pub trait Clock: Send + Sync {
    /// Nanoseconds since some moment before the sandbox began, never set back (`CLOCK_MONOTONIC`).
    fn monotonic(&self) -> u64;

    /// Nanoseconds since 1970 (`CLOCK_REALTIME`).
    fn realtime(&self) -> u64;

    /// What another of the host's clocks says, in nanoseconds: `CLOCK_MONOTONIC_RAW` or a `CLOCK_*_COARSE`, which programs also read without
    /// asking the kernel.
    fn other(&self, id: u32) -> u64;

    /// Asks that [`Timers::expire`](crate::time::Timers::expire) be called at this moment of the monotonic clock, or soon after; a later
    /// call replaces the moment.
    fn arm(&self, at: u64);
}

/// Randomness.
pub trait Entropy: Send + Sync {
    /// Fills `buffer` with bytes that nobody can foretell.
    fn fill(&self, buffer: &mut [u8]);
}

/// The memory of all programs of a sandbox: a sparse file, whose pages are there once they are written. Programs change it at the same
/// time; what is read is what it was at some moment, byte by byte.
///
/// Offsets that the kernel passes lie within [`size`](Memory::size): it gives out all of them itself.
pub trait Memory: Send + Sync {
    /// Bytes that may be given out: those that nobody touches take none of the host's.
    fn size(&self) -> u64;

    /// Bytes of the host's that all of it may take at one time: what programs see as the machine's memory.
    fn limit(&self) -> u64 {
        self.size()
    }

    /// How many bytes more it may take now.
    fn left(&self) -> u64 {
        u64::MAX
    }

    /// Copies out of it.
    fn read(&self, at: u64, into: &mut [u8]);

    /// Copies into it.
    fn write(&self, at: u64, from: &[u8]);

    /// Copies within it; the two parts may overlap only if they are the same.
    fn copy(&self, from: u64, to: u64, len: u64);

    /// Writes zeros.
    fn zero(&self, range: Range<u64>);

    /// Reads four bytes in one piece; `at` is a multiple of four.
    fn load(&self, at: u64) -> u32;

    /// Puts `new` in place of `old` in one piece, if `old` is there; answers what was.
    fn compare_exchange(&self, at: u64, old: u32, new: u32) -> u32;

    /// A barrier on every processor that runs a program of the sandbox: what each has read and written before is so for all, membarrier(2).
    /// Whether the host can do that.
    fn order(&self) -> bool;

    /// The parts of `range`, whole pages, that take memory of the host's, in order: those that were ever touched. A host that doesn't know says
    /// that all do.
    fn present(&self, range: Range<u64>) -> Vec<Range<u64>> {
        alloc::vec![range]
    }

    /// Gives pages back to the host: they read as zeros from now on.
    fn discard(&self, range: Range<u64>);
}

/// A network that the placement stands in: TCP and UDP are its business, and so is what its sockets do.
pub trait Network: Send + Sync {
    /// A socket, without name and peer: one of `AF_INET` or `AF_INET6`, of a kind and a protocol that belong together, for a program of this user.
    ///
    /// # Errors
    /// What the placement says.
    fn socket(&self, kernel: &Arc<Kernel>, uid: u32, domain: u32, kind: u32, protocol: u32) -> Result<Arc<dyn Socket>>;
}

/// An open file of the host's, of which the kernel has a descriptor.
pub trait HostFile: Send + Sync + Debug + Any {
    /// The number by which the placement knows it (a descriptor), for mappings.
    fn token(&self) -> u64;

    /// Reads at a position; short only at the end of the file.
    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize>;

    /// Writes at a position.
    fn write_at(&self, at: u64, from: &[u8]) -> Result<usize>;

    /// Reads straight into pieces of the sandbox's [`Memory`].
    fn read_into(&self, at: u64, pieces: &[Range<u64>]) -> Result<usize>;

    /// Writes straight from pieces of the sandbox's [`Memory`].
    fn write_from(&self, at: u64, pieces: &[Range<u64>]) -> Result<usize>;

    /// Bytes in it now.
    fn size(&self) -> Result<u64>;
}

/// Reads a whole small file.
///
/// # Errors
/// What the host says.
pub fn read_all(file: &dyn HostFile, most: usize) -> Result<Vec<u8>> {
    let size = usize::try_from(file.size()?).unwrap_or(usize::MAX).min(most);
    let mut bytes = alloc::vec![0; size];
    let mut got = 0;
    while got < size {
        match file.read_at(got as u64, &mut bytes[got..])? {
            0 => break,
            more => got += more,
        }
    }
    bytes.truncate(got);
    Ok(bytes)
}
