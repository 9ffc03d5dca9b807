//! What the host offers the kernel: the traits of [`insula_kernel::host`], by system calls of the sentry's own.
//!
//! | module | holds |
//! |---|---|
//! | `clock` | time, and the thread that waits for the next alarm |
//! | `file` | files of the host's, by descriptors the gofer gave |
//! | `relay` | bytes between a terminal of the host's and one of the kernel's |
//! | `room` | how much memory there may be |
//! | `stream` | standard streams: pipes, terminals and sockets that the launcher gave |
//! | `terminal` | what programs ask of those that are terminals |

mod clock;
mod file;
mod relay;
mod room;
mod stream;
mod terminal;

pub use clock::HostClock;
pub use file::HostDescriptor;
pub use relay::{Alert, Relay};
pub use room::Room;
pub(crate) use stream::ready_for;
pub use stream::{Stream, Watcher};

use crate::platform::Memory;
use insula_kernel::{Errno, host};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// An error of the host's, as the kernel has it.
pub(crate) fn errno(errno: rustix::io::Errno) -> Errno {
    Errno(errno.raw_os_error() as u16)
}

/// Randomness, from getrandom(2).
#[derive(Debug)]
pub struct HostEntropy;

impl host::Entropy for HostEntropy {
    fn fill(&self, mut buffer: &mut [u8]) {
        while !buffer.is_empty() {
            match rustix::rand::getrandom(&mut *buffer, rustix::rand::GetRandomFlags::empty()) {
                Ok(count) => buffer = &mut buffer[count..],
                Err(rustix::io::Errno::INTR) => {}
                // A host without randomness is no place to go on.
                Err(_) => std::process::abort(),
            }
        }
    }
}

/// The platform's memory, as the kernel's. The kernel gives out all offsets itself, so none is out of range; one that is reads as zeros.
#[derive(Debug)]
pub struct HostMemory(pub Arc<Memory>, pub Arc<Room>);

impl host::Memory for HostMemory {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn limit(&self) -> u64 {
        self.1.limit()
    }

    fn left(&self) -> u64 {
        self.1.left()
    }

    fn read(&self, at: u64, into: &mut [u8]) {
        if self.0.read(at, into).is_err() {
            into.fill(0);
        }
    }

    fn write(&self, at: u64, from: &[u8]) {
        let _ = self.0.write(at, from);
    }

    fn copy(&self, from: u64, to: u64, len: u64) {
        let _ = self.0.copy_within(from, to, len);
    }

    fn zero(&self, range: Range<u64>) {
        let _ = self.0.zero(range);
    }

    fn load(&self, at: u64) -> u32 {
        self.0.atomic_u32(at).map_or(0, |word| word.load(Ordering::SeqCst))
    }

    fn compare_exchange(&self, at: u64, old: u32, new: u32) -> u32 {
        let Ok(word) = self.0.atomic_u32(at) else { return !old };
        word.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).unwrap_or_else(|found| found)
    }

    fn order(&self) -> bool {
        self.0.order()
    }

    fn present(&self, range: Range<u64>) -> Vec<Range<u64>> {
        self.0.present(range)
    }

    fn discard(&self, range: Range<u64>) {
        if self.0.discard(range.clone()).is_err() {
            // What can't be given back must still read as zeros for who gets it next.
            let _ = self.0.zero(range);
        }
    }
}
