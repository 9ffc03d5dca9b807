//! What the host's network looks like: asked once, while there is a way to ask (rtnetlink(7)).

use insula_abi::net as n;
use insula_kernel::socket::inet::interfaces::{Gateway, Interface};
use insula_kernel::socket::inet::links::Link;
use insula_kernel::socket::netlink::message::{Attributes, HEAD, Message, Messages, Writer, flags};
use rustix::fd::OwnedFd;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What programs are to see.
#[derive(Debug, Default)]
pub struct Seen {
    /// Interfaces, with their addresses.
    pub interfaces: Vec<Interface>,
    /// Ways out.
    pub gateways: Vec<Gateway>,
}

/// Interfaces, addresses and ways that are looked at, each at most.
const MOST: usize = 1024;
/// Bytes of an answer at most: the kernel makes them no longer than this for who has room.
const ANSWER: usize = 64 << 10;

const DONE: u16 = 3;
const ERROR: u16 = 2;
const GETLINK: u16 = 18;
const GETADDR: u16 = 22;
const GETROUTE: u16 = 26;
/// Bytes of `struct ifinfomsg`, `struct ifaddrmsg`, `struct rtmsg`.
const LINK: usize = 16;
const ADDR: usize = 8;
const ROUTE: usize = 12;

/// Looks at the network namespace that this process is in.
///
/// # Errors
/// The kernel refuses.
pub fn look() -> std::io::Result<Seen> {
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let mut seen = Seen::default();
    dump(&socket, GETLINK, LINK, |message| seen.interfaces.extend(interface(message)))?;
    seen.interfaces.truncate(MOST);
    dump(&socket, GETADDR, ADDR, |message| {
        let Some((index, ip, prefix)) = address(message) else { return };
        if let Some(interface) = seen.interfaces.iter_mut().find(|interface| interface.index == index)
            && interface.addresses.len() < MOST
        {
            interface.addresses.push((ip, prefix));
        }
    })?;
    dump(&socket, GETROUTE, ROUTE, |message| seen.gateways.extend(gateway(message)))?;
    seen.gateways.truncate(MOST);
    Ok(seen)
}

/// Asks for all there is of a kind, and has `take` look at each.
fn dump(socket: &OwnedFd, kind: u16, head: usize, mut take: impl FnMut(&Message<'_>)) -> std::io::Result<()> {
    let question = Writer::new(kind, flags::REQUEST | flags::DUMP, kind.into(), 0).bytes(&vec![0; head]).finish();
    rustix::net::sendto(socket, &question, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = vec![0; ANSWER];
    loop {
        let (length, _) = rustix::io::retry_on_intr(|| rustix::net::recv(socket, &mut *answer, RecvFlags::empty()))?;
        let messages = Messages(&answer[..length]);
        for message in messages {
            match message.kind {
                DONE => return Ok(()),
                ERROR => return Err(std::io::Error::from(rustix::io::Errno::OPNOTSUPP)),
                _ if message.whole.len() >= HEAD + head => take(&message),
                _ => {}
            }
        }
        if length == 0 {
            return Ok(());
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

fn find<'a>(mut attributes: Attributes<'a>, wanted: u16) -> Option<&'a [u8]> {
    attributes.find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

fn interface(message: &Message<'_>) -> Option<Interface> {
    const ADDRESS: u16 = 1;
    const NAME: u16 = 3;
    const MTU: u16 = 4;
    const QUEUE: u16 = 13;
    let attribute = |wanted| find(message.attributes(LINK), wanted);
    let body = message.body();
    let name = attribute(NAME)?.split(|byte| *byte == 0).next()?.to_vec();
    Some(Interface {
        hardware: u16::from_ne_bytes([body[2], body[3]]),
        index: word(body, 4)?,
        flags: word(body, 8)?,
        // A name of the kernel's has 15 bytes at most.
        name: name.get(..15).map_or_else(|| name.clone(), <[u8]>::to_vec),
        mtu: attribute(MTU).and_then(|value| word(value, 0)).unwrap_or(1500),
        queue: attribute(QUEUE).and_then(|value| word(value, 0)).unwrap_or(0),
        mac: attribute(ADDRESS).and_then(|value| value.first_chunk().copied()).unwrap_or_default(),
        addresses: Vec::new(),
        link: Link::Fixed,
    })
}

fn address(message: &Message<'_>) -> Option<(u32, IpAddr, u8)> {
    const ADDRESS: u16 = 1;
    const LOCAL: u16 = 2;
    let attribute = |wanted| find(message.attributes(ADDR), wanted);
    let body = message.body();
    // Between two points, "address" is the other end's.
    Some((word(body, 4)?, ip(attribute(LOCAL).or_else(|| attribute(ADDRESS))?)?, body[1]))
}

/// A way of the main table, through a neighbour.
fn gateway(message: &Message<'_>) -> Option<Gateway> {
    const TO: u16 = 1;
    const INTERFACE: u16 = 4;
    const THROUGH: u16 = 5;
    const METRIC: u16 = 6;
    const MAIN: u8 = 254;
    const UNICAST: u8 = 1;
    let attribute = |wanted| find(message.attributes(ROUTE), wanted);
    let body = message.body();
    let (family, prefix, table, kind) = (body[0], body[1], body[4], body[7]);
    if table != MAIN || kind != UNICAST {
        return None;
    }
    let anywhere = if u32::from(family) == n::AF_INET { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    Some(Gateway {
        to: attribute(TO).and_then(ip).unwrap_or(anywhere),
        prefix,
        through: Some(ip(attribute(THROUGH)?)?),
        interface: word(attribute(INTERFACE)?, 0)?,
        metric: attribute(METRIC).and_then(|value| word(value, 0)).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_a_loopback_device() {
        let seen = look().unwrap();
        let loopback = seen.interfaces.iter().find(|interface| interface.name == b"lo").expect("one of that name");
        assert_eq!((loopback.index, loopback.hardware), (1, 772));
        // Whatever else is there, each way leads somewhere.
        for gateway in &seen.gateways {
            assert!(seen.interfaces.iter().any(|interface| interface.index == gateway.interface), "{gateway:?}");
        }
    }
}
