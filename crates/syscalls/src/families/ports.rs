//! Ports of TCP: chosen, in use, and shared.

use super::prelude::*;
use super::tcp::{bind4, connect4, server4, tcp, udp};
use crate::sys::sockets::{IP4, ip4, need_loopback, port};

tests!("ports":
    chosen, in_use, first_to_listen, reuse_address, reuse_port,
);

fn chosen() {
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

fn in_use() {
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

fn first_to_listen() {
    need_loopback(AF_INET);
    let named = |port: u16| {
        let fd = tcp(AF_INET);
        gives!(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &1i32, 4) => 0);
        eq!(bind4(fd, port), Ok(0));
        fd
    };
    let one = named(0);
    let two = named(port(one));
    gives!(listen(two, 1) => 0);
    fails!(listen(one, 1) => EADDRINUSE);
    works!(close(two));
    gives!(listen(one, 1) => 0);
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
    // Who had it in common may have it again at once.
    let three = bind_shared(0);
    let taken = port(three);
    let client = tcp(AF_INET);
    eq!(connect4(client, taken), Ok(0));
    works!(close(works!(accept(three, 0, 0))));
    works!(close(three));
    gives!(read(client, &mut [0u8; 1], 1) => 0);
    works!(close(client));
    bind_shared(taken);
}
