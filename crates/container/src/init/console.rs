//! The container's terminal: a pair made in its own devpts, one end for the program, the other for the caller.

use crate::channel::{Channel, Message, failed};
use insula_boundary::Error;
use insula_spec::plan::Process;
use insula_sys::{Context, defence, mount, tty};
use rustix::fd::OwnedFd;
use rustix::fs::OFlags;
use rustix::pty::OpenptFlags;
use std::path::Path;

/// Makes a terminal, sends its outer end to the caller and gives back the inner one; it also is `/dev/console`.
pub(super) fn make(root: &OwnedFd, process: &Process, channel: &Channel) -> Result<OwnedFd, Error> {
    let inner = open(root, process, channel)?;
    let place = mount::make_file_inside(root, Path::new("/dev/console")).on("make", "/dev/console").map_err(failed)?;
    // Its name in /dev/pts could be anything (CVE-2025-52565).
    let shown = if defence::stands("terminal-by-descriptor") { &inner } else { &by_name(root, &inner)? };
    let copy = mount::copy(shown, Path::new(""), false).on("bind the terminal on", "/dev/console").map_err(failed)?;
    mount::attach(&copy, place).on("bind the terminal on", "/dev/console").map_err(failed)?;
    Ok(inner)
}

/// What has the terminal's name, as a build without the defence takes it.
fn by_name(root: &OwnedFd, terminal: &OwnedFd) -> Result<OwnedFd, Error> {
    let number = rustix::fs::minor(rustix::fs::fstat(terminal).on("look at", "the terminal").map_err(failed)?.st_rdev);
    let name = format!("/dev/pts/{number}");
    mount::open_inside(root, Path::new(&name), OFlags::PATH).on("open", &name).map_err(failed)
}

/// Makes a terminal in the devpts below this root, and sends its outer end to the caller.
pub(crate) fn open(root: &OwnedFd, process: &Process, channel: &Channel) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let outer = mount::open_inside(root, Path::new("/dev/pts/ptmx"), flags);
    let outer = outer.on("open a terminal in", "/dev/pts (is a devpts mounted there?)").map_err(failed)?;
    rustix::pty::unlockpt(&outer).on("unlock", "the terminal").map_err(failed)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let inner = rustix::pty::ioctl_tiocgptpeer(&outer, flags).on("open", "the terminal").map_err(failed)?;
    if let Some((columns, rows)) = process.console_size {
        tty::set_size(&inner, columns, rows);
    }
    channel.send(Message::Terminal(outer))?;
    Ok(inner)
}
