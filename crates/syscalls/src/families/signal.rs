//! Signals: actions, masks, pending, delivery order, restart, alternate stacks, queues, waiting, signalfd.

use super::prelude::*;
use crate::sys::process::{Clone, clone};
use crate::sys::signal::{Action, SET, recording, set};

tests!("signal":
    actions_are_read_back, arguments_of_sigaction, kill_arguments, kill_tells_who, ignored_is_gone, blocked_is_pending, unblocking_delivers_first,
    standard_signals_merge, realtime_signals_queue, lowest_number_first, the_handler_blocks_its_own, nodefer, the_actions_mask, resethand,
    masks_of_fork_and_how, arguments_of_sigprocmask, kill_and_stop_can_not_be_blocked, sigqueue_carries_a_value, sigqueue_needs_an_honest_code,
    tgkill_to_a_thread, tkill_arguments, process_signals_go_to_who_does_not_block, sigsuspend_swaps_the_mask, pause_returns_eintr, sigtimedwait_takes, sigtimedwait_arguments,
    sigtimedwait_is_interrupted, interrupted_read, restarted_read, restarted_wait, never_restarted, nanosleep_tells_the_rest, stopped_call_goes_on, alternate_stack,
    alternate_stack_arguments, alternate_stack_autodisarm, stack_overflow_is_caught, sigpipe, kill_of_groups_and_all, permissions,
    sigcont_discards_stops, default_actions, orphaned_groups_do_not_stop, stopped_orphans_are_woken, signalfd_reads, signalfd_arguments, signalfd_of_children_and_faults, alarm_comes, itimers, itimer_of_cpu_time,
    pending_limit, fault_of_division, a_handlers_changes_come_back, pidfd_and_ignored_children, sigwait_among_threads,
);

fn raise(signal: c_int) {
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

fn queue(signal: c_int, value: c_int) {
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

fn the_handler_blocks_its_own() {
    signal::on(SIGUSR1, 0);
    raise(SIGUSR1);
    eq!(signal::records()[0].blocked, set(&[SIGUSR1]));
    let mut now = 1u64;
    gives!(rt_sigprocmask(SIG_BLOCK, 0, &mut now, SET) => 0);
    eq!(now, 0);
}

fn nodefer() {
    signal::on(SIGUSR1, SA_NODEFER);
    raise(SIGUSR1);
    eq!(signal::records()[0].blocked, 0);
}

fn the_actions_mask() {
    signal::block(&[SIGTERM]);
    gives!(rt_sigaction(SIGUSR1, &recording(0, set(&[SIGUSR2, SIGHUP])), 0, SET) => 0);
    raise(SIGUSR1);
    eq!(signal::records()[0].blocked, set(&[SIGTERM, SIGUSR1, SIGUSR2, SIGHUP]));
    gives!(rt_sigaction(SIGUSR1, &recording(SA_NODEFER, set(&[SIGUSR2])), 0, SET) => 0);
    raise(SIGUSR1);
    eq!(signal::records()[1].blocked, set(&[SIGTERM, SIGUSR2]));
}

fn resethand() {
    signal::on(SIGUSR1, SA_RESETHAND as c_int);
    raise(SIGUSR1);
    let mut now = recording(0, 0);
    gives!(rt_sigaction(SIGUSR1, 0, &mut now, SET) => 0);
    eq!(now.handler, SIG_DFL);
    // It doesn't bring SA_NODEFER along.
    eq!(signal::records()[0].blocked, set(&[SIGUSR1]));
    let victim = child(|| raise(SIGUSR1));
    eq!(wait(victim), Status::Killed(SIGUSR1));
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

const THREAD: c_int = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;

extern "C" fn until_two(address: usize) -> c_int {
    word_at(address).store(1, SeqCst);
    until_is(word_at(address), 2);
    0
}

/// A thread that waits in memory of its own: its number, and the word that ends it when it becomes 2.
fn thread() -> (c_int, &'static AtomicU32) {
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

fn sigsuspend_swaps_the_mask() {
    signal::on(SIGUSR1, 0);
    signal::on(SIGUSR2, 0);
    signal::block(&[SIGUSR1]);
    raise(SIGUSR1);
    fails!(rt_sigsuspend(&set(&[SIGUSR2]), SET) => EINTR);
    eq!(signal::records()[0].blocked, set(&[SIGUSR1, SIGUSR2]));
    let mut now = 0u64;
    gives!(rt_sigprocmask(SIG_BLOCK, 0, &mut now, SET) => 0);
    eq!(now, set(&[SIGUSR1]));
    fails!(rt_sigsuspend(&0u64, 4) => EINVAL);
    fails!(rt_sigsuspend(BAD, SET) => EFAULT);
    let own = process::id();
    let other = child(|| {
        until_asleep(own);
        let _ = sys!(kill(own, SIGUSR1));
    });
    // SA_RESTART makes no difference to it.
    signal::on(SIGUSR1, SA_RESTART);
    fails!(rt_sigsuspend(&0u64, SET) => EINTR);
    join(other);
}

fn pause_returns_eintr() {
    signal::tick(true);
    fails!(pause() => EINTR);
    is!(signal::count() >= 1, "the handler to have run");
}

/// `si_signo`, `si_code` and `si_value` of a siginfo.
fn taken(info: &siginfo_t) -> (c_int, c_int, c_int) {
    let words: [c_int; 32] = from_bytes(&to_bytes(info)).unwrap_or([0; 32]);
    (words[0], words[2], words[6])
}

fn sigtimedwait_takes() {
    let number = SIGRTMIN() + 4;
    signal::block(&[SIGUSR1, SIGUSR2, number]);
    let mut info: siginfo_t = zeroed();
    let now: timespec = zeroed();
    fails!(rt_sigtimedwait(&set(&[SIGUSR1]), &mut info, &now, SET) => EAGAIN);
    queue(number, 7);
    queue(number, 8);
    raise(SIGUSR2);
    raise(SIGUSR1);
    let wanted = set(&[SIGUSR1, number]);
    gives!(rt_sigtimedwait(&wanted, &mut info, &now, SET) => SIGUSR1);
    eq!((taken(&info).0, taken(&info).1), (SIGUSR1, SI_USER));
    gives!(rt_sigtimedwait(&wanted, &mut info, 0, SET) => number);
    eq!(taken(&info), (number, SI_QUEUE, 7));
    gives!(rt_sigtimedwait(&wanted, 0, 0, SET) => number);
    fails!(rt_sigtimedwait(&wanted, 0, &now, SET) => EAGAIN);
    eq!(signal::pending(), set(&[SIGUSR2]));
    let own = process::id();
    let other = child(|| {
        until_asleep(own);
        let _ = sys!(kill(own, SIGUSR1));
    });
    gives!(rt_sigtimedwait(&wanted, &mut info, 0, SET) => SIGUSR1);
    join(other);
}

fn sigtimedwait_arguments() {
    let wanted = set(&[SIGUSR1]);
    fails!(rt_sigtimedwait(&wanted, 0, &timespec { tv_sec: 0, tv_nsec: 1_000_000_000 }, SET) => EINVAL);
    fails!(rt_sigtimedwait(&wanted, 0, &timespec { tv_sec: -1, tv_nsec: 0 }, SET) => EINVAL);
    fails!(rt_sigtimedwait(&wanted, 0, BAD, SET) => EFAULT);
    fails!(rt_sigtimedwait(BAD, 0, 0, SET) => EFAULT);
    fails!(rt_sigtimedwait(&wanted, 0, 0, 16) => EINVAL);
    fails!(rt_sigtimedwait(&wanted, 0, &timespec { tv_sec: 0, tv_nsec: 1_000_000 }, SET) => EAGAIN);
    // The signal is taken although it can't be told about.
    signal::block(&[SIGUSR1]);
    raise(SIGUSR1);
    fails!(rt_sigtimedwait(&wanted, BAD, 0, SET) => EFAULT);
    eq!(signal::pending(), 0);
}

fn sigtimedwait_is_interrupted() {
    signal::block(&[SIGUSR1]);
    signal::tick(true);
    fails!(rt_sigtimedwait(&set(&[SIGUSR1]), 0, 0, SET) => EINTR);
}

fn interrupted_read() {
    let (reader, _writer) = pipe();
    let mut byte = [0u8];
    signal::tick(false);
    fails!(read(reader, &mut byte, 1) => EINTR);
    let pid = child(|| {
        loop {
            let _ = sys!(pause());
        }
    });
    fails!(wait4(pid, 0, 0, 0) => EINTR);
    fails!(waitid(P_PID, pid, 0, WEXITED, 0) => EINTR);
    let word = shared_word();
    fails!(futex(word, FUTEX_WAIT, 0, 0) => EINTR);
    let mut small = [0u8; 4096];
    let (_reader, writer) = pipe();
    gives!(fcntl(writer, F_SETPIPE_SZ, 4096) => 4096);
    gives!(write(writer, &small, 4096) => 4096);
    fails!(write(writer, &small, 1) => EINTR);
    let sockets = socketpair(SOCK_STREAM);
    fails!(recvfrom(sockets.0, &mut small, 10, 0, 0, 0) => EINTR);
    gives!(kill(pid, SIGKILL) => 0);
}

fn socketpair(kind: c_int) -> (usize, usize) {
    let mut pair = [0i32; 2];
    works!(socketpair(AF_UNIX, kind, 0, &mut pair));
    (pair[0] as usize, pair[1] as usize)
}

fn restarted_read() {
    let (reader, writer) = pipe();
    let ticks = shared_word();
    let other = child(|| {
        until(|| ticks.load(SeqCst) >= 1);
        works!(write(writer, b"x", 1));
    });
    signal::tick(true);
    // Three ticks are seen by the time the byte comes, as the other process waits for our word.
    let helper = child(|| {
        signal::no_tick();
        let parent = works!(getppid()) as c_int;
        until_asleep(parent);
        for _ in 0..3 {
            let _ = sys!(kill(parent, SIGALRM));
            until_asleep(parent);
        }
        ticks.store(1, SeqCst);
    });
    let mut byte = [0u8];
    gives!(read(reader, &mut byte, 1) => 1);
    signal::no_tick();
    is!(signal::count() >= 1, "a handler to have run meanwhile");
    join(other);
    join(helper);
}

fn restarted_wait() {
    signal::on(SIGUSR1, SA_RESTART);
    let parent = process::id();
    let word = shared_word();
    let pid = child(|| {
        until_asleep(parent);
        let _ = sys!(kill(parent, SIGUSR1));
        until_is(word, 1);
    });
    let other = child(|| {
        until(|| contents(&format!("/proc/{parent}/status")).contains("SigPnd:\t0000000000000000"));
        until_asleep(parent);
        word.store(1, SeqCst);
    });
    let mut status = 0;
    gives!(wait4(pid, &mut status, 0, 0) => pid);
    eq!(signal::count(), 1);
    join(other);
    // A futex wait, and a lock.
    signal::forget();
    word.store(0, SeqCst);
    let pid = child(|| {
        until_asleep(parent);
        let _ = sys!(kill(parent, SIGUSR1));
        until_asleep(parent);
        word.store(1, SeqCst);
        works!(futex(word, FUTEX_WAKE, 1));
    });
    gives!(futex(word, FUTEX_WAIT, 0, 0) => 0);
    eq!(signal::count(), 1);
    join(pid);
}

fn never_restarted() {
    // signal(7): these fail with EINTR whatever SA_RESTART says.
    signal::tick(true);
    let (reader, _writer) = pipe();
    let mut poll = pollfd { fd: reader as c_int, events: POLLIN, revents: 0 };
    fails!(poll(std::ptr::from_mut(&mut poll), 1, -1) => EINTR);
    fails!(ppoll(std::ptr::from_mut(&mut poll), 1, 0, 0, SET) => EINTR);
    let epoll = works!(epoll_create1(0));
    let mut event: epoll_event = zeroed();
    fails!(epoll_wait(epoll, &mut event, 1, -1) => EINTR);
    fails!(epoll_pwait(epoll, &mut event, 1, -1, 0, SET) => EINTR);
    let mut read_set = [0u64; 16];
    read_set[reader / 64] = 1 << (reader % 64);
    fails!(select(reader + 1, &mut read_set, 0, 0, 0) => EINTR);
    let long = timespec { tv_sec: 100, tv_nsec: 0 };
    fails!(nanosleep(&long, 0) => EINTR);
    fails!(clock_nanosleep(CLOCK_MONOTONIC, 0, &long, 0) => EINTR);
    // Sockets with a timeout.
    let (one, _other) = socketpair(SOCK_STREAM);
    let timeout = timeval { tv_sec: 100, tv_usec: 0 };
    gives!(setsockopt(one, SOL_SOCKET, SO_RCVTIMEO, &timeout, 16) => 0);
    let mut byte = [0u8];
    fails!(recvfrom(one, &mut byte, 1, 0, 0, 0) => EINTR);
}

fn nanosleep_tells_the_rest() {
    signal::tick(false);
    let mut left = timespec { tv_sec: -1, tv_nsec: -1 };
    fails!(nanosleep(&timespec { tv_sec: 1000, tv_nsec: 0 }, &mut left) => EINTR);
    is!(left.tv_sec >= 900 && left.tv_sec < 1000, "the rest, not {} s", left.tv_sec);
    let mut deadline: timespec = zeroed();
    gives!(clock_gettime(CLOCK_MONOTONIC, &mut deadline) => 0);
    deadline.tv_sec += 1000;
    left.tv_sec = 77;
    // Until a point in time there is no rest to tell.
    fails!(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &deadline, &mut left) => EINTR);
    eq!(left.tv_sec, 77);
    fails!(nanosleep(&timespec { tv_sec: 1000, tv_nsec: 0 }, BAD) => EFAULT);
}

fn stopped_call_goes_on() {
    let (reader, writer) = pipe();
    let pid = child(|| {
        let mut byte = [0u8];
        // SIGCONT without a handler is no interruption.
        gives!(read(reader, &mut byte, 1) => 1);
        let mut poll = pollfd { fd: reader as c_int, events: POLLIN, revents: 0 };
        gives!(poll(std::ptr::from_mut(&mut poll), 1, 100_000) => 1);
        gives!(nanosleep(&timespec { tv_sec: 0, tv_nsec: 1000 }, 0) => 0);
    });
    let mut word = 0;
    for _ in 0..2 {
        until_asleep(pid);
        gives!(kill(pid, SIGSTOP) => 0);
        gives!(wait4(pid, &mut word, WUNTRACED, 0) => pid);
        gives!(kill(pid, SIGCONT) => 0);
        gives!(wait4(pid, &mut word, WCONTINUED, 0) => pid);
        until_asleep(pid);
        gives!(write(writer, b"x", 1) => 1);
    }
    join(pid);
}

const SMALL: usize = 2048;

fn alternate(address: usize, size: usize, flags: c_int) -> stack_t {
    stack_t { ss_sp: std::ptr::with_exposed_provenance_mut(address), ss_flags: flags, ss_size: size }
}

fn alternate_stack() {
    let map = pages(8);
    let mut old = alternate(1, 1, 0);
    gives!(sigaltstack(&alternate(0, 0, SS_DISABLE), 0) => 0);
    gives!(sigaltstack(&alternate(map, 8 * PAGE, 0), &mut old) => 0);
    eq!((old.ss_sp as usize, old.ss_flags, old.ss_size), (0, SS_DISABLE, 0));
    signal::on(SIGUSR1, SA_ONSTACK);
    signal::on(SIGUSR2, 0);
    raise(SIGUSR1);
    raise(SIGUSR2);
    let stacks: Vec<bool> = signal::records().iter().map(|record| (map..map + 8 * PAGE).contains(&record.stack)).collect();
    eq!(stacks, [true, false]);
    gives!(sigaltstack(0, &mut old) => 0);
    eq!((old.ss_sp as usize, old.ss_flags, old.ss_size), (map, 0, 8 * PAGE));
    // Fork keeps it; a thread begins without.
    in_child(|| {
        let mut own = alternate(0, 0, 0);
        gives!(sigaltstack(0, &mut own) => 0);
        eq!(own.ss_sp as usize, map);
    });
    gives!(sigaltstack(&alternate(0, 0, SS_DISABLE), 0) => 0);
    raise(SIGUSR1);
    is!(!(map..map + 8 * PAGE).contains(&signal::records()[2].stack), "the usual stack");
}

fn alternate_stack_arguments() {
    let map = pages(8);
    fails!(sigaltstack(&alternate(map, SMALL - 1, 0), 0) => ENOMEM);
    fails!(sigaltstack(&alternate(map, 0, 0), 0) => ENOMEM);
    fails!(sigaltstack(&alternate(map, 8 * PAGE, 0x40), 0) => EINVAL);
    fails!(sigaltstack(BAD, 0) => EFAULT);
    fails!(sigaltstack(0, BAD) => EFAULT);
    gives!(sigaltstack(0, 0) => 0);
    // SS_ONSTACK as a flag means nothing, and is let through.
    gives!(sigaltstack(&alternate(map, 8 * PAGE, SS_ONSTACK), 0) => 0);
}

/// While a handler runs on the alternate stack: what sigaltstack says.
extern "C" fn on_the_stack(_: c_int) {
    let mut now = alternate(0, 0, 0);
    let told = sys!(sigaltstack(0, &mut now));
    let changed = sys!(sigaltstack(&alternate(0, 0, SS_DISABLE), 0));
    SEEN.store(now.ss_flags as u32, SeqCst);
    CHANGED.store(changed.err().map_or(0, |error| error.into_raw()) as u32 + 1000 * u32::from(told.is_err()), SeqCst);
}
static SEEN: AtomicU32 = AtomicU32::new(99);
static CHANGED: AtomicU32 = AtomicU32::new(99);

fn plain_handler(flags: c_int) -> Action {
    let mut action = recording(flags, 0);
    action.handler = on_the_stack as *const () as usize;
    action
}

fn alternate_stack_autodisarm() {
    let map = pages(8);
    gives!(sigaltstack(&alternate(map, 8 * PAGE, 0), 0) => 0);
    gives!(rt_sigaction(SIGUSR1, &plain_handler(SA_ONSTACK), 0, SET) => 0);
    raise(SIGUSR1);
    eq!((SEEN.load(SeqCst) as c_int, CHANGED.load(SeqCst) as c_int), (SS_ONSTACK, EPERM));
    const SS_AUTODISARM: c_int = 1 << 31;
    gives!(sigaltstack(&alternate(map, 8 * PAGE, SS_AUTODISARM), 0) => 0);
    raise(SIGUSR1);
    // Disarmed while the handler runs, and may be changed; then it is as before.
    eq!((SEEN.load(SeqCst) as c_int, CHANGED.load(SeqCst)), (SS_DISABLE, 0));
    let mut now = alternate(0, 0, 0);
    gives!(sigaltstack(0, &mut now) => 0);
    eq!((now.ss_sp as usize, now.ss_flags), (map, SS_AUTODISARM));
}

fn stack_overflow_is_caught() {
    // A handler that has no stack to run on: the process is killed by SIGSEGV.
    let victim = child(|| {
        let _ = sys!(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0));
        let map = pages(8);
        works!(sigaltstack(&alternate(map, 8 * PAGE, 0), 0));
        works!(mprotect(map, 8 * PAGE, PROT_NONE));
        signal::on(SIGUSR1, SA_ONSTACK);
        raise(SIGUSR1);
    });
    eq!(wait(victim), Status::Killed(SIGSEGV));
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

fn signalfd_reads() {
    let number = SIGRTMIN() + 2;
    signal::block(&[SIGUSR1, SIGUSR2, number]);
    let fd = works!(signalfd4(-1, &set(&[SIGUSR1, number]), SET, SFD_NONBLOCK | SFD_CLOEXEC));
    gives!(fcntl(fd, F_GETFD) => FD_CLOEXEC);
    let mut infos: [signalfd_siginfo; 4] = zeroed();
    let size = size_of::<signalfd_siginfo>();
    eq!(size, 128);
    fails!(read(fd, &mut infos, 4 * size) => EAGAIN);
    let mut poll = pollfd { fd: fd as c_int, events: POLLIN, revents: 0 };
    gives!(poll(std::ptr::from_mut(&mut poll), 1, 0) => 0);
    queue(number, 5);
    queue(number, 6);
    raise(SIGUSR1);
    raise(SIGUSR2);
    gives!(poll(std::ptr::from_mut(&mut poll), 1, -1) => 1);
    fails!(read(fd, &mut infos, size - 1) => EINVAL);
    gives!(read(fd, &mut infos, size) => size);
    eq!((infos[0].ssi_signo as c_int, infos[0].ssi_code, infos[0].ssi_pid as c_int), (SIGUSR1, SI_USER, process::id()));
    gives!(read(fd, &mut infos, 4 * size + 5) => 2 * size);
    eq!((infos[0].ssi_signo as c_int, infos[0].ssi_code, infos[0].ssi_int), (number, SI_QUEUE, 5));
    eq!(infos[1].ssi_int, 6);
    eq!(signal::pending(), set(&[SIGUSR2]));
    // The set can be replaced.
    gives!(signalfd4(fd, &set(&[SIGUSR2]), SET, 0) => fd);
    gives!(read(fd, &mut infos, size) => size);
    eq!(infos[0].ssi_signo as c_int, SIGUSR2);
    fails!(read(fd, BAD, size) => EAGAIN);
    raise(SIGUSR2);
    fails!(read(fd, BAD, size) => EFAULT);
    // Blocking.
    let fd = works!(signalfd(-1, &set(&[SIGUSR1]), SET));
    let own = process::id();
    let other = child(|| {
        until_asleep(own);
        let _ = sys!(kill(own, SIGUSR1));
    });
    gives!(read(fd, &mut infos, size) => size);
    eq!(infos[0].ssi_pid as c_int, other);
    join(other);
    is!(contents(&format!("/proc/self/fdinfo/{fd}")).contains("sigmask:\t0000000000000200"), "fdinfo to tell the set");
}

fn signalfd_arguments() {
    let wanted = set(&[SIGUSR1]);
    fails!(signalfd4(-1, &wanted, SET, 0x1) => EINVAL);
    fails!(signalfd4(-1, &wanted, 4, 0) => EINVAL);
    fails!(signalfd4(-1, BAD, SET, 0) => EFAULT);
    fails!(signalfd4(999, &wanted, SET, 0) => EBADF);
    fails!(signalfd4(file(c"file", b""), &wanted, SET, 0) => EINVAL);
    let fd = works!(signalfd4(-1, &wanted, SET, 0));
    fails!(write(fd, &wanted, 8) => EINVAL);
}

fn signalfd_of_children_and_faults() {
    signal::block(&[SIGCHLD]);
    let fd = works!(signalfd4(-1, &set(&[SIGCHLD]), SET, 0));
    let pid = child(|| process::exit(12));
    let mut info: signalfd_siginfo = zeroed_info();
    gives!(read(fd, std::ptr::from_mut(&mut info), 128) => 128);
    eq!((info.ssi_code, info.ssi_pid as c_int, info.ssi_status), (CLD_EXITED, pid, 12));
    eq!(wait(pid), Status::Exited(12));
}

fn zeroed_info() -> signalfd_siginfo {
    zeroed::<[signalfd_siginfo; 1]>()[0]
}

fn alarm_comes() {
    signal::on(SIGALRM, 0);
    gives!(alarm(100) => 0);
    is!(matches!(works!(alarm(0)), 99 | 100), "the seconds that were left");
    gives!(alarm(0) => 0);
    // alarm and ITIMER_REAL are one clock.
    gives!(alarm(1000) => 0);
    let mut now: itimerval = zeroed();
    gives!(getitimer(ITIMER_REAL, &mut now) => 0);
    is!(now.it_value.tv_sec > 900 && now.it_interval.tv_sec == 0, "the alarm as a timer");
    let soon = itimerval { it_interval: zeroed(), it_value: timeval { tv_sec: 0, tv_usec: 1000 } };
    gives!(setitimer(ITIMER_REAL, &soon, &mut now) => 0);
    is!(now.it_value.tv_sec > 900, "the old one");
    until(|| signal::count() == 1);
    eq!(signal::records()[0].code, 0x80);
}

fn itimers() {
    signal::tick(true);
    until(|| signal::count() >= 3);
    signal::no_tick();
    let mut now: itimerval = zeroed();
    gives!(getitimer(ITIMER_REAL, &mut now) => 0);
    eq!((now.it_value.tv_sec, now.it_value.tv_usec), (0, 0));
    fails!(getitimer(3, &mut now) => EINVAL);
    fails!(getitimer(-1, &mut now) => EINVAL);
    fails!(getitimer(ITIMER_REAL, BAD) => EFAULT);
    let bad = itimerval { it_interval: zeroed(), it_value: timeval { tv_sec: 0, tv_usec: 1_000_000 } };
    fails!(setitimer(ITIMER_REAL, &bad, 0) => EINVAL);
    let negative = itimerval { it_interval: zeroed(), it_value: timeval { tv_sec: -1, tv_usec: 0 } };
    fails!(setitimer(ITIMER_REAL, &negative, 0) => EINVAL);
    fails!(setitimer(ITIMER_REAL, BAD, 0) => EFAULT);
    fails!(setitimer(9, &now, 0) => EINVAL);
    // Without a value the timer is switched off.
    gives!(setitimer(ITIMER_REAL, 0, 0) => 0);
}

fn itimer_of_cpu_time() {
    for (timer, number) in [(ITIMER_VIRTUAL, SIGVTALRM), (ITIMER_PROF, SIGPROF)] {
        signal::forget();
        signal::on(number, 0);
        let soon = itimerval { it_interval: zeroed(), it_value: timeval { tv_sec: 0, tv_usec: 1000 } };
        gives!(setitimer(timer, &soon, 0) => 0);
        while signal::count() == 0 {
            std::hint::spin_loop();
        }
        eq!(signal::caught(), [number]);
    }
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

fn a_handlers_changes_come_back() {
    // What a handler blocks by itself ends with it: the frame's mask is restored.
    extern "C" fn blocks(_: c_int) {
        let _ = sys!(rt_sigprocmask(SIG_BLOCK, &set(&[SIGHUP]), 0, SET));
    }
    let mut action = recording(0, 0);
    action.handler = blocks as *const () as usize;
    gives!(rt_sigaction(SIGUSR1, &action, 0, SET) => 0);
    raise(SIGUSR1);
    let mut now = 9u64;
    gives!(rt_sigprocmask(SIG_BLOCK, 0, &mut now, SET) => 0);
    eq!(now, 0);
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

fn sigwait_among_threads() {
    signal::block(&[SIGUSR1]);
    let (_tid, word) = thread();
    // Every thread has it blocked: it stays pending for the process, and one who waits takes it.
    raise(SIGUSR1);
    gives!(rt_sigtimedwait(&set(&[SIGUSR1]), 0, 0, SET) => SIGUSR1);
    word.store(2, SeqCst);
}
