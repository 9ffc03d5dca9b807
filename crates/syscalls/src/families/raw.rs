//! Raw sockets and sockets for echoes over the loopback interface: raw(7), icmp(7), what ping(8) does.

use super::prelude::*;
use super::tcp::{connect4, ready};
use crate::sys::sockets::{IP4, IP6, ip4, ip6, items, message, need_loopback, option, port};

tests!("raw":
    echoes, echoes_over_ipv6, kinds_are_filtered, kinds_are_filtered_over_ipv6, heads_of_ones_own, own_heads_are_checked,
    names_and_peers, what_is_told_beside_a_packet, what_is_told_over_ipv6, a_wrong_checksum_is_not_answered, sizes, other_protocols,
    checksums_of_ipv6, echoes_need_a_group, echoes_for_plain_programs, echoes_for_plain_programs_over_ipv6,
    numbers_of_echoes, only_requests_for_echoes, sockets_are_shown,
);

/// Protocols that nobody uses, one a test: several run at a time.
const EXPERIMENTS: [c_int; 4] = [250, 251, 253, 254];

const ICMP_FILTER: c_int = 1;
const REQUEST: u8 = 8;
const REPLY: u8 = 0;
const REQUEST6: u8 = 128;
const REPLY6: u8 = 129;

/// A raw socket, with a loopback interface that nobody else uses.
fn raw(family: c_int, protocol: c_int) -> usize {
    need_root();
    need_loopback(family);
    works!(socket(family, SOCK_RAW, protocol))
}

/// A socket for echoes, in a network where everybody may have one.
fn echo_socket(family: c_int) -> usize {
    need_root();
    let _ = sys!(unshare(CLONE_NEWNET));
    need_loopback(family);
    let_in(OPEN);
    works!(socket(family, SOCK_DGRAM, if family == AF_INET { IPPROTO_ICMP } else { IPPROTO_ICMPV6 }))
}

/// Groups that may have sockets for echoes; the same for all tests, which may share a network.
const OPEN: &str = "0\t4712\n";

/// Lets these groups have sockets for echoes.
fn let_in(groups: &str) {
    if let Err(error) = std::fs::write("/proc/sys/net/ipv4/ping_group_range", groups) {
        skip!("who may ask for echoes can't be changed: {error}");
    }
}

/// The checksum of RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An ICMP message, with its checksum if `sealed`.
fn icmp(kind: u8, number: u16, text: &[u8], sealed: bool) -> Vec<u8> {
    let mut bytes = vec![kind, 0, 0, 0];
    bytes.extend(number.to_be_bytes());
    bytes.extend([0, 7]);
    bytes.extend(text);
    if sealed {
        let sum = checksum(&bytes);
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    bytes
}

/// A number for echoes that no other test's process has.
fn number() -> u16 {
    works!(getpid()) as u16
}

/// The next message of ours, past what others send.
fn next(fd: usize, number: u16, head: usize) -> Vec<u8> {
    loop {
        let mut buffer = [0u8; 256];
        let count = works!(read(fd, &mut buffer, 256));
        if count >= head + 6 && buffer[head + 4..head + 6] == number.to_be_bytes() {
            return buffer[..count].to_vec();
        }
    }
}

fn echoes() {
    let fd = raw(AF_INET, IPPROTO_ICMP);
    let request = icmp(REQUEST, number(), b"hello", true);
    gives!(sendto(fd, &*request, request.len(), 0, &ip4(0), IP4) => request.len());
    // What it sends comes by here itself, and then the answer.
    let seen = next(fd, number(), 20);
    eq!((seen.len(), seen.get(20)), (20 + request.len(), Some(&REQUEST)));
    eq!((seen[0], seen[9], checksum(&seen[..20])), (0x45, IPPROTO_ICMP as u8, 0));
    eq!((u16::from_be_bytes([seen[2], seen[3]]) as usize, seen[8]), (seen.len(), 64));
    eq!((&seen[12..16], &seen[16..20]), (&[127, 0, 0, 1][..], &[127, 0, 0, 1][..]));
    let answer = next(fd, number(), 20);
    eq!((answer.len(), answer.get(20)), (seen.len(), Some(&REPLY)));
    eq!((&answer[24..], checksum(&answer[20..])), (&request[4..], 0));
}

fn echoes_over_ipv6() {
    let fd = raw(AF_INET6, IPPROTO_ICMPV6);
    // The kernel writes the checksum.
    let request = icmp(REQUEST6, number(), b"hello", false);
    gives!(sendto(fd, &*request, request.len(), 0, &ip6(0), IP6) => request.len());
    let seen = next(fd, number(), 0);
    eq!((seen.len(), seen.first()), (request.len(), Some(&REQUEST6)));
    is!(seen[2..4] != [0, 0], "a checksum");
    let answer = next(fd, number(), 0);
    eq!((answer.first(), &answer[4..]), (Some(&REPLY6), &request[4..]));
}

fn kinds_are_filtered() {
    let fd = raw(AF_INET, IPPROTO_ICMP);
    let unwanted = !(1u32 << REPLY);
    gives!(setsockopt(fd, SOL_RAW, ICMP_FILTER, &unwanted, 4) => 0);
    let (mut got, mut length) = ([0u32; 2], 8u32);
    gives!(getsockopt(fd, SOL_RAW, ICMP_FILTER, &mut got, &mut length) => 0);
    eq!((got[0], length), (unwanted, 4));
    let request = icmp(REQUEST, number(), b"", true);
    gives!(sendto(fd, &*request, request.len(), 0, &ip4(0), IP4) => 8);
    eq!(next(fd, number(), 20)[20], REPLY);
    let other = works!(socket(AF_INET, SOCK_RAW, IPPROTO_EGP));
    fails!(setsockopt(other, SOL_RAW, ICMP_FILTER, &unwanted, 4) => EOPNOTSUPP);
    fails!(getsockopt(other, SOL_RAW, ICMP_FILTER, &mut got, &mut length) => EOPNOTSUPP);
    fails!(setsockopt(fd, SOL_RAW, 77, &unwanted, 4) => ENOPROTOOPT);
}

fn kinds_are_filtered_over_ipv6() {
    let fd = raw(AF_INET6, IPPROTO_ICMPV6);
    let mut unwanted = [u32::MAX; 8];
    unwanted[usize::from(REPLY6) / 32] &= !(1 << (REPLY6 % 32));
    gives!(setsockopt(fd, IPPROTO_ICMPV6, ICMP_FILTER, &unwanted, 32) => 0);
    let (mut got, mut length) = ([0u32; 8], 32u32);
    gives!(getsockopt(fd, IPPROTO_ICMPV6, ICMP_FILTER, &mut got, &mut length) => 0);
    eq!((got, length), (unwanted, 32));
    let request = icmp(REQUEST6, number(), b"", false);
    gives!(sendto(fd, &*request, request.len(), 0, &ip6(0), IP6) => 8);
    eq!(next(fd, number(), 0)[0], REPLY6);
}

/// A packet of IPv4 with a head of ours: from nowhere, without length and checksum.
fn packet(protocol: u8, ttl: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x45, 0, 0, 0, 0x12, 0x34, 0, 0, ttl, protocol, 0, 0, 0, 0, 0, 0, 127, 0, 0, 1];
    bytes.extend(body);
    bytes
}

fn heads_of_ones_own() {
    let (fd, receiver) = (raw(AF_INET, IPPROTO_RAW), works!(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP)));
    eq!(option(fd, SOL_IP, IP_HDRINCL), 1);
    eq!(option(receiver, SOL_IP, IP_HDRINCL), 0);
    let bytes = packet(IPPROTO_ICMP as u8, 9, &icmp(REPLY, number(), b"mine", true));
    gives!(sendto(fd, &*bytes, bytes.len(), 0, &ip4(0), IP4) => bytes.len());
    let seen = next(receiver, number(), 20);
    eq!((&seen[4..6], seen[8], &seen[12..16]), (&[0x12, 0x34][..], 9, &[127, 0, 0, 1][..]));
    eq!((u16::from_be_bytes([seen[2], seen[3]]) as usize, checksum(&seen[..20])), (bytes.len(), 0));
    gives!(setsockopt(receiver, SOL_IP, IP_HDRINCL, &1i32, 4) => 0);
    gives!(sendto(receiver, &*bytes, bytes.len(), 0, &ip4(0), IP4) => bytes.len());
    eq!(next(receiver, number(), 20)[8], 9);
    // A socket of "raw" itself receives nothing.
    fails!(recvfrom(fd, &mut [0u8; 8], 8, MSG_DONTWAIT, 0, 0) => EAGAIN);
}

fn own_heads_are_checked() {
    let fd = raw(AF_INET, IPPROTO_RAW);
    let mut bytes = packet(IPPROTO_ICMP as u8, 9, b"");
    fails!(sendto(fd, &*bytes, 19, 0, &ip4(0), IP4) => EINVAL);
    fails!(sendto(fd, &*bytes, 0, 0, &ip4(0), IP4) => EINVAL);
    bytes[0] = 0x4f;
    fails!(sendto(fd, &*bytes, 20, 0, &ip4(0), IP4) => EINVAL);
    fails!(sendto(fd, BAD, 20, 0, &ip4(0), IP4) => EFAULT);
}

fn names_and_peers() {
    let fd = raw(AF_INET, IPPROTO_ICMP);
    // The port of its name is the protocol.
    eq!(port(fd), IPPROTO_ICMP as u16);
    eq!(option(fd, SOL_SOCKET, SO_TYPE), SOCK_RAW);
    eq!(option(fd, SOL_SOCKET, SO_PROTOCOL), IPPROTO_ICMP);
    let request = icmp(REQUEST, number(), b"", true);
    fails!(sendto(fd, &*request, 8, 0, 0, 0) => EDESTADDRREQ);
    fails!(sendto(fd, &*request, 8, 0, &ip4(0), 8) => EINVAL);
    fails!(sendto(fd, &*request, 8, 0, &ip6(0), IP6) => EAFNOSUPPORT);
    fails!(getpeername(fd, &mut ip4(0), &mut 16u32) => ENOTCONN);
    fails!(listen(fd, 1) => EOPNOTSUPP);
    fails!(accept(fd, 0, 0) => EOPNOTSUPP);
    let mut elsewhere = ip4(0);
    elsewhere.sin_addr.s_addr = u32::from_ne_bytes([192, 0, 2, 77]);
    fails!(bind(fd, &elsewhere, IP4) => EADDRNOTAVAIL);
    fails!(shutdown(fd, SHUT_RD) => ENOTCONN);
    eq!(connect4(fd, 0), Ok(0));
    gives!(sendto(fd, &*request, 8, 0, 0, 0) => 8);
    let (mut from, mut length) = (ip4(9), 16u32);
    works!(recvfrom(fd, &mut [0u8; 64], 64, 0, &mut from, &mut length));
    eq!((length, from.sin_port, from.sin_addr.s_addr), (16, 0, ip4(0).sin_addr.s_addr));
    // A peer without a port has no name.
    fails!(getpeername(fd, &mut from, &mut length) => ENOTCONN);
    // From another address nothing comes any more.
    let far = works!(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
    let mut second = ip4(0);
    second.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 2]);
    gives!(bind(far, &second, IP4) => 0);
    let stranger = icmp(REPLY, number(), b"stranger", true);
    gives!(sendto(far, &*stranger, stranger.len(), 0, &ip4(0), IP4) => stranger.len());
    let own = icmp(REPLY, number(), b"own", true);
    gives!(sendto(fd, &*own, own.len(), 0, 0, 0) => own.len());
    // What other tests send to this address may be before it.
    let mut texts: Vec<Vec<u8>> = Vec::new();
    while texts.last().is_none_or(|text| text != b"own") {
        texts.push(next(fd, number(), 20)[28..].to_vec());
    }
    is!(!texts.contains(&b"stranger".to_vec()), "nothing of a stranger's");
}

fn what_is_told_beside_a_packet() {
    let fd = raw(AF_INET, EXPERIMENTS[0]);
    for name in [IP_PKTINFO, IP_RECVTTL, IP_RECVTOS] {
        gives!(setsockopt(fd, SOL_IP, name, &1i32, 4) => 0);
    }
    gives!(setsockopt(fd, SOL_IP, IP_TTL, &5i32, 4) => 0);
    gives!(sendto(fd, b"12345678", 8, 0, &ip4(0), IP4) => 8);
    let (mut buffer, mut control) = ([0u8; 64], [0u8; 256]);
    let list = [piece(&mut buffer)];
    let mut head = message(&list, &mut control);
    gives!(recvmsg(fd, &mut head, 0) => 28);
    let told = items(&control[..head.msg_controllen]);
    let kinds: Vec<_> = told.iter().map(|(level, kind, _)| (*level, *kind)).collect();
    eq!(kinds, [(SOL_IP, IP_PKTINFO), (SOL_IP, IP_TTL), (SOL_IP, IP_TOS)]);
    eq!(from_bytes::<c_int>(&told[1].2), Some(5));
}

fn what_is_told_over_ipv6() {
    const IPV6_2292PKTINFO: c_int = 2;
    const IPV6_2292HOPLIMIT: c_int = 8;
    let fd = raw(AF_INET6, EXPERIMENTS[1]);
    for name in [IPV6_RECVPKTINFO, IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS, IPV6_2292PKTINFO, IPV6_2292HOPLIMIT] {
        gives!(setsockopt(fd, SOL_IPV6, name, &1i32, 4) => 0);
        eq!(option(fd, SOL_IPV6, name), 1);
    }
    gives!(setsockopt(fd, SOL_IPV6, IPV6_UNICAST_HOPS, &5i32, 4) => 0);
    gives!(sendto(fd, b"text", 4, 0, &ip6(0), IP6) => 4);
    let (mut buffer, mut control) = ([0u8; 64], [0u8; 256]);
    let list = [piece(&mut buffer)];
    let mut head = message(&list, &mut control);
    gives!(recvmsg(fd, &mut head, 0) => 4);
    let told = items(&control[..head.msg_controllen]);
    let kinds: Vec<_> = told.iter().map(|(level, kind, _)| (*level, *kind)).collect();
    let expected = [IPV6_PKTINFO, IPV6_HOPLIMIT, IPV6_TCLASS, IPV6_2292PKTINFO, IPV6_2292HOPLIMIT];
    eq!(kinds, expected.map(|kind| (SOL_IPV6, kind)));
    eq!((from_bytes::<c_int>(&told[1].2), from_bytes::<c_int>(&told[4].2)), (Some(5), Some(5)));
    eq!(&told[0].2, &told[3].2);
}

fn a_wrong_checksum_is_not_answered() {
    let fd = raw(AF_INET, IPPROTO_ICMP);
    let mut request = icmp(REQUEST, number(), b"wrong", true);
    request[2] ^= 0x55;
    gives!(sendto(fd, &*request, request.len(), 0, &ip4(0), IP4) => request.len());
    eq!(next(fd, number(), 20)[20], REQUEST);
    let right = icmp(REQUEST, number(), b"right", true);
    gives!(sendto(fd, &*right, right.len(), 0, &ip4(0), IP4) => right.len());
    for kind in [REQUEST, REPLY] {
        let seen = next(fd, number(), 20);
        eq!((seen[20], &seen[28..]), (kind, &b"right"[..]));
    }
}

fn sizes() {
    let fd = raw(AF_INET, EXPERIMENTS[2]);
    let much = vec![0u8; 70_000];
    fails!(sendto(fd, &*much, 65536, 0, &ip4(0), IP4) => EMSGSIZE);
    fails!(sendto(fd, &*much, 65535, 0, &ip4(0), IP4) => EMSGSIZE);
    fails!(sendto(fd, &*much, 8, MSG_OOB, &ip4(0), IP4) => EOPNOTSUPP);
    fails!(recvfrom(fd, &mut [0u8; 8], 8, MSG_OOB | MSG_DONTWAIT, 0, 0) => EOPNOTSUPP);
    fails!(recvfrom(fd, &mut [0u8; 8], 8, MSG_ERRQUEUE, 0, 0) => EAGAIN);
    gives!(sendto(fd, b"012345678901234567", 18, 0, &ip4(0), IP4) => 18);
    gives!(recvfrom(fd, &mut [0u8; 30], 30, MSG_TRUNC | MSG_PEEK, 0, 0) => 38);
    gives!(read(fd, &mut [0u8; 30], 30) => 30);
}

fn other_protocols() {
    let (fd, other) = (raw(AF_INET, IPPROTO_EGP), works!(socket(AF_INET, SOCK_RAW, IPPROTO_PUP)));
    gives!(sendto(fd, b"text", 4, 0, &ip4(0), IP4) => 4);
    let mut buffer = [0u8; 64];
    gives!(read(fd, &mut buffer, 64) => 24);
    eq!((buffer[9], &buffer[20..24]), (IPPROTO_EGP as u8, &b"text"[..]));
    fails!(recvfrom(other, &mut buffer, 64, MSG_DONTWAIT, 0, 0) => EAGAIN);
    let six = works!(socket(AF_INET6, SOCK_RAW, IPPROTO_EGP));
    need_loopback(AF_INET6);
    gives!(sendto(six, b"text", 4, 0, &ip6(0), IP6) => 4);
    gives!(read(six, &mut buffer, 64) => 4);
    // A port of an address of IPv6 names the protocol.
    gives!(sendto(six, b"text", 4, 0, &ip6(IPPROTO_EGP as u16), IP6) => 4);
    fails!(sendto(six, b"text", 4, 0, &ip6(99), IP6) => EINVAL);
    fails!(socket(AF_INET, SOCK_RAW, 0) => EPROTONOSUPPORT);
    fails!(socket(AF_INET, SOCK_RAW, 999) => EINVAL);
}

fn checksums_of_ipv6() {
    const IPV6_CHECKSUM: c_int = 7;
    let fd = raw(AF_INET6, EXPERIMENTS[3]);
    eq!(option(fd, SOL_IPV6, IPV6_CHECKSUM), -1);
    fails!(setsockopt(fd, SOL_IPV6, IPV6_CHECKSUM, &3i32, 4) => EINVAL);
    gives!(setsockopt(fd, SOL_IPV6, IPV6_CHECKSUM, &2i32, 4) => 0);
    eq!(option(fd, SOL_IPV6, IPV6_CHECKSUM), 2);
    gives!(sendto(fd, &[1u8, 2, 0, 0, 3, 4], 6, 0, &ip6(0), IP6) => 6);
    let mut buffer = [0u8; 8];
    gives!(read(fd, &mut buffer, 8) => 6);
    // Addresses (1 and 1), length and protocol are summed, too.
    let mut whole = vec![0, 1, 0, 1, 0, 6, 0, EXPERIMENTS[3] as u8];
    whole.extend(&buffer[..6]);
    eq!(checksum(&whole), 0);
    fails!(sendto(fd, &[1u8, 2, 0], 3, 0, &ip6(0), IP6) => EINVAL);
    let icmp = works!(socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6));
    eq!(option(icmp, SOL_IPV6, IPV6_CHECKSUM), 2);
    fails!(setsockopt(icmp, SOL_IPV6, IPV6_CHECKSUM, &4i32, 4) => EINVAL);
}

fn echoes_need_a_group() {
    need_root();
    let _ = sys!(unshare(CLONE_NEWNET));
    let_in(OPEN);
    let ours = std::fs::read_to_string("/proc/sys/net/ipv4/ping_group_range").unwrap_or_default();
    eq!(ours.as_str(), OPEN);
    gives!(setgroups(0, 0) => 0);
    works!(socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP));
    gives!(setgroups(1, &[4712u32]) => 0);
    gives!(setresgid(4713, 4713, 4713) => 0);
    works!(socket(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6));
    gives!(setgroups(1, &[4714u32]) => 0);
    fails!(socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP) => EACCES);
    fails!(socket(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6) => EACCES);
}

fn echoes_for_plain_programs() {
    let fd = echo_socket(AF_INET);
    eq!(port(fd), 0);
    // Number and checksum are the kernel's to write.
    let request = icmp(REQUEST, 0, b"hello", false);
    gives!(sendto(fd, &*request, request.len(), 0, &ip4(0), IP4) => request.len());
    is!(port(fd) != 0, "a number");
    is!(ready(fd, POLLIN) & POLLIN != 0, "an answer");
    let (mut from, mut length) = (ip4(9), 16u32);
    let mut buffer = [0u8; 64];
    gives!(recvfrom(fd, &mut buffer, 64, 0, &mut from, &mut length) => request.len());
    eq!((length, from.sin_port, from.sin_addr.s_addr), (16, 0, ip4(0).sin_addr.s_addr));
    let answer = &buffer[..request.len()];
    eq!((answer[0], checksum(answer), &answer[4..6], &answer[6..]), (REPLY, 0, &port(fd).to_be_bytes()[..], &request[6..]));
    // Its own request it doesn't see, nor what is for another number.
    fails!(recvfrom(fd, &mut buffer, 64, MSG_DONTWAIT, 0, 0) => EAGAIN);
    let other = echo_socket_beside(AF_INET);
    gives!(sendto(other, &*request, request.len(), 0, &ip4(0), IP4) => request.len());
    is!(ready(other, POLLIN) & POLLIN != 0, "an answer");
    fails!(recvfrom(fd, &mut buffer, 64, MSG_DONTWAIT, 0, 0) => EAGAIN);
}

/// One more in the same network.
fn echo_socket_beside(family: c_int) -> usize {
    works!(socket(family, SOCK_DGRAM, if family == AF_INET { IPPROTO_ICMP } else { IPPROTO_ICMPV6 }))
}

fn echoes_for_plain_programs_over_ipv6() {
    let fd = echo_socket(AF_INET6);
    let request = icmp(REQUEST6, 0, b"hello", false);
    gives!(sendto(fd, &*request, request.len(), 0, &ip6(0), IP6) => request.len());
    is!(ready(fd, POLLIN) & POLLIN != 0, "an answer");
    let mut buffer = [0u8; 64];
    gives!(read(fd, &mut buffer, 64) => request.len());
    eq!((buffer[0], &buffer[6..request.len()]), (REPLY6, &request[6..]));
}

fn numbers_of_echoes() {
    let fd = echo_socket(AF_INET);
    gives!(bind(fd, &ip4(4321), IP4) => 0);
    eq!(port(fd), 4321);
    fails!(bind(fd, &ip4(4322), IP4) => EINVAL);
    let other = echo_socket_beside(AF_INET);
    // From the beginning others may have the same, unless one of them says no.
    eq!(option(other, SOL_SOCKET, SO_REUSEADDR), 1);
    gives!(setsockopt(other, SOL_SOCKET, SO_REUSEADDR, &0i32, 4) => 0);
    fails!(bind(other, &ip4(4321), IP4) => EADDRINUSE);
    let mut elsewhere = ip4(0);
    elsewhere.sin_addr.s_addr = u32::from_ne_bytes([192, 0, 2, 77]);
    fails!(bind(other, &elsewhere, IP4) => EADDRNOTAVAIL);
    works!(close(fd));
    gives!(bind(other, &ip4(4321), IP4) => 0);
    let request = icmp(REQUEST, 77, b"", false);
    eq!(connect4(other, 0), Ok(0));
    gives!(write(other, &*request, 8) => 8);
    is!(ready(other, POLLIN) & POLLIN != 0, "an answer");
    let mut buffer = [0u8; 8];
    gives!(read(other, &mut buffer, 8) => 8);
    eq!(&buffer[4..6], &4321u16.to_be_bytes()[..]);
}

fn only_requests_for_echoes() {
    let fd = echo_socket(AF_INET);
    for (kind, code) in [(REPLY, 0), (3, 3), (REQUEST, 1), (13, 0)] {
        let mut wrong = icmp(kind, 0, b"", false);
        wrong[1] = code;
        fails!(sendto(fd, &*wrong, 8, 0, &ip4(0), IP4) => EINVAL);
    }
    let request = icmp(REQUEST, 0, b"", false);
    fails!(sendto(fd, &*request, 7, 0, &ip4(0), IP4) => EINVAL);
    fails!(sendto(fd, &*request, 8, MSG_OOB, &ip4(0), IP4) => EOPNOTSUPP);
    fails!(sendto(fd, &*request, 8, 0, 0, 0) => EDESTADDRREQ);
    fails!(sendto(fd, &*request, 8, 0, &ip6(0), IP6) => EAFNOSUPPORT);
    fails!(sendto(fd, BAD, 8, 0, &ip4(0), IP4) => EFAULT);
    fails!(setsockopt(fd, SOL_RAW, ICMP_FILTER, &0u32, 4) => EOPNOTSUPP | ENOPROTOOPT);
    fails!(setsockopt(fd, SOL_IP, IP_HDRINCL, &1i32, 4) => ENOPROTOOPT);
    gives!(setsockopt(fd, SOL_IP, IP_RETOPTS, &1i32, 4) => 0);
    eq!(option(fd, SOL_IP, IP_RETOPTS), 1);
}

fn sockets_are_shown() {
    let fd = raw(AF_INET, IPPROTO_EGP);
    let mut status: libc::stat = zeroed();
    works!(fstat(fd, &mut status));
    let text = std::fs::read_to_string("/proc/self/net/raw").unwrap_or_default();
    let inode = status.st_ino.to_string();
    let line = text.lines().find(|line| line.split_ascii_whitespace().nth(9) == Some(&inode)).unwrap_or_default();
    let fields: Vec<_> = line.split_ascii_whitespace().collect();
    eq!(fields.get(1..4), Some(&["00000000:0008", "00000000:0000", "07"][..]));
}
