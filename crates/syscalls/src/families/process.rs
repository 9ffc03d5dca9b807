//! Processes: fork, exit, wait4, waitid, orphans, process groups and sessions.

use super::prelude::*;
use crate::sys::process::{Clone, THREAD, clone};

tests!("process":
    fork_copies, exit_codes, killed_by_a_signal, wait_arguments, wait_for_any_and_for_groups, nohang, waitid_fills_siginfo,
    waitid_arguments, wnowait_leaves_it, stop_and_continue, waitid_of_stopped, ignoring_sigchld_reaps, nocldwait_reaps,
    nocldstop_is_quiet, usage_of_children, zombies_stay, orphans_go_to_the_subreaper, parents_death_signal, groups_and_sessions,
    setpgid_arguments, setsid_makes_a_session, group_of_a_child_after_exec, numbers, process_limit, auxiliary_vector,
);

fn fork_copies() {
    let (reader, writer) = pipe();
    let own = process::id();
    let child = child(|| {
        eq!(works!(getppid()) as c_int, own);
        is!(process::id() != own, "another number");
        eq!(process::id(), process::thread_id());
        gives!(write(writer, b"child", 5) => 5);
        // Its own table: the parent's stays open.
        works!(close(reader));
    });
    join(child);
    let mut buffer = [0u8; 8];
    gives!(read(reader, &mut buffer, 8) => 5);
    // Pending signals aren't inherited, blocked ones are.
    signal::block(&[SIGUSR1]);
    gives!(kill(own, SIGUSR1) => 0);
    in_child(|| {
        eq!(signal::pending(), 0);
        let mut blocked = 0u64;
        gives!(rt_sigprocmask(SIG_BLOCK, 0, &mut blocked, signal::SET) => 0);
        eq!(blocked, signal::set(&[SIGUSR1]));
    });
    eq!(signal::pending(), signal::set(&[SIGUSR1]));
    // Timers aren't inherited.
    let later = itimerval { it_interval: zeroed(), it_value: timeval { tv_sec: 100, tv_usec: 0 } };
    gives!(setitimer(ITIMER_REAL, &later, 0) => 0);
    in_child(|| {
        let mut left = later;
        gives!(getitimer(ITIMER_REAL, &mut left) => 0);
        eq!(left.it_value.tv_sec, 0);
    });
}

fn exit_codes() {
    for (code, want) in [(0, 0), (1, 1), (255, 255), (256, 0), (0x1ff, 255), (-1, 255)] {
        let child = child(|| process::exit(code));
        eq!(wait(child), Status::Exited(want));
    }
    let child = child(|| {
        let _ = sys!(exit(77));
    });
    eq!(wait(child), Status::Exited(77));
}

fn killed_by_a_signal() {
    for number in [SIGTERM, SIGKILL, SIGHUP, SIGUSR1, SIGALRM, SIGPIPE, SIGRTMIN(), SIGRTMIN() + 5, 64] {
        let child = child(|| {
            let _ = sys!(pause());
        });
        gives!(kill(child, number) => 0);
        eq!(wait(child), Status::Killed(number));
    }
    let mut word = 0;
    let aborting = child(|| {
        let _ = sys!(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0));
        let _ = sys!(kill(process::id(), SIGABRT));
    });
    gives!(wait4(aborting, &mut word, 0, 0) => aborting);
    // Not dumpable: no core was written, and the status says so.
    eq!(word, SIGABRT);
}

fn wait_arguments() {
    fails!(wait4(-1, 0, 0, 0) => ECHILD);
    fails!(wait4(-1, 0, WNOHANG, 0) => ECHILD);
    fails!(wait4(process::id(), 0, 0, 0) => ECHILD);
    fails!(wait4(1, 0, 0, 0) => ECHILD);
    fails!(wait4(-1, 0, 0x1000, 0) => EINVAL);
    fails!(wait4(i32::MIN, 0, 0, 0) => ESRCH);
    let ended = child(|| {});
    process::until_ended(ended);
    // The status can't be written, and the child is gone all the same.
    fails!(wait4(ended, BAD, 0, 0) => EFAULT);
    fails!(wait4(ended, 0, 0, 0) => ECHILD);
}

fn wait_for_any_and_for_groups() {
    let first = child(|| process::exit(1));
    let mut word = 0;
    gives!(wait4(-1, &mut word, 0, 0) => first);
    eq!(process::status(word), Status::Exited(1));
    let gate = shared_word();
    let other = child(|| {
        works!(setpgid(0, 0));
        until_is(gate, 1);
    });
    until(|| sys!(getpgid(other)) == Ok(other as usize));
    // Of our own group there is none.
    fails!(wait4(0, &mut word, WNOHANG, 0) => ECHILD);
    gives!(wait4(-other, &mut word, WNOHANG, 0) => 0);
    gate.store(1, SeqCst);
    gives!(wait4(-other, &mut word, 0, 0) => other);
    fails!(wait4(-other, &mut word, 0, 0) => ECHILD);
    // The first to end is the first to be had.
    let slow = child(|| {
        let _ = sys!(pause());
    });
    let fast = child(|| process::exit(2));
    gives!(wait4(-1, &mut word, 0, 0) => fast);
    gives!(kill(slow, SIGKILL) => 0);
    gives!(wait4(-1, &mut word, 0, 0) => slow);
}

fn nohang() {
    let waiting = child(|| {
        let _ = sys!(pause());
    });
    let mut word = 77;
    gives!(wait4(waiting, &mut word, WNOHANG, 0) => 0);
    eq!(word, 77);
    let mut info: siginfo_t = zeroed();
    info.si_signo = 99;
    gives!(waitid(P_PID, waiting, &mut info, WEXITED | WNOHANG, 0) => 0);
    eq!(info.si_signo, 0);
    gives!(kill(waiting, SIGTERM) => 0);
    eq!(wait(waiting), Status::Killed(SIGTERM));
}

/// What waitid tells: signal, code, pid, uid, status.
pub(super) fn told(info: &siginfo_t) -> (c_int, c_int, c_int, u32, c_int) {
    let words: [c_int; 32] = from_bytes(&to_bytes(info)).unwrap_or([0; 32]);
    (words[0], words[2], words[4], words[5] as u32, words[6])
}

fn waitid_fills_siginfo() {
    let mut info: siginfo_t = zeroed();
    let uid = works!(getuid()) as u32;
    let exited = child(|| process::exit(3));
    gives!(waitid(P_PID, exited, &mut info, WEXITED, 0) => 0);
    eq!(told(&info), (SIGCHLD, CLD_EXITED, exited, uid, 3));
    let killed = child(|| {
        let _ = sys!(pause());
    });
    gives!(kill(killed, SIGKILL) => 0);
    gives!(waitid(P_ALL, 0, &mut info, WEXITED, 0) => 0);
    eq!(told(&info), (SIGCHLD, CLD_KILLED, killed, uid, SIGKILL));
    let group = works!(getpgid(0));
    let exited = child(|| process::exit(300));
    gives!(waitid(P_PGID, group, &mut info, WEXITED, 0) => 0);
    eq!(told(&info).4, 300 & 0xff);
    let exited_too = child(|| {});
    gives!(waitid(P_PGID, 0, 0, WEXITED, 0) => 0);
    fails!(wait4(exited_too, 0, 0, 0) => ECHILD);
    fails!(wait4(exited, 0, 0, 0) => ECHILD);
    let mut usage: rusage = zeroed();
    let last = child(|| {});
    gives!(waitid(P_PID, last, &mut info, WEXITED, &mut usage) => 0);
    is!(usage.ru_maxrss > 0, "usage with resident memory");
}

fn waitid_arguments() {
    fails!(waitid(P_ALL, 0, 0, WEXITED, 0) => ECHILD);
    let ended = child(|| {});
    fails!(waitid(P_PID, ended, 0, 0, 0) => EINVAL);
    fails!(waitid(P_PID, ended, 0, WNOHANG, 0) => EINVAL);
    fails!(waitid(P_PID, ended, 0, 0x100 | WEXITED, 0) => EINVAL);
    fails!(waitid(99, ended, 0, WEXITED, 0) => EINVAL);
    fails!(waitid(P_PID, 0, 0, WEXITED, 0) => EINVAL);
    fails!(waitid(P_PID, -5, 0, WEXITED, 0) => EINVAL);
    fails!(waitid(P_PIDFD, -1, 0, WEXITED, 0) => EINVAL);
    fails!(waitid(P_PIDFD, 999, 0, WEXITED, 0) => EBADF);
    fails!(waitid(P_PIDFD, 0, 0, WEXITED, 0) => EBADF);
    process::until_ended(ended);
    fails!(waitid(P_PID, ended, BAD, WEXITED, 0) => EFAULT);
}

fn wnowait_leaves_it() {
    let ended = child(|| process::exit(9));
    let mut info: siginfo_t = zeroed();
    for _ in 0..3 {
        gives!(waitid(P_PID, ended, &mut info, WEXITED | WNOWAIT, 0) => 0);
        eq!(told(&info).4, 9);
    }
    eq!(process::state(ended), Some('Z'));
    eq!(wait(ended), Status::Exited(9));
    fails!(waitid(P_PID, ended, &mut info, WEXITED | WNOWAIT, 0) => ECHILD);
}

fn stop_and_continue() {
    let stopped = child(|| {
        loop {
            let _ = sys!(pause());
        }
    });
    let mut word = 0;
    gives!(kill(stopped, SIGSTOP) => 0);
    gives!(wait4(stopped, &mut word, WUNTRACED, 0) => stopped);
    eq!(process::status(word), Status::Stopped(SIGSTOP));
    eq!(process::state(stopped), Some('T'));
    // Told once.
    gives!(wait4(stopped, &mut word, WUNTRACED | WNOHANG, 0) => 0);
    gives!(kill(stopped, SIGCONT) => 0);
    gives!(wait4(stopped, &mut word, WCONTINUED, 0) => stopped);
    eq!(process::status(word), Status::Continued);
    gives!(wait4(stopped, &mut word, WCONTINUED | WNOHANG, 0) => 0);
    // Signals wait while it is stopped, except SIGKILL.
    gives!(kill(stopped, SIGSTOP) => 0);
    gives!(wait4(stopped, &mut word, WUNTRACED, 0) => stopped);
    gives!(kill(stopped, SIGTERM) => 0);
    gives!(wait4(stopped, &mut word, WNOHANG, 0) => 0);
    eq!(process::state(stopped), Some('T'));
    gives!(kill(stopped, SIGCONT) => 0);
    eq!(wait(stopped), Status::Killed(SIGTERM));
    let other = child(|| {
        loop {
            let _ = sys!(pause());
        }
    });
    gives!(kill(other, SIGSTOP) => 0);
    gives!(wait4(other, &mut word, WUNTRACED, 0) => other);
    gives!(kill(other, SIGKILL) => 0);
    eq!(wait(other), Status::Killed(SIGKILL));
}

fn waitid_of_stopped() {
    let child = child(|| {
        loop {
            let _ = sys!(pause());
        }
    });
    let mut info: siginfo_t = zeroed();
    gives!(kill(child, SIGSTOP) => 0);
    gives!(waitid(P_PID, child, &mut info, WSTOPPED | WNOWAIT, 0) => 0);
    eq!((told(&info).1, told(&info).4), (CLD_STOPPED, SIGSTOP));
    gives!(waitid(P_PID, child, &mut info, WSTOPPED, 0) => 0);
    // With WEXITED alone nothing is to be had.
    gives!(waitid(P_PID, child, &mut info, WEXITED | WNOHANG, 0) => 0);
    gives!(kill(child, SIGCONT) => 0);
    gives!(waitid(P_PID, child, &mut info, WCONTINUED, 0) => 0);
    eq!((told(&info).1, told(&info).4), (CLD_CONTINUED, SIGCONT));
    gives!(kill(child, SIGKILL) => 0);
    gives!(waitid(P_PID, child, &mut info, WSTOPPED | WCONTINUED | WEXITED, 0) => 0);
    eq!(told(&info).1, CLD_KILLED);
}

fn ignoring_sigchld_reaps() {
    signal::ignore(SIGCHLD);
    let ended = child(|| process::exit(1));
    // It waits for the end, and then there is nothing.
    fails!(wait4(ended, 0, 0, 0) => ECHILD);
    until(|| sys!(kill(ended, 0)) == Err(Errno::ESRCH));
    signal::reset(SIGCHLD);
    let ended = child(|| process::exit(1));
    eq!(wait(ended), Status::Exited(1));
}

fn nocldwait_reaps() {
    signal::on(SIGCHLD, SA_NOCLDWAIT);
    let ended = child(|| {});
    let mut word = 0;
    until(|| signal::count() == 1);
    fails!(wait4(ended, &mut word, 0, 0) => ECHILD);
    eq!(signal::records()[0].sender, ended);
}

fn nocldstop_is_quiet() {
    signal::on(SIGCHLD, SA_NOCLDSTOP);
    let child = child(|| {
        loop {
            let _ = sys!(pause());
        }
    });
    let mut word = 0;
    gives!(kill(child, SIGSTOP) => 0);
    gives!(wait4(child, &mut word, WUNTRACED, 0) => child);
    eq!(signal::count(), 0);
    signal::on(SIGCHLD, SA_RESTART);
    gives!(kill(child, SIGCONT) => 0);
    until(|| signal::count() == 1);
    eq!(signal::records()[0].code, CLD_CONTINUED);
    gives!(kill(child, SIGKILL) => 0);
    until(|| signal::count() == 2);
    let last = signal::records()[1];
    eq!((last.code, last.sender, last.value), (CLD_KILLED, child, SIGKILL));
    eq!(wait(child), Status::Killed(SIGKILL));
}

fn usage_of_children() {
    let mut usage: rusage = zeroed();
    let busy = child(|| {
        let map = pages(64);
        for page in 0..64 {
            poke(map + page * PAGE, 1);
        }
    });
    gives!(wait4(busy, 0, 0, &mut usage) => busy);
    is!(usage.ru_minflt >= 64, "its {} minor faults to be at least 64", usage.ru_minflt);
    let mut sum: rusage = zeroed();
    gives!(getrusage(RUSAGE_CHILDREN, &mut sum) => 0);
    is!(sum.ru_minflt >= usage.ru_minflt, "the children's sum to hold it");
    gives!(getrusage(RUSAGE_SELF, &mut sum) => 0);
    is!(sum.ru_maxrss > 0, "resident memory of our own");
    gives!(getrusage(1 /* RUSAGE_THREAD */, &mut sum) => 0);
    fails!(getrusage(7, &mut sum) => EINVAL);
    fails!(getrusage(RUSAGE_SELF, BAD) => EFAULT);
    let mut times: tms = zeroed();
    works!(times(&mut times));
    fails!(times(BAD) => EFAULT);
    works!(times(0));
}

fn zombies_stay() {
    let ended = child(|| process::exit(5));
    process::until_ended(ended);
    eq!(process::state(ended), Some('Z'));
    gives!(kill(ended, 0) => 0);
    gives!(kill(ended, SIGKILL) => 0);
    gives!(getpgid(ended) => works!(getpgid(0)));
    is!(contents(&format!("/proc/{ended}/cmdline")).is_empty(), "no command line");
    fails!(setpgid(ended, 12345678) => EPERM);
    eq!(wait(ended), Status::Exited(5));
    fails!(kill(ended, 0) => ESRCH);
    fails!(getpgid(ended) => ESRCH);
    fails!(getsid(ended) => ESRCH);
}

fn orphans_go_to_the_subreaper() {
    gives!(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) => 0);
    let mut is_one = 0;
    gives!(prctl(PR_GET_CHILD_SUBREAPER, &mut is_one, 0, 0, 0) => 0);
    eq!(is_one, 1);
    let (own, step) = (process::id(), shared_word());
    in_child(|| {
        // Not inherited.
        let mut is_one = 9;
        gives!(prctl(PR_GET_CHILD_SUBREAPER, &mut is_one, 0, 0, 0) => 0);
        eq!(is_one, 0);
        let middle = process::id();
        child(|| {
            until(|| works!(getppid()) != middle as usize);
            eq!(works!(getppid()) as c_int, own);
            step.store(process::id() as u32, SeqCst);
            process::exit(44)
        });
    });
    let mut word = 0;
    let orphan = works!(wait4(-1, &mut word, 0, 0));
    eq!(orphan as u32, step.load(SeqCst));
    eq!(process::status(word), Status::Exited(44));
}

fn parents_death_signal() {
    gives!(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) => 0);
    let step = shared_word();
    in_child(|| {
        child(|| {
            gives!(prctl(PR_SET_PDEATHSIG, SIGUSR2, 0, 0, 0) => 0);
            let mut number = 0;
            gives!(prctl(PR_GET_PDEATHSIG, &mut number, 0, 0, 0) => 0);
            eq!(number, SIGUSR2);
            step.store(1, SeqCst);
            loop {
                let _ = sys!(pause());
            }
        });
        until_is(step, 1);
    });
    let mut word = 0;
    works!(wait4(-1, &mut word, 0, 0));
    eq!(process::status(word), Status::Killed(SIGUSR2));
    fails!(prctl(PR_SET_PDEATHSIG, 65, 0, 0, 0) => EINVAL);
    fails!(prctl(PR_GET_PDEATHSIG, BAD, 0, 0, 0) => EFAULT);
}

/// The upper end of a new stack.
pub(super) fn stack() -> usize {
    pages(16) + 16 * PAGE
}

pub(super) extern "C" fn seven(_: usize) -> c_int {
    7
}

fn groups_and_sessions() {
    let own = process::id() as usize;
    // The runner made us a session's leader.
    gives!(getpgid(0) => own);
    gives!(getpgrp() => own);
    gives!(getsid(0) => own);
    fails!(setsid() => EPERM);
    fails!(setpgid(0, 0) => EPERM);
    in_child(|| {
        gives!(getpgrp() => own);
        gives!(setpgid(0, 0) => 0);
        gives!(getpgrp() => process::id());
        gives!(getsid(0) => own);
        gives!(setpgid(0, own) => 0);
        gives!(getpgrp() => own);
    });
    fails!(getpgid(0x3f_ffff) => ESRCH);
    fails!(getsid(0x3f_ffff) => ESRCH);
    fails!(getpgid(-1) => ESRCH);
}

fn setpgid_arguments() {
    let waiting = child(|| {
        loop {
            let _ = sys!(pause());
        }
    });
    fails!(setpgid(-1, 0) => EINVAL | ESRCH);
    fails!(setpgid(0, -1) => EINVAL);
    fails!(setpgid(waiting, 0x3f_ffff) => EPERM);
    fails!(setpgid(0x3f_ffff, 0) => ESRCH);
    fails!(setpgid(works!(getppid()), 0) => ESRCH);
    gives!(setpgid(waiting, waiting) => 0);
    gives!(getpgid(waiting) => waiting);
    let other = child(|| {
        loop {
            let _ = sys!(pause());
        }
    });
    gives!(setpgid(other, waiting) => 0);
    gives!(getpgid(other) => waiting);
    // A signal to a group reaches all of it, and not us.
    gives!(kill(-waiting, SIGTERM) => 0);
    eq!((wait(waiting), wait(other)), (Status::Killed(SIGTERM), Status::Killed(SIGTERM)));
    fails!(kill(-waiting, 0) => ESRCH);
}

fn setsid_makes_a_session() {
    let step = shared_word();
    let pid = child(|| {
        gives!(setsid() => process::id());
        gives!(getsid(0) => process::id());
        gives!(getpgrp() => process::id());
        step.store(1, SeqCst);
        until_is(step, 2);
    });
    until_is(step, 1);
    gives!(getsid(pid) => pid);
    fails!(setpgid(pid, 0) => EPERM);
    let other = child(|| {
        loop {
            let _ = sys!(pause());
        }
    });
    // Groups don't reach across sessions.
    fails!(setpgid(other, pid) => EPERM);
    step.store(2, SeqCst);
    join(pid);
    gives!(kill(other, SIGKILL) => 0);
    eq!(wait(other), Status::Killed(SIGKILL));
}

fn group_of_a_child_after_exec() {
    let (reader, writer) = pipe();
    let path = process::own_file();
    let pid = child(|| {
        works!(dup2(reader, 0));
        works!(close(reader));
        works!(close(writer));
        let args = strings(&[c"self", c"helper", c"wait"]);
        let _ = sys!(execve(&*path, args.as_slice(), strings(&[]).as_slice()));
    });
    until(|| contents(&format!("/proc/{pid}/cmdline")).starts_with("self\0"));
    fails!(setpgid(pid, pid) => EACCES);
    works!(close(writer));
    join(pid);
}

fn numbers() {
    let own = process::id();
    eq!(works!(gettid()) as c_int, own);
    let link = std::fs::read_link("/proc/self").unwrap_or_default();
    eq!(link.display().to_string(), own.to_string());
    let link = std::fs::read_link("/proc/thread-self").unwrap_or_default();
    eq!(link.display().to_string(), format!("{own}/task/{own}"));
    // Numbers go up, and come back only when all have been used.
    let (first, second) = (child(|| {}), child(|| {}));
    is!(first != second && first != own, "different numbers");
    join(first);
    join(second);
}

fn process_limit() {
    need_root();
    gives!(setresuid(54321, 54321, 54321) => 0);
    gives!(setrlimit(RLIMIT_NPROC, &rlimit { rlim_cur: 2, rlim_max: 2 }) => 0);
    let waiting = child(|| {
        loop {
            let _ = sys!(pause());
        }
    });
    fails!(fork() => EAGAIN);
    eq!(clone(Clone { flags: THREAD, stack: stack(), ..Clone::default() }, seven, 0), Err(Errno::EAGAIN));
    gives!(kill(waiting, SIGKILL) => 0);
    eq!(wait(waiting), Status::Killed(SIGKILL));
    in_child(|| {});
}

fn auxiliary_vector() {
    let auxv = std::fs::read("/proc/self/auxv").unwrap_or_default();
    let words: Vec<u64> = auxv.chunks_exact(8).filter_map(from_bytes).collect();
    let value = |kind: u64| words.chunks_exact(2).find(|pair| pair[0] == kind).map(|pair| pair[1]);
    eq!(value(AT_PAGESZ), Some(PAGE as u64));
    eq!(value(AT_CLKTCK), Some(100));
    eq!(value(AT_UID), Some(works!(getuid()) as u64));
    eq!(value(AT_EUID), Some(works!(geteuid()) as u64));
    eq!(value(AT_GID), Some(works!(getgid()) as u64));
    eq!(value(AT_EGID), Some(works!(getegid()) as u64));
    eq!(value(AT_SECURE), Some(0));
    eq!(value(AT_BASE), Some(0));
    is!(value(AT_PHDR).is_some_and(|address| address != 0), "program headers");
    eq!(value(AT_PHENT), Some(56));
    is!(value(AT_ENTRY).is_some(), "an entry");
    is!(value(AT_RANDOM).is_some_and(|address| bytes_at(address as usize, 16).iter().any(|byte| *byte != 0)), "16 random bytes");
    let name = value(AT_EXECFN).map(|address| bytes_at(address as usize, 1));
    is!(name.is_some(), "the path it was started by");
    is!(value(AT_PLATFORM).is_some_and(|address| bytes_at(address as usize, 7) == b"x86_64\0"), "the platform to be x86_64");
    eq!(words[words.len() - 2..], [0, 0]);
}
