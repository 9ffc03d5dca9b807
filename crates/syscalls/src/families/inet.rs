//! TCP and UDP over the loopback interface, IPv4 and IPv6; and netlink's dump of routes and interfaces.

use super::prelude::*;
use crate::sys::sockets::{IP4, IP6, ip4, ip6, item, items, message, need_loopback, option, port};

tests!("inet":
    socket_arguments, tcp4_connects, tcp6_connects, refused, nonblocking_connect, nonblocking_connect_refused, connect_arguments, ports_are_chosen, addresses_in_use, reuse_address, reuse_port,
    names_of_both_sides, accept_inherits_nothing, half_close, reset_on_unread_data, linger_resets, shutdown_of_listeners, listening_is_needed, backlog, peeking_and_waiting, large_transfers,
    out_of_room, tcp_options, tcp_info_tells, keepalive_options, socket_options, option_arguments, buffers, receive_timeout, interrupted_accept, dual_stack, only_ipv6, mapped_addresses,
    udp_flows, udp_connects, udp_refusal, udp_truncation, udp_over_ipv6, udp_size_limits, udp_broadcast_needs_asking, packet_info, ttl_and_tos, timestamps, unspecified_address_is_loopback, listening_shows_in_proc,
    raw_sockets_need_rights, privileged_ports, interfaces, interface_names, netlink_dumps_links, netlink_dumps_addresses, netlink_dumps_routes, netlink_arguments, sendfile_over_tcp, poll_of_tcp,
);

fn tcp(family: c_int) -> usize {
    works!(socket(family, SOCK_STREAM, 0))
}

fn udp(family: c_int) -> usize {
    works!(socket(family, SOCK_DGRAM, 0))
}

fn bind4(fd: usize, port: u16) -> Result<usize, Errno> {
    sys!(bind(fd, &ip4(port), IP4))
}

fn connect4(fd: usize, port: u16) -> Result<usize, Errno> {
    sys!(connect(fd, &ip4(port), IP4))
}

/// A listening socket of the loopback interface, and its port.
fn server4() -> (usize, u16) {
    need_loopback(AF_INET);
    let fd = tcp(AF_INET);
    eq!(bind4(fd, 0), Ok(0));
    gives!(listen(fd, 16) => 0);
    (fd, port(fd))
}

/// Two ends of a connection: who connected, and who accepted.
fn connection() -> (usize, usize) {
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
fn ready(fd: usize, events: i16) -> i16 {
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

fn ports_are_chosen() {
    need_loopback(AF_INET);
    let (one, two) = (tcp(AF_INET), tcp(AF_INET));
    eq!(port(one), 0);
    eq!((bind4(one, 0), bind4(two, 0)), (Ok(0), Ok(0)));
    is!(port(one) != port(two) && port(one) >= 1024, "two different ports");
    // listen and connect choose one as well.
    let fd = tcp(AF_INET);
    gives!(listen(fd, 1) => 0);
    is!(port(fd) != 0, "a port of its own");
    let client = tcp(AF_INET);
    eq!(connect4(client, port(fd)), Ok(0));
    is!(port(client) != 0, "a port of its own");
    let sender = udp(AF_INET);
    gives!(sendto(sender, b"x", 1, 0, &ip4(9), IP4) => 1);
    is!(port(sender) != 0, "a port of its own");
}

fn addresses_in_use() {
    let (_server, taken) = server4();
    let fd = tcp(AF_INET);
    eq!(bind4(fd, taken), Err(Errno::EADDRINUSE));
    eq!(bind4(fd, 0), Ok(0));
    eq!(bind4(fd, 0), Err(Errno::EINVAL));
    let mut elsewhere = ip4(0);
    elsewhere.sin_addr.s_addr = u32::from_be_bytes([192, 0, 2, 77]).to_be();
    fails!(bind(tcp(AF_INET), &elsewhere, IP4) => EADDRNOTAVAIL);
    fails!(bind(tcp(AF_INET), &ip4(0), 8) => EINVAL);
    fails!(bind(tcp(AF_INET), BAD, IP4) => EFAULT);
    fails!(bind(tcp(AF_INET6), &ip4(0), IP4) => EINVAL);
    let mut wrong = ip4(0);
    wrong.sin_family = AF_UNIX as u16;
    fails!(bind(tcp(AF_INET), &wrong, IP4) => EAFNOSUPPORT);
    // A port of TCP is none of UDP.
    eq!(bind4(udp(AF_INET), taken), Ok(0));
    // All of 127/8 is loopback, and each address has ports of its own.
    let mut other = ip4(taken);
    other.sin_addr.s_addr = u32::from_be_bytes([127, 0, 0, 2]).to_be();
    gives!(bind(tcp(AF_INET), &other, IP4) => 0);
    let mut any = ip4(taken);
    any.sin_addr.s_addr = 0;
    fails!(bind(tcp(AF_INET), &any, IP4) => EADDRINUSE);
}

fn reuse_address() {
    let (server, port) = server4();
    // What is in TIME_WAIT must have allowed it too.
    gives!(setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &1i32, 4) => 0);
    let client = tcp(AF_INET);
    eq!(connect4(client, port), Ok(0));
    let accepted = works!(accept(server, 0, 0));
    // Who closes first keeps the port for a while (TIME_WAIT).
    works!(close(accepted));
    works!(close(server));
    gives!(read(client, &mut [0u8; 1], 1) => 0);
    works!(close(client));
    eq!(bind4(tcp(AF_INET), port), Err(Errno::EADDRINUSE));
    let fd = tcp(AF_INET);
    gives!(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &1i32, 4) => 0);
    eq!(bind4(fd, port), Ok(0));
    gives!(listen(fd, 1) => 0);
    // With somebody listening it doesn't help.
    let other = tcp(AF_INET);
    gives!(setsockopt(other, SOL_SOCKET, SO_REUSEADDR, &1i32, 4) => 0);
    eq!(bind4(other, port), Err(Errno::EADDRINUSE));
}

fn reuse_port() {
    need_loopback(AF_INET);
    let bind_shared = |port: u16| {
        let fd = tcp(AF_INET);
        gives!(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &1i32, 4) => 0);
        eq!(bind4(fd, port), Ok(0));
        gives!(listen(fd, 4) => 0);
        fd
    };
    let one = bind_shared(0);
    let two = bind_shared(port(one));
    eq!(port(one), port(two));
    eq!(bind4(tcp(AF_INET), port(one)), Err(Errno::EADDRINUSE));
    eq!(connect4(tcp(AF_INET), port(one)), Ok(0));
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

fn tcp_options() {
    let (client, _accepted) = connection();
    for (name, value) in [
        (TCP_NODELAY, 1),
        (TCP_KEEPIDLE, 30),
        (TCP_KEEPINTVL, 5),
        (TCP_KEEPCNT, 4),
        (TCP_USER_TIMEOUT, 1000),
        (TCP_QUICKACK, 1),
        (TCP_CORK, 1),
    ] {
        gives!(setsockopt(client, IPPROTO_TCP, name, &value, 4) => 0);
        eq!((name, option(client, IPPROTO_TCP, name)), (name, value));
    }
    is!(option(client, IPPROTO_TCP, TCP_MAXSEG) > 500, "a segment size");
    fails!(setsockopt(client, IPPROTO_TCP, TCP_KEEPIDLE, &0i32, 4) => EINVAL);
    fails!(setsockopt(client, IPPROTO_TCP, TCP_KEEPCNT, &1000i32, 4) => EINVAL);
    fails!(setsockopt(client, IPPROTO_TCP, 9999, &1i32, 4) => ENOPROTOOPT);
    fails!(getsockopt(client, IPPROTO_TCP, 9999, &mut 0i32, &mut 4u32) => ENOPROTOOPT);
    let (mut name, mut length) = ([0u8; 16], 16u32);
    gives!(getsockopt(client, IPPROTO_TCP, TCP_CONGESTION, &mut name, &mut length) => 0);
    is!(name[0].is_ascii_alphabetic(), "a name of congestion control");
    fails!(setsockopt(client, IPPROTO_TCP, TCP_CONGESTION, b"no-such", 7) => ENOENT);
}

fn tcp_info_tells() {
    let (client, accepted) = connection();
    let state = |fd: usize| {
        let (mut info, mut length) = ([0u8; 104], 104u32);
        gives!(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &mut info, &mut length) => 0);
        is!(length == 104, "all of it");
        info[0]
    };
    const ESTABLISHED: u8 = 1;
    eq!((state(client), state(accepted), state(server4().0), state(tcp(AF_INET))), (ESTABLISHED, ESTABLISHED, 10, 7));
    gives!(shutdown(client, SHUT_WR) => 0);
    gives!(read(accepted, &mut [0u8; 1], 1) => 0);
    // CLOSE_WAIT, and FIN_WAIT2 on the other side.
    eq!(state(accepted), 8);
    until(|| state(client) == 5);
}

fn keepalive_options() {
    let fd = tcp(AF_INET);
    eq!(option(fd, SOL_SOCKET, SO_KEEPALIVE), 0);
    gives!(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &5i32, 4) => 0);
    eq!(option(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
    gives!(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &0i32, 4) => 0);
    eq!(option(fd, SOL_SOCKET, SO_KEEPALIVE), 0);
}

fn socket_options() {
    let fd = tcp(AF_INET);
    for name in [SO_REUSEADDR, SO_BROADCAST, SO_OOBINLINE, SO_DONTROUTE] {
        eq!((name, option(fd, SOL_SOCKET, name)), (name, 0));
        gives!(setsockopt(fd, SOL_SOCKET, name, &1i32, 4) => 0);
        eq!((name, option(fd, SOL_SOCKET, name)), (name, 1));
    }
    gives!(setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &3i32, 4) => 0);
    eq!(option(fd, SOL_SOCKET, SO_PRIORITY), 3);
    eq!(option(fd, SOL_SOCKET, SO_RCVLOWAT), 1);
    gives!(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, b"lo\0", 3) => 0);
    fails!(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, b"none", 4) => ENODEV);
}

fn option_arguments() {
    let fd = tcp(AF_INET);
    let mut value = 0i32;
    fails!(getsockopt(fd, SOL_SOCKET, 9999, &mut value, &mut 4u32) => ENOPROTOOPT);
    fails!(getsockopt(fd, 9999, 0, &mut value, &mut 4u32) => EOPNOTSUPP);
    fails!(setsockopt(fd, 9999, 0, &value, 4) => ENOPROTOOPT);
    fails!(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, 3) => EINVAL);
    fails!(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, BAD, 4) => EFAULT);
    fails!(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, -1) => EINVAL);
    fails!(setsockopt(fd, SOL_SOCKET, SO_ERROR, &value, 4) => ENOPROTOOPT);
    fails!(setsockopt(fd, SOL_SOCKET, SO_LINGER, &value, 4) => EINVAL);
    fails!(getsockopt(fd, SOL_SOCKET, SO_TYPE, BAD, &mut 4u32) => EFAULT);
    let mut length = 100u32;
    gives!(getsockopt(fd, SOL_SOCKET, SO_TYPE, &mut [0i32; 25], &mut length) => 0);
    eq!(length, 4);
}

fn buffers() {
    let fd = tcp(AF_INET);
    for name in [SO_SNDBUF, SO_RCVBUF] {
        gives!(setsockopt(fd, SOL_SOCKET, name, &30_000i32, 4) => 0);
        eq!(option(fd, SOL_SOCKET, name), 60_000);
        gives!(setsockopt(fd, SOL_SOCKET, name, &0i32, 4) => 0);
        is!(option(fd, SOL_SOCKET, name) >= 2000, "a least size");
        gives!(setsockopt(fd, SOL_SOCKET, name, &i32::MAX, 4) => 0);
        is!(option(fd, SOL_SOCKET, name) < i32::MAX, "a greatest size");
    }
}

fn receive_timeout() {
    let (client, _accepted) = connection();
    gives!(setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &timeval { tv_sec: 0, tv_usec: 5000 }, 16) => 0);
    fails!(read(client, &mut [0u8; 1], 1) => EAGAIN);
    let (server, _) = server4();
    gives!(setsockopt(server, SOL_SOCKET, SO_RCVTIMEO, &timeval { tv_sec: 0, tv_usec: 5000 }, 16) => 0);
    fails!(accept(server, 0, 0) => EAGAIN);
}

fn interrupted_accept() {
    let (server, port) = server4();
    signal::tick(false);
    fails!(accept(server, 0, 0) => EINTR);
    let (client, _accepted) = connection();
    fails!(read(client, &mut [0u8; 1], 1) => EINTR);
    fails!(recvmsg(client, &mut message(&[piece(&mut [0u8; 1])], &mut []), 0) => EINTR);
    eq!(connect4(tcp(AF_INET), port), Ok(0));
}

fn any6(port: u16) -> sockaddr_in6 {
    let mut any = ip6(port);
    any.sin6_addr.s6_addr[15] = 0;
    any
}

fn mapped(port: u16) -> sockaddr_in6 {
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

/// A bound UDP socket, and its port.
fn udp_server() -> (usize, u16) {
    need_loopback(AF_INET);
    let fd = udp(AF_INET);
    eq!(bind4(fd, 0), Ok(0));
    (fd, port(fd))
}

fn udp_flows() {
    let (server, server_port) = udp_server();
    let client = udp(AF_INET);
    for text in [&b"first"[..], b"", b"third"] {
        gives!(sendto(client, text, text.len(), 0, &ip4(server_port), IP4) => text.len());
    }
    let (mut from, mut length) = (ip4(0), 16u32);
    let mut buffer = [0u8; 16];
    gives!(recvfrom(server, &mut buffer, 16, 0, &mut from, &mut length) => 5);
    eq!((length, u16::from_be(from.sin_port), from.sin_addr.s_addr), (16, port(client), ip4(0).sin_addr.s_addr));
    gives!(recvfrom(server, &mut buffer, 16, 0, 0, 0) => 0);
    gives!(sendto(server, b"back", 4, 0, &from, length) => 4);
    gives!(recvfrom(client, &mut buffer, 16, 0, 0, 0) => 4);
    let mut count = 0i32;
    gives!(ioctl(server, FIONREAD, &mut count) => 0);
    eq!(count, 5);
    gives!(read(server, &mut buffer, 16) => 5);
    fails!(recvfrom(server, &mut buffer, 16, MSG_DONTWAIT, 0, 0) => EAGAIN);
    fails!(sendto(client, b"x", 1, 0, 0, 0) => EDESTADDRREQ);
    fails!(write(client, b"x", 1) => EDESTADDRREQ);
    fails!(sendto(client, b"x", 1, 0, &ip4(0), IP4) => EINVAL);
    fails!(sendto(client, b"x", 1, 0, &ip4(server_port), 8) => EINVAL);
    fails!(sendto(client, BAD, 1, 0, &ip4(server_port), IP4) => EFAULT);
}

fn udp_connects() {
    let (server, server_port) = udp_server();
    let (other, other_port) = udp_server();
    let client = udp(AF_INET);
    eq!(connect4(client, server_port), Ok(0));
    gives!(write(client, b"x", 1) => 1);
    gives!(read(server, &mut [0u8; 8], 8) => 1);
    // Only the peer's datagrams come in.
    let address = ip4(port(client));
    gives!(sendto(other, b"stranger", 8, 0, &address, IP4) => 8);
    gives!(sendto(server, b"peer", 4, 0, &address, IP4) => 4);
    let mut buffer = [0u8; 8];
    gives!(read(client, &mut buffer, 8) => 4);
    eq!(&buffer[..4], b"peer");
    // An address goes before the connection.
    gives!(sendto(client, b"y", 1, 0, &ip4(other_port), IP4) => 1);
    gives!(read(other, &mut buffer, 8) => 1);
    let nobody: sockaddr = zeroed();
    gives!(connect(client, &nobody, 16) => 0);
    fails!(getpeername(client, &mut ip4(0), &mut 16u32) => ENOTCONN);
    fails!(write(client, b"x", 1) => EDESTADDRREQ);
}

fn udp_refusal() {
    let (server, port) = udp_server();
    works!(close(server));
    let client = udp(AF_INET);
    eq!(connect4(client, port), Ok(0));
    gives!(write(client, b"x", 1) => 1);
    // What came back, an ICMP message, is told by the next call.
    is!(ready(client, POLLIN) & POLLERR != 0, "an error");
    fails!(read(client, &mut [0u8; 1], 1) => ECONNREFUSED);
    gives!(write(client, b"x", 1) => 1);
    ready(client, POLLIN);
    eq!(option(client, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
    fails!(recvfrom(client, &mut [0u8; 1], 1, MSG_DONTWAIT, 0, 0) => EAGAIN);
}

fn udp_truncation() {
    let (server, port) = udp_server();
    let client = udp(AF_INET);
    let mut buffer = [0u8; 4];
    let list = [piece(&mut buffer)];
    gives!(sendto(client, b"0123456789", 10, 0, &ip4(port), IP4) => 10);
    let mut header = message(&list, &mut []);
    gives!(recvmsg(server, &mut header, 0) => 4);
    eq!(header.msg_flags & MSG_TRUNC, MSG_TRUNC);
    gives!(sendto(client, b"0123456789", 10, 0, &ip4(port), IP4) => 10);
    gives!(recvfrom(server, &mut [0u8; 4], 4, MSG_TRUNC | MSG_PEEK, 0, 0) => 10);
    gives!(recvfrom(server, &mut [0u8; 4], 4, 0, 0, 0) => 4);
    fails!(recvfrom(server, &mut [0u8; 4], 4, MSG_DONTWAIT, 0, 0) => EAGAIN);
}

fn udp_over_ipv6() {
    need_loopback(AF_INET6);
    let server = udp(AF_INET6);
    gives!(bind(server, &any6(0), IP6) => 0);
    let client = udp(AF_INET6);
    gives!(sendto(client, b"six", 3, 0, &ip6(port(server)), IP6) => 3);
    let (mut from, mut length) = (ip6(0), 28u32);
    gives!(recvfrom(server, &mut [0u8; 8], 8, 0, &mut from, &mut length) => 3);
    eq!((from.sin6_addr.s6_addr, length), (ip6(0).sin6_addr.s6_addr, 28));
    need_loopback(AF_INET);
    gives!(sendto(udp(AF_INET), b"four", 4, 0, &ip4(port(server)), IP4) => 4);
    gives!(recvfrom(server, &mut [0u8; 8], 8, 0, &mut from, &mut length) => 4);
    eq!(from.sin6_addr.s6_addr, mapped(0).sin6_addr.s6_addr);
}

fn udp_size_limits() {
    let (server, port) = udp_server();
    let client = udp(AF_INET);
    let block = vec![5u8; 65_508];
    fails!(sendto(client, &block[..], 65_508, 0, &ip4(port), IP4) => EMSGSIZE);
    gives!(sendto(client, &block[..], 65_507, 0, &ip4(port), IP4) => 65_507);
    let mut buffer = vec![0u8; 70_000];
    gives!(read(server, &mut buffer[..], 70_000) => 65_507);
    // MSG_MORE gathers.
    gives!(sendto(client, b"to", 2, MSG_MORE, &ip4(port), IP4) => 2);
    gives!(sendto(client, b"gether", 6, 0, &ip4(port), IP4) => 6);
    gives!(read(server, &mut buffer[..], 100) => 8);
}

fn udp_broadcast_needs_asking() {
    need_loopback(AF_INET);
    let client = udp(AF_INET);
    let mut all = ip4(9);
    all.sin_addr.s_addr = u32::MAX;
    let got = sys!(sendto(client, b"x", 1, 0, &all, IP4));
    is!(matches!(got, Err(Errno::EACCES | Errno::ENETUNREACH)), "a broadcast without SO_BROADCAST to be refused: {got:?}");
}

fn packet_info() {
    let (server, port) = udp_server();
    gives!(setsockopt(server, IPPROTO_IP, IP_PKTINFO, &1i32, 4) => 0);
    gives!(sendto(udp(AF_INET), b"x", 1, 0, &ip4(port), IP4) => 1);
    let mut byte = [0u8];
    let list = [piece(&mut byte)];
    let mut control = [0u8; 64];
    let mut header = message(&list, &mut control);
    gives!(recvmsg(server, &mut header, 0) => 1);
    let all = items(&control[..header.msg_controllen]);
    eq!(all.len(), 1);
    eq!((all[0].0, all[0].1, all[0].2.len(), &all[0].2[8..]), (IPPROTO_IP, IP_PKTINFO, 12, &[127, 0, 0, 1][..]));
    is!(from_bytes::<i32>(&all[0].2).is_some_and(|index| index > 0), "the interface's number");
}

fn ttl_and_tos() {
    let (server, port) = udp_server();
    let client = udp(AF_INET);
    is!(option(client, IPPROTO_IP, IP_TTL) > 1, "a time to live");
    gives!(setsockopt(client, IPPROTO_IP, IP_TTL, &33i32, 4) => 0);
    gives!(setsockopt(client, IPPROTO_IP, IP_TOS, &0x10i32, 4) => 0);
    eq!((option(client, IPPROTO_IP, IP_TTL), option(client, IPPROTO_IP, IP_TOS)), (33, 0x10));
    fails!(setsockopt(client, IPPROTO_IP, IP_TTL, &256i32, 4) => EINVAL);
    gives!(setsockopt(server, IPPROTO_IP, IP_RECVTTL, &1i32, 4) => 0);
    gives!(sendto(client, b"x", 1, 0, &ip4(port), IP4) => 1);
    let mut byte = [0u8];
    let list = [piece(&mut byte)];
    let mut control = [0u8; 64];
    let mut header = message(&list, &mut control);
    gives!(recvmsg(server, &mut header, 0) => 1);
    let all = items(&control[..header.msg_controllen]);
    eq!(all.first().map(|item| (item.1, item.2.clone())), Some((IP_TTL, vec![33, 0, 0, 0])));
}

fn timestamps() {
    let (server, port) = udp_server();
    gives!(setsockopt(server, SOL_SOCKET, SO_TIMESTAMP, &1i32, 4) => 0);
    gives!(sendto(udp(AF_INET), b"x", 1, 0, &ip4(port), IP4) => 1);
    let mut byte = [0u8];
    let list = [piece(&mut byte)];
    let mut control = [0u8; 64];
    let mut header = message(&list, &mut control);
    gives!(recvmsg(server, &mut header, 0) => 1);
    let all = items(&control[..header.msg_controllen]);
    let time = all.first().and_then(|item| from_bytes::<timeval>(&item.2)).map_or(0, |time| time.tv_sec);
    is!(time > 1_600_000_000, "a time");
    // Sent control data that a UDP socket doesn't know.
    let mut wrong = item(IPPROTO_IP, 999, &[0; 4]);
    let mut header = message(&list, &mut wrong);
    let address = ip4(port);
    header.msg_name = std::ptr::from_ref(&address).cast_mut().cast();
    header.msg_namelen = IP4 as u32;
    fails!(sendmsg(udp(AF_INET), &header, 0) => EINVAL);
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

fn raw_sockets_need_rights() {
    need_root();
    in_child(|| {
        gives!(setresuid(1000, 1000, 1000) => 0);
        fails!(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) => EPERM);
        fails!(socket(AF_PACKET, SOCK_RAW, 0) => EPERM | EAFNOSUPPORT);
    });
}

fn privileged_ports() {
    need_root();
    need_loopback(AF_INET);
    let limit = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    if limit.trim() == "0" {
        skip!("the host lets everybody have every port (ip_unprivileged_port_start)");
    }
    in_child(|| {
        gives!(setresuid(1000, 1000, 1000) => 0);
        eq!(bind4(tcp(AF_INET), 17), Err(Errno::EACCES));
        eq!(bind4(udp(AF_INET), 17), Err(Errno::EACCES));
    });
}

/// An ifreq for an interface.
fn request(name: &[u8]) -> [u8; 40] {
    let mut request = [0u8; 40];
    request[..name.len()].copy_from_slice(name);
    request
}

fn interfaces() {
    need_loopback(AF_INET);
    let fd = udp(AF_INET);
    let mut lo = request(b"lo");
    gives!(ioctl(fd, SIOCGIFFLAGS, &mut lo) => 0);
    let flags = from_bytes::<i16>(&lo[16..]).unwrap_or(0) as c_int;
    eq!(flags & (IFF_UP | IFF_LOOPBACK), IFF_UP | IFF_LOOPBACK);
    gives!(ioctl(fd, SIOCGIFADDR, &mut lo) => 0);
    eq!(lo[20..24], [127, 0, 0, 1]);
    gives!(ioctl(fd, SIOCGIFNETMASK, &mut lo) => 0);
    eq!(lo[20..24], [255, 0, 0, 0]);
    gives!(ioctl(fd, SIOCGIFMTU, &mut lo) => 0);
    is!(from_bytes::<i32>(&lo[16..]).is_some_and(|mtu| mtu >= 1280), "an MTU");
    gives!(ioctl(fd, SIOCGIFHWADDR, &mut lo) => 0);
    eq!(from_bytes::<u16>(&lo[16..]), Some(ARPHRD_LOOPBACK));
    fails!(ioctl(fd, SIOCGIFFLAGS, &mut request(b"none")) => ENODEV);
    fails!(ioctl(fd, SIOCGIFFLAGS, BAD) => EFAULT);
    need_root();
    in_child(|| {
        gives!(setresuid(1000, 1000, 1000) => 0);
        fails!(ioctl(fd, SIOCSIFFLAGS, &mut request(b"lo")) => EPERM);
    });
}

fn interface_names() {
    let fd = udp(AF_INET);
    let mut lo = request(b"lo");
    gives!(ioctl(fd, SIOCGIFINDEX, &mut lo) => 0);
    let index = from_bytes::<i32>(&lo[16..]).unwrap_or(0);
    is!(index > 0, "a number");
    let mut by_number = request(b"");
    by_number[16..20].copy_from_slice(&index.to_ne_bytes());
    gives!(ioctl(fd, SIOCGIFNAME, &mut by_number) => 0);
    eq!(&by_number[..3], b"lo\0");
    by_number[16..20].copy_from_slice(&9999i32.to_ne_bytes());
    fails!(ioctl(fd, SIOCGIFNAME, &mut by_number) => ENODEV);
    // All with an address, in a list.
    let mut room = [0u8; 4096];
    let mut list = [0u64; 2];
    list[0] = room.len() as u64;
    list[1] = room.as_mut_ptr() as u64;
    gives!(ioctl(fd, SIOCGIFCONF, &mut list) => 0);
    let used = list[0] as u32 as usize;
    is!(used.is_multiple_of(40) && room[..used].chunks(40).any(|one| one.starts_with(b"lo\0")), "lo in the list");
}

const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;

/// A netlink socket of the route family.
fn netlink() -> usize {
    let fd = works!(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    let mut own: sockaddr_nl = zeroed();
    own.nl_family = AF_NETLINK as u16;
    gives!(bind(fd, &own, 12) => 0);
    fd
}

/// Asks for a dump, and gives the messages: type and what follows the header.
fn dump(fd: usize, kind: u16, family: u8) -> Vec<(u16, Vec<u8>)> {
    let mut request = Vec::new();
    request.extend(36u32.to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    request.extend(77u32.to_ne_bytes());
    request.extend(0u32.to_ne_bytes());
    request.push(family);
    request.resize(36, 0);
    gives!(sendto(fd, &request[..], 36, 0, 0, 0) => 36);
    let mut messages = Vec::new();
    loop {
        let mut buffer = vec![0u8; 32768];
        let count = works!(recvfrom(fd, &mut buffer[..], 32768, 0, 0, 0));
        let mut rest = &buffer[..count];
        while rest.len() >= 16 {
            let length = from_bytes::<u32>(rest).unwrap_or(0) as usize;
            let kind = from_bytes::<u16>(&rest[4..]).unwrap_or(0);
            eq!(from_bytes::<u32>(&rest[8..]), Some(77));
            if kind == NLMSG_DONE as u16 {
                return messages;
            }
            messages.push((kind, rest[16..length].to_vec()));
            rest = &rest[length.next_multiple_of(4).min(rest.len())..];
        }
    }
}

/// The attributes after a fixed head of so many bytes.
fn attributes(message: &[u8], head: usize) -> Vec<(u16, Vec<u8>)> {
    let mut rest = message.get(head..).unwrap_or(&[]);
    let mut list = Vec::new();
    while rest.len() >= 4 {
        let length = from_bytes::<u16>(rest).unwrap_or(0) as usize;
        let Some(value) = rest.get(4..length) else { break };
        list.push((from_bytes::<u16>(&rest[2..]).unwrap_or(0) & 0x3fff, value.to_vec()));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    list
}

fn netlink_dumps_links() {
    let links = dump(netlink(), RTM_GETLINK, 0);
    let lo = links.iter().find(|link| attributes(&link.1, 16).contains(&(IFLA_IFNAME, b"lo\0".to_vec())));
    is!(lo.is_some(), "lo among {} links", links.len());
    if let Some((kind, lo)) = lo {
        eq!((*kind, from_bytes::<u16>(&lo[2..])), (RTM_NEWLINK, Some(ARPHRD_LOOPBACK)));
        is!(attributes(lo, 16).iter().any(|one| one.0 == IFLA_MTU && one.1.len() == 4), "its MTU");
    }
}

fn netlink_dumps_addresses() {
    need_loopback(AF_INET);
    let addresses = dump(netlink(), RTM_GETADDR, AF_INET as u8);
    let found =
        addresses.iter().any(|one| one.0 == RTM_NEWADDR && attributes(&one.1, 8).contains(&(IFA_LOCAL, vec![127, 0, 0, 1])));
    is!(found, "127.0.0.1 among {} addresses", addresses.len());
    need_loopback(AF_INET6);
    let addresses = dump(netlink(), RTM_GETADDR, AF_INET6 as u8);
    let one: Vec<u8> = ip6(0).sin6_addr.s6_addr.to_vec();
    is!(addresses.iter().any(|address| attributes(&address.1, 8).contains(&(IFA_ADDRESS, one.clone()))), "::1");
}

fn netlink_dumps_routes() {
    need_loopback(AF_INET);
    let routes = dump(netlink(), RTM_GETROUTE, AF_INET as u8);
    is!(!routes.is_empty() && routes.iter().all(|route| route.0 == RTM_NEWROUTE), "routes, and nothing else");
    // The local table has 127/8.
    is!(
        routes.iter().any(|route| attributes(&route.1, 12).iter().any(|one| one.0 == RTA_DST && one.1.starts_with(&[127]))),
        "a route to 127/8"
    );
}

fn netlink_arguments() {
    fails!(socket(AF_NETLINK, SOCK_STREAM, NETLINK_ROUTE) => ESOCKTNOSUPPORT);
    fails!(socket(AF_NETLINK, SOCK_RAW, 999) => EPROTONOSUPPORT);
    let fd = netlink();
    let (mut own, mut length): (sockaddr_nl, u32) = (zeroed(), 12);
    gives!(getsockname(fd, &mut own, &mut length) => 0);
    eq!((own.nl_family, own.nl_pid as c_int, length), (AF_NETLINK as u16, process::id(), 12));
    // A second one in the same process gets another number.
    let other = netlink();
    gives!(getsockname(other, &mut own, &mut length) => 0);
    is!(own.nl_pid as c_int != process::id(), "another number");
    // An unknown request is answered with an error.
    let mut request = [0u8; 36];
    request[0] = 36;
    request[4..6].copy_from_slice(&999u16.to_ne_bytes());
    request[6] = NLM_F_REQUEST as u8;
    gives!(sendto(fd, &request, 36, 0, 0, 0) => 36);
    let mut answer = [0u8; 256];
    let count = works!(recvfrom(fd, &mut answer, 256, 0, 0, 0));
    is!(count >= 36, "an answer");
    eq!((from_bytes::<u16>(&answer[4..]), from_bytes::<i32>(&answer[16..])), (Some(NLMSG_ERROR as u16), Some(-EOPNOTSUPP)));
    fails!(recvfrom(fd, &mut answer, 256, MSG_DONTWAIT, 0, 0) => EAGAIN);
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
