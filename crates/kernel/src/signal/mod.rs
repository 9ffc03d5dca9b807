//! Signals, signal(7).
//!
//! A signal that is sent is *pending* on a task or on its process, until a task that doesn't block it comes by [`deliver`] on its way back to the
//! program. There its action is taken: nothing, an end, a stop, or a frame on the program's stack and the registers set to its handler.
//! Sending only marks and wakes; all that a signal does, it does in the task that takes it.
//!
//! | module | holds |
//! |---|---|
//! | [`set`] | sets of signals |
//! | [`queue`] | what is pending |
//! | [`action`] | what a process does with each signal |
//! | [`send`] | sending, and who may |
//! | [`deliver`](mod@deliver) | the last word on a task's registers |
//! | [`stop`] | stopping and going on: job control |
//! | [`frame`] | frames on the program's stack, and the way back |

pub mod action;
pub mod deliver;
pub mod frame;
pub mod queue;
pub mod send;
pub mod set;
pub mod stop;

pub use action::{Actions, Default as DefaultAction};
pub use deliver::{Next, deliver, enter_program};
pub use queue::Pending;
pub use send::Target;
pub use set::SigSet;

use alloc::boxed::Box;
use insula_abi::general as c;
use insula_abi::signal::Stack;

/// The highest signal.
pub const LAST: i32 = 64;

/// Signals from here on are queued each time they are sent.
pub const FIRST_QUEUED: i32 = c::SIGRTMIN as i32;

/// A task's own part in signals.
pub struct Own {
    /// Sent to it alone.
    pub pending: Pending,
    /// Not taken for now.
    pub blocked: SigSet,
    /// What was blocked before a call put another mask in place for its time (sigsuspend(2), ppoll(2)).
    pub saved: Option<SigSet>,
    /// Waited for by sigtimedwait(2), and taken although blocked.
    pub awaited: SigSet,
    /// Where handlers with `SA_ONSTACK` run.
    pub alternate: Stack,
    /// What the last fault was, for frames: its number, error code and address.
    pub fault: FaultRegisters,
    /// rt_sigreturn(2) was called: the frame is read on the way back.
    pub returning: bool,
    /// What execve(2) begins with, on the way back.
    pub entry: Option<Box<crate::Regs>>,
    /// It has the registers of a new program, and is still on that way.
    pub begins: bool,
}

/// What a frame tells of the last fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultRegisters {
    /// The processor's number of the exception.
    pub trap: u64,
    /// Its error code.
    pub error: u64,
    /// The address, for page faults.
    pub address: u64,
}

impl Own {
    /// Nothing pending; this is blocked.
    pub fn new(blocked: SigSet) -> Self {
        Own {
            pending: Pending::default(),
            blocked,
            saved: None,
            awaited: SigSet::EMPTY,
            alternate: NO_STACK,
            fault: FaultRegisters::default(),
            returning: false,
            entry: None,
            begins: false,
        }
    }

    /// Whether the task would take this signal now.
    pub fn takes(&self, signal: i32) -> bool {
        !self.blocked.has(signal) || self.awaited.has(signal)
    }
}

/// No alternate stack.
pub const NO_STACK: Stack = Stack { sp: 0, flags: c::SS_DISABLE as i32, pad: 0, size: 0 };
