//! UDP over the loopback interface, IPv4 and IPv6.

use super::prelude::*;
use super::tcp::{any6, bind4, connect4, mapped, ready, tcp, udp};
use crate::sys::sockets::{IP4, IP6, ip4, ip6, item, items, message, need_loopback, option, port};

tests!("udp":
    udp_flows, udp_connects, udp_refusal, udp_truncation, udp_over_ipv6, udp_size_limits, udp_broadcast_needs_asking,
    packet_info, ttl_and_tos, timestamps, raw_sockets_need_rights, privileged_ports,
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

/// Receives a datagram of one byte, and gives the control data that comes along.
fn receive(server: usize) -> Vec<(c_int, c_int, Vec<u8>)> {
    let mut byte = [0u8];
    let list = [piece(&mut byte)];
    let mut control = [0u8; 64];
    let mut header = message(&list, &mut control);
    gives!(recvmsg(server, &mut header, 0) => 1);
    items(&control[..header.msg_controllen])
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
