//! What is told beside a datagram, and said with one: control data of IPv4 and IPv6, ip(7), ipv6(7).

use super::endpoint;
use super::interfaces;
use super::ip_options::IpOptions;
use crate::socket::control::Item;
use crate::socket::options::{number, number_or_byte};
use crate::socket::{Address, Common};
use crate::{Errno, Kernel, Result};
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use insula_abi::net as n;
use insula_abi::socket::protocol;
use insula_abi::time::{Timespec, Timeval};
use insula_abi::zerocopy::IntoBytes;

/// `SOF_TIMESTAMPING_RX_SOFTWARE` and `SOF_TIMESTAMPING_SOFTWARE`: times of arrival are taken, and told.
const TOLD_ON_ARRIVAL: u32 = 1 << 3 | 1 << 4;

/// Hops that a datagram has left, and its class (`IP_TTL` and `IP_TOS`).
pub(super) type Hops = (u8, u8);

/// What is told beside a datagram that came to `to`, before which so many were `lost`.
pub(super) fn received(kernel: &Kernel, common: &Common, ip: &IpOptions, to: SocketAddr, hops: Hops, lost: u32) -> Vec<Item> {
    let mut items = Vec::new();
    times(kernel.host.clock.realtime(), common, &mut items);
    if lost > 0 && common.options.lock().overflow {
        items.push(Item::of(n::SOL_SOCKET, n::SO_RXQ_OVFL, &lost));
    }
    match to {
        SocketAddr::V4(to) => received4(ip, *to.ip(), endpoint::tell(n::AF_INET, to.into()), hops, &mut items),
        SocketAddr::V6(to) => received6(ip, *to.ip(), endpoint::tell(n::AF_INET6, to.into()), hops, &mut items),
    }
    items
}

/// When it came, in nanoseconds by the clock of the day.
pub(super) fn times(at: u64, common: &Common, items: &mut Vec<Item>) {
    let (timestamp, timestamping, kind) = {
        let options = common.options.lock();
        (options.timestamp, options.timestamping & TOLD_ON_ARRIVAL == TOLD_ON_ARRIVAL, options.timestamping_kind)
    };
    if timestamp == 0 && !timestamping {
        return;
    }
    match timestamp {
        0 => {}
        n::SO_TIMESTAMP_OLD | n::SO_TIMESTAMP_NEW => {
            items.push(Item::of(n::SOL_SOCKET, timestamp, &Timeval::from_nanos(at)));
        }
        _ => items.push(Item::of(n::SOL_SOCKET, timestamp, &Timespec::from_nanos(at))),
    }
    if timestamping {
        // `struct scm_timestamping`: by software, nothing, by hardware.
        let times = [Timespec::from_nanos(at), Timespec::default(), Timespec::default()];
        items.push(Item::of(n::SOL_SOCKET, kind, &times));
    }
}

fn received4(ip: &IpOptions, to: Ipv4Addr, told: Address, (ttl, tos): Hops, items: &mut Vec<Item>) {
    if ip.packet_info {
        let mut info = interfaces::LOOPBACK.to_ne_bytes().to_vec();
        // Which address of ours it came to, and which it was sent to.
        let own = if to.is_multicast() { Ipv4Addr::LOCALHOST } else { to };
        info.extend(own.octets());
        info.extend(to.octets());
        items.push(Item { level: protocol::IP, kind: n::IP_PKTINFO, data: info });
    }
    if ip.receive_ttl {
        items.push(Item::of(protocol::IP, n::IP_TTL, &i32::from(ttl)));
    }
    if ip.receive_tos {
        items.push(Item { level: protocol::IP, kind: n::IP_TOS, data: alloc::vec![tos] });
    }
    if ip.receive_destination {
        items.push(Item { level: protocol::IP, kind: n::IP_RECVORIGDSTADDR, data: told.bytes().to_vec() });
    }
    if ip.packet_info6 {
        items.push(packet_info6(to.to_ipv6_mapped().octets()));
    }
}

fn received6(ip: &IpOptions, to: Ipv6Addr, told: Address, (hops, class): Hops, items: &mut Vec<Item>) {
    if ip.packet_info6 {
        items.push(packet_info6(to.octets()));
    }
    let mut number = |wanted: bool, kind, value: u8| {
        if wanted {
            items.push(Item::of(protocol::IPV6, kind, &i32::from(value)));
        }
    };
    number(ip.receive_hops, n::IPV6_HOPLIMIT, hops);
    number(ip.receive_class, n::IPV6_TCLASS, class);
    if ip.old_packet_info6 {
        items.push(Item { kind: n::IPV6_2292PKTINFO, ..packet_info6(to.octets()) });
    }
    if ip.old_hops {
        items.push(Item::of(protocol::IPV6, n::IPV6_2292HOPLIMIT, &i32::from(hops)));
    }
    if ip.receive_destination6 {
        items.push(Item { level: protocol::IPV6, kind: n::IPV6_RECVORIGDSTADDR, data: told.bytes().to_vec() });
    }
}

fn packet_info6(address: [u8; 16]) -> Item {
    let mut info = address.to_vec();
    info.extend(interfaces::LOOPBACK.as_bytes());
    Item { level: protocol::IPV6, kind: n::IPV6_PKTINFO, data: info }
}

/// What the options, and the control data of a message, say of how it is to be sent. Items of level `own` are the caller's, who has
/// looked at them.
///
/// # Errors
/// `EINVAL`: an item that makes no sense.
pub(super) fn sent(ip: &IpOptions, items: &[Item], v4: bool, own: Option<u32>) -> Result<Hops> {
    let mut hops = if v4 { (ip.ttl.unwrap_or(64), ip.tos) } else { (ip.hops.unwrap_or(64), ip.class) };
    for item in items {
        let value = || number(&item.data);
        match (item.level, item.kind) {
            (protocol::IP, n::IP_TTL) => hops.0 = u8::try_from(value()?).ok().filter(|ttl| *ttl > 0).ok_or(Errno::EINVAL)?,
            (protocol::IP, n::IP_TOS) => hops.1 = number_or_byte(&item.data)? as u8,
            (protocol::IPV6, n::IPV6_HOPLIMIT) => hops.0 = u8::try_from(value()?.max(-1)).unwrap_or(64),
            (protocol::IPV6, n::IPV6_TCLASS) => hops.1 = value()? as u8,
            (protocol::IP, n::IP_PKTINFO) if item.data.len() >= 12 => {}
            (protocol::IPV6, n::IPV6_PKTINFO) if item.data.len() >= 20 => {}
            (protocol::IP | protocol::IPV6, _) => return Err(Errno::EINVAL),
            (level, _) if level == protocol::UDP && own != Some(level) => return Err(Errno::EINVAL),
            _ => {}
        }
    }
    Ok(hops)
}
