//! Bytes between a program's terminal (or a detached program's output) and us.

use super::readable;
use super::visitors::Visitors;
use anyhow::Context;
use insula_sys::signals::SignalFd;
use insula_sys::{Errno, tty};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::pty::OpenptFlags;
use std::io::Write;

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGQUIT: i32 = 3;
const SIGTERM: i32 = 15;

/// What a terminal makes of these keys when nobody has changed them.
const INTERRUPT_KEY: u8 = 3;
const END_KEY: u8 = 4;
const QUIT_KEY: u8 = 28;

/// Where what the program writes on its terminal goes.
pub(crate) enum Output {
    /// To our own output; our input goes to the program.
    Ours,
    /// Into a file, up to a limit; nothing goes in. What is read comes from the terminal, or from this pipe when there is none.
    File(std::fs::File, Option<OwnedFd>),
    /// Into a file likewise, and to whoever asks for the console, who also types.
    Console(std::fs::File, Visitors),
}

/// The most that is kept of a detached program's output, in bytes.
const MOST_KEPT: usize = 16 << 20;

/// A pipe that is ready takes this much without keeping us waiting, pipe(7).
const PIPE_BUF: usize = 4096;

/// Carries bytes.
pub(super) struct Relay {
    /// The outer end of the program's terminal, or the reading end of its output.
    source: Option<OwnedFd>,
    output: Output,
    /// Read from us, not yet written to the terminal.
    inward: Vec<u8>,
    /// Read from the terminal, not yet written by us.
    outward: Vec<u8>,
    input_open: bool,
    /// The last byte that was read from us.
    last: u8,
    kept: usize,
    /// The signal that a key typed last stands for.
    pub(super) typed: Option<i32>,
    /// The key that isn't for the program, if there is one, and whether it has been typed.
    pub(super) escape: Option<u8>,
    pub(super) escaped: bool,
    /// Keeps the terminal from ending with its last user.
    inner: Option<OwnedFd>,
}

/// What a descriptor that is waited for is to us.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Source,
    Input,
    Output,
    Visitors,
}

impl Relay {
    pub(super) fn new(terminal: Option<OwnedFd>, mut output: Output) -> anyhow::Result<Relay> {
        let input_open = terminal.is_some() && matches!(output, Output::Ours);
        let source = terminal.or_else(|| match &mut output {
            Output::File(_, pipe) => pipe.take(),
            Output::Ours | Output::Console(..) => None,
        });
        let kept = match &output {
            Output::File(file, _) | Output::Console(file, _) => file.metadata().map_or(0, |file| file.len() as usize),
            Output::Ours => 0,
        };
        if let Some(source) = &source {
            // Who doesn't read its input must not keep us from reading its output.
            rustix::io::ioctl_fionbio(source, true).context("can't use the terminal")?;
        }
        let (inward, outward) = (Vec::new(), Vec::new());
        let (escape, escaped) = (None, false);
        Ok(Relay { source, output, inward, outward, input_open, last: b'\n', kept, typed: None, escape, escaped, inner: None })
    }

    /// Whoever uses the terminal next finds it as it is: a system's programs hang up and open its console again and again.
    pub(super) fn hold_open(&mut self) -> anyhow::Result<()> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let open = |outer: &OwnedFd| rustix::pty::ioctl_tiocgptpeer(outer, flags).context("can't hold the console open");
        self.inner = self.source.as_ref().map(open).transpose()?;
        Ok(())
    }

    /// Gives the program's terminal the size of ours.
    pub(super) fn resize(&self) {
        if let (Some(source), Output::Ours) = (&self.source, &self.output) {
            tty::copy_size(rustix::stdio::stdin(), source);
        }
    }

    /// What to wait for; what comes of it goes to [`Self::carry`].
    pub(super) fn interests(&self) -> Vec<(Role, BorrowedFd<'_>, PollFlags)> {
        let mut list = Vec::new();
        let mut add = |role, file, flags: PollFlags| {
            // Even who asks for nothing is told of a hang-up, again and again.
            if !flags.is_empty() {
                list.push((role, file, flags));
            }
        };
        if let Some(source) = &self.source {
            let reading = if self.outward.is_empty() { PollFlags::IN } else { PollFlags::empty() };
            let writing = if self.inward.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            add(Role::Source, source.as_fd(), reading | writing);
            let wants_input = self.input_open && self.inward.is_empty();
            add(Role::Input, rustix::stdio::stdin(), if wants_input { PollFlags::IN } else { PollFlags::empty() });
        }
        if let Output::Console(_, visitors) = &self.output {
            visitors.interests().for_each(|(file, flags)| add(Role::Visitors, file, flags));
        }
        add(Role::Output, rustix::stdio::stdout(), if self.outward.is_empty() { PollFlags::empty() } else { PollFlags::OUT });
        list
    }

    pub(super) fn carry(&mut self, role: Role, events: PollFlags) {
        match role {
            _ if events.is_empty() => {}
            Role::Input => self.read_input(),
            Role::Output => self.write_output(),
            Role::Visitors => {
                if let (Output::Console(_, visitors), Some(terminal)) = (&mut self.output, &self.source) {
                    visitors.attend(terminal);
                }
            }
            Role::Source => {
                if events.contains(PollFlags::OUT) {
                    self.write_input();
                }
                if events.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) && !self.read_output() {
                    self.source = None;
                }
            }
        }
    }

    fn read_input(&mut self) {
        let mut buffer = [0; 4096];
        match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
            Ok(0) => {
                // The end of a file becomes what a user would type: once more after half a line, which the first only sends off.
                self.input_open = false;
                let times = if self.last == b'\n' { 1 } else { 2 };
                self.inward.extend([END_KEY].repeat(times));
            }
            Ok(length) => {
                let mut bytes = &buffer[..length];
                if let Some(at) = bytes.iter().position(|key| Some(*key) == self.escape) {
                    self.escaped = true;
                    bytes = &bytes[..at];
                }
                self.last = bytes.last().copied().unwrap_or(self.last);
                self.typed = bytes.iter().rev().find_map(|key| match *key {
                    INTERRUPT_KEY => Some(SIGINT),
                    QUIT_KEY => Some(SIGQUIT),
                    _ => None,
                });
                self.inward.extend_from_slice(bytes);
            }
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
                self.take_output(&buffer[..length]);
                true
            }
            Err(Errno::INTR | Errno::AGAIN) => true,
            // The last holder of the other end is gone.
            Err(_) => false,
        }
    }

    fn take_output(&mut self, bytes: &[u8]) {
        match &mut self.output {
            Output::Ours => self.outward.extend_from_slice(bytes),
            Output::File(file, _) | Output::Console(file, _) => {
                let room = MOST_KEPT.saturating_sub(self.kept).min(bytes.len());
                self.kept += room;
                let _ = file.write_all(&bytes[..room]);
                if let Output::Console(_, visitors) = &mut self.output {
                    visitors.show(bytes);
                }
            }
        }
    }

    fn write_output(&mut self) {
        let length = self.outward.len().min(PIPE_BUF);
        match rustix::io::write(rustix::stdio::stdout(), &self.outward[..length]) {
            Ok(length) => drop(self.outward.drain(..length)),
            Err(Errno::INTR | Errno::AGAIN) => {}
            // Nobody reads it. The program learns of it by SIGPIPE or SIGHUP, which reach us now and are passed on.
            Err(_) => self.outward.clear(),
        }
    }

    /// Carries what is left when the program has ended; who can't wait for the reader may interrupt it.
    pub(super) fn finish(&mut self, incoming: &SignalFd) {
        loop {
            if self.outward.is_empty() {
                let more = self.source.as_ref().is_some_and(|source| readable(source.as_fd())) && self.read_output();
                if !more {
                    return;
                }
                continue;
            }
            let mut files = [
                PollFd::from_borrowed_fd(rustix::stdio::stdout(), PollFlags::OUT),
                PollFd::from_borrowed_fd(incoming.as_fd(), PollFlags::IN),
            ];
            match poll(&mut files, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return,
            }
            let ready = !files[0].revents().is_empty();
            while let Some(received) = incoming.read() {
                if [SIGHUP, SIGINT, SIGQUIT, SIGTERM].contains(&received.signal) {
                    return;
                }
            }
            if ready {
                self.write_output();
            }
        }
    }
}
