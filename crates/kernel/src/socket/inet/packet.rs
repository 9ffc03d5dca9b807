//! Packets as raw sockets see them: heads of IPv4 (RFC 791), messages of ICMP (RFC 792) and ICMPv6 (RFC 4443).

use super::ancillary::Hops;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use insula_abi::socket::protocol;

use alloc::vec::Vec;

/// Bytes of an IPv4 head without options, and of that of an echo.
pub(super) const HEAD4: usize = 20;
pub(super) const ECHO: usize = 8;

/// Where the checksum of an ICMP message is.
const CHECKSUM: usize = 2;

/// "Don't fragment", beside the offset of a fragment.
const DONT_FRAGMENT: u16 = 0x4000;

/// Kinds of messages: an echo that is asked for, and one that comes.
const REQUEST4: u8 = 8;
const REPLY4: u8 = 0;
const REQUEST6: u8 = 128;
const REPLY6: u8 = 129;

/// A packet on its way over loopback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    pub(super) protocol: u8,
    pub(super) hops: Hops,
    /// Of IPv4: the head.
    pub(super) head: Vec<u8>,
    /// What comes after it.
    pub(super) body: Vec<u8>,
}

/// The sum of RFC 1071, before it is folded.
fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))).sum()
}

/// The checksum of a sum: of bytes that have a right one in them it is 0.
fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Writes a checksum at `at`, where `extra` is summed, too.
fn seal(bytes: &mut [u8], at: usize, extra: u32) {
    let Some(place) = bytes.get_mut(at..at + 2) else { return };
    place.copy_from_slice(&[0, 0]);
    let checksum = fold(sum(bytes) + extra);
    bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// What a checksum of IPv6 has in it beside the message: addresses, length, protocol.
fn pseudo_head(from: Ipv6Addr, to: Ipv6Addr, protocol: u8, len: usize) -> u32 {
    sum(&from.octets()) + sum(&to.octets()) + u32::from(protocol) + len as u32
}

impl Packet {
    /// Of these parts; what is sent over IPv4 gets a head.
    pub(super) fn new(from: IpAddr, to: IpAddr, protocol: u8, hops: Hops, body: Vec<u8>) -> Self {
        let head = match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => head4(from, to, protocol, hops, body.len()),
            _ => Vec::new(),
        };
        Packet { from, to, protocol, hops, head, body }
    }

    /// What a program made of IPv4, head and all. What it left open is filled in: the length and the checksum always. None: it is too short.
    pub(super) fn made(mut bytes: Vec<u8>, from: Ipv4Addr) -> Option<Self> {
        let head_len = usize::from(bytes.first()? & 0xf) * 4;
        if !(HEAD4..=bytes.len()).contains(&head_len) {
            return None;
        }
        let body = bytes.split_off(head_len);
        let mut head = bytes;
        head[2..4].copy_from_slice(&((head_len + body.len()) as u16).to_be_bytes());
        if head[12..16] == [0; 4] {
            head[12..16].copy_from_slice(&from.octets());
        }
        seal(&mut head, 10, 0);
        let address = |at: usize| Ipv4Addr::new(head[at], head[at + 1], head[at + 2], head[at + 3]).into();
        Some(Packet { from: address(12), to: address(16), protocol: head[9], hops: (head[8], head[1]), head, body })
    }

    /// Gives an ICMP message its checksum.
    pub(super) fn seal(&mut self) {
        let extra = self.pseudo();
        seal(&mut self.body, CHECKSUM, extra);
    }

    /// Gives the message of an IPv6 packet a checksum at `at`.
    pub(super) fn seal_at(&mut self, at: usize) {
        let extra = self.pseudo();
        seal(&mut self.body, at, extra);
    }

    fn pseudo(&self) -> u32 {
        match (self.from, self.to) {
            (IpAddr::V6(from), IpAddr::V6(to)) => pseudo_head(from, to, self.protocol, self.body.len()),
            _ => 0,
        }
    }

    /// Whether the message has the checksum that it must have.
    fn is_sound(&self) -> bool {
        fold(sum(&self.body) + self.pseudo()) == 0
    }

    /// The kind of an ICMP message; none if it is no such message.
    pub(super) fn icmp_kind(&self) -> Option<u8> {
        let icmp = if self.to.is_ipv4() { protocol::ICMP } else { protocol::ICMPV6 };
        if u32::from(self.protocol) == icmp { self.body.first().copied() } else { None }
    }

    /// If it is an echo that comes: by which number who asked for it knows it.
    pub(super) fn echo(&self) -> Option<u16> {
        let reply = if self.to.is_ipv4() { REPLY4 } else { REPLY6 };
        let is_reply = self.icmp_kind() == Some(reply) && self.body.len() >= ECHO && self.is_sound();
        is_reply.then(|| u16::from_be_bytes([self.body[4], self.body[5]]))
    }

    /// What a host answers: an echo to who asks for one.
    pub(super) fn answer(&self) -> Option<Packet> {
        let (request, reply) = if self.to.is_ipv4() { (REQUEST4, REPLY4) } else { (REQUEST6, REPLY6) };
        if self.to.is_multicast() || self.icmp_kind() != Some(request) || self.body.len() < ECHO || !self.is_sound() {
            return None;
        }
        let mut body = self.body.clone();
        body[0] = reply;
        // With a class as the request had it, and hops anew.
        let mut answer = Packet::new(self.to, self.from, self.protocol, (64, self.hops.1), body);
        answer.seal();
        Some(answer)
    }
}

/// Whether a message asks for an echo, and so may be sent by who may send nothing else.
pub(super) fn asks_for_echo(v4: bool, kind: u8, code: u8) -> bool {
    code == 0 && kind == if v4 { REQUEST4 } else { REQUEST6 }
}

fn head4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, (ttl, tos): Hops, len: usize) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD4);
    head.extend([0x45, tos]);
    head.extend(((HEAD4 + len) as u16).to_be_bytes());
    // Nothing is cut into fragments, so none needs a number to be known by.
    head.extend(0u16.to_be_bytes());
    head.extend(DONT_FRAGMENT.to_be_bytes());
    head.extend([ttl, protocol, 0, 0]);
    head.extend(from.octets());
    head.extend(to.octets());
    seal(&mut head, 10, 0);
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(from: &str, to: &str) -> Packet {
        let (from, to): (IpAddr, IpAddr) = (from.parse().expect("an address"), to.parse().expect("an address"));
        let (protocol, kind) = if to.is_ipv4() { (protocol::ICMP, REQUEST4) } else { (protocol::ICMPV6, REQUEST6) };
        let mut packet = Packet::new(from, to, protocol as u8, (64, 0), alloc::vec![kind, 0, 0, 0, 1, 2, 0, 1, 9]);
        packet.seal();
        packet
    }

    #[test]
    fn heads_have_the_checksum_of_the_standard() {
        let mut bytes = alloc::vec![0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7];
        seal(&mut bytes, 10, 0);
        assert_eq!(bytes[10..12], [0xb8, 0x61]);
        assert_eq!(fold(sum(&bytes)), 0);
    }

    #[test]
    fn who_asks_for_an_echo_gets_one() {
        for (from, to) in [("127.0.0.1", "127.0.0.2"), ("::1", "::1")] {
            let asked = request(from, to);
            assert_eq!(asked.echo(), None);
            let answer = asked.answer().expect("an answer");
            assert_eq!((answer.from, answer.to, answer.echo()), (asked.to, asked.from, Some(0x102)));
            assert_eq!((&answer.body[4..], answer.answer()), (&asked.body[4..], None));
            let mut broken = asked.clone();
            broken.body[8] ^= 1;
            assert_eq!(broken.answer(), None);
        }
    }

    #[test]
    fn what_a_program_makes_is_completed_or_refused() {
        let from = Ipv4Addr::new(127, 0, 0, 9);
        let asked = request("127.0.0.1", "127.0.0.2");
        let mut bytes = asked.head.clone();
        bytes[12..16].fill(0);
        bytes.extend(&asked.body);
        let made = Packet::made(bytes, from).expect("a packet");
        assert_eq!((made.from, made.to, fold(sum(&made.head))), (from.into(), asked.to, 0));
        assert!(Packet::made(alloc::vec![0x45; 19], from).is_none());
        assert!(Packet::made(alloc::vec![0x4f; 40], from).is_none());
        assert!(Packet::made(alloc::vec![0x44; 40], from).is_none());
        assert!(Packet::made(Vec::new(), from).is_none());
    }
}
