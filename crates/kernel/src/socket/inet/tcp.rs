//! TCP within a sandbox, tcp(7).

use super::ancillary;
use super::endpoint::{self, Local};
use super::ip_options::{self, IpOptions};
use super::listener::Listener;
use super::ports::{Claim, Taken, check_privilege};
use super::tcp_options::TcpOptions;
use crate::socket::control::Item;
use crate::socket::options::number;
use crate::socket::stream::{Connection, Take, take_of};
use crate::socket::{Address, Common, Connect, Incoming, NetSpace, Outgoing, Received, Shutdown, Sink, Socket, open_fast};
use crate::sync::Mutex;
use crate::task::Task;
use crate::wait::{Events, Observer, Pollable, Registration};
use crate::{Errno, Flow, Kernel, Result, SysResult};
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::Ordering;
use insula_abi::socket::protocol;
use insula_abi::{ioctl, net as n};

/// The most connections that may wait to be accepted (Linux: `net.core.somaxconn`).
const BACKLOG_MAX: u32 = 4096;

/// Bytes that one side of a connection has room for, if the program doesn't say how many.
const BUFFER: usize = 128 << 10;

/// What `SO_SNDBUF` and `SO_RCVBUF` are at first (Linux: `net.ipv4.tcp_wmem`, `tcp_rmem`).
const SEND_BUFFER: u32 = 16 << 10;
const RECEIVE_BUFFER: u32 = 128 << 10;

/// A TCP socket.
pub struct Tcp {
    this: Weak<Tcp>,
    pub(super) kernel: Weak<Kernel>,
    pub(super) common: Common,
    pub(super) state: Mutex<State>,
    pub(super) bound: Mutex<Option<Bound>>,
    pub(super) ip: Mutex<IpOptions>,
    pub(super) tcp: Mutex<TcpOptions>,
}

/// A port that it has.
#[derive(Clone, Copy)]
pub(super) struct Bound {
    pub(super) taken: Taken,
    pub(super) local: Local,
    /// The program asked for this very port.
    pub(super) explicit: bool,
}

/// How far it is.
pub(super) enum State {
    /// Not connected; `failed` is told as an end.
    Closed {
        failed: bool,
    },
    Listening(Listener),
    /// A listener has no room yet.
    Connecting {
        to: SocketAddr,
        from: SocketAddr,
    },
    Connected(Arc<End>),
}

/// An end of a connection.
pub(super) struct End {
    pub(super) connection: Arc<Connection>,
    pub(super) side: usize,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// Bytes of a segment (`TCP_MAXSEG`).
    pub(super) segment: u32,
    /// connect(2) began it without waiting, and hasn't said yet that it is done.
    pub(super) fresh: core::sync::atomic::AtomicBool,
}

impl Tcp {
    pub(super) fn new(kernel: &Arc<Kernel>, net: &Arc<NetSpace>, uid: u32, domain: u32) -> Arc<Self> {
        let common = Common::new(kernel, net, uid, domain, n::SOCK_STREAM, protocol::TCP);
        common.send_buffer.store(SEND_BUFFER, Ordering::Relaxed);
        common.receive_buffer.store(RECEIVE_BUFFER, Ordering::Relaxed);
        Tcp::with(kernel, common, State::Closed { failed: false }, IpOptions::default(), TcpOptions::default())
    }

    pub(super) fn with(kernel: &Arc<Kernel>, common: Common, state: State, ip: IpOptions, tcp: TcpOptions) -> Arc<Self> {
        Arc::new_cyclic(|this| Tcp {
            this: this.clone(),
            kernel: Arc::downgrade(kernel),
            common,
            state: Mutex::new(state),
            bound: Mutex::default(),
            ip: Mutex::new(ip),
            tcp: Mutex::new(tcp),
        })
    }

    pub(super) fn kernel(&self) -> Result<Arc<Kernel>> {
        self.kernel.upgrade().ok_or(Errno::ENETDOWN)
    }

    pub(super) fn end(&self) -> Option<Arc<End>> {
        match &*self.state.lock() {
            State::Connected(end) => Some(end.clone()),
            _ => None,
        }
    }

    pub(super) fn claim(&self, local: Local) -> Claim {
        let options = self.common.options.lock();
        Claim {
            local,
            reuse_address: options.reuse_address,
            reuse_port: options.reuse_port,
            uid: self.common.uid,
            receives: false,
            remote: None,
        }
    }

    /// Takes a port, if it has none.
    fn ensure_bound(&self, ip: IpAddr, port: u16, explicit: bool) -> Result<Bound> {
        let kernel = self.kernel()?;
        let mut bound = self.bound.lock();
        if let Some(bound) = *bound {
            return Ok(bound);
        }
        let local = Local { ip, port, only6: self.ip.lock().only6 };
        let taken = self.common.inet().tcp.take(&kernel, self.claim(local), self.this.clone())?;
        let made = Bound { taken, local: Local { port: taken.port, ..local }, explicit };
        *bound = Some(made);
        Ok(made)
    }

    fn unbind(&self, waits: bool) {
        let bound = self.bound.lock().take();
        if let (Some(bound), Some(kernel)) = (bound, self.kernel.upgrade()) {
            self.common.inet().tcp.release(&kernel, bound.taken, waits);
        }
    }

    /// Bytes that have room on the way from `sender` to `receiver`.
    pub(super) fn capacity(sender: &Common, receiver: &Common) -> usize {
        let part = |common: &Common, lock: u32, bytes: usize| {
            if common.buffer_lock.load(Ordering::Relaxed) & lock != 0 { bytes } else { BUFFER }
        };
        part(sender, n::SOCK_SNDBUF_LOCK, sender.send_room()) + part(receiver, n::SOCK_RCVBUF_LOCK, receiver.receive_room())
    }

    pub(super) fn close_with(&self, reset: bool) {
        let before = core::mem::replace(&mut *self.state.lock(), State::Closed { failed: false });
        let explicit = self.bound.lock().is_some_and(|bound| bound.explicit);
        let mut waits = false;
        match before {
            State::Connected(end) => {
                let linger = self.common.options.lock().linger;
                waits = end.connection.close(end.side, reset || linger == Some(0)) && explicit;
            }
            State::Listening(listener) => Tcp::turn_away(listener),
            State::Closed { .. } | State::Connecting { .. } => {}
        }
        self.unbind(waits);
    }

    /// How far it has come, as `TCP_INFO` and `/proc/net/tcp` number it.
    pub(super) fn state_number(&self) -> u8 {
        match &*self.state.lock() {
            State::Closed { .. } => 7,
            State::Listening(_) => 10,
            State::Connecting { .. } => 2,
            State::Connected(end) => match end.connection.ended(end.side) {
                (false, false, _) => 1,
                (false, true, _) => 5,
                (true, false, _) => 8,
                (true, true, _) => 7,
            },
        }
    }

    /// Its two addresses, and what waits to be sent and to be read; of a listener, how many connections wait.
    pub(super) fn show(&self) -> Option<(SocketAddr, SocketAddr, usize, usize)> {
        let own = (*self.bound.lock())?.local.address();
        let nobody: SocketAddr = (endpoint::unspecified(self.common.domain), 0).into();
        Some(match &*self.state.lock() {
            State::Connected(end) => {
                (end.local, end.remote, end.connection.unread(1 - end.side), end.connection.unread(end.side))
            }
            State::Listening(listener) => (own, nobody, 0, listener.waiting.len()),
            State::Connecting { to, from } => (*from, *to, 0, 0),
            State::Closed { .. } => return None,
        })
    }

    /// Of a listener: how many connections may wait.
    pub(super) fn backlog(&self) -> Option<usize> {
        match &*self.state.lock() {
            State::Listening(listener) => Some(listener.backlog as usize),
            _ => None,
        }
    }

    /// Which ways are ended: 1 is receiving, 2 sending.
    pub(super) fn shut(&self) -> u8 {
        let (theirs, ours, _) = self.end().map_or((false, false, false), |end| end.connection.ended(end.side));
        u8::from(theirs) | u8::from(ours) << 1
    }

    pub(super) fn only6(&self) -> bool {
        self.ip.lock().only6
    }

    /// Bytes that it has sent, and received.
    pub(super) fn totals(&self) -> (u64, u64) {
        let Some(end) = self.end() else { return (0, 0) };
        let (received, sent) = end.connection.totals(end.side);
        (sent, received)
    }

    /// Whom it is connected to.
    pub(super) fn remote(&self) -> Option<SocketAddr> {
        self.end().map(|end| end.remote)
    }

    fn has_port(&self) -> bool {
        self.bound.lock().is_some()
    }
}

impl Pollable for Tcp {
    fn poll(&self) -> Events {
        let mut events = match &*self.state.lock() {
            State::Closed { failed: false } => Events::OUT | Events::WRNORM | Events::HUP,
            State::Closed { failed: true } => Events::READABLE | Events::WRITABLE | Events::HUP | Events::RDHUP,
            State::Listening(listener) if listener.waiting.is_empty() => Events::empty(),
            State::Listening(_) => Events::READABLE,
            State::Connecting { .. } => Events::empty(),
            State::Connected(end) => end.connection.poll(end.side),
        };
        if self.common.has_error() {
            events |= Events::ERR;
        }
        events
    }

    fn observe(&self, interest: Events, observer: &Arc<dyn Observer>) -> Vec<Registration> {
        alloc::vec![self.common.queue.register(interest, observer.clone())]
    }
}

impl Socket for Tcp {
    fn common(&self) -> &Common {
        &self.common
    }

    fn close(&self) {
        self.close_with(false);
    }

    fn is_stream(&self) -> bool {
        true
    }

    fn bind(&self, task: &Arc<Task>, address: &Address) -> Result<()> {
        let (ip, freely) = {
            let ip = self.ip.lock();
            (ip.only6, ip.free_bind)
        };
        let at = ip_options::bind_address(self.common.domain, address, ip)?;
        if self.has_port() || !matches!(&*self.state.lock(), State::Closed { .. }) {
            return Err(Errno::EINVAL);
        }
        if !at.ip().is_unspecified() && !freely && !self.common.inet().interfaces.may_bind(at.ip()) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        check_privilege(&self.common.net, task, at.port())?;
        self.ensure_bound(at.ip(), at.port(), at.port() != 0)?;
        Ok(())
    }

    fn listen(&self, _: &Arc<Task>, backlog: u32) -> Result<()> {
        let backlog = backlog.min(BACKLOG_MAX);
        match &mut *self.state.lock() {
            State::Closed { .. } => {}
            State::Listening(listener) => {
                listener.backlog = backlog;
                return Ok(());
            }
            _ => return Err(Errno::EINVAL),
        }
        let bound = self.ensure_bound(endpoint::unspecified(self.common.domain), 0, false)?;
        let kernel = self.kernel()?;
        let (reuse_address, reuse_port) = {
            let options = self.common.options.lock();
            (options.reuse_address, options.reuse_port)
        };
        self.common.inet().tcp.change(&kernel, bound.taken, |claim| {
            (claim.receives, claim.reuse_address, claim.reuse_port) = (true, reuse_address, reuse_port);
        })?;
        *self.state.lock() = State::Listening(Listener { backlog, waiting: VecDeque::new(), pending: VecDeque::new() });
        Ok(())
    }

    fn accept(&self) -> Result<Arc<dyn Socket>> {
        let accepted = match &mut *self.state.lock() {
            State::Listening(listener) => listener.waiting.pop_front().ok_or(Errno::EAGAIN)?,
            _ => return Err(Errno::EINVAL),
        };
        self.admit_pending();
        Ok(accepted)
    }

    fn connect(&self, _: &Arc<Task>, address: &Address) -> Result<Connect> {
        if address.family() == Some(n::AF_UNSPEC) {
            self.close_with(true);
            return Ok(Connect::Done);
        }
        let to = endpoint::parse(self.common.domain, address)?;
        if to.is_ipv4() && self.common.domain == n::AF_INET6 && self.ip.lock().only6 {
            return Err(Errno::ENETUNREACH);
        }
        match &*self.state.lock() {
            State::Closed { .. } => {}
            State::Connecting { .. } => return Err(Errno::EALREADY),
            State::Connected(end) if end.fresh.swap(false, Ordering::SeqCst) => return Ok(Connect::Done),
            _ => return Err(Errno::EISCONN),
        }
        let to = endpoint::destination(to);
        if to.ip().is_multicast() {
            return Err(Errno::ENETUNREACH);
        }
        let way = self.common.net.way(to.ip())?;
        let bound = self.ensure_bound(endpoint::unspecified(self.common.domain), 0, false).map_err(|errno| match errno {
            Errno::EADDRINUSE => Errno::EADDRNOTAVAIL,
            errno => errno,
        })?;
        let ip = match bound.local.ip {
            ip if ip.is_unspecified() => way.source,
            ip => ip,
        };
        if ip.is_ipv4() != to.is_ipv4() {
            return Err(Errno::ENETUNREACH);
        }
        // Who can't answer isn't connected.
        if !Arc::ptr_eq(&way.net, &self.common.net) && !way.net.way(ip).is_ok_and(|back| Arc::ptr_eq(&back.net, &self.common.net))
        {
            return Err(Errno::EHOSTUNREACH);
        }
        let (from, this) = (SocketAddr::new(ip, bound.local.port), self.this.upgrade().ok_or(Errno::EINVAL)?);
        *self.state.lock() = State::Connecting { to, from };
        let outcome = match way.net.holds.inet.tcp.find(from, to) {
            Some(server) => server.meet(&this, from, to),
            None => Err(Errno::ECONNREFUSED),
        };
        if outcome.is_err() && !bound.explicit {
            self.unbind(false);
        }
        self.settle(outcome, from, to);
        Ok(Connect::Pending)
    }

    fn connected(&self) -> Result<()> {
        match &*self.state.lock() {
            State::Connecting { .. } => Err(Errno::EAGAIN),
            State::Connected(end) => {
                end.fresh.store(false, Ordering::SeqCst);
                Ok(())
            }
            _ => Err(self.common.take_error().unwrap_or(Errno::ECONNABORTED)),
        }
    }

    fn name(&self) -> Result<Address> {
        let domain = self.common.domain;
        if let Some(end) = self.end() {
            return Ok(endpoint::tell(domain, end.local));
        }
        let at = self.bound.lock().map_or((endpoint::unspecified(domain), 0).into(), |bound| bound.local.address());
        Ok(endpoint::tell(domain, at))
    }

    fn peer_name(&self) -> Result<Address> {
        let end = self.end().ok_or(Errno::ENOTCONN)?;
        match end.connection.ended(end.side) {
            (true, true, _) => Err(Errno::ENOTCONN),
            _ => Ok(endpoint::tell(self.common.domain, end.remote)),
        }
    }

    fn send(&self, task: &Arc<Task>, message: &mut Outgoing<'_>) -> Result<usize> {
        open_fast(self, task, message)?;
        self.common.check_error()?;
        let end = match &*self.state.lock() {
            State::Connected(end) => end.clone(),
            State::Connecting { .. } => return Err(Errno::EAGAIN),
            _ => return Err(Errno::EPIPE),
        };
        let urgent = message.flags & n::MSG_OOB != 0;
        let kernel = task.kernel();
        if kernel.sockets.stamps.load(Ordering::Relaxed) {
            end.connection.note_arrival(1 - end.side, kernel.host.clock.realtime());
        }
        end.connection.send(end.side, &mut message.data, message.control, None, urgent)
    }

    fn receive(&self, _: &Arc<Task>, message: &mut Incoming<'_>) -> Result<Received> {
        let end = match &*self.state.lock() {
            State::Connected(end) => end.clone(),
            State::Connecting { .. } => return Err(Errno::EAGAIN),
            State::Closed { failed: true } => {
                self.common.check_error()?;
                return Ok(Received::default());
            }
            _ => return Err(Errno::ENOTCONN),
        };
        if message.flags & n::MSG_ERRQUEUE != 0 {
            return Err(Errno::EAGAIN);
        }
        if message.flags & n::MSG_OOB != 0 {
            return self.receive_urgent(&end, message);
        }
        let discard = message.flags & n::MSG_TRUNC != 0;
        let how = Take { discard, rights: true, ..take_of(message.flags) };
        let taken = end.connection.receive(end.side, &mut message.data, how)?;
        let mut items = Vec::new();
        if let Some(at) = end.connection.arrival(end.side) {
            ancillary::times(at, &self.common, &mut items);
        }
        if self.tcp.lock().tells_unread {
            items.push(Item::of(protocol::TCP, n::TCP_INQ, &(end.connection.unread(end.side) as u32)));
        }
        Ok(Received { count: taken.count, items, ..Received::default() })
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        let mut state = self.state.lock();
        match &mut *state {
            State::Connected(end) => {
                let end = end.clone();
                drop(state);
                end.connection.shutdown(end.side, how.read, how.write);
                Ok(())
            }
            State::Listening(_) if how.read => {
                let before = core::mem::replace(&mut *state, State::Closed { failed: false });
                drop(state);
                if let State::Listening(listener) = before {
                    Tcp::turn_away(listener);
                }
                // A port that nobody asked for is free again.
                let bound = *self.bound.lock();
                match bound {
                    Some(Bound { explicit: false, .. }) => self.unbind(false),
                    Some(bound) => {
                        self.common.inet().tcp.change(&*self.kernel()?, bound.taken, |claim| claim.receives = false)?
                    }
                    None => {}
                }
                self.common.queue.wake(Events::all());
                Ok(())
            }
            State::Listening(_) => Ok(()),
            State::Connecting { .. } | State::Closed { .. } => Err(Errno::ENOTCONN),
        }
    }

    fn unread(&self) -> Result<usize> {
        match &*self.state.lock() {
            State::Listening(_) => Err(Errno::EINVAL),
            State::Connected(end) => Ok(end.connection.unread(end.side)),
            _ => Ok(0),
        }
    }

    fn unsent(&self) -> Result<usize> {
        match &*self.state.lock() {
            State::Listening(_) => Err(Errno::EINVAL),
            State::Connected(end) => Ok(end.connection.unread(1 - end.side)),
            _ => Ok(0),
        }
    }

    fn take_error(&self) -> Option<Errno> {
        self.common.take_error().or_else(|| self.end().and_then(|end| end.connection.take_error(end.side)))
    }

    fn is_listening(&self) -> bool {
        matches!(&*self.state.lock(), State::Listening(_))
    }

    fn set_option(&self, task: &Arc<Task>, level: u32, name: u32, value: &[u8]) -> Result<()> {
        match level {
            protocol::TCP => self.tcp.lock().set(&self.common, task, name, value),
            protocol::IPV6 if name == n::IPV6_V6ONLY && self.has_port() && number(value)? != i32::from(self.ip.lock().only6) => {
                Err(Errno::EINVAL)
            }
            level => ip_options::set(&self.ip, &self.common, task, level, name, value),
        }
    }

    fn option(&self, _: &Arc<Task>, level: u32, name: u32, asked: &[u8]) -> Result<Vec<u8>> {
        match level {
            protocol::TCP => super::tcp_options::get(self, name),
            level => ip_options::get(&self.ip, self.common.domain, self.remote().is_some(), level, name, asked),
        }
    }

    fn option_changed(&self, name: u32) {
        let Some(end) = self.end() else { return };
        match name {
            n::SO_SNDBUF | n::SO_SNDBUFFORCE => {
                end.connection.set_capacity(end.side, Tcp::capacity(&self.common, &self.common));
            }
            n::SO_OOBINLINE => end.connection.set_inline(end.side, self.common.options.lock().out_of_band_inline),
            _ => {}
        }
    }

    fn ioctl(&self, task: &Arc<Task>, request: u32, argument: u64) -> SysResult {
        if request == ioctl::SIOCATMARK {
            let mark = self.end().is_some_and(|end| end.connection.at_urgent(end.side));
            task.mm().put(argument, &i32::from(mark))?;
            return Ok(Flow::Done(0));
        }
        Err(Errno::ENOTTY)
    }
}

impl Tcp {
    fn receive_urgent(&self, end: &End, message: &mut Incoming<'_>) -> Result<Received> {
        if self.common.options.lock().out_of_band_inline {
            return Err(Errno::EINVAL);
        }
        let byte = end.connection.urgent(end.side, message.flags & n::MSG_PEEK != 0)?;
        let count = match &mut message.data {
            sink if sink.left() == 0 => 0,
            Sink::User(buffer) => buffer.put(&[byte])?,
            sink @ Sink::Kernel(..) => sink.put(&[byte])?,
        };
        Ok(Received { count, flags: n::MSG_OOB, ..Received::default() })
    }
}
