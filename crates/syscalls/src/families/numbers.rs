//! PID namespaces: which numbers processes have in one, and who is told which.

use super::prelude::*;
use std::ffi::CString;

tests!("numbers":
    numbers_on_both_sides, nobody_outside_has_a_number, groups_and_sessions, signals_tell_numbers_inside,
    proc_shows_a_namespace, peers_have_numbers, descriptors_of_processes, a_number_of_choice, owners_and_locks,
    namespaces_in_namespaces, relatives, users_have_their_own, threads_have_numbers, many_come_and_go,
);

pub(super) fn path(text: String) -> CString {
    CString::new(text).unwrap_or_default()
}

/// The first process of a new namespace, whose number out here is answered.
pub(super) fn first(body: impl FnOnce()) -> c_int {
    need_root();
    let (reading, writing) = pipe();
    // Somebody between, whose children are in it, but who isn't.
    in_child(|| {
        if sys!(unshare(CLONE_NEWPID)).is_err() {
            skip!("no PID namespace of our own (CAP_SYS_ADMIN)");
        }
        let pid = match sys!(clone(CLONE_PARENT | SIGCHLD, 0, 0, 0, 0)) {
            Ok(0) => {
                works!(close(reading));
                works!(close(writing));
                body();
                process::exit(0)
            }
            other => other.unwrap_or(0),
        };
        is!(pid > 1, "a number out here: {pid}");
        gives!(write(writing, &pid.to_ne_bytes(), 8) => 8);
    });
    works!(close(writing));
    let told = drain(reading);
    works!(close(reading));
    let bytes: [u8; 8] = told.try_into().unwrap_or_default();
    usize::from_ne_bytes(bytes) as c_int
}

pub(super) fn field(path: &str, name: &str) -> Vec<String> {
    let text = contents(path);
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_ascii_whitespace().map(str::to_owned).collect()
}

fn numbers_on_both_sides() {
    let step = shared_word();
    let pid = first(|| {
        gives!(getpid() => 1);
        gives!(gettid() => 1);
        gives!(getppid() => 0);
        gives!(set_tid_address(0) => 1);
        let other = child(|| {
            gives!(getpid() => 2);
            gives!(getppid() => 1);
            step.store(1, SeqCst);
            until_is(step, 2);
        });
        eq!(other, 2);
        join(other);
    });
    until_is(step, 1);
    let status = format!("/proc/{pid}/status");
    eq!(field(&status, "NSpid:"), [pid.to_string(), "1".to_owned()]);
    eq!(field(&status, "Pid:"), [pid.to_string()]);
    eq!(field(&status, "PPid:"), [process::id().to_string()]);
    let link = |name: &str| std::fs::read_link(format!("/proc/{name}")).unwrap_or_default();
    is!(link(&format!("{pid}/ns/pid")) != link("self/ns/pid"), "another namespace");
    eq!(link(&format!("{pid}/ns/pid")), link(&format!("{pid}/ns/pid_for_children")));
    step.store(2, SeqCst);
    join(pid);
}

fn nobody_outside_has_a_number() {
    let outside = process::id();
    let pid = first(|| {
        // Numbers are low in here, so ours from outside is most likely nobody's.
        if outside > 5 {
            fails!(kill(outside, 0) => ESRCH);
            fails!(getpgid(outside) => ESRCH);
            fails!(getsid(outside) => ESRCH);
            fails!(pidfd_open(outside, 0) => ESRCH);
            fails!(getpriority(PRIO_PROCESS, outside) => ESRCH);
            fails!(sched_getaffinity(outside, 8, &mut [0u64; 16]) => ESRCH | EINVAL);
            fails!(prlimit64(outside, RLIMIT_CORE, 0, 0) => ESRCH);
            fails!(ptrace(PTRACE_SEIZE, outside, 0, 0) => ESRCH);
            fails!(tgkill(outside, outside, 0) => ESRCH);
            let mut byte = [0u8; 1];
            let piece = [piece(&mut byte)];
            fails!(process_vm_readv(outside, piece.as_ptr(), 1, piece.as_ptr(), 1, 0) => ESRCH);
            fails!(setpgid(outside, 0) => ESRCH);
        }
        // All but the first, and us: nobody.
        fails!(kill(-1, SIGTERM) => ESRCH);
        fails!(wait4(-1, 0, 0, 0) => ECHILD);
    });
    join(pid);
}

fn groups_and_sessions() {
    let pid = first(|| {
        // They began outside.
        gives!(getpgrp() => 0);
        gives!(getsid(0) => 0);
        let second = child(|| {
            gives!(setsid() => 2);
            gives!(getpgrp() => 2);
            gives!(getsid(0) => 2);
            fails!(setpgid(0, 1) => EPERM);
            let third = child(|| {
                gives!(setpgid(0, 0) => 0);
                gives!(getpgid(0) => 3);
                gives!(getsid(0) => 2);
                gives!(getsid(1) => 0);
                process::exit(5)
            });
            eq!(third, 3);
            let mut status = 0i32;
            until(|| sys!(getpgid(3)) == Ok(3));
            gives!(wait4(-3, &mut status, 0, 0) => 3);
            eq!(status, 5 << 8);
            fails!(kill(-3, 0) => ESRCH);
        });
        join(second);
    });
    join(pid);
}

fn signals_tell_numbers_inside() {
    let step = shared_word();
    let pid = first(|| {
        signal::on(SIGUSR1, 0);
        signal::on(SIGUSR2, 0);
        signal::on(SIGCHLD, 0);
        let other = child(|| {
            gives!(kill(1, SIGUSR1) => 0);
        });
        until(|| signal::caught().contains(&SIGUSR1) && signal::caught().contains(&SIGCHLD));
        is!(signal::records().iter().all(|record| record.sender == other), "the child to be told by its number here");
        let mut info: siginfo_t = zeroed();
        gives!(waitid(P_ALL, 0, &mut info, WEXITED, 0) => 0);
        eq!(bytes_at(&raw const info as usize + 16, 4), other.to_ne_bytes());
        signal::forget();
        step.store(1, SeqCst);
        until(|| signal::count() == 1);
        // Who sends from outside is nobody.
        eq!(signal::records()[0].sender, 0);
        step.store(2, SeqCst);
    });
    until_is(step, 1);
    gives!(kill(pid, SIGUSR2) => 0);
    until_is(step, 2);
    join(pid);
}

fn proc_shows_a_namespace() {
    let pid = first(|| {
        // The one from before has no name for us.
        let numbers = |path: &str| {
            let names = std::fs::read_dir(path).map(|all| all.flatten().filter_map(|entry| entry.file_name().into_string().ok()));
            let mut all: Vec<i32> = names.map(|names| names.filter_map(|name| name.parse().ok()).collect()).unwrap_or_default();
            all.sort_unstable();
            all
        };
        let before: std::path::PathBuf = std::fs::read_link("/proc/self").unwrap_or_default();
        is!(before != std::path::Path::new("1"), "our number outside: {before:?}");
        gives!(unshare(CLONE_NEWNS) => 0);
        gives!(mount(c"none", c"/", 0, MS_REC | MS_PRIVATE, 0) => 0);
        gives!(mount(c"proc", c"/proc", c"proc", 0, 0) => 0);
        eq!(std::fs::read_link("/proc/self").unwrap_or_default(), std::path::PathBuf::from("1"));
        eq!(std::fs::read_link("/proc/thread-self").unwrap_or_default(), std::path::PathBuf::from("1/task/1"));
        eq!(numbers("/proc"), [1]);
        eq!(numbers("/proc/self/task"), [1]);
        let other = child(|| {
            loop {
                let _ = sys!(pause());
            }
        });
        eq!(numbers("/proc"), [1, other]);
        eq!(contents("/proc/2/stat").split(' ').nth(3).unwrap_or("").to_owned(), "1");
        eq!(field("/proc/2/status", "NSpid:"), ["2"]);
        eq!(field("/proc/2/status", "PPid:"), ["1"]);
        gives!(kill(other, SIGKILL) => 0);
        wait(other);
        eq!(numbers("/proc"), [1]);
        fails!(openat(AT_FDCWD, c"/proc/2/stat", O_RDONLY) => ENOENT);
    });
    join(pid);
}

fn peers_have_numbers() {
    let (ours, theirs) = crate::sys::sockets::pair(SOCK_STREAM);
    let told = |fd: usize| {
        let mut control = [0u8; 64];
        let mut byte = [0u8; 1];
        let mut header = crate::sys::sockets::message(&[], &mut control);
        let pieces = [piece(&mut byte)];
        (header.msg_iov, header.msg_iovlen) = (pieces.as_ptr().cast_mut(), 1);
        gives!(recvmsg(fd, &mut header, 0) => 1);
        i32::from_ne_bytes(control[16..20].try_into().unwrap_or_default())
    };
    for fd in [ours, theirs] {
        gives!(setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &1i32, 4) => 0);
    }
    let pid = first(|| {
        gives!(write(theirs, b"x", 1) => 1);
        eq!(told(theirs), 0);
        let mut peer: ucred = zeroed();
        gives!(getsockopt(theirs, SOL_SOCKET, SO_PEERCRED, &mut peer, &mut 12u32) => 0);
        eq!(peer.pid, 0);
        let (one, other) = crate::sys::sockets::pair(SOCK_STREAM);
        gives!(getsockopt(one, SOL_SOCKET, SO_PEERCRED, &mut peer, &mut 12u32) => 0);
        eq!(peer.pid, 1);
        gives!(setsockopt(other, SOL_SOCKET, SO_PASSCRED, &1i32, 4) => 0);
        gives!(write(one, b"x", 1) => 1);
        eq!(told(other), 1);
    });
    eq!(told(ours), pid);
    gives!(write(ours, b"y", 1) => 1);
    join(pid);
}

fn descriptors_of_processes() {
    let step = shared_word();
    let pid = first(|| {
        let own = works!(pidfd_open(1, 0));
        is!(contents(&format!("/proc/thread-self/fdinfo/{own}")).contains("NSpid:"), "its numbers");
        step.store(1, SeqCst);
        until_is(step, 2);
    });
    until_is(step, 1);
    let pidfd = works!(pidfd_open(pid, 0));
    let text = format!("/proc/self/fdinfo/{pidfd}");
    eq!(field(&text, "NSpid:"), [pid.to_string(), "1".to_owned()]);
    eq!(field(&text, "Pid:"), [pid.to_string()]);
    gives!(pidfd_send_signal(pidfd, 0, 0, 0) => 0);
    step.store(2, SeqCst);
    let mut info: siginfo_t = zeroed();
    gives!(waitid(P_PIDFD, pidfd, &mut info, WEXITED, 0) => 0);
    eq!(bytes_at(&raw const info as usize + 16, 4), pid.to_ne_bytes());
    eq!(field(&text, "Pid:"), ["-1"]);
}

fn clone_args_of(number: c_int) -> ([u64; 11], Box<c_int>) {
    let number = Box::new(number);
    let mut args = [0u64; 11];
    args[4] = SIGCHLD as u64;
    args[8] = (&raw const *number).expose_provenance() as u64;
    args[9] = 1;
    (args, number)
}

fn a_number_of_choice() {
    let pid = first(|| {
        let (args, _number) = clone_args_of(77);
        match works!(clone3(&args, 88)) {
            0 => {
                gives!(getpid() => 77);
                process::exit(0)
            }
            number => eq!(number, 77),
        }
        join(77);
        join(child(|| eq!(process::id(), 2)));
        let (args, _number) = clone_args_of(1);
        fails!(clone3(&args, 88) => EEXIST);
    });
    join(pid);
}

fn owners_and_locks() {
    let step = shared_word();
    let fd = file(c"locked", b"text");
    let lock: flock = flock { l_type: F_WRLCK as i16, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
    let pid = first(|| {
        let (reading, _writing) = pipe();
        gives!(fcntl(reading, F_SETOWN, 1) => 0);
        gives!(fcntl(reading, F_GETOWN) => 1);
        let second = child(|| {
            gives!(setsid() => 2);
            gives!(fcntl(reading, F_SETOWN, -2) => 0);
            // A group's number is negative, and looks like an error.
            eq!(sys!(fcntl(reading, F_GETOWN)), Err(Errno::ENOENT));
        });
        join(second);
        gives!(fcntl(fd, F_SETLK, &lock) => 0);
        join(child(|| {
            let mut found = lock;
            gives!(fcntl(fd, F_GETLK, &mut found) => 0);
            eq!(found.l_pid, 1);
        }));
        step.store(1, SeqCst);
        until_is(step, 2);
    });
    until_is(step, 1);
    let mut found = lock;
    gives!(fcntl(fd, F_GETLK, &mut found) => 0);
    eq!(found.l_pid, pid);
    step.store(2, SeqCst);
    join(pid);
}

fn namespaces_in_namespaces() {
    let pid = first(|| {
        let middle = works!(clone(CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0));
        if middle == 0 {
            gives!(getpid() => 1);
            gives!(getppid() => 0);
            let last = child(|| {
                eq!(process::id(), 2);
                loop {
                    let _ = sys!(pause());
                }
            });
            eq!(last, 2);
            // The first of all sees it by a number of its own.
            loop {
                let _ = sys!(pause());
            }
        }
        eq!(middle, 2);
        until(|| sys!(kill(3, 0)).is_ok());
        gives!(kill(3, SIGKILL) => 0);
        gives!(kill(2, SIGKILL) => 0);
        eq!(wait(2), Status::Killed(SIGKILL));
        fails!(kill(3, 0) => ESRCH);
    });
    join(pid);
    // Not endlessly.
    let depth = shared_word();
    in_child(|| {
        loop {
            match sys!(clone(CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0)) {
                Ok(0) => {
                    depth.fetch_add(1, SeqCst);
                }
                Ok(pid) => {
                    join(pid as c_int);
                    process::exit(0)
                }
                Err(errno) => {
                    eq!(errno, Errno::ENOSPC);
                    process::exit(0)
                }
            }
        }
    });
    is!((25..=32).contains(&depth.load(SeqCst)), "32 levels: {}", depth.load(SeqCst));
}

fn relatives() {
    const USER_NAMESPACE: u32 = 0xb701;
    const PARENT: u32 = 0xb702;
    let step = shared_word();
    let number = |fd: usize| {
        let mut stat: stat = zeroed();
        gives!(fstat(fd, &mut stat) => 0);
        stat.st_ino
    };
    let pid = first(|| {
        let own = works!(openat(AT_FDCWD, c"/proc/thread-self/ns/pid", O_RDONLY));
        fails!(ioctl(own, PARENT) => EPERM);
        step.store(1, SeqCst);
        until_is(step, 2);
    });
    until_is(step, 1);
    let theirs = works!(openat(AT_FDCWD, &*path(format!("/proc/{pid}/ns/pid")), O_RDONLY));
    let own = works!(openat(AT_FDCWD, c"/proc/self/ns/pid", O_RDONLY));
    eq!(number(works!(ioctl(theirs, PARENT))), number(own));
    let user = works!(openat(AT_FDCWD, c"/proc/self/ns/user", O_RDONLY));
    eq!(number(works!(ioctl(theirs, USER_NAMESPACE))), number(user));
    step.store(2, SeqCst);
    join(pid);
}

fn users_have_their_own() {
    need_root();
    gives!(chmod(c".", 0o777) => 0);
    in_child(|| {
        gives!(setresgid(1000, 1000, 1000) => 0);
        gives!(setresuid(1000, 1000, 1000) => 0);
        if sys!(unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS)).is_err() {
            skip!("users may have no namespaces here");
        }
        let pid = child(|| {
            eq!(process::id(), 1);
            // It is ours, so what shows it is, too, unless more is hidden here than that would hide.
            match sys!(mount(c"proc", c"/proc", c"proc", 0, 0)) {
                Err(Errno::EPERM) => skip!("parts of /proc are covered here"),
                other => eq!(other, Ok(0)),
            }
            eq!(std::fs::read_link("/proc/self").unwrap_or_default(), std::path::PathBuf::from("1"));
        });
        join(pid);
    });
}

fn threads_have_numbers() {
    let pid = first(|| {
        let thread = std::thread::spawn(|| {
            gives!(gettid() => 2);
            gives!(getpid() => 1);
            gives!(tgkill(1, 2, 0) => 0);
        });
        is!(thread.join().is_ok(), "a thread");
        let deadline = |tid: c_int| sys!(tgkill(1, tid, 0));
        until(|| deadline(2) == Err(Errno::ESRCH));
    });
    join(pid);
}

fn many_come_and_go() {
    let pid = first(|| {
        for expected in 2..40 {
            let pid = child(|| {});
            eq!(pid, expected);
            join(pid);
        }
        let all: Vec<c_int> = (0..10).map(|_| child(|| process::exit(1))).collect();
        for pid in all {
            eq!(wait(pid), Status::Exited(1));
        }
    });
    join(pid);
}
