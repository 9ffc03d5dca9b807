//! ptrace(2): what a tracer sees of a task that stands still, and changes.

use super::confinement::{filter, program};
use super::prelude::*;
use super::trace::{go, registers, stop, tracee};

tests!("tracee":
    memory_is_read_and_written, registers_are_read_and_set, sets_of_registers, one_instruction_at_a_time, signals_of_a_tracee,
    signals_that_wait, filters_of_a_tracee, filters_are_lifted, upper_halves_of_numbers, a_frame_is_spoilt, the_vdso_is_read,
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

fn signals_that_wait() {
    let pid = tracee(|| {
        signal::block(&[SIGUSR1, SIGRTMIN()]);
        works!(kill(process::id(), SIGUSR1));
        works!(tgkill(process::id(), process::id(), SIGRTMIN()));
        works!(tgkill(process::id(), process::id(), SIGUSR1));
        works!(kill(process::id(), SIGSTOP));
    });
    eq!(go(PTRACE_CONT, pid, 0), stop(SIGSTOP, 0));
    // How many to pass over; flags, and how many are wanted.
    let peek = |from: u64, of_process: u64, count: u64| {
        let mut infos = vec![0u8; 3 * 128];
        let got = works!(ptrace(PTRACE_PEEKSIGINFO, pid, &[from, of_process | count << 32], infos.as_mut_slice()));
        let signal = |info: &[u8]| c_int::from_ne_bytes([info[0], info[1], info[2], info[3]]);
        infos.chunks(128).take(got).map(signal).collect::<Vec<_>>()
    };
    eq!(peek(0, 0, 3), [SIGRTMIN(), SIGUSR1]);
    eq!(peek(1, 0, 3), [SIGUSR1]);
    eq!(peek(0, 1, 3), [SIGUSR1]);
    eq!((peek(2, 0, 3), peek(u64::MAX, 0, 1), peek(0, 0, 0)), (vec![], vec![], vec![]));
    fails!(ptrace(PTRACE_PEEKSIGINFO, pid, &[0u64, 2 | 1 << 32], &mut [0u64; 16]) => EINVAL);
    fails!(ptrace(PTRACE_PEEKSIGINFO, pid, &[0u64, 0xffff_ffff << 32], &mut [0u64; 16]) => EINVAL);
    fails!(ptrace(PTRACE_PEEKSIGINFO, pid, BAD, &mut [0u64; 16]) => EFAULT);
    fails!(ptrace(PTRACE_PEEKSIGINFO, pid, &[0u64, 1 << 32], BAD) => EFAULT);
    gives!(ptrace(PTRACE_KILL, pid, 0, 0) => 0);
    join_killed(pid);
}

fn join_killed(pid: c_int) {
    let mut word = 0;
    gives!(wait4(pid, &mut word, 0, 0) => pid);
    eq!(process::status(word), Status::Killed(SIGKILL));
}

const GET_FILTER: c_uint = 0x420c;
const GET_METADATA: c_uint = 0x420d;

/// A child that stands still with two filters, of which the first tells what it refuses.
fn filtered() -> c_int {
    let pid = tracee(|| {
        let mut list = filter(SYS_getppid, SECCOMP_RET_ERRNO | EDOM as u32);
        let mut other = [list[3]];
        gives!(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) => 0);
        works!(seccomp(1, 2, std::ptr::from_ref(&program(&mut list))));
        works!(seccomp(1, 0, std::ptr::from_ref(&program(&mut other))));
        works!(kill(process::id(), SIGSTOP));
        process::exit(if sys!(getppid()) == Err(Errno::EDOM) { 1 } else { 2 });
    });
    eq!(go(PTRACE_CONT, pid, 0), stop(SIGSTOP, 0));
    pid
}

fn filters_of_a_tracee() {
    need_root();
    let plain = tracee(|| ());
    match sys!(ptrace(GET_FILTER, plain, 0, 0)) {
        Err(Errno::EINVAL) => {}
        other => skip!("filters can't be read (CONFIG_CHECKPOINT_RESTORE): {other:?}"),
    }
    eq!(process::status(go(PTRACE_CONT, plain, 0)), Status::Exited(0));
    let pid = filtered();
    let mut list = [0u64; 4];
    gives!(ptrace(GET_FILTER, pid, 0, 0) => 4);
    gives!(ptrace(GET_FILTER, pid, 0, &mut list) => 4);
    eq!(list[0], 0x20);
    eq!(list[3], u64::from(SECCOMP_RET_ALLOW) << 32 | 6);
    gives!(ptrace(GET_FILTER, pid, 1, 0) => 1);
    fails!(ptrace(GET_FILTER, pid, 2, 0) => ENOENT);
    fails!(ptrace(GET_FILTER, pid, 0, BAD) => EFAULT);
    let mut data = [0u64; 2];
    gives!(ptrace(GET_METADATA, pid, 16, &mut data) => 16);
    eq!(data, [0, 2]);
    data = [1, 9];
    gives!(ptrace(GET_METADATA, pid, 100, &mut data) => 16);
    eq!(data, [1, 0]);
    fails!(ptrace(GET_METADATA, pid, 7, &mut data) => EINVAL);
    fails!(ptrace(GET_METADATA, pid, 16, &mut [2u64, 0]) => ENOENT);
    eq!(process::status(go(PTRACE_CONT, pid, 0)), Status::Exited(1));
}

fn filters_are_lifted() {
    need_root();
    let pid = filtered();
    match sys!(ptrace(PTRACE_SETOPTIONS, pid, 0, 1 << 21)) {
        Err(Errno::EINVAL) => skip!("filters can't be lifted (CONFIG_CHECKPOINT_RESTORE)"),
        other => eq!(other, Ok(0)),
    }
    eq!(process::status(go(PTRACE_CONT, pid, 0)), Status::Exited(2));
}

/// Lets it go on to where it is about to make this call.
#[track_caller]
fn to_call(pid: c_int, call: c_long, signal: c_int) {
    eq!(go(PTRACE_SYSCALL, pid, signal), stop(SIGTRAP, 0));
    // At the end of a call its number is there as well, and its result is no ENOSYS.
    while registers(pid).orig_rax != call as u64 || registers(pid).rax as i64 != -i64::from(ENOSYS) {
        eq!(go(PTRACE_SYSCALL, pid, 0), stop(SIGTRAP, 0));
    }
}

fn upper_halves_of_numbers() {
    let pid = tracee(|| {
        let own = process::id();
        gives!(getppid() => own);
        gives!(getppid() => 42);
    });
    // The upper half doesn't count, also where the lower one says that no call is to be made.
    to_call(pid, SYS_getppid, 0);
    gives!(ptrace(PTRACE_POKEUSER, pid, 15 * 8, 7u64 << 32 | SYS_getpid as u64) => 0);
    to_call(pid, SYS_getppid, 0);
    gives!(ptrace(PTRACE_POKEUSER, pid, 15 * 8, 7u64 << 32 | 0xffff_ffff) => 0);
    gives!(ptrace(PTRACE_POKEUSER, pid, 10 * 8, 42) => 0);
    eq!(process::status(go(PTRACE_CONT, pid, 0)), Status::Exited(0));
}

fn a_frame_is_spoilt() {
    let pid = tracee(|| {
        signal::on(SIGUSR1, 0);
        works!(kill(process::id(), SIGUSR1));
        eq!(signal::caught(), [SIGUSR1]);
    });
    eq!(go(PTRACE_CONT, pid, 0), stop(SIGUSR1, 0));
    let interrupted = registers(pid);
    to_call(pid, SYS_rt_sigreturn, SIGUSR1);
    // Behind the first 512 bytes of the extended state is its header, most of which is reserved.
    let mut state = 0usize;
    gives!(ptrace(PTRACE_PEEKDATA, pid, registers(pid).rsp as usize + 224, &mut state) => 0);
    gives!(ptrace(PTRACE_POKEDATA, pid, state + 528, 0xfff_ffff) => 0);
    let mut word = go(PTRACE_CONT, pid, 0);
    eq!(word, stop(SIGSEGV, 0));
    // All else is as the frame has it.
    let regs = registers(pid);
    eq!((regs.rip, regs.rsp, regs.rbx), (interrupted.rip, interrupted.rsp, interrupted.rbx));
    word = go(PTRACE_CONT, pid, 0);
    eq!(process::status(word), Status::Exited(0));
}

fn the_vdso_is_read() {
    const ELF: &[u8; 4] = b"\x7fELF";
    let vector = std::fs::read("/proc/self/auxv").unwrap_or_default();
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, usize::from_ne_bytes);
    let entry = vector.chunks(16).find(|entry| word(&entry[..8]) == AT_SYSINFO_EHDR as usize);
    let Some(vdso) = entry.map(|entry| word(&entry[8..])) else { skip!("there is no vDSO") };
    let pid = tracee(|| ());
    let mut word = 0u64;
    gives!(ptrace(PTRACE_PEEKDATA, pid, vdso, &mut word) => 0);
    eq!(&word.to_ne_bytes()[..4], ELF);
    let mut bytes = [0u8; 4];
    gives!(process_vm_readv(pid, &[piece(&mut bytes)][..], 1, &[piece_at(vdso, 4)][..], 1, 0) => 4);
    eq!(&bytes, ELF);
    let path = std::ffi::CString::new(format!("/proc/{pid}/mem")).unwrap_or_default();
    let mem = works!(openat(AT_FDCWD, &*path, O_RDONLY));
    let mut bytes = [0u8; 4];
    gives!(pread64(mem, &mut bytes, 4, vdso) => 4);
    eq!(&bytes, ELF);
    eq!(process::status(go(PTRACE_CONT, pid, 0)), Status::Exited(0));
    // And by calls of one's own.
    let (reader, writer) = pipe();
    gives!(write(writer, vdso, 4) => 4);
    works!(close(writer));
    eq!(drain(reader), ELF);
}
