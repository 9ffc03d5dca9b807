//! Raw sockets, raw(7), and sockets that can send nothing but a request for an echo, icmp(7): what ping(8) uses.
//!
//! Here alone something is a [`Packet`]: it goes to all sockets that want it, and the sandbox's own host answers it. What TCP and UDP
//! carry isn't seen, as it never is a packet.

use super::ancillary;
use super::endpoint;
use super::ip_options::{self, IpOptions};
use super::may_ask_for_echo;
use super::packet::{self, ECHO, HEAD4, Packet};
use crate::socket::inbox::{Datagram, Inbox};
use crate::socket::options::number;
use crate::socket::{Address, Common, Connect, Incoming, Outgoing, Received, Shutdown, Socket};
use crate::sync::Mutex;
use crate::task::Task;
use crate::wait::{Events, Observer, Pollable, Registration};
use crate::{Errno, Kernel, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::{AtomicU16, Ordering};
use insula_abi::general as c;
use insula_abi::net as n;
use insula_abi::socket::protocol;

/// The most bytes of a packet.
const MOST: usize = 65535;

/// `ICMP_FILTER` of level `IPPROTO_RAW`: the first 32 kinds of messages, those that are not wanted.
const ICMP_FILTER: u32 = 1;
/// `ICMP6_FILTER` of level `IPPROTO_ICMPV6`: all kinds, likewise.
const ICMP6_FILTER: u32 = 1;

/// Kinds of ICMP messages that a socket doesn't want, a bit each.
type Filter = [u32; 8];

/// All that there are.
#[derive(Default)]
pub struct Raws(Mutex<Vec<Weak<Raw>>>);

impl Raws {
    /// Those that somebody has.
    pub(super) fn all(&self) -> Vec<Arc<Raw>> {
        self.0.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// A packet goes to whom it is for.
    fn carry(&self, packet: &Packet) {
        let all = self.all();
        let (echoes, raws): (Vec<_>, Vec<_>) = all.iter().partition(|socket| socket.is_for_echoes());
        raws.into_iter().filter(|socket| socket.wants(packet)).for_each(|socket| socket.take(packet));
        // Of several that have the same number, the newest gets it.
        if let Some(socket) = echoes.into_iter().rfind(|socket| socket.wants(packet)) {
            socket.take(packet);
        }
    }
}

/// A raw socket, or one for echoes.
pub struct Raw {
    kernel: Weak<Kernel>,
    pub(super) common: Common,
    inbox: Inbox,
    ip: Mutex<IpOptions>,
    /// Of a socket for echoes: its number, which goes along with each; 0 is none yet. Written under the lock of [`Raws`].
    echo: AtomicU16,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By which address it is reached, if not by all.
    local: Option<IpAddr>,
    /// That address was chosen by connect(2), and goes with the peer.
    chosen: bool,
    peer: Option<SocketAddr>,
    no_read: bool,
    no_write: bool,
    /// Programs make the heads of IPv4 themselves (`IP_HDRINCL`).
    makes_heads: bool,
    /// Where a checksum of IPv6 is to be (`IPV6_CHECKSUM`).
    checksum: Option<u16>,
    filter: Filter,
}

/// A socket of either kind.
///
/// # Errors
/// `EPROTONOSUPPORT`: of no protocol. `EPERM`: raw, without `CAP_NET_RAW`. `EACCES`: for echoes, and of no group that may
/// (`net.ipv4.ping_group_range`).
pub(super) fn socket(kernel: &Arc<Kernel>, task: &Arc<Task>, domain: u32, kind: u32, protocol: u32) -> Result<Arc<Raw>> {
    let (credentials, net) = (task.credentials(), task.net());
    match kind {
        n::SOCK_RAW if protocol == 0 => return Err(Errno::EPROTONOSUPPORT),
        n::SOCK_RAW if !net.grants(task, c::CAP_NET_RAW) => return Err(Errno::EPERM),
        n::SOCK_DGRAM if !may_ask_for_echo(&net.holds.inet, &credentials) => return Err(Errno::EACCES),
        _ => {}
    }
    let state = State {
        makes_heads: kind == n::SOCK_RAW && domain == n::AF_INET && protocol == protocol::RAW,
        checksum: (kind == n::SOCK_RAW && domain == n::AF_INET6 && protocol == protocol::ICMPV6).then_some(2),
        ..State::default()
    };
    let socket = Arc::new(Raw {
        kernel: Arc::downgrade(kernel),
        common: Common::new(kernel, &net, credentials.uid.fs, domain, kind, protocol),
        inbox: Inbox::default(),
        ip: Mutex::default(),
        echo: AtomicU16::new(0),
        state: Mutex::new(state),
    });
    // As Linux begins with these: several may have the same number.
    socket.common.options.lock().reuse_address = true;
    net.holds.inet.raw.0.lock().push(Arc::downgrade(&socket));
    Ok(socket)
}

impl Raw {
    fn is_for_echoes(&self) -> bool {
        self.common.kind == n::SOCK_DGRAM
    }

    fn is_of4(&self) -> bool {
        self.common.domain == n::AF_INET
    }

    /// Takes a number for its echoes, if it has none: this one, or any that is free.
    fn number(&self, wanted: u16) -> Result<()> {
        if !self.is_for_echoes() {
            return Ok(());
        }
        let all = self.common.inet().raw.0.lock();
        if self.echo() != 0 {
            return Ok(());
        }
        let others: Vec<_> =
            all.iter().filter_map(Weak::upgrade).filter(|other| other.common.domain == self.common.domain).collect();
        let reuses = |socket: &Raw| socket.common.options.lock().reuse_address;
        let is_taken = |number: u16| {
            let owner = others.iter().find(|other| other.echo() == number);
            owner.is_some_and(|owner| !(reuses(owner) && reuses(self)))
        };
        let number = match wanted {
            0 => (1..=u16::MAX).find(|number| !is_taken(*number)).ok_or(Errno::EAGAIN)?,
            wanted if is_taken(wanted) => return Err(Errno::EADDRINUSE),
            wanted => wanted,
        };
        self.echo.store(number, Ordering::Relaxed);
        Ok(())
    }

    fn echo(&self) -> u16 {
        self.echo.load(Ordering::Relaxed)
    }

    /// What stands for a port in its name.
    fn port(&self) -> u16 {
        if self.is_for_echoes() { self.echo() } else { self.common.protocol as u16 }
    }

    /// A packet comes; if too many wait, it is lost.
    fn take(&self, packet: &Packet) {
        let Some(kernel) = self.kernel.upgrade() else { return };
        let to = SocketAddr::new(packet.to, 0);
        let items = ancillary::received(&kernel, &self.common, &self.ip.lock(), to, packet.hops, self.inbox.lost());
        let mut data = if self.is_for_echoes() { Vec::new() } else { packet.head.clone() };
        data.extend_from_slice(&packet.body);
        let from = Some(endpoint::tell(self.common.domain, (packet.from, 0).into()));
        let mut datagram = Some(Datagram { data, from, items, ..Datagram::default() });
        if self.inbox.push(&mut datagram, self.common.receive_room()).is_ok() {
            self.common.queue.wake(Events::READABLE);
        }
    }

    fn wants(&self, packet: &Packet) -> bool {
        let state = self.state.lock();
        let of_family = packet.to.is_ipv4() == self.is_of4();
        if !of_family || state.local.is_some_and(|local| local != packet.to) {
            return false;
        }
        if self.is_for_echoes() {
            return packet.echo().is_some_and(|number| number == self.echo());
        }
        let filtered = packet.icmp_kind().is_some_and(|kind| state.filter[usize::from(kind) / 32] & 1 << (kind % 32) != 0);
        u32::from(packet.protocol) == self.common.protocol && !filtered && state.peer.is_none_or(|peer| peer.ip() == packet.from)
    }

    /// Where a message goes.
    fn target(&self, state: &State, to: Option<&Address>) -> Result<IpAddr> {
        let to = match to {
            Some(address) => endpoint::parse(self.common.domain, address)?,
            None => state.peer.ok_or(Errno::EDESTADDRREQ)?,
        };
        // The port of an address of IPv6 may name the protocol, which is known.
        let other = to.port() != 0 && u32::from(to.port()) != self.common.protocol && self.common.protocol != protocol::RAW;
        if !self.is_of4() && !self.is_for_echoes() && other && state.peer.is_none() {
            return Err(Errno::EINVAL);
        }
        if to.is_ipv4() != self.is_of4() {
            return Err(Errno::ENETUNREACH);
        }
        let to = endpoint::destination(to).ip();
        self.common.check_route(to)?;
        Ok(to)
    }

    /// A request for an echo, as its number makes it.
    fn request(&self, mut body: Vec<u8>) -> Result<Vec<u8>> {
        self.number(0)?;
        body[4..6].copy_from_slice(&self.echo().to_be_bytes());
        Ok(body)
    }

    fn kinds_filtered(&self, level: u32, name: u32) -> Option<usize> {
        let raw = !self.is_for_echoes();
        match (level, name) {
            (protocol::RAW, ICMP_FILTER) if raw && self.is_of4() && self.common.protocol == protocol::ICMP => Some(4),
            (protocol::ICMPV6, ICMP6_FILTER) if raw && !self.is_of4() && self.common.protocol == protocol::ICMPV6 => Some(32),
            _ => None,
        }
    }

    /// Its addresses, how much waits and how many datagrams were lost, for `/proc/net/raw` and `/proc/net/icmp`.
    pub(super) fn show(&self) -> Option<(SocketAddr, SocketAddr, usize, u32)> {
        let state = self.state.lock();
        let any = endpoint::unspecified(self.common.domain);
        let local = SocketAddr::new(state.local.unwrap_or(any), self.port());
        let peer = state.peer.unwrap_or((any, 0).into());
        (self.port() != 0).then(|| (local, peer, self.inbox.first_len(), self.inbox.lost()))
    }
}

impl Pollable for Raw {
    fn poll(&self) -> Events {
        let state = self.state.lock();
        Events::WRITABLE | self.inbox.events(self.common.has_error(), state.no_read, state.no_write)
    }

    fn observe(&self, interest: Events, observer: &Arc<dyn Observer>) -> Vec<Registration> {
        alloc::vec![self.common.queue.register(interest, observer.clone())]
    }
}

impl Socket for Raw {
    fn common(&self) -> &Common {
        &self.common
    }

    fn close(&self) {
        self.common.inet().raw.0.lock().retain(|other| !core::ptr::eq(other.as_ptr(), self));
        drop(self.inbox.close());
    }

    fn bind(&self, _: &Arc<Task>, address: &Address) -> Result<()> {
        let at = ip_options::bind_address(self.common.domain, address, true)?;
        let free = self.ip.lock().free_bind || at.ip().is_multicast() && !self.is_for_echoes();
        if !at.ip().is_unspecified() && !free && !self.common.inet().interfaces.may_bind(at.ip()) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        let mut state = self.state.lock();
        if self.echo() != 0 || !self.is_for_echoes() && state.peer.is_some() {
            return Err(Errno::EINVAL);
        }
        self.number(at.port())?;
        state.local = (!at.ip().is_unspecified()).then_some(at.ip());
        Ok(())
    }

    fn connect(&self, _: &Arc<Task>, address: &Address) -> Result<Connect> {
        let mut state = self.state.lock();
        if address.family() == Some(n::AF_UNSPEC) {
            state.peer = None;
            if core::mem::take(&mut state.chosen) {
                state.local = None;
            }
            return Ok(Connect::Done);
        }
        let to = endpoint::destination(endpoint::parse(self.common.domain, address)?);
        if to.is_ipv4() != self.is_of4() {
            return Err(Errno::ENETUNREACH);
        }
        self.common.check_route(to.ip())?;
        self.number(0)?;
        if state.local.is_none() {
            state.local = Some(self.common.source(endpoint::unspecified(self.common.domain), to.ip())?);
            state.chosen = true;
        }
        state.peer = Some(to);
        Ok(Connect::Done)
    }

    fn name(&self) -> Result<Address> {
        let state = self.state.lock();
        let ip = state.local.unwrap_or(endpoint::unspecified(self.common.domain));
        Ok(endpoint::tell(self.common.domain, (ip, self.port()).into()))
    }

    fn peer_name(&self) -> Result<Address> {
        let peer = self.state.lock().peer.filter(|peer| peer.port() != 0);
        peer.map(|peer| endpoint::tell(self.common.domain, peer)).ok_or(Errno::ENOTCONN)
    }

    fn send(&self, _: &Arc<Task>, message: &mut Outgoing<'_>) -> Result<usize> {
        let len = message.data.left();
        if len > MOST {
            return Err(Errno::EMSGSIZE);
        }
        if self.is_for_echoes() && len < ECHO {
            return Err(Errno::EINVAL);
        }
        if message.flags & n::MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut body = Vec::new();
        if self.is_for_echoes() {
            message.data.append_to(&mut body)?;
            if !packet::asks_for_echo(self.is_of4(), body[0], body[1]) {
                return Err(Errno::EINVAL);
            }
        }
        let state = self.state.lock();
        let to = self.target(&state, message.to)?;
        let hops = ancillary::sent(&self.ip.lock(), &message.control.items, to.is_ipv4(), None)?;
        self.common.check_error()?;
        if state.no_write {
            return Err(Errno::EPIPE);
        }
        let from = self.common.source(state.local.unwrap_or(endpoint::unspecified(self.common.domain)), to)?;
        if !self.is_for_echoes() {
            message.data.append_to(&mut body)?;
        }
        let packet = if state.makes_heads {
            let IpAddr::V4(from) = from else { return Err(Errno::EINVAL) };
            Packet::made(body, from).ok_or(Errno::EINVAL)?
        } else {
            if to.is_ipv4() && len + HEAD4 > MOST {
                return Err(Errno::EMSGSIZE);
            }
            let body = if self.is_for_echoes() { self.request(body)? } else { body };
            let mut packet = Packet::new(from, to, self.common.protocol as u8, hops, body);
            match state.checksum {
                _ if self.is_for_echoes() => packet.seal(),
                Some(at) if usize::from(at) + 2 > packet.body.len() => return Err(Errno::EINVAL),
                Some(at) => packet.seal_at(at.into()),
                None => {}
            }
            packet
        };
        drop(state);
        // What is for nobody goes nowhere.
        let to = if packet.to.is_multicast() {
            Some(self.common.net.clone())
        } else {
            self.common.net.way(packet.to).ok().map(|way| way.net)
        };
        let Some(net) = to else { return Ok(len) };
        net.holds.inet.raw.carry(&packet);
        if let Some(answer) = packet.answer()
            && let Ok(back) = net.way(answer.to)
        {
            back.net.holds.inet.raw.carry(&answer);
        }
        Ok(len)
    }

    fn receive(&self, _: &Arc<Task>, message: &mut Incoming<'_>) -> Result<Received> {
        if message.flags & n::MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        // Nothing that is sent is ever refused.
        if message.flags & n::MSG_ERRQUEUE != 0 {
            return Err(Errno::EAGAIN);
        }
        self.common.check_error()?;
        match self.inbox.receive(&mut message.data, message.flags) {
            Err(Errno::EAGAIN) if self.state.lock().no_read => Ok(Received::default()),
            outcome => outcome,
        }
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        let mut state = self.state.lock();
        if state.peer.is_none() {
            return Err(Errno::ENOTCONN);
        }
        state.no_read |= how.read;
        state.no_write |= how.write;
        drop(state);
        self.common.queue.wake(Events::all());
        Ok(())
    }

    fn unread(&self) -> Result<usize> {
        Ok(self.inbox.first_len())
    }

    fn unsent(&self) -> Result<usize> {
        Ok(0)
    }

    fn set_option(&self, task: &Arc<Task>, level: u32, name: u32, value: &[u8]) -> Result<()> {
        if let Some(most) = self.kinds_filtered(level, name) {
            let mut state = self.state.lock();
            let words = value[..value.len().min(most)].chunks(4).zip(&mut state.filter);
            for (bytes, word) in words {
                let mut whole = word.to_ne_bytes();
                whole[..bytes.len()].copy_from_slice(bytes);
                *word = u32::from_ne_bytes(whole);
            }
            return Ok(());
        }
        let raw = !self.is_for_echoes();
        match (level, name) {
            (protocol::IP, n::IP_HDRINCL) if raw => self.state.lock().makes_heads = number(value)? != 0 && self.is_of4(),
            (protocol::RAW | protocol::IPV6, n::IPV6_CHECKSUM) if raw && !self.is_of4() => {
                let at = number(value)?;
                let icmp = self.common.protocol == protocol::ICMPV6;
                // ICMPv6 has it where it has it, and its half words are even.
                if level == protocol::IPV6 && icmp || at > 0 && at % 2 != 0 {
                    return Err(Errno::EINVAL);
                }
                self.state.lock().checksum = u16::try_from(at).ok().or(icmp.then_some(2));
            }
            (protocol::RAW, ICMP_FILTER) if self.is_of4() => return Err(Errno::EOPNOTSUPP),
            (protocol::RAW | protocol::ICMPV6, _) => return Err(if raw { Errno::ENOPROTOOPT } else { Errno::EOPNOTSUPP }),
            _ => return ip_options::set(&self.ip, &self.common, task, level, name, value),
        }
        Ok(())
    }

    fn option(&self, _: &Arc<Task>, level: u32, name: u32, asked: &[u8]) -> Result<Vec<u8>> {
        let state = self.state.lock();
        if let Some(most) = self.kinds_filtered(level, name) {
            return Ok(state.filter.iter().flat_map(|word| word.to_ne_bytes()).take(most).collect());
        }
        let raw = !self.is_for_echoes();
        let number = |value: i32| Ok(value.to_ne_bytes().to_vec());
        match (level, name) {
            (protocol::IP, n::IP_HDRINCL) if raw => number(state.makes_heads.into()),
            (protocol::RAW | protocol::IPV6, n::IPV6_CHECKSUM) if raw && !self.is_of4() => {
                number(state.checksum.map_or(-1, i32::from))
            }
            (protocol::RAW, ICMP_FILTER) if self.is_of4() => Err(Errno::EOPNOTSUPP),
            (protocol::RAW | protocol::ICMPV6, _) => Err(if raw { Errno::ENOPROTOOPT } else { Errno::EOPNOTSUPP }),
            _ => {
                let connected = state.peer.is_some();
                drop(state);
                ip_options::get(&self.ip, self.common.domain, connected, level, name, asked)
            }
        }
    }
}
