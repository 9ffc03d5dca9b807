//! Who has which address on the cable, and what a guest needs to know to have one: ARP (RFC 826), neighbours and routers of IPv6 (RFC 4861).

use crate::hub::Hub;
use crate::link::{GATEWAY6, LOCAL6, OURS, PREFIX};
use crate::wire::{Fields, Head, Ip, Mac, Sum, kind, protocol};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// All nodes on the cable.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];
/// Milliseconds until the router tells again that it is there.
pub(crate) const ADVERTISE_EVERY: u64 = 300_000;

/// Answers who has the gateway's address. Nobody else is asked for: the guest is alone.
pub(crate) fn arp(hub: &mut Hub, packet: &[u8]) -> Option<()> {
    let mut fields = Fields(packet);
    // Ethernet, IPv4, lengths of their addresses, and a request.
    if fields.array::<8>()? != [0, 1, 8, 0, 6, 4, 0, 1] {
        return None;
    }
    let (mac, address) = (fields.array::<6>()?, Ipv4Addr::from(fields.array::<4>()?));
    let (_, wanted) = (fields.array::<6>()?, Ipv4Addr::from(fields.array::<4>()?));
    if hub.link.is_guest(address.into()) {
        hub.link.learn(mac, address.into());
    }
    if wanted != hub.link.gateway {
        return None;
    }
    let mut answer = vec![0, 1, 8, 0, 6, 4, 0, 2];
    answer.extend(OURS);
    answer.extend(wanted.octets());
    answer.extend(mac);
    answer.extend(address.octets());
    hub.reply(Head::ethernet(mac, kind::ARP).with(&answer));
    Some(())
}

/// A message of ICMPv6's that is for a neighbour or router; false if it isn't one.
pub(crate) fn icmpv6(hub: &mut Hub, from: Mac, ip: &Ip, message: &[u8]) -> bool {
    match message.first() {
        Some(133) => advertise(hub, Some((from, ip.source))),
        Some(135) => {
            solicited(hub, from, ip, message);
        }
        _ => return false,
    }
    true
}

/// Section 4.3: who has our address?
fn solicited(hub: &mut Hub, from: Mac, ip: &Ip, message: &[u8]) -> Option<()> {
    let mut fields = Fields(message);
    fields.array::<8>()?;
    let wanted = Ipv6Addr::from(fields.array::<16>()?);
    // RFC 4862 section 5.4: before it takes an address, it asks whether anybody has it.
    if ip.source.is_unspecified() && hub.link.is_guest(wanted.into()) {
        hub.link.learn(from, wanted.into());
    }
    if wanted != GATEWAY6 && wanted != LOCAL6 {
        return None;
    }
    // Section 7.2.4: one who has no address yet is answered before all.
    let known = !ip.source.is_unspecified();
    let (mac, to) = if known { (from, ip.source) } else { (ALL_NODES_MAC, ALL_NODES.into()) };
    // Router, solicited, override.
    let mut answer = vec![136, 0, 0, 0, if known { 0xe0 } else { 0xa0 }, 0, 0, 0];
    answer.extend(wanted.octets());
    answer.extend([2, 1]);
    answer.extend(OURS);
    send(hub, mac, wanted.into(), to, answer);
    Some(())
}

/// Section 4.2: here is a router, with the prefix to make an address of (RFC 4862), an MTU and a resolver (RFC 8106). To one who asked, or
/// to all.
pub(crate) fn advertise(hub: &mut Hub, asked: Option<(Mac, IpAddr)>) {
    let lifetime: u16 = if leads_out() { 1800 } else { 0 };
    // Hops 64; other configuration by DHCPv6.
    let mut message = vec![134, 0, 0, 0, 64, 0x40];
    message.extend(lifetime.to_be_bytes());
    message.extend([0; 8]);
    message.extend([1, 1]);
    message.extend(OURS);
    message.extend([5, 1, 0, 0]);
    message.extend(u32::from(hub.link.mtu).to_be_bytes());
    // 64 bits, on the cable, to make addresses of; valid and preferred for a day.
    message.extend([3, 4, 64, 0xc0]);
    message.extend(86400_u32.to_be_bytes());
    message.extend(86400_u32.to_be_bytes());
    message.extend([0; 4]);
    message.extend(PREFIX.octets());
    if hub.resolvers.server().is_some() {
        message.extend([25, 3, 0, 0]);
        message.extend(1800_u32.to_be_bytes());
        message.extend(GATEWAY6.octets());
    }
    let (mac, to) = asked.filter(|(_, address)| !address.is_unspecified()).unwrap_or((ALL_NODES_MAC, ALL_NODES.into()));
    send(hub, mac, LOCAL6.into(), to, message);
}

/// Whether the host has a way to the world by IPv6. If it hasn't, no guest should try. (To connect a datagram socket sends nothing.)
fn leads_out() -> bool {
    let world: SocketAddr = SocketAddr::new(Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888).into(), 53);
    let socket =
        rustix::net::socket_with(AddressFamily::INET6, SocketType::DGRAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None);
    socket.is_ok_and(|socket| rustix::net::connect(socket, &world).is_ok())
}

/// Sends a message of ICMPv6's, with its checksum.
pub(crate) fn send(hub: &mut Hub, mac: Mac, source: IpAddr, to: IpAddr, mut message: Vec<u8>) {
    let mut sum = Sum::pseudo(source, to, protocol::ICMPV6, message.len());
    sum.add(&message);
    message[2..4].copy_from_slice(&sum.checksum().to_be_bytes());
    hub.reply(Head::ip(mac, source, to, protocol::ICMPV6, message.len()).with(&message));
}
