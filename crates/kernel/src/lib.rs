//! A kernel with Linux's binary interface, apart from any place to run it.
//!
//! Unmodified programs call it as they would call Linux; it answers from its own tables and asks nothing of a host but what the small
//! traits in [`host`] offer. Where programs run (a traced process, a ring of a virtual machine) is the *placement's* business.
//!
//! # How a call flows
//!
//! A placement enters the program with a task's registers and comes back with an event. A system call goes to [`syscall::dispatch`], which
//! answers with a [`Flow`]: *done*, or *block* on a future that the placement drives while the program waits, or a request that only
//! the placement can carry out (a new task, an end). A fault goes to [`mm::Mm::fault`]. What changed in an address space is a log of
//! [`mm::MapOp`]s, which the placement applies before it enters the program again; then [`signal::deliver`] has the last word on the registers.
//!
//! | module | holds |
//! |---|---|
//! | [`host`] | what a host offers: a clock, entropy, memory, files |
//! | [`cpu`] | a task's registers, which only the placement can reach |
//! | [`sync`], [`wait`], [`time`] | locks; waiting for something, with a deadline and for signals; timers |
//! | [`mm`] | address spaces, copies to and from user memory |
//! | [`task`] | tasks, processes, sessions, credentials, limits |
//! | [`exec`] | programs, and how they begin |
//! | [`signal`] | signals, and frames on user stacks |
//! | [`futex`] | tasks that wait at words of memory |
//! | [`tty`] | terminals |
//! | [`fs`] | the tree of files, descriptors, pipes, and files that wait |
//! | [`seccomp`] | tasks that confine themselves |
//! | [`trace`] | tasks that watch and change others |
//! | [`socket`] | sockets |
//! | [`ipc`] | System V IPC and POSIX message queues |
//! | [`syscall`] | a handler for each call, and the table of what is supported |
//!
//! # Rules
//!
//! 1. Try first: an operation finishes at once or says `EAGAIN`; only then is a future made. Nothing else blocks.
//! 2. No lock is held across an await, nor while user memory is copied if the holder can't bear a fault there.
//! 3. User memory is hostile and may vanish: each copy can fail with `EFAULT`, and what was copied stays copied.
//! 4. Locks are taken in this order: process tree, a process, a task, descriptors, dentries and inodes, futexes, an address
//!    space, frames, wait queues.
//! 5. A handler reads like the manual page. What isn't there answers `ENOSYS` and is counted.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod cpu;
pub mod exec;
pub mod flow;
pub mod fs;
pub mod futex;
pub mod host;
pub mod ipc;
pub mod mm;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod sync;
pub mod syscall;
pub mod task;
pub mod time;
pub mod trace;
pub mod tty;
pub mod wait;

mod kernel;
#[cfg(test)]
mod testing;

pub use flow::{Flow, SysResult};
pub use insula_abi::{Errno, Regs};
pub use kernel::Kernel;

/// A result of something that a program asked for.
pub type Result<T> = core::result::Result<T, Errno>;
