//! Loads system-call filters into the kernel. Source: seccomp(2).

use crate::error::{Context, Result};
use crate::process::FromC;
use rustix::fd::{FromRawFd, OwnedFd};
use rustix::io::Errno;

/// One instruction of classic BPF, `struct sock_filter`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when the test holds.
    pub jt: u8,
    /// Instructions to skip when it doesn't.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

impl Instruction {
    /// As the kernel has it in memory.
    pub fn to_bytes(self) -> [u8; 8] {
        let ([a, b], [c, d, e, f]) = (self.code.to_ne_bytes(), self.k.to_ne_bytes());
        [a, b, self.jt, self.jf, c, d, e, f]
    }

    /// From what [`Self::to_bytes`] gave.
    pub fn from_bytes([a, b, jt, jf, c, d, e, f]: [u8; 8]) -> Instruction {
        Instruction { code: u16::from_ne_bytes([a, b]), jt, jf, k: u32::from_ne_bytes([c, d, e, f]) }
    }
}

/// Give back a descriptor on which another process decides.
pub const NEW_LISTENER: u32 = 1 << 3;

/// Filters this process's system calls from now on; gives the notification descriptor if `flags` ask for one.
///
/// # Errors
/// Neither CAP_SYS_ADMIN nor no-new-privileges, a program the kernel rejects, or flags it doesn't know.
pub fn load(program: &[Instruction], flags: u32) -> Result<Option<OwnedFd>> {
    let length = u16::try_from(program.len()).map_err(|_| Errno::TOOBIG).on("load", "the system-call filter")?;
    let filter = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `Instruction` has the layout of sock_filter, the program lives through the call, and the kernel only reads it.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter) };
    let fd = Errno::result(result).on("load", "the system-call filter")?;
    // SAFETY: with this flag the result is a new descriptor that is ours.
    Ok((flags & NEW_LISTENER != 0).then(|| unsafe { OwnedFd::from_raw_fd(fd as i32) }))
}
