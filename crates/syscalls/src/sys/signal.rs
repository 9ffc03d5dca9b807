//! Signals: handlers that keep a record of what they were told, sets, and a clock that interrupts.

use super::{memory, plain::zeroed, process, sys};
use crate::check::{fail, name};
use libc::{
    SA_NODEFER, SA_ONSTACK, SA_RESTART, SA_SIGINFO, SIGALRM, SIGBUS, SIGFPE, SIGILL, SIGSEGV, c_int, siginfo_t, ucontext_t,
};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering::SeqCst};

/// `struct sigaction` as the kernel has it (`arch/x86/include/uapi/asm/signal.h`), not as the C library does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Action {
    pub(crate) handler: usize,
    pub(crate) flags: usize,
    pub(crate) restorer: usize,
    pub(crate) mask: u64,
}
// SAFETY: numbers.
unsafe impl super::Plain for Action {}

/// The size of the kernel's set of signals, in bytes.
pub(crate) const SET: usize = 8;

const SA_RESTORER: usize = 0x0400_0000;

std::arch::global_asm!(".globl insula_restorer", "insula_restorer:", "mov eax, 15", "syscall");
unsafe extern "C" {
    fn insula_restorer();
}

/// A set of signals, as the kernel has it.
pub(crate) const fn set(signals: &[c_int]) -> u64 {
    let (mut bits, mut index) = (0, 0);
    while index < signals.len() {
        bits |= 1 << (signals[index] - 1);
        index += 1;
    }
    bits
}

/// What a handler was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) signal: c_int,
    pub(crate) code: c_int,
    /// `si_pid`; for faults nothing.
    pub(crate) sender: c_int,
    /// `si_value`, or `si_status` of SIGCHLD.
    pub(crate) value: c_int,
    /// `si_addr` of faults.
    pub(crate) address: usize,
    /// The address of a variable of the handler's: which stack it ran on.
    pub(crate) stack: usize,
    /// The signals that were blocked while it ran.
    pub(crate) blocked: u64,
    /// The thread it ran in.
    pub(crate) thread: c_int,
}

const KEPT: usize = 64;

struct Cell {
    signal: AtomicI32,
    code: AtomicI32,
    sender: AtomicI32,
    value: AtomicI32,
    address: AtomicUsize,
    stack: AtomicUsize,
    blocked: AtomicUsize,
    thread: AtomicI32,
}

#[allow(clippy::declare_interior_mutable_const, reason = "the initial value of the cells of an array")]
const EMPTY: Cell = Cell {
    signal: AtomicI32::new(0),
    code: AtomicI32::new(0),
    sender: AtomicI32::new(0),
    value: AtomicI32::new(0),
    address: AtomicUsize::new(0),
    stack: AtomicUsize::new(0),
    blocked: AtomicUsize::new(0),
    thread: AtomicI32::new(0),
};
static LOG: [Cell; KEPT] = [EMPTY; KEPT];
static COUNT: AtomicUsize = AtomicUsize::new(0);
static FAULT: Cell = EMPTY;
static CATCHING: AtomicUsize = AtomicUsize::new(0);

/// How many times a handler has run since [`forget`].
pub(crate) fn count() -> usize {
    COUNT.load(SeqCst)
}

/// What handlers were told since [`forget`], the first first.
pub(crate) fn records() -> Vec<Record> {
    LOG.iter().take(count()).map(load).collect()
}

/// The signals that handlers ran for, the first first.
pub(crate) fn caught() -> Vec<c_int> {
    records().iter().map(|record| record.signal).collect()
}

/// Forgets all records.
pub(crate) fn forget() {
    COUNT.store(0, SeqCst);
}

fn load(cell: &Cell) -> Record {
    Record {
        signal: cell.signal.load(SeqCst),
        code: cell.code.load(SeqCst),
        sender: cell.sender.load(SeqCst),
        value: cell.value.load(SeqCst),
        address: cell.address.load(SeqCst),
        stack: cell.stack.load(SeqCst),
        blocked: cell.blocked.load(SeqCst) as u64,
        thread: cell.thread.load(SeqCst),
    }
}

fn store(cell: &Cell, record: &Record) {
    cell.signal.store(record.signal, SeqCst);
    cell.code.store(record.code, SeqCst);
    cell.sender.store(record.sender, SeqCst);
    cell.value.store(record.value, SeqCst);
    cell.address.store(record.address, SeqCst);
    cell.stack.store(record.stack, SeqCst);
    cell.blocked.store(record.blocked as usize, SeqCst);
    cell.thread.store(record.thread, SeqCst);
}

extern "C" fn handler(signal: c_int, info: *mut siginfo_t, context: *mut ucontext_t) {
    // SAFETY: the kernel hands both to a handler with SA_SIGINFO, ours alone until it returns.
    let (info, context) = unsafe { (&*info, &mut *context) };
    let mut blocked = 0u64;
    let _ = sys!(rt_sigprocmask(libc::SIG_BLOCK, 0, &mut blocked, SET));
    let fault = matches!(signal, SIGSEGV | SIGBUS | SIGILL | SIGFPE) && info.si_code > 0;
    let here = 0u8;
    // SAFETY: fields of the union that the kernel fills for the kind of signal; others are numbers all the same.
    let (sender, value, address) = unsafe {
        let value = if signal == libc::SIGCHLD { info.si_status() } else { info.si_value().sival_ptr as usize as c_int };
        (info.si_pid(), value, info.si_addr() as usize)
    };
    let record = Record {
        signal,
        code: info.si_code,
        sender: if fault { 0 } else { sender },
        value: if fault { 0 } else { value },
        address: if fault { address } else { 0 },
        stack: std::ptr::from_ref(&here).expose_provenance(),
        blocked,
        thread: process::thread_id(),
    };
    if fault && CATCHING.load(SeqCst) == 1 {
        let registers = &mut context.uc_mcontext.gregs;
        let (rip, rsp) = (libc::REG_RIP as usize, libc::REG_RSP as usize);
        match memory::rescue(registers[rip] as usize, registers[rsp] as usize) {
            Some((instruction, stack)) => {
                registers[rip] = instruction as i64;
                registers[rsp] = stack as i64;
                store(&FAULT, &record);
                return;
            }
            None => fail(&format!("signal {signal}, code {}, at {address:#x} in the test itself", info.si_code)),
        }
    }
    let index = COUNT.load(SeqCst);
    if let Some(cell) = LOG.get(index) {
        store(cell, &record);
        COUNT.store(index + 1, SeqCst);
    }
}

/// The action that keeps records, with these flags (beside SA_SIGINFO) and this mask.
pub(crate) fn recording(flags: c_int, mask: u64) -> Action {
    Action {
        handler: handler as *const () as usize,
        flags: (flags | SA_SIGINFO) as u32 as usize | SA_RESTORER,
        restorer: insula_restorer as *const () as usize,
        mask,
    }
}

/// Keeps a record of this signal from now on.
#[track_caller]
pub(crate) fn on(signal: c_int, flags: c_int) {
    act(signal, &recording(flags, 0));
}

/// Ignores this signal from now on.
#[track_caller]
pub(crate) fn ignore(signal: c_int) {
    act(signal, &Action { handler: libc::SIG_IGN, flags: 0, restorer: 0, mask: 0 });
}

/// Gives this signal its default action.
#[track_caller]
pub(crate) fn reset(signal: c_int) {
    act(signal, &Action { handler: libc::SIG_DFL, flags: 0, restorer: 0, mask: 0 });
}

#[track_caller]
fn act(signal: c_int, action: &Action) {
    if let Err(error) = sys!(rt_sigaction(signal, action, 0, SET)) {
        fail(&format!("rt_sigaction of signal {signal}: {}", name(error)));
    }
}

/// Blocks these signals, and only these, for the calling thread.
#[track_caller]
pub(crate) fn block(signals: &[c_int]) {
    if let Err(error) = sys!(rt_sigprocmask(libc::SIG_SETMASK, &set(signals), 0, SET)) {
        fail(&format!("rt_sigprocmask: {}", name(error)));
    }
}

/// The signals that are pending for the calling thread.
pub(crate) fn pending() -> u64 {
    let mut bits = 0u64;
    let _ = sys!(rt_sigpending(&mut bits, SET));
    bits
}

/// Has a SIGALRM come every ten milliseconds from now on, so that some come while a call blocks.
#[track_caller]
pub(crate) fn tick(restart: bool) {
    on(SIGALRM, if restart { SA_RESTART } else { 0 });
    let mut timer: libc::itimerval = zeroed();
    timer.it_interval.tv_usec = 10_000;
    timer.it_value.tv_usec = 10_000;
    if let Err(error) = sys!(setitimer(libc::ITIMER_REAL, &timer, 0)) {
        fail(&format!("setitimer: {}", name(error)));
    }
}

/// Ends what [`tick`] began.
pub(crate) fn no_tick() {
    let _ = sys!(setitimer(libc::ITIMER_REAL, &zeroed::<libc::itimerval>(), 0));
}

/// From now on, faults of probes come back as values.
pub(super) fn catch_faults() {
    if CATCHING.swap(1, SeqCst) == 0 {
        for signal in [SIGSEGV, SIGBUS] {
            on(signal, SA_NODEFER | SA_ONSTACK);
        }
    }
}

/// What the last probe raised.
pub(super) fn last_fault() -> memory::Fault {
    let record = load(&FAULT);
    memory::Fault { signal: record.signal, code: record.code, address: record.address }
}
