//! eBPF programs on cgroups: what decides about device nodes on cgroup v2. Source: bpf(2), `Documentation/bpf/prog_cgroup_*`.

use crate::error::{Context, Result};
use crate::process::FromC;
use rustix::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use rustix::io::Errno;

/// One instruction of eBPF, `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u8,
    /// Destination register in the low four bits, source register in the high four.
    pub registers: u8,
    /// Offset of a jump or memory access.
    pub offset: i16,
    /// Constant.
    pub constant: i32,
}

const PROG_LOAD: i32 = 5;
const PROG_ATTACH: i32 = 8;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 1 << 1;

/// The first fields of `union bpf_attr` for loading a program; the kernel takes what isn't given as zero.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

/// The same for attaching one.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Loads a program that judges device nodes and attaches it to the cgroup of this directory, for as long as that exists.
///
/// # Errors
/// Neither CAP_BPF with CAP_NET_ADMIN nor CAP_SYS_ADMIN, or a kernel without such programs.
pub fn attach_device_program(cgroup: impl AsFd, program: &[Instruction]) -> Result<()> {
    let load = Load {
        kind: TYPE_CGROUP_DEVICE,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
    };
    // SAFETY: the structure, the instructions and the license it points to live through the call, which only reads them.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const load, size_of::<Load>()) };
    let fd = Errno::result(fd).on("load", "the device program of the cgroup")?;
    // SAFETY: the call succeeded, so the descriptor is new and ours.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let attach = Attach {
        target: cgroup.as_fd().as_raw_fd() as u32,
        program: fd.as_raw_fd() as u32,
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: the structure lives through the call, which only reads it.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attach, size_of::<Attach>()) };
    Errno::result(result).on("attach", "the device program of the cgroup").map(drop)
}
