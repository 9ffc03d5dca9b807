//! Sockets as netlink tells of them, sock_diag(7), and as `/proc/net` does: what ss(8) shows.

use super::prelude::*;
use super::tcp::{bind4, connect4, tcp, udp};
use crate::sys::plain::Plain;
use crate::sys::sockets::{IP6, need_loopback, pair, port, unix};

tests!("diag":
    listeners_are_told, connections_are_told, one_is_asked_for, who_asks_as_in_old_times, datagram_sockets_are_told, raw_sockets_are_told,
    expressions_choose, expressions_are_checked, unix_sockets_are_told, one_unix_socket_is_asked_for, unix_listeners_are_told,
    arguments, both_tell_the_same, unnamed_unix_sockets_are_shown,
);

const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
const ALL: u32 = u32::MAX;
const ESTABLISHED: u8 = 1;
const LISTEN: u8 = 10;
const CLOSE: u8 = 7;

/// What `unix_diag_req` can ask for: name, file, peer, who waits, bytes that wait.
const SHOW_ALL: u32 = 0x1f;

fn diag() -> usize {
    works!(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG))
}

/// Sends a request, and gives what comes: kinds, and what follows the head; an error is its number.
fn ask(fd: usize, kind: u16, flags: u16, body: &[u8]) -> Result<Vec<Vec<u8>>, i32> {
    let mut request = ((16 + body.len()) as u32).to_ne_bytes().to_vec();
    request.extend(kind.to_ne_bytes());
    request.extend((NLM_F_REQUEST as u16 | flags).to_ne_bytes());
    request.extend([7, 0, 0, 0, 0, 0, 0, 0]);
    request.extend(body);
    gives!(sendto(fd, &request[..], request.len(), 0, 0, 0) => request.len());
    let mut messages = Vec::new();
    loop {
        let mut buffer = vec![0u8; 65536];
        let count = works!(recvfrom(fd, &mut buffer[..], 65536, 0, 0, 0));
        let mut rest = &buffer[..count];
        while rest.len() >= 16 {
            let length = field::<u32>(rest, 0) as usize;
            match i32::from(field::<u16>(rest, 4)) {
                NLMSG_DONE => match field::<i32>(rest, 16) {
                    0 => return Ok(messages),
                    error => return Err(-error),
                },
                NLMSG_ERROR => return Err(-field::<i32>(rest, 16)),
                _ => messages.push(rest[16..length].to_vec()),
            }
            if flags == 0 {
                return Ok(messages);
            }
            rest = &rest[length.next_multiple_of(4).min(rest.len())..];
        }
    }
}

fn field<T: Plain + Default>(bytes: &[u8], at: usize) -> T {
    bytes.get(at..).and_then(from_bytes).unwrap_or_default()
}

/// `struct inet_diag_req_v2`, for those with this port.
fn inet(family: c_int, protocol: c_int, states: u32, port: u16) -> Vec<u8> {
    let mut body = vec![family as u8, protocol as u8, 0, 0];
    body.extend(states.to_ne_bytes());
    body.extend(port.to_be_bytes());
    body.resize(56, 0);
    body
}

fn dump(body: &[u8]) -> Vec<Vec<u8>> {
    ask(diag(), BY_FAMILY, NLM_F_DUMP as u16, body).unwrap_or_default()
}

/// Of an answer: family, state, ports.
fn told(answer: &[u8]) -> (u8, u8, u16, u16) {
    (answer[0], answer[1], u16::from_be(field(answer, 4)), u16::from_be(field(answer, 6)))
}

fn inode(fd: usize) -> u32 {
    let mut status: libc::stat = zeroed();
    works!(fstat(fd, &mut status));
    status.st_ino as u32
}

fn attribute(answer: &[u8], head: usize, kind: u16) -> Option<Vec<u8>> {
    let mut rest = answer.get(head..)?;
    while rest.len() >= 4 {
        let length = field::<u16>(rest, 0) as usize;
        if field::<u16>(rest, 2) == kind {
            return rest.get(4..length).map(<[u8]>::to_vec);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

fn listener() -> (usize, u16) {
    need_loopback(AF_INET);
    let fd = tcp(AF_INET);
    eq!(bind4(fd, 0), Ok(0));
    gives!(listen(fd, 5) => 0);
    (fd, port(fd))
}

fn listeners_are_told() {
    let (fd, port) = listener();
    let client = tcp(AF_INET);
    eq!(connect4(client, port), Ok(0));
    let answers = dump(&inet(AF_INET, IPPROTO_TCP, 1 << LISTEN, port));
    eq!(answers.len(), 1);
    let answer = &answers[0];
    eq!(told(answer), (AF_INET as u8, LISTEN, port, 0));
    eq!(&answer[8..12], &[127, 0, 0, 1]);
    // Who waits to be accepted, and how many may.
    eq!((field::<u32>(answer, 56), field::<u32>(answer, 60)), (1, 5));
    eq!((field::<u32>(answer, 64), field::<u32>(answer, 68)), (works!(getuid()) as u32, inode(fd)));
    eq!(attribute(answer, 72, 8), Some(vec![0]));
}

fn connections_are_told() {
    let (fd, server_port) = listener();
    let client = tcp(AF_INET);
    eq!(connect4(client, server_port), Ok(0));
    let server = works!(accept4(fd, 0, 0, 0));
    gives!(write(client, b"hello", 5) => 5);
    gives!(shutdown(client, SHUT_WR) => 0);
    let answers = dump(&inet(AF_INET, IPPROTO_TCP, ALL & !(1 << LISTEN), server_port));
    let mine = answers.iter().find(|answer| field::<u32>(answer, 68) == inode(server)).cloned().unwrap_or_default();
    eq!((told(&mine).2, told(&mine).3, told(&mine).1), (server_port, port(client), 8));
    // What it has received, and the end of what comes.
    is!((5..=6).contains(&field::<u32>(&mine, 56)), "bytes to read, and perhaps the end");
    eq!(attribute(&mine, 72, 8), Some(vec![1]));
    let theirs = dump(&inet(AF_INET, IPPROTO_TCP, ALL, port(client)));
    eq!((theirs.len(), theirs.first().map(|answer| attribute(answer, 72, 8))), (1, Some(Some(vec![2]))));
}

fn one_is_asked_for() {
    let (fd, port) = listener();
    let mut body = inet(AF_INET, IPPROTO_TCP, ALL, port);
    body[12..16].copy_from_slice(&[127, 0, 0, 1]);
    body[48..56].fill(0xff);
    let answers = ask(diag(), BY_FAMILY, 0, &body).unwrap_or_default();
    eq!((answers.len(), told(&answers[0]).2, field::<u32>(&answers[0], 68)), (1, port, inode(fd)));
    // Another cookie is another socket's.
    body[48..56].fill(0x77);
    eq!(ask(diag(), BY_FAMILY, 0, &body), Err(ENOENT));
    works!(close(fd));
    body[48..56].fill(0xff);
    eq!(ask(diag(), BY_FAMILY, 0, &body), Err(ENOENT));
}

/// As before Linux 3.3: `struct inet_diag_req`.
fn who_asks_as_in_old_times() {
    let (fd, port) = listener();
    let mut body = vec![AF_INET as u8, 0, 0, 0];
    body.extend(port.to_be_bytes());
    body.resize(52, 0);
    body.extend((1u32 << LISTEN).to_ne_bytes());
    body.resize(60, 0);
    let answers = ask(diag(), 18, NLM_F_DUMP as u16, &body).unwrap_or_default();
    eq!((answers.len(), answers.first().map(|answer| field::<u32>(answer, 68))), (1, Some(inode(fd))));
    eq!(ask(diag(), 18, NLM_F_DUMP as u16, &body[..40]), Err(EINVAL));
}

fn datagram_sockets_are_told() {
    need_loopback(AF_INET);
    let fd = udp(AF_INET);
    eq!(bind4(fd, 0), Ok(0));
    let answers = dump(&inet(AF_INET, IPPROTO_UDP, ALL, port(fd)));
    if answers.is_empty() {
        skip!("the host can't tell of UDP (CONFIG_INET_UDP_DIAG)");
    }
    eq!((answers.len(), told(&answers[0]), field::<u32>(&answers[0], 68)), (1, (AF_INET as u8, CLOSE, port(fd), 0), inode(fd)));
    let client = udp(AF_INET);
    eq!(connect4(client, port(fd)), Ok(0));
    let answers = dump(&inet(AF_INET, IPPROTO_UDP, ALL, port(client)));
    eq!(answers.first().map(|answer| told(answer)), Some((AF_INET as u8, ESTABLISHED, port(client), port(fd))));
    need_loopback(AF_INET6);
    let six = udp(AF_INET6);
    gives!(bind(six, &super::tcp::any6(0), IP6) => 0);
    let answers = dump(&inet(AF_INET6, IPPROTO_UDP, ALL, port(six)));
    eq!(answers.first().map(|answer| told(answer)), Some((AF_INET6 as u8, CLOSE, port(six), 0)));
    eq!(answers.first().and_then(|answer| attribute(answer, 72, 11)), Some(vec![0]));
}

fn raw_sockets_are_told() {
    need_root();
    let fd = works!(socket(AF_INET, SOCK_RAW, 252));
    let answers = match ask(diag(), BY_FAMILY, NLM_F_DUMP as u16, &inet(AF_INET, IPPROTO_RAW, ALL, 0)) {
        Ok(answers) if !answers.is_empty() => answers,
        _ => skip!("the host can't tell of raw sockets (CONFIG_INET_RAW_DIAG)"),
    };
    let mine = answers.iter().find(|answer| field::<u32>(answer, 68) == inode(fd));
    eq!(mine.map(|answer| told(answer)), Some((AF_INET as u8, CLOSE, 252, 0)));
}

/// A request with an expression.
fn with_code(mut body: Vec<u8>, code: &[u8]) -> Vec<u8> {
    body.extend(((4 + code.len()) as u16).to_ne_bytes());
    body.extend(1u16.to_ne_bytes());
    body.extend(code);
    body
}

/// One step, which leads on by `yes` and `no` bytes.
fn step(operation: u8, yes: u8, no: u16, more: &[u8]) -> Vec<u8> {
    let mut code = vec![operation, yes];
    code.extend(no.to_ne_bytes());
    code.extend(more);
    code
}

fn expressions_choose() {
    let (_, one) = listener();
    let (_, other) = listener();
    let port = |port: u16| [[0, 0], port.to_ne_bytes()].concat();
    let chosen = |code: &[u8]| {
        let answers = dump(&with_code(inet(AF_INET, IPPROTO_TCP, 1 << LISTEN, 0), code));
        let mut ports: Vec<_> = answers.iter().map(|answer| told(answer).2).filter(|port| [one, other].contains(port)).collect();
        ports.sort_unstable();
        ports
    };
    let mut both = [one, other];
    both.sort_unstable();
    // Both bounds; from one on; the same by another operation; none of both.
    eq!(chosen(&[step(2, 8, 20, &port(one)), step(3, 8, 12, &port(one))].concat()), [one]);
    eq!(chosen(&step(2, 8, 12, &port(both[0]))), both);
    eq!(chosen(&step(2, 8, 12, &port(both[1]))), both[1..]);
    eq!(chosen(&step(11, 8, 12, &port(other))), [other]);
    eq!(chosen(&step(4, 8, 12, &port(1))), []);
    // By address: family, length of the prefix, any port.
    let host = |prefix: u8, ip: [u8; 4]| [&[AF_INET as u8, prefix, 0, 0, 0xff, 0xff, 0xff, 0xff][..], &ip[..]].concat();
    eq!(chosen(&step(7, 16, 20, &host(8, [127, 9, 9, 9]))), both);
    eq!(chosen(&step(7, 16, 20, &host(32, [127, 9, 9, 9]))), []);
    // One or the other: a jump over the second.
    let either = [step(11, 8, 12, &port(one)), step(1, 4, 12, &[]), step(11, 8, 12, &port(other))].concat();
    eq!(chosen(&either), both);
}

fn expressions_are_checked() {
    let request = |code: &[u8]| ask(diag(), BY_FAMILY, NLM_F_DUMP as u16, &with_code(inet(AF_INET, IPPROTO_TCP, ALL, 0), code));
    for wrong in [step(99, 4, 4, &[]), step(2, 8, 64, &[0; 4]), step(2, 3, 8, &[0; 4]), step(7, 16, 20, &[0; 4])] {
        eq!(request(&wrong), Err(EINVAL));
    }
}

/// `struct unix_diag_req`.
fn unix_request(states: u32, ino: u32) -> Vec<u8> {
    let mut body = vec![AF_UNIX as u8, 0, 0, 0];
    for number in [states, ino, SHOW_ALL, u32::MAX, u32::MAX] {
        body.extend(number.to_ne_bytes());
    }
    body
}

fn told_unix(fd: usize) -> Vec<u8> {
    dump(&unix_request(ALL, 0)).into_iter().find(|answer| field::<u32>(answer, 4) == inode(fd)).unwrap_or_default()
}

fn unix_sockets_are_told() {
    let (one, other) = pair(SOCK_STREAM);
    gives!(write(one, b"hello", 5) => 5);
    let answer = told_unix(other);
    if answer.is_empty() {
        skip!("the host can't tell of Unix sockets (CONFIG_UNIX_DIAG)");
    }
    eq!(answer[..3], [AF_UNIX as u8, SOCK_STREAM as u8, ESTABLISHED]);
    eq!(attribute(&answer, 16, 2), Some(inode(one).to_ne_bytes().to_vec()));
    eq!(attribute(&answer, 16, 0), None);
    eq!(attribute(&answer, 16, 4).map(|lengths| field::<u32>(&lengths, 0)), Some(5));
    eq!(attribute(&answer, 16, 6), Some(vec![0]));
    gives!(shutdown(one, SHUT_WR) => 0);
    eq!((attribute(&told_unix(one), 16, 6), attribute(&told_unix(other), 16, 6)), (Some(vec![2]), Some(vec![1])));
    let lonely = works!(socket(AF_UNIX, SOCK_DGRAM, 0));
    eq!((told_unix(lonely)[1..3].to_vec(), attribute(&told_unix(lonely), 16, 2)), (vec![SOCK_DGRAM as u8, CLOSE], None));
}

fn one_unix_socket_is_asked_for() {
    let (one, _) = pair(SOCK_SEQPACKET);
    match ask(diag(), BY_FAMILY, 0, &unix_request(0, inode(one))) {
        Ok(answers) => eq!((answers.len(), field::<u32>(&answers[0], 4)), (1, inode(one))),
        Err(_) => skip!("the host can't tell of Unix sockets (CONFIG_UNIX_DIAG)"),
    }
    let mut other = unix_request(0, inode(one));
    other[16..24].fill(0x55);
    eq!(ask(diag(), BY_FAMILY, 0, &other), Err(ESTALE));
    eq!(ask(diag(), BY_FAMILY, 0, &unix_request(0, 0)), Err(EINVAL));
    eq!(ask(diag(), BY_FAMILY, 0, &unix_request(0, u32::MAX)), Err(ENOENT));
}

fn unix_listeners_are_told() {
    let (path, length) = unix(b"socket");
    let server = works!(socket(AF_UNIX, SOCK_STREAM, 0));
    works!(bind(server, &path, length + 1));
    works!(listen(server, 3));
    let client = works!(socket(AF_UNIX, SOCK_STREAM, 0));
    works!(connect(client, &path, length + 1));
    let answer = told_unix(server);
    if answer.is_empty() {
        skip!("the host can't tell of Unix sockets (CONFIG_UNIX_DIAG)");
    }
    eq!(answer[2], LISTEN);
    // A path is told with what ends it, as it was given.
    eq!(attribute(&answer, 16, 0).map(|name| name[..6].to_vec()), Some(b"socket".to_vec()));
    let mut file: libc::stat = zeroed();
    works!(stat(c"socket", &mut file));
    eq!(attribute(&answer, 16, 1).map(|file| field::<u32>(&file, 0)), Some(file.st_ino as u32));
    eq!(attribute(&answer, 16, 3), Some(inode(client).to_ne_bytes().to_vec()));
    eq!(attribute(&answer, 16, 4), Some([1u32.to_ne_bytes(), 3u32.to_ne_bytes()].concat()));
    // Who isn't accepted yet has no number, and isn't told of.
    is!(dump(&unix_request(ALL, 0)).iter().all(|answer| field::<u32>(answer, 4) != 0), "numbers");
    eq!(attribute(&told_unix(client), 16, 2), Some(vec![0; 4]));
    let accepted = works!(accept(server, 0, 0));
    eq!(attribute(&told_unix(client), 16, 2), Some(inode(accepted).to_ne_bytes().to_vec()));
    eq!(attribute(&told_unix(accepted), 16, 2), Some(inode(client).to_ne_bytes().to_vec()));
    eq!(attribute(&told_unix(accepted), 16, 0).map(|name| name[..6].to_vec()), Some(b"socket".to_vec()));
    eq!(attribute(&told_unix(server), 16, 3), Some(vec![]));
}

fn arguments() {
    let fd = diag();
    eq!(ask(fd, BY_FAMILY, 0, &[AF_INET as u8; 1]), Err(EINVAL));
    eq!(ask(fd, BY_FAMILY, 0, &inet(200, IPPROTO_TCP, ALL, 0)), Err(EINVAL));
    eq!(ask(fd, BY_FAMILY, 0, &inet(AF_BLUETOOTH, IPPROTO_TCP, ALL, 0)), Err(ENOENT));
    eq!(ask(fd, BY_FAMILY, 0, &inet(AF_INET, 77, ALL, 0)), Err(ENOENT));
    eq!(ask(fd, BY_FAMILY, 0, &inet(AF_INET, IPPROTO_TCP, ALL, 1)), Err(ENOENT));
    // A protocol that has no room in the structure stands in an attribute.
    let mut further = inet(AF_INET, IPPROTO_TCP, ALL, 0);
    further.extend([8, 0, 3, 0, 0xff, 0xff, 0, 0]);
    eq!(ask(fd, BY_FAMILY, 0, &further), Err(ENOENT));
    eq!(ask(fd, BY_FAMILY, NLM_F_DUMP as u16, &inet(AF_INET, 77, ALL, 0)), Err(ENOENT));
    eq!(ask(fd, 99, 0, &inet(AF_INET, IPPROTO_TCP, ALL, 0)), Err(EINVAL));
    in_child(|| {
        let _ = sys!(setresuid(1000, 1000, 1000));
        let refused = ask(diag(), DESTROY, 0, &inet(AF_INET, IPPROTO_TCP, ALL, 1));
        is!(matches!(refused, Err(EPERM | EOPNOTSUPP | ENOENT)), "it ends nobody's socket");
        is!(ask(diag(), BY_FAMILY, NLM_F_DUMP as u16, &inet(AF_INET, IPPROTO_TCP, ALL, 0)).is_ok(), "everybody is told");
    });
}

fn both_tell_the_same() {
    let (fd, port) = listener();
    let client = tcp(AF_INET);
    eq!(connect4(client, port), Ok(0));
    let answers = dump(&inet(AF_INET, IPPROTO_TCP, ALL, port));
    let text = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let tail = format!(":{port:04X}");
    let rows = text.lines().skip(1).map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let mut shown: Vec<_> = rows
        .filter(|row| row[1].ends_with(&tail))
        .map(|row| (u8::from_str_radix(row[3], 16).unwrap_or(0), row[9].parse::<u32>().unwrap_or(1)))
        .collect();
    let mut told: Vec<_> = answers.iter().map(|answer| (answer[1], field::<u32>(answer, 68))).collect();
    shown.sort_unstable();
    told.sort_unstable();
    eq!(told, shown);
    eq!(told.last(), Some(&(LISTEN, inode(fd))));
}

fn unnamed_unix_sockets_are_shown() {
    let (one, other) = pair(SOCK_DGRAM);
    let text = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    for fd in [one, other] {
        let inode = inode(fd).to_string();
        let row = text.lines().find(|line| line.split_ascii_whitespace().nth(6) == Some(&inode)).unwrap_or_default();
        let fields: Vec<_> = row.split_ascii_whitespace().skip(3).collect();
        eq!(fields, ["00000000", "0002", "03", &inode]);
    }
}
