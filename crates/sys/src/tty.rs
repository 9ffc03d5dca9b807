//! Terminals.

use crate::error::{Context, Result};
use crate::process::FromC;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::termios::{OptionalActions, Termios, Winsize};

/// A terminal whose settings are put back when this goes.
#[derive(Debug)]
pub struct Raw {
    terminal: OwnedFd,
    before: Termios,
}

impl Raw {
    /// Makes a terminal pass bytes as they are.
    ///
    /// # Errors
    /// It is no terminal.
    pub fn new(terminal: impl AsFd) -> Result<Raw> {
        let terminal = terminal.as_fd().try_clone_to_owned().on("use", "the terminal")?;
        let before = rustix::termios::tcgetattr(&terminal).on("read the settings of", "the terminal")?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(&terminal, OptionalActions::Now, &raw).on("set up", "the terminal")?;
        Ok(Raw { terminal, before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(&self.terminal, OptionalActions::Drain, &self.before);
    }
}

/// Makes a terminal the controlling one of this process, which must lead a session.
///
/// # Errors
/// It controls another session.
pub fn control(terminal: impl AsFd) -> Result<()> {
    rustix::process::ioctl_tiocsctty(terminal).on("control", "the terminal")
}

/// Gives a terminal the size of another.
pub fn copy_size(from: impl AsFd, to: impl AsFd) {
    if let Ok(size) = rustix::termios::tcgetwinsize(from) {
        let _ = rustix::termios::tcsetwinsize(to, size);
    }
}

/// Sets the size of a terminal in columns and rows.
pub fn set_size(terminal: impl AsFd, columns: u16, rows: u16) {
    let _ = rustix::termios::tcsetwinsize(terminal, Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 });
}

/// A terminal's settings as the kernel keeps them: the bytes of a `struct termios2` (ioctl_tty(2)).
pub type Settings = [u8; 44];

/// `TCGETS2` and `TCSETS2` of ioctl_tty(2), on x86-64.
const GET_SETTINGS: libc::c_ulong = 0x802c_542a;
const SET_SETTINGS: libc::c_ulong = 0x402c_542b;

/// Reads a terminal's settings.
///
/// # Errors
/// `ENOTTY`: it is none.
pub fn settings(terminal: impl AsFd) -> rustix::io::Result<Settings> {
    let mut settings: Settings = [0; 44];
    // SAFETY: the call writes a `struct termios2`, which has the buffer's size.
    let got = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), GET_SETTINGS, settings.as_mut_ptr()) };
    Errno::result(i64::from(got)).map(|_| settings)
}

/// Changes a terminal's settings at once.
///
/// # Errors
/// `ENOTTY`: it is none.
pub fn set_settings(terminal: impl AsFd, settings: &Settings) -> rustix::io::Result<()> {
    // SAFETY: the call reads a `struct termios2`, which has the buffer's size.
    let done = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), SET_SETTINGS, settings.as_ptr()) };
    Errno::result(i64::from(done)).map(drop)
}

/// The process group in a terminal's foreground, if it is our controlling terminal.
pub fn foreground(terminal: impl AsFd) -> Option<Pid> {
    rustix::termios::tcgetpgrp(terminal).ok()
}

/// Puts a process group into a terminal's foreground; also from the background, where the kernel would stop us with SIGTTOU.
pub fn set_foreground(terminal: impl AsFd, group: Pid) -> bool {
    let ttou = libc::SIGTTOU;
    // SAFETY: ignoring a signal installs no handler, and the former action is put back.
    unsafe {
        let before = libc::signal(ttou, libc::SIG_IGN);
        let done = Errno::result(i64::from(libc::tcsetpgrp(terminal.as_fd().as_raw_fd(), group.as_raw_pid()))).is_ok();
        libc::signal(ttou, before);
        done
    }
}
