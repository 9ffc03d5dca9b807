//! Interfaces and ways that are made and changed, rtnetlink(7).

use super::message::{Attributes, Message, flags};
use super::route::{self, MAIN, UNICAST, family_of, ip, kind, named, word};
use crate::socket::NetSpace;
use crate::socket::inet::interfaces::{Gateway, Interface, Interfaces, flags as iff, network};
use crate::socket::inet::links::{self, New};
use crate::task::{Task, spaces};
use crate::{Errno, Result};
use alloc::sync::Arc;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use insula_abi::general as c;
use insula_abi::net as n;

/// Attributes: `IFLA_*`, `VETH_INFO_PEER`.
const NET_NS_PID: u16 = 19;
const NET_NS_FD: u16 = 28;
const INFO_DATA: u16 = 2;
const PEER: u16 = 1;

/// `NLM_F_REPLACE`.
const REPLACE: u16 = 0x100;
/// `RTNH_F_ONLINK`: the neighbour is there, whatever addresses say.
const ON_LINK: u32 = 4;
/// Bytes of `struct rtmsg`.
const ROUTE: usize = 12;

/// Most ways of one network.
const WAYS_MAX: usize = 4096;

fn find<'a>(mut attributes: Attributes<'a>, wanted: u16) -> Option<&'a [u8]> {
    attributes.find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

fn text(value: &[u8]) -> &[u8] {
    value.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The network that attributes name, by a process in it or by a descriptor.
fn network_named(task: &Arc<Task>, attributes: Attributes<'_>) -> Result<Option<Arc<NetSpace>>> {
    for (kind, value) in attributes {
        let net = match kind {
            NET_NS_PID => {
                let process = task.kernel().pids.process(task.number_of(word(value, 0)? as i32)).ok_or(Errno::ESRCH)?;
                process.leader().ok_or(Errno::ESRCH)?.net()
            }
            NET_NS_FD => spaces::net_of(&*task.file(word(value, 0)? as i32)?).ok_or(Errno::EINVAL)?,
            _ => continue,
        };
        return if net.grants(task, c::CAP_NET_ADMIN) { Ok(Some(net)) } else { Err(Errno::EPERM) };
    }
    Ok(None)
}

/// Makes an interface, or changes one.
pub(super) fn change(net: &Arc<NetSpace>, task: &Arc<Task>, request: &Message<'_>) -> Result<()> {
    let found = match named(&net.holds.inet.interfaces, request) {
        Err(Errno::ENODEV | Errno::EINVAL) if request.flags & flags::CREATE != 0 => {
            let (net, made) = make(net, task, request)?;
            return adjust(&net, &made, request, false);
        }
        Err(Errno::EINVAL) if request.kind == kind::NEWLINK => return Err(Errno::ENODEV),
        Ok(_) if request.flags & (flags::CREATE | flags::EXCL) == flags::CREATE | flags::EXCL => return Err(Errno::EEXIST),
        found => found?,
    };
    match network_named(task, request.attributes(route::IFINFO))? {
        Some(to) if !Arc::ptr_eq(&to, net) => {
            let index = links::shift(net, &to, &found)?;
            let found = to.holds.inet.interfaces.numbered(index).ok_or(Errno::ENODEV)?;
            adjust(&to, &found, request, true)
        }
        _ => adjust(net, &found, request, true),
    }
}

/// Changes an interface as attributes say, and, if it was there before, its name and address.
fn adjust(net: &Arc<NetSpace>, found: &Interface, request: &Message<'_>, old: bool) -> Result<()> {
    let interfaces = &net.holds.inet.interfaces;
    let attribute = |kind| find(request.attributes(route::IFINFO), kind);
    let number = |kind| attribute(kind).map(|value| word(value, 0)).transpose();
    let (mtu, queue) = (number(route::IFLA_MTU)?, number(route::IFLA_TXQLEN)?);
    if mtu.is_some_and(|mtu| !(68..=65536).contains(&mtu)) {
        return Err(Errno::EINVAL);
    }
    let mac = attribute(route::IFLA_ADDRESS)
        .filter(|_| old)
        .map(|mac| <[u8; 6]>::try_from(mac).map_err(|_| Errno::EINVAL))
        .transpose()?;
    if mtu.is_some() || queue.is_some() || mac.is_some() {
        interfaces.change(found.index, |one| {
            (one.mtu, one.queue, one.mac) = (mtu.unwrap_or(one.mtu), queue.unwrap_or(one.queue), mac.unwrap_or(one.mac));
            Ok(())
        })?;
    }
    if let Some(name) = attribute(route::IFLA_IFNAME).map(text).filter(|name| old && *name != found.name) {
        interfaces.rename(found.index, name)?;
    }
    let (wanted, mask) = (word(request.body(), 8)?, word(request.body(), 12)?);
    // Without a mask all flags are meant, as ever.
    if (mask | if old { 0 } else { wanted }) & iff::UP != 0 {
        links::set_up(net, found, wanted & iff::UP != 0)?;
    }
    Ok(())
}

fn mac(attributes: Attributes<'_>) -> Result<Option<[u8; 6]>> {
    find(attributes, route::IFLA_ADDRESS).map(|mac| mac.try_into().map_err(|_| Errno::EINVAL)).transpose()
}

/// Makes an interface; of a pair, both. Answers the one that the request is about, and where it is.
fn make(net: &Arc<NetSpace>, task: &Arc<Task>, request: &Message<'_>) -> Result<(Arc<NetSpace>, Interface)> {
    let own = || request.attributes(route::IFINFO);
    let info = find(own(), route::IFLA_LINKINFO).ok_or(Errno::EOPNOTSUPP)?;
    let here = network_named(task, own())?.unwrap_or_else(|| net.clone());
    let new = New { net: &here, name: find(own(), route::IFLA_IFNAME).map(text), mac: mac(own())? };
    let entropy = &*task.kernel().host.entropy;
    let index = match find(Attributes::within(info), route::IFLA_INFO_KIND).map(text) {
        Some(b"dummy") => links::make_dummy(entropy, &new)?,
        Some(b"veth") => {
            let data = find(Attributes::within(info), INFO_DATA).unwrap_or_default();
            let peer = find(Attributes::within(data), PEER).and_then(|peer| peer.get(route::IFINFO..)).unwrap_or_default();
            let theirs = || Attributes::within(peer);
            let there = network_named(task, theirs())?.unwrap_or_else(|| net.clone());
            let other = New { net: &there, name: find(theirs(), route::IFLA_IFNAME).map(text), mac: mac(theirs())? };
            links::make_pair(entropy, [&new, &other])?
        }
        _ => return Err(Errno::EOPNOTSUPP),
    };
    let made = here.holds.inet.interfaces.numbered(index).ok_or(Errno::ENODEV)?;
    Ok((here, made))
}

/// Adds a way to the main table, or takes one from it.
pub(super) fn change_route(interfaces: &Interfaces, request: &Message<'_>) -> Result<()> {
    let head = request.body().get(..ROUTE).ok_or(Errno::EINVAL)?;
    let attribute = |kind| find(request.attributes(ROUTE), kind);
    let number = |kind| attribute(kind).map(|value| word(value, 0)).transpose();
    let address =
        |kind| attribute(kind).map(|value| ip(value).filter(|ip| family_of(*ip) == head[0]).ok_or(Errno::EINVAL)).transpose();
    let (any, whole): (IpAddr, u8) = match u32::from(head[0]) {
        n::AF_INET => (Ipv4Addr::UNSPECIFIED.into(), 32),
        n::AF_INET6 => (Ipv6Addr::UNSPECIFIED.into(), 128),
        _ => return Err(Errno::EOPNOTSUPP),
    };
    let table = number(route::RTA_TABLE)?.unwrap_or(head[4].into());
    if table != 0 && table != u32::from(MAIN) || head[7] > UNICAST {
        return Err(Errno::EOPNOTSUPP);
    }
    let (to, prefix) = (address(route::RTA_DST)?.unwrap_or(any), head[1]);
    if prefix > whole || network(to, prefix) != to {
        return Err(Errno::EINVAL);
    }
    let (through, over, metric) = (address(route::RTA_GATEWAY)?, number(route::RTA_OIF)?, number(route::RTA_PRIORITY)?);
    if request.kind == kind::DELROUTE {
        return interfaces.change_gateways(|ways| {
            let is_it = |way: &Gateway| {
                (way.to, way.prefix) == (to, prefix)
                    && through.is_none_or(|through| way.through == Some(through))
                    && over.is_none_or(|over| way.interface == over)
                    && metric.is_none_or(|metric| way.metric == metric)
            };
            let at = ways.iter().position(is_it).ok_or(Errno::ESRCH)?;
            ways.remove(at);
            Ok(())
        });
    }
    let near = |one: &Interface| {
        let within = |(own, prefix): &(IpAddr, u8), via: IpAddr| {
            own.is_ipv4() == via.is_ipv4() && network(*own, *prefix) == network(via, *prefix)
        };
        through.is_none_or(|via| one.addresses.iter().any(|own| within(own, via)))
    };
    let on_link = word(head, 8)? & ON_LINK != 0;
    let interface = match over {
        Some(index) => interfaces.numbered(index).ok_or(Errno::ENODEV)?,
        None if through.is_none() => return Err(Errno::ENODEV),
        None => interfaces.all().into_iter().find(|one| one.is_up() && near(one)).ok_or(Errno::ENETUNREACH)?,
    };
    match interface.is_up() {
        false => return Err(Errno::ENETDOWN),
        true if !on_link && !near(&interface) => return Err(Errno::ENETUNREACH),
        true => {}
    }
    let metric = metric.unwrap_or(if any.is_ipv4() { 0 } else { 1024 });
    let way = Gateway { to, prefix, through, interface: interface.index, metric };
    interfaces.change_gateways(|ways| {
        let same = ways.iter().position(|other| (other.to, other.prefix, other.metric) == (to, prefix, metric));
        match same {
            Some(_) if request.flags & flags::EXCL != 0 => return Err(Errno::EEXIST),
            Some(at) if request.flags & REPLACE != 0 => drop(ways.remove(at)),
            _ if ways.len() >= WAYS_MAX => return Err(Errno::ENOSPC),
            _ => {}
        }
        ways.push(way);
        Ok(())
    })
}
