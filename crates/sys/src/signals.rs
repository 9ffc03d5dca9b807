//! Signals as descriptors, and as the program to come finds them.

use crate::error::{Context, Result};
use crate::process::FromC;
use rustix::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use rustix::io::Errno;

/// Every signal that can be blocked, as the kernel numbers them: 1 to 64 without SIGKILL and SIGSTOP.
pub fn blockable() -> impl Iterator<Item = i32> {
    (1..=64).filter(|n| ![libc::SIGKILL, libc::SIGSTOP].contains(n))
}

/// A descriptor from which blocked signals are read, signalfd(2).
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

/// One signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Which.
    pub signal: i32,
    /// The kernel sent it, for a terminal or a child, rather than a process.
    pub from_kernel: bool,
}

impl SignalFd {
    /// Blocks these signals and opens a descriptor that tells of them.
    ///
    /// # Errors
    /// The kernel has no descriptor left.
    pub fn new(signals: impl IntoIterator<Item = i32>) -> Result<SignalFd> {
        let set = sigset(signals);
        // SAFETY: `set` is initialised and no old set is asked for.
        let blocked = unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        Errno::result(i64::from(blocked)).on("block", "signals")?;
        // SAFETY: `set` is initialised; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        let fd = Errno::result(i64::from(fd)).on("open", "a signal descriptor")?;
        // SAFETY: the call succeeded, so the descriptor is new and ours.
        Ok(SignalFd(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// The next signal, if one has come.
    pub fn read(&self) -> Option<Received> {
        // SAFETY: all zeros is a valid value of this plain structure.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the buffer has the size that is given.
        let got = unsafe { libc::read(self.0.as_raw_fd(), (&raw mut info).cast(), size) };
        let whole = got == size as isize;
        whole.then_some(Received { signal: info.ssi_signo as i32, from_kernel: info.ssi_code == libc::SI_KERNEL })
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> rustix::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn sigset(signals: impl IntoIterator<Item = i32>) -> libc::sigset_t {
    // SAFETY: sigemptyset initialises the set; numbers outside 1 to 64 are refused by sigaddset without harm.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, signal);
        }
        set
    }
}

/// Gives every signal its default action and blocks none: what a program expects to find at exec. (The Rust runtime ignores SIGPIPE,
/// and a caller may have left others ignored, which exec would pass on.)
pub fn reset() {
    for signal in blockable() {
        // The C library keeps 32 and 33 for its threads.
        if ![32, 33].contains(&signal) {
            // SAFETY: the default action installs no handler.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
    unblock_all();
}

/// Blocks no signal.
pub fn unblock_all() {
    let none = sigset([]);
    // SAFETY: `none` is initialised and no old set is asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) };
}

/// Gives a signal its default action.
pub fn default_action(signal: i32) {
    // SAFETY: the default action installs no handler.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Ignores a signal.
pub fn ignore(signal: i32) {
    // SAFETY: ignoring installs no handler.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Sends a signal, by number, to a process of ours.
pub fn send(pid: rustix::process::Pid, signal: i32) {
    // SAFETY: kill reads no memory.
    unsafe { libc::kill(pid.as_raw_pid(), signal) };
}

/// Sends a signal to this process, or to its whole group, and lets it have its default action here and now, though it is held back
/// otherwise. Returns, if it does, whether this process was stopped and has been continued: the kernel doesn't stop for its terminal
/// who has no shell above it.
pub fn undergo(signal: i32, group: bool) -> bool {
    default_action(signal);
    let (this, cont) = (sigset([signal]), sigset([libc::SIGCONT]));
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the sets and the time are initialised and live through the calls; no old set and no details are asked for.
    unsafe {
        libc::kill(if group { 0 } else { libc::getpid() }, signal);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const this, std::ptr::null_mut());
        libc::sigprocmask(libc::SIG_BLOCK, &raw const this, std::ptr::null_mut());
        libc::sigtimedwait(&raw const cont, std::ptr::null_mut(), &raw const now) == libc::SIGCONT
    }
}

/// Sends a signal to every process of this process's group.
pub fn raise_group(signal: i32) {
    // SAFETY: kill reads no memory.
    unsafe { libc::kill(0, signal) };
}

/// The number of a signal from `TERM`, `SIGTERM`, `15` or `RTMIN+3`.
pub fn number(name: &str) -> Option<i32> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
        "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR",
        "SYS",
    ];
    const RTMIN: i32 = 34;
    const RTMAX: i32 = 64;
    let in_range = |n: i32| (0..=RTMAX).contains(&n).then_some(n);
    if let Ok(number) = name.parse() {
        return in_range(number);
    }
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = bare.strip_prefix("RTMIN") {
        return if offset.is_empty() { Some(RTMIN) } else { in_range(RTMIN.checked_add(offset.parse().ok()?)?) };
    }
    if let Some(offset) = bare.strip_prefix("RTMAX") {
        return if offset.is_empty() { Some(RTMAX) } else { in_range(RTMAX.checked_add(offset.parse().ok()?)?) };
    }
    match bare {
        "IOT" => Some(libc::SIGABRT),
        "POLL" => Some(libc::SIGIO),
        "CLD" => Some(libc::SIGCHLD),
        _ => NAMES.iter().position(|known| *known == bare).map(|n| n as i32 + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn names_are_kills_own() {
        assert_eq!((number("TERM"), number("sigkill"), number("9"), number("SYS")), (Some(15), Some(9), Some(9), Some(31)));
        assert_eq!((number("RTMIN+3"), number("RTMAX-1"), number("65"), number("NONSENSE")), (Some(37), Some(63), None, None));
    }
}
