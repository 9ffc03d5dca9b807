//! TCP: each connection of the guest's ends here, and is joined to a socket of the host's.
//!
//! ```text
//! guest ──segment──> Connection ──write, or wait in a ring──> socket
//! guest <──due────── Connection <──read into a ring, kept─────socket
//!                                  until acknowledged
//! ```
//!
//! Nobody here knows of congestion: the host's kernel does on the road outside, and the cable has none. But nothing is thrown away that may
//! have to be sent again, as a guest may drop what it has no memory for.
//!
//! - A guest is told that it is connected when the host's kernel is; so what is refused is refused.
//! - What the guest sends goes from its memory into the socket. What the socket doesn't take waits here, and the window tells.
//! - From the socket is read what fits into the guest's window, and no more. It is kept until it is acknowledged.
//! - Ends go through, each way by itself.

mod connection;
mod output;
mod sequence;

use crate::flow::{Flow, Protocol};
use crate::hub::Hub;
use crate::icmp::{self, Why};
use crate::payload::Payload;
use crate::reach::Target;
use crate::timers::Id;
use crate::wire::{Head, Ip, Tcp, flag};
use connection::{Connection, Fate, Phase};
use rustix::event::epoll::EventFlags;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

/// Most connections that are over, and kept in case that the guest doesn't know.
const MOST_LINGERING: usize = 1024;

/// All connections.
#[derive(Debug)]
pub(crate) struct Connections {
    by_id: HashMap<Id, Connection>,
    by_flow: HashMap<Flow, Id>,
    /// Those that the host's kernel is connecting, the oldest first.
    connecting: BTreeSet<Id>,
    lingering: BTreeSet<Id>,
    /// Most with a socket.
    most: usize,
    /// Where our sequence numbers start.
    secret: u32,
}

impl Connections {
    pub(crate) fn new(most: usize) -> Connections {
        let mut secret = [0; 4];
        // Without randomness, numbers start at 0: only the guest sees them.
        let _ = rustix::rand::getrandom(&mut secret, rustix::rand::GetRandomFlags::NONBLOCK);
        Connections {
            by_id: HashMap::new(),
            by_flow: HashMap::new(),
            connecting: BTreeSet::new(),
            lingering: BTreeSet::new(),
            most,
            secret: u32::from_ne_bytes(secret),
        }
    }

    /// A segment of the guest's.
    pub(crate) fn segment(&mut self, hub: &mut Hub, ip: &Ip, tcp: &Tcp, text: &Payload<'_>) {
        let guest = SocketAddr::new(ip.source, tcp.source);
        let flow = Flow { protocol: Protocol::Tcp, guest, remote: SocketAddr::new(ip.destination, tcp.destination) };
        let opens = tcp.has(flag::SYN) && !tcp.has(flag::ACK) && !tcp.has(flag::RST);
        match self.by_flow.get(&flow).copied() {
            Some(id) if opens && self.lingering.contains(&id) => {
                self.remove(hub, id);
                self.open(hub, flow, tcp);
            }
            Some(id) => {
                let Some(connection) = self.by_id.get_mut(&id) else { return };
                let fate = connection.segment(hub, tcp, text);
                self.settle(hub, id, fate);
            }
            None if opens => self.open(hub, flow, tcp),
            None => refuse(hub, &flow, tcp, text.len()),
        }
    }

    /// The guest asks for a connection.
    fn open(&mut self, hub: &mut Hub, flow: Flow, tcp: &Tcp) {
        let to = match hub.reach.target(&hub.link, flow.remote) {
            Target::Host(to) => to,
            Target::Resolver => match hub.resolvers.server() {
                Some(server) => server,
                None => return refuse(hub, &flow, tcp, 0),
            },
            Target::Closed => return refuse(hub, &flow, tcp, 0),
            Target::Refused => return icmp::unreachable(hub, &flow, quote(&flow, tcp.seq), Why::Forbidden),
        };
        if !self.make_room(hub) {
            // It will ask again.
            return;
        }
        match connect(to) {
            Ok(socket) => {
                let id = self.insert(hub, flow, socket, Phase::Connecting);
                let Some(connection) = self.by_id.get_mut(&id) else { return };
                connection.meet(hub, tcp);
                self.connecting.insert(id);
                // Only now: what isn't connecting yet looks like one that has failed.
                if connection.watch(hub).is_err() {
                    self.remove(hub, id);
                }
            }
            // No descriptor is left, or no memory: it will ask again.
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {}
            Err(errno) => failed(hub, &flow, tcp.seq, errno),
        }
    }

    /// Somebody has connected to a port of the host's that leads to the guest.
    pub(crate) fn call(&mut self, hub: &mut Hub, socket: OwnedFd, flow: Flow) {
        prepare(&socket);
        let id = self.insert(hub, flow, socket, Phase::Calling);
        let Some(connection) = self.by_id.get_mut(&id) else { return };
        if connection.watch(hub).is_err() {
            return self.remove(hub, id);
        }
        self.list(hub, id);
    }

    /// Whether there is room for one more.
    pub(crate) fn has_room(&self) -> bool {
        self.by_id.len() - self.lingering.len() < self.most
    }

    pub(crate) fn has(&self, flow: &Flow) -> bool {
        self.by_flow.contains_key(flow)
    }

    /// Makes room for one more. Who asks dead addresses for connections loses the oldest of them: they aren't to be in the way of others.
    fn make_room(&mut self, hub: &mut Hub) -> bool {
        let crowded = self.connecting.len() >= self.most / 4;
        if (crowded || !self.has_room())
            && let Some(oldest) = self.connecting.first().copied()
        {
            self.remove(hub, oldest);
        }
        self.has_room()
    }

    fn insert(&mut self, hub: &mut Hub, flow: Flow, socket: OwnedFd, phase: Phase) -> Id {
        let id = hub.id();
        // RFC 9293 section 3.4.1: a clock of four microseconds.
        let iss = self.secret.wrapping_add((hub.microseconds() / 4) as u32);
        self.by_id.insert(id, Connection::new(id, flow, socket, phase, iss));
        self.by_flow.insert(flow, id);
        id
    }

    fn remove(&mut self, hub: &mut Hub, id: Id) {
        self.connecting.remove(&id);
        self.lingering.remove(&id);
        if let Some(mut connection) = self.by_id.remove(&id) {
            self.by_flow.remove(&connection.flow);
            connection.leave(hub);
        }
    }

    /// A socket is ready; false if it is none of ours.
    pub(crate) fn ready(&mut self, hub: &mut Hub, id: Id, flags: EventFlags) -> bool {
        let Some(connection) = self.by_id.get_mut(&id) else { return false };
        let fate = connection.ready(hub, flags);
        if connection.phase != Phase::Connecting {
            self.connecting.remove(&id);
        }
        self.settle(hub, id, fate);
        true
    }

    /// An alarm has gone off; false if it is none of ours.
    pub(crate) fn expired(&mut self, hub: &mut Hub, id: Id) -> bool {
        let Some(connection) = self.by_id.get_mut(&id) else { return false };
        let fate = connection.expired(hub);
        self.settle(hub, id, fate);
        true
    }

    /// Somebody gave back a buffer; false if this is none of ours.
    pub(crate) fn list(&mut self, hub: &mut Hub, id: Id) -> bool {
        let Some(connection) = self.by_id.get_mut(&id) else { return false };
        if !std::mem::replace(&mut connection.listed, true) {
            hub.news.push_back(id);
        }
        true
    }

    fn settle(&mut self, hub: &mut Hub, id: Id, fate: Fate) {
        let Some(connection) = self.by_id.get_mut(&id) else { return };
        match fate {
            Fate::Lives if connection.phase == Phase::Open && connection.is_over() => {
                if !connection.receive.owed {
                    return self.remove(hub, id);
                }
                connection.linger(hub);
                self.lingering.insert(id);
                if self.lingering.len() > MOST_LINGERING
                    && let Some(oldest) = self.lingering.first().copied()
                {
                    self.remove(hub, oldest);
                }
            }
            Fate::Lives => {}
            Fate::Reset => {
                let head = connection.reset(hub);
                hub.reply(head.with(&[]));
                return self.remove(hub, id);
            }
            Fate::Failed(errno) => {
                let (flow, seq) = (connection.flow, connection.receive.next.wrapping_sub(1));
                failed(hub, &flow, seq, errno);
                return self.remove(hub, id);
            }
            Fate::Gone => return self.remove(hub, id),
        }
        self.list(hub, id);
    }

    /// The next frame of a connection that is among those with news: its head is made, and its text is this part of what is kept. None
    /// if there is none for now. It isn't longer than `most`.
    pub(crate) fn due(&mut self, hub: &mut Hub, id: Id, most: usize) -> Option<Range<usize>> {
        let connection = self.by_id.get_mut(&id)?;
        connection.listed = false;
        match connection.due(hub, most.saturating_sub(Head::MOST)) {
            Ok(Some(segment)) => {
                hub.head = connection.head(hub, segment.tcp, segment.text.clone());
                self.list(hub, id);
                Some(segment.text)
            }
            Ok(None) => None,
            Err(_) => {
                self.settle(hub, id, Fate::Reset);
                None
            }
        }
    }

    /// Bytes of what is kept.
    pub(crate) fn text(&self, id: Id, text: Range<usize>) -> [&[u8]; 2] {
        self.by_id.get(&id).map_or([&[], &[]], |connection| connection.text(text))
    }

    /// Forgets all; who is at their other ends sees that.
    pub(crate) fn clear(&mut self, hub: &mut Hub) {
        let all: Vec<Id> = self.by_id.keys().copied().collect();
        all.into_iter().for_each(|id| self.remove(hub, id));
    }
}

impl Connection {
    fn watch(&self, hub: &Hub) -> rustix::io::Result<()> {
        self.socket.as_ref().map_or(Ok(()), |socket| hub.watch(socket, self.id))
    }

    fn text(&self, text: Range<usize>) -> [&[u8]; 2] {
        self.send.kept.part(text.start, text.len())
    }

    fn head(&self, hub: &Hub, mut tcp: Tcp, text: Range<usize>) -> Head {
        (tcp.source, tcp.destination) = (self.flow.remote.port(), self.flow.guest.port());
        let (leave, cut) = (hub.link.leaves_checksum(), Some(self.send.mss));
        Head::tcp(hub.link.guest(), self.flow.back(), &tcp, self.text(text), leave, cut)
    }

    /// What tells the guest that all is over.
    fn reset(&self, hub: &Hub) -> Head {
        let (seq, ack) = (self.send.max, self.receive.next);
        self.head(hub, Tcp { seq, ack, flags: flag::RST | flag::ACK, ..Tcp::default() }, 0..0)
    }

    /// Only the guest's end is to be acknowledged from now on.
    fn linger(&mut self, hub: &mut Hub) {
        self.phase = Phase::Lingering;
        self.socket = None;
        self.receive.waiting.clear(&mut hub.pool);
        self.send.kept.clear(&mut hub.pool);
        self.arm(hub);
    }

    /// Gives back all it has.
    fn leave(&mut self, hub: &mut Hub) {
        hub.timers.remove(&mut self.alarm, self.id);
        self.receive.waiting.clear(&mut hub.pool);
        self.send.kept.clear(&mut hub.pool);
    }
}

impl Drop for Connection {
    /// What the guest hasn't ended is broken off, and the one at the other end sees that. What it has is the kernel's to deliver.
    fn drop(&mut self) {
        if let Some(socket) = self.socket.as_ref().filter(|_| !self.receive.shut) {
            let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
        }
    }
}

/// Starts to connect.
fn connect(to: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    prepare(&socket);
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

/// The guest has waited for more already where it wanted to, so nobody else should (Nagle); urgent bytes are bytes; and as we answer the
/// guest's questions whether a silent peer lives, the host must ask.
fn prepare(socket: &OwnedFd) {
    let _ = sockopt::set_tcp_nodelay(socket, true);
    let _ = sockopt::set_socket_oobinline(socket, true);
    let _ = sockopt::set_socket_keepalive(socket, true);
}

/// The first eight bytes of the segment that asked for a connection.
fn quote(flow: &Flow, seq: u32) -> [u8; 8] {
    let mut sent = [0; 8];
    sent[..2].copy_from_slice(&flow.guest.port().to_be_bytes());
    sent[2..4].copy_from_slice(&flow.remote.port().to_be_bytes());
    sent[4..].copy_from_slice(&seq.to_be_bytes());
    sent
}

/// Tells the guest what the host's kernel said to its connection, as a network would.
fn failed(hub: &mut Hub, flow: &Flow, seq: u32, errno: Errno) {
    match Why::of(errno) {
        // Nobody answered. The guest waits as long as it wants to.
        None if errno == Errno::TIMEDOUT => {}
        None | Some(Why::Port) => refuse(hub, flow, &Tcp { seq, flags: flag::SYN, ..Tcp::default() }, 0),
        Some(why) => icmp::unreachable(hub, flow, quote(flow, seq), why),
    }
}

/// There is no such connection (RFC 9293 section 3.10.7.1).
fn refuse(hub: &mut Hub, flow: &Flow, tcp: &Tcp, length: usize) {
    if tcp.has(flag::RST) {
        return;
    }
    let (source, destination) = (flow.remote.port(), flow.guest.port());
    let answer = if tcp.has(flag::ACK) {
        Tcp { seq: tcp.ack, flags: flag::RST, ..Tcp::default() }
    } else {
        let counted = length as u32 + u32::from(tcp.has(flag::SYN)) + u32::from(tcp.has(flag::FIN));
        Tcp { ack: tcp.seq.wrapping_add(counted), flags: flag::RST | flag::ACK, ..Tcp::default() }
    };
    let tcp = Tcp { source, destination, ..answer };
    let head = Head::tcp(hub.link.guest(), flow.back(), &tcp, [&[], &[]], hub.link.leaves_checksum(), None);
    hub.reply(head.with(&[]));
}
