//! `insula attach`: our terminal, connected to the console of a system in the background.

use crate::attend::console::{self, End, Keys};
use crate::global::Global;
use anyhow::Context;
use insula_container::attach;
use insula_sys::signals::SignalFd;
use insula_sys::{Errno, tty};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::RecvFlags;
use std::process::ExitCode;

const SIGWINCH: i32 = 28;

/// Connect the terminal to a system's console
#[derive(clap::Args)]
#[command(after_help = "Every key goes to the system, Ctrl-C too, but Ctrl-]: it leaves the console, and the system goes on.\n\
    Press Enter for a prompt. What was printed before shows `insula logs`. Without a terminal, the input goes to\n\
    the console as it is.\n\n\
    Example:\n  insula attach web")]
pub(crate) struct Args {
    /// The system
    name: String,
}

pub(crate) fn main(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    let slot = global.containers().store().find(&args.name.parse()?)?;
    let (printed, terminal) = attach::connect(&slot)?;
    console::show(&args.name, "system", |keys| carry(&printed, &terminal, keys))
}

/// Carries bytes both ways until one of them ends.
fn carry(printed: &OwnedFd, terminal: &OwnedFd, mut keys: Keys) -> anyhow::Result<End> {
    let stdin = rustix::stdio::stdin();
    let resized = SignalFd::new([SIGWINCH])?;
    if keys.interactive {
        tty::copy_size(stdin, terminal);
    }
    loop {
        let waits = if keys.typed.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        // Who asks for nothing is told of a hang-up, again and again.
        let input = if keys.wanted() { stdin } else { printed.as_fd() };
        let mut files = [
            PollFd::new(printed, PollFlags::IN),
            PollFd::new(&resized, PollFlags::IN),
            PollFd::from_borrowed_fd(input, PollFlags::IN),
            PollFd::new(terminal, waits),
        ];
        match poll(&mut files, None) {
            Err(Errno::INTR) => continue,
            ready => ready.context("can't wait for the console")?,
        };
        let ready = files.each_ref().map(|file| !file.revents().is_empty());
        if ready[0] && !print(printed)? {
            return Ok(End::Ended);
        }
        if ready[1] && resized.read().is_some() && keys.interactive {
            tty::copy_size(stdin, terminal);
        }
        if ready[2] && keys.wanted() {
            keys.read()?;
        }
        write(terminal, &mut keys.typed);
        if keys.left() {
            return Ok(End::Left);
        }
    }
}

/// Types as much as the terminal takes now.
fn write(terminal: &OwnedFd, typed: &mut Vec<u8>) {
    match rustix::io::write(terminal, typed) {
        Ok(length) => drop(typed.drain(..length)),
        Err(Errno::INTR | Errno::AGAIN) => {}
        // The end of what is printed says more.
        Err(_) => typed.clear(),
    }
}

/// Whether there may be more.
fn print(printed: &OwnedFd) -> anyhow::Result<bool> {
    let mut buffer = [0; 16384];
    match rustix::net::recv(printed.as_fd(), &mut buffer, RecvFlags::empty()) {
        Ok((0, _)) | Err(Errno::CONNRESET) => Ok(false),
        Ok((length, _)) => console::print(&buffer[..length]).map(|()| true),
        Err(Errno::INTR | Errno::AGAIN) => Ok(true),
        Err(errno) => Err(errno).context("can't hear the console"),
    }
}
