//! A program in the foreground: its terminal, its signals, its end.
//!
//! Three ways, by what the program shares with us:
//!
//! - **a terminal of its own** (`-t`): bytes are carried between it and ours, which is set to pass everything on; its size follows.
//! - **our terminal, as a job**: the program's process group is in the terminal's foreground, as a shell would have it. When it is
//!   stopped we take the terminal back and stop too, so that the shell above sees a stopped job; when we are continued, so is it.
//! - **no terminal**: signals that reach us are sent on.

use anyhow::Context;
use insula_boundary::{Job, Session};
use insula_sys::process::{Ended, reap, signal};
use insula_sys::signals::{self, SignalFd};
use insula_sys::{Errno, tty};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::process::Pid;
use std::os::fd::AsRawFd;

const SIGINT: i32 = 2;
const SIGQUIT: i32 = 3;
const SIGCHLD: i32 = 17;
const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;
const SIGTSTP: i32 = 20;
const SIGTTIN: i32 = 21;
const SIGTTOU: i32 = 22;
const SIGWINCH: i32 = 28;

/// Signals are held back from here on: made before the program, so that none is lost.
pub(crate) struct Attendant {
    incoming: SignalFd,
    session: Session,
}

impl Attendant {
    /// Takes over this process's signals.
    pub(crate) fn new(session: Session) -> anyhow::Result<Attendant> {
        Ok(Attendant { incoming: SignalFd::new(signals::blockable())?, session })
    }

    /// Stays with a program until it ends.
    pub(crate) fn stay(&self, job: Job, output: Output) -> anyhow::Result<Ended> {
        let raw = match (&job.terminal, &output) {
            (Some(_), Output::Ours) if rustix::termios::isatty(rustix::stdio::stdin()) => {
                Some(tty::Raw::new(rustix::stdio::stdin())?)
            }
            _ => None,
        };
        let mut relay = Relay::new(job.terminal, output)?;
        relay.resize();
        loop {
            let ended = self.wait(&job.pidfd, job.stops.as_ref(), &mut relay)?;
            while let Some(received) = self.incoming.read() {
                self.pass_on(received.signal, received.from_kernel, &job.pidfd, &relay);
            }
            if let Some(stops) = &job.stops
                && readable(stops.as_fd())
            {
                let mut stopped_by = [0];
                if rustix::io::read(stops, &mut stopped_by) == Ok(1) {
                    self.stop_with(&job.pidfd);
                }
            }
            if ended {
                relay.drain();
                drop(raw);
                let ended = reap(&job.pidfd).context("can't learn how the program ended")?;
                self.take_terminal_back(ended);
                return Ok(ended);
            }
        }
    }

    /// Waits for anything to happen; whether the program has ended.
    fn wait(&self, pidfd: &OwnedFd, stops: Option<&OwnedFd>, relay: &mut Relay) -> anyhow::Result<bool> {
        let mut files = vec![PollFd::new(pidfd, PollFlags::IN), PollFd::new(&self.incoming, PollFlags::IN)];
        files.extend(stops.map(|stops| PollFd::new(stops, PollFlags::IN)));
        let ours = files.len();
        relay.interests(&mut files);
        match poll(&mut files, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).context("can't wait for the program"),
        }
        let ended = !files[0].revents().is_empty();
        let events: Vec<PollFlags> = files[ours..].iter().map(PollFd::revents).collect();
        drop(files);
        relay.carry(&events);
        Ok(ended)
    }

    fn pass_on(&self, number: i32, from_kernel: bool, pidfd: &OwnedFd, relay: &Relay) {
        match number {
            SIGCHLD => {}
            SIGWINCH => relay.resize(),
            SIGCONT => {
                self.give_terminal(pidfd);
                let _ = signal(pidfd, SIGCONT);
            }
            // As a job of our terminal the program has had it from the kernel, like us; and only a stop of its own stops us.
            SIGTTIN | SIGTTOU => {}
            _ if from_kernel
                && self.session != Session::Own
                && relay.is_idle()
                && [SIGINT, SIGQUIT, SIGTSTP].contains(&number) =>
            {
                let _ = signal(pidfd, number);
            }
            SIGTSTP => {
                let _ = signal(pidfd, SIGTSTP);
                signals::raise(SIGSTOP);
            }
            number => {
                let _ = signal(pidfd, number);
            }
        }
    }

    /// The program was stopped: so are we, and the shell above has the terminal until it continues us.
    fn stop_with(&self, pidfd: &OwnedFd) {
        let terminal = rustix::stdio::stdin();
        if let Session::Job { .. } = self.session {
            tty::set_foreground(terminal, rustix::process::getpgrp());
        }
        signals::raise(SIGSTOP);
        // Continued; SIGCONT itself is among the incoming signals, but it may have been sent to us while we were not stopped yet.
        self.give_terminal(pidfd);
        let _ = signal(pidfd, SIGCONT);
    }

    /// Puts the program into the terminal's foreground, if that is ours to give.
    fn give_terminal(&self, pidfd: &OwnedFd) {
        let terminal = rustix::stdio::stdin();
        let ours = tty::foreground(terminal) == Some(rustix::process::getpgrp());
        if self.session == Session::Own || !ours {
            return;
        }
        if let Some(group) = program_group(pidfd) {
            tty::set_foreground(terminal, group);
        }
    }

    fn take_terminal_back(&self, ended: Ended) {
        let Session::Job { foreground } = self.session else { return };
        let terminal = rustix::stdio::stdin();
        let lost = tty::foreground(terminal) != Some(rustix::process::getpgrp());
        if foreground && lost {
            tty::set_foreground(terminal, rustix::process::getpgrp());
        }
        // Who pressed Ctrl-C meant the whole job: the shell, and what else is in the pipeline, would have had it from the terminal.
        let interrupted = [SIGINT, SIGQUIT].into_iter().find(|n| ended == Ended::Killed(*n) || ended == Ended::Exited(128 + n));
        if let Some(number) = interrupted.filter(|_| foreground && lost) {
            signals::default_action(number);
            signals::raise_group(number);
            signals::unblock_all();
        }
    }
}

/// The process group of the program behind our first process: its only child at the start, so its first.
fn program_group(pidfd: &OwnedFd) -> Option<Pid> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().to_owned();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
}

fn readable(file: BorrowedFd<'_>) -> bool {
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut [PollFd::new(&file, PollFlags::IN)], Some(&now)), Ok(n) if n > 0)
}

/// Where what the program writes on its terminal goes.
pub(crate) enum Output {
    /// To our own output; our input goes to the program.
    Ours,
    /// Into a file, up to a limit; nothing goes in. What is read comes from the terminal, or from this pipe when there is none.
    File(std::fs::File, Option<OwnedFd>),
}

/// The most that is kept of a detached program's output, in bytes.
const MOST_KEPT: usize = 16 << 20;

/// Carries bytes between a terminal and us.
struct Relay {
    /// The outer end of the program's terminal, or the reading end of its output.
    source: Option<OwnedFd>,
    output: Output,
    /// Read from us, not yet written to the terminal.
    inward: Vec<u8>,
    input_open: bool,
    kept: usize,
}

impl Relay {
    fn new(terminal: Option<OwnedFd>, mut output: Output) -> anyhow::Result<Relay> {
        let input_open = terminal.is_some() && matches!(output, Output::Ours);
        let source = terminal.or_else(|| match &mut output {
            Output::File(_, pipe) => pipe.take(),
            Output::Ours => None,
        });
        if let Some(source) = &source {
            // Who doesn't read its input must not keep us from reading its output.
            rustix::io::ioctl_fionbio(source, true).context("can't use the terminal")?;
        }
        Ok(Relay { source, output, inward: Vec::new(), input_open, kept: 0 })
    }

    /// Whether nothing is carried: the program uses our own files.
    fn is_idle(&self) -> bool {
        self.source.is_none()
    }

    fn resize(&self) {
        if let (Some(source), Output::Ours) = (&self.source, &self.output) {
            tty::copy_size(rustix::stdio::stdin(), source);
        }
    }

    /// What to wait for, in the order in which [`Self::carry`] takes it.
    fn interests<'a>(&'a self, files: &mut Vec<PollFd<'a>>) {
        let Some(source) = &self.source else { return };
        let writing = if self.inward.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        files.push(PollFd::new(source, PollFlags::IN | writing));
        if self.input_open && self.inward.is_empty() {
            files.push(PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN));
        }
    }

    fn carry(&mut self, events: &[PollFlags]) {
        if events.get(1).is_some_and(|events| !events.is_empty()) {
            self.read_input();
        }
        if events.first().is_some_and(|events| events.contains(PollFlags::OUT)) || !self.inward.is_empty() {
            self.write_input();
        }
        if events.first().is_some_and(|events| events.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR))
            && !self.read_output()
        {
            self.source = None;
        }
    }

    fn read_input(&mut self) {
        let mut buffer = [0; 4096];
        match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
            Ok(0) => {
                // The end of a file becomes what a user would type.
                self.input_open = false;
                self.inward.push(4);
            }
            Ok(length) => self.inward.extend_from_slice(&buffer[..length]),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => self.input_open = false,
        }
    }

    fn write_input(&mut self) {
        let Some(source) = &self.source else { return };
        if let Ok(length) = rustix::io::write(source, &self.inward) {
            self.inward.drain(..length);
        }
    }

    /// Whether there may be more.
    fn read_output(&mut self) -> bool {
        let Some(source) = &self.source else { return false };
        let mut buffer = [0; 16384];
        match rustix::io::read(source, &mut buffer) {
            Ok(0) => false,
            Ok(length) => {
                self.write_output(&buffer[..length]);
                true
            }
            Err(Errno::INTR | Errno::AGAIN) => true,
            // The last holder of the other end is gone.
            Err(_) => false,
        }
    }

    fn write_output(&mut self, bytes: &[u8]) {
        use std::io::Write;
        match &mut self.output {
            Output::Ours => {
                let mut output = std::io::stdout();
                let _ = output.write_all(bytes).and_then(|()| output.flush());
            }
            Output::File(file, _) => {
                let room = MOST_KEPT.saturating_sub(self.kept).min(bytes.len());
                self.kept += room;
                let _ = file.write_all(&bytes[..room]);
            }
        }
    }

    /// Takes what is left when the program has ended.
    fn drain(&mut self) {
        while self.source.as_ref().is_some_and(|source| readable(source.as_fd())) && self.read_output() {}
    }
}
