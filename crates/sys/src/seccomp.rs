//! Loads system-call filters into the kernel, and tells of calls that one of ours forbids. Source: seccomp(2).

use crate::error::{Context, Result};
use crate::process::FromC;
use rustix::fd::{FromRawFd, OwnedFd};
use rustix::io::Errno;
use std::cell::Cell;
use std::sync::OnceLock;

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
/// Also for all other threads of the process, or for none.
const ALL_THREADS: u32 = 1 | 1 << 4;

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

/// Filters the system calls of this thread from now on, and of those that it makes; it can never gain a privilege again. `thread` is what
/// [`tell_of_violations`] calls it.
///
/// # Errors
/// A program the kernel rejects, or a kernel without filters.
pub fn confine(program: &[Instruction], thread: &str) -> Result<()> {
    confine_with(program, thread, 0)
}

/// Filters the system calls of all threads of this process, as [`confine`] does those of one. The others have their names by
/// [`name_thread`].
///
/// # Errors
/// Also one of the threads has a filter that this one doesn't have.
pub fn confine_all(program: &[Instruction], thread: &str) -> Result<()> {
    confine_with(program, thread, ALL_THREADS)
}

fn confine_with(program: &[Instruction], thread: &str, flags: u32) -> Result<()> {
    name_thread(thread);
    rustix::thread::set_no_new_privs(true).on("give up", "new privileges")?;
    load(program, flags).map(drop)
}

/// What [`tell_of_violations`] calls this thread.
pub fn name_thread(thread: &str) {
    let mut name = [0; NAME];
    name.iter_mut().zip(thread.bytes()).for_each(|(to, from)| *to = from);
    THREAD.set(name);
}

/// From now on, when a filter answers a call of this process's with a trap, a line on standard error says which it was, by the name that
/// `name` has for its number, and the process is killed by SIGSYS. The call isn't carried out.
///
/// # Errors
/// The kernel refuses.
pub fn tell_of_violations(name: fn(usize) -> Option<&'static str>) -> Result<()> {
    let _ = NAMES.set(name);
    // SAFETY: all zeros is a valid value of this plain structure.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = violation as extern "C" fn(i32, *const SystemCall, *mut libc::c_void) as usize;
    // Once: the next one has the default action.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESETHAND;
    // SAFETY: the handler has the type that SA_SIGINFO asks for, and does only what a handler may (signal-safety(7)).
    let result = unsafe { libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()) };
    Errno::result(i64::from(result)).on("handle", "SIGSYS").map(drop)
}

/// What a thread can be called: the kernel's names aren't longer.
const NAME: usize = 16;

thread_local! {
    /// Constant and without a destructor, so that a signal handler may read it.
    static THREAD: Cell<[u8; NAME]> = const { Cell::new([0; NAME]) };
}

static NAMES: OnceLock<fn(usize) -> Option<&'static str>> = OnceLock::new();

/// The start of `siginfo_t`, as SIGSYS has it.
#[repr(C)]
struct SystemCall {
    signal: i32,
    errno: i32,
    code: i32,
    address: *const libc::c_void,
    number: i32,
}

/// A line of text that needs no memory from anywhere.
struct Line {
    bytes: [u8; 300],
    length: usize,
}

impl Line {
    fn add(&mut self, text: &[u8]) {
        let room = self.bytes.iter_mut().skip(self.length);
        self.length += room.zip(text).map(|(to, from)| *to = *from).count();
    }

    fn add_number(&mut self, number: u32) {
        let digits = std::iter::successors(Some(number), |rest| (*rest >= 10).then_some(rest / 10));
        let mut text = [0; 10];
        let count = text.iter_mut().zip(digits).map(|(to, rest)| *to = b'0' + (rest % 10) as u8).count();
        text[..count].reverse();
        self.add(&text[..count]);
    }
}

extern "C" fn violation(_: i32, info: *const SystemCall, _: *mut libc::c_void) {
    const SYS_SECCOMP: i32 = 1;
    // SAFETY: the kernel passes a siginfo_t, which is larger and begins so.
    let info = unsafe { &*info };
    if info.code == SYS_SECCOMP {
        let thread = THREAD.get();
        let thread = thread.split(|byte| *byte == 0).next().unwrap_or_default();
        let number = info.number.cast_unsigned();
        let mut line = Line { bytes: [0; 300], length: 0 };
        line.add(b"insula: the thread ");
        line.add(thread);
        line.add(b" asked for the system call ");
        line.add(NAMES.get().and_then(|name| name(number as usize)).unwrap_or("of no name").as_bytes());
        line.add(b" (");
        line.add_number(number);
        line.add(b"), which its filter forbids: a bug, which please report, or a guest that took the thread over; all of it was ended\r\n");
        // SAFETY: the line has so many bytes.
        unsafe { libc::write(libc::STDERR_FILENO, line.bytes.as_ptr().cast(), line.length) };
    }
    // No filter of ours allows this, and now a forbidden call kills. Where there is no filter, it asks for an operation that isn't there.
    // SAFETY: neither call reads memory.
    unsafe {
        libc::syscall(libc::SYS_seccomp, u32::MAX, 0, 0);
        libc::_exit(128 + libc::SIGSYS)
    }
}
