//! Watching and confining processes: seccomp, ptrace, landlock, keys.

use super::prelude::*;

tests!("confinement":
    seccomp_strict, seccomp_filters, seccomp_arguments, seccomp_is_inherited, seccomp_traps, ptrace_of_a_child,
    ptrace_arguments, ptrace_reads_memory, keyrings, landlock_restricts,
);

/// One instruction of a filter.
fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// A filter that answers one call with this value, and lets all others through.
pub(super) fn filter(call: c_long, answer: u32) -> [sock_filter; 4] {
    const LOAD: u16 = 0x20;
    const EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    [
        instruction(LOAD, 0, 0, 0),
        instruction(EQUAL, 0, 1, call as u32),
        instruction(RETURN, 0, 0, answer),
        instruction(RETURN, 0, 0, SECCOMP_RET_ALLOW),
    ]
}

pub(super) fn program(filter: &mut [sock_filter]) -> sock_fprog {
    sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() }
}

fn confine(call: c_long, answer: u32) {
    let mut list = filter(call, answer);
    gives!(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) => 0);
    let program = program(&mut list);
    match sys!(seccomp(1, 0, std::ptr::from_ref(&program))) {
        Err(Errno::ENOSYS | Errno::EINVAL) => skip!("no seccomp filters (CONFIG_SECCOMP_FILTER)"),
        other => crate::check::must_give("seccomp", other, 0),
    }
}

fn seccomp_strict() {
    let victim = child(|| {
        if sys!(prctl(PR_SET_SECCOMP, 1, 0, 0, 0)).is_err() {
            skip!("no seccomp (CONFIG_SECCOMP)");
        }
        // Anything but read, write, exit and sigreturn kills.
        let _ = sys!(getpid());
        let _ = sys!(exit(0));
    });
    eq!(wait(victim), Status::Killed(SIGKILL));
    let allowed = child(|| {
        let (reader, writer) = pipe();
        works!(prctl(PR_SET_SECCOMP, 1, 0, 0, 0));
        let _ = sys!(write(writer, b"x", 1));
        let got = sys!(read(reader, &mut [0u8; 1], 1));
        let _ = sys!(exit(if got == Ok(1) { 5 } else { 6 }));
    });
    eq!(wait(allowed), Status::Exited(5));
}

fn seccomp_filters() {
    in_child(|| {
        confine(SYS_getppid, SECCOMP_RET_ERRNO | EDOM as u32);
        fails!(getppid() => EDOM);
        works!(getpid());
        gives!(prctl(PR_GET_SECCOMP, 0, 0, 0, 0) => 2);
        is!(contents("/proc/self/status").contains("Seccomp:\t2\n"), "status to tell it");
        // A second one; the stricter answer holds.
        confine(SYS_getppid, SECCOMP_RET_ERRNO | ERANGE as u32);
        fails!(getppid() => ERANGE);
        confine(SYS_getpgrp, SECCOMP_RET_KILL_PROCESS);
        let victim = child(|| {
            let _ = sys!(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0));
            let _ = sys!(getpgrp());
        });
        eq!(wait(victim), Status::Killed(SIGSYS));
    });
}

fn seccomp_arguments() {
    fails!(seccomp(99, 0, 0) => EINVAL | ENOSYS);
    fails!(seccomp(0, 1, 0) => EINVAL | ENOSYS);
    fails!(seccomp(1, 0, BAD) => EFAULT | ENOSYS | EACCES);
    gives!(seccomp(2, 0, &SECCOMP_RET_TRAP) => 0);
    fails!(seccomp(2, 0, &0x1234_0000u32) => EOPNOTSUPP);
    let mut bad = [instruction(0xffff, 0, 0, 0)];
    gives!(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) => 0);
    fails!(seccomp(1, 0, std::ptr::from_ref(&program(&mut bad))) => EINVAL);
    let mut endless = [instruction(0x20, 0, 0, 0)];
    fails!(seccomp(1, 0, std::ptr::from_ref(&program(&mut endless))) => EINVAL);
    fails!(seccomp(1, 0, std::ptr::from_ref(&program(&mut []))) => EINVAL);
    need_root();
    in_child(|| {
        // Without no_new_privs it is for who may do everything.
        let mut list = filter(SYS_getppid, SECCOMP_RET_ERRNO);
        let inner = child(|| {
            works!(setresuid(1000, 1000, 1000));
            fails!(seccomp(1, 0x100, std::ptr::from_ref(&program(&mut list))) => EINVAL);
        });
        join(inner);
    });
}

fn seccomp_is_inherited() {
    in_child(|| {
        confine(SYS_getppid, SECCOMP_RET_ERRNO | EDOM as u32);
        in_child(|| {
            fails!(getppid() => EDOM);
        });
        let (reader, writer) = pipe();
        let path = process::own_file();
        let pid = child(|| {
            works!(dup3(writer, 1, 0));
            let _ = sys!(execve(&*path, strings(&[c"x", c"helper", c"facts"]).as_slice(), strings(&[]).as_slice()));
        });
        works!(close(writer));
        let text = String::from_utf8_lossy(&drain(reader)).into_owned();
        join(pid);
        is!(text.lines().any(|line| line == "parent 0"), "the call still to be answered");
    });
}

fn seccomp_traps() {
    in_child(|| {
        signal::on(SIGSYS, 0);
        confine(SYS_getppid, SECCOMP_RET_TRAP | 77);
        let _ = sys!(getppid());
        let record = signal::records()[0];
        eq!((record.signal, record.code), (SIGSYS, 1));
    });
}

/// Whether this process may trace; else the test is skipped.
fn need_ptrace() {
    let pid = child(|| match sys!(ptrace(PTRACE_TRACEME, 0, 0, 0)) {
        Ok(_) => process::exit(0),
        Err(_) => process::exit(1),
    });
    if wait(pid) != Status::Exited(0) {
        skip!("no tracing here");
    }
}

fn ptrace_of_a_child() {
    need_ptrace();
    let pid = child(|| {
        gives!(ptrace(PTRACE_TRACEME, 0, 0, 0) => 0);
        let _ = sys!(kill(process::id(), SIGUSR1));
        process::exit(3)
    });
    // Every signal stops it; the tracer decides what becomes of it.
    eq!(stopped(pid), Status::Stopped(SIGUSR1));
    let mut info = [0i32; 32];
    gives!(ptrace(PTRACE_GETSIGINFO, pid, 0, &mut info) => 0);
    eq!((info[0], info[2], info[4]), (SIGUSR1, SI_USER, pid));
    gives!(ptrace(PTRACE_CONT, pid, 0, 0) => 0);
    eq!(wait(pid), Status::Exited(3));
    // System calls stop it on the way in and on the way out.
    let pid = child(|| {
        gives!(ptrace(PTRACE_TRACEME, 0, 0, 0) => 0);
        let _ = sys!(kill(process::id(), SIGSTOP));
        let _ = sys!(getppid());
        process::exit(0)
    });
    eq!(stopped(pid), Status::Stopped(SIGSTOP));
    gives!(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD) => 0);
    let mut seen = Vec::new();
    loop {
        gives!(ptrace(PTRACE_SYSCALL, pid, 0, 0) => 0);
        match stopped(pid) {
            Status::Stopped(number) if number == SIGTRAP | 0x80 => {
                let mut registers = [0u64; 27];
                gives!(ptrace(PTRACE_GETREGS, pid, 0, &mut registers) => 0);
                seen.push(registers[15]);
            }
            Status::Exited(0) => break,
            other => eq!(other, Status::Stopped(SIGTRAP | 0x80)),
        }
    }
    is!(seen.windows(2).any(|pair| pair == [SYS_getppid as u64; 2]), "getppid, twice: {seen:?}");
}

fn stopped(pid: c_int) -> Status {
    let mut word = 0;
    gives!(wait4(pid, &mut word, WUNTRACED, 0) => pid);
    process::status(word)
}

fn ptrace_arguments() {
    need_ptrace();
    fails!(ptrace(PTRACE_CONT, 0x3f_ffff, 0, 0) => ESRCH);
    fails!(ptrace(PTRACE_ATTACH, process::id(), 0, 0) => EPERM);
    let pid = child(|| {
        loop {
            let _ = sys!(pause());
        }
    });
    // Not traced by us yet.
    fails!(ptrace(PTRACE_CONT, pid, 0, 0) => ESRCH);
    gives!(ptrace(PTRACE_ATTACH, pid, 0, 0) => 0);
    eq!(stopped(pid), Status::Stopped(SIGSTOP));
    is!(contents(&format!("/proc/{pid}/status")).contains(&format!("TracerPid:\t{}\n", process::id())), "status to name us");
    eq!(process::state(pid), Some('t'));
    fails!(ptrace(9999, pid, 0, 0) => EIO);
    fails!(ptrace(PTRACE_ATTACH, pid, 0, 0) => EPERM);
    gives!(ptrace(PTRACE_DETACH, pid, 0, SIGTERM) => 0);
    eq!(wait(pid), Status::Killed(SIGTERM));
}

fn ptrace_reads_memory() {
    need_ptrace();
    let map = pages(1);
    put(map, b"original");
    let pid = child(|| {
        gives!(ptrace(PTRACE_TRACEME, 0, 0, 0) => 0);
        let _ = sys!(kill(process::id(), SIGSTOP));
        process::exit(c_int::from(peek(map)))
    });
    eq!(stopped(pid), Status::Stopped(SIGSTOP));
    let mut word = [0u8; 8];
    gives!(ptrace(PTRACE_PEEKDATA, pid, map, &mut word) => 0);
    eq!(&word, b"original");
    gives!(ptrace(PTRACE_POKEDATA, pid, map, u64::from_ne_bytes(*b"*hanged!")) => 0);
    fails!(ptrace(PTRACE_PEEKDATA, pid, BAD, &mut word) => EIO | EFAULT);
    gives!(ptrace(PTRACE_DETACH, pid, 0, 0) => 0);
    eq!(wait(pid), Status::Exited(i32::from(b'*')));
    eq!(peek(map), b'o');
}

fn keyrings() {
    const SESSION: c_int = -3;
    let key = match sys!(add_key(c"user", c"insula", b"secret", 6, -2 /* process keyring */)) {
        Err(Errno::ENOSYS | Errno::EPERM | Errno::EDQUOT) => skip!("no keys here (CONFIG_KEYS)"),
        other => crate::check::must_work("add_key", other),
    };
    let mut secret = [0u8; 8];
    gives!(keyctl(11 /* READ */, key, &mut secret, 8) => 6);
    eq!(&secret[..6], b"secret");
    gives!(request_key(c"user", c"insula", 0, 0) => key);
    fails!(request_key(c"user", c"insula-missing", 0, 0) => ENOKEY);
    fails!(add_key(c"no-such-type", c"x", b"x", 1, SESSION) => ENODEV);
    fails!(keyctl(11, 0x7fff_fff0, &mut secret, 8) => ENOKEY);
    fails!(keyctl(9999, 0, 0, 0) => EOPNOTSUPP);
    gives!(keyctl(3 /* REVOKE */, key) => 0);
    fails!(keyctl(11, key, &mut secret, 8) => EKEYREVOKED);
}

fn landlock_restricts() {
    const VERSION: c_int = 1;
    if sys!(landlock_create_ruleset(0, 0, VERSION)).is_err() {
        skip!("no landlock (CONFIG_SECURITY_LANDLOCK)");
    }
    const READ_FILE: u64 = 4;
    gives!(mkdir(c"open", 0o755) => 0);
    works!(close(file(c"open/file", b"x")));
    works!(close(file(c"closed", b"x")));
    let ruleset = works!(landlock_create_ruleset(&READ_FILE, 8, 0));
    gives!(fcntl(ruleset, F_GETFD) => FD_CLOEXEC);
    let parent = works!(openat(AT_FDCWD, c"open", O_PATH | O_CLOEXEC));
    let mut rule = [0u8; 12];
    rule[..8].copy_from_slice(&READ_FILE.to_ne_bytes());
    rule[8..].copy_from_slice(&(parent as i32).to_ne_bytes());
    gives!(landlock_add_rule(ruleset, 1, &rule, 0) => 0);
    fails!(landlock_add_rule(ruleset, 9, &rule, 0) => EINVAL);
    fails!(landlock_create_ruleset(&0u64, 8, 0) => ENOMSG);
    in_child(|| {
        gives!(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) => 0);
        gives!(landlock_restrict_self(ruleset, 0) => 0);
        works!(openat(AT_FDCWD, c"open/file", O_RDONLY));
        fails!(openat(AT_FDCWD, c"closed", O_RDONLY) => EACCES);
    });
    fails!(landlock_restrict_self(-1, 0) => EBADF | EPERM);
}
