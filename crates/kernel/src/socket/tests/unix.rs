//! Unix sockets.

use super::*;
use crate::Errno;
use crate::fs::pipe::Pipe;
use alloc::format;
use insula_abi::general as c;
use insula_abi::net as n;
use insula_abi::socket::Ucred;

const RIGHTS: u32 = n::SCM_RIGHTS;

fn address(name: &[u8]) -> Vec<u8> {
    let mut bytes = (n::AF_UNIX as u16).to_ne_bytes().to_vec();
    bytes.extend_from_slice(name);
    bytes
}

fn listening(program: &Program, name: &[u8], backlog: u64) -> u64 {
    let fd = program.socket(n::AF_UNIX, n::SOCK_STREAM);
    assert_eq!(program.bind(fd, &address(name)), Ok(0));
    assert_eq!(program.call(Sysno::listen, &[fd, backlog]), Ok(0));
    fd
}

fn rights(program: &Program, to: u64, fds: &[u64]) -> Result<u64> {
    let data: Vec<u8> = fds.iter().flat_map(|fd| (*fd as i32).to_ne_bytes()).collect();
    program.send_control(to, b"x", &item(n::SOL_SOCKET, RIGHTS, &data))
}

fn in_flight(program: &Program) -> usize {
    program.world.kernel.sockets.unix.flights.count()
}

#[test]
fn streams_flow_and_end() {
    let p = Program::new();
    let (one, other) = p.pair(n::SOCK_STREAM);
    assert_eq!((p.write(one, b"hello "), p.write(one, b"world")), (Ok(6), Ok(5)));
    assert_eq!(p.receive(other, 8, n::MSG_PEEK).as_deref(), Ok(&b"hello wo"[..]));
    assert_eq!(p.receive(other, 8, 0).as_deref(), Ok(&b"hello wo"[..]));
    assert_eq!(p.receive(other, 8, 0).as_deref(), Ok(&b"rld"[..]));
    assert_eq!(p.receive(other, 8, 0), Err(Errno::EAGAIN));
    assert_eq!(p.poll(other), Events::WRITABLE);
    assert_eq!(p.write(other, b"unread"), Ok(6));
    p.close(one);
    assert!(p.poll(other).contains(Events::HUP | Events::RDHUP | Events::IN));
    assert_eq!(p.send(other, b"x", n::MSG_NOSIGNAL), Err(Errno::EPIPE));
    assert_eq!(p.receive(other, 8, 0), Err(Errno::ECONNRESET), "what was sent was not read");
    assert_eq!(p.receive(other, 8, 0).as_deref(), Ok(&b""[..]), "told once");
}

#[test]
fn a_reader_waits_and_a_writer_fills_the_buffer() {
    let p = Program::new();
    let (one, other) = p.pair(n::SOCK_STREAM);
    let mut read = p.begin(Sysno::read, &[other, p.memory, 10]);
    assert!(read.sleeps());
    assert_eq!(p.write(one, b"abc"), Ok(3));
    assert_eq!(read.woken(), Some(Ok(3)));
    let size = 1 << 18;
    let mut write = p.begin(Sysno::write, &[one, p.memory, size]);
    assert!(write.sleeps());
    let mut got = 0;
    while got < size {
        got += p.receive(other, 50_000, 0).map(|bytes| bytes.len() as u64).expect("something");
        write.woken();
    }
    assert_eq!((got, write.result()), (size, Ok(size)));
    // All is waited for, and a timeout gives what there is.
    assert_eq!(p.set_option(other, n::SOL_SOCKET, n::SO_RCVTIMEO, [0u64, 5000].as_bytes()), Ok(0));
    let mut read = p.begin(Sysno::recvfrom, &[other, p.memory, 10, n::MSG_WAITALL.into()]);
    assert_eq!(p.write(one, b"abc"), Ok(3));
    assert_eq!(read.woken(), None);
    p.world.advance(5_000_000);
    assert_eq!(read.poll(), Some(Ok(3)));
    let mut read = p.begin(Sysno::read, &[other, p.memory, 10]);
    p.world.advance(5_000_000);
    assert_eq!(read.poll(), Some(Err(Errno::EAGAIN)));
}

#[test]
fn halves_are_shut() {
    let p = Program::new();
    let (one, other) = p.pair(n::SOCK_STREAM);
    assert_eq!(p.write(one, b"last"), Ok(4));
    assert_eq!(p.call(Sysno::shutdown, &[one, 1]), Ok(0));
    assert_eq!(p.send(one, b"x", n::MSG_NOSIGNAL), Err(Errno::EPIPE));
    assert_eq!(p.receive(other, 9, 0).as_deref(), Ok(&b"last"[..]));
    assert_eq!(p.receive(other, 9, 0).as_deref(), Ok(&b""[..]));
    assert_eq!(p.write(other, b"back"), Ok(4));
    assert_eq!(p.call(Sysno::shutdown, &[one, 0]), Ok(0));
    assert_eq!(p.send(other, b"x", n::MSG_NOSIGNAL), Err(Errno::EPIPE));
    assert!(p.poll(one).contains(Events::HUP));
    assert_eq!(p.call(Sysno::shutdown, &[one, 3]), Err(Errno::EINVAL));
}

#[test]
fn records_and_datagrams_keep_their_bounds() {
    for kind in [n::SOCK_SEQPACKET, n::SOCK_DGRAM] {
        let p = Program::new();
        let (one, other) = p.pair(kind);
        for text in [&b"first"[..], b"", b"third", b"fourth"] {
            assert_eq!(p.write(one, text), Ok(text.len() as u64));
        }
        assert_eq!(p.receive(other, 9, n::MSG_PEEK).as_deref(), Ok(&b"first"[..]));
        assert_eq!(p.receive(other, 9, 0).as_deref(), Ok(&b"first"[..]));
        assert_eq!(p.receive(other, 9, 0).as_deref(), Ok(&b""[..]));
        assert_eq!(p.receive_control(other, 2, 0, n::MSG_TRUNC).map(|r| (r.0, r.2)), Ok((5, n::MSG_TRUNC)));
        assert_eq!(p.receive(other, 9, 0).as_deref(), Ok(&b"fourth"[..]), "what didn't fit is lost");
        assert_eq!(p.call(Sysno::write, &[one, p.memory, 1 << 18]), Err(Errno::EMSGSIZE));
        let mut count = 0;
        while p.send(one, b"", n::MSG_DONTWAIT) == Ok(0) {
            count += 1;
            assert!(count < 10_000, "empty ones cost too");
        }
        let mut write = p.begin(Sysno::write, &[one, p.memory, 1]);
        assert!(write.sleeps());
        while write.woken().is_none() {
            p.receive(other, 9, 0).expect("something");
        }
    }
}

#[test]
fn names_are_files_or_bytes() {
    let p = Program::new();
    let server = listening(&p, b"/socket", 5);
    let client = p.socket(n::AF_UNIX, n::SOCK_STREAM);
    assert_eq!(p.poll(client), Events::WRITABLE | Events::HUP);
    assert_eq!(p.connect(client, &address(b"/socket\0")), Ok(0));
    assert_eq!(p.connect(client, &address(b"/socket")), Err(Errno::EISCONN));
    assert_eq!(p.write(client, b"early"), Ok(5));
    let accepted = p.call(Sysno::accept, &[server, 0, 0]).expect("accepted");
    assert_eq!(p.receive(accepted, 9, 0).as_deref(), Ok(&b"early"[..]));
    for (call, fd) in [(Sysno::getsockname, accepted), (Sysno::getsockname, server), (Sysno::getpeername, client)] {
        assert_eq!(p.name(call, fd), Ok(address(b"/socket\0")));
    }
    assert_eq!(p.name(Sysno::getpeername, accepted), Ok(address(b"")));
    assert_eq!(p.name(Sysno::getpeername, server), Err(Errno::ENOTCONN));
    let late = p.socket(n::AF_UNIX, n::SOCK_STREAM);
    assert_eq!(p.bind(late, &address(b"/socket")), Err(Errno::EADDRINUSE));
    assert_eq!(p.bind(late, &address(b"/no/such")), Err(Errno::ENOENT));
    p.close(server);
    assert_eq!(p.connect(late, &address(b"/socket")), Err(Errno::ECONNREFUSED));
    assert_eq!(p.call(Sysno::unlink, &[p.bytes(b"/socket\0")]), Ok(0));
    assert_eq!(p.connect(late, &address(b"/socket")), Err(Errno::ENOENT));
    // Abstract names are gone with their sockets; their length is part of them.
    let server = listening(&p, b"\0name", 5);
    assert_eq!(p.connect(late, &address(b"\0name\0")), Err(Errno::ECONNREFUSED));
    assert_eq!(p.connect(late, &address(b"\0name")), Ok(0));
    p.close(server);
    assert_eq!(p.receive(late, 1, 0), Err(Errno::ECONNRESET), "nobody has accepted it");
    listening(&p, b"\0name", 5);
    let any = p.socket(n::AF_UNIX, n::SOCK_DGRAM);
    assert_eq!(p.bind(any, &address(b"")), Ok(0));
    assert_eq!(p.name(Sysno::getsockname, any).map(|name| name.len()), Ok(8));
}

#[test]
fn a_backlog_fills_and_makes_others_wait() {
    let p = Program::new();
    let server = listening(&p, b"\0s", 0);
    let client = |flags| p.socket(n::AF_UNIX, n::SOCK_STREAM | flags);
    assert_eq!(p.connect(client(0), &address(b"\0s")), Ok(0));
    assert_eq!(p.connect(client(c::O_NONBLOCK), &address(b"\0s")), Err(Errno::EAGAIN));
    let name = p.bytes(&address(b"\0s"));
    let mut waiting = p.begin(Sysno::connect, &[client(0), name, 4]);
    assert!(waiting.sleeps());
    assert!(p.call(Sysno::accept, &[server, 0, 0]).is_ok());
    assert_eq!(waiting.woken(), Some(Ok(0)));
    let mut waiting = p.begin(Sysno::connect, &[client(0), name, 4]);
    p.close(server);
    assert_eq!(waiting.woken(), Some(Err(Errno::ECONNREFUSED)));
    // Who waits in accept is told when there will never be anybody.
    let server = listening(&p, b"\0t", 0);
    let mut accept = p.begin(Sysno::accept, &[server, 0, 0]);
    assert!(accept.sleeps());
    assert_eq!(p.call(Sysno::shutdown, &[server, 2]), Ok(0));
    assert_eq!(accept.woken(), Some(Err(Errno::EINVAL)));
}

#[test]
fn datagrams_find_whom_they_are_for() {
    let p = Program::new();
    let bound = |name: &[u8]| {
        let fd = p.socket(n::AF_UNIX, n::SOCK_DGRAM);
        assert_eq!(p.bind(fd, &address(name)), Ok(0));
        fd
    };
    let (server, client, other) = (bound(b"\0server"), bound(b"\0client"), bound(b"\0other"));
    assert_eq!(p.send_to(client, b"hello", 0, &address(b"\0server")), Ok(5));
    p.task.mm().put(p.memory, &110u32).expect("memory");
    assert_eq!(p.call(Sysno::recvfrom, &[server, p.memory + 256, 9, 0, p.memory + 8, p.memory]), Ok(5));
    assert_eq!(p.task.mm().get::<u32>(p.memory), Ok(9));
    assert_eq!(p.connect(server, &address(b"\0client")), Ok(0));
    assert_eq!(p.send_to(other, b"x", 0, &address(b"\0server")), Err(Errno::EPERM));
    assert_eq!(p.write(other, b"x"), Err(Errno::ENOTCONN));
    // Many wait at one who doesn't look: the sender waits too, and is told.
    assert_eq!(p.connect(other, &address(b"\0client")), Ok(0));
    let mut count = 0;
    while p.send(other, b"x", n::MSG_DONTWAIT).is_ok() {
        count += 1;
    }
    assert_eq!(count, 11);
    assert!(!p.poll(other).contains(Events::OUT));
    let mut write = p.begin(Sysno::write, &[other, p.memory, 1]);
    assert!(write.sleeps());
    assert!(p.receive(client, 9, 0).is_ok());
    assert_eq!(write.woken(), Some(Ok(1)));
    p.close(client);
    assert_eq!(p.write(other, b"x"), Err(Errno::ECONNREFUSED));
    assert_eq!(p.write(other, b"x"), Err(Errno::ENOTCONN));
}

#[test]
fn open_files_travel() {
    let p = Program::new();
    for kind in [n::SOCK_STREAM, n::SOCK_DGRAM, n::SOCK_SEQPACKET] {
        let (one, other) = p.pair(kind);
        let (read, write) = Pipe::ends(1);
        let (read, write) = (testing::install(&p.task, read, 0), testing::install(&p.task, write, c::O_WRONLY));
        assert_eq!(p.write(one, b"before"), Ok(6));
        assert_eq!(rights(&p, one, &[write, one]), Ok(1));
        assert_eq!(p.write(one, b"after"), Ok(5));
        p.close(write);
        assert_eq!(in_flight(&p), 2);
        if kind != n::SOCK_STREAM {
            assert_eq!(p.receive(other, 9, 0).as_deref(), Ok(&b"before"[..]));
        }
        let (count, control, flags) = p.receive_control(other, 100, 64, 0).expect("received");
        // A read doesn't go on past bytes that carry descriptors.
        assert_eq!((count, flags & n::MSG_CTRUNC), (if kind == n::SOCK_STREAM { 7 } else { 1 }, 0));
        let fds = numbers(&control);
        assert_eq!((fds.len(), in_flight(&p)), (2, 0));
        assert_eq!(p.write_file(fds[0] as u64), Ok(1));
        for fd in [one, other, read, fds[0] as u64, fds[1] as u64] {
            p.close(fd);
        }
    }
    // Those that find no room are closed, and that is told.
    let (one, other) = p.pair(n::SOCK_STREAM);
    assert_eq!(rights(&p, one, &[one, one, one]), Ok(1));
    let (_, control, flags) = p.receive_control(other, 9, 24, 0).expect("received");
    assert_eq!((numbers(&control).len(), flags & n::MSG_CTRUNC), (2, n::MSG_CTRUNC));
    assert_eq!(rights(&p, one, &[999]), Err(Errno::EBADF));
    assert_eq!(rights(&p, one, &[one; 254]), Err(Errno::EINVAL));
    assert_eq!(rights(&p, one, &[one; 253]), Ok(1));
    assert_eq!(p.receive(other, 9, 0).map(|bytes| bytes.len()), Ok(1));
    assert_eq!(in_flight(&p), 0);
}

impl Program {
    fn write_file(&self, fd: u64) -> Result<u64> {
        self.call(Sysno::write, &[fd, self.memory, 1])
    }
}

#[test]
fn cycles_in_flight_are_collected() {
    let p = Program::new();
    let (read, write) = Pipe::ends(1);
    let (read, write) = (testing::install(&p.task, read, c::O_NONBLOCK), testing::install(&p.task, write, c::O_WRONLY));
    let (one, other) = p.pair(n::SOCK_STREAM);
    let (third, fourth) = p.pair(n::SOCK_DGRAM);
    // Each lies in a queue that only the others can read; the pipe's end is among them.
    assert_eq!(rights(&p, one, &[other, fourth, write]), Ok(1));
    assert_eq!(rights(&p, third, &[other, fourth]), Ok(1));
    for fd in [other, fourth, write, one, third] {
        p.close(fd);
    }
    assert_eq!(in_flight(&p), 0);
    assert_eq!(p.call(Sysno::read, &[read, p.memory, 1]), Ok(0), "the writing end is closed");
    // What can still be received stays.
    let (one, other) = p.pair(n::SOCK_STREAM);
    let (third, fourth) = p.pair(n::SOCK_STREAM);
    assert_eq!(rights(&p, third, &[fourth]), Ok(1));
    assert_eq!(rights(&p, one, &[fourth]), Ok(1));
    p.close(fourth);
    p.close(third);
    assert_eq!(in_flight(&p), 2);
    let (_, control, _) = p.receive_control(other, 9, 64, 0).expect("received");
    let (_, control, _) = p.receive_control(numbers(&control)[0] as u64, 9, 64, 0).expect("received");
    assert_eq!((numbers(&control).len(), in_flight(&p)), (1, 0));
}

#[test]
fn a_long_chain_in_flight_is_closed_without_deep_recursion() {
    let p = Program::new();
    let (mut inner, mut end) = p.pair(n::SOCK_STREAM);
    for _ in 0..20_000 {
        let (one, other) = p.pair(n::SOCK_STREAM);
        assert_eq!(rights(&p, one, &[inner, end]), Ok(1));
        p.close(inner);
        p.close(end);
        (inner, end) = (one, other);
    }
    p.close(inner);
    p.close(end);
    assert_eq!(in_flight(&p), 0);
}

#[test]
fn credentials_travel_and_are_checked() {
    let p = Program::new();
    let (one, other) = p.pair(n::SOCK_STREAM);
    assert_eq!(p.set_option(other, n::SOL_SOCKET, n::SO_PASSCRED, &1i32.to_ne_bytes()), Ok(0));
    assert_eq!(p.write(one, b"x"), Ok(1));
    let (_, control, _) = p.receive_control(other, 9, 64, 0).expect("received");
    assert_eq!(numbers(&control), [p.task.process.pid, 0, 0]);
    let claim = |pid, uid| item(n::SOL_SOCKET, n::SCM_CREDENTIALS, Ucred { pid, uid, gid: 0 }.as_bytes());
    assert_eq!(p.send_control(one, b"x", &claim(30_000, 0)), Err(Errno::ESRCH));
    assert_eq!(p.send_control(one, b"x", &claim(p.task.process.pid, 77)), Ok(1));
    let (_, control, _) = p.receive_control(other, 9, 64, 0).expect("received");
    assert_eq!(numbers(&control)[1], 77);
    let mut nobody = (*p.task.credentials()).clone();
    nobody.capabilities.effective = 0;
    p.task.set_credentials(nobody);
    assert_eq!(p.send_control(one, b"x", &claim(p.task.process.pid, 77)), Err(Errno::EPERM));
    assert_eq!(p.option(other, n::SOL_SOCKET, n::SO_PEERCRED), Ok(p.task.process.pid));
}

#[test]
fn options_and_arguments() {
    let p = Program::new();
    let (one, _other) = p.pair(n::SOCK_STREAM);
    let set = |name, value: i32| p.set_option(one, n::SOL_SOCKET, name, &value.to_ne_bytes());
    assert_eq!((set(n::SO_SNDBUF, 20_000), p.option(one, n::SOL_SOCKET, n::SO_SNDBUF)), (Ok(0), Ok(40_000)));
    assert_eq!((set(9999, 1), set(n::SO_TYPE, 1)), (Err(Errno::ENOPROTOOPT), Err(Errno::ENOPROTOOPT)));
    assert_eq!(p.set_option(one, n::SOL_SOCKET, n::SO_SNDBUF, &[1, 2]), Err(Errno::EINVAL));
    assert_eq!(p.option(one, 9999, 1), Err(Errno::EOPNOTSUPP));
    assert_eq!((p.option(one, 1, n::SO_TYPE), p.option(one, 1, n::SO_DOMAIN)), (Ok(1), Ok(1)));
    let socket = |domain, kind, protocol| p.call(Sysno::socket, &[domain, kind, protocol]);
    assert_eq!(socket(1, 1, 2), Err(Errno::EPROTONOSUPPORT));
    assert_eq!(socket(1, 4, 0), Err(Errno::ESOCKTNOSUPPORT));
    assert_eq!(socket(1, 99, 0), Err(Errno::EINVAL));
    assert_eq!(socket(9999, 1, 0), Err(Errno::EAFNOSUPPORT));
    let (read, _write) = Pipe::ends(1);
    let pipe = testing::install(&p.task, read, 0);
    assert_eq!(p.call(Sysno::listen, &[pipe, 1]), Err(Errno::ENOTSOCK));
    assert_eq!(p.bind(one, &address(&[b'n'; 109])), Err(Errno::EINVAL));
    let description = p.task.file(one as i32).expect("open");
    assert!(format!("{:?}", core::str::from_utf8(&description.file.describe())).contains("socket:["));
}

#[test]
fn many_messages_in_one_call() {
    let p = Program::new();
    let (one, other) = p.pair(n::SOCK_DGRAM);
    let data = p.bytes(b"abc");
    let headers: Vec<u8> = (1..=3u64)
        .flat_map(|len| {
            let iov = p.bytes([data, len].as_bytes());
            let header = Msghdr { iov, iovlen: 1, ..Msghdr::default() };
            let mut bytes = header.as_bytes().to_vec();
            bytes.resize(64, 0);
            bytes
        })
        .collect();
    let at = p.bytes(&headers);
    assert_eq!(p.call(Sysno::sendmmsg, &[one, at, 3, 0]), Ok(3));
    assert_eq!(p.task.mm().get::<u32>(at + 2 * 64 + 56), Ok(3));
    assert_eq!(p.call(Sysno::recvmmsg, &[other, at, 3, 0x1_0000, 0]), Ok(3));
    assert_eq!(p.call(Sysno::recvmmsg, &[other, at, 3, n::MSG_DONTWAIT.into(), 0]), Err(Errno::EAGAIN));
    let mut receive = p.begin(Sysno::recvmmsg, &[other, at, 2, 0, 0]);
    assert_eq!(p.write(one, b"1"), Ok(1));
    assert_eq!(receive.woken(), None, "both are waited for");
    assert_eq!(p.write(one, b"2"), Ok(1));
    assert_eq!(receive.woken(), Some(Ok(2)));
}
