//! Terminals: pseudo-terminals and the line discipline.

use super::prelude::*;
use std::ffi::CString;

tests!("tty":
    a_pair_is_made, locked_until_unlocked, ptmx_numbers_are_reused, attributes_are_kept, attributes_by_termios2, attributes_by_termio,
    attributes_that_are_locked, raw_bytes_pass,
    canonical_lines, editing_a_line, end_of_file_character, echo_comes_back, newlines_are_translated, noncanonical_min_and_time,
    flushing, window_size, output_queue_counts, packet_mode, master_after_the_slave, poll_of_terminals, not_a_terminal,
    nonblocking_reads, exclusive_mode, line_discipline_and_break,
);

/// A master, unlocked, and the path of its slave.
pub(super) fn master() -> (usize, CString) {
    let master = match sys!(openat(AT_FDCWD, c"/dev/ptmx", O_RDWR | O_NOCTTY)) {
        Err(Errno::ENOENT) => skip!("no /dev/ptmx"),
        other => crate::check::must_work("opening /dev/ptmx", other),
    };
    gives!(ioctl(master, TIOCSPTLCK, &0i32) => 0);
    let mut number = -1i32;
    gives!(ioctl(master, TIOCGPTN, &mut number) => 0);
    (master, CString::new(format!("/dev/pts/{number}")).unwrap_or_default())
}

/// A master and a slave that isn't our controlling terminal.
pub(super) fn pair() -> (usize, usize) {
    let (master, path) = master();
    (master, works!(openat(AT_FDCWD, &*path, O_RDWR | O_NOCTTY)))
}

pub(super) fn attributes(fd: usize) -> termios {
    let mut now: termios = zeroed();
    gives!(ioctl(fd, TCGETS, &mut now) => 0);
    now
}

pub(super) fn set(fd: usize, change: impl FnOnce(&mut termios)) {
    let mut now = attributes(fd);
    change(&mut now);
    gives!(ioctl(fd, TCSETS, &now) => 0);
}

pub(super) fn raw(fd: usize) {
    set(fd, |now| {
        now.c_iflag = 0;
        now.c_oflag = 0;
        now.c_lflag = 0;
        now.c_cc[VMIN] = 1;
        now.c_cc[VTIME] = 0;
    });
}

/// Reads what must come next. The two ends are coupled by a queue of the kernel's, so what was written may come late, and in
/// parts.
#[track_caller]
pub(super) fn reads(fd: usize, want: &[u8]) {
    let mut got = Vec::new();
    while got.len() < want.len() && want.starts_with(&got) {
        let mut list = [pollfd { fd: fd as c_int, events: POLLIN, revents: 0 }];
        gives!(poll(&mut list, 1, -1) => 1);
        let mut buffer = [0u8; 256];
        let count = works!(read(fd, &mut buffer, 256));
        is!(count > 0, "more than '{}'", got.escape_ascii());
        got.extend_from_slice(&buffer[..count]);
    }
    eq!(got.escape_ascii().to_string(), want.escape_ascii().to_string());
}

/// Waits until so many bytes can be read.
fn until_there(fd: usize, count: i32) {
    let mut there = -1i32;
    until(|| sys!(ioctl(fd, FIONREAD, &mut there)).is_ok() && there == count);
}

#[track_caller]
pub(super) fn types(fd: usize, bytes: &[u8]) {
    gives!(write(fd, bytes, bytes.len()) => bytes.len());
}

fn a_pair_is_made() {
    let (master, path) = master();
    let slave = works!(openat(AT_FDCWD, &*path, O_RDWR | O_NOCTTY));
    let mut stat: stat = zeroed();
    gives!(fstat(slave, &mut stat) => 0);
    eq!(stat.st_mode & S_IFMT, S_IFCHR);
    eq!(libc::major(stat.st_rdev), 136);
    let link = std::fs::read_link(format!("/proc/self/fd/{slave}")).unwrap_or_default();
    eq!(link.display().to_string(), path.to_string_lossy().into_owned());
    // A slave by its master, without a path.
    const TIOCGPTPEER: c_int = 0x5441;
    let peer = works!(ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
    gives!(fcntl(peer, F_GETFD) => FD_CLOEXEC);
    gives!(fstat(peer, &mut stat) => 0);
    eq!(libc::major(stat.st_rdev), 136);
    fails!(ioctl(slave, TIOCGPTN, &mut 0i32) => ENOTTY);
    fails!(lseek(slave, 0, SEEK_SET) => ESPIPE);
}

fn locked_until_unlocked() {
    let master = works!(openat(AT_FDCWD, c"/dev/ptmx", O_RDWR | O_NOCTTY));
    let mut number = -1i32;
    gives!(ioctl(master, TIOCGPTN, &mut number) => 0);
    let path = CString::new(format!("/dev/pts/{number}")).unwrap_or_default();
    fails!(openat(AT_FDCWD, &*path, O_RDWR | O_NOCTTY) => EIO);
    const TIOCGPTLCK: c_uint = 0x8004_5439;
    let mut locked = 9i32;
    gives!(ioctl(master, TIOCGPTLCK, &mut locked) => 0);
    eq!(locked, 1);
    gives!(ioctl(master, TIOCSPTLCK, &0i32) => 0);
    works!(openat(AT_FDCWD, &*path, O_RDWR | O_NOCTTY));
}

fn ptmx_numbers_are_reused() {
    let (master, path) = master();
    works!(openat(AT_FDCWD, &*path, O_RDONLY | O_NOCTTY));
    works!(close(master));
    fails!(openat(AT_FDCWD, &*path, O_RDWR | O_NOCTTY) => EIO | ENOENT | ENXIO);
}

fn attributes_are_kept() {
    let (_master, slave) = pair();
    let first = attributes(slave);
    eq!(first.c_lflag & (ICANON | ECHO | ISIG), ICANON | ECHO | ISIG);
    eq!((first.c_cc[VINTR], first.c_cc[VEOF], first.c_cc[VERASE], first.c_cc[VSUSP]), (3, 4, 0x7f, 0x1a));
    eq!((first.c_iflag & ICRNL, first.c_oflag & (OPOST | ONLCR)), (ICRNL, OPOST | ONLCR));
    set(slave, |now| {
        now.c_lflag &= !ECHO;
        now.c_cc[VINTR] = b'!';
    });
    let now = attributes(slave);
    eq!((now.c_lflag & ECHO, now.c_cc[VINTR]), (0, b'!'));
    for request in [TCSETSW, TCSETSF] {
        gives!(ioctl(slave, request, &first) => 0);
    }
    eq!(attributes(slave).c_cc[VINTR], 3);
    fails!(ioctl(slave, TCGETS, BAD) => EFAULT);
    fails!(ioctl(slave, TCSETS, BAD) => EFAULT);
}

fn attributes_by_termios2() {
    let (_master, slave) = pair();
    let mut now: termios2 = zeroed();
    gives!(ioctl(slave, TCGETS2, &mut now) => 0);
    eq!((now.c_ospeed, now.c_lflag & ICANON), (38400, ICANON));
    now.c_ospeed = 12345;
    now.c_ispeed = 12345;
    now.c_cflag = now.c_cflag & !0o010_017 | BOTHER;
    gives!(ioctl(slave, TCSETS2, &now) => 0);
    let mut then: termios2 = zeroed();
    gives!(ioctl(slave, TCGETS2, &mut then) => 0);
    eq!(then.c_ospeed, 12345);
}

fn attributes_by_termio() {
    /// `struct termio` and the byte behind it.
    const BYTES: usize = 18;
    let (_master, slave) = pair();
    let before = attributes(slave);
    let mut old = [0xffu8; BYTES];
    gives!(ioctl(slave, TCGETA, &mut old) => 0);
    eq!((from_bytes::<u16>(&old[6..]), &old[9..17]), (Some(before.c_lflag as u16), &before.c_cc[..8]));
    let flags = (before.c_lflag & !ECHO) as u16;
    old[6..8].copy_from_slice(&flags.to_ne_bytes());
    old[9] = 7;
    for request in [TCSETA, TCSETAW, TCSETAF] {
        gives!(ioctl(slave, request, &old) => 0);
    }
    let after = attributes(slave);
    eq!((after.c_lflag, after.c_cc[0]), (before.c_lflag & !ECHO, 7));
    eq!(&after.c_cc[8..], &before.c_cc[8..]);
    fails!(ioctl(slave, TCGETA, BAD) => EFAULT);
    fails!(ioctl(slave, TCSETA, BAD) => EFAULT);
}

fn attributes_that_are_locked() {
    need_root();
    let (_master, slave) = pair();
    let mut locked: termios = zeroed();
    gives!(ioctl(slave, TIOCGLCKTRMIOS, &mut locked) => 0);
    eq!((locked.c_lflag, locked.c_cc[0]), (0, 0));
    locked.c_lflag = ECHO;
    locked.c_cc[1] = 1;
    gives!(ioctl(slave, TIOCSLCKTRMIOS, &locked) => 0);
    let before = attributes(slave);
    set(slave, |now| {
        now.c_lflag &= !(ECHO | ICANON);
        now.c_cc[0] = 7;
        now.c_cc[1] = 7;
    });
    let after = attributes(slave);
    eq!((after.c_lflag, after.c_cc[0], after.c_cc[1]), (before.c_lflag & !ICANON, 7, before.c_cc[1]));
    in_child(|| {
        gives!(setresuid(1000, 1000, 1000) => 0);
        fails!(ioctl(slave, TIOCSLCKTRMIOS, &zeroed::<termios>()) => EPERM);
    });
}

fn raw_bytes_pass() {
    let (master, slave) = pair();
    raw(slave);
    let all: Vec<u8> = (0..=255).collect();
    types(master, &all);
    let mut got = [0u8; 256];
    let mut count = 0;
    while count < 256 {
        count += works!(read(slave, &mut got[count..], 256 - count));
    }
    eq!(&got[..], &all[..]);
    types(slave, &all);
    let mut count = 0;
    while count < 256 {
        count += works!(read(master, &mut got[count..], 256 - count));
    }
    eq!(&got[..], &all[..]);
}

fn canonical_lines() {
    let (master, slave) = pair();
    set(slave, |now| now.c_lflag &= !ECHO);
    gives!(fcntl(slave, F_SETFL, O_NONBLOCK) => 0);
    types(master, b"no end yet");
    fails!(read(slave, &mut [0u8; 8], 8) => EAGAIN);
    types(master, b"\nsecond\n");
    // One line a read, however much was typed; a short buffer takes a part.
    reads(slave, b"no end yet\n");
    let mut three = [0u8; 3];
    until_there(slave, 7);
    gives!(read(slave, &mut three, 3) => 3);
    eq!(&three, b"sec");
    reads(slave, b"ond\n");
    fails!(read(slave, &mut [0u8; 8], 8) => EAGAIN);
    types(master, b"abc\n");
    until_there(slave, 4);
}

fn editing_a_line() {
    let (master, slave) = pair();
    set(slave, |now| now.c_lflag &= !ECHO);
    types(master, b"abcX\x7fd\n");
    reads(slave, b"abcd\n");
    types(master, b"all of this\x15rest\n");
    reads(slave, b"rest\n");
    types(master, b"one two\x17three\n");
    reads(slave, b"one three\n");
    // The next one literally.
    types(master, b"a\x16\x7fb\n");
    reads(slave, b"a\x7fb\n");
}

fn end_of_file_character() {
    let (master, slave) = pair();
    set(slave, |now| now.c_lflag &= !ECHO);
    types(master, b"part\x04");
    reads(slave, b"part");
    types(master, b"\x04");
    gives!(read(slave, &mut [0u8; 8], 8) => 0);
    types(master, b"more\n");
    reads(slave, b"more\n");
}

fn echo_comes_back() {
    let (master, slave) = pair();
    types(master, b"hi\n");
    reads(master, b"hi\r\n");
    // Control characters show as ^X.
    types(master, b"\x01\n");
    reads(master, b"^A\r\n");
    types(master, b"ab\x7f");
    reads(master, b"ab\x08 \x08");
    set(slave, |now| now.c_lflag &= !ECHO);
    types(master, b"secret\n");
    gives!(fcntl(master, F_SETFL, O_NONBLOCK) => 0);
    fails!(read(master, &mut [0u8; 8], 8) => EAGAIN);
}

fn newlines_are_translated() {
    let (master, slave) = pair();
    set(slave, |now| now.c_lflag &= !ECHO);
    types(slave, b"a\nb\n");
    reads(master, b"a\r\nb\r\n");
    types(master, b"line\r");
    reads(slave, b"line\n");
    set(slave, |now| {
        now.c_oflag &= !OPOST;
        now.c_iflag = IGNCR;
    });
    types(slave, b"a\n");
    reads(master, b"a\n");
    types(master, b"x\ry\n");
    reads(slave, b"xy\n");
}

fn noncanonical_min_and_time() {
    let (master, slave) = pair();
    raw(slave);
    set(slave, |now| now.c_cc[VMIN] = 3);
    let own = process::id();
    let child = child(|| {
        for byte in [b"a", b"b", b"c"] {
            until_asleep(own);
            types(master, byte);
        }
    });
    let mut buffer = [0u8; 8];
    gives!(read(slave, &mut buffer, 8) => 3);
    join(child);
    // No minimum: what there is, or nothing.
    set(slave, |now| now.c_cc[VMIN] = 0);
    gives!(read(slave, &mut buffer, 8) => 0);
    types(master, b"xy");
    reads(slave, b"xy");
    set(slave, |now| now.c_cc[VTIME] = 1);
    gives!(read(slave, &mut buffer, 8) => 0);
    // A time between bytes, once the first is there.
    set(slave, |now| now.c_cc[VMIN] = 5);
    types(master, b"z");
    gives!(read(slave, &mut buffer, 8) => 1);
}

fn flushing() {
    let (master, slave) = pair();
    raw(slave);
    types(master, b"typed");
    until_there(slave, 5);
    gives!(ioctl(slave, TCFLSH, TCIFLUSH) => 0);
    gives!(fcntl(slave, F_SETFL, O_NONBLOCK) => 0);
    fails!(read(slave, &mut [0u8; 8], 8) => EAGAIN);
    fails!(ioctl(slave, TCFLSH, 9) => EINVAL);
    types(master, b"typed");
    until_there(slave, 5);
    gives!(ioctl(slave, TCSETSF, &attributes(slave)) => 0);
    fails!(read(slave, &mut [0u8; 8], 8) => EAGAIN);
    gives!(ioctl(slave, TCSBRK, 1) => 0);
}

fn window_size() {
    let (master, slave) = pair();
    let mut size = winsize { ws_row: 9, ws_col: 9, ws_xpixel: 9, ws_ypixel: 9 };
    gives!(ioctl(slave, TIOCGWINSZ, &mut size) => 0);
    eq!((size.ws_row, size.ws_col), (0, 0));
    gives!(ioctl(master, TIOCSWINSZ, &winsize { ws_row: 25, ws_col: 80, ws_xpixel: 3, ws_ypixel: 4 }) => 0);
    gives!(ioctl(slave, TIOCGWINSZ, &mut size) => 0);
    eq!((size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel), (25, 80, 3, 4));
    gives!(ioctl(slave, TIOCSWINSZ, &winsize { ws_row: 30, ws_col: 90, ws_xpixel: 0, ws_ypixel: 0 }) => 0);
    gives!(ioctl(master, TIOCGWINSZ, &mut size) => 0);
    eq!((size.ws_row, size.ws_col), (30, 90));
    fails!(ioctl(slave, TIOCGWINSZ, BAD) => EFAULT);
}

fn output_queue_counts() {
    let (master, slave) = pair();
    raw(slave);
    let mut count = 9i32;
    gives!(ioctl(slave, TIOCOUTQ, &mut count) => 0);
    eq!(count, 0);
    types(slave, b"12345");
    until_there(master, 5);
}

fn packet_mode() {
    let (master, slave) = pair();
    raw(slave);
    gives!(ioctl(master, TIOCPKT, &1i32) => 0);
    types(slave, b"data");
    // Each read begins with a byte that tells what follows: 0 for data.
    reads(master, b"\0data");
    gives!(ioctl(slave, TCFLSH, TCOFLUSH) => 0);
    let mut byte = [0u8; 8];
    gives!(read(master, &mut byte, 8) => 1);
    eq!(byte[0] & 2, 2);
    fails!(ioctl(slave, TIOCPKT, &1i32) => ENOTTY);
}

fn master_after_the_slave() {
    let (master, path) = master();
    let slave = works!(openat(AT_FDCWD, &*path, O_RDWR | O_NOCTTY));
    raw(slave);
    types(slave, b"last words");
    works!(close(slave));
    // What was written is still there, and then an error says that nobody is.
    reads(master, b"last words");
    fails!(read(master, &mut [0u8; 8], 8) => EIO);
    let mut list = [pollfd { fd: master as c_int, events: POLLIN, revents: 0 }];
    gives!(poll(&mut list, 1, -1) => 1);
    eq!(list[0].revents & POLLHUP, POLLHUP);
    // Opened again, it lives again.
    let again = works!(openat(AT_FDCWD, &*path, O_RDWR | O_NOCTTY));
    types(again, b"anew");
    reads(master, b"anew");
}

fn poll_of_terminals() {
    let (master, slave) = pair();
    set(slave, |now| now.c_lflag &= !ECHO);
    let now = |fd: usize| {
        let mut list = [pollfd { fd: fd as c_int, events: POLLIN | POLLOUT, revents: 0 }];
        works!(poll(&mut list, 1, 0));
        list[0].revents
    };
    eq!((now(master), now(slave)), (POLLOUT, POLLOUT));
    types(master, b"half a line");
    eq!(now(slave), POLLOUT);
    types(master, b"\n");
    until(|| now(slave) == POLLIN | POLLOUT);
    types(slave, b"x");
    until(|| now(master) == POLLIN | POLLOUT);
}

fn not_a_terminal() {
    let fd = file(c"file", b"");
    for request in [TCGETS, TIOCGWINSZ, TIOCGPGRP, TIOCSCTTY, TIOCGSID] {
        fails!(ioctl(fd, request, BAD) => ENOTTY);
    }
    let null = works!(openat(AT_FDCWD, c"/dev/null", O_RDWR));
    fails!(ioctl(null, TCGETS, &mut zeroed::<termios>()) => ENOTTY);
    let (reader, _writer) = pipe();
    fails!(ioctl(reader, TCGETS, &mut zeroed::<termios>()) => ENOTTY);
    let socket = works!(socket(AF_UNIX, SOCK_STREAM, 0));
    fails!(ioctl(socket, TCGETS, &mut zeroed::<termios>()) => ENOTTY);
}

fn nonblocking_reads() {
    let (master, slave) = pair();
    for fd in [master, slave] {
        gives!(fcntl(fd, F_SETFL, O_NONBLOCK) => 0);
        fails!(read(fd, &mut [0u8; 8], 8) => EAGAIN);
    }
    gives!(fcntl(slave, F_SETFL, 0) => 0);
    signal::tick(false);
    fails!(read(slave, &mut [0u8; 8], 8) => EINTR);
}

fn exclusive_mode() {
    need_root();
    let (_master, path) = master();
    let slave = works!(openat(AT_FDCWD, &*path, O_RDWR | O_NOCTTY));
    gives!(ioctl(slave, TIOCEXCL) => 0);
    in_child(|| {
        gives!(fchmodat(AT_FDCWD, &*path, 0o666) => 0);
        gives!(setresuid(1000, 1000, 1000) => 0);
        fails!(openat(AT_FDCWD, &*path, O_RDWR | O_NOCTTY) => EBUSY);
    });
    gives!(ioctl(slave, TIOCNXCL) => 0);
    works!(openat(AT_FDCWD, &*path, O_RDWR | O_NOCTTY));
}

fn line_discipline_and_break() {
    let (_master, slave) = pair();
    let mut discipline = 9i32;
    gives!(ioctl(slave, TIOCGETD, &mut discipline) => 0);
    eq!(discipline, 0);
    gives!(ioctl(slave, TCXONC, TCOOFF) => 0);
    gives!(ioctl(slave, TCXONC, TCOON) => 0);
    fails!(ioctl(slave, TCXONC, 9) => EINVAL);
}
