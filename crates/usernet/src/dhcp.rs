//! How a guest learns its addresses: DHCP (RFC 2131) gives it the one there is; DHCPv6 (RFC 8415) only tells of the resolver, as addresses of
//! IPv6 are made from the router's advertisement.

use crate::hub::Hub;
use crate::link::{GATEWAY6, LOCAL6, OURS};
use crate::wire::{BROADCAST, Fields, Head, Ip, Mac};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

pub(crate) const SERVER: u16 = 67;
const CLIENT: u16 = 68;
pub(crate) const SERVER6: u16 = 547;
/// Seconds. The address is nobody else's, so a day is as good as a minute.
const LEASE: u32 = 86400;
/// Section 3: what options begin with.
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// What relays of old expect at least (RFC 1542 section 2.1).
const SMALLEST: usize = 300;

const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;
const NAK: u8 = 6;
const INFORM: u8 = 8;

/// What a client says.
#[derive(Debug)]
struct Request<'a> {
    /// Number, seconds and flags, as they go back.
    transaction: &'a [u8],
    /// The address that it has.
    has: Ipv4Addr,
    hardware: &'a [u8],
    kind: u8,
    /// The address that it wants.
    wants: Option<Ipv4Addr>,
    server: Option<Ipv4Addr>,
}

impl<'a> Request<'a> {
    /// Section 2, and RFC 2132 section 9.
    fn read(message: &'a [u8]) -> Option<Request<'a>> {
        let mut fields = Fields(message);
        // A request, from Ethernet.
        if fields.array::<3>()? != [1, 1, 6] {
            return None;
        }
        fields.u8()?;
        let transaction = fields.bytes(8)?;
        let has = Ipv4Addr::from(fields.array::<4>()?);
        fields.bytes(12)?;
        let hardware = fields.bytes(16)?;
        fields.bytes(192)?;
        if fields.array::<4>()? != COOKIE {
            return None;
        }
        let mut request = Request { transaction, has, hardware, kind: 0, wants: None, server: None };
        request.options(fields);
        Some(request)
    }

    /// As far as they make sense.
    fn options(&mut self, mut options: Fields<'a>) -> Option<()> {
        loop {
            match options.u8()? {
                0 => {}
                255 => return None,
                option => {
                    let length = options.u8()?;
                    let mut value = Fields(options.bytes(length.into())?);
                    match option {
                        53 => self.kind = value.u8()?,
                        50 => self.wants = value.array::<4>().map(Ipv4Addr::from),
                        54 => self.server = value.array::<4>().map(Ipv4Addr::from),
                        _ => {}
                    }
                }
            }
        }
    }
}

/// Answers a client.
pub(crate) fn answer(hub: &mut Hub, message: &[u8]) -> Option<()> {
    let request = Request::read(message)?;
    let ours = request.server.is_none_or(|server| server == hub.link.gateway);
    let wants = request.wants.unwrap_or(request.has);
    let kind = match request.kind {
        DISCOVER => OFFER,
        REQUEST if ours && wants == hub.link.lease => ACK,
        REQUEST if ours => NAK,
        INFORM => ACK,
        _ => return None,
    };
    let mut reply = vec![2, 1, 6, 0];
    reply.extend(request.transaction);
    let given = if matches!(request.kind, DISCOVER | REQUEST) && kind != NAK { hub.link.lease } else { Ipv4Addr::UNSPECIFIED };
    reply.extend(request.has.octets());
    reply.extend(given.octets());
    // The next server and the relay: none.
    reply.extend([0; 8]);
    reply.extend(request.hardware);
    reply.extend([0; 192]);
    reply.extend(COOKIE);
    reply.extend([53, 1, kind]);
    put(&mut reply, 54, &hub.link.gateway.octets());
    if kind != NAK {
        configuration(hub, &mut reply, request.kind != INFORM);
    }
    reply.push(255);
    reply.resize(reply.len().max(SMALLEST), 0);
    // Section 4.1: who has no address yet hears what is said to all.
    let to = if request.has.is_unspecified() || kind == NAK { Ipv4Addr::BROADCAST } else { request.has };
    let mac = if to.is_broadcast() { BROADCAST } else { hub.link.guest() };
    send(hub, mac, SocketAddr::new(hub.link.gateway.into(), SERVER), SocketAddr::new(to.into(), CLIENT), &reply);
    Some(())
}

fn put(reply: &mut Vec<u8>, option: u8, value: &[u8]) {
    reply.extend([option, value.len() as u8]);
    reply.extend(value);
}

fn configuration(hub: &mut Hub, reply: &mut Vec<u8>, leased: bool) {
    let link = &hub.link;
    if leased {
        put(reply, 51, &LEASE.to_be_bytes());
    }
    put(reply, 1, &link.mask().octets());
    put(reply, 3, &link.gateway.octets());
    put(reply, 28, &link.broadcast().octets());
    put(reply, 26, &link.mtu.to_be_bytes());
    if let Some(name) = &link.hostname {
        put(reply, 12, name.as_bytes());
    }
    if hub.resolvers.server().is_some() {
        put(reply, 6, &hub.link.gateway.octets());
    }
}

/// Answers a client of DHCPv6 that asks for information (section 18.3.6); addresses aren't to be had here.
pub(crate) fn answer6(hub: &mut Hub, from: Mac, ip: &Ip, port: u16, message: &[u8]) -> Option<()> {
    let mut fields = Fields(message);
    if fields.u8()? != 11 {
        return None;
    }
    let mut reply = vec![7];
    reply.extend(fields.array::<3>()?);
    // Our name: of Ethernet's address (section 11.4).
    reply.extend([0, 2, 0, 10, 0, 3, 0, 1]);
    reply.extend(OURS);
    while let Some((option, length)) = fields.u16().zip(fields.u16()) {
        let value = fields.bytes(length.into())?;
        // The client's name goes back to it; the longest there is has 130 bytes (section 11.1).
        if option == 1 && length <= 130 {
            reply.extend([0, 1]);
            reply.extend(length.to_be_bytes());
            reply.extend(value);
        }
    }
    if hub.resolvers.server().is_some() {
        reply.extend([0, 23, 0, 16]);
        reply.extend(GATEWAY6.octets());
    }
    let IpAddr::V6(client) = ip.source else { return None };
    send(hub, from, SocketAddr::new(LOCAL6.into(), SERVER6), SocketAddr::new(client.into(), port), &reply);
    Some(())
}

fn send(hub: &mut Hub, mac: Mac, source: SocketAddr, to: SocketAddr, reply: &[u8]) {
    hub.reply(Head::udp(mac, source, to, [reply, &[]], false).with(reply));
}
