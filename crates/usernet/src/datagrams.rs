//! UDP, and echoes: datagrams that belong together go by one socket of the host's, for as long as there are any.
//!
//! A socket is connected, so nobody answers but the one who was asked. It is forgotten after a while; there is a bound on how many there
//! are, and the one that was used longest ago makes room. Echoes go by sockets that the kernel gives to the groups of
//! `net.ipv4.ping_group_range` (icmp(7)).

use crate::flow::{Flow, Protocol};
use crate::hub::Hub;
use crate::icmp::{self, Why};
use crate::payload::Payload;
use crate::reach::Target;
use crate::timers::{Alarm, Id};
use crate::wire::{Head, Udp};
use insula_sys::guest;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// Milliseconds without a datagram after which a flow is forgotten: of one that was answered (RFC 4787 section 4.3 wants two minutes at least),
/// and of one that never was, or has got what it asked for.
const ANSWERED: u64 = 180_000;
const UNANSWERED: u64 = 30_000;
/// Milliseconds after which a question that is asked again goes to the next resolver.
const PATIENCE: u64 = 1000;
/// The largest datagram.
const LARGEST: usize = 65535;

/// How a flow gets out.
#[derive(Debug)]
enum Way {
    /// By a socket of its own.
    Socket(OwnedFd),
    /// By one of its own, to a resolver.
    Resolver(OwnedFd, SocketAddr),
    /// By the one that is published, to this client.
    Published(Arc<OwnedFd>, SocketAddr),
}

impl Way {
    fn own(&self) -> Option<&OwnedFd> {
        match self {
            Way::Socket(socket) | Way::Resolver(socket, _) => Some(socket),
            Way::Published(..) => None,
        }
    }
}

/// Datagrams that belong together.
#[derive(Debug)]
struct Exchange {
    flow: Flow,
    way: Way,
    /// When the last one came by.
    used: u64,
    /// When the guest sent the first that isn't answered.
    asked: Option<u64>,
    answered: bool,
    /// It is among those that have something for the guest.
    listed: bool,
    alarm: Alarm,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Datagrams {
    by_id: HashMap<Id, Exchange>,
    by_flow: HashMap<Flow, Id>,
    /// Most that the guest began, and most that others began.
    most: usize,
    /// What was read last.
    buffer: Vec<u8>,
}

impl Datagrams {
    pub(crate) fn new(most: usize) -> Datagrams {
        Datagrams { by_id: HashMap::new(), by_flow: HashMap::new(), most, buffer: vec![0; LARGEST] }
    }

    /// A datagram of the guest's, or a message of it that asks for an echo.
    pub(crate) fn send(&mut self, hub: &mut Hub, flow: Flow, text: &Payload<'_>) {
        if let Err(errno) = self.try_send(hub, flow, text) {
            failed(hub, &flow, text, errno);
        }
    }

    fn try_send(&mut self, hub: &mut Hub, flow: Flow, text: &Payload<'_>) -> Result<(), Errno> {
        let id = match self.by_flow.get(&flow) {
            Some(id) => *id,
            None => self.open(hub, flow)?,
        };
        let Some(exchange) = self.by_id.get_mut(&id) else { return Ok(()) };
        exchange.used = hub.now;
        exchange.turn(hub, id)?;
        match exchange.send(text) {
            // What the host has no room for is lost, as on a wire. What an earlier one met with is told where it is heard of.
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => Ok(()),
            result => result,
        }
    }

    /// The guest speaks with somebody new.
    fn open(&mut self, hub: &mut Hub, flow: Flow) -> Result<Id, Errno> {
        let target = match flow.protocol {
            Protocol::Ping => hub.reach.outside(&hub.link, flow.remote),
            _ => hub.reach.target(&hub.link, flow.remote),
        };
        let way = match target {
            Target::Host(to) => Way::Socket(connect(flow.protocol, to)?),
            Target::Resolver => {
                let server = hub.resolvers.server().ok_or(Errno::CONNREFUSED)?;
                Way::Resolver(connect(flow.protocol, server)?, server)
            }
            Target::Closed => return Err(Errno::CONNREFUSED),
            Target::Refused => return Err(Errno::ACCESS),
        };
        self.make_room(hub, false);
        self.insert(hub, flow, way)
    }

    fn insert(&mut self, hub: &mut Hub, flow: Flow, way: Way) -> Result<Id, Errno> {
        let id = hub.id();
        if let Some(socket) = way.own() {
            hub.watch(socket, id)?;
        }
        let mut exchange =
            Exchange { flow, way, used: hub.now, asked: None, answered: false, listed: false, alarm: Alarm::default() };
        let until = hub.now + exchange.lasts();
        hub.timers.set(&mut exchange.alarm, id, hub.now, until);
        self.by_id.insert(id, exchange);
        self.by_flow.insert(flow, id);
        Ok(id)
    }

    /// Outsiders can't drive out what the guest began, nor the other way round.
    fn make_room(&mut self, hub: &mut Hub, published: bool) {
        let alike = || self.by_id.iter().filter(|(_, exchange)| exchange.is_published() == published);
        if alike().count() >= self.most
            && let Some(oldest) = alike().min_by_key(|(_, exchange)| exchange.used).map(|(id, _)| *id)
        {
            self.remove(hub, oldest);
        }
    }

    fn remove(&mut self, hub: &mut Hub, id: Id) {
        if let Some(mut exchange) = self.by_id.remove(&id) {
            self.by_flow.remove(&exchange.flow);
            hub.timers.remove(&mut exchange.alarm, id);
        }
    }

    /// A socket is ready; false if it is none of ours.
    pub(crate) fn ready(&mut self, hub: &mut Hub, id: Id) -> bool {
        let Some(exchange) = self.by_id.get_mut(&id) else { return false };
        if !std::mem::replace(&mut exchange.listed, true) {
            hub.news.push_back(id);
        }
        true
    }

    /// An alarm has gone off; false if it is none of ours.
    pub(crate) fn expired(&mut self, hub: &mut Hub, id: Id) -> bool {
        let Some(exchange) = self.by_id.get_mut(&id) else { return false };
        if !hub.timers.is_due(&mut exchange.alarm, id, hub.now) {
            return true;
        }
        let until = exchange.used + exchange.lasts();
        if hub.now < until {
            hub.timers.set(&mut exchange.alarm, id, hub.now, until);
        } else {
            self.remove(hub, id);
        }
        true
    }

    /// The next datagram for the guest of a flow that is among those with news: its head is made, and this is its length. None if there is
    /// none for now.
    pub(crate) fn due(&mut self, hub: &mut Hub, id: Id) -> Option<usize> {
        let exchange = self.by_id.get_mut(&id)?;
        exchange.listed = false;
        let flow = exchange.flow;
        match rustix::net::recv(exchange.way.own()?, self.buffer.as_mut_slice(), RecvFlags::DONTWAIT) {
            Ok((length, _)) => {
                (exchange.used, exchange.asked, exchange.answered) = (hub.now, None, true);
                self.ready(hub, id);
                if flow.protocol == Protocol::Ping {
                    answer_echo(hub, &flow, &self.buffer[..length]);
                    return None;
                }
                self.head(hub, &flow, length)
            }
            Err(Errno::AGAIN) => None,
            Err(errno) => {
                // What was sent didn't arrive. There may be more.
                if let Way::Resolver(_, server) = exchange.way {
                    hub.resolvers.silent(server);
                }
                failed(hub, &flow, &Payload::new(&[], 0, 0), errno);
                self.ready(hub, id);
                None
            }
        }
    }

    /// What a client of a published port has to say to this port of the guest's: its head is made, and this is its length. None if there is
    /// nothing for now.
    pub(crate) fn hear(&mut self, hub: &mut Hub, socket: &Arc<OwnedFd>, port: u16) -> Option<usize> {
        loop {
            let (length, client) = match rustix::net::recvfrom(socket, self.buffer.as_mut_slice(), RecvFlags::DONTWAIT) {
                Ok((length, _, client)) => (length, client.and_then(|client| SocketAddr::try_from(client).ok())),
                Err(Errno::AGAIN) => return None,
                // What was sent to one of them didn't arrive.
                Err(_) => continue,
            };
            let flow = client.and_then(|client| self.caller(hub, socket, client, port));
            if let Some(length) = flow.and_then(|flow| self.head(hub, &flow, length)) {
                return Some(length);
            }
        }
    }

    /// The flow of a client, which may be new.
    fn caller(&mut self, hub: &mut Hub, socket: &Arc<OwnedFd>, client: SocketAddr, port: u16) -> Option<Flow> {
        let way = |flow: &Flow| self.by_flow.get(flow).and_then(|id| self.by_id.get(id)).map(|exchange| &exchange.way);
        let others = |flow: &Flow| way(flow).is_some_and(|way| !matches!(way, Way::Published(_, known) if *known == client));
        let flow = Flow::from_outside(&hub.link, Protocol::Udp, client, port, others)?;
        if let Some(exchange) = self.by_flow.get(&flow).and_then(|id| self.by_id.get_mut(id)) {
            exchange.used = hub.now;
        } else {
            self.make_room(hub, true);
            self.insert(hub, flow, Way::Published(socket.clone(), client)).ok()?;
        }
        Some(flow)
    }

    fn head(&self, hub: &mut Hub, flow: &Flow, length: usize) -> Option<usize> {
        let text = [&self.buffer[..length], &[]];
        hub.head = Head::udp(hub.link.guest(), flow.remote, flow.guest, text, hub.link.leaves_checksum());
        // One that is too large for the cable is lost: nobody cuts it.
        hub.link.takes(hub.head.bytes().len() + length).then_some(length)
    }

    /// What was read last.
    pub(crate) fn text(&self, length: usize) -> &[u8] {
        &self.buffer[..length]
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self, hub: &mut Hub) {
        let all: Vec<Id> = self.by_id.keys().copied().collect();
        all.into_iter().for_each(|id| self.remove(hub, id));
    }
}

impl Exchange {
    /// How many milliseconds it is kept without a datagram.
    fn lasts(&self) -> u64 {
        match self.way {
            Way::Resolver(..) => UNANSWERED,
            _ if self.answered => ANSWERED,
            _ => UNANSWERED,
        }
    }

    fn is_published(&self) -> bool {
        matches!(self.way, Way::Published(..))
    }

    /// A resolver that didn't answer in time isn't asked again.
    fn turn(&mut self, hub: &mut Hub, id: Id) -> Result<(), Errno> {
        let asked = *self.asked.get_or_insert(hub.now);
        let Way::Resolver(_, server) = self.way else { return Ok(()) };
        if hub.now - asked >= PATIENCE {
            hub.resolvers.silent(server);
        }
        let next = hub.resolvers.server().ok_or(Errno::CONNREFUSED)?;
        if next != server {
            let socket = connect(self.flow.protocol, next)?;
            hub.watch(&socket, id)?;
            (self.way, self.asked) = (Way::Resolver(socket, next), Some(hub.now));
        }
        Ok(())
    }

    fn send(&mut self, text: &Payload<'_>) -> Result<(), Errno> {
        match &self.way {
            Way::Published(socket, client) => {
                self.answered = true;
                rustix::net::sendto(socket, &text.to_vec(), SendFlags::DONTWAIT, client).map(drop)
            }
            // To write nothing would do nothing.
            Way::Socket(socket) | Way::Resolver(socket, _) if text.len() == 0 => {
                rustix::net::send(socket, &[], SendFlags::DONTWAIT).map(drop)
            }
            Way::Socket(socket) | Way::Resolver(socket, _) => guest::write(socket, &text.pieces()).map(drop),
        }
    }
}

fn connect(protocol: Protocol, to: SocketAddr) -> Result<OwnedFd, Errno> {
    let (family, echoes) = match to {
        SocketAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        SocketAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    let protocol = (protocol == Protocol::Ping).then_some(echoes);
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, protocol)?;
    rustix::net::connect(&socket, &to)?;
    Ok(socket)
}

/// Whether the host's kernel gives this process sockets for echoes.
pub(crate) fn can_ping() -> bool {
    let flags = SocketFlags::CLOEXEC;
    rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, Some(ipproto::ICMP)).is_ok()
}

/// The kernel puts an identifier of its own into what goes out.
fn answer_echo(hub: &mut Hub, flow: &Flow, message: &[u8]) {
    let mut message = message.to_vec();
    if let Some(identifier) = message.get_mut(4..6) {
        identifier.copy_from_slice(&flow.guest.port().to_be_bytes());
        let (source, guest) = flow.back();
        icmp::send(hub, source, guest, message);
    }
}

/// Tells the guest that something it sent can't arrive. The quotation need not be true to the byte: ports, or the identifier, say whose it is.
fn failed(hub: &mut Hub, flow: &Flow, text: &Payload<'_>, errno: Errno) {
    let Some(why) = Why::of(errno) else { return };
    let mut sent = [0; 8];
    if flow.protocol == Protocol::Ping {
        text.part(0, sent.len()).copy_to(&mut sent);
    } else {
        sent[..2].copy_from_slice(&flow.guest.port().to_be_bytes());
        sent[2..4].copy_from_slice(&flow.remote.port().to_be_bytes());
        sent[4..6].copy_from_slice(&((Udp::HEADER + text.len()) as u16).to_be_bytes());
    }
    icmp::unreachable(hub, flow, sent, why);
}
