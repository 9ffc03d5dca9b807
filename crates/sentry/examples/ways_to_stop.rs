//! Which calls a stop and go should be made of: the numbers of decision 0080. `cargo run --release --example ways_to_stop -p insula-sentry`
//! prints the best of several runs of each way, in nanoseconds. Tracer and tracee share a CPU but in the last lines.
#![allow(unsafe_code)]

use libc::{c_int, c_long, pid_t};
use std::mem::{MaybeUninit, offset_of};
use std::time::Instant;

/// How a tracee is made to stop.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    Emulated,
    Filtered,
    Trapped,
    Breakpoint,
}

/// How the tracer learns of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    Wait4,
    /// By waitid(2).
    Siginfo,
    /// Only if it doesn't stand still already.
    LookFirst,
    /// Without sleeping.
    Spin,
}

/// What the tracer looks at or sets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ask {
    Registers,
    RegisterSet,
    SyscallInfo,
    OneRegister,
    Signal,
    SetRegisters,
    SetOne,
}

struct Way {
    name: &'static str,
    stop: Stop,
    wait: Wait,
    asks: &'static [Ask],
    batch: bool,
    apart: bool,
}

const fn way(name: &'static str, stop: Stop, wait: Wait, asks: &'static [Ask]) -> Way {
    Way { name, stop, wait, asks, batch: false, apart: false }
}

fn ways() -> Vec<Way> {
    use Ask::{OneRegister, RegisterSet, Registers, SetOne, SetRegisters, Signal, SyscallInfo};
    use Stop::{Breakpoint, Emulated, Filtered, Trapped};
    use Wait::{LookFirst, Siginfo, Spin, Wait4};
    let usual: &[Ask] = &[Registers, SetOne];
    vec![
        way("SYSEMU, wait4", Emulated, Wait4, &[]),
        way("SYSEMU, wait4, GETREGS, SETREGS", Emulated, Wait4, &[Registers, SetRegisters]),
        way("SYSEMU, wait4, GETREGS, POKEUSER", Emulated, Wait4, usual),
        way("SYSEMU, waitid, GETREGS, POKEUSER", Emulated, Siginfo, usual),
        way("SYSEMU, wait4, GETREGSET, POKEUSER", Emulated, Wait4, &[RegisterSet, SetOne]),
        way("SYSEMU, wait4, PEEKUSER, POKEUSER", Emulated, Wait4, &[OneRegister, SetOne]),
        way("SYSEMU, wait4, GET_SYSCALL_INFO, POKEUSER", Emulated, Wait4, &[SyscallInfo, SetOne]),
        way("SYSEMU, GET_SYSCALL_INFO, POKEUSER", Emulated, LookFirst, &[SetOne]),
        way("SYSEMU, GET_SYSCALL_INFO, GETREGS, POKEUSER", Emulated, LookFirst, usual),
        way("SYSEMU, GET_SYSCALL_INFO, GETREGS, SETREGS", Emulated, LookFirst, &[Registers, SetRegisters]),
        Way { batch: true, ..way("as the one before last, tracee SCHED_BATCH", Emulated, LookFirst, usual) },
        way("RET_TRACE, GET_SYSCALL_INFO", Filtered, LookFirst, &[]),
        way("RET_TRACE, GET_SYSCALL_INFO, GETREGS, SETREGS", Filtered, LookFirst, &[Registers, SetRegisters]),
        way("RET_TRAP, GET_SYSCALL_INFO, GETSIGINFO, GETREGS, POKEUSER", Trapped, LookFirst, &[Signal, Registers, SetOne]),
        way("int3, GET_SYSCALL_INFO", Breakpoint, LookFirst, &[]),
        Way { apart: true, ..way("two CPUs: SYSEMU, wait4, GETREGS, POKEUSER", Emulated, Wait4, usual) },
        Way { apart: true, ..way("two CPUs: the same, spinning on WNOHANG", Emulated, Spin, usual) },
    ]
}

/// ptrace(2), with the address of `data` if it is a buffer.
fn ptrace(request: u32, tracee: pid_t, address: usize, data: usize) -> c_long {
    // SAFETY: buffers are live and of the right type and size, below.
    unsafe { libc::syscall(libc::SYS_ptrace, u64::from(request), i64::from(tracee), address, data) }
}

fn pin(process: pid_t, cpu: usize) {
    // SAFETY: a set of bits, which lives through the call.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(process, size_of_val(&set), &raw const set);
    }
}

fn wait(tracee: pid_t, flags: c_int) -> bool {
    let mut status = 0;
    // SAFETY: a live integer.
    unsafe { libc::waitpid(tracee, &raw mut status, flags | libc::__WALL) > 0 }
}

/// The tracee: stops itself once, and then asks for getpgrp(2), or breaks, for ever.
fn be_traced(way: &Way) -> ! {
    // SAFETY: a process of its own, that makes system calls only; the filter lives through the call.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if way.batch {
            let zero: libc::sched_param = std::mem::zeroed();
            libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const zero);
        }
        libc::raise(libc::SIGSTOP);
        let action = match way.stop {
            Stop::Filtered => libc::SECCOMP_RET_TRACE,
            _ => libc::SECCOMP_RET_TRAP,
        };
        if matches!(way.stop, Stop::Filtered | Stop::Trapped) {
            let filter = [
                libc::BPF_STMT((libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, 0),
                libc::BPF_JUMP((libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, libc::SYS_getpgrp as u32, 0, 1),
                libc::BPF_STMT((libc::BPF_RET | libc::BPF_K) as u16, action),
                libc::BPF_STMT((libc::BPF_RET | libc::BPF_K) as u16, libc::SECCOMP_RET_ALLOW),
            ];
            let program = libc::sock_fprog { len: 4, filter: filter.as_ptr().cast_mut() };
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program);
        }
        loop {
            if way.stop == Stop::Breakpoint {
                std::arch::asm!("int3");
            } else {
                libc::syscall(libc::SYS_getpgrp);
            }
        }
    }
}

struct Buffers {
    registers: MaybeUninit<libc::user_regs_struct>,
    info: MaybeUninit<libc::ptrace_syscall_info>,
    signal: MaybeUninit<libc::siginfo_t>,
}

fn ask(tracee: pid_t, what: Ask, buffers: &mut Buffers) {
    let registers = buffers.registers.as_mut_ptr() as usize;
    match what {
        Ask::Registers => ptrace(libc::PTRACE_GETREGS, tracee, 0, registers),
        Ask::SetRegisters => ptrace(libc::PTRACE_SETREGS, tracee, 0, registers),
        Ask::RegisterSet => {
            let mut vector = libc::iovec { iov_base: registers as *mut _, iov_len: size_of::<libc::user_regs_struct>() };
            ptrace(libc::PTRACE_GETREGSET, tracee, 1, (&raw mut vector) as usize)
        }
        Ask::SyscallInfo => look(tracee, buffers),
        Ask::OneRegister => {
            let place = offset_of!(libc::user_regs_struct, orig_rax);
            ptrace(libc::PTRACE_PEEKUSER, tracee, place, registers)
        }
        Ask::Signal => ptrace(libc::PTRACE_GETSIGINFO, tracee, 0, buffers.signal.as_mut_ptr() as usize),
        Ask::SetOne => ptrace(libc::PTRACE_POKEUSER, tracee, offset_of!(libc::user_regs_struct, rax), 42),
    };
}

fn look(tracee: pid_t, buffers: &mut Buffers) -> c_long {
    ptrace(libc::PTRACE_GET_SYSCALL_INFO, tracee, size_of::<libc::ptrace_syscall_info>(), buffers.info.as_mut_ptr() as usize)
}

fn once(way: &Way, tracee: pid_t, buffers: &mut Buffers) {
    let go = if way.stop == Stop::Emulated { libc::PTRACE_SYSEMU } else { libc::PTRACE_CONT };
    ptrace(go, tracee, 0, 0);
    match way.wait {
        Wait::Wait4 => drop(wait(tracee, 0)),
        Wait::Siginfo => {
            let flags = libc::WEXITED | libc::WSTOPPED | libc::__WALL;
            // SAFETY: a live buffer of the right type.
            unsafe { libc::waitid(libc::P_PID, tracee as u32, buffers.signal.as_mut_ptr(), flags) };
        }
        Wait::LookFirst => {
            while look(tracee, buffers) < 0 {
                wait(tracee, 0);
            }
        }
        Wait::Spin => while !wait(tracee, libc::WNOHANG) {},
    }
    for what in way.asks {
        ask(tracee, *what, buffers);
    }
}

/// Makes the tracee of a way, which has stopped as it is to.
fn start(way: &Way, buffers: &mut Buffers) -> pid_t {
    // SAFETY: this program has one thread.
    let tracee = unsafe { libc::fork() };
    if tracee == 0 {
        be_traced(way);
    }
    if way.apart {
        pin(tracee, 1);
    }
    wait(tracee, libc::WUNTRACED);
    let options = libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACESECCOMP;
    ptrace(libc::PTRACE_SEIZE, tracee, 0, options as usize);
    wait(tracee, 0);
    // SAFETY: two integers.
    unsafe { libc::kill(tracee, libc::SIGCONT) };
    for _ in 0..10 {
        once(&Way { wait: Wait::Wait4, asks: &[], ..*way }, tracee, buffers);
    }
    tracee
}

fn main() {
    const ROUNDS: u32 = 15;
    const RUNS: u32 = 2_000;
    // SAFETY: all zeros is a valid action: the default, and here no signal for stops.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_flags = libc::SA_NOCLDSTOP;
        libc::sigaction(libc::SIGCHLD, &raw const action, std::ptr::null_mut());
    }
    pin(0, 0);
    let ways = ways();
    let mut buffers = Buffers { registers: MaybeUninit::zeroed(), info: MaybeUninit::zeroed(), signal: MaybeUninit::zeroed() };
    let mut all: Vec<_> = ways.iter().map(|way| (way, start(way, &mut buffers), u128::MAX)).collect();
    // In turns, as machines have better and worse minutes.
    for _ in 0..ROUNDS {
        for (way, tracee, best) in &mut all {
            let start = Instant::now();
            for _ in 0..RUNS {
                once(way, *tracee, &mut buffers);
            }
            *best = (*best).min(start.elapsed().as_nanos() / u128::from(RUNS));
        }
    }
    for (way, _, best) in all {
        println!("{:62} {best:6} ns", way.name);
    }
}
