//! What ptrace(2) tells of calls.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct ptrace_syscall_info`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SyscallInfo {
    /// `PTRACE_SYSCALL_INFO_*`.
    pub op: u8,
    /// Padding.
    pub pad: [u8; 3],
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// The instruction pointer.
    pub ip: u64,
    /// The stack pointer.
    pub sp: u64,
    /// By `op`: number and arguments, with what a filter said behind them; or result, and in a byte whether it is an error.
    pub union: [u64; 8],
}

impl SyscallInfo {
    /// Bytes before the union.
    pub const HEAD: usize = 24;
}

/// `struct ptrace_peeksiginfo_args`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PeekSiginfo {
    /// How many signals to pass over.
    pub offset: u64,
    /// `PTRACE_PEEKSIGINFO_*`.
    pub flags: u32,
    /// How many to tell of.
    pub count: i32,
}
