//! The sockets between two of our processes, as the asker has them: a message there, and one back.

use crate::socket;
use crate::wire::{Malformed, Reader, Writer};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// An errno as answers have it; 0 is none.
pub(crate) fn errno(number: u16) -> Option<Errno> {
    match number {
        0 => None,
        // The kernel has no others.
        1..4096 => Some(Errno::from_raw_os_error(number.into())),
        _ => Some(Errno::IO),
    }
}

/// One socket, and room for a message on it.
#[derive(Debug)]
struct Line(Mutex<End>);

#[derive(Debug)]
struct End {
    socket: OwnedFd,
    buffer: Box<[u8]>,
}

/// All sockets. Behind each is a thread of the other's, which runs on the processors that have this line; the last is anybody's.
///
/// To wake a thread on another processor takes several times as long as everything else.
#[derive(Debug)]
pub(crate) struct Lines {
    lines: Vec<Line>,
    /// By the processor's number.
    of_processor: Vec<u8>,
    lost: AtomicBool,
}

impl Lines {
    pub(crate) fn new(sockets: Vec<OwnedFd>, of_processor: Vec<u8>) -> Lines {
        let line = |socket| Line(Mutex::new(End { socket, buffer: socket::buffer() }));
        Lines { lines: sockets.into_iter().map(line).collect(), of_processor, lost: AtomicBool::new(false) }
    }

    /// The sockets themselves.
    pub(crate) fn into_sockets(self) -> Vec<OwnedFd> {
        self.lines.into_iter().map(|line| line.0.into_inner().unwrap_or_else(PoisonError::into_inner).socket).collect()
    }

    /// Whether the other end has ended or has answered nonsense.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// The line of this processor if it is free, else the one that is anybody's if that is, else this processor's when it is free.
    fn line(&self) -> Result<MutexGuard<'_, End>, Errno> {
        let index = self.of_processor.get(rustix::thread::sched_getcpu()).copied().unwrap_or(0);
        let nearest = self.lines.get(usize::from(index)).ok_or(Errno::IO)?;
        let spare = self.lines.last().ok_or(Errno::IO)?;
        for line in [nearest, spare] {
            match line.0.try_lock() {
                Ok(end) => return Ok(end),
                Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        Ok(nearest.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks, with a descriptor beside the question if there is one, waits, and reads the answer.
    ///
    /// # Errors
    /// What the other end answers; `E2BIG`: the question is too long; `EIO`: nobody is there any more.
    pub(crate) fn ask<T>(
        &self,
        write: impl FnOnce(&mut Writer<'_>),
        along: Option<BorrowedFd<'_>>,
        read: impl FnOnce(&mut Reader<'_>, &mut Option<OwnedFd>) -> Result<T, Malformed>,
    ) -> Result<T, Errno> {
        if self.is_lost() {
            return Err(Errno::IO);
        }
        let mut end = self.line()?;
        let End { socket, buffer } = &mut *end;
        self.send(socket, buffer, write, along)?;
        let (length, mut descriptor) = socket::receive_with_descriptor(&*socket, buffer).map_err(|_| self.lose())?;
        let mut answer = Reader::new(buffer.get(..length).unwrap_or_default());
        if length == 0 {
            return Err(self.lose());
        }
        if let Some(errno) = errno(answer.get().map_err(|_| self.lose())?) {
            return Err(errno);
        }
        let value = read(&mut answer, &mut descriptor).map_err(|_| self.lose())?;
        answer.end().map_err(|_| self.lose())?;
        Ok(value)
    }

    /// Says what has no answer.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub(crate) fn tell(&self, write: impl FnOnce(&mut Writer<'_>)) -> Result<(), Errno> {
        if self.is_lost() {
            return Err(Errno::IO);
        }
        let mut end = self.line()?;
        let End { socket, buffer } = &mut *end;
        self.send(socket, buffer, write, None)
    }

    fn send(
        &self,
        socket: &OwnedFd,
        buffer: &mut [u8],
        write: impl FnOnce(&mut Writer<'_>),
        along: Option<BorrowedFd<'_>>,
    ) -> Result<(), Errno> {
        let mut out = Writer::new(buffer);
        write(&mut out);
        let message = out.finish().and_then(|length| buffer.get(..length)).ok_or(Errno::TOOBIG)?;
        socket::send(socket, message, along).map_err(|errno| match errno {
            // Too many descriptors are on their way: nothing was sent.
            Errno::TOOMANYREFS | Errno::NOBUFS | Errno::NOMEM => errno,
            _ => self.lose(),
        })
    }

    /// Nothing more can be had from there.
    fn lose(&self) -> Errno {
        self.lost.store(true, Ordering::Relaxed);
        Errno::IO
    }
}
