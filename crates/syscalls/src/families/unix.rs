//! Unix sockets: streams, datagrams, packets; names in files and abstract ones; flags, ends, options.

use super::prelude::*;
use crate::sys::sockets::{message, option, pair, unix};

tests!("unix":
    socket_arguments, socketpair_arguments, streams_flow, datagrams_keep_bounds, packets_keep_bounds, peeking,
    truncation_is_told, waiting_for_all, without_waiting, shutdown_halves, ends_of_peers, bind_and_connect, a_socket_is_bound_with_its_mode, bind_errors,
    connect_errors, abstract_names, autobind, names_are_told, accept_takes, accept_errors, backlog_fills, datagrams_by_name,
    connected_datagrams, options, timeouts, buffer_fills, interrupted_calls, reset_of_unread_data, not_sockets,
);

pub(super) const STREAM: c_int = SOCK_STREAM;

fn socket_arguments() {
    for kind in [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET] {
        let fd = works!(socket(AF_UNIX, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        gives!(fcntl(fd, F_GETFD) => FD_CLOEXEC);
        eq!(works!(fcntl(fd, F_GETFL)) as c_int, O_RDWR | O_NONBLOCK);
        eq!((option(fd, SOL_SOCKET, SO_TYPE), option(fd, SOL_SOCKET, SO_DOMAIN)), (kind, AF_UNIX));
    }
    works!(socket(AF_UNIX, SOCK_STREAM, 1));
    fails!(socket(AF_UNIX, SOCK_STREAM, 2) => EPROTONOSUPPORT);
    fails!(socket(AF_UNIX, SOCK_RDM, 0) => ESOCKTNOSUPPORT);
    fails!(socket(AF_UNIX, 99, 0) => EINVAL);
    fails!(socket(9999, SOCK_STREAM, 0) => EAFNOSUPPORT);
    fails!(socket(-1, SOCK_STREAM, 0) => EAFNOSUPPORT);
    fails!(socket(AF_UNIX, SOCK_STREAM | 0x10_0000, 0) => EINVAL);
}

fn socketpair_arguments() {
    let mut ends = [0i32; 2];
    gives!(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, &mut ends) => 0);
    gives!(fcntl(ends[0], F_GETFD) => FD_CLOEXEC);
    fails!(socketpair(AF_INET, SOCK_STREAM, 0, &mut ends) => EOPNOTSUPP);
    fails!(socketpair(AF_UNIX, SOCK_STREAM, 0, BAD) => EFAULT);
    fails!(socketpair(AF_UNIX, 99, 0, &mut ends) => EINVAL);
    fails!(socketpair(9999, SOCK_STREAM, 0, &mut ends) => EAFNOSUPPORT);
}

fn streams_flow() {
    let (one, other) = pair(STREAM);
    gives!(sendto(one, b"hello ", 6, 0, 0, 0) => 6);
    gives!(write(one, b"world", 5) => 5);
    let mut buffer = [0u8; 16];
    gives!(read(other, &mut buffer, 8) => 8);
    eq!(&buffer[..8], b"hello wo");
    gives!(recvfrom(other, &mut buffer, 16, 0, 0, 0) => 3);
    gives!(sendto(other, b"back", 4, 0, 0, 0) => 4);
    gives!(read(one, &mut buffer, 16) => 4);
    gives!(sendto(one, b"", 0, 0, 0, 0) => 0);
    fails!(recvfrom(other, &mut buffer, 16, MSG_DONTWAIT, 0, 0) => EAGAIN);
    // A connected stream takes no address, not even that of its peer.
    let (address, length) = unix(b"\0nobody");
    fails!(sendto(one, b"x", 1, 0, &address, length) => EISCONN);
    fails!(lseek(one, 0, SEEK_SET) => ESPIPE);
}

fn datagrams_keep_bounds() {
    let (one, other) = pair(SOCK_DGRAM);
    for text in [&b"first"[..], b"", b"third"] {
        gives!(sendto(one, text, text.len(), 0, 0, 0) => text.len());
    }
    let mut buffer = [0u8; 16];
    gives!(recvfrom(other, &mut buffer, 16, 0, 0, 0) => 5);
    gives!(recvfrom(other, &mut buffer, 16, 0, 0, 0) => 0);
    // What doesn't fit is lost.
    gives!(read(other, &mut buffer, 2) => 2);
    fails!(recvfrom(other, &mut buffer, 16, MSG_DONTWAIT, 0, 0) => EAGAIN);
    let mut count = 0i32;
    gives!(write(one, b"abc", 3) => 3);
    gives!(write(one, b"defgh", 5) => 5);
    gives!(ioctl(other, FIONREAD, &mut count) => 0);
    eq!(count, 3);
}

fn packets_keep_bounds() {
    let (one, other) = pair(SOCK_SEQPACKET);
    gives!(sendto(one, b"first", 5, 0, 0, 0) => 5);
    gives!(sendto(one, b"second", 6, 0, 0, 0) => 6);
    let mut buffer = [0u8; 16];
    gives!(recvfrom(other, &mut buffer, 3, 0, 0, 0) => 3);
    gives!(recvfrom(other, &mut buffer, 16, 0, 0, 0) => 6);
    eq!(&buffer[..6], b"second");
    works!(close(one));
    gives!(recvfrom(other, &mut buffer, 16, 0, 0, 0) => 0);
    signal::ignore(SIGPIPE);
    fails!(sendto(other, b"x", 1, 0, 0, 0) => EPIPE);
}

fn peeking() {
    for kind in [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET] {
        let (one, other) = pair(kind);
        gives!(write(one, b"hello", 5) => 5);
        let mut buffer = [0u8; 8];
        gives!(recvfrom(other, &mut buffer, 2, MSG_PEEK, 0, 0) => 2);
        gives!(recvfrom(other, &mut buffer, 8, MSG_PEEK, 0, 0) => 5);
        gives!(recvfrom(other, &mut buffer, 8, 0, 0, 0) => 5);
        eq!(&buffer[..5], b"hello");
        fails!(recvfrom(other, &mut buffer, 8, MSG_PEEK | MSG_DONTWAIT, 0, 0) => EAGAIN);
    }
    // With an offset of its own, set by SO_PEEK_OFF.
    let (one, other) = pair(STREAM);
    gives!(setsockopt(other, SOL_SOCKET, SO_PEEK_OFF, &0i32, 4) => 0);
    gives!(write(one, b"abcdef", 6) => 6);
    let mut two = [0u8; 2];
    for want in [b"ab", b"cd", b"ef"] {
        gives!(recvfrom(other, &mut two, 2, MSG_PEEK, 0, 0) => 2);
        eq!(&two, want);
    }
    gives!(recvfrom(other, &mut two, 2, 0, 0, 0) => 2);
    eq!(option(other, SOL_SOCKET, SO_PEEK_OFF), 4);
}

fn truncation_is_told() {
    let (one, other) = pair(SOCK_DGRAM);
    let mut buffer = [0u8; 4];
    let list = [piece(&mut buffer)];
    gives!(write(one, b"0123456789", 10) => 10);
    let mut header = message(&list, &mut []);
    gives!(recvmsg(other, &mut header, 0) => 4);
    eq!(header.msg_flags, MSG_TRUNC);
    gives!(write(one, b"0123456789", 10) => 10);
    // Asked for, the true length is the result.
    gives!(recvfrom(other, &mut [0u8; 4], 4, MSG_TRUNC, 0, 0) => 10);
    gives!(write(one, b"0123", 4) => 4);
    let mut header = message(&list, &mut []);
    gives!(recvmsg(other, &mut header, 0) => 4);
    eq!(header.msg_flags, 0);
    let (one, other) = pair(SOCK_SEQPACKET);
    gives!(sendto(one, b"record", 6, MSG_EOR, 0, 0) => 6);
    let mut header = message(&list, &mut []);
    gives!(recvmsg(other, &mut header, MSG_TRUNC) => 6);
    eq!(header.msg_flags & MSG_TRUNC, MSG_TRUNC);
}

fn waiting_for_all() {
    let (one, other) = pair(STREAM);
    let own = process::id();
    let child = child(|| {
        for part in [&b"ab"[..], b"cd", b"ef"] {
            until_asleep(own);
            works!(write(one, part, 2));
        }
    });
    let mut buffer = [0u8; 6];
    gives!(recvfrom(other, &mut buffer, 6, MSG_WAITALL, 0, 0) => 6);
    eq!(&buffer, b"abcdef");
    join(child);
    gives!(write(one, b"x", 1) => 1);
    gives!(shutdown(one, SHUT_WR) => 0);
    gives!(recvfrom(other, &mut buffer, 6, MSG_WAITALL, 0, 0) => 1);
    let (one, other) = pair(STREAM);
    gives!(write(one, b"x", 1) => 1);
    gives!(recvfrom(other, &mut buffer, 6, MSG_WAITALL | MSG_DONTWAIT, 0, 0) => 1);
    // An interruption gives what there is.
    gives!(write(one, b"yz", 2) => 2);
    signal::tick(false);
    gives!(recvfrom(other, &mut buffer, 6, MSG_WAITALL, 0, 0) => 2);
}

fn without_waiting() {
    let (one, other) = pair(STREAM);
    let mut buffer = [0u8; 16];
    fails!(recvfrom(one, &mut buffer, 16, MSG_DONTWAIT, 0, 0) => EAGAIN);
    gives!(fcntl(one, F_SETFL, O_NONBLOCK) => 0);
    fails!(read(one, &mut buffer, 16) => EAGAIN);
    fails!(recvmsg(one, &mut message(&[piece(&mut buffer)], &mut []), 0) => EAGAIN);
    gives!(read(one, &mut buffer, 0) => 0);
    works!(close(other));
    gives!(read(one, &mut buffer, 16) => 0);
    fails!(recvfrom(one, BAD, 16, 0x4000_0000 | MSG_OOB, 0, 0) => EINVAL | EOPNOTSUPP | EFAULT);
}

fn shutdown_halves() {
    let (one, other) = pair(STREAM);
    signal::ignore(SIGPIPE);
    let mut buffer = [0u8; 4];
    gives!(write(one, b"last", 4) => 4);
    gives!(shutdown(one, SHUT_WR) => 0);
    fails!(write(one, b"x", 1) => EPIPE);
    gives!(read(other, &mut buffer, 4) => 4);
    gives!(read(other, &mut buffer, 4) => 0);
    gives!(write(other, b"back", 4) => 4);
    gives!(read(one, &mut buffer, 4) => 4);
    // Who won't read makes the other's writes fail.
    gives!(shutdown(one, SHUT_RD) => 0);
    gives!(read(one, &mut buffer, 4) => 0);
    fails!(write(other, b"x", 1) => EPIPE);
    gives!(shutdown(one, SHUT_RDWR) => 0);
    fails!(shutdown(one, 3) => EINVAL);
    fails!(shutdown(-1, SHUT_RD) => EBADF);
    gives!(shutdown(works!(socket(AF_UNIX, STREAM, 0)), SHUT_RD) => 0);
}

fn ends_of_peers() {
    let (one, other) = pair(STREAM);
    gives!(write(one, b"last", 4) => 4);
    works!(close(one));
    let mut buffer = [0u8; 8];
    gives!(read(other, &mut buffer, 8) => 4);
    gives!(read(other, &mut buffer, 8) => 0);
    signal::on(SIGPIPE, 0);
    fails!(write(other, b"x", 1) => EPIPE);
    eq!(signal::count(), 1);
    let (one, other) = pair(SOCK_DGRAM);
    works!(close(one));
    fails!(write(other, b"x", 1) => ECONNREFUSED);
    eq!(signal::count(), 1);
}

fn bound(kind: c_int, name: &[u8]) -> usize {
    let fd = works!(socket(AF_UNIX, kind, 0));
    let (address, length) = unix(name);
    gives!(bind(fd, &address, length) => 0);
    fd
}

pub(super) fn listening(name: &[u8], backlog: c_int) -> usize {
    let fd = bound(STREAM, name);
    gives!(listen(fd, backlog) => 0);
    fd
}

fn bind_and_connect() {
    let server = listening(b"socket", 5);
    let mut stat: stat = zeroed();
    gives!(stat(c"socket", &mut stat) => 0);
    eq!(stat.st_mode, S_IFSOCK | 0o755);
    let client = works!(socket(AF_UNIX, STREAM, 0));
    let (address, length) = unix(b"socket\0");
    gives!(connect(client, &address, length) => 0);
    // What is written before the other side accepts is kept.
    gives!(write(client, b"early", 5) => 5);
    let accepted = works!(accept(server, 0, 0));
    let mut buffer = [0u8; 8];
    gives!(read(accepted, &mut buffer, 8) => 5);
    fails!(connect(client, &address, length) => EISCONN);
    works!(close(server));
    let late = works!(socket(AF_UNIX, STREAM, 0));
    fails!(connect(late, &address, length) => ECONNREFUSED);
    gives!(unlink(c"socket") => 0);
    fails!(connect(late, &address, length) => ENOENT);
    gives!(write(client, b"x", 1) => 1);
}

fn a_socket_is_bound_with_its_mode() {
    let fd = works!(socket(AF_UNIX, SOCK_STREAM, 0));
    let mut stat: stat = zeroed();
    gives!(fchmod(fd, 0o607) => 0);
    gives!(fstat(fd, &mut stat) => 0);
    eq!(stat.st_mode, S_IFSOCK | 0o607);
    let (name, length) = unix(b"socket");
    gives!(bind(fd, &name, length) => 0);
    gives!(stat(c"socket", &mut stat) => 0);
    eq!(stat.st_mode, S_IFSOCK | 0o605);
    // They are two from then on.
    gives!(fchmod(fd, 0o700) => 0);
    gives!(stat(c"socket", &mut stat) => 0);
    eq!(stat.st_mode, S_IFSOCK | 0o605);
}

fn bind_errors() {
    let fd = bound(STREAM, b"socket");
    let (address, length) = unix(b"other");
    fails!(bind(fd, &address, length) => EINVAL);
    let fd = works!(socket(AF_UNIX, STREAM, 0));
    let (address, length) = unix(b"socket");
    fails!(bind(fd, &address, length) => EADDRINUSE);
    let (address, length) = unix(b"no/such/directory");
    fails!(bind(fd, &address, length) => ENOENT);
    fails!(bind(fd, &address, 1) => EINVAL);
    fails!(bind(fd, &address, 200) => EINVAL);
    fails!(bind(fd, &address, -1) => EINVAL);
    fails!(bind(fd, BAD, length) => EFAULT);
    fails!(bind(-1, &address, length) => EBADF);
    let mut wrong = address;
    wrong.sun_family = AF_INET as u16;
    fails!(bind(fd, &wrong, length) => EINVAL);
    // 108 bytes without a zero at the end are a name too.
    let (address, length) = unix(&[b'n'; 108]);
    gives!(bind(fd, &address, length) => 0);
    eq!(std::fs::read_dir(".").map(|list| list.flatten().any(|entry| entry.file_name().len() == 108)).unwrap_or(false), true);
}

fn connect_errors() {
    let fd = works!(socket(AF_UNIX, STREAM, 0));
    let (address, length) = unix(b"plain");
    works!(close(file(c"plain", b"")));
    fails!(connect(fd, &address, length) => ECONNREFUSED);
    let _datagrams = bound(SOCK_DGRAM, b"datagrams");
    let (address, length) = unix(b"datagrams");
    fails!(connect(fd, &address, length) => EPROTOTYPE);
    let _idle = bound(STREAM, b"idle");
    let (address, length) = unix(b"idle");
    fails!(connect(fd, &address, length) => ECONNREFUSED);
    fails!(connect(fd, BAD, length) => EFAULT);
    fails!(connect(fd, &address, 1) => EINVAL);
    fails!(connect(-1, &address, length) => EBADF);
    fails!(listen(works!(socket(AF_UNIX, STREAM, 0)), 5) => EINVAL);
    fails!(listen(works!(socket(AF_UNIX, SOCK_DGRAM, 0)), 5) => EOPNOTSUPP);
    fails!(write(fd, b"x", 1) => ENOTCONN);
    fails!(read(fd, &mut [0u8; 1], 1) => EINVAL);
    need_root();
    let _server = listening(b"closed", 5);
    gives!(chmod(c"closed", 0o700) => 0);
    in_child(|| {
        gives!(setresuid(1000, 1000, 1000) => 0);
        let (address, length) = unix(b"closed");
        fails!(connect(fd, &address, length) => EACCES);
    });
}

fn abstract_names() {
    let name = format!("\0insula-{}", process::id());
    let server = listening(name.as_bytes(), 5);
    let client = works!(socket(AF_UNIX, STREAM, 0));
    let (address, length) = unix(name.as_bytes());
    gives!(connect(client, &address, length) => 0);
    works!(accept(server, 0, 0));
    // The length is part of the name, and so is every zero in it.
    let longer = works!(socket(AF_UNIX, STREAM, 0));
    fails!(connect(longer, &address, length + 1) => ECONNREFUSED);
    fails!(bind(longer, &address, length) => EADDRINUSE);
    gives!(bind(longer, &address, length + 1) => 0);
    works!(close(server));
    // It is gone with the socket, at once.
    let again = listening(name.as_bytes(), 5);
    works!(close(again));
    is!(std::fs::read_dir(".").map(Iterator::count).unwrap_or(9) == 0, "no file");
}

fn autobind() {
    let fd = works!(socket(AF_UNIX, SOCK_DGRAM, 0));
    let (address, _) = unix(b"");
    gives!(bind(fd, &address, 2) => 0);
    let (mut own, mut length) = (unix(b"").0, 110u32);
    gives!(getsockname(fd, &mut own, &mut length) => 0);
    eq!(length, 8);
    is!(
        own.sun_path[0] == 0 && own.sun_path[1..6].iter().all(|digit| (*digit as u8).is_ascii_hexdigit()),
        "zero and five digits"
    );
}

fn names_are_told() {
    let server = listening(b"server", 5);
    let client = works!(socket(AF_UNIX, STREAM, 0));
    let (address, length) = unix(b"client");
    gives!(bind(client, &address, length) => 0);
    let (address, length) = unix(b"server");
    gives!(connect(client, &address, length) => 0);
    let (mut peer, mut length) = (unix(b"").0, 110u32);
    let accepted = works!(accept(server, &mut peer, &mut length));
    eq!((length, &to_bytes(&peer)[2..9]), (9, &b"client\0"[..]));
    for (fd, name) in [(accepted, &b"server\0"[..]), (server, b"server\0")] {
        let (mut own, mut length) = (unix(b"").0, 110u32);
        gives!(getsockname(fd, &mut own, &mut length) => 0);
        eq!((length, &to_bytes(&own)[2..9]), (9, name));
    }
    // Cut to the room that there is, but the whole length is told.
    let (mut short, mut length) = ([9u8; 8], 4u32);
    gives!(getpeername(client, &mut short, &mut length) => 0);
    eq!((length, short), (9, [1, 0, b's', b'e', 9, 9, 9, 9]));
    fails!(getpeername(server, &mut short, &mut length) => ENOTCONN);
    fails!(getsockname(client, BAD, &mut length) => EFAULT);
    fails!(getsockname(client, &mut short, BAD) => EFAULT);
    fails!(getsockname(client, &mut short, &mut -1i32) => EINVAL);
    fails!(getsockname(-1, &mut short, &mut length) => EBADF);
    let (one, _other) = pair(STREAM);
    let mut length = 8u32;
    gives!(getpeername(one, &mut short, &mut length) => 0);
    eq!(length, 2);
}

fn accept_takes() {
    let server = listening(b"socket", 5);
    gives!(fcntl(server, F_SETFL, O_NONBLOCK) => 0);
    fails!(accept(server, 0, 0) => EAGAIN);
    let (address, length) = unix(b"socket");
    let connect_one = || {
        let fd = works!(socket(AF_UNIX, STREAM, 0));
        gives!(connect(fd, &address, length) => 0);
        fd
    };
    let (first, second) = (connect_one(), connect_one());
    gives!(write(second, b"2", 1) => 1);
    gives!(write(first, b"1", 1) => 1);
    let accepted = works!(accept4(server, 0, 0, SOCK_CLOEXEC));
    gives!(fcntl(accepted, F_GETFD) => FD_CLOEXEC);
    // The listener's own O_NONBLOCK is not inherited.
    eq!(works!(fcntl(accepted, F_GETFL)) as c_int & O_NONBLOCK, 0);
    let mut byte = [0u8];
    gives!(read(accepted, &mut byte, 1) => 1);
    eq!(byte[0], b'1');
    let accepted = works!(accept4(server, 0, 0, SOCK_NONBLOCK));
    gives!(read(accepted, &mut byte, 1) => 1);
    fails!(read(accepted, &mut byte, 1) => EAGAIN);
    // One who has gone again is accepted all the same.
    works!(close(connect_one()));
    let accepted = works!(accept(server, 0, 0));
    gives!(read(accepted, &mut byte, 1) => 0);
}

fn accept_errors() {
    let server = listening(b"socket", 5);
    fails!(accept4(server, 0, 0, 0x1) => EINVAL);
    fails!(accept(-1, 0, 0) => EBADF);
    fails!(accept(file(c"file", b""), 0, 0) => ENOTSOCK);
    fails!(accept(works!(socket(AF_UNIX, STREAM, 0)), 0, 0) => EINVAL);
    fails!(accept(works!(socket(AF_UNIX, SOCK_DGRAM, 0)), 0, 0) => EOPNOTSUPP);
    signal::tick(false);
    fails!(accept(server, 0, 0) => EINTR);
    signal::no_tick();
    gives!(shutdown(server, SHUT_RDWR) => 0);
    fails!(accept(server, 0, 0) => EINVAL);
}

fn backlog_fills() {
    let server = listening(b"socket", 0);
    let (address, length) = unix(b"socket");
    let client = || works!(socket(AF_UNIX, STREAM | SOCK_NONBLOCK, 0));
    gives!(connect(client(), &address, length) => 0);
    fails!(connect(client(), &address, length) => EAGAIN);
    // A larger one can be asked for later.
    gives!(listen(server, 2) => 0);
    gives!(connect(client(), &address, length) => 0);
    gives!(connect(client(), &address, length) => 0);
    fails!(connect(client(), &address, length) => EAGAIN);
    works!(accept(server, 0, 0));
    let waiting = child(|| {
        let first = works!(socket(AF_UNIX, STREAM, 0));
        gives!(connect(first, &address, length) => 0);
        let blocked = works!(socket(AF_UNIX, STREAM, 0));
        gives!(connect(blocked, &address, length) => 0);
    });
    until_asleep(waiting);
    works!(accept(server, 0, 0));
    join(waiting);
}

fn datagrams_by_name() {
    let server = bound(SOCK_DGRAM, b"server");
    let client = bound(SOCK_DGRAM, b"client");
    let (address, length) = unix(b"server");
    gives!(sendto(client, b"hello", 5, 0, &address, length) => 5);
    let (mut from, mut from_length) = (unix(b"").0, 110u32);
    let mut buffer = [0u8; 8];
    gives!(recvfrom(server, &mut buffer, 8, 0, &mut from, &mut from_length) => 5);
    eq!((from_length, &to_bytes(&from)[2..9]), (9, &b"client\0"[..]));
    gives!(sendto(server, b"back", 4, 0, &from, from_length) => 4);
    gives!(read(client, &mut buffer, 8) => 4);
    let nameless = works!(socket(AF_UNIX, SOCK_DGRAM, 0));
    gives!(sendto(nameless, b"x", 1, 0, &address, length) => 1);
    gives!(recvfrom(server, &mut buffer, 8, 0, &mut from, &mut from_length) => 1);
    eq!(from_length, 0);
    fails!(sendto(nameless, b"x", 1, 0, 0, 0) => ENOTCONN);
    let (missing, length) = unix(b"missing");
    fails!(sendto(nameless, b"x", 1, 0, &missing, length) => ENOENT);
    let _stream = listening(b"stream", 1);
    let (stream, length) = unix(b"stream");
    fails!(sendto(nameless, b"x", 1, 0, &stream, length) => EPROTOTYPE);
    fails!(sendto(nameless, BAD, 10, 0, &address, 8) => EFAULT);
}

fn connected_datagrams() {
    let server = bound(SOCK_DGRAM, b"server");
    let client = bound(SOCK_DGRAM, b"client");
    let (address, length) = unix(b"server");
    gives!(connect(client, &address, length) => 0);
    gives!(write(client, b"hello", 5) => 5);
    // The server takes from anybody, until it is connected itself.
    let other = bound(SOCK_DGRAM, b"other");
    gives!(sendto(other, b"x", 1, 0, &address, length) => 1);
    let (theirs, theirs_length) = unix(b"client");
    gives!(connect(server, &theirs, theirs_length) => 0);
    fails!(sendto(other, b"x", 1, 0, &address, length) => EPERM);
    // Connecting anew changes the peer; AF_UNSPEC takes it away.
    let (others, others_length) = unix(b"other");
    gives!(connect(client, &others, others_length) => 0);
    gives!(write(client, b"y", 1) => 1);
    gives!(read(other, &mut [0u8; 8], 8) => 1);
    let nobody: sockaddr = zeroed();
    gives!(connect(client, &nobody, 16) => 0);
    fails!(write(client, b"x", 1) => ENOTCONN);
    works!(close(server));
    fails!(sendto(client, b"x", 1, 0, &address, length) => ECONNREFUSED);
}

fn options() {
    let (fd, _other) = pair(STREAM);
    eq!((option(fd, SOL_SOCKET, SO_ERROR), option(fd, SOL_SOCKET, SO_ACCEPTCONN)), (0, 0));
    eq!(option(listening(b"socket", 1), SOL_SOCKET, SO_ACCEPTCONN), 1);
    gives!(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &20_000i32, 4) => 0);
    // The kernel doubles it, for its own needs.
    eq!(option(fd, SOL_SOCKET, SO_SNDBUF), 40_000);
    gives!(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &1i32, 4) => 0);
    is!(option(fd, SOL_SOCKET, SO_SNDBUF) >= 2048, "a least size");
    eq!(option(fd, SOL_SOCKET, SO_PASSCRED), 0);
    let mut value = 0i32;
    fails!(getsockopt(fd, SOL_SOCKET, 9999, &mut value, &mut 4u32) => ENOPROTOOPT);
    fails!(getsockopt(fd, 9999, 1, &mut value, &mut 4u32) => EOPNOTSUPP);
    fails!(getsockopt(fd, SOL_SOCKET, SO_TYPE, BAD, &mut 4u32) => EFAULT);
    fails!(getsockopt(fd, SOL_SOCKET, SO_TYPE, &mut value, BAD) => EFAULT);
    fails!(getsockopt(fd, SOL_SOCKET, SO_TYPE, &mut value, &mut -1i32) => EINVAL);
    fails!(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &value, 2) => EINVAL);
    fails!(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, BAD, 4) => EFAULT);
    fails!(setsockopt(fd, SOL_SOCKET, 9999, &value, 4) => ENOPROTOOPT);
    fails!(setsockopt(fd, SOL_SOCKET, SO_TYPE, &value, 4) => ENOPROTOOPT);
    fails!(setsockopt(-1, SOL_SOCKET, SO_SNDBUF, &value, 4) => EBADF);
    // A short buffer takes what fits.
    let (mut bytes, mut length) = ([9u8; 4], 2u32);
    gives!(getsockopt(fd, SOL_SOCKET, SO_TYPE, &mut bytes, &mut length) => 0);
    eq!((bytes, length), ([1, 0, 9, 9], 2));
}

fn timeouts() {
    let (one, _other) = pair(STREAM);
    let soon = timeval { tv_sec: 0, tv_usec: 5000 };
    gives!(setsockopt(one, SOL_SOCKET, SO_RCVTIMEO, &soon, 16) => 0);
    fails!(read(one, &mut [0u8; 1], 1) => EAGAIN);
    let (mut now, mut length): (timeval, u32) = (zeroed(), 16);
    gives!(getsockopt(one, SOL_SOCKET, SO_RCVTIMEO, &mut now, &mut length) => 0);
    is!(now.tv_sec == 0 && now.tv_usec >= 4000, "the timeout that was set, in the kernel's grain");
    fails!(setsockopt(one, SOL_SOCKET, SO_RCVTIMEO, &timeval { tv_sec: 0, tv_usec: 1_000_000 }, 16) => EDOM);
    fails!(setsockopt(one, SOL_SOCKET, SO_RCVTIMEO, &soon, 8) => EINVAL);
    gives!(setsockopt(one, SOL_SOCKET, SO_SNDTIMEO, &soon, 16) => 0);
    let block = vec![0u8; 1 << 20];
    works!(write(one, &block[..], block.len()));
    fails!(write(one, &block[..], block.len()) => EAGAIN);
}

fn buffer_fills() {
    let (one, other) = pair(STREAM);
    gives!(fcntl(one, F_SETFL, O_NONBLOCK) => 0);
    let block = vec![b'z'; 1 << 20];
    let mut sent = works!(write(one, &block[..], block.len()));
    is!(sent < 1 << 20, "a part");
    while let Ok(more) = sys!(write(one, &block[..], 4096)) {
        sent += more;
    }
    fails!(write(one, &block[..], 1) => EAGAIN);
    gives!(shutdown(one, SHUT_WR) => 0);
    eq!(drain(other).len(), sent);
    // A datagram that can never fit.
    let (one, other) = pair(SOCK_DGRAM);
    fails!(write(one, &block[..], block.len()) => EMSGSIZE);
    gives!(fcntl(one, F_SETFL, O_NONBLOCK) => 0);
    let mut count = 0;
    while sys!(write(one, b"x", 1)).is_ok() {
        count += 1;
    }
    is!(count > 1, "some datagrams");
    fails!(write(one, b"x", 1) => EAGAIN);
    gives!(read(other, &mut [0u8; 1], 1) => 1);
}

fn interrupted_calls() {
    let server = listening(b"socket", 0);
    let (address, length) = unix(b"socket");
    let first = works!(socket(AF_UNIX, STREAM, 0));
    gives!(connect(first, &address, length) => 0);
    let second = works!(socket(AF_UNIX, STREAM, 0));
    signal::tick(false);
    fails!(connect(second, &address, length) => EINTR);
    let (one, _other) = pair(SOCK_DGRAM);
    fails!(recvmsg(one, &mut message(&[piece(&mut [0u8; 1])], &mut []), 0) => EINTR);
    works!(accept(server, 0, 0));
}

fn reset_of_unread_data() {
    let (one, other) = pair(STREAM);
    gives!(write(one, b"unread", 6) => 6);
    works!(close(other));
    // Told once, as an error of reading.
    fails!(read(one, &mut [0u8; 1], 1) => ECONNRESET);
    gives!(read(one, &mut [0u8; 1], 1) => 0);
}

fn not_sockets() {
    let fd = file(c"file", b"");
    let (address, length) = unix(b"x");
    fails!(bind(fd, &address, length) => ENOTSOCK);
    fails!(connect(fd, &address, length) => ENOTSOCK);
    fails!(listen(fd, 1) => ENOTSOCK);
    fails!(sendto(fd, b"x", 1, 0, 0, 0) => ENOTSOCK);
    fails!(recvfrom(fd, &mut [0u8; 1], 1, 0, 0, 0) => ENOTSOCK);
    fails!(getsockname(fd, &mut [0u8; 8], &mut 8u32) => ENOTSOCK);
    fails!(getpeername(fd, &mut [0u8; 8], &mut 8u32) => ENOTSOCK);
    fails!(getsockopt(fd, SOL_SOCKET, SO_TYPE, &mut 0i32, &mut 4u32) => ENOTSOCK);
    fails!(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &1i32, 4) => ENOTSOCK);
    fails!(shutdown(fd, SHUT_RD) => ENOTSOCK);
    fails!(sendmsg(fd, &message(&[], &mut []), 0) => ENOTSOCK);
    fails!(recvmsg(fd, &mut message(&[], &mut []), 0) => ENOTSOCK);
}
