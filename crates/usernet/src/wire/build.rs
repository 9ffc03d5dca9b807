//! Heads of frames for the guest.

use super::{ETHERNET, Mac, NEEDS_CHECKSUM, Sum, Tcp, Udp, VNET, kind, protocol};
use crate::link::OURS;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Where the checksum stands in TCP's and UDP's headers.
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;

/// All of a frame before its text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    bytes: [u8; Head::MOST],
    length: usize,
}

/// The bytes that a segment or datagram carries; they lie in one or two pieces.
pub(crate) type Text<'a> = [&'a [u8]; 2];

fn length(text: Text<'_>) -> usize {
    text[0].len() + text[1].len()
}

impl Head {
    /// The longest that is made here: all headers, with TCP's options.
    pub(crate) const MOST: usize = VNET + ETHERNET + 40 + 20 + 8;

    pub(crate) fn empty() -> Head {
        Head { bytes: [0; Head::MOST], length: 0 }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    /// A frame of Ethernet's; nothing is left to whoever receives it.
    pub(crate) fn ethernet(to: Mac, kind: u16) -> Head {
        let mut head = Head { length: VNET, ..Head::empty() };
        head.put(&to);
        head.put(&OURS);
        head.put(&kind.to_be_bytes());
        head
    }

    /// A packet with so many bytes of payload; both addresses are of one kind.
    pub(crate) fn ip(to: Mac, source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> Head {
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Head::ipv4(to, source, destination, protocol, length),
            (source, destination) => Head::ipv6(to, sixth(source), sixth(destination), protocol, length),
        }
    }

    /// RFC 791 section 3.1. It isn't to be fragmented, so it needs no number (RFC 6864 section 4.1).
    fn ipv4(to: Mac, source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, length: usize) -> Head {
        let mut head = Head::ethernet(to, kind::IPV4);
        let start = head.length;
        head.put(&[0x45, 0]);
        head.put(&(20 + length as u16).to_be_bytes());
        head.put(&[0, 0, 0x40, 0, 64, protocol, 0, 0]);
        head.put(&source.octets());
        head.put(&destination.octets());
        let mut sum = Sum::default();
        sum.add(&head.bytes[start..head.length]);
        head.bytes[start + 10..start + 12].copy_from_slice(&sum.checksum().to_be_bytes());
        head
    }

    /// RFC 8200 section 3. The hop limit is the one that neighbours must see (RFC 4861 section 6.1.2).
    fn ipv6(to: Mac, source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, length: usize) -> Head {
        let mut head = Head::ethernet(to, kind::IPV6);
        head.put(&[0x60, 0, 0, 0]);
        head.put(&(length as u16).to_be_bytes());
        head.put(&[protocol, 255]);
        head.put(&source.octets());
        head.put(&destination.octets());
        head
    }

    /// A segment; its ports are in `tcp`. The checksum is left to the guest if it takes that, and what is larger than `cut` to be cut.
    pub(crate) fn tcp(to: Mac, ends: (IpAddr, IpAddr), tcp: &Tcp, text: Text<'_>, leave: bool, cut: Option<u16>) -> Head {
        let mut options = [1; 8];
        let mut used = 0;
        if let Some(mss) = tcp.mss {
            options[..4].copy_from_slice(&[2, 4, (mss >> 8) as u8, mss as u8]);
            used = 4;
        }
        if let Some(scale) = tcp.scale {
            // With one byte of padding before it.
            options[used + 1..used + 4].copy_from_slice(&[3, 3, scale]);
            used += 4;
        }
        let header = 20 + used;
        let (source, destination) = ends;
        let mut head = Head::ip(to, source, destination, protocol::TCP, header + length(text));
        let start = head.length;
        head.put(&tcp.source.to_be_bytes());
        head.put(&tcp.destination.to_be_bytes());
        head.put(&tcp.seq.to_be_bytes());
        head.put(&tcp.ack.to_be_bytes());
        head.put(&[(header as u8 / 4) << 4, tcp.flags]);
        head.put(&tcp.window.to_be_bytes());
        head.put(&[0; 4]);
        head.put(&options[..used]);
        head.checksum(ends, protocol::TCP, start, TCP_CHECKSUM, text, leave);
        if let Some(size) = cut.filter(|size| length(text) > usize::from(*size)) {
            // VIRTIO_NET_HDR_GSO_TCPV4 and _TCPV6.
            head.bytes[1] = if source.is_ipv4() { 1 } else { 4 };
            head.bytes[2..4].copy_from_slice(&((head.length - VNET) as u16).to_le_bytes());
            head.bytes[4..6].copy_from_slice(&size.to_le_bytes());
        }
        head
    }

    /// A datagram.
    pub(crate) fn udp(to: Mac, source: SocketAddr, destination: SocketAddr, text: Text<'_>, leave: bool) -> Head {
        let total = Udp::HEADER + length(text);
        let ends = (source.ip(), destination.ip());
        let mut head = Head::ip(to, ends.0, ends.1, protocol::UDP, total);
        let start = head.length;
        head.put(&source.port().to_be_bytes());
        head.put(&destination.port().to_be_bytes());
        head.put(&(total as u16).to_be_bytes());
        head.put(&[0; 2]);
        head.checksum(ends, protocol::UDP, start, UDP_CHECKSUM, text, leave);
        head
    }

    /// Makes the checksum of what starts at `start` and goes on with the text, or leaves it to be made.
    fn checksum(&mut self, ends: (IpAddr, IpAddr), protocol: u8, start: usize, place: usize, text: Text<'_>, leave: bool) {
        let total = self.length - start + length(text);
        let mut sum = Sum::pseudo(ends.0, ends.1, protocol, total);
        let field = if leave {
            self.bytes[0] = NEEDS_CHECKSUM;
            self.bytes[6..8].copy_from_slice(&((start - VNET) as u16).to_le_bytes());
            self.bytes[8..10].copy_from_slice(&(place as u16).to_le_bytes());
            sum.partial()
        } else {
            sum.add(&self.bytes[start..self.length]);
            sum.add(text[0]);
            sum.add(text[1]);
            // RFC 768: zero says that there is none. For TCP the two mean the same.
            Some(sum.checksum()).filter(|sum| *sum != 0).unwrap_or(0xffff)
        };
        self.bytes[start + place..start + place + 2].copy_from_slice(&field.to_be_bytes());
    }

    /// The whole frame, for what is small and rare.
    pub(crate) fn with(&self, payload: &[u8]) -> Vec<u8> {
        [self.bytes(), payload].concat()
    }
}

fn sixth(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}
