//! Open files of a tmpfs: contents, and names in order.

use super::Tmpfs;
use super::node::{Body, Node};
use crate::fs::file::limit_size;
use crate::fs::{AlwaysReady, Attributes, EachEntry, File, FileType, Inode, Io, Mapping};
use crate::host::Memory;
use crate::mm::{Object, Source, UserBuf};
use crate::sync::Mutex;
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering};
use insula_abi::PAGE;
use insula_abi::general as c;

/// What is in a regular file.
pub(super) struct Contents {
    pub(super) object: Arc<Object>,
    /// Taken while bytes are copied or cut off: pages that are being copied aren't given away.
    io: Mutex<()>,
    /// `F_SEAL_*`: what may never be done to it again, fcntl(2).
    pub(super) seals: AtomicU32,
}

impl Contents {
    pub(super) fn new(fs: &Tmpfs) -> Self {
        let object = Object::with_budget(&fs.frames, 0, Some(fs.budget.clone()));
        Contents { object, io: Mutex::new(()), seals: AtomicU32::new(c::F_SEAL_SEAL) }
    }

    fn sealed(&self, seals: u32) -> bool {
        self.seals.load(Ordering::Acquire) & seals != 0
    }

    /// Whether bytes up to `end` may be written.
    fn may_write(&self, end: u64) -> Result<()> {
        if self.sealed(c::F_SEAL_WRITE | c::F_SEAL_FUTURE_WRITE) {
            return Err(Errno::EPERM);
        }
        if end > self.object.size() && self.sealed(c::F_SEAL_GROW) { Err(Errno::EPERM) } else { Ok(()) }
    }

    pub(super) fn resize(&self, size: u64) -> Result<()> {
        let _io = self.io.lock();
        let before = self.object.size();
        if size < before && self.sealed(c::F_SEAL_SHRINK) || size > before && self.sealed(c::F_SEAL_GROW) {
            return Err(Errno::EPERM);
        }
        self.object.resize(size);
        Ok(())
    }

    /// Calls `piece(frame or none, bytes)` for piece after piece from `at` on, of at most `most` bytes and not past the end, until one is
    /// short; answers how many bytes that were.
    fn read(&self, at: u64, most: u64, mut piece: impl FnMut(Option<u64>, u64) -> Result<u64>) -> Result<u64> {
        let _io = self.io.lock();
        let most = self.object.size().saturating_sub(at).min(most);
        let mut done = 0;
        while done < most {
            let found = self.object.find(at + done);
            let (Ok((_, together)) | Err(together)) = found;
            let len = together.min(most - done);
            match piece(found.ok().map(|(frame, _)| frame), len) {
                Ok(count) if count == len => done += count,
                Ok(count) => return Ok(done + count),
                Err(errno) => return if done == 0 { Err(errno) } else { Ok(done) },
            }
        }
        Ok(done)
    }

    /// Calls `piece(frame, bytes)` for piece after piece from `at` on (or the end), until one is short; answers how many bytes that
    /// were, and where the last ends.
    fn write(
        &self,
        at: Option<u64>,
        prepare: impl FnOnce(u64) -> Result<u64>,
        mut piece: impl FnMut(u64, u64) -> Result<u64>,
    ) -> Result<(u64, u64)> {
        let _io = self.io.lock();
        let at = at.unwrap_or_else(|| self.object.size());
        let most = prepare(at)?;
        self.may_write(at.checked_add(most).filter(|end| *end <= i64::MAX as u64).ok_or(Errno::EFBIG)?)?;
        self.object.reach(at);
        let mut done = 0;
        let outcome = loop {
            if done == most {
                break Ok(());
            }
            let (frame, together) = match self.object.locate_for(at + done, most - done) {
                Ok(found) => found,
                Err(errno) => break Err(errno),
            };
            let len = together.min(most - done);
            match piece(frame, len) {
                Ok(count) => {
                    done += count;
                    if count < len {
                        break Ok(());
                    }
                }
                Err(errno) => break Err(errno),
            }
        };
        if done == 0 {
            outcome?;
        } else {
            self.object.grow(at + done);
        }
        Ok((done, at + done))
    }

    pub(super) fn read_bytes(&self, memory: &dyn Memory, at: u64, into: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        self.read(at, into.len() as u64, |frame, len| {
            let part = &mut into[done..done + len as usize];
            match frame {
                Some(frame) => memory.read(frame, part),
                None => part.fill(0),
            }
            done += len as usize;
            Ok(len)
        })?;
        Ok(done)
    }

    pub(super) fn write_bytes(&self, memory: &dyn Memory, at: Option<u64>, from: &[u8]) -> Result<u64> {
        let mut rest = from;
        let copy = |frame, len: u64| {
            let (part, after) = rest.split_at(len as usize);
            memory.write(frame, part);
            rest = after;
            Ok(len)
        };
        self.write(at, |_| Ok(from.len() as u64), copy).map(|(done, _)| done)
    }

    /// Makes all of a range, or nothing.
    fn reserve(&self, range: Range<u64>) -> Result<()> {
        let (mut done, mut made) = (range.start, Vec::new());
        while done < range.end {
            let is_new = self.object.find(done).is_err();
            match self.object.locate_for(done, range.end - done) {
                Ok((_, together)) => {
                    made.extend(is_new.then_some(done & !(PAGE - 1)..done + together));
                    done += together;
                }
                Err(errno) => {
                    made.into_iter().for_each(|part| self.object.discard(part));
                    return Err(errno);
                }
            }
        }
        Ok(())
    }

    /// fallocate(2), as far as Linux's tmpfs has it.
    fn allocate(&self, mode: u32, at: u64, len: u64) -> Result<()> {
        let _io = self.io.lock();
        let end = at + len;
        match mode {
            mode if mode == c::FALLOC_FL_PUNCH_HOLE | c::FALLOC_FL_KEEP_SIZE => {
                if self.sealed(c::F_SEAL_WRITE | c::F_SEAL_FUTURE_WRITE) {
                    return Err(Errno::EPERM);
                }
                self.object.discard(at..end);
                Ok(())
            }
            0 | c::FALLOC_FL_KEEP_SIZE => {
                if mode == 0 && end > self.object.size() && self.sealed(c::F_SEAL_GROW) {
                    return Err(Errno::EPERM);
                }
                self.reserve(at..end)?;
                if mode == 0 {
                    self.object.reach(end);
                    self.object.grow(end);
                }
                Ok(())
            }
            _ => Err(Errno::EOPNOTSUPP),
        }
    }
}

/// An open file or directory.
pub(super) struct Opened {
    node: Arc<Node>,
}

impl Opened {
    /// Opens it.
    pub(super) fn new(node: Arc<Node>) -> Self {
        Opened { node }
    }

    fn contents(&self) -> Result<&Contents> {
        match &self.node.body {
            Body::Regular(contents) => Ok(contents),
            Body::Directory(_) => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        }
    }

    fn write_user(&self, io: &Io<'_>, at: Option<u64>, buffer: &mut UserBuf) -> Result<(usize, u64)> {
        let contents = self.contents()?;
        let shared = core::cell::RefCell::new(buffer);
        let prepare = |at| {
            let mut buffer = shared.borrow_mut();
            if buffer.left() > 0 {
                limit_size(io, at, &mut buffer)?;
            }
            Ok(buffer.left())
        };
        let (done, end) = contents.write(at, prepare, |frame, len| shared.borrow_mut().take_to(frame, len))?;
        self.written(io, done);
        Ok((done as usize, end))
    }

    /// Something was written: who did loses set-ID bits, unless they may keep them.
    fn written(&self, io: &Io<'_>, done: u64) {
        if done == 0 {
            return;
        }
        self.node.modified();
        let mut meta = self.node.meta.lock();
        if meta.mode & (c::S_ISUID | c::S_ISGID) != 0 && !io.task.credentials().has(c::CAP_FSETID) {
            meta.mode = crate::fs::inode::without_set_id(meta.mode);
        }
    }
}

impl AlwaysReady for Opened {}

impl File for Opened {
    fn file_type(&self) -> FileType {
        self.node.file_type()
    }

    fn read(&self, io: &Io<'_>, at: u64, buffer: &mut UserBuf) -> Result<usize> {
        let done = self.contents()?.read(at, buffer.left(), |frame, len| match frame {
            Some(frame) => buffer.put_from(frame, len),
            None => buffer.put_zeros(len),
        })?;
        self.node.read(io.flags);
        Ok(done as usize)
    }

    fn write(&self, io: &Io<'_>, at: u64, buffer: &mut UserBuf) -> Result<usize> {
        self.write_user(io, Some(at), buffer).map(|(done, _)| done)
    }

    fn append(&self, io: &Io<'_>, buffer: &mut UserBuf) -> Result<(usize, u64)> {
        self.write_user(io, None, buffer)
    }

    fn read_bytes(&self, io: &Io<'_>, at: u64, into: &mut [u8]) -> Result<usize> {
        let done = self.contents()?.read_bytes(self.node.fs.frames.memory(), at, into)?;
        self.node.read(io.flags);
        Ok(done)
    }

    fn write_bytes(&self, io: &Io<'_>, at: u64, from: &[u8]) -> Result<usize> {
        let at = (io.flags & c::O_APPEND == 0).then_some(at);
        let done = self.contents()?.write_bytes(self.node.fs.frames.memory(), at, from)?;
        self.written(io, done);
        Ok(done as usize)
    }

    fn end(&self) -> Result<u64> {
        match &self.node.body {
            Body::Directory(_) => Ok(i64::MAX as u64),
            _ => Ok(self.contents()?.object.size()),
        }
    }

    fn seek_data(&self, from: u64, hole: bool) -> Result<u64> {
        let object = &self.contents()?.object;
        let size = object.size();
        if from >= size {
            return Err(Errno::ENXIO);
        }
        let mut at = from;
        while at < size {
            match object.find(at) {
                Ok((_, len)) if hole => at = at.saturating_add(len),
                Err(len) if !hole => at = at.saturating_add(len),
                _ => return Ok(at),
            }
        }
        if hole { Ok(size) } else { Err(Errno::ENXIO) }
    }

    fn entries(&self, io: &Io<'_>, at: u64, each: &mut EachEntry<'_>) -> Result<()> {
        let entries = self.node.entries()?;
        let mut place = at;
        loop {
            let Some((next, name, node)) = entries.lock().after(place) else { break };
            if !each(&name, node.ino, node.file_type(), next) {
                break;
            }
            place = next;
        }
        self.node.read(io.flags);
        Ok(())
    }

    fn map(&self, _: &Io<'_>, shared: bool, write: bool) -> Result<Mapping> {
        let contents = self.contents().map_err(|_| Errno::ENODEV)?;
        if shared && write && contents.sealed(c::F_SEAL_WRITE | c::F_SEAL_FUTURE_WRITE) {
            return Err(Errno::EPERM);
        }
        Ok(Mapping { source: Source::Object(contents.object.clone()), base: 0 })
    }

    fn sync(&self, _: bool) -> Result<()> {
        Ok(())
    }

    fn allocate(&self, mode: u32, at: u64, len: u64) -> Result<()> {
        self.contents().map_err(|_| Errno::ENODEV)?.allocate(mode, at, len)?;
        self.node.modified();
        Ok(())
    }

    fn attributes(&self) -> Result<Attributes> {
        self.node.attributes()
    }

    fn seals(&self) -> Result<u32> {
        Ok(self.contents().map_err(|_| Errno::EINVAL)?.seals.load(Ordering::Acquire))
    }

    fn add_seals(&self, seals: u32) -> Result<()> {
        let contents = self.contents().map_err(|_| Errno::EINVAL)?;
        let _io = contents.io.lock();
        if contents.sealed(c::F_SEAL_SEAL) {
            return Err(Errno::EPERM);
        }
        if seals & c::F_SEAL_WRITE != 0 && !contents.sealed(c::F_SEAL_WRITE) && contents.object.is_mapped_writable() {
            return Err(Errno::EBUSY);
        }
        contents.seals.fetch_or(seals, Ordering::AcqRel);
        Ok(())
    }
}
