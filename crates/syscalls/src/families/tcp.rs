//! TCP over the loopback interface, IPv4 and IPv6.

use super::prelude::*;
use crate::sys::sockets::{IP4, IP6, Items, ip4, ip6, items, message, need_loopback, option, port};

tests!("tcp":
    socket_arguments, tcp4_connects, tcp6_connects, refused, nonblocking_connect, nonblocking_connect_refused,
    connect_arguments, reads_stop_at_urgent, names_of_both_sides, accept_inherits_nothing, half_close,
    reset_on_unread_data, sending_to_who_is_gone, linger_resets, shutdown_of_listeners, listening_is_needed,
    backlog, peeking_and_waiting, large_transfers, out_of_room, interrupted_accept, dual_stack, only_ipv6, mapped_addresses,
    unspecified_address_is_loopback, listening_shows_in_proc, sendfile_over_tcp, poll_of_tcp,
    connect_by_sending, told_beside_bytes,
);

pub(super) fn tcp(family: c_int) -> usize {
    works!(socket(family, SOCK_STREAM, 0))
}

pub(super) fn udp(family: c_int) -> usize {
    works!(socket(family, SOCK_DGRAM, 0))
}

pub(super) fn bind4(fd: usize, port: u16) -> Result<usize, Errno> {
    sys!(bind(fd, &ip4(port), IP4))
}

pub(super) fn connect4(fd: usize, port: u16) -> Result<usize, Errno> {
    sys!(connect(fd, &ip4(port), IP4))
}

/// A listening socket of the loopback interface, and its port.
pub(super) fn server4() -> (usize, u16) {
    need_loopback(AF_INET);
    let fd = tcp(AF_INET);
    eq!(bind4(fd, 0), Ok(0));
    gives!(listen(fd, 16) => 0);
    (fd, port(fd))
}

/// Two ends of a connection: who connected, and who accepted.
pub(super) fn connection() -> (usize, usize) {
    let (server, port) = server4();
    let client = tcp(AF_INET);
    eq!(connect4(client, port), Ok(0));
    let accepted = works!(accept4(server, 0, 0, 0));
    works!(close(server));
    (client, accepted)
}

/// A port that nobody listens on: one that was just given up.
fn free_port() -> u16 {
    let (server, port) = server4();
    works!(close(server));
    port
}

fn socket_arguments() {
    for family in [AF_INET, AF_INET6] {
        works!(socket(family, SOCK_STREAM, IPPROTO_TCP));
        works!(socket(family, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_UDP));
        fails!(socket(family, SOCK_STREAM, IPPROTO_UDP) => EPROTONOSUPPORT);
        fails!(socket(family, SOCK_DGRAM, IPPROTO_TCP) => EPROTONOSUPPORT);
        fails!(socket(family, SOCK_STREAM, 250) => EPROTONOSUPPORT);
        fails!(socket(family, SOCK_SEQPACKET, 0) => ESOCKTNOSUPPORT);
        fails!(socket(family, SOCK_STREAM, -1) => EINVAL);
        fails!(socket(family, SOCK_RAW, 0) => EPROTONOSUPPORT);
    }
    let fd = works!(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    eq!(
        (option(fd, SOL_SOCKET, SO_DOMAIN), option(fd, SOL_SOCKET, SO_PROTOCOL), option(fd, SOL_SOCKET, SO_TYPE)),
        (AF_INET, IPPROTO_TCP, SOCK_STREAM)
    );
}

fn talk(client: usize, accepted: usize) {
    let mut buffer = [0u8; 8];
    gives!(write(client, b"hello", 5) => 5);
    gives!(read(accepted, &mut buffer, 8) => 5);
    eq!(&buffer[..5], b"hello");
    gives!(sendto(accepted, b"world", 5, 0, 0, 0) => 5);
    gives!(recvfrom(client, &mut buffer, 8, 0, 0, 0) => 5);
    works!(close(client));
    gives!(read(accepted, &mut buffer, 8) => 0);
}

fn tcp4_connects() {
    let (client, accepted) = connection();
    talk(client, accepted);
}

fn tcp6_connects() {
    need_loopback(AF_INET6);
    let server = tcp(AF_INET6);
    gives!(bind(server, &ip6(0), IP6) => 0);
    gives!(listen(server, 1) => 0);
    let client = tcp(AF_INET6);
    gives!(connect(client, &ip6(port(server)), IP6) => 0);
    let (mut peer, mut length) = (ip6(0), 100u32);
    let accepted = works!(accept(server, &mut peer, &mut length));
    eq!(
        (length as usize, peer.sin6_family, peer.sin6_addr.s6_addr, u16::from_be(peer.sin6_port)),
        (IP6, AF_INET6 as u16, ip6(0).sin6_addr.s6_addr, port(client))
    );
    talk(client, accepted);
}

fn refused() {
    let port = free_port();
    let client = tcp(AF_INET);
    eq!(connect4(client, port), Err(Errno::ECONNREFUSED));
    eq!(option(client, SOL_SOCKET, SO_ERROR), 0);
    signal::ignore(SIGPIPE);
    fails!(write(client, b"x", 1) => EPIPE | ENOTCONN);
    // One may try again with the same socket.
    let (_server, open) = server4();
    eq!(connect4(client, open), Ok(0));
}

/// Waits until one of these events is there, and gives those that are.
pub(super) fn ready(fd: usize, events: i16) -> i16 {
    let mut list = [pollfd { fd: fd as c_int, events, revents: 0 }];
    gives!(poll(&mut list, 1, -1) => 1);
    list[0].revents
}

fn nonblocking_connect() {
    let (server, port) = server4();
    let client = works!(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    let first = connect4(client, port);
    is!(first == Err(Errno::EINPROGRESS) || first == Ok(0), "it to be under way: {first:?}");
    eq!(ready(client, POLLOUT) & POLLOUT, POLLOUT);
    eq!(option(client, SOL_SOCKET, SO_ERROR), 0);
    // The first attempt after that succeeds, the next is one too many.
    if first.is_err() {
        eq!(connect4(client, port), Ok(0));
    }
    eq!(connect4(client, port), Err(Errno::EISCONN));
    works!(accept(server, 0, 0));
}

fn nonblocking_connect_refused() {
    let port = free_port();
    let client = works!(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    let first = connect4(client, port);
    if first == Err(Errno::EINPROGRESS) {
        is!(ready(client, POLLOUT) & POLLERR != 0, "an error");
        eq!(option(client, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
        // Told once.
        eq!(option(client, SOL_SOCKET, SO_ERROR), 0);
    } else {
        eq!(first, Err(Errno::ECONNREFUSED));
    }
}

fn connect_arguments() {
    let (server, port) = server4();
    let client = tcp(AF_INET);
    fails!(connect(client, BAD, IP4) => EFAULT);
    fails!(connect(client, &ip4(port), 8) => EINVAL);
    fails!(connect(client, &ip4(port), 1000) => EINVAL);
    fails!(connect(client, &ip4(port), -1) => EINVAL);
    fails!(connect(-1, &ip4(port), IP4) => EBADF);
    fails!(connect(client, &ip6(port), IP6) => EAFNOSUPPORT);
    fails!(connect(server, &ip4(port), IP4) => EISCONN);
    fails!(sendto(client, b"x", 1, MSG_NOSIGNAL, 0, 0) => EPIPE);
    fails!(recvfrom(client, &mut [0u8; 1], 1, 0, 0, 0) => ENOTCONN);
    fails!(getpeername(client, &mut ip4(0), &mut 16u32) => ENOTCONN);
    fails!(shutdown(client, SHUT_WR) => ENOTCONN);
}

fn reads_stop_at_urgent() {
    const SIOCATMARK: u32 = 0x8905;
    let (server, port) = server4();
    let client = tcp(AF_INET);
    eq!(connect4(client, port), Ok(0));
    let accepted = works!(accept(server, 0, 0));
    gives!(sendto(client, b"hello", 5, MSG_OOB, 0, 0) => 5);
    gives!(sendto(client, b"world", 5, 0, 0, 0) => 5);
    let mut poll_one = pollfd { fd: accepted as i32, events: POLLPRI, revents: 0 };
    gives!(poll(&mut poll_one, 1, -1) => 1);
    let mut buffer = [0u8; 10];
    gives!(recvfrom(accepted, &mut buffer, 10, MSG_OOB, 0, 0) => 1);
    eq!(buffer[0], b'o');
    // It is urgent no more, but reads still stop where it was.
    gives!(poll(&mut poll_one, 1, 0) => 0);
    fails!(recvfrom(accepted, &mut buffer, 10, MSG_OOB, 0, 0) => EINVAL);
    gives!(read(accepted, &mut buffer, 10) => 4);
    eq!(&buffer[..4], b"hell");
    let mut mark = 0i32;
    gives!(ioctl(accepted, SIOCATMARK, &mut mark) => 0);
    eq!(mark, 1);
    gives!(read(accepted, &mut buffer, 10) => 5);
    eq!(&buffer[..5], b"world");
    gives!(ioctl(accepted, SIOCATMARK, &mut mark) => 0);
    eq!(mark, 0);
}

fn names_of_both_sides() {
    let (server, server_port) = server4();
    let client = tcp(AF_INET);
    eq!(connect4(client, server_port), Ok(0));
    let (mut peer, mut length) = (ip4(0), 16u32);
    let accepted = works!(accept(server, &mut peer, &mut length));
    eq!((length, u16::from_be(peer.sin_port), peer.sin_addr.s_addr), (16, port(client), ip4(0).sin_addr.s_addr));
    gives!(getpeername(client, &mut peer, &mut length) => 0);
    eq!(u16::from_be(peer.sin_port), server_port);
    gives!(getpeername(accepted, &mut peer, &mut length) => 0);
    eq!(u16::from_be(peer.sin_port), port(client));
    eq!(port(accepted), server_port);
    let (mut short, mut length) = ([9u8; 8], 4u32);
    gives!(getsockname(client, &mut short, &mut length) => 0);
    eq!((length, short[..2].to_vec(), short[4..].to_vec()), (16, vec![2, 0], vec![9; 4]));
    let server_address = works!(socket(AF_INET, SOCK_STREAM, 0));
    gives!(getsockname(server_address, &mut peer, &mut 16u32) => 0);
    eq!((peer.sin_port, peer.sin_addr.s_addr), (0, 0));
}

fn accept_inherits_nothing() {
    let (server, port) = server4();
    gives!(fcntl(server, F_SETFL, O_NONBLOCK) => 0);
    fails!(accept(server, 0, 0) => EAGAIN);
    gives!(setsockopt(server, SOL_SOCKET, SO_KEEPALIVE, &1i32, 4) => 0);
    let client = tcp(AF_INET);
    eq!(connect4(client, port), Ok(0));
    eq!(ready(server, POLLIN), POLLIN);
    let accepted = works!(accept(server, 0, 0));
    // Flags of the descriptor aren't inherited, options of the socket are.
    eq!(works!(fcntl(accepted, F_GETFL)) as c_int & O_NONBLOCK, 0);
    eq!(option(accepted, SOL_SOCKET, SO_KEEPALIVE), 1);
    eq!(option(accepted, SOL_SOCKET, SO_ACCEPTCONN), 0);
    fails!(accept(accepted, 0, 0) => EINVAL);
    fails!(accept(udp(AF_INET), 0, 0) => EOPNOTSUPP);
}

fn half_close() {
    let (client, accepted) = connection();
    signal::ignore(SIGPIPE);
    gives!(write(client, b"last", 4) => 4);
    gives!(shutdown(client, SHUT_WR) => 0);
    fails!(write(client, b"x", 1) => EPIPE);
    let mut buffer = [0u8; 8];
    gives!(recvfrom(accepted, &mut buffer, 8, MSG_WAITALL, 0, 0) => 4);
    gives!(read(accepted, &mut buffer, 8) => 0);
    // The other way still works.
    gives!(write(accepted, b"back", 4) => 4);
    gives!(read(client, &mut buffer, 8) => 4);
    is!(ready(accepted, POLLIN | POLLRDHUP) & POLLRDHUP != 0, "the half close to show");
    gives!(shutdown(accepted, SHUT_RDWR) => 0);
    gives!(read(client, &mut buffer, 8) => 0);
    fails!(shutdown(client, 9) => EINVAL);
}

fn reset_on_unread_data() {
    let (client, accepted) = connection();
    signal::on(SIGPIPE, 0);
    gives!(write(client, b"unread", 6) => 6);
    ready(accepted, POLLIN);
    works!(close(accepted));
    is!(ready(client, POLLIN) & (POLLERR | POLLHUP) != 0, "an error and a hangup");
    fails!(read(client, &mut [0u8; 1], 1) => ECONNRESET);
    gives!(read(client, &mut [0u8; 1], 1) => 0);
    fails!(write(client, b"x", 1) => EPIPE);
    eq!(signal::count(), 1);
}

fn sending_to_who_is_gone() {
    signal::on(SIGPIPE, 0);
    let far_more_than_fits = vec![0u8; 32 << 20];
    for flags in [0, MSG_DONTWAIT] {
        let (client, accepted) = connection();
        works!(close(accepted));
        // Some of it goes out before the answer comes that nobody is there, never all.
        let sent = sys!(sendto(client, &far_more_than_fits[0], far_more_than_fits.len(), flags, 0, 0));
        is!(sent.is_ok_and(|count| count > 0 && count < far_more_than_fits.len()), "a part to be sent: {sent:?}");
        ready(client, POLLHUP);
        fails!(write(client, b"x", 1) => EPIPE);
    }
    eq!(signal::count(), 2);
}

fn linger_resets() {
    let (client, accepted) = connection();
    gives!(setsockopt(accepted, SOL_SOCKET, SO_LINGER, &linger { l_onoff: 1, l_linger: 0 }, 8) => 0);
    let (mut now, mut length): (linger, u32) = (zeroed(), 8);
    gives!(getsockopt(accepted, SOL_SOCKET, SO_LINGER, &mut now, &mut length) => 0);
    eq!((now.l_onoff, now.l_linger), (1, 0));
    works!(close(accepted));
    fails!(read(client, &mut [0u8; 1], 1) => ECONNRESET);
}

fn shutdown_of_listeners() {
    let (server, old) = server4();
    gives!(shutdown(server, SHUT_RD) => 0);
    fails!(accept(server, 0, 0) => EINVAL);
    eq!(connect4(tcp(AF_INET), old), Err(Errno::ECONNREFUSED));
    // Listening again takes a port anew, as nobody had asked for that one.
    gives!(listen(server, 1) => 0);
    eq!(connect4(tcp(AF_INET), port(server)), Ok(0));
    // Who waits in accept is woken.
    let (server, _) = server4();
    let waiting = child(|| {
        fails!(accept(server, 0, 0) => EINVAL);
    });
    until_asleep(waiting);
    gives!(shutdown(server, SHUT_RDWR) => 0);
    join(waiting);
}

fn listening_is_needed() {
    need_loopback(AF_INET);
    let fd = tcp(AF_INET);
    eq!(bind4(fd, 0), Ok(0));
    eq!(connect4(tcp(AF_INET), port(fd)), Err(Errno::ECONNREFUSED));
    fails!(accept(fd, 0, 0) => EINVAL);
    fails!(listen(udp(AF_INET), 1) => EOPNOTSUPP);
    let (client, _accepted) = connection();
    fails!(listen(client, 1) => EINVAL);
    fails!(listen(-1, 1) => EBADF);
}

fn backlog() {
    let (server, port) = server4();
    let clients: Vec<usize> = (0..5).map(|_| tcp(AF_INET)).collect();
    for (number, client) in clients.iter().enumerate() {
        eq!(connect4(*client, port), Ok(0));
        gives!(write(*client, &[number as u8], 1) => 1);
    }
    // In the order in which they connected.
    for number in 0..5 {
        let accepted = works!(accept(server, 0, 0));
        let mut byte = [9u8];
        gives!(read(accepted, &mut byte, 1) => 1);
        eq!(byte[0], number);
    }
    // Those who wait when the server goes are reset.
    let client = tcp(AF_INET);
    eq!(connect4(client, port), Ok(0));
    works!(close(server));
    fails!(read(client, &mut [0u8; 1], 1) => ECONNRESET);
}

fn peeking_and_waiting() {
    let (client, accepted) = connection();
    let mut buffer = [0u8; 8];
    fails!(recvfrom(client, &mut buffer, 8, MSG_DONTWAIT, 0, 0) => EAGAIN);
    gives!(write(accepted, b"abcdef", 6) => 6);
    gives!(recvfrom(client, &mut buffer, 3, MSG_PEEK, 0, 0) => 3);
    eq!(&buffer[..3], b"abc");
    gives!(recvfrom(client, &mut buffer, 6, MSG_WAITALL, 0, 0) => 6);
    let mut count = 9i32;
    gives!(ioctl(client, FIONREAD, &mut count) => 0);
    eq!(count, 0);
    // Of a stream, MSG_TRUNC throws away what it counts.
    gives!(write(accepted, b"gone", 4) => 4);
    gives!(recvfrom(client, 0, 4, MSG_TRUNC | MSG_WAITALL, 0, 0) => 4);
    fails!(recvfrom(client, &mut buffer, 8, MSG_DONTWAIT, 0, 0) => EAGAIN);
    // The address is no matter for a stream.
    gives!(write(accepted, b"x", 1) => 1);
    let mut length = 16u32;
    gives!(recvfrom(client, &mut buffer, 8, 0, &mut ip4(7), &mut length) => 1);
    eq!(length, 0);
}

fn large_transfers() {
    let (client, accepted) = connection();
    const SIZE: usize = 3 << 20;
    let child = child(|| {
        works!(close(accepted));
        let block: Vec<u8> = (0..SIZE).map(|index| (index / 7) as u8).collect();
        // A blocking write of a stream goes all the way.
        gives!(write(client, &block[..], SIZE) => SIZE);
    });
    works!(close(client));
    let all = drain(accepted);
    eq!(all.len(), SIZE);
    is!(all.iter().enumerate().all(|(index, byte)| *byte == (index / 7) as u8), "every byte in its place");
    join(child);
}

fn out_of_room() {
    let (client, accepted) = connection();
    gives!(fcntl(client, F_SETFL, O_NONBLOCK) => 0);
    let block = vec![1u8; 1 << 20];
    let mut sent = 0;
    loop {
        match sys!(write(client, &block[..], block.len())) {
            Ok(count) => sent += count,
            Err(error) => {
                eq!(error, Errno::EAGAIN);
                break;
            }
        }
    }
    let mut list = [pollfd { fd: client as c_int, events: POLLOUT, revents: 0 }];
    gives!(poll(&mut list, 1, 0) => 0);
    gives!(shutdown(client, SHUT_WR) => 0);
    eq!(drain(accepted).len(), sent);
}

fn interrupted_accept() {
    let (server, port) = server4();
    let (client, _accepted) = connection();
    signal::tick(false);
    fails!(accept(server, 0, 0) => EINTR);
    fails!(read(client, &mut [0u8; 1], 1) => EINTR);
    fails!(recvmsg(client, &mut message(&[piece(&mut [0u8; 1])], &mut []), 0) => EINTR);
    signal::no_tick();
    eq!(connect4(tcp(AF_INET), port), Ok(0));
}

pub(super) fn any6(port: u16) -> sockaddr_in6 {
    let mut any = ip6(port);
    any.sin6_addr.s6_addr[15] = 0;
    any
}

pub(super) fn mapped(port: u16) -> sockaddr_in6 {
    let mut address = ip6(port);
    address.sin6_addr.s6_addr = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1];
    address
}

fn dual_stack() {
    need_loopback(AF_INET6);
    need_loopback(AF_INET);
    let server = tcp(AF_INET6);
    eq!(option(server, IPPROTO_IPV6, IPV6_V6ONLY), 0);
    gives!(bind(server, &any6(0), IP6) => 0);
    gives!(listen(server, 2) => 0);
    let client = tcp(AF_INET);
    eq!(connect4(client, port(server)), Ok(0));
    let (mut peer, mut length) = (ip6(0), 28u32);
    let accepted = works!(accept(server, &mut peer, &mut length));
    // A caller by IPv4 has an address mapped into IPv6.
    eq!(peer.sin6_addr.s6_addr, mapped(0).sin6_addr.s6_addr);
    talk(client, accepted);
    eq!(bind4(tcp(AF_INET), port(server)), Err(Errno::EADDRINUSE));
}

fn only_ipv6() {
    need_loopback(AF_INET6);
    need_loopback(AF_INET);
    let server = tcp(AF_INET6);
    gives!(setsockopt(server, IPPROTO_IPV6, IPV6_V6ONLY, &1i32, 4) => 0);
    gives!(bind(server, &any6(0), IP6) => 0);
    gives!(listen(server, 2) => 0);
    eq!(connect4(tcp(AF_INET), port(server)), Err(Errno::ECONNREFUSED));
    let same = tcp(AF_INET);
    eq!(bind4(same, port(server)), Ok(0));
    fails!(setsockopt(server, IPPROTO_IPV6, IPV6_V6ONLY, &0i32, 4) => EINVAL);
    let client = tcp(AF_INET6);
    gives!(setsockopt(client, IPPROTO_IPV6, IPV6_V6ONLY, &1i32, 4) => 0);
    fails!(connect(client, &mapped(port(server)), IP6) => ENETUNREACH);
}

fn mapped_addresses() {
    need_loopback(AF_INET6);
    let (server, port) = server4();
    let client = tcp(AF_INET6);
    gives!(connect(client, &mapped(port), IP6) => 0);
    let accepted = works!(accept(server, 0, 0));
    let mut own = ip6(0);
    gives!(getsockname(client, &mut own, &mut 28u32) => 0);
    eq!(own.sin6_addr.s6_addr, mapped(0).sin6_addr.s6_addr);
    talk(client, accepted);
}

fn unspecified_address_is_loopback() {
    let (server, port) = server4();
    let mut any = ip4(port);
    any.sin_addr.s_addr = 0;
    let client = tcp(AF_INET);
    gives!(connect(client, &any, IP4) => 0);
    let accepted = works!(accept(server, 0, 0));
    talk(client, accepted);
}

fn listening_shows_in_proc() {
    let (_server, port) = server4();
    let wanted = format!("0100007F:{port:04X} 00000000:0000 0A ");
    is!(contents("/proc/net/tcp").contains(&wanted), "/proc/net/tcp to list it");
    is!(contents("/proc/net/udp").starts_with("   sl  local_address"), "/proc/net/udp to have its head");
    is!(contents("/proc/net/dev").lines().any(|line| line.trim_start().starts_with("lo:")), "/proc/net/dev to list lo");
}

fn sendfile_over_tcp() {
    let (client, accepted) = connection();
    let from = file(c"file", &[b's'; 100_000]);
    gives!(sendfile(client, from, &mut 0i64, 100_000) => 100_000);
    gives!(shutdown(client, SHUT_WR) => 0);
    eq!(drain(accepted).len(), 100_000);
    let (client, accepted) = connection();
    let (reader, writer) = pipe();
    gives!(write(client, b"spliced", 7) => 7);
    gives!(splice(accepted, 0, writer, 0, 100, 0) => 7);
    gives!(splice(reader, 0, accepted, 0, 100, 0) => 7);
    gives!(recvfrom(client, &mut [0u8; 8], 7, MSG_WAITALL, 0, 0) => 7);
}

fn poll_of_tcp() {
    let (server, server_port) = server4();
    let now = |fd: usize, events: i16| {
        let mut list = [pollfd { fd: fd as c_int, events, revents: 0 }];
        works!(poll(&mut list, 1, 0));
        list[0].revents
    };
    eq!((now(server, POLLIN | POLLOUT), now(tcp(AF_INET), POLLIN | POLLOUT)), (0, POLLOUT | POLLHUP));
    let client = tcp(AF_INET);
    eq!(connect4(client, server_port), Ok(0));
    eq!(ready(server, POLLIN), POLLIN);
    let accepted = works!(accept(server, 0, 0));
    eq!(now(client, POLLIN | POLLOUT), POLLOUT);
    gives!(write(accepted, b"x", 1) => 1);
    ready(client, POLLIN);
    eq!(now(client, POLLIN | POLLOUT), POLLIN | POLLOUT);
    works!(close(accepted));
    gives!(read(client, &mut [0u8; 1], 1) => 1);
    until(|| now(client, POLLIN | POLLRDHUP) == POLLIN | POLLRDHUP);
    gives!(shutdown(client, SHUT_WR) => 0);
    until(|| now(client, POLLIN) & POLLHUP != 0);
}

fn connect_by_sending() {
    let (server, port) = server4();
    let fd = tcp(AF_INET);
    fails!(sendto(fd, b"x", 1, MSG_FASTOPEN, 0, 0) => EINVAL);
    gives!(sendto(fd, b"hello", 5, MSG_FASTOPEN, &ip4(port), IP4) => 5);
    let accepted = works!(accept(server, 0, 0));
    let mut buffer = [0u8; 8];
    gives!(read(accepted, &mut buffer, 8) => 5);
    eq!(&buffer[..5], b"hello");
    fails!(sendto(fd, b"x", 1, MSG_FASTOPEN, &ip4(port), IP4) => EISCONN);
    works!(close(server));
    fails!(sendto(tcp(AF_INET), b"x", 1, MSG_FASTOPEN, &ip4(port), IP4) => ECONNREFUSED);
}

/// Receives `byte.len()` bytes, and gives the control data that comes along.
pub(super) fn received(fd: usize, bytes: &mut [u8]) -> Items {
    let count = bytes.len();
    let list = [piece(bytes)];
    let mut control = [0u8; 128];
    let mut header = message(&list, &mut control);
    gives!(recvmsg(fd, &mut header, 0) => count);
    items(&control[..header.msg_controllen])
}

fn told_beside_bytes() {
    let (client, accepted) = connection();
    for name in [SO_TIMESTAMP, SO_TIMESTAMPNS] {
        gives!(setsockopt(accepted, SOL_SOCKET, name, &1i32, 4) => 0);
        // Linux begins to note times a moment after somebody asks for them.
        let mut all = Items::new();
        until(|| {
            gives!(write(client, b"x", 1) => 1);
            all = received(accepted, &mut [0]);
            !all.is_empty()
        });
        let time = all.first().and_then(|item| from_bytes::<timespec>(&item.2)).map_or(0, |time| time.tv_sec);
        eq!(all.iter().map(|item| item.1).collect::<Vec<_>>(), [name]);
        is!(time > 1_600_000_000, "a time");
    }
    gives!(setsockopt(accepted, SOL_SOCKET, SO_TIMESTAMPNS, &0i32, 4) => 0);
    // TCP_INQ: how much is left.
    gives!(setsockopt(accepted, IPPROTO_TCP, 36, &1i32, 4) => 0);
    gives!(write(client, b"seven..", 7) => 7);
    until(|| waiting(accepted) == 7);
    eq!(received(accepted, &mut [0; 3]), [(IPPROTO_TCP, 36, vec![4, 0, 0, 0])]);
    fails!(setsockopt(accepted, IPPROTO_TCP, 36, &2i32, 4) => EINVAL);
}

/// Bytes that wait to be read.
fn waiting(fd: usize) -> i32 {
    let mut count = 0i32;
    gives!(ioctl(fd, FIONREAD, &mut count) => 0);
    count
}
