//! Devices, addresses and routes of a bridge network, and of the end that is in a container.

use crate::addresses::{PREFIX, PREFIX6, Subnet};
use crate::error::Result;
use crate::netlink::{Netlink, Refused, Step};
use insula_sys::Errno;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::fd::{AsRawFd, OwnedFd};
use std::net::{IpAddr, Ipv4Addr};

/// A container's card.
pub(crate) const CARD: &str = "eth0";
/// Where routes to the host itself are (`RT_TABLE_LOCAL`).
const LOCAL_TABLE: u8 = 255;
/// A new thing, and none of its name may be there.
const NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;

/// Makes the bridge with this address of its card, by which it is known to be ours later. `EEXIST`: there is a device of its name.
pub(crate) fn make_bridge(netlink: &mut Netlink, net: Subnet, mac: [u8; 6], ipv6: bool) -> std::result::Result<(), Refused> {
    let name = net.bridge();
    let mut link = named(&name);
    // It keeps it, whichever ports come and go.
    link.attributes.push(LinkAttribute::Address(mac.to_vec()));
    link.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
    up(&mut link);
    netlink.carry_out(vec![step(format!("make the bridge {name}"), RouteNetlinkMessage::NewLink(link), NEW)])?;
    let index = netlink.index(&name).ok_or(Refused { what: format!("find the bridge {name}"), errno: Errno::NODEV })?;
    let mut steps = vec![address(&name, index, net.gateway().into(), PREFIX), local_route(&name, index, net.resolvers())];
    if ipv6 {
        steps.push(address(&name, index, net.gateway6().into(), PREFIX6));
    }
    netlink.carry_out(steps)
}

/// Makes a link between the bridge and a card in this namespace, which is down yet.
pub(crate) fn make_link(netlink: &mut Netlink, net: Subnet, number: u16, inside: &OwnedFd) -> std::result::Result<(), Refused> {
    let name = net.link(number);
    let bridge = net.bridge();
    let master = netlink.index(&bridge).ok_or(Refused { what: format!("find the bridge {bridge}"), errno: Errno::NODEV })?;
    let mut peer = named(CARD);
    peer.attributes.push(LinkAttribute::Address(net.mac(number).to_vec()));
    peer.attributes.push(LinkAttribute::NetNsFd(inside.as_raw_fd()));
    let mut link = named(&name);
    link.attributes.push(LinkAttribute::Controller(master));
    let data = InfoData::Veth(InfoVeth::Peer(peer));
    link.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(data)]));
    up(&mut link);
    netlink.carry_out(vec![step(format!("make the link {name}"), RouteNetlinkMessage::NewLink(link), NEW)])?;
    // Who asks for its own published port is answered through the port that it came by, where frames of bridges pass the host's filters.
    let mut port = LinkMessage::default();
    port.header.index = netlink.index(&name).ok_or(Refused { what: format!("find the link {name}"), errno: Errno::NODEV })?;
    let hairpin = InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(true)]);
    let info = vec![LinkInfo::PortKind(InfoPortKind::Bridge), LinkInfo::PortData(hairpin)];
    port.attributes.push(LinkAttribute::LinkInfo(info));
    netlink.carry_out(vec![step(format!("set the port {name}"), RouteNetlinkMessage::NewLink(port), 0)])
}

/// Gives the card in a namespace its addresses, and switches it on; `netlink` is a socket of that namespace's.
pub(crate) fn set_card(netlink: &mut Netlink, addresses: &[(IpAddr, u8)], gateways: &[IpAddr], mtu: Option<u32>) -> Result<()> {
    let index = netlink.index(CARD).ok_or(Refused { what: format!("find the card {CARD}"), errno: Errno::NODEV })?;
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.attributes.extend(mtu.map(LinkAttribute::Mtu));
    up(&mut link);
    let mut steps = vec![step(format!("switch on {CARD}"), RouteNetlinkMessage::NewLink(link), 0)];
    steps.extend(addresses.iter().map(|(at, prefix)| address(CARD, index, *at, *prefix)));
    steps.extend(gateways.iter().map(|gateway| default_route(index, *gateway)));
    Ok(netlink.carry_out(steps)?)
}

/// Removes a device; one that isn't there is no error.
pub(crate) fn remove(netlink: &mut Netlink, name: &str) -> Result<()> {
    let link = RouteNetlinkMessage::DelLink(named(name));
    match netlink.carry_out(vec![step(format!("remove the device {name}"), link, 0)]) {
        Err(Refused { errno: Errno::NODEV, .. }) => Ok(()),
        result => Ok(result?),
    }
}

/// The address of a device's card; none if there is no such device.
pub(crate) fn mac(netlink: &mut Netlink, name: &str) -> Result<Option<Vec<u8>>> {
    let Some(index) = netlink.index(name) else { return Ok(None) };
    let links = netlink.dump("links", RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    let attributes = links.into_iter().find_map(|message| match message {
        RouteNetlinkMessage::NewLink(link) if link.header.index == index => Some(link.attributes),
        _ => None,
    });
    Ok(attributes.into_iter().flatten().find_map(|attribute| match attribute {
        LinkAttribute::Address(address) => Some(address),
        _ => None,
    }))
}

/// Where the host's IPv4 routes lead, but for the one to everywhere.
pub(crate) fn routes(netlink: &mut Netlink) -> Result<Vec<(Ipv4Addr, u8)>> {
    let mut ask = RouteMessage::default();
    ask.header.address_family = AddressFamily::Inet;
    let found = netlink.dump("routes", RouteNetlinkMessage::GetRoute(ask))?;
    let destination = |message| {
        let RouteNetlinkMessage::NewRoute(route) = message else { return None };
        let prefix = route.header.destination_prefix_length;
        route.attributes.into_iter().find_map(|attribute| match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) if prefix > 0 => Some((address, prefix)),
            _ => None,
        })
    };
    Ok(found.into_iter().filter_map(destination).collect())
}

fn step(what: String, message: RouteNetlinkMessage, flags: u16) -> Step {
    Step { what, message, flags }
}

fn named(name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link
}

fn up(link: &mut LinkMessage) {
    link.header.flags |= LinkFlags::Up;
    link.header.change_mask |= LinkFlags::Up;
}

fn family(of: IpAddr) -> AddressFamily {
    if of.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn address(device: &str, index: u32, address: IpAddr, prefix: u8) -> Step {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.prefix_len = prefix;
    message.header.index = index;
    message.attributes.push(AddressAttribute::Address(address));
    match address {
        IpAddr::V4(local) => {
            message.attributes.push(AddressAttribute::Local(address));
            let broadcast = Ipv4Addr::from(u32::from(local) | u32::MAX.checked_shr(prefix.into()).unwrap_or(0));
            message.attributes.push(AddressAttribute::Broadcast(broadcast));
        }
        IpAddr::V6(_) => {
            // Nobody else has it, so nobody needs to be asked for a second.
            message.header.flags = AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
    }
    step(format!("give {device} the address {address}"), RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)
}

fn default_route(index: u32, gateway: IpAddr) -> Step {
    let mut route = route(family(gateway), RouteType::Unicast, RouteHeader::RT_TABLE_MAIN, RouteScope::Universe);
    route.attributes.push(RouteAttribute::Gateway(gateway.into()));
    route.attributes.push(RouteAttribute::Oif(index));
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    step(format!("make a route by {gateway}"), RouteNetlinkMessage::NewRoute(route), flags)
}

/// All of a range is the host's own, by this device.
fn local_route(device: &str, index: u32, (base, prefix): (Ipv4Addr, u8)) -> Step {
    let mut route = route(AddressFamily::Inet, RouteType::Local, LOCAL_TABLE, RouteScope::Host);
    route.header.destination_prefix_length = prefix;
    route.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(base)));
    route.attributes.push(RouteAttribute::Oif(index));
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    step(format!("give {device} the addresses {base}/{prefix}"), RouteNetlinkMessage::NewRoute(route), flags)
}

fn route(family: AddressFamily, kind: RouteType, table: u8, scope: RouteScope) -> RouteMessage {
    let mut route = RouteMessage::default();
    route.header = RouteHeader { address_family: family, table, scope, kind, protocol: RouteProtocol::Static, ..route.header };
    route
}
