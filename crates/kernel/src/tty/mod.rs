//! Terminals: a line discipline between a program and what shows its output, and job control.
//!
//! A [`Tty`] is a pseudoterminal, pty(7): programs open its *slave*; who emulates the terminal has its *master*. Bytes written to the master are
//! typed; what programs write is read from the master.
//!
//! | module | holds |
//! |---|---|
//! | [`line`] | the line discipline |
//! | [`control`] | sessions, foreground groups, signals |
//! | `requests` | ioctl(2) of terminals |
//! | [`outside`] | terminals of the world outside |
//! | [`pty`] | open files of both sides |
//! | [`devpts`] | all terminals of a kernel, and the file system that names them |

pub mod control;
pub mod devpts;
pub mod line;
#[cfg(test)]
mod line_tests;
pub mod outside;
pub mod pty;
mod requests;
#[cfg(test)]
mod tests;

use crate::Kernel;
use crate::fs::{Changes, File};
use crate::sync::Mutex;
use crate::task::Session;
use crate::time::{Alarm, Ticket};
use crate::wait::{Events, Queue};
use alloc::sync::{Arc, Weak};
use insula_abi::tty::{Termios, Winsize};
use line::Line;

/// A terminal.
pub struct Tty {
    kernel: Arc<Kernel>,
    this: Weak<Tty>,
    /// Its number, as in `/dev/pts/N`.
    pub index: u32,
    /// Who made it: its owner.
    pub(crate) owner: (u32, u32),
    /// What chmod(2) and chown(2) have made of its node.
    pub(crate) changes: Mutex<Changes>,
    state: Mutex<State>,
    /// If it is of the world outside: the open file that reaches it.
    outside: Option<Weak<dyn File>>,
    /// Told of what can be read and written on either side.
    slaves: Arc<Queue>,
    master: Arc<Queue>,
}

/// What changes about a terminal.
pub(crate) struct State {
    pub line: Line,
    pub size: Winsize,
    /// Whose controlling terminal it is.
    pub session: Option<Weak<Session>>,
    /// The process group that may read.
    pub foreground: i32,
    /// Open slaves, and whether there ever was one.
    pub slaves: usize,
    pub opened: bool,
    /// The master is closed, or the terminal was taken from its programs.
    pub hung_up: bool,
    /// The slave can't be opened yet (unlockpt(3)).
    pub locked: bool,
    /// The master is told what happens (`TIOCPKT`).
    pub packets: bool,
    /// Nobody else may open it (`TIOCEXCL`).
    pub exclusive: bool,
    /// What nobody can change (`TIOCSLCKTRMIOS`).
    pub fixed: Termios,
    /// A reader's time (`VTIME`): set, and run out.
    timer: Option<Ticket>,
    expired: bool,
}

impl Tty {
    pub(crate) fn new(kernel: &Arc<Kernel>, index: u32, owner: (u32, u32), outside: Option<Weak<dyn File>>) -> Arc<Self> {
        Arc::new_cyclic(|this| Tty {
            outside,
            kernel: kernel.clone(),
            this: this.clone(),
            index,
            owner,
            changes: Mutex::default(),
            state: Mutex::new(State {
                line: Line::default(),
                size: Winsize::default(),
                session: None,
                foreground: 0,
                slaves: 0,
                opened: false,
                hung_up: false,
                locked: true,
                packets: false,
                exclusive: false,
                fixed: Termios::default(),
                timer: None,
                expired: false,
            }),
            slaves: Queue::new(),
            master: Queue::new(),
        })
    }

    /// Everybody looks again.
    pub(crate) fn changed(&self) {
        self.slaves.wake(Events::all());
        self.master.wake(Events::all());
    }

    /// A reader's time begins, or begins again.
    fn start_timer(&self, state: &mut State, tenths: u8) {
        self.stop_timer(state);
        let at = self.kernel.host.clock.monotonic() + u64::from(tenths) * 100_000_000;
        let this: Weak<dyn Alarm> = self.this.clone();
        state.timer = Some(self.kernel.timers.set(at, this));
    }

    fn stop_timer(&self, state: &mut State) {
        if let Some(ticket) = state.timer.take() {
            self.kernel.timers.cancel(ticket);
        }
        state.expired = false;
    }
}

impl Alarm for Tty {
    fn expire(&self, _: u64) -> Option<u64> {
        let mut state = self.state.lock();
        if state.timer.take().is_some() {
            state.expired = true;
        }
        drop(state);
        self.slaves.wake(Events::READABLE);
        None
    }
}
