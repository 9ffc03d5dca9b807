//! Open files of both sides of a pseudoterminal, pty(7).

use super::control::signal_group;
use super::{State, Tty};
use crate::flow::SysResult;
use crate::fs::dev::number;
use crate::fs::{Attributes, File, FileType, Io};
use crate::mm::UserBuf;
use crate::task::Task;
use crate::wait::{Events, Observer, Pollable, Registration};
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use insula_abi::general as c;

/// Bytes that are looked at in one go.
const PIECE: usize = 4096;

/// The terminal's own side.
pub struct Master {
    /// The terminal.
    pub tty: Arc<Tty>,
}

impl Drop for Master {
    fn drop(&mut self) {
        self.tty.kernel.terminals.forget(self.tty.index);
        self.tty.hang_up();
    }
}

impl Pollable for Master {
    fn poll(&self) -> Events {
        let mut state = self.tty.state.lock();
        let mut events = Events::empty();
        if state.packets && state.line.told != 0 {
            events |= Events::PRI | Events::READABLE;
        }
        if state.line.shown().is_some() {
            events |= Events::READABLE;
        }
        if state.line.takes() {
            events |= Events::OUT | Events::WRNORM;
        }
        if state.slaves == 0 && state.opened {
            events |= Events::HUP;
        }
        events
    }

    fn observe(&self, interest: Events, observer: &Arc<dyn Observer>) -> Vec<Registration> {
        vec![self.tty.master.register(interest, observer.clone())]
    }
}

impl Master {
    /// Reads what the terminal is to show, for who emulates it outside of any task.
    ///
    /// # Errors
    /// `EAGAIN`: nothing. `EIO`: nobody has the other side open any more.
    pub fn take(&self, into: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        self.show(into.len() as u64, |bytes| {
            let count = bytes.len().min(into.len() - done);
            into[done..done + count].copy_from_slice(&bytes[..count]);
            done += count;
            Ok(count)
        })
    }

    /// Reads what the terminal is to show, by `take`.
    fn show(&self, left: u64, mut take: impl FnMut(&[u8]) -> Result<usize>) -> Result<usize> {
        if left == 0 {
            return Ok(0);
        }
        let mut state = self.tty.state.lock();
        let mut prefix = 0;
        if state.packets {
            let told = core::mem::take(&mut state.line.told);
            if told != 0 {
                return take(&[told]);
            }
            prefix = 1;
        }
        let lost = state.slaves == 0 && state.opened;
        let Some(ring) = state.line.shown() else { return Err(if lost { Errno::EIO } else { Errno::EAGAIN }) };
        if prefix > 0 {
            take(&[c::TIOCPKT_DATA as u8])?;
        }
        let mut done = 0;
        for slice in ring.filled(usize::try_from(left).unwrap_or(usize::MAX) - prefix) {
            match take(slice) {
                Ok(count) => {
                    done += count;
                    if count < slice.len() {
                        break;
                    }
                }
                Err(_) if done + prefix > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        ring.skip(done);
        drop(state);
        self.tty.slaves.wake(Events::WRITABLE);
        Ok(done + prefix)
    }

    /// Types bytes, as far as there is room; answers how many.
    ///
    /// # Errors
    /// `EAGAIN`: there is none. `EIO`: the terminal is gone.
    pub fn type_in(&self, bytes: &[u8]) -> Result<usize> {
        let mut signals = Vec::new();
        let mut state = self.tty.state.lock();
        if state.slaves == 0 && state.opened && state.hung_up {
            return Err(Errno::EIO);
        }
        let count = state.line.feed(bytes, &mut signals);
        let foreground = state.foreground;
        // Between two bytes, a reader's time begins again.
        if count > 0 && state.timer.is_some() && state.line.control(c::VMIN) > 0 {
            let tenths = state.line.control(c::VTIME);
            self.tty.start_timer(&mut state, tenths);
        }
        drop(state);
        for signal in signals {
            signal_group(&self.tty.kernel, foreground, signal as u32);
        }
        if count == 0 && !bytes.is_empty() {
            return Err(Errno::EAGAIN);
        }
        self.tty.changed();
        Ok(count)
    }
}

impl File for Master {
    fn file_type(&self) -> FileType {
        FileType::Character
    }

    fn read(&self, _: &Io<'_>, _: u64, buffer: &mut UserBuf) -> Result<usize> {
        self.show(buffer.left(), |bytes| buffer.put(bytes))
    }

    fn write(&self, _: &Io<'_>, _: u64, buffer: &mut UserBuf) -> Result<usize> {
        let mut bytes = [0; PIECE];
        let most = buffer.left().min(PIECE as u64) as usize;
        let given = buffer.peek(&mut bytes[..most])?;
        let count = self.type_in(&bytes[..given])?;
        buffer.skip(count as u64);
        Ok(count)
    }

    fn read_bytes(&self, _: &Io<'_>, _: u64, into: &mut [u8]) -> Result<usize> {
        self.take(into)
    }

    fn write_bytes(&self, _: &Io<'_>, _: u64, from: &[u8]) -> Result<usize> {
        self.type_in(&from[..from.len().min(PIECE)])
    }

    fn ioctl(&self, io: &Io<'_>, request: u32, argument: u64) -> SysResult {
        self.tty.master_request(io, request, argument)
    }

    fn attributes(&self) -> Result<Attributes> {
        let mode = c::S_IFCHR | 0o666;
        Ok(Attributes { mode, rdev: number(5, 2), nlink: 1, blksize: 1024, ..Attributes::default() })
    }

    fn describe(&self) -> Vec<u8> {
        b"/dev/ptmx".to_vec()
    }

    fn fdinfo(&self) -> Vec<u8> {
        alloc::format!("tty-index:\t{}\n", self.tty.index).into_bytes()
    }
}

/// The side of the programs.
pub struct Slave {
    /// The terminal.
    pub tty: Arc<Tty>,
}

impl Slave {
    /// Opens it.
    ///
    /// # Errors
    /// `EIO`: it is locked, or gone. `EBUSY`: somebody wants to be alone with it.
    pub fn open(tty: &Arc<Tty>, task: &Arc<Task>, flags: u32) -> Result<Arc<Self>> {
        let state = tty.state.lock();
        if state.locked {
            return Err(Errno::EIO);
        }
        if state.exclusive && !task.credentials().has(c::CAP_SYS_ADMIN) {
            return Err(Errno::EBUSY);
        }
        drop(state);
        Slave::open_unchecked(tty, task, flags)
    }

    pub(super) fn open_unchecked(tty: &Arc<Tty>, task: &Arc<Task>, flags: u32) -> Result<Arc<Self>> {
        let slave = Slave::new(tty)?;
        if flags & c::O_NOCTTY == 0 {
            tty.maybe_take_control(task);
        }
        Ok(slave)
    }

    /// Opens it for nobody yet.
    ///
    /// # Errors
    /// `EIO`: it is gone.
    pub fn new(tty: &Arc<Tty>) -> Result<Arc<Self>> {
        {
            let mut state = tty.state.lock();
            if state.hung_up {
                return Err(Errno::EIO);
            }
            state.slaves += 1;
            state.opened = true;
        }
        Ok(Arc::new(Slave { tty: tty.clone() }))
    }

    /// What a read gets, up to `most` bytes; it isn't taken yet. Follows `VMIN` and `VTIME`, termios(3).
    fn next(&self, state: &mut State, most: usize, waits: bool) -> Result<Vec<u8>> {
        let line = &state.line;
        if line.local(c::ICANON) {
            return line.next(most).ok_or(Errno::EAGAIN);
        }
        let (least, tenths) = (usize::from(line.control(c::VMIN)), line.control(c::VTIME));
        let there = line.waiting();
        let enough = there >= least.min(most).max(1) || least == 0 && tenths == 0;
        if enough || state.expired {
            self.tty.stop_timer(state);
            return Ok(state.line.next(most).unwrap_or_default());
        }
        if !waits {
            // Who doesn't wait takes what there is.
            return line.next(most).ok_or(Errno::EAGAIN);
        }
        if tenths > 0 && state.timer.is_none() && (least == 0 || there > 0) {
            self.tty.start_timer(state, tenths);
        }
        Err(Errno::EAGAIN)
    }

    fn read_with(&self, io: &Io<'_>, left: u64, put: impl FnOnce(&[u8]) -> Result<usize>) -> Result<usize> {
        if left == 0 {
            return Ok(0);
        }
        if !self.tty.state.lock().hung_up {
            self.tty.check_foreground(io.task, c::SIGTTIN)?;
        }
        let mut state = self.tty.state.lock();
        if state.hung_up {
            return Ok(0);
        }
        let most = left.min(PIECE as u64) as usize;
        let bytes = self.next(&mut state, most, io.flags & c::O_NONBLOCK == 0)?;
        let count = put(&bytes)?;
        // An empty line is an end of file, and is taken, too.
        state.line.took(count);
        drop(state);
        self.tty.master.wake(Events::WRITABLE);
        Ok(count)
    }

    fn write_piece(&self, io: &Io<'_>, bytes: &[u8]) -> Result<usize> {
        let tostop = {
            let state = self.tty.state.lock();
            if state.hung_up {
                return Err(Errno::EIO);
            }
            state.line.local(c::TOSTOP)
        };
        if tostop {
            self.tty.check_foreground(io.task, c::SIGTTOU)?;
        }
        let count = self.tty.state.lock().line.write(bytes);
        if count == 0 && !bytes.is_empty() {
            return Err(Errno::EAGAIN);
        }
        self.tty.master.wake(Events::READABLE);
        Ok(count)
    }
}

impl Drop for Slave {
    fn drop(&mut self) {
        self.tty.state.lock().slaves -= 1;
        self.tty.master.wake(Events::all());
    }
}

impl Pollable for Slave {
    fn poll(&self) -> Events {
        let state = self.tty.state.lock();
        if state.hung_up {
            return Events::READABLE | Events::OUT | Events::WRNORM | Events::ERR | Events::HUP;
        }
        let mut events = Events::empty();
        if state.line.readable() {
            events |= Events::READABLE;
        }
        if state.line.writable() {
            events |= Events::OUT | Events::WRNORM;
        }
        events
    }

    fn observe(&self, interest: Events, observer: &Arc<dyn Observer>) -> Vec<Registration> {
        vec![self.tty.slaves.register(interest, observer.clone())]
    }
}

impl File for Slave {
    fn file_type(&self) -> FileType {
        FileType::Character
    }

    fn read(&self, io: &Io<'_>, _: u64, buffer: &mut UserBuf) -> Result<usize> {
        self.read_with(io, buffer.left(), |bytes| if bytes.is_empty() { Ok(0) } else { buffer.put(bytes) })
    }

    fn write(&self, io: &Io<'_>, _: u64, buffer: &mut UserBuf) -> Result<usize> {
        let mut bytes = [0; PIECE];
        let most = buffer.left().min(PIECE as u64) as usize;
        let given = buffer.peek(&mut bytes[..most])?;
        let count = self.write_piece(io, &bytes[..given])?;
        buffer.skip(count as u64);
        Ok(count)
    }

    fn read_bytes(&self, io: &Io<'_>, _: u64, into: &mut [u8]) -> Result<usize> {
        self.read_with(io, into.len() as u64, |bytes| {
            into[..bytes.len()].copy_from_slice(bytes);
            Ok(bytes.len())
        })
    }

    fn write_bytes(&self, io: &Io<'_>, _: u64, from: &[u8]) -> Result<usize> {
        self.write_piece(io, &from[..from.len().min(PIECE)])
    }

    fn ioctl(&self, io: &Io<'_>, request: u32, argument: u64) -> SysResult {
        if self.tty.state.lock().hung_up {
            return Err(Errno::EIO);
        }
        self.tty.request(io, request, argument, false)
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(super::devpts::attributes(&self.tty))
    }

    fn describe(&self) -> Vec<u8> {
        alloc::format!("/dev/pts/{}", self.tty.index).into_bytes()
    }
}
