//! What is said of sockets: addresses, messages, control data. Constants beside those of [`crate::net`].

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of `struct sockaddr_storage`: no address is longer.
pub const ADDRESS_MAX: usize = 128;

/// Most descriptors in one message (Linux: `SCM_MAX_FD`).
pub const SCM_MAX_FD: usize = 253;

/// recvmmsg(2): only the first message is waited for.
pub const MSG_WAITFORONE: u32 = 0x1_0000;
/// Connects with the first data.
pub const MSG_FASTOPEN: u32 = 0x2000_0000;

#[allow(missing_docs)] // As in `linux/in.h`.
pub mod protocol {
    pub const IP: u32 = 0;
    pub const ICMP: u32 = 1;
    pub const TCP: u32 = 6;
    pub const UDP: u32 = 17;
    pub const IPV6: u32 = 41;
    pub const ICMPV6: u32 = 58;
    pub const UDPLITE: u32 = 136;
    pub const RAW: u32 = 255;
}

/// `struct msghdr`, recvmsg(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Msghdr {
    /// Where the address is.
    pub name: u64,
    /// Bytes of it.
    pub namelen: u32,
    /// Nothing.
    pub pad: u32,
    /// Where the pieces of data are described.
    pub iov: u64,
    /// How many there are.
    pub iovlen: u64,
    /// Where control data is.
    pub control: u64,
    /// Bytes of it.
    pub controllen: u64,
    /// `MSG_*`, of a message that was received.
    pub flags: u32,
    /// Nothing.
    pub pad2: u32,
}

/// `struct mmsghdr`, recvmmsg(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Mmsghdr {
    /// The message.
    pub header: Msghdr,
    /// Bytes that went.
    pub len: u32,
    /// Nothing.
    pub pad: u32,
}

/// `struct cmsghdr`: the head of an item of control data, cmsg(3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Cmsghdr {
    /// Bytes, with this head.
    pub len: u64,
    /// `SOL_*`.
    pub level: u32,
    /// `SCM_*`, or an option's number.
    pub kind: u32,
}

/// `struct ucred`, unix(7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Ucred {
    /// A process.
    pub pid: i32,
    /// A user.
    pub uid: u32,
    /// A group.
    pub gid: u32,
}

/// `struct sockaddr_in`, ip(7). Port and address are in network order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)] // The manual page describes each.
pub struct SockaddrIn {
    pub family: u16,
    pub port: [u8; 2],
    pub address: [u8; 4],
    pub zero: [u8; 8],
}

/// `struct sock_extended_err`, ip(7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)] // The manual page describes each.
pub struct SockExtendedErr {
    pub errno: u32,
    pub origin: u8,
    pub kind: u8,
    pub code: u8,
    pub pad: u8,
    pub info: u32,
    pub data: u32,
}

/// `struct sockaddr_in6`, ipv6(7). Port and address are in network order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)] // The manual page describes each.
pub struct SockaddrIn6 {
    pub family: u16,
    pub port: [u8; 2],
    pub flowinfo: u32,
    pub address: [u8; 16],
    pub scope: u32,
}

/// `struct sockaddr_nl`, netlink(7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)] // The manual page describes each.
pub struct SockaddrNl {
    pub family: u16,
    pub pad: u16,
    pub port: u32,
    pub groups: u32,
}
