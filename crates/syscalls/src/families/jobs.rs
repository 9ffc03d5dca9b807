//! Job control: the controlling terminal, foreground and background, hangups.

use super::prelude::*;
use super::tty::{attributes, master, pair, raw, reads, set, types};

tests!("jobs":
    window_change_signals, controlling_terminal, stealing_is_refused, dev_tty_is_the_terminal, foreground_group,
    foreground_group_arguments, background_reads_stop, background_writes, background_changes_stop, orphans_get_errors,
    interrupt_and_quit_characters, suspend_character, hangup_of_the_master, end_of_the_session_leader, giving_up_the_terminal,
    session_of_a_terminal, names_in_proc, signal_by_ioctl,
);

/// The same, and the slave is our controlling terminal: we lead a session that had none.
fn controlling() -> (usize, usize) {
    let (master, path) = master();
    (master, works!(openat(AT_FDCWD, &*path, O_RDWR)))
}

fn window_change_signals() {
    let (master, _slave) = controlling();
    signal::on(SIGWINCH, SA_RESTART);
    let size = winsize { ws_row: 25, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    gives!(ioctl(master, TIOCSWINSZ, &size) => 0);
    until(|| signal::count() == 1);
    // The same size again is no change.
    gives!(ioctl(master, TIOCSWINSZ, &size) => 0);
    eq!(signal::caught(), [SIGWINCH]);
}

fn controlling_terminal() {
    // Opening makes it ours only if O_NOCTTY doesn't forbid it, and we lead a session that has none.
    let (_first, slave) = pair();
    fails!(openat(AT_FDCWD, c"/dev/tty", O_RDWR) => ENXIO);
    gives!(ioctl(slave, TIOCSCTTY, 0) => 0);
    works!(openat(AT_FDCWD, c"/dev/tty", O_RDWR));
    let mut group = 0i32;
    gives!(ioctl(slave, TIOCGPGRP, &mut group) => 0);
    eq!(group, process::id());
    gives!(ioctl(slave, TIOCSCTTY, 0) => 0);
    // A second terminal can't be had beside it.
    let (_second, other) = pair();
    fails!(ioctl(other, TIOCSCTTY, 0) => EPERM);
    in_child(|| {
        // A child has the session's terminal, but doesn't lead.
        works!(openat(AT_FDCWD, c"/dev/tty", O_RDWR));
        fails!(ioctl(other, TIOCSCTTY, 0) => EPERM);
        works!(setsid());
        fails!(openat(AT_FDCWD, c"/dev/tty", O_RDWR) => ENXIO);
        fails!(ioctl(slave, TIOCSCTTY, 0) => EPERM);
        gives!(ioctl(other, TIOCSCTTY, 0) => 0);
        signal::ignore(SIGHUP);
    });
}

fn stealing_is_refused() {
    let (_master, slave) = controlling();
    in_child(|| {
        works!(setsid());
        fails!(ioctl(slave, TIOCSCTTY, 0) => EPERM);
    });
    need_root();
    signal::ignore(SIGHUP);
    in_child(|| {
        works!(setsid());
        // Root may take it by force.
        if sys!(ioctl(slave, TIOCSCTTY, 1)) == Err(Errno::EPERM) {
            skip!("taking a terminal away needs CAP_SYS_ADMIN");
        }
        let mut session = 0i32;
        gives!(ioctl(slave, TIOCGSID, &mut session) => 0);
        eq!(session, process::id());
    });
}

fn dev_tty_is_the_terminal() {
    let (master, slave) = controlling();
    let tty = works!(openat(AT_FDCWD, c"/dev/tty", O_RDWR));
    raw(slave);
    types(tty, b"by name");
    reads(master, b"by name");
    types(master, b"back");
    reads(tty, b"back");
    let mut stat: stat = zeroed();
    gives!(fstat(tty, &mut stat) => 0);
    eq!(stat.st_rdev, libc::makedev(5, 0));
}

fn foreground_group() {
    let (_master, slave) = controlling();
    let step = shared_word();
    let child = child(|| {
        gives!(setpgid(0, 0) => 0);
        step.store(1, SeqCst);
        until_is(step, 2);
        let mut group = 0i32;
        gives!(ioctl(slave, TIOCGPGRP, &mut group) => 0);
        eq!(group, process::id());
    });
    until_is(step, 1);
    gives!(ioctl(slave, TIOCSPGRP, &child) => 0);
    let mut group = 0i32;
    gives!(ioctl(slave, TIOCGPGRP, &mut group) => 0);
    eq!(group, child);
    step.store(2, SeqCst);
    join(child);
    // /proc tells of terminal and foreground group.
    let text = contents("/proc/self/stat");
    let fields: Vec<&str> = text.rsplit_once(") ").map_or("", |rest| rest.1).split(' ').collect();
    eq!(fields[5], child.to_string());
    is!(fields[4] != "0", "a terminal's number");
}

fn foreground_group_arguments() {
    let (master, slave) = controlling();
    fails!(ioctl(slave, TIOCSPGRP, &-1i32) => EINVAL);
    fails!(ioctl(slave, TIOCSPGRP, &0x3f_ffffi32) => ESRCH);
    fails!(ioctl(slave, TIOCSPGRP, BAD) => EFAULT);
    fails!(ioctl(slave, TIOCGPGRP, BAD) => EFAULT);
    // A group of another session.
    let step = shared_word();
    let child = child(|| {
        works!(setsid());
        fails!(ioctl(slave, TIOCGPGRP, &mut 0i32) => ENOTTY);
        fails!(ioctl(slave, TIOCSPGRP, &process::id()) => ENOTTY);
        step.store(1, SeqCst);
        until_is(step, 2);
    });
    until_is(step, 1);
    fails!(ioctl(slave, TIOCSPGRP, &child) => EPERM);
    step.store(2, SeqCst);
    join(child);
    // The master may ask, whoever holds it.
    let mut group = 0i32;
    gives!(ioctl(master, TIOCGPGRP, &mut group) => 0);
    eq!(group, process::id());
    let (_other, free) = pair();
    fails!(ioctl(free, TIOCGPGRP, &mut group) => ENOTTY);
}

/// A child in a group of its own, in the background of our terminal, that does `body`; and its first status.
fn in_the_background(body: impl FnOnce()) -> (c_int, Status) {
    let pid = child(|| {
        works!(setpgid(0, 0));
        body();
    });
    let mut word = 0;
    gives!(wait4(pid, &mut word, WUNTRACED, 0) => pid);
    (pid, process::status(word))
}

fn background_reads_stop() {
    let (master, slave) = controlling();
    raw(slave);
    let (pid, status) = in_the_background(|| {
        let mut byte = [0u8];
        // Continued in the foreground, the read goes on.
        gives!(read(slave, &mut byte, 1) => 1);
        eq!(byte[0], b'x');
    });
    eq!(status, Status::Stopped(SIGTTIN));
    gives!(ioctl(slave, TIOCSPGRP, &pid) => 0);
    types(master, b"x");
    gives!(kill(-pid, SIGCONT) => 0);
    join(pid);
    signal::ignore(SIGTTOU);
    gives!(ioctl(slave, TIOCSPGRP, &process::id()) => 0);
    // Blocked or ignored, there is no stopping, and so no reading.
    in_child(|| {
        works!(setpgid(0, 0));
        signal::ignore(SIGTTIN);
        fails!(read(slave, &mut [0u8; 1], 1) => EIO);
        signal::reset(SIGTTIN);
        signal::block(&[SIGTTIN]);
        fails!(read(slave, &mut [0u8; 1], 1) => EIO);
    });
    // A handler gets EINTR.
    in_child(|| {
        works!(setpgid(0, 0));
        signal::on(SIGTTIN, 0);
        fails!(read(slave, &mut [0u8; 1], 1) => EINTR);
        eq!(signal::caught(), [SIGTTIN]);
    });
}

fn background_writes() {
    let (master, slave) = controlling();
    raw(slave);
    in_child(|| {
        works!(setpgid(0, 0));
        types(slave, b"allowed");
    });
    reads(master, b"allowed");
    set(slave, |now| now.c_lflag |= TOSTOP);
    let (pid, status) = in_the_background(|| types(slave, b"stopped"));
    eq!(status, Status::Stopped(SIGTTOU));
    gives!(ioctl(slave, TIOCSPGRP, &pid) => 0);
    gives!(kill(pid, SIGCONT) => 0);
    join(pid);
    reads(master, b"stopped");
    // Who ignores it writes all the same.
    signal::ignore(SIGTTOU);
    gives!(ioctl(slave, TIOCSPGRP, &process::id()) => 0);
    in_child(|| {
        works!(setpgid(0, 0));
        types(slave, b"ignored");
    });
    reads(master, b"ignored");
}

fn background_changes_stop() {
    let (_master, slave) = controlling();
    let (pid, status) = in_the_background(|| set(slave, |now| now.c_lflag &= !ECHO));
    eq!(status, Status::Stopped(SIGTTOU));
    gives!(kill(pid, SIGKILL) => 0);
    eq!(wait(pid), Status::Killed(SIGKILL));
    eq!(attributes(slave).c_lflag & ECHO, ECHO);
    let (pid, status) = in_the_background(|| {
        gives!(ioctl(slave, TIOCSPGRP, &process::id()) => 0);
    });
    eq!(status, Status::Stopped(SIGTTOU));
    gives!(kill(pid, SIGKILL) => 0);
    eq!(wait(pid), Status::Killed(SIGKILL));
    // This is how a shell takes it back: with SIGTTOU ignored or blocked.
    in_child(|| {
        works!(setpgid(0, 0));
        signal::block(&[SIGTTOU]);
        gives!(ioctl(slave, TIOCSPGRP, &process::id()) => 0);
        let mut group = 0i32;
        gives!(ioctl(slave, TIOCGPGRP, &mut group) => 0);
        eq!(group, process::id());
    });
    // Asking is free.
    in_child(|| {
        works!(setpgid(0, 0));
        attributes(slave);
    });
}

fn orphans_get_errors() {
    let (_master, slave) = controlling();
    raw(slave);
    let step = shared_word();
    gives!(prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) => 0);
    // A group whose parent has gone to another session: the runner's.
    in_child(|| {
        child(|| {
            works!(setpgid(0, 0));
            let parent = works!(getppid());
            step.store(1, SeqCst);
            until(|| works!(getppid()) != parent);
            fails!(read(slave, &mut [0u8; 1], 1) => EIO);
            set_fails_in_orphans(slave);
            step.store(2, SeqCst);
        });
        until_is(step, 1);
    });
    until_is(step, 2);
}

/// TOSTOP's rule: in an orphaned group what would stop fails.
fn set_fails_in_orphans(slave: usize) {
    fails!(ioctl(slave, TCSETS, &attributes(slave)) => EIO);
}

fn interrupt_and_quit_characters() {
    let (master, slave) = controlling();
    for (byte, number) in [(3u8, SIGINT), (0x1c, SIGQUIT)] {
        signal::forget();
        signal::on(number, SA_RESTART);
        types(master, &[byte]);
        until(|| signal::count() == 1);
        eq!(signal::records()[0].code, 0x80);
    }
    // What was typed before it is thrown away.
    signal::forget();
    set(slave, |now| now.c_lflag &= !ECHO);
    types(master, b"lost\x03kept\n");
    until(|| signal::count() == 1);
    reads(slave, b"kept\n");
    // Without ISIG it is a character like any other.
    set(slave, |now| now.c_lflag &= !ISIG);
    types(master, b"\x03\n");
    reads(slave, b"\x03\n");
    eq!(signal::count(), 1);
}

fn suspend_character() {
    let (master, slave) = controlling();
    let pid = child(|| {
        works!(setpgid(0, 0));
        signal::block(&[SIGTTOU]);
        gives!(ioctl(slave, TIOCSPGRP, &process::id()) => 0);
        signal::block(&[]);
        loop {
            let _ = sys!(pause());
        }
    });
    let mut group = 0i32;
    until(|| sys!(ioctl(master, TIOCGPGRP, &mut group)).is_ok() && group == pid);
    types(master, b"\x1a");
    let mut word = 0;
    gives!(wait4(pid, &mut word, WUNTRACED, 0) => pid);
    eq!(process::status(word), Status::Stopped(SIGTSTP));
    gives!(kill(-pid, SIGCONT) => 0);
    gives!(wait4(pid, &mut word, WCONTINUED, 0) => pid);
    types(master, b"\x03");
    eq!(wait(pid), Status::Killed(SIGINT));
}

fn hangup_of_the_master() {
    let (master, slave) = controlling();
    signal::on(SIGHUP, SA_RESTART);
    signal::on(SIGCONT, SA_RESTART);
    works!(close(master));
    until(|| signal::count() == 2);
    is!(signal::caught().contains(&SIGHUP) && signal::caught().contains(&SIGCONT), "SIGHUP and SIGCONT");
    gives!(read(slave, &mut [0u8; 8], 8) => 0);
    fails!(write(slave, b"x", 1) => EIO);
    fails!(ioctl(slave, TCGETS, &mut zeroed::<termios>()) => EIO);
    let mut list = [pollfd { fd: slave as c_int, events: POLLIN, revents: 0 }];
    gives!(poll(&mut list, 1, -1) => 1);
    eq!(list[0].revents & POLLHUP, POLLHUP);
    fails!(openat(AT_FDCWD, c"/dev/tty", O_RDWR) => ENXIO | EIO);
}

fn end_of_the_session_leader() {
    let (master, path) = master();
    let step = shared_word();
    let leader = child(|| {
        works!(setsid());
        works!(openat(AT_FDCWD, &*path, O_RDWR));
        child(|| {
            signal::on(SIGHUP, 0);
            step.store(1, SeqCst);
            until(|| signal::count() >= 1);
            step.store(2, SeqCst);
        });
        until_is(step, 1);
    });
    join(leader);
    // The foreground group hears of it.
    until_is(step, 2);
    fails!(ioctl(master, TIOCGSID, &mut 0i32) => ENOTTY);
}

fn giving_up_the_terminal() {
    let (_master, slave) = controlling();
    signal::on(SIGHUP, 0);
    signal::on(SIGCONT, 0);
    gives!(ioctl(slave, TIOCNOTTY) => 0);
    until(|| signal::count() == 2);
    fails!(openat(AT_FDCWD, c"/dev/tty", O_RDWR) => ENXIO);
    fails!(ioctl(slave, TIOCNOTTY) => ENOTTY);
    gives!(ioctl(slave, TIOCSCTTY, 0) => 0);
}

fn session_of_a_terminal() {
    let (master, slave) = controlling();
    for fd in [master, slave] {
        let mut session = 0i32;
        gives!(ioctl(fd, TIOCGSID, &mut session) => 0);
        eq!(session, process::id());
    }
    let (_other, free) = pair();
    fails!(ioctl(free, TIOCGSID, &mut 0i32) => ENOTTY);
}

fn names_in_proc() {
    let (_master, path) = master();
    works!(openat(AT_FDCWD, &*path, O_RDWR));
    let number: u32 = path.to_string_lossy().rsplit_once('/').and_then(|name| name.1.parse().ok()).unwrap_or(0);
    let text = contents("/proc/self/stat");
    let fields: Vec<&str> = text.rsplit_once(") ").map_or("", |rest| rest.1).split(' ').collect();
    eq!(fields[4], (136 << 8 | number).to_string());
}

fn signal_by_ioctl() {
    let (master, _slave) = controlling();
    signal::on(SIGINT, 0);
    const TIOCSIG: c_uint = 0x4004_5436;
    gives!(ioctl(master, TIOCSIG, SIGINT) => 0);
    until(|| signal::count() == 1);
    eq!(signal::caught(), [SIGINT]);
    fails!(ioctl(master, TIOCSIG, SIGUSR1) => EINVAL);
}
