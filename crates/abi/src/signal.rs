//! What is said of signals.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct sigaction` as rt_sigaction(2) takes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Sigaction {
    /// 0 is the default, 1 ignores, else the handler's address.
    pub handler: u64,
    /// `SA_*`.
    pub flags: u64,
    /// Where the handler returns to.
    pub restorer: u64,
    /// Signals blocked beside while it runs.
    pub mask: u64,
}

/// `stack_t`, sigaltstack(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Stack {
    /// Lowest address.
    pub sp: u64,
    /// `SS_*`.
    pub flags: i32,
    /// Padding.
    pub pad: i32,
    /// Bytes.
    pub size: u64,
}

/// `struct sigcontext`: what the processor held, in a handler's frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)] // The processor's own names.
pub struct Sigcontext {
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub rdx: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rsp: u64,
    pub rip: u64,
    pub eflags: u64,
    pub cs: u16,
    pub gs: u16,
    pub fs: u16,
    pub ss: u16,
    /// Error code of the last fault.
    pub err: u64,
    /// Number of the last fault.
    pub trapno: u64,
    /// The signal mask, as older programs look for it.
    pub oldmask: u64,
    /// Address of the last page fault.
    pub cr2: u64,
    /// Where the processor's extended state lies, or 0.
    pub fpstate: u64,
    pub reserved: [u64; 8],
}

/// `struct ucontext` of the kernel: what a handler's return restores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Ucontext {
    /// `UC_*`.
    pub flags: u64,
    /// Of no meaning to the kernel.
    pub link: u64,
    /// The alternate stack.
    pub stack: Stack,
    /// What the processor held.
    pub mcontext: Sigcontext,
    /// The signal mask.
    pub sigmask: u64,
}

/// `struct rt_sigframe`: what lies on the stack when a handler begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Sigframe {
    /// Where the handler returns to: it calls rt_sigreturn(2).
    pub restorer: u64,
    /// What that call restores.
    pub context: Ucontext,
    /// What the handler is told.
    pub info: Siginfo,
}

/// `struct _fpx_sw_bytes`: what software says of the extended state that lies around it, at its byte 464.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FpxSwBytes {
    /// [`FP_XSTATE_MAGIC1`], if there is more than the first 512 bytes.
    pub magic1: u32,
    /// Bytes of all, with the second magic number.
    pub extended_size: u32,
    /// Which features are there, as in XCR0.
    pub xfeatures: u64,
    /// Bytes of the state itself.
    pub xstate_size: u32,
    /// Unused.
    pub padding: [u32; 7],
}

/// `UC_FP_XSTATE`: the frame has extended state behind the first 512 bytes.
pub const UC_FP_XSTATE: u64 = 1;
/// `UC_SIGCONTEXT_SS`: `ss` in the frame means something.
pub const UC_SIGCONTEXT_SS: u64 = 2;
/// `UC_STRICT_RESTORE_SS`: `ss` is restored as it stands.
pub const UC_STRICT_RESTORE_SS: u64 = 4;
/// Marks extended state, in [`FpxSwBytes`].
pub const FP_XSTATE_MAGIC1: u32 = 0x4650_5853;
/// Marks the end of extended state.
pub const FP_XSTATE_MAGIC2: u32 = 0x4650_5845;
/// Where [`FpxSwBytes`] lies in extended state.
pub const FPX_SW_OFFSET: usize = 464;

/// `siginfo_t`: three numbers, and a union by the kind of signal.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[derive(Default)]
pub struct Siginfo {
    /// The signal.
    pub signo: i32,
    /// An error number; seldom used.
    pub errno: i32,
    /// `SI_*`, or why.
    pub code: i32,
    /// Padding.
    pub pad: i32,
    /// The union.
    pub fields: [u64; 14],
}

impl Siginfo {
    /// Sent by a process, kill(2).
    pub fn sent(signo: i32, code: i32, pid: i32, uid: u32) -> Self {
        Siginfo { signo, code, ..Siginfo::default() }.from(pid, uid)
    }

    /// Whether it tells by its first field who sent it, or whose state changed.
    pub const fn has_sender(&self) -> bool {
        const TIMER: i32 = -2;
        const IO: i32 = -5;
        match self.code {
            TIMER | IO => false,
            1..=6 => self.signo == linux_raw_sys::general::SIGCHLD as i32,
            code => code <= 0,
        }
    }

    /// The same from somebody else.
    pub fn from(mut self, pid: i32, uid: u32) -> Self {
        self.fields[0] = u64::from(pid as u32) | u64::from(uid) << 32;
        self
    }

    /// The same with a value, sigqueue(3).
    pub fn with_value(mut self, value: u64) -> Self {
        self.fields[1] = value;
        self
    }

    /// A child changed state, sigaction(2) at `SIGCHLD`; times are in clock ticks.
    pub fn child(code: i32, pid: i32, uid: u32, status: i32, utime: u64, stime: u64) -> Self {
        let mut info = Siginfo::sent(linux_raw_sys::general::SIGCHLD as i32, code, pid, uid);
        info.fields[1] = u64::from(status as u32);
        info.fields[2] = utime;
        info.fields[3] = stime;
        info
    }

    /// The processor refused an instruction or an address.
    pub fn fault(signo: i32, code: i32, address: u64) -> Self {
        let mut info = Siginfo { signo, code, ..Siginfo::default() };
        info.fields[0] = address;
        info
    }

    /// A system call that a filter doesn't let through, seccomp(2); `errno` is what the filter said.
    pub fn system_call(instruction: u64, number: i32, arch: u32, errno: i32) -> Self {
        const SYS_SECCOMP: i32 = 1;
        let mut info = Siginfo { signo: linux_raw_sys::general::SIGSYS as i32, errno, code: SYS_SECCOMP, ..Siginfo::default() };
        info.fields[0] = instruction;
        info.fields[1] = u64::from(number as u32) | u64::from(arch) << 32;
        info
    }

    /// A system call that the program answers itself, prctl(2) at `PR_SET_SYSCALL_USER_DISPATCH`.
    pub fn sent_back(instruction: u64, number: i32, arch: u32) -> Self {
        const SYS_USER_DISPATCH: i32 = 2;
        Siginfo { code: SYS_USER_DISPATCH, ..Siginfo::system_call(instruction, number, arch, 0) }
    }

    /// Something happened to a file: `events` as poll(2) has them, by a descriptor, fcntl(2) at `F_SETSIG`.
    pub fn poll(signo: i32, code: i32, events: u32, fd: i32) -> Self {
        let mut info = Siginfo { signo, code, ..Siginfo::default() };
        info.fields[0] = u64::from(events);
        info.fields[1] = u64::from(fd as u32);
        info
    }

    /// A POSIX timer fired, timer_create(2).
    pub fn timer(signo: i32, timer: i32, overrun: i32, value: u64) -> Self {
        let mut info = Siginfo { signo, code: -2, ..Siginfo::default() };
        info.fields[0] = u64::from(timer as u32) | u64::from(overrun as u32) << 32;
        info.fields[1] = value;
        info
    }

    /// Who sent it, where that is said.
    pub fn pid(&self) -> i32 {
        self.fields[0] as i32
    }

    /// The sender's user.
    pub fn uid(&self) -> u32 {
        (self.fields[0] >> 32) as u32
    }

    /// A child's exit code or signal, or the low half of a value.
    pub fn status(&self) -> i32 {
        self.fields[1] as i32
    }

    /// The value sent along.
    pub fn value(&self) -> u64 {
        self.fields[1]
    }

    /// The address of a fault.
    pub fn address(&self) -> u64 {
        self.fields[0]
    }
}

impl core::fmt::Debug for Siginfo {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Siginfo").field("signo", &self.signo).field("code", &self.code).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::{offset_of, size_of};

    /// Sizes and offsets as `asm/sigcontext.h` and `asm/ucontext.h` have them.
    #[test]
    fn a_frame_lies_as_linux_lays_it() {
        assert_eq!(size_of::<Sigcontext>(), 256);
        assert_eq!(size_of::<Ucontext>(), 304);
        assert_eq!(size_of::<Siginfo>(), 128);
        assert_eq!(size_of::<Sigframe>(), 8 + 304 + 128);
        assert_eq!(size_of::<FpxSwBytes>(), 48);
        assert_eq!(offset_of!(Ucontext, mcontext) + offset_of!(Sigcontext, rip), 168);
        assert_eq!(offset_of!(Ucontext, mcontext) + offset_of!(Sigcontext, fpstate), 224);
        assert_eq!(offset_of!(Ucontext, sigmask), 296);
    }
}

/// `struct sigevent`, as timer_create(2) takes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Sigevent {
    /// Sent along.
    pub value: u64,
    /// The signal.
    pub signo: i32,
    /// `SIGEV_*`.
    pub notify: i32,
    /// For `SIGEV_THREAD_ID`: to which task.
    pub tid: i32,
    /// Padding.
    pub pad: [i32; 11],
}

/// `struct signalfd_siginfo`, signalfd(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)] // signalfd(2) describes each.
pub struct SignalfdInfo {
    pub signo: u32,
    pub errno: i32,
    pub code: i32,
    pub pid: u32,
    pub uid: u32,
    pub fd: i32,
    pub tid: u32,
    pub band: u32,
    pub overrun: u32,
    pub trapno: u32,
    pub status: i32,
    pub int: i32,
    pub ptr: u64,
    pub utime: u64,
    pub stime: u64,
    pub addr: u64,
    pub addr_lsb: u16,
    pub pad2: u16,
    pub syscall: i32,
    pub call_addr: u64,
    pub arch: u32,
    pub pad: [u8; 28],
}
