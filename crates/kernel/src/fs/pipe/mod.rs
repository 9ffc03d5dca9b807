//! Pipes and FIFOs, pipe(7).
//!
//! A [`Pipe`] is the bytes, with a count of who may read and who may write; an [`End`] is one open file of it. Anonymous pipes are made with both
//! ends; a FIFO's inode keeps a pipe and opens ends of it, where an end that should wait for the other side says so
//! ([`File::opening`]).
//!
//! Room comes by whole pages, as on Linux: writers are told when a page is free, not of each byte that was read.

mod account;
mod pages;
mod ring;
#[cfg(test)]
mod tests;

pub use account::{Accounts, SOFT};
pub use ring::Ring;

use super::{Attributes, Description, File, FileType, Io};
use crate::flow::SysResult;
use crate::mm::UserBuf;
use crate::sync::Mutex;
use crate::task::{Credentials, Task};
use crate::wait::{Events, Observer, Pollable, Queue, Registration};
use crate::{Errno, Flow, Result};
use account::Account;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use insula_abi::general as c;
use insula_abi::{PAGE, ioctl};
use pages::Pages;

/// Writes up to this size are done at once or not at all.
pub const PIPE_BUF: usize = 4096;

/// Bytes that a pipe holds at first.
const CAPACITY: usize = 16 * PAGE as usize;

/// The most bytes a pipe may be made to hold (Linux: `fs.pipe-max-size`).
pub const MOST: usize = 1 << 20;

/// What was written and not yet read.
pub struct Pipe {
    state: Mutex<State>,
    readers: Arc<Queue>,
    writers: Arc<Queue>,
    /// Its number, for fstat(2).
    ino: u64,
}

struct State {
    ring: Ring,
    /// How what is in `ring` would lie in pages.
    pages: Pages,
    capacity: usize,
    /// Whose the capacity is.
    account: Option<Account>,
    /// Bytes that were ever read: where `ring` begins in the stream.
    start: u64,
    /// Where in the stream packets (`O_DIRECT`) lie that aren't read yet.
    packets: VecDeque<(u64, u64)>,
    readers: usize,
    writers: usize,
    /// How often each side was ever opened.
    opened: [u64; 2],
}

impl State {
    /// Pages that it may have.
    fn most(&self) -> usize {
        self.capacity / PAGE as usize
    }

    /// Bytes that go into whole pages that are free: none as long as it is full.
    fn room(&self) -> usize {
        self.pages.free(self.most())
    }

    /// Bytes that one read may take, and whether what it leaves of them is lost.
    fn next(&self) -> (usize, bool) {
        let all = self.ring.len();
        match self.packets.front() {
            None => (all, false),
            Some((start, end)) if *start <= self.start => ((end - self.start) as usize, true),
            Some((start, _)) => (all.min((start - self.start) as usize), false),
        }
    }

    /// `count` bytes were taken out of the ring, which were the next.
    fn advance(&mut self, count: usize, packet: bool) {
        self.start += count as u64;
        self.pages.take(count);
        if packet && let Some((_, end)) = self.packets.pop_front() {
            let lost = (end - self.start) as usize;
            self.ring.skip(lost);
            self.pages.take(lost);
            self.start = end;
        }
    }

    /// What is to be written counts as one packet.
    fn mark(&mut self, before: usize) {
        let end = self.start + self.ring.len() as u64;
        self.packets.push_back((self.start + before as u64, end));
    }
}

impl Pipe {
    /// An empty one, whose inode has this number.
    pub fn new(ino: u64) -> Arc<Self> {
        Self::with(ino, None)
    }

    /// The same, of a task's user, who may have only so many.
    pub fn of(task: &Task, ino: u64) -> Arc<Self> {
        let account = task.kernel().pipes.open(&task.credentials(), CAPACITY / PAGE as usize);
        Self::with(ino, Some(account))
    }

    fn with(ino: u64, account: Option<Account>) -> Arc<Self> {
        let capacity = account.as_ref().map_or(CAPACITY, |account| account.pages() * PAGE as usize);
        Arc::new(Pipe {
            state: Mutex::new(State {
                ring: Ring::default(),
                pages: Pages::default(),
                capacity,
                account,
                start: 0,
                packets: VecDeque::new(),
                readers: 0,
                writers: 0,
                opened: [0; 2],
            }),
            readers: Queue::new(),
            writers: Queue::new(),
            ino,
        })
    }

    /// The two ends of a new one: for reading, for writing.
    pub fn ends(ino: u64) -> (Arc<End>, Arc<End>) {
        Pipe::new(ino).both()
    }

    /// Its two ends: for reading, for writing.
    pub fn both(self: &Arc<Self>) -> (Arc<End>, Arc<End>) {
        (End::new(self, true, false, false), End::new(self, false, true, false))
    }

    /// Opens a FIFO, fifo(7). With neither `O_NONBLOCK` nor `O_RDWR`, [`File::opening`] says when the other side is there.
    ///
    /// # Errors
    /// `ENXIO`: for writing without waiting, and nobody reads.
    pub fn open(self: &Arc<Self>, flags: u32) -> Result<Arc<End>> {
        let (read, write) = match flags & c::O_ACCMODE {
            c::O_RDONLY => (true, false),
            c::O_WRONLY => (false, true),
            _ => (true, true),
        };
        let nonblocking = flags & c::O_NONBLOCK != 0;
        if write && !read && nonblocking && self.state.lock().readers == 0 {
            return Err(Errno::ENXIO);
        }
        Ok(End::new(self, read, write, !(nonblocking || read && write)))
    }

    /// Bytes that it holds at most.
    pub fn capacity(&self) -> usize {
        self.state.lock().capacity
    }

    /// Bytes that can be written to it now.
    ///
    /// # Errors
    /// `EPIPE`: nobody reads. `EAGAIN`: it is full.
    pub fn writable(&self) -> Result<usize> {
        let state = self.state.lock();
        match state.room() {
            _ if state.readers == 0 => Err(Errno::EPIPE),
            0 => Err(Errno::EAGAIN),
            room => Ok(room),
        }
    }

    /// Changes that (`F_SETPIPE_SZ`), rounded up as Linux does; answers what it is then.
    ///
    /// # Errors
    /// `EPERM`: more than [`MOST`], or than its user may have. `EBUSY`: more is in it. `EINVAL`.
    pub fn set_capacity(&self, bytes: u64, credentials: &Credentials) -> Result<usize> {
        if bytes > i32::MAX as u64 + 1 {
            return Err(Errno::EINVAL);
        }
        let capacity = (bytes.max(PAGE) as usize).next_power_of_two();
        if capacity > MOST {
            return Err(Errno::EPERM);
        }
        let mut state = self.state.lock();
        if state.pages.len() > capacity / PAGE as usize {
            return Err(Errno::EBUSY);
        }
        if let Some(account) = &mut state.account {
            account.change(capacity / PAGE as usize, account::is_privileged(credentials))?;
        }
        state.capacity = capacity;
        let room = state.room() > 0;
        drop(state);
        if room {
            self.writers.wake(Events::WRITABLE);
        }
        Ok(capacity)
    }

    /// Copies what would be read next, without taking it (tee(2)); answers how much, 0 at the end.
    ///
    /// # Errors
    /// `EAGAIN`: there is nothing yet.
    pub fn peek(&self, into: &mut [u8]) -> Result<usize> {
        let state = self.state.lock();
        if state.ring.is_empty() {
            return if state.writers == 0 { Ok(0) } else { Err(Errno::EAGAIN) };
        }
        let most = state.next().0.min(into.len());
        Ok(state.ring.peek(&mut into[..most]))
    }

    /// Reads by `take`, which takes up to so many bytes out of the ring.
    fn read_with(&self, take: impl FnOnce(&mut Ring, usize) -> Result<usize>) -> Result<usize> {
        let mut state = self.state.lock();
        if state.ring.is_empty() {
            return if state.writers == 0 { Ok(0) } else { Err(Errno::EAGAIN) };
        }
        let had_room = state.room() > 0;
        let (most, packet) = state.next();
        let count = take(&mut state.ring, most)?;
        state.advance(count, packet);
        let wakes = !had_room && state.room() > 0;
        drop(state);
        if wakes {
            self.writers.wake(Events::WRITABLE);
        }
        Ok(count)
    }

    /// Writes by `put`, which puts up to so many bytes into the ring, of `all` that are to be written.
    fn write_with(&self, io: &Io<'_>, all: usize, put: impl FnOnce(&mut Ring, usize) -> Result<usize>) -> Result<usize> {
        if all == 0 {
            return Ok(0);
        }
        let mut state = self.state.lock();
        if state.readers == 0 {
            drop(state);
            return Err(broken(io.task));
        }
        let packet = io.flags & c::O_DIRECT != 0;
        let most = if packet { all.min(PIPE_BUF) } else { all };
        let room = state.pages.fits(most, state.most(), packet);
        if room == 0 || (most <= PIPE_BUF && room < most) {
            return Err(Errno::EAGAIN);
        }
        let before = state.ring.len();
        let count = put(&mut state.ring, room)?;
        state.pages.put(count, most, packet);
        if packet {
            state.mark(before);
        }
        drop(state);
        self.readers.wake(Events::READABLE);
        Ok(count)
    }
}

/// Nobody reads any more: the writer gets a signal with the error, as most programs don't look at errors of writes.
fn broken(task: &Arc<Task>) -> Errno {
    crate::signal::send::broken_pipe(task)
}

/// FIFOs that somebody has open, by what tells their files apart ([`Inode::identity`](super::Inode::identity)).
#[derive(Default)]
pub struct Fifos(Mutex<BTreeMap<(u64, u64), Weak<Pipe>>>);

impl Fifos {
    /// Opens the FIFO of a file; see [`Pipe::open`].
    ///
    /// # Errors
    /// As [`Pipe::open`].
    pub fn open(&self, task: &Task, file: (u64, u64), flags: u32) -> Result<Arc<End>> {
        let mut open = self.0.lock();
        let pipe = match open.get(&file).and_then(Weak::upgrade) {
            Some(pipe) => pipe,
            None => {
                open.retain(|_, pipe| pipe.strong_count() > 0);
                let pipe = Pipe::of(task, file.1);
                open.insert(file, Arc::downgrade(&pipe));
                pipe
            }
        };
        pipe.open(flags)
    }
}

/// One open file of a pipe.
pub struct End {
    /// The pipe.
    pub pipe: Arc<Pipe>,
    read: bool,
    write: bool,
    /// How often the other side had been opened, if open(2) waits until it is once more.
    awaits: Option<u64>,
    /// How often writers had come when this end was opened: a reader is told of writers that went only if one was there.
    writers_before: Option<u64>,
}

const READ: usize = 0;
const WRITE: usize = 1;

impl End {
    fn new(pipe: &Arc<Pipe>, read: bool, write: bool, wait: bool) -> Arc<Self> {
        let mut state = pipe.state.lock();
        state.readers += usize::from(read);
        state.writers += usize::from(write);
        state.opened[READ] += u64::from(read);
        state.opened[WRITE] += u64::from(write);
        let (others, other) = if read { (state.writers, WRITE) } else { (state.readers, READ) };
        let awaits = (wait && others == 0).then_some(state.opened[other]);
        let writers_before = (read && !write && state.writers == 0).then_some(state.opened[WRITE]);
        drop(state);
        // Who waits for this side may go on.
        pipe.readers.wake(Events::all());
        pipe.writers.wake(Events::all());
        Arc::new(End { pipe: pipe.clone(), read, write, awaits, writers_before })
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut state = self.pipe.state.lock();
        state.readers -= usize::from(self.read);
        state.writers -= usize::from(self.write);
        let (no_reader, no_writer) = (state.readers == 0, state.writers == 0);
        if no_reader && no_writer {
            // A FIFO's inode stays, but not what was in it.
            state.start += state.ring.len() as u64;
            state.ring = Ring::default();
            state.pages.clear();
            state.packets.clear();
        }
        drop(state);
        if self.write && no_writer {
            self.pipe.readers.wake(Events::READABLE | Events::HUP);
        }
        if self.read && no_reader {
            self.pipe.writers.wake(Events::WRITABLE | Events::ERR);
        }
    }
}

impl Pollable for End {
    fn poll(&self) -> Events {
        let state = self.pipe.state.lock();
        let mut events = Events::empty();
        if self.read {
            if !state.ring.is_empty() {
                events |= Events::READABLE;
            }
            if state.writers == 0 && self.writers_before != Some(state.opened[WRITE]) {
                events |= Events::HUP;
            }
        }
        if self.write {
            if state.room() > 0 {
                events |= Events::OUT | Events::WRNORM;
            }
            if state.readers == 0 {
                events |= Events::ERR;
            }
        }
        events
    }

    fn observe(&self, interest: Events, observer: &Arc<dyn Observer>) -> Vec<Registration> {
        let mut registered = Vec::new();
        if self.read {
            registered.push(self.pipe.readers.register(interest, observer.clone()));
        }
        if self.write {
            registered.push(self.pipe.writers.register(interest, observer.clone()));
        }
        registered
    }
}

impl File for End {
    fn file_type(&self) -> FileType {
        FileType::Fifo
    }

    fn opening(&self) -> Result<()> {
        let other = if self.read { WRITE } else { READ };
        match self.awaits {
            Some(before) if self.pipe.state.lock().opened[other] == before => Err(Errno::EAGAIN),
            _ => Ok(()),
        }
    }

    fn read(&self, _: &Io<'_>, _: u64, buffer: &mut UserBuf) -> Result<usize> {
        if buffer.left() == 0 {
            return Ok(0);
        }
        self.pipe.read_with(|ring, most| ring.give_to(buffer, most))
    }

    fn write(&self, io: &Io<'_>, _: u64, buffer: &mut UserBuf) -> Result<usize> {
        let all = usize::try_from(buffer.left()).unwrap_or(usize::MAX);
        self.pipe.write_with(io, all, |ring, most| ring.take_from(buffer, most))
    }

    fn read_bytes(&self, _: &Io<'_>, _: u64, into: &mut [u8]) -> Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        self.pipe.read_with(|ring, most| {
            let most = most.min(into.len());
            let count = ring.peek(&mut into[..most]);
            ring.skip(count);
            Ok(count)
        })
    }

    fn write_bytes(&self, io: &Io<'_>, _: u64, from: &[u8]) -> Result<usize> {
        self.pipe.write_with(io, from.len(), |ring, most| {
            ring.push(&from[..most]);
            Ok(most)
        })
    }

    fn ioctl(&self, io: &Io<'_>, request: u32, argument: u64) -> SysResult {
        if request != ioctl::FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let count = self.pipe.state.lock().ring.len() as i32;
        io.task.mm().put(argument, &count)?;
        Ok(Flow::Done(0))
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(Attributes { mode: c::S_IFIFO | 0o600, ino: self.pipe.ino, nlink: 1, blksize: PAGE as u32, ..Attributes::default() })
    }

    fn describe(&self) -> Vec<u8> {
        format!("pipe:[{}]", self.pipe.ino).into_bytes()
    }
}

/// The pipe of an open file, if it is one.
pub fn of(description: &Description) -> Option<&Arc<Pipe>> {
    description.as_file::<End>().map(|end| &end.pipe)
}
