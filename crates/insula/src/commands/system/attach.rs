//! `insula attach`: our terminal, connected to the console of a system in the background.

use crate::attend::ESCAPE;
use crate::global::Global;
use anyhow::Context;
use insula_container::attach;
use insula_sys::signals::SignalFd;
use insula_sys::{Errno, tty};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::RecvFlags;
use std::io::{IsTerminal, Write};
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
    let interactive = std::io::stdin().is_terminal();
    let raw = interactive.then(|| tty::Raw::new(rustix::stdio::stdin())).transpose()?;
    if interactive {
        crate::show::warn(format_args!("insula: this is the console of {}; Ctrl-] leaves it\r", args.name));
    }
    let end = carry(&printed, &terminal, interactive);
    drop(raw);
    if interactive {
        match end {
            Ok(End::Left) => crate::show::warn("\ninsula: left the console; the system goes on"),
            Ok(End::Ended) => crate::show::warn(format_args!("\ninsula: {} has ended", args.name)),
            Err(_) => {}
        }
    }
    end.map(|_| ExitCode::SUCCESS)
}

enum End {
    /// The user has left.
    Left,
    /// The system has ended, or was started again.
    Ended,
}

/// Carries bytes both ways until one of them ends.
fn carry(printed: &OwnedFd, terminal: &OwnedFd, interactive: bool) -> anyhow::Result<End> {
    let stdin = rustix::stdio::stdin();
    let resized = SignalFd::new([SIGWINCH])?;
    let (mut typed, mut open) = (Vec::new(), true);
    if interactive {
        tty::copy_size(stdin, terminal);
    }
    loop {
        let wanted = |wanted, flags| if wanted { flags } else { PollFlags::empty() };
        // Who asks for nothing is told of a hang-up, again and again.
        let input = if open && typed.is_empty() { stdin } else { printed.as_fd() };
        let mut files = [
            PollFd::new(printed, PollFlags::IN),
            PollFd::new(&resized, PollFlags::IN),
            PollFd::from_borrowed_fd(input, PollFlags::IN),
            PollFd::new(terminal, wanted(!typed.is_empty(), PollFlags::OUT)),
        ];
        match poll(&mut files, None) {
            Err(Errno::INTR) => continue,
            ready => ready.context("can't wait for the console")?,
        };
        let ready = files.each_ref().map(|file| !file.revents().is_empty());
        if ready[0] && !print(printed)? {
            return Ok(End::Ended);
        }
        if ready[1] && resized.read().is_some() && interactive {
            tty::copy_size(stdin, terminal);
        }
        if ready[2] && open && typed.is_empty() {
            match read(stdin)? {
                bytes if bytes.is_empty() => open = false,
                bytes => match bytes.iter().position(|key| interactive && *key == ESCAPE) {
                    Some(_) => return Ok(End::Left),
                    None => typed = bytes,
                },
            }
        }
        write(terminal, &mut typed);
    }
}

/// What has been typed; nothing at the end.
fn read(stdin: BorrowedFd<'_>) -> anyhow::Result<Vec<u8>> {
    let mut buffer = [0; 4096];
    let length = rustix::io::retry_on_intr(|| rustix::io::read(stdin, &mut buffer)).context("can't read what is typed")?;
    Ok(buffer[..length].to_vec())
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
        Ok((length, _)) => {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(&buffer[..length]).and_then(|()| stdout.flush()).context("can't write what is printed")?;
            Ok(true)
        }
        Err(Errno::INTR | Errno::AGAIN) => Ok(true),
        Err(errno) => Err(errno).context("can't hear the console"),
    }
}
