//! UDP within a sandbox, udp(7), and UDP-Lite, udplite(7).

use super::Inet;
use super::ancillary::{self, Hops};
use super::endpoint::{self, Local};
use super::errors::Errors;
use super::ip_options::{self, IpOptions};
use super::links::Way;
use super::ports::{Claim, Ports, Taken, check_privilege};
use crate::socket::control::Item;
use crate::socket::inbox::{Datagram, Inbox};
use crate::socket::options::number;
use crate::socket::{Address, Common, Connect, Incoming, NetSpace, Outgoing, Received, Shutdown, Socket};
use crate::sync::Mutex;
use crate::task::Task;
use crate::wait::{Events, Observer, Pollable, Registration};
use crate::{Errno, Kernel, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use insula_abi::net as n;
use insula_abi::socket::protocol;

/// The most bytes in a datagram, beside the heads: over IPv4, and over IPv6.
const MOST4: usize = 65535 - 20 - 8;
const MOST6: usize = 65535 - 8;

/// `UDP_CORK`.
const UDP_CORK: u32 = 1;

/// `UDP_SEGMENT`: what is sent is cut into datagrams of so many bytes; as an option, and with a message.
const UDP_SEGMENT: u32 = 103;

/// `UDP_GRO`: datagrams of the same size may come as one. Here none does.
const UDP_GRO: u32 = 104;

/// Most datagrams that one message is cut into (Linux: `UDP_MAX_SEGMENTS`).
const SEGMENTS_MAX: usize = 64;

/// `UDPLITE_SEND_CSCOV` and `UDPLITE_RECV_CSCOV`: bytes that a checksum covers. Nothing within a sandbox has one, so they are only kept.
const UDPLITE_SEND_COVERAGE: u32 = 10;
const UDPLITE_RECEIVE_COVERAGE: u32 = 11;

/// A UDP socket.
pub struct Udp {
    this: Weak<Udp>,
    kernel: Weak<Kernel>,
    common: Common,
    inbox: Inbox,
    errors: Errors,
    ip: Mutex<IpOptions>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    bound: Option<(Taken, Local)>,
    /// The address was chosen by connect(2), and goes with the peer.
    chosen: bool,
    peer: Option<SocketAddr>,
    no_read: bool,
    no_write: bool,
    corked: bool,
    /// See [`UDP_SEGMENT`]; 0 is none.
    segment: u16,
    /// See [`UDP_GRO`].
    coalesces: bool,
    /// See [`UDPLITE_SEND_COVERAGE`].
    coverage: [u16; 2],
    /// What is gathered until it is sent as one (`MSG_MORE`), and for whom.
    gathered: Option<(Vec<u8>, SocketAddr)>,
}

impl Udp {
    pub(super) fn new(kernel: &Arc<Kernel>, net: &Arc<NetSpace>, uid: u32, domain: u32, protocol: u32) -> Arc<Self> {
        Arc::new_cyclic(|this| Udp {
            this: this.clone(),
            kernel: Arc::downgrade(kernel),
            common: Common::new(kernel, net, uid, domain, n::SOCK_DGRAM, protocol),
            inbox: Inbox::default(),
            errors: Errors::default(),
            ip: Mutex::default(),
            state: Mutex::default(),
        })
    }

    fn kernel(&self) -> Result<Arc<Kernel>> {
        self.kernel.upgrade().ok_or(Errno::ENETDOWN)
    }

    /// Ports of its protocol.
    fn ports(&self) -> &Ports<Udp> {
        self.ports_of(self.common.inet())
    }

    fn ports_of<'a>(&self, inet: &'a Inet) -> &'a Ports<Udp> {
        if self.common.protocol == protocol::UDPLITE { &inet.udp_lite } else { &inet.udp }
    }

    /// In which network an address is, if not in the socket's own; none if nobody answers.
    fn ports_at(&self, to: IpAddr) -> Option<Option<Way>> {
        if self.common.inet().interfaces.is_local(to) { Some(None) } else { self.common.net.way(to).ok().map(Some) }
    }

    /// Takes a port, if it has none.
    fn ensure_bound(&self, state: &mut State, ip: IpAddr, port: u16) -> Result<Local> {
        if let Some((_, local)) = state.bound {
            return Ok(local);
        }
        let local = Local { ip, port, only6: self.ip.lock().only6 };
        let options = self.common.options.lock().clone();
        let claim = Claim {
            local,
            reuse_address: options.reuse_address,
            reuse_port: options.reuse_port,
            uid: self.common.uid,
            receives: true,
            remote: None,
        };
        let taken = self.ports().take(&*self.kernel()?, claim, self.this.clone())?;
        let local = Local { port: taken.port, ..local };
        state.bound = Some((taken, local));
        Ok(local)
    }

    /// Where what is sent to `to` comes from.
    fn source(&self, local: &Local, to: SocketAddr) -> Result<SocketAddr> {
        Ok(SocketAddr::new(self.common.source(local.ip, to.ip())?, local.port))
    }

    /// A datagram goes to whom it is for.
    fn deliver(&self, data: Vec<u8>, from: SocketAddr, to: SocketAddr, connected: bool, hops: Hops) {
        if to.ip().is_multicast() {
            if self.ip.lock().multicast_loop {
                let member = |socket: &Udp| socket.ip.lock().groups.contains(&to.ip());
                for target in self.ports().find_all(from, to, member) {
                    target.take(data.clone(), from, to, hops);
                }
            }
            return;
        }
        // Whom nobody answers for gets nothing, and that is all.
        let Some(ports) = self.ports_at(to.ip()) else { return };
        let found = match &ports {
            Some(way) => self.ports_of(&way.net.holds.inet).find(from, to),
            None => self.ports().find(from, to),
        };
        match found {
            Some(target) => target.take(data, from, to, hops),
            // "Port unreachable" comes back.
            None => self.refused(data, to, connected),
        }
    }

    /// Nobody has the port: who has one peer is told, and who asked for errors, with the datagram.
    fn refused(&self, data: Vec<u8>, to: SocketAddr, connected: bool) {
        let asked = {
            let ip = self.ip.lock();
            if to.is_ipv4() { ip.receive_error } else { ip.receive_error6 }
        };
        if asked {
            self.errors.refused(&self.common, data, to);
        }
        if asked || connected {
            self.common.set_error(Errno::ECONNREFUSED);
            self.common.queue.wake(Events::READABLE | Events::WRITABLE | Events::ERR);
        }
    }

    /// A datagram comes; if too many wait, it is lost.
    fn take(&self, data: Vec<u8>, from: SocketAddr, to: SocketAddr, hops: Hops) {
        let Some(kernel) = self.kernel.upgrade() else { return };
        let items = ancillary::received(&kernel, &self.common, &self.ip.lock(), to, hops, self.inbox.lost());
        let from = Some(endpoint::tell(self.common.domain, from));
        let mut datagram = Some(Datagram { data, from, items, ..Datagram::default() });
        if self.inbox.push(&mut datagram, self.common.receive_room()).is_ok() {
            self.common.queue.wake(Events::READABLE);
        }
    }

    /// How a message is to be sent, as options and control data say.
    fn hops(&self, items: &[Item], v4: bool) -> Result<Hops> {
        if items.iter().any(|item| item.level == protocol::UDP && (item.kind != UDP_SEGMENT || item.data.len() < 2)) {
            return Err(Errno::EINVAL);
        }
        ancillary::sent(&self.ip.lock(), items, v4, Some(protocol::UDP))
    }

    /// Its addresses, how much waits and how many datagrams were lost, for `/proc/net/udp`.
    pub(super) fn show(&self) -> Option<(SocketAddr, SocketAddr, usize, u32)> {
        let state = self.state.lock();
        let local = state.bound?.1.address();
        let nobody = (endpoint::unspecified(self.common.domain), 0).into();
        Some((local, state.peer.unwrap_or(nobody), self.inbox.first_len(), self.inbox.lost()))
    }
}

/// Into datagrams of how many bytes a message is cut: as it says itself, or as the option does.
fn segment_size(items: &[Item], option: u16) -> Result<usize> {
    let own = items.iter().rfind(|item| (item.level, item.kind) == (protocol::UDP, UDP_SEGMENT));
    Ok(own.map_or(option, |item| u16::from_ne_bytes([item.data[0], item.data[1]])).into())
}

impl Pollable for Udp {
    fn poll(&self) -> Events {
        let (no_read, no_write) = {
            let state = self.state.lock();
            (state.no_read, state.no_write)
        };
        let error = self.common.has_error() || !self.errors.is_empty();
        Events::WRITABLE | self.inbox.events(error, no_read, no_write)
    }

    fn observe(&self, interest: Events, observer: &Arc<dyn Observer>) -> Vec<Registration> {
        alloc::vec![self.common.queue.register(interest, observer.clone())]
    }
}

impl Socket for Udp {
    fn common(&self) -> &Common {
        &self.common
    }

    fn close(&self) {
        let before = core::mem::take(&mut *self.state.lock());
        if let (Some((taken, _)), Some(kernel)) = (before.bound, self.kernel.upgrade()) {
            self.ports().release(&kernel, taken, false);
        }
        drop(self.inbox.close());
        self.errors.close();
    }

    fn bind(&self, task: &Arc<Task>, address: &Address) -> Result<()> {
        let (only6, freely) = {
            let ip = self.ip.lock();
            (ip.only6, ip.free_bind)
        };
        let at = ip_options::bind_address(self.common.domain, address, only6)?;
        let broadcast = matches!(at.ip(), IpAddr::V4(ip) if ip.is_broadcast());
        let ours = at.ip().is_unspecified() || at.ip().is_multicast() || broadcast || freely;
        if !ours && !self.common.inet().interfaces.may_bind(at.ip()) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        check_privilege(&self.common.net, task, at.port())?;
        let mut state = self.state.lock();
        if state.bound.is_some() {
            return Err(Errno::EINVAL);
        }
        self.ensure_bound(&mut state, at.ip(), at.port())?;
        Ok(())
    }

    fn connect(&self, _: &Arc<Task>, address: &Address) -> Result<Connect> {
        let kernel = self.kernel()?;
        let mut state = self.state.lock();
        if address.family() == Some(n::AF_UNSPEC) {
            state.peer = None;
            if let Some((taken, local)) = state.bound.take() {
                // A port that nobody asked for is given back; an address that connect(2) chose is forgotten.
                if state.chosen {
                    self.ports().release(&kernel, taken, false);
                } else {
                    self.ports().change(&kernel, taken, |claim| claim.remote = None)?;
                    state.bound = Some((taken, local));
                }
            }
            state.chosen = false;
            return Ok(Connect::Done);
        }
        let to = endpoint::parse(self.common.domain, address)?;
        if to.is_ipv4() && self.common.domain == n::AF_INET6 && self.ip.lock().only6 {
            return Err(Errno::ENETUNREACH);
        }
        let to = endpoint::destination(to);
        self.common.check_route(to.ip())?;
        let unbound = state.bound.is_none();
        let local = self.ensure_bound(&mut state, endpoint::unspecified(self.common.domain), 0)?;
        state.chosen |= unbound;
        let own = self.source(&local, to)?;
        if let Some((taken, local)) = &mut state.bound {
            local.ip = own.ip();
            self.ports().change(&kernel, *taken, |claim| (claim.remote, claim.local.ip) = (Some(to), own.ip()))?;
        }
        state.peer = Some(to);
        Ok(Connect::Done)
    }

    fn name(&self) -> Result<Address> {
        let domain = self.common.domain;
        let at = self.state.lock().bound.map_or((endpoint::unspecified(domain), 0).into(), |(_, local)| local.address());
        Ok(endpoint::tell(domain, at))
    }

    fn peer_name(&self) -> Result<Address> {
        self.state.lock().peer.map(|peer| endpoint::tell(self.common.domain, peer)).ok_or(Errno::ENOTCONN)
    }

    fn send(&self, _: &Arc<Task>, message: &mut Outgoing<'_>) -> Result<usize> {
        if message.flags & n::MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let to = match message.to {
            Some(address) if address.family() == Some(n::AF_UNSPEC) && self.common.domain == n::AF_INET6 => None,
            // A socket may be connected to port 0, where nobody ever is.
            Some(address) => match endpoint::parse(self.common.domain, address)? {
                to if to.port() == 0 => return Err(Errno::EINVAL),
                to => Some(to),
            },
            None => None,
        };
        let len = message.data.left();
        let mut state = self.state.lock();
        if len > MOST6 {
            return Err(Errno::EMSGSIZE);
        }
        let connected = to.is_none() || to == state.peer;
        let to = endpoint::destination(match (to, &state.gathered) {
            (Some(to), _) => to,
            (None, Some((_, to))) => *to,
            (None, None) => state.peer.ok_or(Errno::EDESTADDRREQ)?,
        });
        if to.is_ipv4() && self.common.domain == n::AF_INET6 && self.ip.lock().only6 {
            return Err(Errno::ENETUNREACH);
        }
        let hops = self.hops(&message.control.items, to.is_ipv4())?;
        self.common.check_route(to.ip())?;
        self.common.check_error()?;
        if state.no_write {
            return Err(Errno::EPIPE);
        }
        let local = self.ensure_bound(&mut state, endpoint::unspecified(self.common.domain), 0)?;
        let from = self.source(&local, to)?;
        let (mut data, to) = state.gathered.take().unwrap_or((Vec::new(), to));
        let most = if to.is_ipv4() { MOST4 } else { MOST6 };
        if data.len() + len > most {
            return Err(Errno::EMSGSIZE);
        }
        message.data.append_to(&mut data)?;
        if message.flags & n::MSG_MORE != 0 || state.corked {
            state.gathered = Some((data, to));
            return Ok(len);
        }
        let connected = connected && state.peer.is_some();
        let segment = segment_size(&message.control.items, state.segment)?;
        drop(state);
        if segment == 0 || data.len() <= segment {
            self.deliver(data, from, to, connected, hops);
            return Ok(len);
        }
        if data.len() > segment * SEGMENTS_MAX {
            return Err(Errno::EINVAL);
        }
        for part in data.chunks(segment) {
            self.deliver(part.to_vec(), from, to, connected, hops);
        }
        Ok(len)
    }

    fn receive(&self, _: &Arc<Task>, message: &mut Incoming<'_>) -> Result<Received> {
        if message.flags & n::MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if message.flags & n::MSG_ERRQUEUE != 0 {
            return self.errors.receive(&self.common, &mut message.data);
        }
        self.common.check_error()?;
        match self.inbox.receive(&mut message.data, message.flags) {
            Err(Errno::EAGAIN) if self.state.lock().no_read => Ok(Received::default()),
            outcome => outcome,
        }
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        let mut state = self.state.lock();
        state.no_read |= how.read;
        state.no_write |= how.write;
        let connected = state.peer.is_some();
        drop(state);
        self.common.queue.wake(Events::all());
        if connected { Ok(()) } else { Err(Errno::ENOTCONN) }
    }

    fn unread(&self) -> Result<usize> {
        Ok(self.inbox.first_len())
    }

    fn unsent(&self) -> Result<usize> {
        Ok(0)
    }

    fn set_option(&self, task: &Arc<Task>, level: u32, name: u32, value: &[u8]) -> Result<()> {
        match (level, name) {
            (protocol::UDP, UDP_CORK) => {
                let corked = number(value)? != 0;
                let mut state = self.state.lock();
                state.corked = corked;
                if !corked && let Some((data, to)) = state.gathered.take() {
                    let local = self.ensure_bound(&mut state, endpoint::unspecified(self.common.domain), 0)?;
                    let (from, connected) = (self.source(&local, to)?, state.peer == Some(to));
                    drop(state);
                    self.deliver(data, from, to, connected, self.hops(&[], to.is_ipv4())?);
                }
                Ok(())
            }
            (protocol::UDP, UDP_SEGMENT) => {
                self.state.lock().segment = u16::try_from(number(value)?).map_err(|_| Errno::EINVAL)?;
                Ok(())
            }
            (protocol::UDP, UDP_GRO) => {
                self.state.lock().coalesces = number(value)? != 0;
                Ok(())
            }
            (protocol::UDPLITE, UDPLITE_SEND_COVERAGE | UDPLITE_RECEIVE_COVERAGE)
                if self.common.protocol == protocol::UDPLITE =>
            {
                // Less than the head can't be covered; more than there is, is all.
                let bytes = match number(value)? {
                    0 => 0,
                    bytes => bytes.clamp(8, 0xffff) as u16,
                };
                self.state.lock().coverage[usize::from(name == UDPLITE_RECEIVE_COVERAGE)] = bytes;
                Ok(())
            }
            (protocol::UDP | protocol::UDPLITE, _) => Err(Errno::ENOPROTOOPT),
            (protocol::IPV6, n::IPV6_V6ONLY) if self.state.lock().bound.is_some() => Err(Errno::EINVAL),
            _ => ip_options::set(&self.ip, &self.common, task, level, name, value),
        }
    }

    fn option(&self, _: &Arc<Task>, level: u32, name: u32, asked: &[u8]) -> Result<Vec<u8>> {
        match (level, name) {
            (protocol::UDP, UDP_CORK) => Ok(i32::from(self.state.lock().corked).to_ne_bytes().to_vec()),
            (protocol::UDP, UDP_SEGMENT) => Ok(i32::from(self.state.lock().segment).to_ne_bytes().to_vec()),
            (protocol::UDP, UDP_GRO) => Ok(i32::from(self.state.lock().coalesces).to_ne_bytes().to_vec()),
            (protocol::UDPLITE, UDPLITE_SEND_COVERAGE | UDPLITE_RECEIVE_COVERAGE)
                if self.common.protocol == protocol::UDPLITE =>
            {
                let bytes = self.state.lock().coverage[usize::from(name == UDPLITE_RECEIVE_COVERAGE)];
                Ok(i32::from(bytes).to_ne_bytes().to_vec())
            }
            (protocol::UDP | protocol::UDPLITE, _) => Err(Errno::ENOPROTOOPT),
            _ => ip_options::get(&self.ip, self.common.domain, self.state.lock().peer.is_some(), level, name, asked),
        }
    }
}

impl Udp {
    pub(super) fn only6(&self) -> bool {
        self.ip.lock().only6
    }

    /// What all sockets have.
    pub(super) fn shared(&self) -> &Common {
        &self.common
    }
}
