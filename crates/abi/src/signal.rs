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
        let mut info = Siginfo { signo, code, ..Siginfo::default() };
        info.fields[0] = u64::from(pid as u32) | u64::from(uid) << 32;
        info
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
