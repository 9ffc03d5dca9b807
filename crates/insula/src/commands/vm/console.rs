//! `insula vm console`: our terminal, connected to the serial console of a machine that runs.

use super::machines::Machines;
use crate::attend::console::{self, End, Keys};
use crate::global::Global;
use anyhow::Context;
use insula_sys::Errno;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::SendFlags;
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
    console::show(&args.name, "machine", |keys| console::print(&early).and_then(|()| carry(&stream, keys)))
}

/// Carries bytes both ways until one of them ends.
fn carry(stream: &UnixStream, mut keys: Keys) -> anyhow::Result<End> {
    loop {
        let waits = if keys.typed.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        let mut files = vec![PollFd::new(stream, PollFlags::IN | waits)];
        if keys.wanted() {
            files.push(PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN));
        }
        match poll(&mut files, None) {
            Err(Errno::INTR) => continue,
            ready => ready.context("can't wait for the console")?,
        };
        let (socket, typed) = (files[0].revents(), files.get(1).map_or(PollFlags::empty(), PollFd::revents));
        if socket.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) && !print(stream)? {
            return Ok(End::Ended);
        }
        if !typed.is_empty() {
            keys.read()?;
        }
        send(stream, &mut keys.typed)?;
        if keys.left() {
            return Ok(End::Left);
        }
        if keys.ended() {
            let _ = stream.shutdown(Shutdown::Write);
        }
    }
}

/// Prints what has come; false if no more will.
fn print(stream: &UnixStream) -> anyhow::Result<bool> {
    let mut buffer = [0; 16 << 10];
    match rustix::io::read(stream, &mut buffer) {
        Ok(0) | Err(Errno::CONNRESET) => Ok(false),
        Ok(length) => console::print(&buffer[..length]).map(|()| true),
        Err(Errno::INTR | Errno::AGAIN) => Ok(true),
        Err(errno) => Err(errno).context("can't read the console"),
    }
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
