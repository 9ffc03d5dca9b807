//! Signals that reach the sandbox from outside, and who in it is meant.

use super::streams::Front;
use insula_abi::general as c;
use insula_abi::signal::Siginfo;
use insula_kernel::Kernel;
use insula_kernel::signal::Target;
use insula_kernel::signal::send::send_from_outside;
use insula_kernel::task::Process;
use insula_sys::signals::Received;
use std::sync::Arc;

/// Passes them on.
pub(super) struct Switchboard<'a> {
    pub(super) kernel: &'a Arc<Kernel>,
    /// The first process.
    pub(super) first: &'a Arc<Process>,
    pub(super) front: &'a Front,
    /// The program is a command as a shell starts it, rather than an init.
    pub(super) command: bool,
}

impl Switchboard<'_> {
    /// One has come. What a terminal of the host's sends is for who is in the foreground in here; what our caller sends to a command is for
    /// its whole process group, as a terminal would have it, and being stopped can't be refused.
    pub(super) fn pass_on(&self, received: Received) {
        let signal = received.signal;
        match (signal as u32, self.front) {
            (c::SIGWINCH, Front::Own(relay)) => relay.resize(),
            (c::SIGWINCH, Front::Shared(tty, _)) => tty.signal_foreground(signal),
            (c::SIGHUP, Front::Shared(tty, _)) if received.from_kernel => tty.hang_up(),
            (c::SIGINT | c::SIGQUIT | c::SIGTSTP, Front::Shared(tty, _)) if received.from_kernel => tty.signal_foreground(signal),
            (c::SIGINT | c::SIGQUIT | c::SIGCONT, _) if self.command => self.to_group(signal),
            (c::SIGTSTP | c::SIGTTIN | c::SIGTTOU, _) if self.command => self.to_group(c::SIGSTOP as i32),
            _ => send(self.first, signal),
        }
    }

    fn to_group(&self, signal: i32) {
        let (_, group, _) = self.kernel.pids.relations(self.first.pid);
        for process in self.kernel.pids.group(group) {
            send(&process, signal);
        }
    }
}

/// Sends a signal from outside.
pub(super) fn send(process: &Arc<Process>, signal: i32) {
    // A process whose queue is full misses it, as on the host.
    let _ = send_from_outside(Target::Process(process), Siginfo::sent(signal, 0, 0, 0));
}
