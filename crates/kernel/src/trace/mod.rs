//! Tasks that watch and change others, ptrace(2).
//!
//! A *tracee* has one tracer, a task. Where something is to be told, the tracee stops on its way back to its program, or at the border of a call:
//! it leaves a copy of its registers in [`Stop`], tells its tracer's process, and waits. What the tracer asks for, it finds in that copy and in the
//! tracee's memory; when the tracee goes on, it takes over what was changed. So nobody but a task's own thread ever touches its processor.
//!
//! | module | holds |
//! |---|---|
//! | [`relation`] | who traces whom: its beginning, its end, what children and a new program make of it |
//! | [`stop`] | a tracee's own part: what it reports, how it stands still and goes on |
//! | [`request`] | what a tracer asks for |
//! | [`inspect`] | signals and filters of a tracee |
//! | [`state`] | registers, as a tracer sees and sets them |
//!
//! A task that nobody traces pays nothing: that it is traced is a bit beside its confinement ([`crate::seccomp::Confinement`]), and all else is behind
//! what [`crate::signal::deliver`] looks at.

mod inspect;
pub(crate) mod relation;
pub(crate) mod request;
mod state;
pub mod stop;

pub use stop::Report;

use crate::Regs;
use crate::task::Task;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use insula_abi::signal::Siginfo;

/// A task as one that is traced.
#[derive(Default)]
pub(crate) struct Trace {
    /// By whom, if it is.
    pub by: Option<Tracer>,
    /// What it is to report next, in order.
    pub reports: VecDeque<Report>,
    /// It is to stop, as soon as it can (`PTRACE_INTERRUPT`, a new child, the end of a group's stop).
    pub trap: bool,
    /// It has reported the stop of its group, and was let go on.
    pub passed_group_stop: bool,
    /// How its program goes on.
    pub pace: Pace,
    /// It is about to end alone, with this status as wait(2) tells it.
    pub leaving: Option<i32>,
    /// That it is about to end was reported.
    pub exit_reported: bool,
    /// Where it stands still; until it has seen that it was let go on.
    pub stop: Option<Stop>,
}

/// Who traces a task, and how.
#[derive(Clone)]
pub(crate) struct Tracer {
    pub task: Weak<Task>,
    /// `PTRACE_SEIZE`.
    pub seized: bool,
    /// `PTRACE_O_*`.
    pub options: u32,
}

/// How a tracee's program goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pace {
    /// On and on.
    #[default]
    Free,
    /// To the next border of a call.
    Calls,
    /// By one instruction.
    Step,
}

/// A tracee that stands still.
pub(crate) struct Stop {
    /// Why.
    pub report: Report,
    /// What wait(2) is told.
    pub status: i32,
    /// It was told.
    pub told: bool,
    /// What `PTRACE_GETSIGINFO` tells; nothing in a plain stop of the group.
    pub info: Option<Siginfo>,
    /// Its registers.
    pub regs: Regs,
    /// Its extended state, as `xsave` has it.
    pub extended: Vec<u8>,
    /// The tracer has set the extended state.
    pub extended_changed: bool,
    /// `PTRACE_LISTEN`: it stands still, but is its tracer's no more.
    pub listening: bool,
    /// It goes on, with this signal.
    pub resumed: Option<i32>,
}

/// The tracees of a process's tasks, by number.
pub(crate) type Tracees = BTreeMap<i32, Tracked>;

/// A tracee, from its tracer's side.
pub(crate) struct Tracked {
    pub task: Arc<Task>,
    /// The number of its tracer.
    pub tracer: i32,
    /// How it ended, if its tracer is to wait for that.
    pub ended: Option<i32>,
}

impl Trace {
    /// Whether an option is set, `PTRACE_O_*`.
    pub(crate) fn has(&self, option: u32) -> bool {
        self.by.as_ref().is_some_and(|by| by.options & option != 0)
    }

    fn is_seized(&self) -> bool {
        self.by.as_ref().is_some_and(|by| by.seized)
    }

    /// Where it stands still, its tracer's to ask.
    pub(crate) fn stopped(&mut self) -> Option<&mut Stop> {
        self.stop.as_mut().filter(|stop| stop.resumed.is_none() && !stop.listening)
    }
}

impl Task {
    /// Whether it is traced.
    pub fn is_traced(&self) -> bool {
        self.confinement.is_traced()
    }

    /// Its tracer.
    pub(crate) fn tracer(&self) -> Option<Arc<Task>> {
        self.trace.lock().by.as_ref().and_then(|by| by.task.upgrade())
    }

    /// Whether it stands still for its tracer.
    pub(crate) fn stands_traced(&self) -> bool {
        self.is_traced() && self.trace.lock().stop.as_ref().is_some_and(|stop| stop.resumed.is_none())
    }
}
