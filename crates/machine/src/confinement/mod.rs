//! What each thread of a machine's process may ask of the host's kernel.
//!
//! A guest that finds a bug in a device of ours runs as us. So before its first instruction runs, each thread gives up every system call
//! but those it needs: those in the list [`CALLS`], with the arguments that it says. One that isn't there ends the process, with a line
//! that names it.
//!
//! What needs more (opening files, making sockets, rings and threads) has been done by then: [`crate::Machine::run`] is that point.
//! A thread that is added gets a [`Thread`], a column in the list, and calls [`Filters::confine`] before it does anything else.

mod calls;
#[cfg(test)]
mod tests;

pub use calls::CALLS;

use crate::error::{Result, host};
use insula_seccomp::Sysno;
use insula_spec::seccomp::{Action, Condition, Test};
use insula_sys::seccomp::{self, Instruction};
use std::sync::OnceLock;

/// A kind of thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thread {
    /// The event loop, in the process's first thread: devices, console input, and what is to be tidied up at the end.
    Loop,
    /// A virtual processor: the guest, the registers of devices, console output.
    Vcpu,
    /// Carries input that can't be waited for (a plain file) into a pipe.
    Input,
    /// Brings the rest of the guest's kernel while the guest starts.
    Loader,
}

impl Thread {
    /// All kinds.
    pub const ALL: [Thread; 4] = [Thread::Loop, Thread::Vcpu, Thread::Input, Thread::Loader];
}

/// What a machine has that a call is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Every machine has it.
    Any,
    /// Disks.
    Disk,
    /// Network cards on taps.
    Card,
    /// Network cards in a network of our own.
    Network,
    /// Sockets between guest and host.
    Sockets,
    /// A balloon.
    Balloon,
    /// Devices on PCI.
    Pci,
    /// An end that leaves nothing on record.
    Temporary,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 8] =
        [Part::Any, Part::Disk, Part::Card, Part::Network, Part::Sockets, Part::Balloon, Part::Pci, Part::Temporary];
}

/// A call that is allowed. Another one of the same name may allow it with other arguments.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Which.
    pub call: Sysno,
    /// What has to hold of its arguments.
    pub conditions: &'static [Condition],
    /// The same in a reader's words.
    pub only: &'static str,
    /// Who may make it.
    pub threads: &'static [Thread],
    /// In which machines.
    pub part: Part,
    /// What for.
    pub purpose: &'static str,
    /// Why it isn't seen where machines do their ordinary work, if it isn't.
    pub rare: Option<&'static str>,
}

/// What the threads of one machine are confined by.
#[derive(Debug)]
pub(crate) struct Filters {
    /// What the machine has; none, if it isn't to be confined.
    parts: Option<Vec<Part>>,
    /// By thread, made when the first of its kind asks.
    programs: [OnceLock<Vec<Instruction>>; Thread::ALL.len()],
}

impl Filters {
    /// For a machine with these parts.
    pub(crate) fn new(parts: Vec<Part>) -> Result<Filters> {
        seccomp::tell_of_violations(|number| Sysno::new(number).map(|call| call.name()))?;
        Ok(Filters { parts: Some(parts), programs: Default::default() })
    }

    /// For a machine whose threads may do anything.
    pub(crate) fn none() -> Filters {
        Filters { parts: None, programs: Default::default() }
    }

    /// Confines this thread, which has a name that a user would know it by, for as long as it lives.
    pub(crate) fn confine(&self, thread: Thread, name: &str) -> Result<()> {
        let Some(parts) = &self.parts else { return Ok(()) };
        let known = &self.programs[thread as usize];
        let program = match known.get() {
            Some(program) => program,
            None => {
                let program = program(thread, parts)?;
                known.get_or_init(|| program)
            }
        };
        Ok(seccomp::confine(program, name)?)
    }
}

fn program(thread: Thread, parts: &[Part]) -> Result<Vec<Instruction>> {
    let allowed = CALLS.iter().filter(|call| call.threads.contains(&thread) && parts.contains(&call.part));
    // A trap: the process ends all the same, and says why.
    insula_seccomp::allow_only(allowed.map(|call| (call.call, call.conditions)), Action::Trap)
        .map_err(host("make the system-call filters"))
}

/// An argument, counted from 0, is this.
const fn is(argument: u8, value: u64) -> Condition {
    Condition { argument, test: Test::Eq, value }
}

/// None of these bits is set in an argument.
const fn without(argument: u8, bits: u64) -> Condition {
    Condition { argument, test: Test::MaskedEq(bits), value: 0 }
}
