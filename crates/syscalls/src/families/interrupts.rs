//! What signals do to calls that wait, and calls that wait for signals: EINTR, SA_RESTART, sigsuspend, sigtimedwait, signalfd,
//! interval timers.

use super::prelude::*;
use super::signal::{queue, raise, socketpair, thread};
use crate::sys::signal::{SET, set};

tests!("interrupts":
    sigsuspend_swaps_the_mask, pause_returns_eintr, sigtimedwait_takes, sigtimedwait_arguments, sigtimedwait_is_interrupted,
    interrupted_read, restarted_read, restarted_wait, never_restarted, nanosleep_tells_the_rest, stopped_call_goes_on,
    signalfd_reads, signalfd_arguments, signalfd_of_children_and_faults, alarm_comes, itimers, itimer_of_cpu_time,
    sigwait_among_threads,
);

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

fn restarted_read() {
    let (reader, writer) = pipe();
    let parent = process::id();
    signal::on(SIGUSR1, SA_RESTART);
    let other = child(|| {
        // Each time the reader sleeps again, the call has been restarted.
        for _ in 0..3 {
            until_asleep(parent);
            works!(kill(parent, SIGUSR1));
            until(|| contents(&format!("/proc/{parent}/status")).contains("ShdPnd:\t0000000000000000"));
        }
        until_asleep(parent);
        works!(write(writer, b"x", 1));
    });
    let mut byte = [0u8];
    gives!(read(reader, &mut byte, 1) => 1);
    eq!(signal::count(), 3);
    join(other);
}

fn restarted_wait() {
    signal::on(SIGUSR1, SA_RESTART);
    let parent = process::id();
    let word = shared_word();
    let pid = child(|| {
        until_asleep(parent);
        let _ = sys!(kill(parent, SIGUSR1));
        until(|| contents(&format!("/proc/{parent}/status")).contains("ShdPnd:\t0000000000000000"));
        until_asleep(parent);
    });
    gives!(wait4(pid, 0, 0, 0) => pid);
    eq!(signal::count(), 1);
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

fn sigwait_among_threads() {
    signal::block(&[SIGUSR1]);
    let (_tid, word) = thread();
    // Every thread has it blocked: it stays pending for the process, and one who waits takes it.
    raise(SIGUSR1);
    gives!(rt_sigtimedwait(&set(&[SIGUSR1]), 0, 0, SET) => SIGUSR1);
    word.store(2, SeqCst);
}
