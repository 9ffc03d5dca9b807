//! Signals: actions, masks, pending ones, the order of delivery, queues, who gets which, permissions, stops and default actions.

use super::prelude::*;
use crate::sys::process::{Clone, THREAD, clone};
use crate::sys::signal::{SET, recording, set};

tests!("signal":
    actions_are_read_back, arguments_of_sigaction, kill_arguments, kill_tells_who, ignored_is_gone, blocked_is_pending,
    unblocking_delivers_first, standard_signals_merge, realtime_signals_queue, lowest_number_first, masks_of_fork_and_how,
    arguments_of_sigprocmask, kill_and_stop_can_not_be_blocked, sigqueue_carries_a_value, sigqueue_needs_an_honest_code,
    tgkill_to_a_thread, tkill_arguments, process_signals_go_to_who_does_not_block, sigpipe, kill_of_groups_and_all, permissions,
    sigcont_discards_stops, default_actions, orphaned_groups_do_not_stop, stopped_orphans_are_woken, pending_limit,
    fault_of_division, pidfd_and_ignored_children,
);

pub(super) fn raise(signal: c_int) {
    let _ = sys!(kill(process::id(), signal));
}

fn actions_are_read_back() {
    let mut old = recording(0, 0);
    for number in [SIGUSR1, SIGTERM, SIGRTMIN(), 64, 32] {
        gives!(rt_sigaction(number, 0, &mut old, SET) => 0);
        eq!((old.handler, old.flags, old.mask), (SIG_DFL, 0, 0));
    }
    let wanted = recording(SA_RESTART | SA_NODEFER | SA_ONSTACK | SA_RESETHAND as c_int, set(&[SIGHUP, SIGTERM]));
    gives!(rt_sigaction(SIGUSR1, &wanted, 0, SET) => 0);
    gives!(rt_sigaction(SIGUSR1, 0, &mut old, SET) => 0);
    eq!(old, wanted);
    // SIGKILL and SIGSTOP can't be in a mask: they are left out.
    gives!(rt_sigaction(SIGUSR1, &recording(0, set(&[SIGKILL, SIGSTOP, SIGHUP])), &mut old, SET) => 0);
    eq!(old, wanted);
    gives!(rt_sigaction(SIGUSR1, 0, &mut old, SET) => 0);
    eq!(old.mask, set(&[SIGHUP]));
    // Flags that nobody knows are taken away (since Linux 5.11, so that programs can ask).
    gives!(rt_sigaction(SIGUSR1, &recording(0x400 /* SA_UNSUPPORTED */, 0), 0, SET) => 0);
    gives!(rt_sigaction(SIGUSR1, 0, &mut old, SET) => 0);
    eq!(old.flags & 0x400, 0);
}

fn arguments_of_sigaction() {
    let action = recording(0, 0);
    for number in [0, -1, 65, 1000] {
        fails!(rt_sigaction(number, &action, 0, SET) => EINVAL);
    }
    for number in [SIGKILL, SIGSTOP] {
        fails!(rt_sigaction(number, &action, 0, SET) => EINVAL);
        let mut old = action;
        gives!(rt_sigaction(number, 0, &mut old, SET) => 0);
        eq!(old.handler, SIG_DFL);
    }
    fails!(rt_sigaction(SIGUSR1, &action, 0, 16) => EINVAL);
    fails!(rt_sigaction(SIGUSR1, &action, 0, 0) => EINVAL);
    fails!(rt_sigaction(SIGUSR1, BAD, 0, SET) => EFAULT);
    fails!(rt_sigaction(SIGUSR1, 0, BAD, SET) => EFAULT);
    fails!(rt_sigaction(SIGUSR1, edge(16), 0, SET) => EFAULT);
}

fn kill_arguments() {
    let own = process::id();
    gives!(kill(own, 0) => 0);
    gives!(kill(0, 0) => 0);
    fails!(kill(own, -1) => EINVAL);
    fails!(kill(own, 65) => EINVAL);
    fails!(kill(0x3f_ffff, SIGTERM) => ESRCH);
    fails!(kill(-0x3f_ffff, SIGTERM) => ESRCH);
    fails!(kill(i32::MIN, 0) => ESRCH);
    fails!(kill(0x3f_ffff, 65) => EINVAL | ESRCH);
}

fn kill_tells_who() {
    signal::on(SIGUSR1, 0);
    raise(SIGUSR1);
    let record = signal::records()[0];
    eq!((record.signal, record.code, record.sender, record.thread), (SIGUSR1, SI_USER, process::id(), process::thread_id()));
    signal::forget();
    let own = process::id();
    let other = child(|| {
        gives!(kill(own, SIGUSR1) => 0);
    });
    join(other);
    until(|| signal::count() == 1);
    eq!(signal::records()[0].sender, other);
}

fn ignored_is_gone() {
    signal::ignore(SIGUSR1);
    raise(SIGUSR1);
    eq!(signal::pending(), 0);
    // Blocked, it is kept for the case that it isn't ignored any more.
    signal::block(&[SIGUSR1]);
    raise(SIGUSR1);
    eq!(signal::pending(), set(&[SIGUSR1]));
    // Setting it to be ignored throws it away, also by default.
    signal::ignore(SIGUSR1);
    eq!(signal::pending(), 0);
    signal::block(&[SIGCHLD]);
    signal::on(SIGCHLD, 0);
    raise(SIGCHLD);
    eq!(signal::pending(), set(&[SIGCHLD]));
    signal::reset(SIGCHLD);
    eq!(signal::pending(), 0);
    signal::block(&[]);
    for number in [SIGCHLD, SIGURG, SIGWINCH, SIGCONT] {
        signal::reset(number);
        raise(number);
    }
    eq!(signal::pending(), 0);
}

fn blocked_is_pending() {
    signal::on(SIGUSR1, 0);
    signal::on(SIGUSR2, 0);
    signal::block(&[SIGUSR1, SIGUSR2]);
    eq!(signal::pending(), 0);
    raise(SIGUSR2);
    raise(SIGUSR1);
    eq!(signal::pending(), set(&[SIGUSR1, SIGUSR2]));
    eq!(signal::count(), 0);
    // A pending signal doesn't interrupt.
    gives!(nanosleep(&timespec { tv_sec: 0, tv_nsec: 1000 }, 0) => 0);
    signal::block(&[SIGUSR2]);
    eq!(signal::caught(), [SIGUSR1]);
    eq!(signal::pending(), set(&[SIGUSR2]));
    signal::block(&[]);
    eq!(signal::caught(), [SIGUSR1, SIGUSR2]);
    eq!(signal::pending(), 0);
    fails!(rt_sigpending(BAD, SET) => EFAULT);
    fails!(rt_sigpending(BAD, 16) => EINVAL);
}

fn unblocking_delivers_first() {
    signal::on(SIGUSR1, 0);
    signal::block(&[SIGUSR1]);
    raise(SIGUSR1);
    let mut old = 0u64;
    gives!(rt_sigprocmask(SIG_UNBLOCK, &set(&[SIGUSR1]), &mut old, SET) => 0);
    // At least one is delivered before the call returns.
    eq!(signal::count(), 1);
    eq!(old, set(&[SIGUSR1]));
}

fn standard_signals_merge() {
    signal::on(SIGUSR1, 0);
    signal::block(&[SIGUSR1]);
    for _ in 0..5 {
        raise(SIGUSR1);
    }
    signal::block(&[]);
    eq!(signal::count(), 1);
    // The first is kept, not the last.
    signal::forget();
    signal::block(&[SIGUSR1]);
    queue(SIGUSR1, 1);
    queue(SIGUSR1, 2);
    signal::block(&[]);
    eq!(signal::records().iter().map(|record| record.value).collect::<Vec<_>>(), [1]);
}

/// A siginfo as `sigqueue(3)` makes it.
fn queued(code: c_int, value: c_int) -> [c_int; 32] {
    let mut info = [0; 32];
    (info[2], info[4], info[5], info[6]) = (code, process::id(), works!(getuid()) as c_int, value);
    info
}

pub(super) fn queue(signal: c_int, value: c_int) {
    gives!(rt_sigqueueinfo(process::id(), signal, &queued(SI_QUEUE, value)) => 0);
}

fn realtime_signals_queue() {
    let number = SIGRTMIN() + 1;
    signal::on(number, 0);
    signal::block(&[number]);
    for value in 1..=5 {
        queue(number, value);
    }
    raise(number);
    eq!(signal::pending(), set(&[number]));
    signal::block(&[]);
    let told: Vec<_> = signal::records().iter().map(|record| (record.code, record.value)).collect();
    eq!(told[..5], [(SI_QUEUE, 1), (SI_QUEUE, 2), (SI_QUEUE, 3), (SI_QUEUE, 4), (SI_QUEUE, 5)]);
    eq!(told.get(5).map(|last| last.0), Some(SI_USER));
    eq!(told.len(), 6);
}

fn lowest_number_first() {
    let first = SIGRTMIN();
    let numbers = [first + 3, SIGUSR2, first + 1, SIGHUP, SIGUSR1, first + 2];
    // Each blocks all while it runs, so that they come one after the other.
    for number in numbers {
        gives!(rt_sigaction(number, &recording(0, u64::MAX), 0, SET) => 0);
    }
    signal::block(&numbers);
    for number in numbers {
        raise(number);
    }
    signal::block(&[]);
    // All frames are set up before the first handler runs, the lowest number first: so it is the last to run... unless its action
    // blocks the others, as here.
    eq!(signal::caught(), [SIGHUP, SIGUSR1, SIGUSR2, first + 1, first + 2, first + 3]);
    // With nothing blocked by the action, the frames pile up, and the highest runs first.
    signal::forget();
    signal::block(&numbers);
    for number in numbers {
        signal::on(number, 0);
        raise(number);
    }
    signal::block(&[]);
    eq!(signal::caught(), [first + 3, first + 2, first + 1, SIGUSR2, SIGUSR1, SIGHUP]);
    // A fault's signal comes before those that others sent.
    signal::forget();
}

fn masks_of_fork_and_how() {
    let mut old = 0u64;
    gives!(rt_sigprocmask(SIG_SETMASK, &set(&[SIGHUP, SIGTERM]), 0, SET) => 0);
    gives!(rt_sigprocmask(SIG_BLOCK, &set(&[SIGUSR1]), &mut old, SET) => 0);
    eq!(old, set(&[SIGHUP, SIGTERM]));
    gives!(rt_sigprocmask(SIG_UNBLOCK, &set(&[SIGHUP, SIGUSR2]), &mut old, SET) => 0);
    eq!(old, set(&[SIGHUP, SIGTERM, SIGUSR1]));
    gives!(rt_sigprocmask(SIG_SETMASK, &set(&[]), &mut old, SET) => 0);
    eq!(old, set(&[SIGTERM, SIGUSR1]));
}

fn arguments_of_sigprocmask() {
    let mask = set(&[SIGUSR1]);
    fails!(rt_sigprocmask(3, &mask, 0, SET) => EINVAL);
    fails!(rt_sigprocmask(-1, &mask, 0, SET) => EINVAL);
    // `how` counts only if there is a set.
    gives!(rt_sigprocmask(99, 0, 0, SET) => 0);
    fails!(rt_sigprocmask(SIG_BLOCK, &mask, 0, 4) => EINVAL);
    fails!(rt_sigprocmask(SIG_BLOCK, &mask, 0, 128) => EINVAL);
    fails!(rt_sigprocmask(SIG_BLOCK, BAD, 0, SET) => EFAULT);
    fails!(rt_sigprocmask(SIG_BLOCK, 0, BAD, SET) => EFAULT);
    // The old set can't be stored: the new one is in force all the same.
    fails!(rt_sigprocmask(SIG_BLOCK, &mask, BAD, SET) => EFAULT);
    let mut now = 0u64;
    gives!(rt_sigprocmask(SIG_BLOCK, 0, &mut now, SET) => 0);
    eq!(now, mask);
}

fn kill_and_stop_can_not_be_blocked() {
    gives!(rt_sigprocmask(SIG_SETMASK, &u64::MAX, 0, SET) => 0);
    let mut now = 0u64;
    gives!(rt_sigprocmask(SIG_BLOCK, 0, &mut now, SET) => 0);
    eq!(now, !set(&[SIGKILL, SIGSTOP]));
    let victim = child(|| {
        loop {
            let _ = sys!(pause());
        }
    });
    gives!(kill(victim, SIGTERM) => 0);
    gives!(kill(victim, SIGSTOP) => 0);
    let mut word = 0;
    gives!(wait4(victim, &mut word, WUNTRACED, 0) => victim);
    gives!(kill(victim, SIGKILL) => 0);
    eq!(wait(victim), Status::Killed(SIGKILL));
}

fn sigqueue_carries_a_value() {
    signal::on(SIGUSR1, 0);
    queue(SIGUSR1, 0x1234_5678);
    let record = signal::records()[0];
    eq!((record.code, record.value, record.sender), (SI_QUEUE, 0x1234_5678, process::id()));
    gives!(rt_tgsigqueueinfo(process::id(), process::thread_id(), SIGUSR1, &queued(SI_QUEUE, -2)) => 0);
    eq!(signal::records()[1].value, -2);
    fails!(rt_sigqueueinfo(process::id(), 65, &queued(SI_QUEUE, 0)) => EINVAL);
    fails!(rt_sigqueueinfo(process::id(), SIGUSR1, BAD) => EFAULT);
    fails!(rt_sigqueueinfo(0x3f_ffff, SIGUSR1, &queued(SI_QUEUE, 0)) => ESRCH);
    fails!(rt_tgsigqueueinfo(0, process::thread_id(), SIGUSR1, &queued(SI_QUEUE, 0)) => EINVAL);
    fails!(rt_tgsigqueueinfo(process::id(), -1, SIGUSR1, &queued(SI_QUEUE, 0)) => EINVAL);
}

fn sigqueue_needs_an_honest_code() {
    let victim = child(|| {
        loop {
            let _ = sys!(pause());
        }
    });
    // To others, nothing that looks like the kernel's or like kill's.
    fails!(rt_sigqueueinfo(victim, SIGUSR1, &queued(SI_USER, 0)) => EPERM);
    fails!(rt_sigqueueinfo(victim, SIGUSR1, &queued(SI_TKILL, 0)) => EPERM);
    fails!(rt_sigqueueinfo(victim, SIGUSR1, &queued(0x80 /* SI_KERNEL */, 0)) => EPERM);
    gives!(rt_sigqueueinfo(victim, SIGUSR1, &queued(SI_QUEUE, 0)) => 0);
    eq!(wait(victim), Status::Killed(SIGUSR1));
    // To oneself, anything.
    signal::on(SIGUSR1, 0);
    gives!(rt_sigqueueinfo(process::id(), SIGUSR1, &queued(0x80, 0)) => 0);
    eq!(signal::records()[0].code, 0x80);
}

extern "C" fn until_two(address: usize) -> c_int {
    word_at(address).store(1, SeqCst);
    until_is(word_at(address), 2);
    0
}

/// A thread that waits in memory of its own: its number, and the word that ends it when it becomes 2.
pub(super) fn thread() -> (c_int, &'static AtomicU32) {
    let map = pages(17);
    let tid = clone(Clone { flags: THREAD, stack: map + 17 * PAGE, ..Clone::default() }, until_two, map).unwrap_or(0);
    until_is(word_at(map), 1);
    (tid as c_int, word_at(map))
}

fn tgkill_to_a_thread() {
    signal::on(SIGUSR1, SA_RESTART);
    let (tid, word) = thread();
    gives!(tgkill(process::id(), tid, SIGUSR1) => 0);
    until(|| signal::count() == 1);
    let record = signal::records()[0];
    eq!((record.code, record.thread), (SI_TKILL, tid));
    gives!(tkill(tid, SIGUSR1) => 0);
    until(|| signal::count() == 2);
    eq!(signal::records()[1].thread, tid);
    // Pending for one thread is not pending for another.
    signal::block(&[SIGUSR2]);
    gives!(tgkill(process::id(), process::thread_id(), SIGUSR2) => 0);
    eq!(signal::pending(), set(&[SIGUSR2]));
    word.store(2, SeqCst);
}

fn tkill_arguments() {
    let own = process::id();
    fails!(tgkill(own, 0, 0) => EINVAL);
    fails!(tgkill(0, own, 0) => EINVAL);
    fails!(tgkill(own, -1, 0) => EINVAL);
    fails!(tgkill(own, own, 65) => EINVAL);
    fails!(tgkill(own, 0x3f_ffff, 0) => ESRCH);
    fails!(tgkill(own, works!(getppid()), 0) => ESRCH);
    fails!(tkill(0, 0) => EINVAL);
    fails!(tkill(-1, 0) => EINVAL);
    fails!(tkill(0x3f_ffff, 0) => ESRCH);
    gives!(tkill(own, 0) => 0);
}

fn process_signals_go_to_who_does_not_block() {
    signal::on(SIGUSR1, SA_RESTART);
    let (tid, word) = thread();
    signal::block(&[SIGUSR1]);
    raise(SIGUSR1);
    until(|| signal::count() == 1);
    eq!(signal::records()[0].thread, tid);
    word.store(2, SeqCst);
}

pub(super) fn socketpair(kind: c_int) -> (usize, usize) {
    let mut pair = [0i32; 2];
    works!(socketpair(AF_UNIX, kind, 0, &mut pair));
    (pair[0] as usize, pair[1] as usize)
}

fn sigpipe() {
    let (reader, writer) = pipe();
    works!(close(reader));
    let victim = child(|| {
        let _ = sys!(write(writer, b"x", 1));
    });
    eq!(wait(victim), Status::Killed(SIGPIPE));
    signal::ignore(SIGPIPE);
    fails!(write(writer, b"x", 1) => EPIPE);
    signal::on(SIGPIPE, 0);
    fails!(write(writer, b"x", 1) => EPIPE);
    eq!(signal::caught(), [SIGPIPE]);
    gives!(write(writer, b"", 0) => 0);
    let (one, other) = socketpair(SOCK_STREAM);
    works!(close(other));
    fails!(sendto(one, b"x", 1, MSG_NOSIGNAL, 0, 0) => EPIPE);
    eq!(signal::count(), 1);
    fails!(sendto(one, b"x", 1, 0, 0, 0) => EPIPE);
    eq!(signal::count(), 2);
}

fn kill_of_groups_and_all() {
    signal::on(SIGUSR1, 0);
    let step = shared_word();
    let pid = child(|| {
        signal::forget();
        step.fetch_add(1, SeqCst);
        until(|| signal::count() == 1);
        step.fetch_add(1, SeqCst);
    });
    until_is(step, 1);
    gives!(kill(0, SIGUSR1) => 0);
    until_is(step, 2);
    eq!(signal::count(), 1);
    join(pid);
    gives!(kill(-process::id(), SIGUSR1) => 0);
    eq!(signal::count(), 2);
}

fn permissions() {
    need_root();
    let own = process::id();
    in_child(|| {
        gives!(setresuid(1000, 1000, 1000) => 0);
        fails!(kill(own, 0) => EPERM);
        fails!(kill(own, SIGTERM) => EPERM);
        fails!(kill(1, SIGTERM) => EPERM);
        // SIGCONT may go to one's own session.
        gives!(kill(own, SIGCONT) => 0);
        fails!(tgkill(own, own, SIGTERM) => EPERM);
        let other = child(|| {
            loop {
                let _ = sys!(pause());
            }
        });
        gives!(kill(other, SIGTERM) => 0);
        eq!(wait(other), Status::Killed(SIGTERM));
        // A group counts as reached if one of it is.
        let mixed = child(|| {
            loop {
                let _ = sys!(pause());
            }
        });
        gives!(kill(0, 0) => 0);
        gives!(kill(mixed, SIGKILL) => 0);
    });
    // The saved user counts on the receiver's side, the effective one on the sender's.
    let word = shared_word();
    let receiver = child(|| {
        gives!(setresuid(1000, 1000, 2000) => 0);
        word.store(1, SeqCst);
        until_is(word, 2);
    });
    until_is(word, 1);
    in_child(|| {
        gives!(setresuid(3000, 2000, 3000) => 0);
        gives!(kill(receiver, 0) => 0);
        gives!(setresuid(3000, 3000, 3000) => 0);
        fails!(kill(receiver, 0) => EPERM);
    });
    word.store(2, SeqCst);
    join(receiver);
}

fn sigcont_discards_stops() {
    signal::block(&[SIGTSTP, SIGCONT]);
    raise(SIGTSTP);
    eq!(signal::pending(), set(&[SIGTSTP]));
    raise(SIGCONT);
    is!(signal::pending() & set(&[SIGTSTP]) == 0, "the stop to be discarded");
    signal::on(SIGCONT, 0);
    raise(SIGCONT);
    eq!(signal::pending(), set(&[SIGCONT]));
    raise(SIGTTIN);
    is!(signal::pending() & set(&[SIGCONT]) == 0, "the continuation to be discarded");
}

fn default_actions() {
    for number in 1..=64 {
        if matches!(number, SIGSTOP | SIGTSTP | SIGTTIN | SIGTTOU | SIGCHLD | SIGURG | SIGWINCH | SIGCONT) {
            continue;
        }
        let victim = child(|| {
            let _ = sys!(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0));
            raise(number);
        });
        eq!((number, wait(victim)), (number, Status::Killed(number)));
    }
    for number in [SIGCHLD, SIGURG, SIGWINCH, SIGCONT] {
        in_child(|| raise(number));
    }
}

fn orphaned_groups_do_not_stop() {
    // Our group is a session leader's own, so orphaned: the terminal's stops are not heeded in it.
    for number in [SIGTSTP, SIGTTIN, SIGTTOU] {
        in_child(|| raise(number));
    }
    // In a group whose members have a parent in the same session, but another group, they are.
    for number in [SIGTSTP, SIGTTIN, SIGTTOU] {
        let pid = child(|| {
            works!(setpgid(0, 0));
            raise(number);
        });
        let mut word = 0;
        gives!(wait4(pid, &mut word, WUNTRACED, 0) => pid);
        eq!(process::status(word), Status::Stopped(number));
        gives!(kill(pid, SIGCONT) => 0);
        join(pid);
    }
}

fn stopped_orphans_are_woken() {
    gives!(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) => 0);
    let stopped = shared_word();
    // A child that stops in a group of its own, and whose parent ends: in our session, or in one of its own.
    let leave_stopped = |new_session: bool| {
        in_child(|| {
            if new_session {
                works!(setsid());
            }
            let pid = child(|| {
                works!(setpgid(0, 0));
                loop {
                    raise(SIGSTOP);
                }
            });
            let mut word = 0;
            gives!(wait4(pid, &mut word, WUNTRACED, 0) => pid);
            stopped.store(pid as u32, SeqCst);
        });
        stopped.load(SeqCst) as c_int
    };
    // We, the new parent, are of the same session and another group: it is not orphaned.
    let pid = leave_stopped(false);
    eq!(process::state(pid), Some('T'));
    gives!(kill(pid, SIGKILL) => 0);
    eq!(wait(pid), Status::Killed(SIGKILL));
    // Of another session: nobody is left who could wake it, so the kernel does, with SIGHUP and SIGCONT.
    let pid = leave_stopped(true);
    eq!(wait(pid), Status::Killed(SIGHUP));
}

fn pending_limit() {
    let number = SIGRTMIN() + 6;
    signal::block(&[number, SIGUSR1]);
    gives!(setrlimit(RLIMIT_SIGPENDING, &rlimit { rlim_cur: 0, rlim_max: 0 }) => 0);
    fails!(rt_sigqueueinfo(process::id(), number, &queued(SI_QUEUE, 1)) => EAGAIN);
    // kill always gets through.
    gives!(kill(process::id(), SIGUSR1) => 0);
    is!(signal::pending() & set(&[SIGUSR1]) != 0, "it to be pending");
}

fn fault_of_division() {
    // A kill of SIGSEGV from outside says SI_USER, and does not look like a fault.
    signal::on(SIGSEGV, 0);
    signal::on(SIGBUS, 0);
    raise(SIGSEGV);
    raise(SIGBUS);
    let told: Vec<_> = signal::records().iter().map(|record| (record.signal, record.code)).collect();
    eq!(told, [(SIGSEGV, SI_USER), (SIGBUS, SI_USER)]);
}

fn pidfd_and_ignored_children() {
    signal::ignore(SIGCHLD);
    let pid = child(|| {
        loop {
            let _ = sys!(pause());
        }
    });
    let fd = works!(pidfd_open(pid, 0));
    gives!(kill(pid, SIGKILL) => 0);
    let mut poll = pollfd { fd: fd as c_int, events: POLLIN, revents: 0 };
    gives!(poll(std::ptr::from_mut(&mut poll), 1, -1) => 1);
    fails!(waitid(P_PIDFD, fd, 0, WEXITED, 0) => ECHILD);
}
