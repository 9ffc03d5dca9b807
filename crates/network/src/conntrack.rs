//! What the kernel remembers of flows of datagrams. The translation of a flow is decided with its first packet; a published port that comes or goes
//! changes nothing for those that are known, as long as they go on: their packets would go to a container that is gone, or not to the new one. So the
//! kernel is told to forget them. (A stream that is opened anew is a new flow; datagrams have no end.)
//!
//! Source: `linux/netfilter/nfnetlink.h`, `nfnetlink_conntrack.h`; `net/netfilter/nf_conntrack_netlink.c`.

use crate::error::Result;
use crate::netlink::{Netlink, Refused, Step};
use insula_sys::{Context, Errno};
use insula_usernet::{Publish, Transport};
use netlink_packet_core::{DecodeError, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable};
use rustix::net::netlink;
use std::net::IpAddr;

/// Numbers of the interface.
mod number {
    /// `NFNL_SUBSYS_CTNETLINK << 8`, with `IPCTNL_MSG_CT_NEW`, `…_GET` and `…_DELETE`.
    pub(super) const NEW: u16 = 0x100;
    pub(super) const GET: u16 = 0x101;
    pub(super) const DELETE: u16 = 0x102;
    /// Attributes of an entry.
    pub(super) const CTA_TUPLE_ORIG: u16 = 1;
    pub(super) const CTA_TUPLE_REPLY: u16 = 2;
    pub(super) const CTA_ID: u16 = 12;
    pub(super) const CTA_ZONE: u16 = 18;
    /// Of a tuple.
    pub(super) const CTA_TUPLE_IP: u16 = 1;
    pub(super) const CTA_TUPLE_PROTO: u16 = 2;
    /// Of addresses: source and destination, IPv4 and IPv6.
    pub(super) const CTA_IP_V4_SRC: u16 = 1;
    pub(super) const CTA_IP_V4_DST: u16 = 2;
    pub(super) const CTA_IP_V6_SRC: u16 = 3;
    pub(super) const CTA_IP_V6_DST: u16 = 4;
    /// Of the protocol.
    pub(super) const CTA_PROTO_NUM: u16 = 1;
    pub(super) const CTA_PROTO_DST_PORT: u16 = 3;
    /// Flags in an attribute's type: nested, and in the network's byte order.
    pub(super) const FLAGS: u16 = 0xc000;
}

const UDP: u8 = 17;
/// Bytes of `struct nfgenmsg`, before the attributes.
const HEADER: usize = 4;

/// A message of ctnetlink.
#[derive(Debug)]
struct Entry {
    kind: u16,
    /// Of addresses; 0 is all.
    family: u8,
    attributes: Vec<u8>,
}

impl NetlinkSerializable for Entry {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        HEADER + self.attributes.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        // Version 0, and a number that isn't used.
        buffer[..HEADER].copy_from_slice(&[self.family, 0, 0, 0]);
        buffer[HEADER..].copy_from_slice(&self.attributes);
    }
}

impl NetlinkDeserializable for Entry {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> std::result::Result<Entry, DecodeError> {
        let [family, _, _, _, attributes @ ..] = payload else { return Err("a message without a header".into()) };
        Ok(Entry { kind: header.message_type, family: *family, attributes: attributes.to_vec() })
    }
}

/// A flow of datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flow {
    /// Who sends, to whom, to which port: before any translation.
    from: IpAddr,
    to: IpAddr,
    port: u16,
    /// Who answers, and to whom.
    answers: IpAddr,
    answered: IpAddr,
}

impl Flow {
    /// Whether it leads to one of these, by which port whatever.
    fn leads_to(&self, addresses: &[IpAddr]) -> bool {
        addresses.contains(&self.answers)
    }

    /// Whether it goes where a port is published now, and began before it was: nothing of it is translated.
    fn missed(&self, publish: &Publish) -> bool {
        let untranslated = self.answers == self.to && self.answered == self.from;
        let here = publish.address.is_none_or(|at| at.is_unspecified() || at == self.to);
        publish.transport == Transport::Udp && publish.port == self.port && here && untranslated
    }
}

/// Flows that lead where they shouldn't any more.
#[derive(Debug, Default)]
pub(crate) struct Stale {
    /// Containers that are gone, and had datagrams led to them.
    pub(crate) gone: Vec<IpAddr>,
    /// Ports that are published since.
    pub(crate) published: Vec<Publish>,
}

impl Stale {
    /// Has the kernel forget them, once the rules are what they are to be: a packet that came before would be remembered again.
    pub(crate) fn forget(&self) -> Result<()> {
        let published: Vec<&Publish> = self.published.iter().filter(|publish| publish.transport == Transport::Udp).collect();
        if self.gone.is_empty() && published.is_empty() {
            return Ok(());
        }
        forget(|flow| flow.leads_to(&self.gone) || published.iter().any(|publish| flow.missed(publish)))
    }
}

/// Has the kernel forget flows of this network namespace. A kernel that follows none has nothing to forget.
///
/// # Errors
/// It refuses to tell of them, or to forget one.
fn forget(chosen: impl Fn(&Flow) -> bool) -> Result<()> {
    let mut netlink = match Netlink::of(Some(netlink::NETFILTER)) {
        Err(Errno::PROTONOSUPPORT) => return Ok(()),
        netlink => netlink.on("open", "a netlink socket")?,
    };
    let all = match netlink.dump("flows", Entry { kind: number::GET, family: 0, attributes: Vec::new() }) {
        Err(Refused { errno: Errno::INVAL | Errno::OPNOTSUPP, .. }) => return Ok(()),
        all => all?,
    };
    let chosen = |entry: &Entry| entry.kind == number::NEW && flow(&entry.attributes).is_some_and(|flow| chosen(&flow));
    for Entry { family, attributes, .. } in all.into_iter().filter(chosen) {
        let message = Entry { kind: number::DELETE, family, attributes: names(&attributes) };
        match netlink.carry_out(vec![Step { what: "forget a flow".to_owned(), message, flags: 0 }]) {
            // It has ended meanwhile.
            Err(Refused { errno: Errno::NOENT, .. }) => {}
            told => told?,
        }
    }
    Ok(())
}

/// Attributes, netlink(7): each its type without flags, all of it, and what it holds.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8], &[u8])> {
    std::iter::from_fn(move || {
        let length: usize = u16::from_ne_bytes(*bytes.first_chunk()?).into();
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?) & !number::FLAGS;
        let held = bytes.get(4..length)?;
        let whole = bytes.get(..length.next_multiple_of(4)).unwrap_or(&bytes[..length]);
        bytes = &bytes[whole.len()..];
        Some((kind, whole, held))
    })
}

fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(kind, _, held)| (kind == wanted).then_some(held))
}

/// By which the kernel knows an entry again.
fn names(entry: &[u8]) -> Vec<u8> {
    let names = [number::CTA_TUPLE_ORIG, number::CTA_ZONE, number::CTA_ID];
    attributes(entry).filter(|(kind, ..)| names.contains(kind)).flat_map(|(_, whole, _)| whole.to_vec()).collect()
}

/// An entry that is of datagrams.
fn flow(entry: &[u8]) -> Option<Flow> {
    let (sent, reply) = (attribute(entry, number::CTA_TUPLE_ORIG)?, attribute(entry, number::CTA_TUPLE_REPLY)?);
    let protocol = attribute(sent, number::CTA_TUPLE_PROTO)?;
    if attribute(protocol, number::CTA_PROTO_NUM)? != [UDP] {
        return None;
    }
    let port = attribute(protocol, number::CTA_PROTO_DST_PORT)?;
    let (source, destination) = ([number::CTA_IP_V4_SRC, number::CTA_IP_V6_SRC], [number::CTA_IP_V4_DST, number::CTA_IP_V6_DST]);
    Some(Flow {
        from: address(sent, source)?,
        to: address(sent, destination)?,
        port: u16::from_be_bytes(*port.first_chunk()?),
        answers: address(reply, source)?,
        answered: address(reply, destination)?,
    })
}

fn address(tuple: &[u8], [v4, v6]: [u16; 2]) -> Option<IpAddr> {
    let addresses = attribute(tuple, number::CTA_TUPLE_IP)?;
    let four = || attribute(addresses, v4).and_then(|bytes| Some(<[u8; 4]>::try_from(bytes).ok()?.into()));
    let six = || attribute(addresses, v6).and_then(|bytes| Some(<[u8; 16]>::try_from(bytes).ok()?.into()));
    four().or_else(six)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nested(kind: u16, held: &[u8]) -> Vec<u8> {
        let mut bytes = ((4 + held.len()) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(held);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn tuple(kind: u16, from: [u8; 4], to: [u8; 4], protocol: u8, port: u16) -> Vec<u8> {
        let addresses = [nested(number::CTA_IP_V4_SRC, &from), nested(number::CTA_IP_V4_DST, &to)].concat();
        let protocol = [
            nested(number::CTA_PROTO_NUM, &[protocol]),
            nested(2, &[0x80, 1]),
            nested(number::CTA_PROTO_DST_PORT, &port.to_be_bytes()),
        ];
        let parts =
            [nested(number::CTA_TUPLE_IP | 0x8000, &addresses), nested(number::CTA_TUPLE_PROTO | 0x8000, &protocol.concat())];
        nested(kind | 0x8000, &parts.concat())
    }

    fn entry(protocol: u8, answers: [u8; 4]) -> Vec<u8> {
        let sent = tuple(number::CTA_TUPLE_ORIG, [192, 0, 2, 9], [192, 0, 2, 1], protocol, 8080);
        let reply = tuple(number::CTA_TUPLE_REPLY, answers, [192, 0, 2, 9], protocol, 0x8001);
        [sent, reply, nested(7, &[0, 0, 0, 30]), nested(number::CTA_ID, &[1, 2, 3, 4])].concat()
    }

    #[test]
    fn flows_are_told_by_where_they_lead() {
        let container = [10, 83, 0, 2];
        let translated = flow(&entry(UDP, container)).unwrap();
        assert!(translated.leads_to(&[container.into()]) && !translated.leads_to(&[[10, 83, 0, 3].into()]));
        let direct = flow(&entry(UDP, [192, 0, 2, 1])).unwrap();
        let missed = |flow: &Flow, publish: &str| flow.missed(&publish.parse().unwrap());
        assert!(missed(&direct, "8080:80/udp") && missed(&direct, "192.0.2.1:8080:80/udp"));
        for other in ["8080:80", "8081:80/udp", "127.0.0.1:8080:80/udp"] {
            assert!(!missed(&direct, other), "{other}");
        }
        assert!(!missed(&translated, "8080:80/udp"), "it is the new container's, or another network's");
        assert_eq!(flow(&entry(6, container)), None);
        let names = names(&entry(UDP, container));
        assert_eq!(attributes(&names).map(|(kind, ..)| kind).collect::<Vec<_>>(), [number::CTA_TUPLE_ORIG, number::CTA_ID]);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = flow(&bytes);
            let _ = names(&bytes);
            prop_assert!(crate::netlink::messages::<Entry>(&bytes).count() <= bytes.len());
        }
    }
}
