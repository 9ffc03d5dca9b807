//! The options of IPv4 and IPv6, ip(7) and ipv6(7).

use super::Inet;
use super::endpoint;
use crate::socket::Address;
use crate::socket::Common;
use crate::socket::options::{number, number_or_byte};
use crate::sync::Mutex;
use crate::task::Task;
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use insula_abi::general as c;
use insula_abi::net as n;
use insula_abi::socket::protocol;

/// Most groups that one socket may be in (Linux: `net.ipv4.igmp_max_memberships`).
const GROUPS_MAX: usize = 20;

/// Bytes of a packet over loopback.
const MTU: u32 = 65536;

/// Options of one socket.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // The manual pages describe each.
pub struct IpOptions {
    /// `IPV6_V6ONLY`.
    pub only6: bool,
    /// None is the default, 64.
    pub ttl: Option<u8>,
    pub tos: u8,
    pub packet_info: bool,
    pub receive_ttl: bool,
    pub receive_tos: bool,
    /// What no packet has is never told: `IP_RECVOPTS`, `IP_RETOPTS`.
    pub receive_options: bool,
    pub return_options: bool,
    pub receive_error: bool,
    pub receive_destination: bool,
    pub free_bind: bool,
    pub transparent: bool,
    pub bind_without_port: bool,
    pub discover_mtu: i32,
    pub multicast_ttl: u8,
    pub multicast_loop: bool,
    pub multicast_all: bool,
    pub multicast_interface: u32,
    /// Of IPv6, likewise.
    pub hops: Option<u8>,
    pub class: u8,
    pub packet_info6: bool,
    pub receive_hops: bool,
    /// As RFC 2292 had them.
    pub old_packet_info6: bool,
    pub old_hops: bool,
    pub receive_class: bool,
    pub receive_error6: bool,
    pub receive_destination6: bool,
    pub multicast_hops: u8,
    pub dont_fragment: bool,
    /// Groups it has joined.
    pub groups: Vec<IpAddr>,
}

impl Default for IpOptions {
    fn default() -> Self {
        IpOptions {
            only6: false,
            ttl: None,
            tos: 0,
            packet_info: false,
            receive_ttl: false,
            receive_tos: false,
            receive_options: false,
            return_options: false,
            receive_error: false,
            receive_destination: false,
            free_bind: false,
            transparent: false,
            bind_without_port: false,
            discover_mtu: 1,
            multicast_ttl: 1,
            multicast_loop: true,
            multicast_all: true,
            multicast_interface: 0,
            hops: None,
            class: 0,
            packet_info6: false,
            receive_hops: false,
            old_packet_info6: false,
            old_hops: false,
            receive_class: false,
            receive_error6: false,
            receive_destination6: false,
            multicast_hops: 1,
            dont_fragment: false,
            groups: Vec::new(),
        }
    }
}

/// The address that a program passes to bind(2).
///
/// # Errors
/// Those of [`endpoint::parse`]; `EINVAL`: IPv4, on a socket that is only for IPv6.
pub(super) fn bind_address(domain: u32, address: &Address, only6: bool) -> Result<SocketAddr> {
    // For old programs, no family is IPv4's.
    if domain == n::AF_INET && address.family() == Some(n::AF_UNSPEC) && address.bytes().len() >= 16 {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&address.bytes()[..16]);
        bytes[..2].copy_from_slice(&(n::AF_INET as u16).to_ne_bytes());
        let at = endpoint::parse(domain, &Address::new(&bytes)?)?;
        return if at.ip().is_unspecified() { Ok(at) } else { Err(Errno::EAFNOSUPPORT) };
    }
    let at = endpoint::parse(domain, address)?;
    if domain == n::AF_INET6 && at.is_ipv4() && only6 { Err(Errno::EINVAL) } else { Ok(at) }
}

/// Sets an option.
pub(super) fn set(
    options: &Mutex<IpOptions>,
    common: &Common,
    task: &Arc<Task>,
    level: u32,
    name: u32,
    value: &[u8],
) -> Result<()> {
    match level {
        protocol::IP => set4(options, common, task, name, value),
        protocol::IPV6 if common.domain == n::AF_INET6 => set6(options, common.inet(), name, value),
        _ => Err(Errno::ENOPROTOOPT),
    }
}

fn byte(value: i32, range: core::ops::RangeInclusive<i32>) -> Result<u8> {
    if range.contains(&value) { Ok(value as u8) } else { Err(Errno::EINVAL) }
}

fn set4(options: &Mutex<IpOptions>, common: &Common, task: &Arc<Task>, name: u32, value: &[u8]) -> Result<()> {
    match name {
        n::IP_ADD_MEMBERSHIP | n::IP_DROP_MEMBERSHIP => {
            let group: [u8; 4] = value.get(..4).and_then(|bytes| bytes.try_into().ok()).ok_or(Errno::EINVAL)?;
            let index = value.get(8..12).map_or(0, |bytes| u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
            if value.len() < 8 {
                return Err(Errno::EINVAL);
            }
            return group_changed(options, common.inet(), Ipv4Addr::from(group).into(), index, name == n::IP_ADD_MEMBERSHIP);
        }
        n::IP_MULTICAST_IF => {
            // An address, or a structure that ends in a number.
            let index = value.get(8..12).map_or(0, |bytes| u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
            options.lock().multicast_interface = index;
            return if value.len() < 4 { Err(Errno::EINVAL) } else { Ok(()) };
        }
        _ => {}
    }
    let number = number_or_byte(value)?;
    let mut options = options.lock();
    match name {
        n::IP_TTL => options.ttl = if number == -1 { None } else { Some(byte(number, 1..=255)?) },
        n::IP_TOS => options.tos = number as u8,
        n::IP_PKTINFO => options.packet_info = number != 0,
        n::IP_RECVTTL => options.receive_ttl = number != 0,
        n::IP_RECVTOS => options.receive_tos = number != 0,
        n::IP_RECVOPTS => options.receive_options = number != 0,
        n::IP_RETOPTS => options.return_options = number != 0,
        n::IP_RECVERR => options.receive_error = number != 0,
        n::IP_RECVORIGDSTADDR => options.receive_destination = number != 0,
        n::IP_FREEBIND => options.free_bind = number != 0,
        n::IP_TRANSPARENT
            if number != 0 && ![c::CAP_NET_ADMIN, c::CAP_NET_RAW].into_iter().any(|right| common.net.grants(task, right)) =>
        {
            return Err(Errno::EPERM);
        }
        n::IP_TRANSPARENT => options.transparent = number != 0,
        n::IP_BIND_ADDRESS_NO_PORT => options.bind_without_port = number != 0,
        n::IP_MTU_DISCOVER => options.discover_mtu = i32::from(byte(number, 0..=5)?),
        n::IP_MULTICAST_TTL if number == -1 => options.multicast_ttl = 1,
        n::IP_MULTICAST_TTL => options.multicast_ttl = byte(number, 0..=255)?,
        n::IP_MULTICAST_LOOP => options.multicast_loop = number != 0,
        n::IP_MULTICAST_ALL => options.multicast_all = byte(number, 0..=1)? != 0,
        _ => return Err(Errno::ENOPROTOOPT),
    }
    Ok(())
}

fn set6(options: &Mutex<IpOptions>, inet: &Inet, name: u32, value: &[u8]) -> Result<()> {
    if matches!(name, n::IPV6_ADD_MEMBERSHIP | n::IPV6_DROP_MEMBERSHIP) {
        let group: [u8; 16] = value.get(..16).and_then(|bytes| bytes.try_into().ok()).ok_or(Errno::EINVAL)?;
        let index = number(value.get(16..).unwrap_or_default())? as u32;
        return group_changed(options, inet, Ipv6Addr::from(group).into(), index, name == n::IPV6_ADD_MEMBERSHIP);
    }
    let number = number(value)?;
    let mut options = options.lock();
    let hops = |number| if number == -1 { Ok(None) } else { byte(number, 0..=255).map(Some) };
    match name {
        n::IPV6_V6ONLY => options.only6 = number != 0,
        n::IPV6_UNICAST_HOPS => options.hops = hops(number)?,
        n::IPV6_MULTICAST_HOPS => options.multicast_hops = hops(number)?.unwrap_or(1),
        n::IPV6_MULTICAST_LOOP => options.multicast_loop = byte(number, 0..=1)? != 0,
        n::IPV6_MULTICAST_IF => options.multicast_interface = number as u32,
        n::IPV6_MULTICAST_ALL => options.multicast_all = byte(number, 0..=1)? != 0,
        n::IPV6_RECVPKTINFO => options.packet_info6 = number != 0,
        n::IPV6_RECVHOPLIMIT => options.receive_hops = number != 0,
        n::IPV6_2292PKTINFO => options.old_packet_info6 = number != 0,
        n::IPV6_2292HOPLIMIT => options.old_hops = number != 0,
        n::IPV6_RECVTCLASS => options.receive_class = number != 0,
        n::IPV6_TCLASS => options.class = if number == -1 { 0 } else { byte(number, 0..=255)? },
        n::IPV6_RECVERR => options.receive_error6 = number != 0,
        n::IPV6_RECVORIGDSTADDR => options.receive_destination6 = number != 0,
        n::IPV6_DONTFRAG => options.dont_fragment = number != 0,
        n::IPV6_MTU_DISCOVER => options.discover_mtu = i32::from(byte(number, 0..=5)?),
        n::IPV6_FREEBIND => options.free_bind = number != 0,
        n::IPV6_AUTOFLOWLABEL | n::IPV6_ADDR_PREFERENCES | n::IPV6_FLOWINFO_SEND => {}
        _ => return Err(Errno::ENOPROTOOPT),
    }
    Ok(())
}

/// Joins a group, or leaves it.
fn group_changed(options: &Mutex<IpOptions>, inet: &Inet, group: IpAddr, interface: u32, join: bool) -> Result<()> {
    if !group.is_multicast() {
        return Err(Errno::EINVAL);
    }
    if interface != 0 && inet.interfaces.numbered(interface).is_none() {
        return Err(Errno::ENODEV);
    }
    let mut options = options.lock();
    match options.groups.iter().position(|other| *other == group) {
        Some(_) if join => Err(Errno::EADDRINUSE),
        None if !join => Err(Errno::EADDRNOTAVAIL),
        None if options.groups.len() >= GROUPS_MAX => Err(Errno::ENOBUFS),
        None => {
            options.groups.push(group);
            Ok(())
        }
        Some(index) => {
            options.groups.remove(index);
            Ok(())
        }
    }
}

/// What an option is; one that a connection is needed for fails without.
pub(super) fn get(
    options: &Mutex<IpOptions>,
    domain: u32,
    connected: bool,
    level: u32,
    name: u32,
    asked: &[u8],
) -> Result<Vec<u8>> {
    let options = options.lock();
    let value = match (level, name) {
        (protocol::IP, n::IP_MTU) | (protocol::IPV6, n::IPV6_MTU) if !connected => return Err(Errno::ENOTCONN),
        // A packet of IPv4 has no more, whatever the interface has.
        (protocol::IP, n::IP_MTU) => u16::MAX.into(),
        (protocol::IPV6, n::IPV6_MTU) => MTU as i32,
        (protocol::IP, 4) => return Ok(Vec::new()), // IP_OPTIONS: there never are any.
        (protocol::IP, n::IP_TTL) => options.ttl.unwrap_or(64).into(),
        (protocol::IP, n::IP_TOS) => options.tos.into(),
        (protocol::IP, n::IP_PKTINFO) => options.packet_info.into(),
        (protocol::IP, n::IP_RECVTTL) => options.receive_ttl.into(),
        (protocol::IP, n::IP_RECVTOS) => options.receive_tos.into(),
        (protocol::IP, n::IP_RECVOPTS) => options.receive_options.into(),
        (protocol::IP, n::IP_RETOPTS) => options.return_options.into(),
        (protocol::IP, n::IP_RECVERR) => options.receive_error.into(),
        (protocol::IP, n::IP_RECVORIGDSTADDR) => options.receive_destination.into(),
        (protocol::IP, n::IP_FREEBIND) | (protocol::IPV6, n::IPV6_FREEBIND) => options.free_bind.into(),
        (protocol::IP, n::IP_TRANSPARENT) => options.transparent.into(),
        (protocol::IP, n::IP_BIND_ADDRESS_NO_PORT) => options.bind_without_port.into(),
        (protocol::IP, n::IP_MTU_DISCOVER) | (protocol::IPV6, n::IPV6_MTU_DISCOVER) => options.discover_mtu,
        (protocol::IP, n::IP_MULTICAST_TTL) => options.multicast_ttl.into(),
        (protocol::IP, n::IP_MULTICAST_LOOP) | (protocol::IPV6, n::IPV6_MULTICAST_LOOP) => options.multicast_loop.into(),
        (protocol::IP, n::IP_MULTICAST_ALL) | (protocol::IPV6, n::IPV6_MULTICAST_ALL) => options.multicast_all.into(),
        (protocol::IP, n::IP_MULTICAST_IF) => 0,
        (protocol::IPV6, _) if domain != n::AF_INET6 => return Err(Errno::EOPNOTSUPP),
        (protocol::IPV6, n::IPV6_MULTICAST_IF) => options.multicast_interface as i32,
        (protocol::IPV6, n::IPV6_V6ONLY) => options.only6.into(),
        (protocol::IPV6, n::IPV6_UNICAST_HOPS) => options.hops.unwrap_or(64).into(),
        (protocol::IPV6, n::IPV6_MULTICAST_HOPS) => options.multicast_hops.into(),
        (protocol::IPV6, n::IPV6_RECVPKTINFO) => options.packet_info6.into(),
        (protocol::IPV6, n::IPV6_RECVHOPLIMIT) => options.receive_hops.into(),
        (protocol::IPV6, n::IPV6_2292PKTINFO) => options.old_packet_info6.into(),
        (protocol::IPV6, n::IPV6_2292HOPLIMIT) => options.old_hops.into(),
        (protocol::IPV6, n::IPV6_RECVTCLASS) => options.receive_class.into(),
        (protocol::IPV6, n::IPV6_TCLASS) => options.class.into(),
        (protocol::IPV6, n::IPV6_RECVERR) => options.receive_error6.into(),
        (protocol::IPV6, n::IPV6_RECVORIGDSTADDR) => options.receive_destination6.into(),
        (protocol::IPV6, n::IPV6_DONTFRAG) => options.dont_fragment.into(),
        (protocol::IP | protocol::IPV6, _) => return Err(Errno::ENOPROTOOPT),
        _ => return Err(Errno::EOPNOTSUPP),
    };
    // A program that asks for one byte of IPv4's gets one.
    if level == protocol::IP && (1..4).contains(&asked.len()) && (0..=255).contains(&value) {
        return Ok(alloc::vec![value as u8]);
    }
    Ok(value.to_ne_bytes().to_vec())
}
