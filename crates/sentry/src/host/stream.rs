//! Standard streams: what the launcher gave the sandbox as input, output and errors.
//!
//! The host must never make a thread of ours wait for them, as no signal of the guest's could reach it there: each is asked first
//! whether it is ready. One thread waits for all that somebody waits for.

use super::errno;
use insula_abi::general as c;
use insula_kernel::fs::{Attributes, File, FileType, Io};
use insula_kernel::mm::UserBuf;
use insula_kernel::signal::send::broken_pipe;
use insula_kernel::sync::Mutex;
use insula_kernel::tty::Tty;
use insula_kernel::wait::{Events, Observer, Pollable, Queue, Registration};
use insula_kernel::{Errno, Flow, Result, SysResult};
use rustix::event::epoll;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsRawFd, OwnedFd, RawFd};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};

/// The most that is carried at once, in bytes.
const AT_ONCE: usize = 64 << 10;

/// The most that a pipe takes without waiting once it says it is ready (pipe(7), `PIPE_BUF`).
const PIPE_BUF: usize = 4096;

/// One of the sandbox's standard streams.
pub struct Stream {
    pub(super) fd: OwnedFd,
    kind: FileType,
    queue: Arc<Queue>,
    watcher: Arc<Watcher>,
    /// Job control, if it is a terminal.
    pub(super) terminal: OnceLock<Arc<Tty>>,
}

impl Stream {
    /// Takes the descriptor over.
    ///
    /// # Errors
    /// It can't be looked at.
    pub fn new(fd: OwnedFd, watcher: &Arc<Watcher>) -> Result<Arc<Self>> {
        let stat = rustix::fs::fstat(&fd).map_err(errno)?;
        let stream = Arc::new(Stream {
            fd,
            kind: FileType::of_mode(stat.st_mode),
            queue: Queue::new(),
            watcher: watcher.clone(),
            terminal: OnceLock::new(),
        });
        watcher.add(&stream.fd, &stream.queue);
        Ok(stream)
    }

    /// How it was opened, `O_*`.
    pub fn flags(&self) -> u32 {
        rustix::fs::fcntl_getfl(&self.fd).map_or(c::O_RDWR, |flags| flags.bits())
    }

    fn ready(&self, wanted: PollFlags) -> Result<()> {
        let mut fds = [PollFd::new(&self.fd, wanted)];
        let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::io::retry_on_intr(|| poll(&mut fds, Some(&zero))).map_err(errno)?;
        if fds[0].revents().is_empty() { Err(Errno::EAGAIN) } else { Ok(()) }
    }

    /// Whoever of the host's has the same open file goes on behind what was read or written here.
    fn stand_at(&self, position: u64) {
        let _ = rustix::fs::seek(&self.fd, rustix::fs::SeekFrom::Start(position));
    }

    /// Whether reading and writing it are a matter of positions, and never wait.
    fn is_plain(&self) -> bool {
        matches!(self.kind, FileType::Regular | FileType::Block)
    }
}

/// What a descriptor is ready for, by the host's `POLL*`: the host tells only of the plain ones that were asked for.
pub(crate) fn widened(bits: u32) -> Events {
    let events = Events::from_bits_truncate(bits);
    let more = [(Events::IN, Events::READABLE), (Events::OUT, Events::WRITABLE)];
    more.iter().filter(|(one, _)| events.contains(*one)).fold(events, |all, (_, more)| all | *more)
}

/// What a descriptor is ready for now.
pub(crate) fn ready_for(fd: &OwnedFd) -> Events {
    let mut fds = [PollFd::new(fd, PollFlags::IN | PollFlags::OUT | PollFlags::PRI | PollFlags::RDHUP)];
    let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    match rustix::io::retry_on_intr(|| poll(&mut fds, Some(&zero))) {
        Ok(_) => widened(u32::from(fds[0].revents().bits())),
        Err(_) => Events::ERR,
    }
}

/// Why the host takes nothing more; if nobody reads it, the writer is told by a signal, too.
fn not_written(io: &Io<'_>, error: rustix::io::Errno) -> Errno {
    match error {
        rustix::io::Errno::PIPE => broken_pipe(io.task),
        error => errno(error),
    }
}

impl Pollable for Stream {
    fn poll(&self) -> Events {
        ready_for(&self.fd)
    }

    fn observe(&self, interest: Events, observer: &Arc<dyn Observer>) -> Vec<Registration> {
        if self.is_plain() {
            return Vec::new();
        }
        let registration = self.queue.register(interest, observer.clone());
        self.watcher.watch(&self.fd);
        vec![registration]
    }
}

impl File for Stream {
    fn file_type(&self) -> FileType {
        self.kind
    }

    fn read(&self, io: &Io<'_>, at: u64, buffer: &mut UserBuf) -> Result<usize> {
        let mut bytes = vec![0; AT_ONCE.min(usize::try_from(buffer.left()).unwrap_or(AT_ONCE))];
        if bytes.is_empty() {
            return Ok(0);
        }
        let count = if self.is_plain() {
            let count = rustix::io::retry_on_intr(|| rustix::io::pread(&self.fd, &mut *bytes, at)).map_err(errno)?;
            self.stand_at(at + count as u64);
            count
        } else {
            self.check_foreground(io.task, c::SIGTTIN)?;
            self.ready(PollFlags::IN)?;
            rustix::io::retry_on_intr(|| rustix::io::read(&self.fd, &mut *bytes)).map_err(errno)?
        };
        buffer.put(&bytes[..count])
    }

    fn write(&self, io: &Io<'_>, at: u64, buffer: &mut UserBuf) -> Result<usize> {
        let most = if self.is_plain() { AT_ONCE } else { PIPE_BUF };
        let mut bytes = vec![0; most.min(usize::try_from(buffer.left()).unwrap_or(most))];
        if bytes.is_empty() {
            return Ok(0);
        }
        if !self.is_plain() {
            self.ready(PollFlags::OUT)?;
        }
        let count = buffer.take(&mut bytes)?;
        let write = || match self.is_plain() {
            true => rustix::io::pwrite(&self.fd, &bytes[..count], at),
            false => rustix::io::write(&self.fd, &bytes[..count]),
        };
        let count = rustix::io::retry_on_intr(write).map_err(|error| not_written(io, error))?;
        if self.is_plain() {
            self.stand_at(at + count as u64);
        }
        Ok(count)
    }

    fn append(&self, io: &Io<'_>, buffer: &mut UserBuf) -> Result<(usize, u64)> {
        let mut bytes = vec![0; AT_ONCE.min(usize::try_from(buffer.left()).unwrap_or(AT_ONCE))];
        let count = buffer.take(&mut bytes)?;
        // It was opened with O_APPEND on the host, too, which then heeds no position.
        let count = rustix::io::retry_on_intr(|| rustix::io::write(&self.fd, &bytes[..count]));
        let count = count.map_err(|error| not_written(io, error))?;
        Ok((count, self.end()?))
    }

    fn end(&self) -> Result<u64> {
        rustix::fs::fstat(&self.fd).map(|stat| stat.st_size as u64).map_err(errno)
    }

    fn attributes(&self) -> Result<Attributes> {
        rustix::fs::fstat(&self.fd).map(|stat| crate::hostfs::attributes_of(&stat)).map_err(errno)
    }

    fn ioctl(&self, io: &Io<'_>, request: u32, argument: u64) -> SysResult {
        if request == insula_abi::ioctl::FIONREAD && !self.is_plain() {
            let count = rustix::io::ioctl_fionread(&self.fd).map_err(errno)?;
            return io.task.mm().put(argument, &(count as i32)).map(Flow::from);
        }
        self.terminal_request(io, request, argument)
    }

    // Output and errors are often one open file, which the caller writes to before and after us: its position is the host's.
    fn shared_position(&self) -> Option<u64> {
        self.is_plain().then(|| rustix::fs::tell(&self.fd).ok()).flatten()
    }

    fn moved(&self, position: u64) {
        if self.is_plain() {
            let _ = rustix::fs::seek(&self.fd, rustix::fs::SeekFrom::Start(position));
        }
    }

    fn sync(&self, _: bool) -> Result<()> {
        rustix::fs::fsync(&self.fd).map_err(errno)
    }

    fn describe(&self) -> Vec<u8> {
        match self.kind {
            FileType::Fifo => b"pipe:[1]".to_vec(),
            FileType::Socket => b"socket:[1]".to_vec(),
            _ => b"/dev/console".to_vec(),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.watcher.remove(&self.fd);
    }
}

/// Waits for streams and sockets of the host's on behalf of tasks.
pub struct Watcher {
    epoll: OwnedFd,
    queues: Mutex<BTreeMap<RawFd, Weak<Queue>>>,
}

impl Watcher {
    /// What it waits with; nobody does before [`serve`](Watcher::serve).
    ///
    /// # Errors
    /// The host has no room for a descriptor.
    pub fn new() -> std::io::Result<Arc<Self>> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Arc::new(Watcher { epoll, queues: Mutex::new(BTreeMap::new()) }))
    }

    /// Starts its thread.
    ///
    /// # Errors
    /// The host has no room for a thread.
    pub fn serve(self: &Arc<Self>) -> std::io::Result<()> {
        let served = self.clone();
        std::thread::Builder::new().name("streams".into()).stack_size(128 << 10).spawn(move || served.run()).map(drop)
    }

    /// Whoever is in this queue is woken when the descriptor becomes ready, once it is [watched](Watcher::watch).
    pub(crate) fn add(&self, fd: &OwnedFd, queue: &Arc<Queue>) {
        self.queues.lock().insert(fd.as_raw_fd(), Arc::downgrade(queue));
    }

    /// The descriptor is about to be closed.
    pub(crate) fn remove(&self, fd: &OwnedFd) {
        self.queues.lock().remove(&fd.as_raw_fd());
    }

    /// Asks for reports of a stream's becoming ready: one for each change, so nothing is reported again and again that nobody takes. What is
    /// always ready can't be watched, and needn't.
    pub(crate) fn watch(&self, fd: &OwnedFd) {
        let flags = epoll::EventFlags::ET | epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::OUT;
        let _ = epoll::add(&self.epoll, fd, epoll::EventData::new_u64(fd.as_raw_fd() as u64), flags);
    }

    fn run(&self) {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(8);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
            for event in &events {
                let fd = event.data.u64() as RawFd;
                let queue = self.queues.lock().get(&fd).and_then(Weak::upgrade);
                if let Some(queue) = queue {
                    queue.wake(widened({ event.flags }.bits()));
                }
            }
        }
    }
}
