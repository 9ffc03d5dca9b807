//! Sessions and their terminals: who may read, and who is told of what is typed, credentials(7).

use super::Tty;
use crate::signal::SigSet;
use crate::signal::action::IGNORE;
use crate::signal::send::{Target, send};
use crate::task::{Session, Task, Terminal};
use crate::{Errno, Kernel, Result};
use alloc::sync::{Arc, Weak};
use core::any::Any;
use insula_abi::general as c;
use insula_abi::signal::Siginfo;

/// Sends a signal of the kernel's to a process group.
pub(super) fn signal_group(kernel: &Kernel, group: i32, signal: u32) {
    if group <= 0 {
        return;
    }
    for process in kernel.pids.group(group) {
        let info = Siginfo { signo: signal as i32, code: c::SI_KERNEL as i32, ..Siginfo::default() };
        // A terminal tells nobody that a process's queue is full.
        let _ = send(Target::Process(&process), info);
    }
}

/// A task's session, and its process group.
fn place(task: &Task) -> Option<(Arc<Session>, i32)> {
    let tree = task.kernel().pids.lock();
    let pid = task.process.pid;
    Some((tree.session_of(pid)?, tree.group_of(pid)))
}

/// The controlling terminal of a task's session, if it is one of ours.
pub fn controlling(task: &Task) -> Option<Arc<Tty>> {
    let (session, _) = place(task)?;
    let terminal: Arc<dyn Any + Send + Sync> = session.terminal.lock().clone()?;
    terminal.downcast().ok()
}

/// A task in the background wants to do what only the foreground may.
fn background(task: &Arc<Task>, group: i32, signal: u32) -> Result<()> {
    let blocked = task.signals().blocked.has(signal as i32);
    let ignored = task.process.actions().lock().get(signal as i32).handler == IGNORE;
    if blocked || ignored {
        return if signal == c::SIGTTIN { Err(Errno::EIO) } else { Ok(()) };
    }
    if task.kernel().pids.lock().is_orphaned(group, None) {
        return Err(Errno::EIO);
    }
    signal_group(task.kernel(), group, signal);
    debug_assert!(SigSet::STOPS.has(signal as i32));
    Err(Errno::RESTARTSYS)
}

impl Tty {
    /// Its session, if it is somebody's controlling terminal.
    pub fn session(&self) -> Option<Arc<Session>> {
        self.state.lock().session.as_ref().and_then(Weak::upgrade)
    }

    /// The number of its device.
    pub fn device(&self) -> u64 {
        if self.outside.is_some() { super::outside::CONSOLE } else { crate::fs::dev::number(super::devpts::MAJOR, self.index) }
    }

    /// The process group that may read.
    pub fn foreground(&self) -> i32 {
        self.state.lock().foreground
    }

    /// Whether it is the controlling terminal of the task's session.
    pub fn controls(&self, task: &Task) -> bool {
        let own = place(task).map(|(session, _)| session);
        own.zip(self.session()).is_some_and(|(own, session)| Arc::ptr_eq(&own, &session))
    }

    /// Becomes the controlling terminal of the task's session, which must have none, and the task must lead it. With `steal`, it may be another's.
    ///
    /// # Errors
    /// `EPERM`.
    pub fn take_control(&self, task: &Task, steal: bool) -> Result<()> {
        let (session, group) = place(task).ok_or(Errno::EPERM)?;
        if self.controls(task) && session.id == task.process.pid {
            return Ok(());
        }
        if session.id != task.process.pid || session.terminal.lock().is_some() {
            return Err(Errno::EPERM);
        }
        if let Some(other) = self.session() {
            if !(steal && task.credentials().has(c::CAP_SYS_ADMIN)) {
                return Err(Errno::EPERM);
            }
            other.terminal.lock().take();
        }
        let this = self.this.upgrade().ok_or(Errno::EIO)?;
        *session.terminal.lock() = Some(this);
        let mut state = self.state.lock();
        (state.session, state.foreground) = (Some(Arc::downgrade(&session)), group);
        Ok(())
    }

    /// An open of it makes it the controlling terminal of a session that looks for one.
    pub(super) fn maybe_take_control(&self, task: &Task) {
        if self.session().is_none() {
            // Who doesn't lead a session, or has a terminal, just opens it.
            let _ = self.take_control(task, false);
        }
    }

    /// A task gives its session's terminal up (`TIOCNOTTY`).
    ///
    /// # Errors
    /// `ENOTTY`: it isn't that.
    pub fn give_up(&self, task: &Task) -> Result<()> {
        if !self.controls(task) {
            return Err(Errno::ENOTTY);
        }
        let (session, _) = place(task).ok_or(Errno::ENOTTY)?;
        // Only the leader has it to give; others would leave a session that goes on without them.
        if session.id != task.process.pid {
            return Ok(());
        }
        session.terminal.lock().take();
        self.released(&session);
        Ok(())
    }

    /// A task wants to do what only the foreground may. In the background it gets `signal` instead, or, if that would be lost, an error.
    ///
    /// # Errors
    /// `RESTARTSYS`: the signal was sent. `EIO`: it can't be.
    pub fn check_foreground(&self, task: &Arc<Task>, signal: u32) -> Result<()> {
        if !self.controls(task) {
            return Ok(());
        }
        let Some((_, group)) = place(task) else { return Ok(()) };
        let foreground = self.state.lock().foreground;
        if foreground == 0 || group == foreground {
            return Ok(());
        }
        background(task, group, signal)
    }

    /// The same, when all of the sandbox is in the background of a terminal outside.
    ///
    /// # Errors
    /// Those of [`Tty::check_foreground`].
    pub fn check_outside(&self, task: &Arc<Task>, signal: u32) -> Result<()> {
        match place(task) {
            Some((_, group)) if self.controls(task) => background(task, group, signal),
            _ => Ok(()),
        }
    }

    /// Sends a signal to the process group that may read.
    pub fn signal_foreground(&self, signal: i32) {
        signal_group(&self.kernel, self.foreground(), signal as u32);
    }

    /// The terminal is gone: its programs are told, and find it closed.
    pub fn hang_up(&self) {
        let (session, foreground) = {
            let mut state = self.state.lock();
            if core::mem::replace(&mut state.hung_up, true) {
                return;
            }
            state.line.flush_input();
            self.stop_timer(&mut state);
            (state.session.take(), core::mem::take(&mut state.foreground))
        };
        if let Some(session) = session.and_then(|session| session.upgrade()) {
            session.terminal.lock().take();
            if let Some(leader) = self.kernel.pids.process(session.id) {
                for signal in [c::SIGHUP, c::SIGCONT] {
                    let info = Siginfo { signo: signal as i32, code: c::SI_KERNEL as i32, ..Siginfo::default() };
                    let _ = send(Target::Process(&leader), info);
                }
            }
        }
        signal_group(&self.kernel, foreground, c::SIGHUP);
        self.changed();
    }
}

impl Terminal for Tty {
    fn released(&self, session: &Session) {
        let foreground = {
            let mut state = self.state.lock();
            if state.session.as_ref().and_then(Weak::upgrade).is_some_and(|own| own.id != session.id) {
                return;
            }
            state.session = None;
            core::mem::take(&mut state.foreground)
        };
        signal_group(&self.kernel, foreground, c::SIGHUP);
        signal_group(&self.kernel, foreground, c::SIGCONT);
    }
}
