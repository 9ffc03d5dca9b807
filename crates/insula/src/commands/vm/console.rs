//! `insula vm console`: our terminal, connected to the serial console of a machine that runs.

use super::machines::Machines;
use crate::global::Global;
use anyhow::Context;
use insula_machine::ESCAPE;
use insula_sys::{Errno, tty};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::AsFd;
use rustix::net::SendFlags;
use std::io::IsTerminal;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

/// Connect the terminal to a machine's console
#[derive(clap::Args)]
#[command(after_help = "Every key goes to the guest, Ctrl-C too, but Ctrl-]: it leaves the console, and the machine goes on.\n\
    What was printed before shows `insula vm logs`. Without a terminal, the input goes to the guest as it is.\n\n\
    Example:\n  insula vm console web")]
pub(crate) struct Args {
    /// The machine
    name: String,
}

pub(crate) fn main(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    let (early, stream) = Machines::new(global).find(&args.name)?.connect()?.console()?;
    let interactive = std::io::stdin().is_terminal();
    let raw = interactive.then(|| tty::Raw::new(rustix::stdio::stdin())).transpose()?;
    if interactive {
        crate::show::warn(format_args!("insula: this is the console of {}; Ctrl-] leaves it\r", args.name));
    }
    let end = write_all(&early).and_then(|()| carry(&stream, interactive));
    drop(raw);
    if interactive {
        match end {
            Ok(End::Left) => crate::show::warn("\ninsula: left the console; the machine goes on"),
            Ok(End::Ended) => crate::show::warn(format_args!("\ninsula: {} has ended", args.name)),
            Err(_) => {}
        }
    }
    end.map(|_| ExitCode::SUCCESS)
}

enum End {
    /// The user has left.
    Left,
    /// The machine has ended.
    Ended,
}

/// Carries bytes both ways until one of them ends.
fn carry(stream: &UnixStream, interactive: bool) -> anyhow::Result<End> {
    let stdin = rustix::stdio::stdin();
    let (mut typed, mut open) = (Vec::new(), true);
    loop {
        // What the guest hasn't taken yet keeps a file from being read on; from a terminal, the escape must be heard.
        let reads = open && (interactive || typed.is_empty());
        let waits = |wanted, flags| if wanted { flags } else { PollFlags::empty() };
        let mut files = vec![PollFd::new(stream, PollFlags::IN | waits(!typed.is_empty(), PollFlags::OUT))];
        if reads {
            files.push(PollFd::from_borrowed_fd(stdin, PollFlags::IN));
        }
        match poll(&mut files, None) {
            Err(Errno::INTR) => continue,
            ready => ready.context("can't wait for the console")?,
        };
        let (socket, keys) = (files[0].revents(), files.get(1).map_or(PollFlags::empty(), PollFd::revents));
        if socket.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) && !print(stream)? {
            return Ok(End::Ended);
        }
        if !keys.is_empty() {
            match read(stdin)? {
                bytes if bytes.is_empty() => open = false,
                bytes => match bytes.iter().position(|byte| interactive && *byte == ESCAPE) {
                    Some(at) => {
                        typed.extend_from_slice(&bytes[..at]);
                        send(stream, &mut typed)?;
                        return Ok(End::Left);
                    }
                    None => typed.extend(bytes),
                },
            }
        }
        // As on a line that nobody reads.
        typed.truncate(MOST_TYPED);
        send(stream, &mut typed)?;
        if !open && typed.is_empty() {
            let _ = stream.shutdown(Shutdown::Write);
        }
    }
}

/// Most that waits for the guest.
const MOST_TYPED: usize = 64 << 10;

fn read(file: impl AsFd) -> anyhow::Result<Vec<u8>> {
    let mut buffer = [0; 4096];
    loop {
        match rustix::io::read(&file, &mut buffer) {
            Ok(length) => return Ok(buffer[..length].to_vec()),
            Err(Errno::INTR) => {}
            // A terminal that is gone.
            Err(Errno::IO) => return Ok(Vec::new()),
            Err(errno) => return Err(errno).context("can't read what is typed"),
        }
    }
}

/// Prints what has come; false if no more will.
fn print(stream: &UnixStream) -> anyhow::Result<bool> {
    let mut buffer = [0; 16 << 10];
    match rustix::io::read(stream, &mut buffer) {
        Ok(0) | Err(Errno::CONNRESET) => Ok(false),
        Ok(length) => write_all(&buffer[..length]).map(|()| true),
        Err(Errno::INTR | Errno::AGAIN) => Ok(true),
        Err(errno) => Err(errno).context("can't read the console"),
    }
}

fn write_all(mut bytes: &[u8]) -> anyhow::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(rustix::stdio::stdout(), bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).context("can't write the output"),
        }
    }
    Ok(())
}

fn send(stream: &UnixStream, typed: &mut Vec<u8>) -> anyhow::Result<()> {
    if typed.is_empty() {
        return Ok(());
    }
    match rustix::net::send(stream, typed, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Ok(sent) => drop(typed.drain(..sent)),
        Err(Errno::INTR | Errno::AGAIN) => {}
        // It has ended, which is read next.
        Err(Errno::PIPE | Errno::CONNRESET) => typed.clear(),
        Err(errno) => return Err(errno).context("can't write to the console"),
    }
    Ok(())
}
