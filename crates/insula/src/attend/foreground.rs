//! Who has our terminal: the program's process group, ours, or the shell's.
//!
//! A program in a sandbox can't be in our process group, or it could signal what is outside. But a terminal has one group in its
//! foreground, and a pipeline like `insula run -- make | less` has two who may want it. So the program's group is put there at the
//! start if it seems to be all there is, and otherwise when it asks: the kernel stops who reads from the background, and we hear of
//! both, the program's stop and that of our own group.

use insula_boundary::Session;
use insula_sys::{signals, tty};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, getpgrp};
use rustix::stdio::stdin;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

const SIGCONT: i32 = 18;

/// The terminal's foreground, as far as it is ours to give away.
pub(super) struct Foreground {
    /// The first process, if the program is a job of our terminal.
    init: Option<Pid>,
    /// The program gets it whenever we have it, not only when it asks.
    at_once: bool,
}

impl Foreground {
    pub(super) fn new(session: Session, init: &OwnedFd) -> Foreground {
        match session {
            Session::Own => Foreground { init: None, at_once: false },
            Session::Job { foreground } => Foreground { init: number(init), at_once: foreground },
        }
    }

    /// Gives it to the program if we have it; whether it has it now.
    pub(super) fn give(&self) -> bool {
        let Some(init) = self.init.filter(|_| !in_background()) else { return false };
        program_group(init).is_some_and(|group| tty::set_foreground(stdin(), group))
    }

    /// We have been continued.
    pub(super) fn resume(&self) {
        if self.at_once {
            self.give();
        }
    }

    /// Takes it back if the program has it; whether it had.
    pub(super) fn take_back(&self) -> bool {
        let Some(init) = self.init else { return false };
        match tty::foreground(stdin()) {
            Some(group) if group != getpgrp() && is_inside(group, init) => tty::set_foreground(stdin(), getpgrp()),
            _ => false,
        }
    }

    /// Others of our group want it: they were stopped for it.
    pub(super) fn claim(&mut self) {
        if self.take_back() {
            self.at_once = false;
            signals::raise_group(SIGCONT);
        }
    }
}

/// Whether our group is not the one in the foreground.
pub(super) fn in_background() -> bool {
    tty::foreground(stdin()).is_some_and(|group| group != getpgrp())
}

/// Whether a process group is of the program's: behind its PID namespace, or gone with it.
fn is_inside(group: Pid, init: Pid) -> bool {
    if rustix::process::test_kill_process_group(group) == Err(insula_sys::Errno::SRCH) {
        return true;
    }
    let namespace = |pid: Pid| std::fs::read_link(PathBuf::from(format!("/proc/{}/ns/pid", pid.as_raw_pid()))).ok();
    namespace(group).is_some_and(|theirs| Some(theirs) == namespace(init))
}

/// The process group of the program behind our first process: its only child at the start, so its first. If the first process is the
/// program, for the kernel that runs it, its children have left our session.
fn program_group(init: Pid) -> Option<Pid> {
    let pid = init.as_raw_pid();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    let first = children.split_whitespace().next().and_then(|text| Pid::from_raw(text.parse().ok()?));
    let session = |pid| rustix::process::getsid(pid).ok();
    first.filter(|first| session(Some(*first)) == session(None)).or(Some(init))
}

fn number(pidfd: &OwnedFd) -> Option<Pid> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    Pid::from_raw(info.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()?)
}
