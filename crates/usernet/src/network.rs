//! The network: frames in, frames out.

use crate::config::Config;
use crate::datagrams::{self, Datagrams};
use crate::error::Result;
use crate::flow::{Flow, Protocol};
use crate::hub::Hub;
use crate::payload::Payload;
use crate::published::Published;
use crate::tcp::Connections;
use crate::timers::{Alarm, Id};
use crate::wire::{self, CHECKED, ETHERNET, Fields, Ip, Mac, NEEDS_CHECKSUM, Sum, Tcp, Udp, VNET, kind, protocol};
use crate::{dhcp, icmp, link, neighbours};
use insula_sys::error::Context;
use insula_sys::tap::Offload;
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use vm_memory::VolatileSlice;

/// So much of a frame is looked at: all headers, with all of their options.
const HEADERS: usize = 256;
/// What events are about, beside sockets.
const TIMERS: Id = 1;
const ROUTER: Id = 2;
/// Most connections, and most flows of datagrams of each kind; fewer if the process may not have as many descriptors.
const MOST_CONNECTIONS: usize = 4096;
const MOST_EXCHANGES: usize = 1024;
/// Descriptors that are left to the rest of the process.
const OTHERS: usize = 128;

/// A guest's network.
#[derive(Debug)]
pub struct Network {
    hub: Hub,
    tcp: Connections,
    datagrams: Datagrams,
    published: Published,
    /// When the router tells next that it is there.
    router: Alarm,
    reply: Vec<u8>,
}

/// A frame for the guest: the header of 12 bytes (`virtio_net_hdr`), Ethernet's, and so on.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a>([&'a [u8]; 3]);

impl Frame<'_> {
    /// Its bytes, in pieces.
    pub fn pieces(&self) -> [&[u8]; 3] {
        self.0
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.0.iter().map(|piece| piece.len()).sum()
    }

    /// Whether it has none, which doesn't occur.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies it into memory; what doesn't fit is left out.
    pub fn copy_to(&self, memory: &[VolatileSlice<'_>]) {
        let mut room = memory.iter();
        let mut here = room.next().copied();
        for mut piece in self.0 {
            while let Some(slice) = here.filter(|_| !piece.is_empty()) {
                let count = piece.len().min(slice.len());
                slice.copy_from(&piece[..count]);
                piece = &piece[count..];
                here = slice.offset(count).ok().filter(|rest| !rest.is_empty()).or_else(|| room.next().copied());
            }
        }
    }
}

/// Where the text of a frame lies.
enum Text {
    Reply,
    Segment(Id, Range<usize>),
    Datagram(usize),
}

impl Network {
    /// Makes a network, and listens at the ports to be published.
    ///
    /// # Errors
    /// A configuration that can't be, or a port that can't be had.
    pub fn new(config: &Config) -> Result<Network> {
        config.check()?;
        let mut hub = Hub::new(config, ROUTER)?;
        hub.watch(&hub.timers, TIMERS).on("wait for", "a timer")?;
        let published = Published::new(&mut hub, config)?;
        let allowed = getrlimit(Resource::Nofile).current.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
        let left = allowed.saturating_sub(OTHERS).max(16);
        Ok(Network {
            tcp: Connections::new(MOST_CONNECTIONS.min(left / 4 * 3)),
            datagrams: Datagrams::new(MOST_EXCHANGES.min(left / 4)),
            hub,
            published,
            router: Alarm::default(),
            reply: Vec::new(),
        })
    }

    /// Whether echoes (`ping`) reach others than the gateway: the host allows it to the groups of `net.ipv4.ping_group_range`.
    pub fn pings() -> bool {
        datagrams::can_ping()
    }

    /// Says what the guest can take, and needn't be done for it. (What it leaves to us, we take.)
    pub fn set_offload(&mut self, offload: Offload) {
        self.hub.link.offload = offload;
    }

    /// For tests: all that lies outside is at this address.
    #[cfg(any(test, feature = "testing"))]
    pub fn put_outside_at(&mut self, address: IpAddr) {
        self.hub.reach.elsewhere = Some(address);
    }

    /// Forgets the guest and all its connections: another one will come.
    pub fn clear(&mut self) {
        self.tcp.clear(&mut self.hub);
        self.datagrams.clear(&mut self.hub);
        self.hub.timers.remove(&mut self.router, ROUTER);
        self.hub.clear();
        self.published.relist(&mut self.hub);
    }

    /// The guest sends a frame, which is led by its header of 12 bytes. What isn't understood is dropped.
    pub fn send(&mut self, frame: &[VolatileSlice<'_>]) {
        let length = frame.iter().map(VolatileSlice::len).sum();
        let mut headers = [0; HEADERS];
        let copied = Payload::new(frame, 0, HEADERS.min(length)).copy_to(&mut headers);
        self.hub.tick();
        let _ = self.take(frame, length, &headers[..copied]);
    }

    fn take(&mut self, frame: &[VolatileSlice<'_>], length: usize, headers: &[u8]) -> Option<()> {
        let mut fields = Fields(headers);
        let flags = fields.array::<VNET>()?[0];
        let (to, from) = (fields.array::<6>()?, fields.array::<6>()?);
        let kind = fields.u16()?;
        // To us, or to all; and from one.
        if to != link::OURS && to[0] & 1 == 0 || from[0] & 1 == 1 {
            return None;
        }
        match kind {
            kind::ARP => neighbours::arp(&mut self.hub, fields.0),
            kind::IPV4 | kind::IPV6 => {
                let start = VNET + ETHERNET;
                let ip = wire::ip(fields.0, length - start).filter(|ip| ip.source.is_ipv6() == (kind == kind::IPV6))?;
                let payload = Payload::new(frame, start + ip.start, ip.length);
                let transport = fields.0.get(ip.start..)?;
                let transport = &transport[..transport.len().min(ip.length)];
                let checked = flags & (NEEDS_CHECKSUM | CHECKED) != 0 || is_whole(&ip, transport, &payload);
                if checked { self.packet(from, &ip, transport, &payload) } else { None }
            }
            _ => None,
        }
    }

    /// A packet whose header is good: `transport` is the beginning of its payload.
    fn packet(&mut self, from: Mac, ip: &Ip, transport: &[u8], payload: &Payload<'_>) -> Option<()> {
        let hub = &mut self.hub;
        let known = hub.link.is_guest(ip.source);
        if known {
            hub.link.learn(from, ip.source);
        }
        match ip.protocol {
            protocol::UDP => {
                let udp = Udp::read(transport).filter(|udp| udp.length <= ip.length)?;
                let text = payload.part(Udp::HEADER, udp.length - Udp::HEADER);
                self.datagram(from, ip, udp, &text)
            }
            protocol::ICMPV6 if neighbours::icmpv6(hub, from, ip, transport) => {
                if hub.timers.is_unset(&self.router) {
                    hub.timers.set(&mut self.router, ROUTER, hub.now, hub.now + neighbours::ADVERTISE_EVERY);
                }
                Some(())
            }
            // Whoever isn't on the cable has nothing to say here.
            _ if !known => None,
            protocol::TCP => {
                let tcp = Tcp::read(transport)?;
                let text = payload.part(tcp.start, usize::MAX);
                self.tcp.segment(hub, ip, &tcp, &text);
                Some(())
            }
            protocol::ICMP | protocol::ICMPV6 if icmp::asks(ip, transport) => self.echo(ip, transport, payload),
            _ => None,
        }
    }

    fn datagram(&mut self, from: Mac, ip: &Ip, udp: Udp, text: &Payload<'_>) -> Option<()> {
        let hub = &mut self.hub;
        let ours = hub.link.is_gateway(ip.destination);
        match (udp.destination, ip.destination) {
            (dhcp::SERVER, IpAddr::V4(to)) if ours || to.is_broadcast() => dhcp::answer(hub, &text.to_vec()),
            (dhcp::SERVER6, IpAddr::V6(to)) if ours || to.is_multicast() => {
                dhcp::answer6(hub, from, ip, udp.source, &text.to_vec())
            }
            // What is said to all on the cable is said to nobody but us, and needs no answer.
            (_, to) if to.is_multicast() || to == Ipv4Addr::BROADCAST || to == hub.link.broadcast() => None,
            _ if !hub.link.is_guest(ip.source) => None,
            _ => {
                let guest = SocketAddr::new(ip.source, udp.source);
                let flow = Flow { protocol: Protocol::Udp, guest, remote: SocketAddr::new(ip.destination, udp.destination) };
                self.datagrams.send(hub, flow, text);
                Some(())
            }
        }
    }

    /// A request for an echo.
    fn echo(&mut self, ip: &Ip, transport: &[u8], payload: &Payload<'_>) -> Option<()> {
        if self.hub.link.is_gateway(ip.destination) {
            icmp::echo(&mut self.hub, ip, payload.to_vec());
            return Some(());
        }
        if ip.destination.is_multicast() {
            return None;
        }
        let identifier = u16::from_be_bytes(*transport.get(4..6)?.first_chunk()?);
        let guest = SocketAddr::new(ip.source, identifier);
        let flow = Flow { protocol: Protocol::Ping, guest, remote: SocketAddr::new(ip.destination, 0) };
        self.datagrams.send(&mut self.hub, flow, payload);
        Some(())
    }

    /// The next frame for the guest, if there is one. It has room for `most` bytes: segments are made to fit, and datagrams that don't are
    /// lost, so there should be enough for an ordinary frame. None means that there is none until the guest has sent something, or
    /// [`Network::poll`] was called.
    pub fn receive(&mut self, most: usize) -> Option<Frame<'_>> {
        let text = self.next(most)?;
        let head = self.hub.head.bytes();
        Some(Frame(match text {
            Text::Reply => [&self.reply, &[], &[]],
            Text::Segment(id, range) => {
                let [first, second] = self.tcp.text(id, range);
                [head, first, second]
            }
            Text::Datagram(length) => [head, self.datagrams.text(length), &[]],
        }))
    }

    fn next(&mut self, most: usize) -> Option<Text> {
        let hub = &mut self.hub;
        // Who waited for a buffer, or for room, may have it now.
        for id in hub.pool.awaited() {
            self.tcp.list(hub, id);
        }
        if self.tcp.has_room() {
            self.published.retry(hub);
        }
        loop {
            let text = if let Some(reply) = hub.next_reply() {
                self.reply = reply;
                Some((Text::Reply, self.reply.len()))
            } else {
                let id = hub.news.pop_front()?;
                if let Some(range) = self.tcp.due(hub, id, most) {
                    return Some(Text::Segment(id, range));
                }
                let length = self.datagrams.due(hub, id);
                let length = length.or_else(|| self.published.due(hub, &mut self.tcp, &mut self.datagrams, id));
                length.map(|length| (Text::Datagram(length), hub.head.bytes().len() + length))
            };
            if let Some((text, _)) = text.filter(|(_, length)| *length <= most) {
                return Some(text);
            }
        }
    }

    /// The descriptor of [`AsFd`] is readable: takes note of what has happened.
    ///
    /// # Errors
    /// The host's kernel doesn't say.
    pub fn poll(&mut self) -> Result<()> {
        self.hub.tick();
        let mut events = Vec::with_capacity(64);
        let none = rustix::event::Timespec::default();
        match epoll::wait(&self.hub.epoll, spare_capacity(&mut events), Some(&none)) {
            Err(Errno::INTR) => return Ok(()),
            result => result.on("wait for", "sockets")?,
        };
        for event in events {
            let (id, hub) = (event.data.u64(), &mut self.hub);
            if id == TIMERS {
                self.expired();
                continue;
            }
            let _ = self.tcp.ready(hub, id, event.flags) || self.datagrams.ready(hub, id) || self.published.ready(hub, id);
        }
        Ok(())
    }

    fn expired(&mut self) {
        let hub = &mut self.hub;
        while let Some(id) = hub.timers.expired(hub.now) {
            if id == ROUTER && hub.timers.is_due(&mut self.router, id, hub.now) {
                neighbours::advertise(hub, None);
                hub.timers.set(&mut self.router, ROUTER, hub.now, hub.now + neighbours::ADVERTISE_EVERY);
            } else {
                let _ = self.tcp.expired(hub, id) || self.datagrams.expired(hub, id);
            }
        }
        hub.timers.rearm(hub.now);
    }
}

/// Readable when [`Network::poll`] should be called.
impl AsFd for Network {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.hub.epoll.as_fd()
    }
}

/// Whether a payload's checksum is right. Those of others are passed on in packets of ours, and would be right then.
fn is_whole(ip: &Ip, transport: &[u8], payload: &Payload<'_>) -> bool {
    let mut sum = match ip.protocol {
        protocol::ICMP => Sum::default(),
        // RFC 768: there is none.
        protocol::UDP if ip.source.is_ipv4() && Udp::read(transport).is_some_and(|udp| udp.checksum == 0) => return true,
        protocol::TCP | protocol::UDP | protocol::ICMPV6 => Sum::pseudo(ip.source, ip.destination, ip.protocol, ip.length),
        // Nothing is done with it.
        _ => return true,
    };
    payload.sum(&mut sum);
    sum.checksum() == 0
}
