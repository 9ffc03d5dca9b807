//! ptrace(2): what a tracer sees of a task that stands still, and changes.

use super::prelude::*;
use super::trace::{go, registers, stop, tracee};

tests!("tracee":
    memory_is_read_and_written, registers_are_read_and_set, sets_of_registers, one_instruction_at_a_time, signals_of_a_tracee,
);

fn memory_is_read_and_written() {
    let at = pages(2);
    put(at, &[7; 8]);
    gives!(mprotect(at, PAGE, PROT_READ) => 0);
    gives!(munmap(at + PAGE, PAGE) => 0);
    let pid = tracee(|| eq!(bytes_at(at, 8), [1, 2, 3, 4, 5, 6, 7, 8]));
    let mut seen = 0u64;
    gives!(ptrace(PTRACE_PEEKDATA, pid, at, &mut seen) => 0);
    eq!(seen, 0x0707_0707_0707_0707);
    // Also where the program itself may not write.
    gives!(ptrace(PTRACE_POKETEXT, pid, at, 0x0807_0605_0403_0201u64) => 0);
    gives!(ptrace(PTRACE_PEEKTEXT, pid, at + 1, &mut seen) => 0);
    eq!(seen, 0x0008_0706_0504_0302);
    eq!(bytes_at(at, 8), [7; 8]);
    fails!(ptrace(PTRACE_PEEKDATA, pid, at + PAGE, &mut seen) => EIO);
    fails!(ptrace(PTRACE_PEEKDATA, pid, at + PAGE - 4, &mut seen) => EIO);
    fails!(ptrace(PTRACE_POKEDATA, pid, at + PAGE, 0) => EIO);
    fails!(ptrace(PTRACE_PEEKDATA, pid, at, BAD) => EFAULT);
    let path = std::ffi::CString::new(format!("/proc/{pid}/mem")).unwrap_or_default();
    let mem = works!(openat(AT_FDCWD, &*path, O_RDWR));
    gives!(pwrite64(mem, b"\x01", 1, at) => 1);
    gives!(pread64(mem, &mut [0u8; 8], 8, at) => 8);
    eq!(process::status(go(PTRACE_CONT, pid, 0)), Status::Exited(0));
}

fn registers_are_read_and_set() {
    let pid = tracee(|| ());
    let regs = registers(pid);
    let mut seen = 0u64;
    gives!(ptrace(PTRACE_PEEKUSER, pid, 16 * 8, &mut seen) => 0);
    eq!(seen, regs.rip);
    gives!(ptrace(PTRACE_POKEUSER, pid, 5 * 8, 77) => 0);
    eq!(registers(pid).rbx, 77);
    gives!(ptrace(PTRACE_POKEUSER, pid, 5 * 8, regs.rbx) => 0);
    fails!(ptrace(PTRACE_PEEKUSER, pid, 4, &mut seen) => EIO);
    fails!(ptrace(PTRACE_PEEKUSER, pid, 928, &mut seen) => EIO);
    for (change, wrong) in [(17, 0), (17, 8), (20, 0), (23, 1), (21, u64::MAX), (22, 1 << 63)] {
        fails!(ptrace(PTRACE_POKEUSER, pid, change * 8, wrong) => EIO);
    }
    // Of the flags a program may have only some.
    gives!(ptrace(PTRACE_POKEUSER, pid, 18 * 8, regs.eflags | 1 << 9 | 3 << 12 | 1) => 0);
    eq!(registers(pid).eflags, regs.eflags | 1);
    eq!((regs.cs, regs.ss), (0x33, 0x2b));
    eq!(process::status(go(PTRACE_CONT, pid, 0)), Status::Exited(0));
}

fn sets_of_registers() {
    let pid = tracee(|| ());
    let mut bytes = vec![0u64; 2048];
    let mut get = |kind: usize, len: usize| {
        let mut iov = iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: len };
        let outcome = sys!(ptrace(PTRACE_GETREGSET, pid, kind, &mut iov));
        (outcome.map(|_| iov.iov_len), bytes[0])
    };
    let regs = registers(pid);
    eq!(get(1, 16384), (Ok(27 * 8), regs.r15));
    eq!(get(1, 8), (Ok(8), regs.r15));
    eq!(get(1, 12).0, Err(Errno::EINVAL));
    eq!(get(2, 16384).0, Ok(512));
    eq!(get(99, 16384).0, Err(Errno::EINVAL));
    let xstate = get(0x202, 16384).0.unwrap_or(0);
    is!(xstate >= 576, "the extended state has {xstate} bytes");
    let iov = iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: xstate };
    gives!(ptrace(PTRACE_SETREGSET, pid, 0x202, &iov) => 0);
    // A header that can't be.
    bytes[64] |= 1 << 62;
    fails!(ptrace(PTRACE_SETREGSET, pid, 0x202, &iov) => EINVAL);
    let mut legacy = [0u64; 64];
    gives!(ptrace(PTRACE_GETFPREGS, pid, 0, &mut legacy) => 0);
    // The first of the vector registers.
    legacy[20] = 0x1234;
    gives!(ptrace(PTRACE_SETFPREGS, pid, 0, &legacy) => 0);
    let mut again = [0u64; 64];
    gives!(ptrace(PTRACE_GETFPREGS, pid, 0, &mut again) => 0);
    eq!(again[20], 0x1234);
    eq!(process::status(go(PTRACE_CONT, pid, 0)), Status::Exited(0));
}

fn one_instruction_at_a_time() {
    let pid = tracee(|| {
        works!(getppid());
    });
    let mut at = Vec::new();
    let mut calls = 0;
    for _ in 0..100_000 {
        let before = registers(pid);
        eq!(go(PTRACE_SINGLESTEP, pid, 0), stop(SIGTRAP, 0));
        let after = registers(pid);
        at.push(after.rip);
        let mut code = 0u64;
        gives!(ptrace(PTRACE_PEEKTEXT, pid, before.rip, &mut code) => 0);
        if code & 0xffff == 0x050f {
            calls += 1;
            eq!(after.rip, before.rip + 2);
            if before.rax == SYS_getppid as u64 {
                eq!(after.rax, process::id() as u64);
                break;
            }
        } else {
            // Nobody sees that it goes by steps.
            eq!(after.eflags & 1 << 8, 0);
        }
    }
    is!(calls >= 1, "{calls} calls in {} steps", at.len());
    let mut info: siginfo_t = zeroed();
    gives!(ptrace(PTRACE_GETSIGINFO, pid, 0, &mut info) => 0);
    eq!(info.si_signo, SIGTRAP);
    eq!(process::status(go(PTRACE_CONT, pid, 0)), Status::Exited(0));
}

fn signals_of_a_tracee() {
    let pid = tracee(|| {
        signal::on(SIGUSR1, SA_SIGINFO);
        gives!(kill(process::id(), SIGUSR1) => 0);
        works!(getppid());
        process::exit(signal::records().first().map_or(0, |record| record.code));
    });
    eq!(go(PTRACE_CONT, pid, 0), stop(SIGUSR1, 0));
    let mut info: siginfo_t = zeroed();
    gives!(ptrace(PTRACE_GETSIGINFO, pid, 0, &mut info) => 0);
    eq!((info.si_signo, info.si_code), (SIGUSR1, SI_USER));
    info.si_code = 3;
    gives!(ptrace(PTRACE_SETSIGINFO, pid, 0, &info) => 0);
    let mut mask = 0u64;
    fails!(ptrace(PTRACE_GETSIGMASK, pid, 4, &mut mask) => EINVAL);
    gives!(ptrace(PTRACE_GETSIGMASK, pid, 8, &mut mask) => 0);
    eq!(mask, 0);
    mask = u64::MAX;
    gives!(ptrace(PTRACE_SETSIGMASK, pid, 8, &mask) => 0);
    gives!(ptrace(PTRACE_GETSIGMASK, pid, 8, &mut mask) => 0);
    eq!(mask, !(1 << (SIGKILL - 1) | 1 << (SIGSTOP - 1)));
    mask = 0;
    gives!(ptrace(PTRACE_SETSIGMASK, pid, 8, &mask) => 0);
    eq!(process::status(go(PTRACE_CONT, pid, SIGUSR1)), Status::Exited(3));
}
