//! ptrace(2), wait4(2) and the two ways to make a process that Rust has no name for: each call once, errors as errno.
//!
//! The tracing calls are safe functions: what a tracee does, it does in its own address space, and the memory it shares with us is only used
//! as [`super::super::Memory`] says.
#![allow(unsafe_code)]

use super::super::Registers;
use rustix::io::{Errno, Result};
use std::ffi::{c_int, c_void};
use std::mem::{MaybeUninit, offset_of};

/// A thread's number.
pub(super) type Tid = i32;

/// How a tracee goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Go {
    /// Its system calls stop it and aren't made.
    Guest = libc::PTRACE_SYSEMU as isize,
    /// The same, and it stops after one instruction.
    Step = libc::PTRACE_SYSEMU_SINGLESTEP as isize,
    /// Its system calls are made.
    Stub = libc::PTRACE_CONT as isize,
}

/// A stop, as PTRACE_GET_SYSCALL_INFO tells of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    pub(super) kind: StopKind,
    /// AUDIT_ARCH_*: how a system call was made.
    pub(super) arch: u32,
    pub(super) ip: u64,
    pub(super) sp: u64,
    /// Of a system call; else 0.
    pub(super) number: u64,
    pub(super) args: [u64; 6],
}

/// Why a tracee stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopKind {
    /// At a system call that isn't made.
    Syscall,
    /// At one that the filter gives to the tracer.
    Filter,
    /// A signal, or it was asked to.
    Other,
}

/// What a tracee's signal says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signal {
    pub(super) number: i32,
    pub(super) code: i32,
    pub(super) address: u64,
}

impl Signal {
    /// Whether the tracee's own instruction raised it; else somebody sent it, or it is a stop that was asked for.
    pub(super) fn is_exception(&self) -> bool {
        let of_a_kind =
            matches!(self.number, libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE | libc::SIGTRAP | libc::SIGSYS);
        of_a_kind && self.code > 0 && self.code < 1 << 8
    }
}

fn ptrace(request: u32, tid: Tid, address: usize, data: usize) -> Result<usize> {
    // SAFETY: callers give what `request` wants: numbers, or the address of a live buffer of the right type.
    let result = unsafe { libc::syscall(libc::SYS_ptrace, u64::from(request), i64::from(tid), address, data) };
    if result < 0 { Err(last_errno()) } else { Ok(result as usize) }
}

fn last_errno() -> Errno {
    // SAFETY: errno of this thread.
    Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}

/// Becomes the tracer of a running thread.
pub(super) fn seize(tid: Tid, options: i32) -> Result<()> {
    ptrace(libc::PTRACE_SEIZE, tid, 0, options as usize).map(drop)
}

/// Makes a tracee stop.
pub(super) fn interrupt(tid: Tid) -> Result<()> {
    ptrace(libc::PTRACE_INTERRUPT, tid, 0, 0).map(drop)
}

/// Lets go of a stopped tracee, which goes on.
pub(super) fn detach(tid: Tid) -> Result<()> {
    ptrace(libc::PTRACE_DETACH, tid, 0, 0).map(drop)
}

/// Lets a stopped tracee go on; a signal that stopped it isn't delivered.
pub(super) fn resume(tid: Tid, go: Go) -> Result<()> {
    ptrace(go as u32, tid, 0, 0).map(drop)
}

/// Looks at a stopped tracee. SRCH: it isn't stopped.
pub(super) fn stop(tid: Tid) -> Result<Stop> {
    let mut info = MaybeUninit::<libc::ptrace_syscall_info>::zeroed();
    ptrace(libc::PTRACE_GET_SYSCALL_INFO, tid, size_of::<libc::ptrace_syscall_info>(), info.as_mut_ptr() as usize)?;
    // SAFETY: all zeros is a value of this struct of integers, and the kernel filled in a part of it.
    let info = unsafe { info.assume_init() };
    let (kind, number, args) = match info.op {
        // SAFETY: `op` says which.
        libc::PTRACE_SYSCALL_INFO_ENTRY => unsafe { (StopKind::Syscall, info.u.entry.nr, info.u.entry.args) },
        // SAFETY: as above.
        libc::PTRACE_SYSCALL_INFO_SECCOMP => unsafe { (StopKind::Filter, info.u.seccomp.nr, info.u.seccomp.args) },
        _ => (StopKind::Other, 0, [0; 6]),
    };
    Ok(Stop { kind, arch: info.arch, ip: info.instruction_pointer, sp: info.stack_pointer, number, args })
}

/// The signal that stopped a tracee; for other stops SIGTRAP with the event in `code`.
pub(super) fn signal(tid: Tid) -> Result<Signal> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    ptrace(libc::PTRACE_GETSIGINFO, tid, 0, info.as_mut_ptr() as usize)?;
    // SAFETY: all zeros is a value of it, and so is what the kernel wrote.
    let info = unsafe { info.assume_init() };
    // SAFETY: this part of the union is plain bytes, which are an address if the signal is of the kernel's making.
    Ok(Signal { number: info.si_signo, code: info.si_code, address: unsafe { info.si_addr() } as u64 })
}

/// All registers of a stopped tracee.
pub(super) fn registers(tid: Tid, into: &mut Registers) -> Result<()> {
    ptrace(libc::PTRACE_GETREGS, tid, 0, std::ptr::from_mut(into) as usize).map(drop)
}

/// Sets all registers. IO: one has a value that it can't have; those before it are set.
pub(super) fn set_registers(tid: Tid, from: &Registers) -> Result<()> {
    ptrace(libc::PTRACE_SETREGS, tid, 0, std::ptr::from_ref(from) as usize).map(drop)
}

/// Sets rax only.
pub(super) fn set_rax(tid: Tid, value: u64) -> Result<()> {
    ptrace(libc::PTRACE_POKEUSER, tid, offset_of!(Registers, rax), value as usize).map(drop)
}

const NT_X86_XSTATE: usize = 0x202;

/// More than any processor's state: with all of AMX it is 11 KiB.
const XSTATE_LIMIT: usize = 16 << 10;

/// The extended state of a stopped tracee.
pub(super) fn xstate(tid: Tid) -> Result<Vec<u8>> {
    let mut bytes = vec![0; XSTATE_LIMIT];
    let mut vector = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    ptrace(libc::PTRACE_GETREGSET, tid, NT_X86_XSTATE, (&raw mut vector) as usize)?;
    bytes.truncate(vector.iov_len);
    Ok(bytes)
}

/// Sets it.
pub(super) fn set_xstate(tid: Tid, bytes: &[u8]) -> Result<()> {
    let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    ptrace(libc::PTRACE_SETREGSET, tid, NT_X86_XSTATE, (&raw mut vector) as usize).map(drop)
}

/// Waits until a child or tracee stops or ends. Gives whether it has ended; then its number is free.
pub(super) fn wait(tid: Tid) -> Result<bool> {
    let mut status: c_int = 0;
    loop {
        // SAFETY: `status` is a live integer; no usage is asked for.
        match unsafe { libc::wait4(tid, &raw mut status, libc::__WALL, std::ptr::null_mut()) } {
            -1 => match last_errno() {
                Errno::INTR => {}
                errno => return Err(errno),
            },
            _ => return Ok(!libc::WIFSTOPPED(status)),
        }
    }
}

/// Sends a signal to one thread.
pub(super) fn tell(pid: Tid, tid: Tid, signal: i32) -> Result<()> {
    // SAFETY: three integers.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, signal) };
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

/// Kills a process.
pub(super) fn kill(pid: Tid) {
    // SAFETY: two integers. It fails if there is no such process, which is what was wanted.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Leaves it to wait4 to tell of stops: SIGCHLD for each would cost a signal a stop.
pub(super) fn no_signal_for_stops() -> Result<()> {
    // SAFETY: all zeros is a valid sigaction, which keeps the default and asks for no handler.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGCHLD, std::ptr::null(), &raw mut action);
        action.sa_flags |= libc::SA_NOCLDSTOP;
        libc::sigaction(libc::SIGCHLD, &raw const action, std::ptr::null_mut())
    };
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

const STACK: usize = 64 << 10;

/// Runs `body` in a new process with a copy of this address space, on a stack of its own, sharing the table of descriptors. It is our
/// child and sends no signal at its end. `body` runs with the kernel alone: no allocation, no lock, no panic.
///
/// The way there goes through a process that shares our memory while we wait, because the kernel copies a thread's registration for
/// restartable sequences (rseq(2)) with the address space, but not to a process that shares it. A stub must not have one: the kernel would write
/// to where it was.
pub(super) fn fork<T>(body: extern "C" fn(&T) -> !, argument: &T) -> Result<Tid> {
    struct Order<T> {
        body: extern "C" fn(&T) -> !,
        argument: *const T,
        result: i64,
    }
    extern "C" fn between<T>(order: *mut c_void) -> c_int {
        // SAFETY: `fork` below gave it and waits until this process is gone.
        let order = unsafe { &mut *order.cast::<Order<T>>() };
        let flags = libc::CLONE_FILES | libc::CLONE_PARENT;
        // SAFETY: like fork(2): the child goes on here with a copy of all memory.
        let result = unsafe { raw_clone(flags as u64) };
        if result == 0 {
            // SAFETY: a copy of what lives in our parent's memory.
            (order.body)(unsafe { &*order.argument });
        }
        order.result = result;
        0
    }
    let mut stack = Vec::<u128>::with_capacity(STACK / 16);
    let mut order = Order { body, argument, result: 0 };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES;
    // SAFETY: the stack grows down from its aligned end, and outlives the process, as CLONE_VFORK makes us wait until that has ended. It runs
    // on our thread-local storage meanwhile, which nobody else uses.
    let (child, result) = unsafe {
        let top = stack.as_mut_ptr().byte_add(STACK);
        (libc::clone(between::<T>, top.cast(), flags, (&raw mut order).cast()), (&raw const order.result).read_volatile())
    };
    if child < 0 {
        return Err(last_errno());
    }
    wait(child)?;
    if result < 0 { Err(Errno::from_raw_os_error(-result as i32)) } else { Ok(result as Tid) }
}

/// clone(2) without a libc's knowledge.
///
/// # Safety
/// As fork(2) in a process with threads.
unsafe fn raw_clone(flags: u64) -> i64 {
    // SAFETY: with no CLONE_VM and no stack both go on from here, each with its own memory.
    unsafe { call(libc::SYS_clone, [flags, 0, 0, 0, 0, 0]) }
}

/// A system call, without errno.
///
/// # Safety
/// As the call's.
pub(super) unsafe fn call(number: i64, args: [u64; 6]) -> i64 {
    let result;
    // SAFETY: the caller's; the kernel changes these registers and no others.
    unsafe {
        std::arch::asm!("syscall", inlateout("rax") number => result, in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5], lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}
