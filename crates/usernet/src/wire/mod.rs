//! What stands in a frame.
//!
//! A frame is `virtio_net_hdr` (12 bytes), an Ethernet header, and a packet. Headers are copied out of the guest's memory once and read
//! from there; a frame for the guest is a head that is made here, and bytes that lie elsewhere.

mod build;
mod checksum;
mod read;

pub(crate) use build::Head;
pub(crate) use checksum::Sum;
pub(crate) use read::{Fields, Ip, Tcp, Udp, ip};

/// An address of Ethernet's.
pub(crate) type Mac = [u8; 6];
pub(crate) const BROADCAST: Mac = [0xff; 6];

/// `virtio_net_hdr` with `num_buffers` (virtio 1.2, section 5.1.6).
pub(crate) const VNET: usize = 12;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the checksum is the other's to make.
pub(crate) const NEEDS_CHECKSUM: u8 = 1;
/// `VIRTIO_NET_HDR_F_DATA_VALID`: the checksum was looked at already.
pub(crate) const CHECKED: u8 = 2;
pub(crate) const ETHERNET: usize = 14;

/// Kinds of Ethernet frames (IEEE 802 numbers).
pub(crate) mod kind {
    pub(crate) const IPV4: u16 = 0x0800;
    pub(crate) const ARP: u16 = 0x0806;
    pub(crate) const IPV6: u16 = 0x86dd;
}

/// Protocols over IP (IANA's protocol numbers).
pub(crate) mod protocol {
    pub(crate) const ICMP: u8 = 1;
    pub(crate) const TCP: u8 = 6;
    pub(crate) const UDP: u8 = 17;
    pub(crate) const ICMPV6: u8 = 58;
}

/// Flags of a TCP segment (RFC 9293 section 3.1).
pub(crate) mod flag {
    pub(crate) const FIN: u8 = 1;
    pub(crate) const SYN: u8 = 2;
    pub(crate) const RST: u8 = 4;
    pub(crate) const PSH: u8 = 8;
    pub(crate) const ACK: u8 = 16;
}
