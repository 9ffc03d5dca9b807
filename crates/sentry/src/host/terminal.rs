//! Standard streams that are terminals of the host's: settings and sizes are the host's, job control within the sandbox is the kernel core's.

use super::{Stream, errno};
use insula_abi::general as c;
use insula_abi::ioctl as n;
use insula_abi::tty::{Termios, Termios2, Winsize};
use insula_abi::zerocopy::{FromBytes, IntoBytes};
use insula_kernel::fs::{File, Io};
use insula_kernel::task::Task;
use insula_kernel::tty::Tty;
use insula_kernel::{Errno, Flow, Kernel, Result, SysResult};
use insula_sys::tty;
use rustix::termios::{Action, QueueSelector};
use std::sync::Arc;

impl Stream {
    /// Whether it is a terminal.
    pub fn is_terminal(&self) -> bool {
        rustix::termios::isatty(&self.fd)
    }

    /// Whether this process's session has it as its controlling terminal.
    pub fn is_controlling(&self) -> bool {
        matches!(rustix::termios::tcgetpgrp(&self.fd), Ok(_) | Err(rustix::io::Errno::OPNOTSUPP))
    }

    /// Whether both are the same terminal.
    pub fn is_same(&self, other: &Stream) -> bool {
        let device = |stream: &Stream| rustix::fs::fstat(&stream.fd).map(|stat| stat.st_rdev).ok();
        device(self) == device(other)
    }

    /// Begins job control at it; answers what it is done with.
    pub fn begin_job_control(self: &Arc<Self>, kernel: &Arc<Kernel>) -> Arc<Tty> {
        let file: Arc<dyn File> = self.clone();
        self.terminal.get_or_init(|| Tty::outside(kernel, Arc::downgrade(&file))).clone()
    }

    /// Shares the job control of another stream of the same terminal.
    pub fn share_job_control(&self, tty: &Arc<Tty>) {
        let _ = self.terminal.set(tty.clone());
    }

    /// Whether all of the sandbox is in the background. It is the process group that this process leads.
    fn in_background(&self) -> bool {
        match rustix::termios::tcgetpgrp(&self.fd) {
            Ok(group) => group.as_raw_pid() as u32 != std::process::id(),
            // It is of no process that can be seen from here.
            Err(rustix::io::Errno::OPNOTSUPP) => true,
            Err(_) => false,
        }
    }

    /// Whether a task may do what only the foreground may: that of the sandbox, and the sandbox that of the host.
    ///
    /// # Errors
    /// Those of [`Tty::check_foreground`].
    pub(super) fn check_foreground(&self, task: &Arc<Task>, signal: u32) -> Result<()> {
        let Some(tty) = self.terminal.get() else { return Ok(()) };
        tty.check_foreground(task, signal)?;
        if self.in_background() { tty.check_outside(task, signal) } else { Ok(()) }
    }

    /// ioctl(2) of a terminal. What would wait for output to be shown doesn't: what is written is with the host at once.
    pub(super) fn terminal_request(&self, io: &Io<'_>, request: u32, argument: u64) -> SysResult {
        if !self.is_terminal() {
            return Err(Errno::ENOTTY);
        }
        let mm = io.task.mm();
        match request {
            n::TCGETS => mm.put(argument, &self.settings()?.termios).map(Flow::from),
            n::TCGETS2 => mm.put(argument, &self.settings()?).map(Flow::from),
            n::TCSETS | n::TCSETSW | n::TCSETSF => {
                let termios = mm.get::<Termios>(argument)?;
                self.set_settings(io, request == n::TCSETSF, |old| Termios2 { termios, ..old })
            }
            n::TCSETS2 | n::TCSETSW2 | n::TCSETSF2 => {
                let new = mm.get::<Termios2>(argument)?;
                self.set_settings(io, request == n::TCSETSF2, |_| new)
            }
            n::TIOCGWINSZ => mm.put(argument, &self.size()?).map(Flow::from),
            n::TIOCSWINSZ => {
                let size = mm.get::<Winsize>(argument)?;
                rustix::termios::tcsetwinsize(&self.fd, to_host(size)).map_err(errno).map(Flow::from)
            }
            n::TCFLSH => {
                self.check_foreground(io.task, c::SIGTTOU)?;
                let queue = match argument as u32 {
                    c::TCIFLUSH => QueueSelector::IFlush,
                    c::TCOFLUSH => QueueSelector::OFlush,
                    c::TCIOFLUSH => QueueSelector::IOFlush,
                    _ => return Err(Errno::EINVAL),
                };
                rustix::termios::tcflush(&self.fd, queue).map_err(errno).map(Flow::from)
            }
            n::TCXONC => {
                self.check_foreground(io.task, c::SIGTTOU)?;
                let action = match argument as u32 {
                    c::TCOOFF => Action::OOff,
                    c::TCOON => Action::OOn,
                    c::TCIOFF => Action::IOff,
                    c::TCION => Action::IOn,
                    _ => return Err(Errno::EINVAL),
                };
                rustix::termios::tcflow(&self.fd, action).map_err(errno).map(Flow::from)
            }
            n::TCSBRK | n::TCSBRKP => Ok(Flow::Done(0)),
            _ => self.job_request(io, request, argument),
        }
    }

    fn job_request(&self, io: &Io<'_>, request: u32, argument: u64) -> SysResult {
        let tty = self.terminal.get().ok_or(Errno::ENOTTY)?;
        if request == n::TIOCSPGRP && self.in_background() {
            tty.check_outside(io.task, c::SIGTTOU)?;
        }
        if request == n::TIOCGPGRP && tty.controls(io.task) && self.in_background() {
            // As Linux has it of a group that can't be seen from here.
            return io.task.mm().put(argument, &0i32).map(Flow::from);
        }
        tty.job_control(io, request, argument).unwrap_or(Err(Errno::ENOTTY))
    }

    fn settings(&self) -> Result<Termios2> {
        let bytes = tty::settings(&self.fd).map_err(errno)?;
        Termios2::read_from_bytes(&bytes).map_err(|_| Errno::EIO)
    }

    fn set_settings(&self, io: &Io<'_>, flush: bool, new: impl FnOnce(Termios2) -> Termios2) -> SysResult {
        self.check_foreground(io.task, c::SIGTTOU)?;
        let new = new(self.settings()?);
        if flush {
            rustix::termios::tcflush(&self.fd, QueueSelector::IFlush).map_err(errno)?;
        }
        let bytes: &tty::Settings = new.as_bytes().try_into().map_err(|_| Errno::EIO)?;
        tty::set_settings(&self.fd, bytes).map_err(errno).map(Flow::from)
    }

    fn size(&self) -> Result<Winsize> {
        rustix::termios::tcgetwinsize(&self.fd).map(from_host).map_err(errno)
    }
}

/// A size as the host has it.
pub(super) const fn from_host(size: rustix::termios::Winsize) -> Winsize {
    Winsize { row: size.ws_row, col: size.ws_col, xpixel: size.ws_xpixel, ypixel: size.ws_ypixel }
}

const fn to_host(size: Winsize) -> rustix::termios::Winsize {
    rustix::termios::Winsize { ws_row: size.row, ws_col: size.col, ws_xpixel: size.xpixel, ws_ypixel: size.ypixel }
}
