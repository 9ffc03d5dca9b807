//! seccomp_unotify(2): calls about which a filter asks somebody else.

use super::confinement::{filter, program};
use super::prelude::*;

tests!("notify":
    flags_and_sizes, somebody_answers, a_call_goes_on, who_waits_is_interrupted, who_waits_patiently, descriptors_are_given,
    nobody_listens, nobody_is_left_to_ask_about,
);

// Requests of a listener, from linux/seccomp.h.
const RECEIVE: c_uint = 0xc050_2100;
const SEND: c_uint = 0xc018_2101;
const IS_VALID: c_uint = 0x4008_2102;
const ADD_DESCRIPTOR: c_uint = 0x4018_2103;

// Flags of seccomp(2).
const ALL_THREADS: c_int = 1;
const LISTENER: c_int = 8;
const BY_ERROR: c_int = 16;
const PATIENT: c_int = 32;

/// `SECCOMP_USER_NOTIF_FLAG_CONTINUE`, where it is in the last word of an answer.
const GO_ON: u64 = 1 << 32;

/// Has others answer getppid, from now on; answers who listens.
fn listen(flags: c_int) -> usize {
    let mut list = filter(SYS_getppid, SECCOMP_RET_USER_NOTIF);
    gives!(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) => 0);
    match sys!(seccomp(1, LISTENER | flags, std::ptr::from_ref(&program(&mut list)))) {
        Ok(listener) => listener,
        Err(error) => skip!("no filter asks anybody: {error}"),
    }
}

/// The next call that waits, as `struct seccomp_notif`.
#[track_caller]
fn received(listener: usize) -> [u64; 10] {
    let mut words = [0u64; 10];
    gives!(ioctl(listener, RECEIVE, &mut words) => 0);
    words
}

fn ready(listener: usize) -> c_short {
    let mut wanted = [pollfd { fd: listener as c_int, events: POLLIN | POLLOUT, revents: 0 }];
    works!(poll(&mut wanted[..], 1, 0));
    wanted[0].revents
}

fn flags_and_sizes() {
    let mut sizes = [0u16; 3];
    gives!(seccomp(3, 0, &mut sizes) => 0);
    eq!(sizes, [80, 24, 64]);
    fails!(seccomp(3, 1, &mut sizes) => EINVAL);
    fails!(seccomp(3, 0, BAD) => EFAULT);
    gives!(seccomp(2, 0, &SECCOMP_RET_USER_NOTIF) => 0);
    // Flags that there are come before the filter.
    for flags in [ALL_THREADS, 2, 4, LISTENER, BY_ERROR, LISTENER | PATIENT, ALL_THREADS | LISTENER | BY_ERROR] {
        fails!(seccomp(1, flags, 0) => EFAULT);
    }
    for flags in [PATIENT, ALL_THREADS | LISTENER, 0x100] {
        fails!(seccomp(1, flags, 0) => EINVAL);
    }
    in_child(|| {
        let listener = listen(0);
        gives!(fcntl(listener, F_GETFD, 0) => FD_CLOEXEC);
        let link = std::fs::read_link(format!("/proc/self/fd/{listener}")).unwrap_or_default();
        eq!(link.to_string_lossy(), "anon_inode:seccomp notify");
        let mut list = filter(SYS_getppid, SECCOMP_RET_USER_NOTIF);
        fails!(seccomp(1, LISTENER, std::ptr::from_ref(&program(&mut list))) => EBUSY);
        works!(close(listener));
        works!(seccomp(1, LISTENER, std::ptr::from_ref(&program(&mut list))));
    });
}

fn somebody_answers() {
    in_child(|| {
        let listener = listen(0);
        eq!(ready(listener), 0);
        let pid = child(|| {
            gives!(getppid() => 42);
            fails!(getppid() => EDOM);
        });
        let [id, who, call, ..] = received(listener);
        eq!((who, call as u32), (pid as u64, SYS_getppid as u32));
        eq!(ready(listener), POLLOUT);
        gives!(ioctl(listener, IS_VALID, &id) => 0);
        fails!(ioctl(listener, IS_VALID, &(id + 1)) => ENOENT);
        fails!(ioctl(listener, SEND, &[id + 1, 42, 0]) => ENOENT);
        // No such flag; and who goes on has no result.
        fails!(ioctl(listener, SEND, &[id, 42, 1 << 33]) => EINVAL);
        fails!(ioctl(listener, SEND, &[id, 42, GO_ON]) => EINVAL);
        gives!(ioctl(listener, SEND, &[id, 42, 0]) => 0);
        // The next has the next number. It is told where there are zeros.
        until(|| ready(listener) & POLLIN != 0);
        fails!(ioctl(listener, RECEIVE, &mut [7u64; 10]) => EINVAL);
        fails!(ioctl(listener, RECEIVE, BAD) => EFAULT);
        fails!(ioctl(listener, SEND, &[id + 1, 42, 0]) => EINPROGRESS);
        let [second, ..] = received(listener);
        eq!(second, id + 1);
        gives!(ioctl(listener, SEND, &[second, 0, u64::from(-EDOM as u32)]) => 0);
        join(pid);
        fails!(ioctl(listener, SEND, &[second, 0, 0]) => ENOENT);
        fails!(ioctl(listener, 0x2109, 0) => EINVAL);
    });
}

fn a_call_goes_on() {
    in_child(|| {
        let own = process::id();
        let listener = listen(0);
        let pid = child(|| {
            gives!(getppid() => own);
        });
        let [id, ..] = received(listener);
        gives!(ioctl(listener, SEND, &[id, 0, GO_ON]) => 0);
        join(pid);
    });
}

fn who_waits_is_interrupted() {
    in_child(|| {
        let listener = listen(0);
        let pid = child(|| {
            signal::on(SIGUSR1, 0);
            fails!(getppid() => EINTR);
            eq!(signal::caught(), [SIGUSR1]);
            signal::on(SIGUSR1, SA_RESTART);
            gives!(getppid() => 5);
        });
        let [id, ..] = received(listener);
        gives!(kill(pid, SIGUSR1) => 0);
        let [again, ..] = received(listener);
        fails!(ioctl(listener, SEND, &[id, 5, 0]) => ENOENT);
        // Made again, it is another one.
        gives!(kill(pid, SIGUSR1) => 0);
        let [last, ..] = received(listener);
        fails!(ioctl(listener, IS_VALID, &again) => ENOENT);
        gives!(ioctl(listener, SEND, &[last, 5, 0]) => 0);
        join(pid);
        let victim = child(|| {
            let _ = sys!(getppid());
        });
        let [id, ..] = received(listener);
        gives!(kill(victim, SIGKILL) => 0);
        eq!(wait(victim), Status::Killed(SIGKILL));
        fails!(ioctl(listener, IS_VALID, &id) => ENOENT);
    });
}

fn who_waits_patiently() {
    in_child(|| {
        let listener = listen(PATIENT);
        let pid = child(|| {
            signal::on(SIGUSR1, 0);
            gives!(getppid() => 6);
            eq!(signal::caught(), [SIGUSR1]);
        });
        let [id, ..] = received(listener);
        // The latest with the signal it is seen that it waits on.
        gives!(kill(pid, SIGUSR1) => 0);
        until(|| process::state(pid) == Some('D'));
        gives!(ioctl(listener, IS_VALID, &id) => 0);
        gives!(ioctl(listener, SEND, &[id, 6, 0]) => 0);
        join(pid);
        let victim = child(|| {
            let _ = sys!(getppid());
        });
        received(listener);
        gives!(kill(victim, SIGTERM) => 0);
        eq!(wait(victim), Status::Killed(SIGTERM));
    });
}

fn descriptors_are_given() {
    in_child(|| {
        let listener = listen(0);
        let (reader, writer) = pipe();
        let pid = child(|| {
            let high = works!(getppid());
            eq!(high, 77);
            gives!(fcntl(high, F_GETFD, 0) => FD_CLOEXEC);
            gives!(write(high, b"a", 1) => 1);
            let given = works!(getppid());
            gives!(fcntl(given, F_GETFD, 0) => 0);
            gives!(write(given, b"b", 1) => 1);
            gives!(setrlimit(RLIMIT_NOFILE, &rlimit { rlim_cur: 3, rlim_max: 1024 }) => 0);
            gives!(getppid() => 0);
        });
        let [id, ..] = received(listener);
        let source = (writer as u64) << 32;
        let at_77 = 77 | (O_CLOEXEC as u64) << 32;
        fails!(ioctl(listener, ADD_DESCRIPTOR, &[id, source, 77]) => EINVAL);
        fails!(ioctl(listener, ADD_DESCRIPTOR, &[id, source | 4, 0]) => EINVAL);
        fails!(ioctl(listener, ADD_DESCRIPTOR, &[id, source, 1 << 32]) => EINVAL);
        fails!(ioctl(listener, ADD_DESCRIPTOR, &[id, 999 << 32, 0]) => EBADF);
        fails!(ioctl(listener, ADD_DESCRIPTOR, &[id + 1, source, 0]) => ENOENT);
        // Shorter than it ever was, and longer than it is now.
        fails!(ioctl(listener, 0x4010_2103, &[id, source, 0]) => EINVAL);
        fails!(ioctl(listener, 0x4020_2103, &[id, source, 0, 1]) => E2BIG);
        gives!(ioctl(listener, ADD_DESCRIPTOR, &[id, source | 1, at_77]) => 77);
        gives!(ioctl(listener, SEND, &[id, 77, 0]) => 0);
        let [id, ..] = received(listener);
        // Together with the answer.
        let given = works!(ioctl(listener, ADD_DESCRIPTOR, &[id, source | 2, 0]));
        is!(given < 77, "the lowest number that is free: {given}");
        fails!(ioctl(listener, SEND, &[id, 0, 0]) => EINPROGRESS | ENOENT);
        let [id, ..] = received(listener);
        fails!(ioctl(listener, ADD_DESCRIPTOR, &[id, source, 0]) => EMFILE);
        fails!(ioctl(listener, ADD_DESCRIPTOR, &[id, source | 3, at_77]) => EBADF);
        gives!(ioctl(listener, SEND, &[id, 0, 0]) => 0);
        join(pid);
        works!(close(writer));
        eq!(drain(reader), b"ab");
    });
}

fn nobody_listens() {
    in_child(|| {
        let listener = listen(0);
        let pid = child(|| {
            works!(close(listener));
            fails!(getppid() => ENOSYS);
            fails!(getppid() => ENOSYS);
        });
        received(listener);
        works!(close(listener));
        join(pid);
    });
}

fn nobody_is_left_to_ask_about() {
    // It has our descriptors, so that we have its listener and not its filter.
    let (reader, writer) = pipe();
    let pid = works!(clone(CLONE_FILES | SIGCHLD, 0, 0, 0, 0)) as c_int;
    if pid == 0 {
        let listener = listen(0);
        gives!(write(writer, &listener, 8) => 8);
        process::exit(0);
    }
    let mut listener = 0usize;
    gives!(read(reader, &mut listener, 8) => 8);
    join(pid);
    eq!(ready(listener), POLLHUP);
    fails!(ioctl(listener, RECEIVE, &mut [0u64; 10]) => ENOENT);
}
