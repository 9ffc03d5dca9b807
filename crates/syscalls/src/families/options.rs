//! Options of sockets, and of TCP.

use super::prelude::*;
use super::tcp::{connect4, connection, server4, tcp};
use crate::sys::sockets::option;

tests!("options":
    tcp_options, segments_are_as_both_want, tcp_info_tells, keepalive_options, socket_options, option_arguments, buffers, receive_timeout,
);

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

fn segments_are_as_both_want() {
    const TIMES: c_int = 12;
    for (servers, clients) in [(873, 0), (0, 1000), (1000, 900)] {
        let (server, port) = server4();
        let client = tcp(AF_INET);
        for (fd, wanted) in [(server, servers), (client, clients)] {
            gives!(setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &wanted, 4) => 0);
            eq!(option(fd, IPPROTO_TCP, TCP_MAXSEG), if wanted == 0 { 536 } else { wanted });
        }
        eq!(connect4(client, port), Ok(0));
        let accepted = works!(accept(server, 0, 0));
        let least = [servers, clients].into_iter().filter(|wanted| *wanted > 0).min().unwrap_or(0);
        eq!(option(client, IPPROTO_TCP, TCP_MAXSEG), least - TIMES);
        eq!(option(accepted, IPPROTO_TCP, TCP_MAXSEG), least - TIMES);
    }
    fails!(setsockopt(tcp(AF_INET), IPPROTO_TCP, TCP_MAXSEG, &87i32, 4) => EINVAL);
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
