//! What is asked about interfaces, addresses and routes, rtnetlink(7).

use super::link;
use super::message::{Attributes, Message, Writer, flags};
use crate::socket::NetSpace;
use crate::socket::inet::interfaces::{Gateway, Interface, Interfaces, LOOPBACK, network};
use crate::socket::inet::links::{self, Link};
use crate::task::Task;
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;
use insula_abi::general as c;
use insula_abi::net as n;

#[allow(missing_docs)] // As in `linux/rtnetlink.h`.
pub(super) mod kind {
    pub(in super::super) const NEWLINK: u16 = 16;
    pub(super) const DELLINK: u16 = 17;
    pub(super) const GETLINK: u16 = 18;
    pub(super) const SETLINK: u16 = 19;
    pub(super) const NEWADDR: u16 = 20;
    pub(super) const DELADDR: u16 = 21;
    pub(super) const GETADDR: u16 = 22;
    pub(super) const NEWROUTE: u16 = 24;
    pub(in super::super) const DELROUTE: u16 = 25;
    pub(super) const GETROUTE: u16 = 26;
    pub(super) const GETNEIGH: u16 = 30;
    pub(super) const GETRULE: u16 = 34;
    pub(super) const NEWRULE: u16 = 32;
    pub(super) const GETQDISC: u16 = 38;
    pub(super) const NEWNSID: u16 = 88;
    pub(super) const GETNSID: u16 = 90;
    /// `RTM_MAX`.
    pub(super) const LAST: u16 = 123;
}

/// Attributes: `IFLA_*`, `IFA_*`, `RTA_*`, `FRA_*`.
pub(super) const IFLA_ADDRESS: u16 = 1;
const IFLA_BROADCAST: u16 = 2;
pub(super) const IFLA_IFNAME: u16 = 3;
pub(super) const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_QDISC: u16 = 6;
pub(super) const IFLA_LINKINFO: u16 = 18;
pub(super) const IFLA_INFO_KIND: u16 = 1;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_STATS: u16 = 7;
pub(super) const IFLA_TXQLEN: u16 = 13;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKMODE: u16 = 17;
const IFLA_STATS64: u16 = 23;
const IFLA_GROUP: u16 = 27;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;
const IFLA_ALT_IFNAME: u16 = 53;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_LABEL: u16 = 3;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
pub(super) const RTA_DST: u16 = 1;
pub(super) const RTA_OIF: u16 = 4;
pub(super) const RTA_GATEWAY: u16 = 5;
pub(super) const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
pub(super) const RTA_TABLE: u16 = 15;
const NETNSA_NSID: u16 = 1;
const FRA_PRIORITY: u16 = 6;
const FRA_TABLE: u16 = 15;

/// `IFA_F_PERMANENT`.
const PERMANENT: u8 = 0x80;
/// `RT_TABLE_MAIN` and `RT_TABLE_LOCAL`.
pub(super) const MAIN: u8 = 254;
const LOCAL: u8 = 255;
/// `RT_SCOPE_*`.
const SCOPE_HOST: u8 = 254;
const SCOPE_LINK: u8 = 253;

/// Bytes of the structures after the heads.
pub(super) const IFINFO: usize = 16;
const IFADDR: usize = 8;

/// An attribute within another.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend((4 + value.len() as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Whether a kind of request only asks.
pub(super) fn is_get(kind: u16) -> bool {
    kind & 3 == 2
}

/// What is answered to a request.
///
/// # Errors
/// `EOPNOTSUPP`: it isn't known. `EPERM`: it would change something. `EINVAL`, `ENODEV` and others, as rtnetlink(7) has them.
pub(super) fn carry_out(net: &Arc<NetSpace>, task: &Arc<Task>, request: &Message<'_>, number: u32) -> Result<Vec<Vec<u8>>> {
    let interfaces = &net.holds.inet.interfaces;
    if request.kind > kind::LAST {
        return Err(Errno::EOPNOTSUPP);
    }
    if !is_get(request.kind) && !net.grants(task, c::CAP_NET_ADMIN) {
        return Err(Errno::EPERM);
    }
    let family = request.body().first().copied().unwrap_or(0);
    let dump = request.flags & flags::DUMP == flags::DUMP;
    let reply = Reply { flags: if dump { flags::MULTI } else { 0 }, sequence: request.sequence, number };
    match request.kind {
        kind::GETLINK if dump => Ok(interfaces.all().iter().map(|one| reply.link(net, one)).collect()),
        kind::GETLINK => Ok(vec![reply.link(net, &named(interfaces, request)?)]),
        kind::NEWLINK | kind::SETLINK => link::change(net, task, request).map(|()| Vec::new()),
        kind::DELLINK => links::remove(net, &named(interfaces, request)?).map(|()| Vec::new()),
        kind::GETADDR => Ok(reply.addresses(interfaces, family)),
        kind::NEWADDR | kind::DELADDR => change_address(interfaces, request),
        kind::NEWROUTE | kind::DELROUTE => link::change_route(interfaces, request).map(|()| Vec::new()),
        kind::GETROUTE if dump => Ok(reply.routes(interfaces, family)),
        kind::GETROUTE => reply.route_to(interfaces, request, family),
        kind::GETRULE if dump => Ok(reply.rules(family)),
        // No namespace has a number in another.
        kind::GETNSID if dump => Ok(Vec::new()),
        kind::GETNSID => Ok(vec![reply.begin(kind::NEWNSID).bytes(&[0; 4]).number(NETNSA_NSID, u32::MAX).finish()]),
        // There are no neighbours, and no queues.
        kind::GETNEIGH | kind::GETQDISC if dump => Ok(Vec::new()),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

pub(super) fn word(bytes: &[u8], at: usize) -> Result<u32> {
    let word = bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    word.map(u32::from_ne_bytes).ok_or(Errno::EINVAL)
}

/// The interface that a request is about.
pub(super) fn named(interfaces: &Interfaces, request: &Message<'_>) -> Result<Interface> {
    let index = word(request.body(), 4)?;
    if index != 0 {
        return interfaces.numbered(index).ok_or(Errno::ENODEV);
    }
    let name = request.attributes(IFINFO).find(|(kind, _)| matches!(*kind, IFLA_IFNAME | IFLA_ALT_IFNAME));
    let (_, name) = name.ok_or(Errno::EINVAL)?;
    interfaces.named(name.strip_suffix(&[0]).unwrap_or(name)).ok_or(Errno::ENODEV)
}

pub(super) fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

pub(super) fn family_of(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { n::AF_INET as u8 } else { n::AF_INET6 as u8 }
}

/// Gives an interface an address, or takes one from it.
fn change_address(interfaces: &Interfaces, request: &Message<'_>) -> Result<Vec<Vec<u8>>> {
    let head = request.body().get(..IFADDR).ok_or(Errno::EINVAL)?;
    let index = word(head, 4)?;
    let find = |attributes: Attributes<'_>, wanted| {
        let mut attributes = attributes;
        attributes.find(|(kind, _)| *kind == wanted).and_then(|(_, value)| ip(value))
    };
    let local = find(request.attributes(IFADDR), IFA_LOCAL).or_else(|| find(request.attributes(IFADDR), IFA_ADDRESS));
    let local = local.filter(|local| family_of(*local) == head[0]).ok_or(Errno::EINVAL)?;
    let prefix = head[1];
    if prefix > if local.is_ipv4() { 32 } else { 128 } {
        return Err(Errno::EINVAL);
    }
    if request.kind == kind::DELADDR {
        interfaces.remove_address(index, local)?;
    } else {
        match interfaces.add_address(index, local, prefix) {
            Err(Errno::EEXIST) if request.flags & flags::EXCL == 0 => {}
            outcome => outcome?,
        }
    }
    Ok(Vec::new())
}

/// How answers begin.
struct Reply {
    flags: u16,
    sequence: u32,
    number: u32,
}

/// A network that is reached.
struct Route {
    to: IpAddr,
    prefix: u8,
    table: u8,
    kind: u8,
    scope: u8,
    interface: u32,
    source: Option<IpAddr>,
    through: Option<IpAddr>,
    metric: u32,
}

/// `RTN_UNICAST`, `RTN_LOCAL`.
pub(super) const UNICAST: u8 = 1;
const LOCAL_HOST: u8 = 2;
/// `RTPROT_KERNEL`.
const BY_KERNEL: u8 = 2;
/// `RTPROT_BOOT`: somebody made it.
const MADE: u8 = 3;

/// All routes: to each address of ours, and to the network of each.
fn all_routes(interfaces: &Interfaces) -> Vec<Route> {
    let mut routes = Vec::new();
    for interface in interfaces.all().into_iter().filter(Interface::is_up) {
        for (own, prefix) in interface.addresses {
            let index = interface.index;
            let loopback = own.is_loopback();
            let whole = if own.is_ipv4() { 32 } else { 128 };
            if prefix < whole {
                let (table, kind, scope) = if loopback { (LOCAL, LOCAL_HOST, SCOPE_HOST) } else { (MAIN, UNICAST, SCOPE_LINK) };
                routes.push(Route {
                    to: network(own, prefix),
                    prefix,
                    table,
                    kind,
                    scope,
                    interface: index,
                    source: Some(own),
                    through: None,
                    metric: 0,
                });
            }
            let (table, kind, scope) = (LOCAL, LOCAL_HOST, if own.is_ipv4() { SCOPE_HOST } else { 0 });
            let source = own.is_ipv4().then_some(own);
            routes.push(Route { to: own, prefix: whole, table, kind, scope, interface: index, source, through: None, metric: 0 });
        }
    }
    for Gateway { to, prefix, through, interface, metric } in interfaces.gateways() {
        let scope = if through.is_some() { 0 } else { SCOPE_LINK };
        routes.push(Route { to, prefix, table: MAIN, kind: UNICAST, scope, interface, source: None, through, metric });
    }
    routes
}

/// The way to an address, by the longest prefix that matches it; its prefix is all of the address.
fn way(interfaces: &Interfaces, to: IpAddr) -> Option<Route> {
    let matches = |route: &Route| route.to.is_ipv4() == to.is_ipv4() && network(to, route.prefix) == route.to;
    let worth = |route: &Route| (route.prefix, core::cmp::Reverse(route.metric));
    let found = all_routes(interfaces).into_iter().filter(matches).max_by_key(worth)?;
    Some(Route { to, prefix: if to.is_ipv4() { 32 } else { 128 }, ..found })
}

impl Reply {
    fn begin(&self, kind: u16) -> Writer {
        Writer::new(kind, self.flags, self.sequence, self.number)
    }

    fn link(&self, net: &Arc<NetSpace>, one: &Interface) -> Vec<u8> {
        let mut name = one.name.clone();
        name.push(0);
        let mut head = vec![0; 2];
        head.extend(one.hardware.to_ne_bytes());
        head.extend(one.index.to_ne_bytes());
        head.extend(one.flags.to_ne_bytes());
        head.extend(0u32.to_ne_bytes());
        let mut writer = self.begin(kind::NEWLINK).bytes(&head).attribute(IFLA_IFNAME, &name);
        if let Link::Pair(cable, side) = &one.link
            && let Some((other, index)) = cable.other(*side)
        {
            writer = writer.number(IFLA_LINK, index);
            if !Arc::ptr_eq(&other, net) {
                writer = writer.number(IFLA_LINK_NETNSID, 0);
            }
        }
        if let Some(kind) = one.link.kind() {
            writer = writer.attribute(IFLA_LINKINFO, &attribute(IFLA_INFO_KIND, kind.as_bytes()));
        }
        writer
            .number(IFLA_TXQLEN, one.queue)
            .attribute(IFLA_OPERSTATE, &[one.state().0])
            .attribute(IFLA_LINKMODE, &[0])
            .number(IFLA_MTU, one.mtu)
            .number(IFLA_GROUP, 0)
            .number(IFLA_NUM_TX_QUEUES, 1)
            .number(IFLA_NUM_RX_QUEUES, 1)
            .attribute(IFLA_QDISC, if one.is_up() { &b"noqueue\0"[..] } else { b"noop\0" })
            .attribute(IFLA_ADDRESS, &one.mac)
            .attribute(IFLA_BROADCAST, &one.broadcast())
            // Packets and bytes: nothing between two sockets of a sandbox is one.
            .attribute(IFLA_STATS64, &[0; 24 * 8])
            .attribute(IFLA_STATS, &[0; 24 * 4])
            .finish()
    }

    fn addresses(&self, interfaces: &Interfaces, family: u8) -> Vec<Vec<u8>> {
        let mut answers = Vec::new();
        for interface in interfaces.all() {
            let mut name = interface.name.clone();
            name.push(0);
            for (ip, prefix) in &interface.addresses {
                if family != 0 && family != family_of(*ip) {
                    continue;
                }
                let scope = match ip {
                    ip if ip.is_loopback() => SCOPE_HOST,
                    IpAddr::V6(ip) if ip.is_unicast_link_local() => SCOPE_LINK,
                    _ => 0,
                };
                let head = [family_of(*ip), *prefix, PERMANENT, scope];
                let mut writer = self.begin(kind::NEWADDR).bytes(&head).bytes(&interface.index.to_ne_bytes());
                writer = writer.attribute(IFA_ADDRESS, &octets(*ip));
                if ip.is_ipv4() {
                    writer = writer.attribute(IFA_LOCAL, &octets(*ip)).attribute(IFA_LABEL, &name);
                }
                // It is valid, and preferred, for ever.
                let mut lifetimes = [0xff; 16];
                lifetimes[8..].fill(0);
                answers.push(writer.number(IFA_FLAGS, PERMANENT.into()).attribute(IFA_CACHEINFO, &lifetimes).finish());
            }
        }
        answers
    }

    fn route(&self, route: &Route) -> Vec<u8> {
        let by = if route.source.is_none() && route.table == MAIN { MADE } else { BY_KERNEL };
        let head = [family_of(route.to), route.prefix, 0, 0, route.table, by, route.scope, route.kind, 0, 0, 0, 0];
        let mut writer = self.begin(kind::NEWROUTE).bytes(&head).number(RTA_TABLE, route.table.into());
        if route.prefix != 0 {
            writer = writer.attribute(RTA_DST, &octets(route.to));
        }
        if let Some(through) = route.through {
            writer = writer.attribute(RTA_GATEWAY, &octets(through));
        }
        if route.metric != 0 {
            writer = writer.number(RTA_PRIORITY, route.metric);
        } else if route.through.is_none() && route.to.is_ipv6() {
            writer = writer.number(RTA_PRIORITY, if route.table == LOCAL { 0 } else { 256 });
        }
        if let Some(source) = route.source {
            writer = writer.attribute(RTA_PREFSRC, &octets(source));
        }
        writer.number(RTA_OIF, route.interface).finish()
    }

    fn routes(&self, interfaces: &Interfaces, family: u8) -> Vec<Vec<u8>> {
        let wanted = |route: &Route| family == 0 || family == family_of(route.to);
        all_routes(interfaces).iter().filter(|route| wanted(route)).map(|route| self.route(route)).collect()
    }

    /// How one address is reached: `ip route get`.
    fn route_to(&self, interfaces: &Interfaces, request: &Message<'_>, family: u8) -> Result<Vec<Vec<u8>>> {
        let to = request.attributes(12).find(|(kind, _)| *kind == RTA_DST).and_then(|(_, value)| ip(value));
        let to = to.filter(|to| family_of(*to) == family).ok_or(Errno::EINVAL)?;
        if !interfaces.is_local(to) {
            return way(interfaces, to).map(|route| vec![self.route(&route)]).ok_or(Errno::ENETUNREACH);
        }
        let prefix = if to.is_ipv4() { 32 } else { 128 };
        let source = Some(interfaces.source_for(to));
        let route =
            Route { to, prefix, table: LOCAL, kind: LOCAL_HOST, scope: 0, interface: LOOPBACK, source, through: None, metric: 0 };
        Ok(vec![self.route(&route)])
    }

    /// Which table is looked at: that of our own addresses first.
    fn rules(&self, family: u8) -> Vec<Vec<u8>> {
        let families = [n::AF_INET as u8, n::AF_INET6 as u8].into_iter().filter(|one| family == 0 || family == *one);
        let rule = |family: u8, table: u8, priority: u32| {
            let head = [family, 0, 0, 0, table, 0, 0, 1, 0, 0, 0, 0];
            self.begin(kind::NEWRULE).bytes(&head).number(FRA_TABLE, table.into()).number(FRA_PRIORITY, priority).finish()
        };
        families.flat_map(|family| [rule(family, LOCAL, 0), rule(family, MAIN, 32766)]).collect()
    }
}
