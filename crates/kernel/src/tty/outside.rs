//! Terminals of the world outside, as they are standard streams of the first process.
//!
//! The line discipline, and the settings, are with whoever has the terminal; keys that mean signals make them there. What a [`Tty`] does for such
//! a terminal is job control *within* the sandbox: to the world outside, all of it is one process group.

use super::Tty;
use super::pty::Slave;
use crate::flow::SysResult;
use crate::fs::dev::number;
use crate::fs::{File, Io, Opening};
use crate::{Errno, Kernel, Result};
use alloc::sync::{Arc, Weak};
use insula_abi::general as c;
use insula_abi::ioctl as n;

/// `/dev/console`.
pub const CONSOLE: u64 = number(5, 1);

impl Tty {
    /// One that is reached by this open file.
    pub fn outside(kernel: &Arc<Kernel>, file: Weak<dyn File>) -> Arc<Self> {
        Tty::new(kernel, 0, (0, 0), Some(file))
    }

    /// Opens it as `/dev/tty` or `/dev/console` does, whatever its own name is.
    ///
    /// # Errors
    /// `EIO`: it is gone.
    pub(super) fn open(self: &Arc<Self>, opening: &Opening<'_>) -> Result<Arc<dyn File>> {
        match &self.outside {
            Some(file) => file.upgrade().ok_or(Errno::EIO),
            None => Ok(Slave::open_unchecked(self, opening.task, opening.flags | c::O_NOCTTY)?),
        }
    }

    /// What ioctl(2) asks about job control; none if it asks for something else.
    pub fn job_control(&self, io: &Io<'_>, request: u32, argument: u64) -> Option<SysResult> {
        match request {
            n::TIOCSCTTY | n::TIOCNOTTY | n::TIOCGPGRP | n::TIOCSPGRP | n::TIOCGSID | n::TIOCGETD | n::TIOCSTI => {
                Some(self.request(io, request, argument, false))
            }
            _ => None,
        }
    }

    /// Opens of its slave may begin (unlockpt(3)).
    pub fn unlock(&self) {
        self.state.lock().locked = false;
    }
}
