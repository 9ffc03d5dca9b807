//! ioctl(2) of terminals, ioctl_tty(2).

use super::control::signal_group;
use super::pty::Slave;
use super::{State, Tty};
use crate::flow::SysResult;
use crate::fs::tree::{Lookup, walk};
use crate::fs::{Description, Io, Path};
use crate::task::Task;
use crate::{Errno, Flow, Result};
use alloc::format;
use alloc::sync::Arc;
use insula_abi::general as c;
use insula_abi::ioctl as n;
use insula_abi::tty::{Termio, Termios, Termios2, Winsize};
use insula_abi::zerocopy::{FromBytes, Immutable, IntoBytes};

fn put<T: IntoBytes + Immutable>(io: &Io<'_>, at: u64, value: &T) -> SysResult {
    io.task.mm().put(at, value).map(Flow::from)
}

fn get<T: FromBytes + IntoBytes>(io: &Io<'_>, at: u64) -> Result<T> {
    io.task.mm().get(at)
}

impl Tty {
    /// What both sides know.
    pub(super) fn request(&self, io: &Io<'_>, request: u32, argument: u64, master: bool) -> SysResult {
        match request {
            n::TCGETS => put(io, argument, &self.state.lock().line.termios().termios),
            n::TCGETS2 => put(io, argument, &self.state.lock().line.termios()),
            n::TCSETS | n::TCSETSW | n::TCSETSF => {
                let new = get::<Termios>(io, argument)?;
                self.configure(io, request == n::TCSETSF, master, |old| Termios2 { termios: new, ..old })
            }
            n::TCSETS2 | n::TCSETSW2 | n::TCSETSF2 => {
                let new = get::<Termios2>(io, argument)?;
                self.configure(io, request == n::TCSETSF2, master, |_| new)
            }
            n::TCGETA => put(io, argument, &Termio::from(self.state.lock().line.termios().termios)),
            n::TCSETA | n::TCSETAW | n::TCSETAF => {
                let new = get::<Termio>(io, argument)?;
                let change = |old: Termios2| Termios2 { termios: new.over(old.termios), ..old };
                self.configure(io, request == n::TCSETAF, master, change)
            }
            n::TIOCGLCKTRMIOS => put(io, argument, &self.state.lock().fixed),
            n::TIOCSLCKTRMIOS if !io.task.credentials().has(c::CAP_SYS_ADMIN) => Err(Errno::EPERM),
            n::TIOCSLCKTRMIOS => {
                let fixed = get(io, argument)?;
                self.set(|state| state.fixed = fixed)
            }
            n::TIOCGWINSZ => put(io, argument, &self.state.lock().size),
            n::TIOCSWINSZ => self.resize(get(io, argument)?),
            n::TIOCSCTTY if !master => self.take_control(io.task, argument == 1).map(Flow::from),
            n::TIOCNOTTY if !master => self.give_up(io.task).map(Flow::from),
            n::TIOCGPGRP if master || self.controls(io.task) => put(io, argument, &io.task.name_of(self.foreground())),
            n::TIOCSPGRP => self.set_foreground(io.task, get(io, argument)?, master),
            n::TIOCGSID if master || self.controls(io.task) => {
                let session = self.session().ok_or(Errno::ENOTTY)?;
                put(io, argument, &io.task.name_of(session.id))
            }
            n::FIONREAD => {
                let state = self.state.lock();
                let count = if master { state.line.unshown() } else { state.line.waiting() };
                drop(state);
                put(io, argument, &(count as i32))
            }
            n::TIOCOUTQ => put(io, argument, &(if master { 0 } else { self.state.lock().line.unshown() as i32 })),
            n::TCFLSH => self.flush(io, argument, master),
            n::TCXONC => self.flow(argument as u32),
            // Output is with the terminal at once, and there is no line to break.
            n::TCSBRK | n::TCSBRKP => Ok(Flow::Done(0)),
            n::TIOCEXCL => self.set(|state| state.exclusive = true),
            n::TIOCNXCL => self.set(|state| state.exclusive = false),
            n::TIOCGEXCL => put(io, argument, &i32::from(self.state.lock().exclusive)),
            n::TIOCGETD => put(io, argument, &0i32),
            n::TIOCSETD => match get::<i32>(io, argument)? {
                0 => Ok(Flow::Done(0)),
                _ => Err(Errno::EINVAL),
            },
            // Typing into somebody's terminal is a way out of a sandbox; Linux refuses it since 6.2, too.
            n::TIOCSTI => Err(Errno::EIO),
            n::TIOCVHANGUP if io.task.credentials().has(c::CAP_SYS_ADMIN) => {
                self.hang_up();
                Ok(Flow::Done(0))
            }
            n::TIOCVHANGUP => Err(Errno::EPERM),
            _ => Err(Errno::ENOTTY),
        }
    }

    fn set(&self, change: impl FnOnce(&mut State)) -> SysResult {
        change(&mut self.state.lock());
        Ok(Flow::Done(0))
    }

    /// What only the foreground may do, on the slave's side.
    fn may_change(&self, io: &Io<'_>, master: bool) -> Result<()> {
        if master { Ok(()) } else { self.check_foreground(io.task, c::SIGTTOU) }
    }

    fn configure(&self, io: &Io<'_>, flush: bool, master: bool, new: impl FnOnce(Termios2) -> Termios2) -> SysResult {
        self.may_change(io, master)?;
        {
            let mut state = self.state.lock();
            if flush {
                state.line.flush_input();
            }
            let old = state.line.termios();
            let mut new = new(old);
            new.termios = new.termios.within(&state.fixed, &old.termios);
            state.line.set_termios(new);
        }
        self.changed();
        Ok(Flow::Done(0))
    }

    /// Gives it another size; its programs are told.
    pub fn resize(&self, size: Winsize) -> SysResult {
        let foreground = {
            let mut state = self.state.lock();
            if state.size == size {
                return Ok(Flow::Done(0));
            }
            state.size = size;
            state.foreground
        };
        signal_group(&self.kernel, foreground, c::SIGWINCH);
        Ok(Flow::Done(0))
    }

    fn set_foreground(&self, task: &Arc<Task>, group: i32, master: bool) -> SysResult {
        if !master && !self.controls(task) {
            return Err(Errno::ENOTTY);
        }
        if !master {
            self.check_foreground(task, c::SIGTTOU)?;
        }
        if group < 0 {
            return Err(Errno::EINVAL);
        }
        let group = task.number_of(group);
        let session = self.session().ok_or(Errno::ENOTTY)?;
        let tree = task.kernel().pids.lock();
        if tree.members(group).is_empty() {
            return Err(Errno::ESRCH);
        }
        if !tree.group_in(group, session.id) {
            return Err(Errno::EPERM);
        }
        drop(tree);
        self.set(|state| state.foreground = group)
    }

    fn flush(&self, io: &Io<'_>, which: u64, master: bool) -> SysResult {
        self.may_change(io, master)?;
        {
            let mut state = self.state.lock();
            let (input, output) = match which as u32 {
                c::TCIFLUSH => (true, false),
                c::TCOFLUSH => (false, true),
                c::TCIOFLUSH => (true, true),
                _ => return Err(Errno::EINVAL),
            };
            if input {
                state.line.flush_input();
            }
            if output {
                state.line.flush_output();
            }
        }
        self.changed();
        Ok(Flow::Done(0))
    }

    fn flow(&self, what: u32) -> SysResult {
        {
            let mut state = self.state.lock();
            match what {
                c::TCOOFF => state.line.stop(),
                c::TCOON => state.line.start(),
                // Asking the terminal to stop typing: one that is a program has nothing to be asked by.
                c::TCIOFF | c::TCION => {}
                _ => return Err(Errno::EINVAL),
            }
        }
        self.changed();
        Ok(Flow::Done(0))
    }

    /// What only the master knows.
    pub(super) fn master_request(&self, io: &Io<'_>, request: u32, argument: u64) -> SysResult {
        match request {
            n::TIOCGPTN => put(io, argument, &self.index),
            n::TIOCSPTLCK => {
                let locked = get::<i32>(io, argument)? != 0;
                self.set(|state| state.locked = locked)
            }
            n::TIOCGPTLCK => put(io, argument, &i32::from(self.state.lock().locked)),
            n::TIOCPKT => {
                let packets = get::<i32>(io, argument)? != 0;
                self.set(|state| {
                    state.packets = packets;
                    state.line.told = 0;
                })
            }
            n::TIOCGPKT => put(io, argument, &i32::from(self.state.lock().packets)),
            n::TIOCSIG => {
                if !matches!(argument as u32, c::SIGINT | c::SIGQUIT | c::SIGTSTP) {
                    return Err(Errno::EINVAL);
                }
                signal_group(&self.kernel, self.state.lock().foreground, argument as u32);
                Ok(Flow::Done(0))
            }
            n::TIOCGPTPEER => self.open_peer(io, argument as u32),
            _ => self.request(io, request, argument, true),
        }
    }

    /// Where its node is, if the task has it at the usual place: a descriptor that was opened without a name has one then (ttyname(3)).
    fn place(&self, task: &Arc<Task>) -> Option<Path> {
        let name = format!("/dev/pts/{}", self.index);
        let found = walk::resolve(task, c::AT_FDCWD, name.as_bytes(), Lookup::empty()).ok()?;
        (found.inode().attributes().ok()?.rdev == self.device()).then_some(found)
    }

    /// A descriptor of the slave, whatever its name is or where (`TIOCGPTPEER`).
    fn open_peer(&self, io: &Io<'_>, flags: u32) -> SysResult {
        if flags & !(c::O_ACCMODE | c::O_NOCTTY | c::O_NONBLOCK | c::O_CLOEXEC) != 0 {
            return Err(Errno::EINVAL);
        }
        let this = self.this.upgrade().ok_or(Errno::EIO)?;
        let slave = Slave::open_unchecked(&this, io.task, flags)?;
        let description = Description::new(slave, self.place(io.task), flags & (c::O_ACCMODE | c::O_NONBLOCK));
        let limit = io.task.process.limit(c::RLIMIT_NOFILE);
        Ok(io.task.descriptors().add(description, flags & c::O_CLOEXEC != 0, 0, limit)?.into())
    }
}
