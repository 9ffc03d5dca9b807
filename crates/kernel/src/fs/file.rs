//! Open files.

use super::dnotify::Dnotify;
use super::inode::FileType;
use super::locks::{self, Class, Locks};
use super::sigio::{Asynchronous, Owner};
use super::tree::ContentsHold;
use super::{Attributes, Path, notify};
use crate::flow::SysResult;
use crate::mm::{Source, UserBuf};
use crate::signal;
use crate::sync::{Mutex, MutexGuard};
use crate::task::Task;
use crate::wait::{Events, Observer, Pollable, Registration};
use crate::{Errno, Flow, Kernel, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};
use insula_abi::general as c;
use insula_abi::signal::Siginfo;

/// Who reads or writes, and how the file was opened.
pub struct Io<'a> {
    /// The task.
    pub task: &'a Arc<Task>,
    /// The open file's `O_*`.
    pub flags: u32,
}

/// What an area shows that maps a file.
pub struct Mapping {
    /// Where its contents come from.
    pub source: Source,
    /// Where in `source` the file's first byte is.
    pub base: u64,
}

/// Cuts a write to a regular file at `at` to what the process may write (`RLIMIT_FSIZE`).
///
/// # Errors
/// `EFBIG`: nothing of it; then the task is sent `SIGXFSZ`, too.
pub fn limit_size(io: &Io<'_>, at: u64, buffer: &mut UserBuf) -> Result<()> {
    buffer.truncate(room(io, at)?);
    Ok(())
}

/// How many bytes the process may write to a regular file at `at` (`RLIMIT_FSIZE`).
///
/// # Errors
/// Those of [`limit_size`].
pub fn room(io: &Io<'_>, at: u64) -> Result<u64> {
    limit(io.task, at.saturating_add(1))?;
    Ok(io.task.process.limit(c::RLIMIT_FSIZE).min(i64::MAX as u64) - at)
}

/// Whether the process may make a regular file so large (`RLIMIT_FSIZE`).
///
/// # Errors
/// Those of [`limit_size`].
pub fn limit(task: &Arc<Task>, size: u64) -> Result<()> {
    let limit = task.process.limit(c::RLIMIT_FSIZE);
    if size <= limit.min(i64::MAX as u64) {
        return Ok(());
    }
    if limit <= i64::MAX as u64 {
        let info = Siginfo::sent(c::SIGXFSZ as i32, c::SI_USER as i32, task.process.pid, task.credentials().uid.real);
        // It is told by the error as well.
        let _ = signal::send::send(signal::Target::Task(task), info);
    }
    Err(Errno::EFBIG)
}

/// Takes a directory's entries one by one: name, number of the file, kind, and the position behind it; answers whether it wants more.
pub type EachEntry<'a> = dyn FnMut(&[u8], u64, FileType, u64) -> bool + 'a;

/// What can be done with an open file. Operations finish at once; one that would block says `EAGAIN`, and who calls waits for
/// [`Pollable`] to say otherwise.
#[allow(unused_variables)]
pub trait File: Pollable + Any {
    /// Its kind.
    fn file_type(&self) -> FileType;

    /// Whether open(2) of it is over: `EAGAIN` while it waits for somebody else to open it, too (fifo(7)).
    fn opening(&self) -> Result<()> {
        Ok(())
    }

    /// Whether epoll(7) can watch it.
    fn can_be_watched(&self) -> bool {
        !matches!(self.file_type(), FileType::Regular | FileType::Directory | FileType::Block | FileType::Symlink)
    }

    /// Whether it has a position, and can be read anywhere.
    fn is_seekable(&self) -> bool {
        matches!(self.file_type(), FileType::Regular | FileType::Block)
    }

    /// Whether lseek(2) leaves it where it is, at 0, wherever it is sent (`/dev/null`).
    fn stays_at_start(&self) -> bool {
        false
    }

    /// Reads from `at` on (of no meaning where there are no positions) into `buffer`; 0 is the end.
    fn read(&self, io: &Io<'_>, at: u64, buffer: &mut UserBuf) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    /// Writes to `at` on from `buffer`.
    fn write(&self, io: &Io<'_>, at: u64, buffer: &mut UserBuf) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    /// Writes at the end, and answers also where that was, past what was written.
    fn append(&self, io: &Io<'_>, buffer: &mut UserBuf) -> Result<(usize, u64)> {
        Ok((self.write(io, 0, buffer)?, 0))
    }

    /// Reads into a buffer of the kernel's: for `execve`, `sendfile`, and others that carry bytes themselves.
    fn read_bytes(&self, io: &Io<'_>, at: u64, into: &mut [u8]) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    /// Writes from a buffer of the kernel's.
    fn write_bytes(&self, io: &Io<'_>, at: u64, from: &[u8]) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    /// Where its end is, for `SEEK_END`.
    fn end(&self) -> Result<u64> {
        Err(Errno::ESPIPE)
    }

    /// `SEEK_DATA` and `SEEK_HOLE`: by default all is data.
    fn seek_data(&self, from: u64, hole: bool) -> Result<u64> {
        let end = self.end()?;
        if from >= end { Err(Errno::ENXIO) } else { Ok(if hole { end } else { from }) }
    }

    /// Directory entries from the position `at` on, 0 being the first, without `.` and `..`: calls `each` until it answers `false`.
    fn entries(&self, io: &Io<'_>, at: u64, each: &mut EachEntry<'_>) -> Result<()> {
        Err(Errno::ENOTDIR)
    }

    /// ioctl(2), beside what all files know.
    fn ioctl(&self, io: &Io<'_>, request: u32, argument: u64) -> SysResult {
        Err(Errno::ENOTTY)
    }

    /// What mmap(2) of it shows.
    fn map(&self, io: &Io<'_>, shared: bool, write: bool) -> Result<Mapping> {
        Err(Errno::ENODEV)
    }

    /// Makes what was written permanent.
    fn sync(&self, data_only: bool) -> Result<()> {
        Err(Errno::EINVAL)
    }

    /// fallocate(2), `FALLOC_FL_*`.
    fn allocate(&self, mode: u32, at: u64, len: u64) -> Result<()> {
        Err(Errno::ENODEV)
    }

    /// `F_GET_SEALS` of fcntl(2).
    fn seals(&self) -> Result<u32> {
        Err(Errno::EINVAL)
    }

    /// `F_ADD_SEALS` of fcntl(2).
    fn add_seals(&self, seals: u32) -> Result<()> {
        Err(Errno::EINVAL)
    }

    /// ftruncate(2), where the file has no inode in the tree.
    fn resize(&self, size: u64) -> Result<()> {
        Err(Errno::EINVAL)
    }

    /// fstat(2), where the file has no inode in the tree.
    fn attributes(&self) -> Result<Attributes> {
        Ok(Attributes { mode: self.file_type() as u32 | 0o600, nlink: 1, blksize: 4096, ..Attributes::default() })
    }

    /// fchmod(2), where the file has no inode in the tree.
    ///
    /// # Errors
    /// `EOPNOTSUPP`: what it is has no permissions of its own.
    fn set_mode(&self, _mode: u32) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// What `/proc/PID/fd/N` shows of a file that has no path: `anon_inode:[eventpoll]`.
    fn describe(&self) -> Vec<u8> {
        b"anon_inode:[file]".to_vec()
    }

    /// More lines for `/proc/PID/fdinfo/N`.
    fn fdinfo(&self) -> Vec<u8> {
        Vec::new()
    }

    /// `O_*` have changed (fcntl(2), `F_SETFL`).
    fn flags_changed(&self, flags: u32) {}

    /// Where it stands, if somebody outside of this kernel has the same open file and may move it.
    fn shared_position(&self) -> Option<u64> {
        None
    }

    /// Its position was moved, which who shares it is to see.
    fn moved(&self, position: u64) {}

    /// A descriptor of it was closed by `task`, while others may be left.
    fn flush(&self, task: &Arc<Task>) {}
}

/// Of a file that is always ready.
impl<T: AlwaysReady> Pollable for T {
    fn poll(&self) -> Events {
        Events::READABLE | Events::WRITABLE
    }

    fn observe(&self, _: Events, _: &Arc<dyn Observer>) -> Vec<Registration> {
        Vec::new()
    }
}

/// A file that can always be read and written without waiting: regular files, directories.
pub trait AlwaysReady: Send + Sync {}

/// An open file, as descriptors refer to it (POSIX: open file description).
pub struct Description {
    /// What it can do.
    pub file: Arc<dyn File>,
    /// Where it was found; nowhere for pipes, sockets and the like.
    pub path: Option<Path>,
    flags: AtomicU32,
    position: Mutex<u64>,
    /// Who is told of events by a signal (`F_SETOWN`), and by which.
    pub owner: Mutex<Owner>,
    /// Tells of events by signals, while `O_ASYNC` is set.
    asynchronous: Mutex<Option<Arc<Asynchronous>>>,
    /// If it is a directory that tells what happens in it.
    pub(super) dnotify: Mutex<Option<Arc<Dnotify>>>,
    /// Where its locks are, once it has or had one.
    locks: Mutex<Option<Arc<Locks>>>,
    /// It is written, or executed.
    _hold: Option<ContentsHold>,
}

impl Description {
    /// An open file; `flags` are `O_*`.
    pub fn new(file: Arc<dyn File>, path: Option<Path>, flags: u32) -> Arc<Self> {
        Description::holding(file, path, flags, None)
    }

    /// An open file whose contents are written or executed as long as it is open.
    pub fn holding(file: Arc<dyn File>, path: Option<Path>, flags: u32, hold: Option<ContentsHold>) -> Arc<Self> {
        if let Some(path) = &path {
            path.dentry.opened();
            path.mount.touch();
        }
        Arc::new(Description {
            file,
            path,
            flags: AtomicU32::new(flags),
            position: Mutex::new(0),
            owner: Mutex::default(),
            asynchronous: Mutex::default(),
            dnotify: Mutex::default(),
            locks: Mutex::default(),
            _hold: hold,
        })
    }

    /// `O_*`, without those that only matter to open(2).
    pub fn flags(&self) -> u32 {
        self.flags.load(Ordering::Relaxed)
    }

    /// Changes those of `mask` to what `flags` says.
    pub fn set_flags(&self, mask: u32, flags: u32) {
        let before = self.flags.load(Ordering::Relaxed);
        self.flags.store(before & !mask | flags & mask, Ordering::Relaxed);
        self.file.flags_changed(self.flags());
    }

    /// Changes those of `mask`, as [`set_flags`](Self::set_flags), which a program asked for by descriptor `fd`: `O_ASYNC`, too.
    pub fn ask_flags(self: &Arc<Self>, kernel: &Arc<Kernel>, fd: i32, mask: u32, flags: u32) {
        self.set_flags(mask, flags);
        if mask & c::FASYNC != 0 {
            let asynchronous = if flags & c::FASYNC != 0 { Asynchronous::begin(kernel, self, fd) } else { None };
            let before = core::mem::replace(&mut *self.asynchronous.lock(), asynchronous);
            drop(before);
        }
    }

    /// Whether it was opened for reading.
    pub fn readable(&self) -> bool {
        self.flags() & c::O_PATH == 0 && matches!(self.flags() & c::O_ACCMODE, c::O_RDONLY | c::O_RDWR)
    }

    /// Whether it was opened for writing.
    pub fn writable(&self) -> bool {
        // Mode 3 allows neither: such a descriptor is for ioctl(2) alone.
        self.flags() & c::O_PATH == 0 && matches!(self.flags() & c::O_ACCMODE, c::O_WRONLY | c::O_RDWR)
    }

    /// Whether it blocks no one.
    pub fn nonblocking(&self) -> bool {
        self.flags() & c::O_NONBLOCK != 0
    }

    /// Its position, for who moves it: two readers of one open file take turns.
    pub fn position(&self) -> Position<'_> {
        let mut held = self.position.lock();
        if let Some(shared) = self.file.shared_position() {
            *held = shared;
        }
        Position { before: *held, held, file: &*self.file }
    }

    /// It takes a lock, which is given back when the last descriptor of it is closed.
    pub(crate) fn locks_in(&self, locks: &Arc<Locks>) {
        self.locks.lock().get_or_insert_with(|| locks.clone());
    }

    /// Itself, as an owner of locks.
    pub(crate) fn as_owner(&self) -> locks::Owner {
        locks::Owner::Open(core::ptr::from_ref(self) as usize)
    }

    /// A table of descriptors has no more of it: POSIX locks of the table on the file are gone, whoever took them.
    pub(crate) fn unlock_for(&self, table: u64, locks: &Locks) {
        if locks.are_there()
            && let Ok(key) = locks::key(self)
        {
            locks.release_all(key, Class::Record, locks::Owner::Table(table));
        }
    }

    /// As [`unlock_for`](Self::unlock_for), if it ever took a lock.
    pub(crate) fn unlock_own(&self, table: u64) {
        let locks = self.locks.lock().clone();
        if let Some(locks) = locks {
            self.unlock_for(table, &locks);
        }
    }

    /// It as `T`, if that is what it is.
    pub fn as_file<T: File>(&self) -> Option<&T> {
        let any: &dyn Any = &*self.file;
        any.downcast_ref()
    }

    /// Does `operation`, and again whenever the file becomes ready for `events`, until it says something else than `EAGAIN`; if the
    /// file doesn't block, only once. This is how every call reads and writes.
    ///
    /// # Errors
    /// Whichever the operation says; [`Errno::RESTARTSYS`] if a signal ends the wait.
    pub fn attempt(
        self: &Arc<Self>,
        task: &Arc<Task>,
        events: Events,
        deadline: Option<u64>,
        mut operation: impl FnMut(&Arc<Description>, &Arc<Task>) -> Result<u64> + Send + Unpin + 'static,
    ) -> SysResult {
        match operation(self, task) {
            Err(Errno::EAGAIN) if !self.nonblocking() => {}
            outcome => return outcome.map(Flow::Done),
        }
        let (description, owner) = (self.clone(), task.clone());
        let wait = crate::wait::until(task, &[(&*self.file, events)], deadline, move || operation(&description, &owner));
        Ok(Flow::block(async move {
            match wait.await {
                Ok(outcome) => outcome,
                Err(crate::wait::Ended::TimedOut) => Err(Errno::EAGAIN),
                Err(crate::wait::Ended::Interrupted) => Err(Errno::RESTARTSYS),
            }
        }))
    }
}

/// An open file's position, held by who moves it.
pub struct Position<'a> {
    held: MutexGuard<'a, u64>,
    before: u64,
    file: &'a dyn File,
}

impl Deref for Position<'_> {
    type Target = u64;

    fn deref(&self) -> &u64 {
        &self.held
    }
}

impl DerefMut for Position<'_> {
    fn deref_mut(&mut self) -> &mut u64 {
        &mut self.held
    }
}

impl Drop for Position<'_> {
    fn drop(&mut self) {
        if *self.held != self.before {
            self.file.moved(*self.held);
        }
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        notify::closed(self);
        if let Some(path) = &self.path
            && path.dentry.closed()
        {
            notify::closed_last(&path.dentry);
        }
        let Some(locks) = self.locks.lock().take() else { return };
        let Ok(key) = locks::key(self) else { return };
        locks.release_all(key, Class::Record, self.as_owner());
        locks.release_all(key, Class::Flock, self.as_owner());
    }
}
