//! What becomes of a system call.

use crate::Result;
use crate::syscall::Cx;
use crate::task::Task;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::future::Future;
use core::pin::Pin;

/// A call that waits: what it resolves to is the call's result.
pub type Blocked = Pin<Box<dyn Future<Output = Result<u64>> + Send>>;

/// A call about which somebody else decides: its result, or none if it is to be made after all, by [`crate::syscall::carry_out`].
pub type Undecided = Pin<Box<dyn Future<Output = Option<Result<u64>>> + Send>>;

/// What restart_syscall(2) does for a call that was interrupted.
pub type Restart = Box<dyn FnOnce(&mut Cx<'_>) -> SysResult + Send>;

/// What becomes of a system call.
pub enum Flow {
    /// It is done; this is its result.
    Done(u64),
    /// The task waits; the future's value is the result.
    Block(Blocked),
    /// It is done, and the registers are set already: `rt_sigreturn`, `execve`.
    Registers,
    /// A new task is there, and is to be placed; the caller goes on with its number, once `wait` (of `vfork`) is over.
    Clone(Box<Newborn>),
    /// This task has ended.
    Exit,
    /// The task is traced. Its tracer may have something to say first: what it is told, if not that the call is about to be made
    /// ([`crate::trace::stop`]); then it is made by [`crate::syscall::dispatch_confined`].
    Traced(Option<Box<crate::trace::Report>>),
    /// The task waits for somebody who decides about the call, seccomp_unotify(2).
    Asked(Undecided),
}

/// A task that is to be placed.
pub struct Newborn {
    /// The task.
    pub task: Arc<Task>,
    /// What it starts with.
    pub regs: crate::Regs,
    /// How it stands to its maker's memory.
    pub memory: NewbornMemory,
    /// What the maker's call waits for before it goes on.
    pub wait: Option<Blocked>,
}

/// How a new task's memory stands to its maker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewbornMemory {
    /// The same.
    Shared,
    /// A copy: mappings are the maker's after all operations logged so far.
    Copied,
}

/// How a handler answers.
pub type SysResult = Result<Flow>;

impl Flow {
    /// Waits for `future`.
    pub fn block(future: impl Future<Output = Result<u64>> + Send + 'static) -> Flow {
        Flow::Block(Box::pin(future))
    }
}

macro_rules! done {
    ($($type:ty)*) => {$(
        impl From<$type> for Flow {
            fn from(value: $type) -> Flow {
                Flow::Done(value as u64)
            }
        }
    )*};
}

done!(u64 usize u32 i32 i64);

impl From<()> for Flow {
    fn from((): ()) -> Flow {
        Flow::Done(0)
    }
}
