//! UDP over the loopback interface, IPv4 and IPv6.

use super::prelude::*;
use super::tcp::{any6, bind4, connect4, mapped, ready, received, tcp, udp};
use crate::sys::sockets::{IP4, IP6, Items, ip4, ip6, item, items, message, need_loopback, option, port};

tests!("udp":
    udp_flows, udp_connects, udp_refusal, udp_truncation, udp_over_ipv6, udp_size_limits, udp_broadcast_needs_asking,
    packet_info, ttl_and_tos, timestamps, times_of_arrival, the_time_to_leave, raw_sockets_need_rights, privileged_ports,
    errors_come_with_what_was_refused, errors_of_ipv6, segments, where_it_was_sent_to, the_greatest_packet,
    what_has_no_room_is_lost,
);

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
    // At port 0 there is nobody, either, whom one may connect to.
    eq!(connect4(client, 0), Ok(0));
    fails!(sendto(client, b"x", 1, 0, &ip4(0), IP4) => EINVAL);
    gives!(write(client, b"x", 1) => 1);
    is!(ready(client, POLLERR) & POLLERR != 0, "an error");
    fails!(write(client, b"x", 1) => ECONNREFUSED);
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

/// Takes the next error with its datagram: what was sent, to which port, and the control data.
fn next_error(fd: usize) -> Option<(Vec<u8>, u16, Items)> {
    let (mut data, mut control, mut to) = ([0u8; 16], [0u8; 128], ip6(0));
    let list = [piece(&mut data)];
    let mut header = message(&list, &mut control);
    header.msg_name = std::ptr::from_mut(&mut to).cast();
    header.msg_namelen = IP6 as u32;
    // Nobody waits for an error, also without MSG_DONTWAIT.
    let length = sys!(recvmsg(fd, &mut header, MSG_ERRQUEUE)).ok()?;
    eq!(header.msg_flags & MSG_ERRQUEUE, MSG_ERRQUEUE);
    Some((data[..length].to_vec(), u16::from_be(to.sin6_port), items(&control[..header.msg_controllen])))
}

fn errors_come_with_what_was_refused() {
    let (server, port) = udp_server();
    works!(close(server));
    let client = udp(AF_INET);
    gives!(setsockopt(client, IPPROTO_IP, IP_RECVERR, &1i32, 4) => 0);
    eq!(next_error(client), None);
    // Also who isn't connected is told.
    for text in [b"one", b"two"] {
        gives!(sendto(client, text, 3, 0, &ip4(port), IP4) => 3);
        is!(ready(client, POLLERR) & POLLERR != 0, "an error");
        let (data, to, all) = next_error(client).unwrap_or_default();
        eq!((&data[..], to), (&text[..], port));
        eq!(all.len(), 1);
        // struct sock_extended_err: ECONNREFUSED by ICMP, "port unreachable"; then who says so.
        eq!((all[0].0, all[0].1), (IPPROTO_IP, IP_RECVERR));
        eq!(&all[0].2[..16], &[111, 0, 0, 0, 2, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0][..]);
        eq!((from_bytes::<u16>(&all[0].2[16..]), &all[0].2[20..24]), (Some(AF_INET as u16), &[127, 0, 0, 1][..]));
    }
    eq!(next_error(client), None);
    eq!(option(client, SOL_SOCKET, SO_ERROR), 0);
}

fn errors_of_ipv6() {
    need_loopback(AF_INET6);
    let client = udp(AF_INET6);
    gives!(setsockopt(client, IPPROTO_IPV6, IPV6_RECVERR, &1i32, 4) => 0);
    let server = udp(AF_INET6);
    gives!(bind(server, &any6(0), IP6) => 0);
    let port = port(server);
    works!(close(server));
    gives!(sendto(client, b"x", 1, 0, &ip6(port), IP6) => 1);
    ready(client, POLLERR);
    let (data, to, all) = next_error(client).unwrap_or_default();
    eq!((&data[..], to, all.len()), (&b"x"[..], port, 1));
    eq!((all[0].0, all[0].1), (IPPROTO_IPV6, IPV6_RECVERR));
    eq!(&all[0].2[..8], &[111, 0, 0, 0, 3, 1, 4, 0][..]);
}

fn segments() {
    const UDP_SEGMENT: c_int = 103;
    const UDP_GRO: c_int = 104;
    let (server, port) = udp_server();
    gives!(setsockopt(server, IPPROTO_UDP, UDP_GRO, &0i32, 4) => 0);
    let client = udp(AF_INET);
    eq!(connect4(client, port), Ok(0));
    gives!(setsockopt(client, IPPROTO_UDP, UDP_SEGMENT, &4i32, 4) => 0);
    eq!(option(client, IPPROTO_UDP, UDP_SEGMENT), 4);
    fails!(setsockopt(client, IPPROTO_UDP, UDP_SEGMENT, &70_000i32, 4) => EINVAL);
    gives!(write(client, b"0123456789", 10) => 10);
    let mut buffer = [0u8; 16];
    for length in [4, 4, 2] {
        gives!(read(server, &mut buffer, 16) => length);
    }
    eq!(&buffer[..2], b"89");
    // A message says it for itself.
    let (list, mut control) = ([piece_of(b"abcdef")], item(IPPROTO_UDP, UDP_SEGMENT, &3u16.to_ne_bytes()));
    let header = message(&list, &mut control);
    gives!(sendmsg(client, &header, 0) => 6);
    for text in [b"abc", b"def"] {
        gives!(read(server, &mut buffer, 16) => 3);
        eq!(&buffer[..3], &text[..]);
    }
    fails!(write(client, &[0u8; 4096], 4096) => EINVAL);
}

fn where_it_was_sent_to() {
    need_loopback(AF_INET6);
    let server = udp(AF_INET6);
    gives!(bind(server, &any6(0), IP6) => 0);
    gives!(setsockopt(server, IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, &1i32, 4) => 0);
    let port = port(server);
    gives!(sendto(udp(AF_INET6), b"x", 1, 0, &ip6(port), IP6) => 1);
    let all = receive(server);
    eq!((all.len(), all[0].0, all[0].1), (1, IPPROTO_IPV6, IPV6_RECVORIGDSTADDR));
    let to: Option<sockaddr_in6> = from_bytes(&all[0].2);
    eq!(to.map(|to| (u16::from_be(to.sin6_port), to.sin6_addr.s6_addr)), Some((port, ip6(0).sin6_addr.s6_addr)));
}

fn the_greatest_packet() {
    let (_, port) = udp_server();
    let client = udp(AF_INET);
    fails!(getsockopt(client, IPPROTO_IP, IP_MTU, &mut 0i32, &mut 4u32) => ENOTCONN);
    eq!(connect4(client, port), Ok(0));
    // Of IPv4; the interface has one byte more.
    eq!(option(client, IPPROTO_IP, IP_MTU), 65535);
}

fn what_has_no_room_is_lost() {
    let (server, port) = udp_server();
    let client = udp(AF_INET);
    gives!(setsockopt(server, SOL_SOCKET, SO_RCVBUF, &50_000i32, 4) => 0);
    gives!(setsockopt(server, SOL_SOCKET, SO_RXQ_OVFL, &1i32, 4) => 0);
    // As many have room as the memory allows that they lie in, which depends on their size by steps.
    for (size, room) in [(1, 120), (300, 78), (2000, 22), (4096, 11), (10_000, 6), (60_000, 1)] {
        let text = vec![b'x'; size];
        let lost_before = told_as_lost(server, client, port);
        for _ in 0..room + 7 {
            gives!(sendto(client, &text[0], size, 0, &ip4(port), IP4) => size);
        }
        for _ in 0..room {
            gives!(recvfrom(server, 0, 0, MSG_DONTWAIT, 0, 0) => 0);
        }
        fails!(recvfrom(server, 0, 0, MSG_DONTWAIT, 0, 0) => EAGAIN);
        eq!((size, told_as_lost(server, client, port)), (size, lost_before + 7));
    }
}

/// How many datagrams had been lost when another came.
fn told_as_lost(server: usize, client: usize, port: u16) -> u32 {
    gives!(sendto(client, b"x", 1, 0, &ip4(port), IP4) => 1);
    let lost = receive(server).into_iter().find(|(level, kind, _)| (*level, *kind) == (SOL_SOCKET, SO_RXQ_OVFL));
    lost.map_or(0, |(_, _, data)| u32::from_ne_bytes(data.try_into().expect("a number")))
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

/// Receives a datagram of one byte, and gives the control data that comes along.
fn receive(server: usize) -> Items {
    received(server, &mut [0])
}

fn packet_info() {
    let (server, port) = udp_server();
    gives!(setsockopt(server, IPPROTO_IP, IP_PKTINFO, &1i32, 4) => 0);
    gives!(sendto(udp(AF_INET), b"x", 1, 0, &ip4(port), IP4) => 1);
    let all = receive(server);
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
    let all = receive(server);
    eq!(all.first().map(|item| (item.1, item.2.clone())), Some((IP_TTL, vec![33, 0, 0, 0])));
}

fn timestamps() {
    let (server, port) = udp_server();
    gives!(setsockopt(server, SOL_SOCKET, SO_TIMESTAMP, &1i32, 4) => 0);
    gives!(sendto(udp(AF_INET), b"x", 1, 0, &ip4(port), IP4) => 1);
    let all = receive(server);
    let time = all.first().and_then(|item| from_bytes::<timeval>(&item.2)).map_or(0, |time| time.tv_sec);
    is!(time > 1_600_000_000, "a time");
    // Sent control data that a UDP socket doesn't know.
    let list = [piece_of(b"x")];
    let mut wrong = item(IPPROTO_IP, 999, &[0; 4]);
    let mut header = message(&list, &mut wrong);
    let address = ip4(port);
    header.msg_name = std::ptr::from_ref(&address).cast_mut().cast();
    header.msg_namelen = IP4 as u32;
    fails!(sendmsg(udp(AF_INET), &header, 0) => EINVAL);
}

fn times_of_arrival() {
    // SOF_TIMESTAMPING_RX_SOFTWARE, to be taken, and SOF_TIMESTAMPING_SOFTWARE, to be told.
    let flags = 1i32 << 3 | 1 << 4;
    let (server, port) = udp_server();
    fails!(setsockopt(server, SOL_SOCKET, SO_TIMESTAMPING, &(1i32 << 30), 4) => EINVAL);
    gives!(setsockopt(server, SOL_SOCKET, SO_TIMESTAMPING, &flags, 4) => 0);
    eq!(option(server, SOL_SOCKET, SO_TIMESTAMPING), flags);
    gives!(sendto(udp(AF_INET), b"x", 1, 0, &ip4(port), IP4) => 1);
    let all = receive(server);
    eq!((all.len(), all[0].0, all[0].1, all[0].2.len()), (1, SOL_SOCKET, SO_TIMESTAMPING, 48));
    is!(from_bytes::<timespec>(&all[0].2).is_some_and(|time| time.tv_sec > 1_600_000_000), "a time");
    is!(all[0].2[16..].iter().all(|byte| *byte == 0), "no time of hardware");
}

fn the_time_to_leave() {
    const SO_TXTIME: c_int = 61;
    let (server, port) = udp_server();
    let client = udp(AF_INET);
    eq!(connect4(client, port), Ok(0));
    fails!(setsockopt(client, SOL_SOCKET, SO_TXTIME, &[CLOCK_MONOTONIC, 4], 8) => EINVAL);
    gives!(setsockopt(client, SOL_SOCKET, SO_TXTIME, &[CLOCK_MONOTONIC, 0], 8) => 0);
    let (list, mut control) = ([piece_of(b"x")], item(SOL_SOCKET, SO_TXTIME, &1u64.to_ne_bytes()));
    gives!(sendmsg(client, &message(&list, &mut control), 0) => 1);
    gives!(read(server, &mut [0u8; 4], 4) => 1);
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
