//! The first process when the program isn't: it takes in orphans, passes signals on, and ends with the program.
//!
//! The kernel protects the first process of a PID namespace from signals it doesn't handle, so a program in that place can't be
//! interrupted with Ctrl-C or stopped with Ctrl-Z unless it was written for it; and nobody takes the exit codes of orphans. A program
//! that a shell would start finds neither surprise behind this process, which has no privilege but to signal, and may make a dozen
//! system calls.

use super::program::die_with_parent;
use crate::channel::failed;
use insula_boundary::Error;
use insula_seccomp::Sysno;
use insula_spec::CapSet;
use insula_spec::seccomp::Action;
use insula_sys::process::{self, Fork, Spaces};
use insula_sys::signals::{self, SignalFd};
use insula_sys::{capability, seccomp};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::{Pid, Signal, WaitOptions};

/// What the first process needs from here on.
const CALLS: [Sysno; 15] = [
    Sysno::read,
    Sysno::write,
    Sysno::poll,
    Sysno::ppoll,
    Sysno::wait4,
    Sysno::waitid,
    Sysno::kill,
    Sysno::exit_group,
    Sysno::rt_sigreturn,
    Sysno::rt_sigprocmask,
    Sysno::restart_syscall,
    Sysno::close,
    Sysno::brk,
    Sysno::mmap,
    Sysno::munmap,
];

/// Returns in a new process, which is to be the program; the present one stays behind and never returns.
pub(super) fn split(stops: Option<OwnedFd>, attached: bool) -> Result<(), Error> {
    // From before the program exists, so that none of its signals is missed.
    let incoming = SignalFd::new(signals::blockable()).map_err(failed)?;
    match process::fork(Spaces::empty(), None).map_err(failed)? {
        Fork::Child => Ok(()),
        Fork::Parent(child) => {
            // What is sent to the caller's group reaches the caller, who sends on what the program is to have: once.
            let _ = rustix::process::setpgid(None, None);
            // The channel among them: its end must be the program's exec. What owns them is never dropped, as this never returns.
            let keep: Vec<_> = [Some(incoming.as_fd()), stops.as_ref().map(AsFd::as_fd)].into_iter().flatten().collect();
            process::close_all_except(0, &keep);
            if attached && die_with_parent().is_err() || confine().is_err() {
                process::exit(125);
            }
            stay(child.pid, &incoming, stops)
        }
    }
}

/// Gives up all but what the work needs.
fn confine() -> Result<(), Error> {
    let kill = CapSet::EMPTY.with("KILL").unwrap_or_default().bits();
    let _ = rustix::thread::set_name(c"insula-init");
    capability::limit_bounding(kill).map_err(failed)?;
    let (_, mine, _) = capability::get().map_err(failed)?;
    capability::set(kill & mine, kill & mine, 0).map_err(failed)?;
    let _ = rustix::thread::set_no_new_privs(true);
    let program = insula_seccomp::allow_only(CALLS.map(|call| (call, &[][..])), Action::KillProcess);
    let program = program.map_err(|error| Error::Failed(error.to_string()))?;
    seccomp::load(&program, 0).map(drop).map_err(failed)
}

fn stay(program: Pid, incoming: &SignalFd, stops: Option<OwnedFd>) -> ! {
    loop {
        let _ = poll(&mut [PollFd::new(incoming, PollFlags::IN)], None);
        while let Some(received) = incoming.read() {
            match received.signal {
                libc_signal::CHLD => reap(program, stops.as_ref()),
                signal => pass_on(program, signal),
            }
        }
    }
}

/// Takes the exit codes of all that have ended; with the program's, it is over.
fn reap(program: Pid, stops: Option<&OwnedFd>) {
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
        if pid != program {
            continue;
        }
        if let Some(signal) = status.stopping_signal() {
            tell(stops, signal as u8);
        } else if let Some(code) = status.exit_status() {
            process::exit(code);
        } else if let Some(signal) = status.terminating_signal() {
            // A code of its own could be the same.
            tell(stops, 128 + signal as u8);
            process::exit(128 + signal);
        }
    }
}

fn tell(stops: Option<&OwnedFd>, word: u8) {
    if let Some(stops) = stops {
        let _ = rustix::io::write(stops, &[word]);
    }
}

/// What a terminal sends goes to the program's whole group, as a terminal would; stopping must reach everybody and can't be refused.
fn pass_on(program: Pid, signal: i32) {
    let to_group = |signal| {
        let _ = rustix::process::kill_process_group(program, signal);
    };
    match signal {
        libc_signal::INT => to_group(Signal::INT),
        libc_signal::QUIT => to_group(Signal::QUIT),
        libc_signal::TSTP | libc_signal::TTIN | libc_signal::TTOU => to_group(Signal::STOP),
        libc_signal::CONT => to_group(Signal::CONT),
        other => signals::send(program, other),
    }
}

/// Numbers for matching.
mod libc_signal {
    pub(super) const INT: i32 = 2;
    pub(super) const QUIT: i32 = 3;
    pub(super) const CHLD: i32 = 17;
    pub(super) const CONT: i32 = 18;
    pub(super) const TSTP: i32 = 20;
    pub(super) const TTIN: i32 = 21;
    pub(super) const TTOU: i32 = 22;
}
