//! Linux's binary interface on x86-64, as a kernel sees it: what numbers mean, and how structures lie in user memory.
//!
//! No code but conversions lives here, and no choice of ours: every value is Linux's. Constants come from the kernel's own headers
//! ([`general`], [`net`] and the others are `linux-raw-sys`); structures that cross user memory are defined here, as bytes that any
//! value may lie in ([`zerocopy`]), so that reading one from a hostile program needs no `unsafe` and can't go wrong.
//!
//! | module | holds |
//! |---|---|
//! | [`errno`] | error numbers |
//! | [`regs`] | the registers of a task |
//! | [`time`], [`tty`], [`file`](mod@file), [`signal`], [`process`], [`ptrace_info`], [`seccomp`], [`memory`], [`ipc`], [`elf`] | structures, by family |

#![no_std]
#![forbid(unsafe_code)]

pub mod elf;
pub mod errno;
pub mod file;
pub mod ipc;
pub mod memory;
pub mod process;
pub mod ptrace_info;
pub mod regs;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod time;
pub mod tty;

pub use errno::Errno;
pub use linux_raw_sys::{auxvec, elf_uapi, general, ioctl, net, netlink, prctl, ptrace, system};
pub use regs::Regs;
pub use syscalls::Sysno;
pub use zerocopy;

/// Bytes in a page.
pub const PAGE: u64 = 4096;
