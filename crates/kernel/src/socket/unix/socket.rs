//! A Unix socket.

use super::names::{self, Bound};
use super::{Unix, datagram};
use crate::fs::Description;
use crate::socket::common::{credentials_of, real_credentials_of};
use crate::socket::inbox::{Inbox, Outbox};
use crate::socket::stream::{Connection, Rules, Take};
use crate::socket::{Address, Common, Connect, Incoming, NetSpace, Outgoing, Received, Shutdown, Socket};
use crate::sync::Mutex;
use crate::task::Task;
use crate::wait::{Events, Observer, Pollable, Queue, Registration};
use crate::{Errno, Kernel, Result};
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use insula_abi::general as c;
use insula_abi::net as n;
use insula_abi::socket::Ucred;

/// The most connections that may wait to be accepted (Linux: `net.core.somaxconn`).
const BACKLOG_MAX: u32 = 4096;

/// How it carries what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Stream,
    Records,
    Datagram,
}

/// How a name is told; shared with those who are connected to its socket.
type Told = Arc<Mutex<Option<Address>>>;

/// A Unix socket.
pub struct UnixSocket {
    this: Weak<UnixSocket>,
    kernel: Weak<Kernel>,
    pub(super) unix: Arc<Unix>,
    pub(super) common: Common,
    pub(super) kind: Kind,
    pub(super) state: Mutex<State>,
    pub(super) bound: Mutex<Option<Bound>>,
    pub(super) told: Told,
    /// Datagrams for it.
    pub(super) inbox: Inbox,
    /// Datagrams of it that are on their way.
    pub(super) outbox: Arc<Outbox>,
    /// Who waits for room in `inbox`.
    pub(super) waiters: Mutex<Vec<Weak<Queue>>>,
}

/// How far it has come.
pub(super) enum State {
    /// Neither listening nor connected.
    Idle,
    Listening(Listener),
    Connected(Arc<Connected>),
    Datagram(datagram::Peer),
    Closed,
}

/// Connections that wait to be accepted.
pub(super) struct Listener {
    pub(super) backlog: u32,
    pub(super) waiting: VecDeque<Arc<UnixSocket>>,
    owner: Ucred,
    shut: bool,
}

/// An end of a connection.
pub(super) struct Connected {
    pub(super) connection: Arc<Connection>,
    pub(super) side: usize,
    /// The peer's number.
    pub(super) peer_ino: u64,
    peer: Ucred,
    peer_told: Told,
}

impl UnixSocket {
    pub(super) fn new(kernel: &Arc<Kernel>, net: &Arc<NetSpace>, uid: u32, kind: Kind) -> Arc<Self> {
        let number = match kind {
            Kind::Stream => n::SOCK_STREAM,
            Kind::Records => n::SOCK_SEQPACKET,
            Kind::Datagram => n::SOCK_DGRAM,
        };
        UnixSocket::with(kernel, kind, Common::new(kernel, net, uid, n::AF_UNIX, number, 0))
    }

    fn with(kernel: &Arc<Kernel>, kind: Kind, common: Common) -> Arc<Self> {
        let state = if kind == Kind::Datagram { State::Datagram(datagram::Peer::default()) } else { State::Idle };
        let socket = Arc::new_cyclic(|this| UnixSocket {
            this: this.clone(),
            kernel: Arc::downgrade(kernel),
            unix: kernel.sockets.unix.clone(),
            outbox: Outbox::new(&common.queue),
            common,
            kind,
            state: Mutex::new(state),
            bound: Mutex::default(),
            told: Told::default(),
            inbox: Inbox::default(),
            waiters: Mutex::default(),
        });
        socket.unix.all.lock().insert(socket.common.ino, Arc::downgrade(&socket));
        socket
    }

    /// Connects two that are new.
    pub(super) fn join(one: &Arc<Self>, other: &Arc<Self>, task: &Arc<Task>) {
        if one.kind == Kind::Datagram {
            datagram::join(one, other);
            return;
        }
        let own = credentials_of(task);
        let (first, second) = UnixSocket::ends([one, other], [own, own]);
        *one.state.lock() = State::Connected(first);
        *other.state.lock() = State::Connected(second);
    }

    /// The two ends of a new connection between sockets, of which each is told who the other is.
    fn ends(sockets: [&Arc<Self>; 2], owners: [Ucred; 2]) -> (Arc<Connected>, Arc<Connected>) {
        let [one, other] = sockets;
        let rules = if one.kind == Kind::Records { Rules::Records } else { Rules::Unix };
        // What goes to an end has the room that the other may have under way.
        let capacity = [other.common.send_room(), one.common.send_room()];
        let queues = [one.common.queue.clone(), other.common.queue.clone()];
        let connection = Connection::new(rules, capacity, queues);
        if sockets.iter().any(|socket| socket.common.passes_credentials()) {
            connection.tell_senders();
        }
        let end = |side: usize| {
            let (peer, peer_told) = (owners[1 - side], sockets[1 - side].told.clone());
            let peer_ino = sockets[1 - side].common.ino;
            Arc::new(Connected { connection: connection.clone(), side, peer_ino, peer, peer_told })
        };
        (end(0), end(1))
    }

    fn connection(&self) -> Option<Arc<Connected>> {
        match &*self.state.lock() {
            State::Connected(connected) => Some(connected.clone()),
            _ => None,
        }
    }

    /// Connects to a socket that listens.
    fn connect_to(&self, task: &Arc<Task>, server: &Arc<UnixSocket>) -> Result<Connect> {
        match &*self.state.lock() {
            State::Idle => {}
            State::Connected(_) => return Err(Errno::EISCONN),
            _ => return Err(Errno::EINVAL),
        }
        let (Some(kernel), Some(this)) = (self.kernel.upgrade(), self.this.upgrade()) else { return Err(Errno::ECONNREFUSED) };
        let mut state = server.state.lock();
        let State::Listening(listener) = &mut *state else { return Err(Errno::ECONNREFUSED) };
        if listener.shut {
            return Err(Errno::ECONNREFUSED);
        }
        if listener.waiting.len() > listener.backlog as usize {
            return Ok(Connect::Full(server.clone()));
        }
        // As on Linux: the new end is in the network of who connects, if that is another.
        let common = server.common.inherit(&kernel, &self.common.net);
        let accepted = UnixSocket::with(&kernel, server.kind, common);
        *accepted.told.lock() = *server.told.lock();
        let (mine, theirs) = UnixSocket::ends([&this, &accepted], [credentials_of(task), listener.owner]);
        *accepted.state.lock() = State::Connected(theirs);
        // The peer's name is the listener's own, also if it gets one only later.
        listener.waiting.push_back(accepted);
        drop(state);
        let mut own = self.state.lock();
        if !matches!(*own, State::Idle) {
            // Another thread was faster: who accepts that one finds its end.
            drop(own);
            mine.connection.close(mine.side, false);
            return Err(Errno::EISCONN);
        }
        *own = State::Connected(mine);
        drop(own);
        server.common.queue.wake(Events::READABLE);
        self.common.queue.wake(Events::WRITABLE);
        Ok(Connect::Done)
    }

    /// Calls `each` with all open files on their way to it, or to those that wait at it to be accepted.
    pub(super) fn each_right(&self, each: &mut dyn FnMut(&Arc<Description>)) {
        self.inbox.each_right(each);
        match &*self.state.lock() {
            State::Connected(end) => end.connection.each_right(end.side, each),
            State::Listening(listener) => {
                for waiting in &listener.waiting {
                    if let State::Connected(end) = &*waiting.state.lock() {
                        end.connection.each_right(end.side, each);
                    }
                }
            }
            _ => {}
        }
    }

    /// Takes all those out.
    pub(super) fn take_rights(&self) -> Vec<Arc<Description>> {
        let mut taken = self.inbox.take_rights();
        match &*self.state.lock() {
            State::Connected(end) => taken.extend(end.connection.take_rights(end.side)),
            State::Listening(listener) => {
                for waiting in &listener.waiting {
                    if let State::Connected(end) = &*waiting.state.lock() {
                        taken.extend(end.connection.take_rights(end.side));
                    }
                }
            }
            _ => {}
        }
        taken
    }

    /// Who sends, if either end wants to know.
    pub(super) fn sender(&self, task: &Arc<Task>, message: &Outgoing<'_>, wanted: bool) -> Option<Ucred> {
        message.control.credentials.or_else(|| wanted.then(|| real_credentials_of(task)))
    }

    /// Carries open files along with what `send` sends: all that it leaves in the message stay with the sender.
    pub(super) fn carry(
        &self,
        task: &Arc<Task>,
        message: &mut Outgoing<'_>,
        send: impl FnOnce(&mut Outgoing<'_>) -> Result<usize>,
    ) -> Result<usize> {
        if message.control.rights.is_empty() {
            return send(message);
        }
        let credentials = task.credentials();
        let free = credentials.has(c::CAP_SYS_RESOURCE) || credentials.has(c::CAP_SYS_ADMIN);
        let most = if free { u64::MAX } else { task.process.limit(c::RLIMIT_NOFILE) };
        let mut moving = self.unix.flights.lock();
        moving.air.depart(&message.control.rights, most)?;
        let departed = message.control.rights.clone();
        let outcome = send(message);
        if !message.control.rights.is_empty() {
            moving.air.arrive(&departed);
        }
        drop(moving);
        outcome
    }

    /// Takes with `take`, which is told whether open files may be taken, and says whether that is needed.
    pub(super) fn arrive(&self, flags: u32, mut take: impl FnMut(bool) -> Result<(Received, bool)>) -> Result<Received> {
        if self.unix.flights.is_empty() {
            let (received, again) = take(false)?;
            if !again {
                return Ok(received);
            }
        }
        let mut moving = self.unix.flights.lock();
        let (received, _) = take(true)?;
        if flags & n::MSG_PEEK == 0 && !received.rights.is_empty() {
            moving.air.arrive(&received.rights);
        }
        Ok(received)
    }

    fn send_stream(&self, task: &Arc<Task>, message: &mut Outgoing<'_>) -> Result<usize> {
        if message.flags & n::MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let end = self.connection();
        if message.to.is_some() && self.kind == Kind::Stream {
            return Err(if end.is_some() { Errno::EISCONN } else { Errno::EOPNOTSUPP });
        }
        let end = end.ok_or(Errno::ENOTCONN)?;
        let sender = self.sender(task, message, end.connection.tells_senders());
        self.carry(task, message, |message| end.connection.send(end.side, &mut message.data, message.control, sender, false))
    }

    fn receive_stream(&self, message: &mut Incoming<'_>) -> Result<Received> {
        if message.flags & n::MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let Some(end) = self.connection() else {
            return Err(if self.kind == Kind::Stream { Errno::EINVAL } else { Errno::ENOTCONN });
        };
        let peek = message.flags & n::MSG_PEEK != 0;
        let wanted = self.common.passes_credentials();
        let offset = self.common.peek_offset.load(Ordering::Relaxed);
        let from_offset = usize::try_from(offset).ok().filter(|_| peek);
        let how = Take { peek, offset: from_offset.unwrap_or(0), one_sender: wanted, ..Take::default() };
        let flags = message.flags;
        let received = self.arrive(flags, |rights| {
            let taken = end.connection.receive(end.side, &mut message.data, Take { rights, ..how })?;
            let mut received = Received { count: taken.count, rights: taken.rights, ..Received::default() };
            if taken.whole > taken.count {
                received.flags = n::MSG_TRUNC;
                if flags & n::MSG_TRUNC != 0 {
                    received.count = taken.whole;
                }
            }
            if wanted && (taken.count > 0 || taken.sender.is_some()) {
                // Of what was sent before anybody asked, the sender isn't known.
                received.credentials = taken.sender.or(Some(Ucred { pid: 0, uid: 65534, gid: 65534 }));
            }
            Ok((received, taken.has_rights))
        })?;
        if offset >= 0 {
            let moved = received.count as i32;
            let next = if peek { offset.saturating_add(moved) } else { (offset - moved).max(0) };
            self.common.peek_offset.store(next, Ordering::Relaxed);
        }
        Ok(received)
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        self.unix.all.lock().remove(&self.common.ino);
    }
}

impl Pollable for UnixSocket {
    fn poll(&self) -> Events {
        if self.kind == Kind::Datagram {
            return datagram::poll(self);
        }
        let mut events = match &*self.state.lock() {
            State::Idle => Events::WRITABLE | Events::HUP,
            State::Listening(listener) => {
                let mut events = Events::empty();
                if !listener.waiting.is_empty() || listener.shut {
                    events |= Events::READABLE;
                }
                if listener.shut {
                    events |= Events::HUP | Events::RDHUP;
                }
                events
            }
            State::Connected(end) => end.connection.poll(end.side),
            State::Datagram(_) | State::Closed => Events::HUP,
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

impl Socket for UnixSocket {
    fn common(&self) -> &Common {
        &self.common
    }

    fn is_stream(&self) -> bool {
        self.kind == Kind::Stream
    }

    fn close(&self) {
        if let Some(bound) = self.bound.lock().take() {
            self.unix.names.release(&self.common.net, &bound);
        }
        let before = core::mem::replace(&mut *self.state.lock(), State::Closed);
        let mut rights = Vec::new();
        let close = |end: &Connected, reset: bool, rights: &mut Vec<_>| {
            if !self.unix.flights.is_empty() {
                let mut moving = self.unix.flights.lock();
                let taken = end.connection.take_rights(end.side);
                moving.air.arrive(&taken);
                rights.extend(taken);
            }
            end.connection.close(end.side, reset);
        };
        match before {
            State::Connected(end) => close(&end, false, &mut rights),
            State::Listening(listener) => {
                for waiting in listener.waiting {
                    let before = core::mem::replace(&mut *waiting.state.lock(), State::Closed);
                    if let State::Connected(end) = before {
                        close(&end, true, &mut rights);
                    }
                }
            }
            State::Datagram(_) => rights = datagram::close(self),
            State::Idle | State::Closed => {}
        }
        // Who waits for room here finds nobody.
        self.common.queue.wake(Events::all());
        self.unix.flights.closed(rights);
    }

    fn bind(&self, task: &Arc<Task>, address: &Address) -> Result<()> {
        let name = names::parse(address)?;
        let this = self.this.upgrade().ok_or(Errno::EINVAL)?;
        let mut bound = self.bound.lock();
        if bound.is_some() {
            // To be given any name is no error for one that has one.
            return if name == names::Name::Any { Ok(()) } else { Err(Errno::EINVAL) };
        }
        let (made, told) = self.unix.names.bind(task, &this, name)?;
        *bound = Some(made);
        *self.told.lock() = Some(told);
        Ok(())
    }

    fn listen(&self, task: &Arc<Task>, backlog: u32) -> Result<()> {
        if self.kind == Kind::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        if self.bound.lock().is_none() {
            return Err(Errno::EINVAL);
        }
        let backlog = backlog.min(BACKLOG_MAX);
        let owner = credentials_of(task);
        let mut state = self.state.lock();
        match &mut *state {
            State::Idle => *state = State::Listening(Listener { backlog, owner, waiting: VecDeque::new(), shut: false }),
            State::Listening(listener) => (listener.backlog, listener.owner) = (backlog, owner),
            _ => return Err(Errno::EINVAL),
        }
        drop(state);
        self.common.queue.wake(Events::WRITABLE);
        Ok(())
    }

    fn accept(&self) -> Result<Arc<dyn Socket>> {
        if self.kind == Kind::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut state = self.state.lock();
        let State::Listening(listener) = &mut *state else { return Err(Errno::EINVAL) };
        let Some(accepted) = listener.waiting.pop_front() else {
            return Err(if listener.shut { Errno::EINVAL } else { Errno::EAGAIN });
        };
        drop(state);
        self.common.queue.wake(Events::WRITABLE);
        Ok(accepted)
    }

    fn connect(&self, task: &Arc<Task>, address: &Address) -> Result<Connect> {
        if self.kind == Kind::Datagram {
            return datagram::connect(self, task, address);
        }
        let server = self.unix.names.find(&self.common.net, task, &names::parse(address)?)?;
        if server.kind != self.kind {
            return Err(Errno::EPROTOTYPE);
        }
        self.connect_to(task, &server)
    }

    fn name(&self) -> Result<Address> {
        Ok(self.told.lock().unwrap_or_else(names::nameless))
    }

    fn peer_name(&self) -> Result<Address> {
        let told = match &*self.state.lock() {
            State::Connected(end) => end.peer_told.clone(),
            State::Datagram(peer) => peer.told.clone().ok_or(Errno::ENOTCONN)?,
            _ => return Err(Errno::ENOTCONN),
        };
        let told = *told.lock();
        Ok(told.unwrap_or_else(names::nameless))
    }

    fn send(&self, task: &Arc<Task>, message: &mut Outgoing<'_>) -> Result<usize> {
        if self.kind == Kind::Datagram { datagram::send(self, task, message) } else { self.send_stream(task, message) }
    }

    fn receive(&self, _: &Arc<Task>, message: &mut Incoming<'_>) -> Result<Received> {
        if self.kind == Kind::Datagram { datagram::receive(self, message) } else { self.receive_stream(message) }
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        let mut state = self.state.lock();
        match &mut *state {
            State::Connected(end) => {
                let end = end.clone();
                drop(state);
                end.connection.shutdown(end.side, how.read, how.write);
                return Ok(());
            }
            State::Listening(listener) => listener.shut |= how.read,
            State::Datagram(peer) => {
                peer.no_read |= how.read;
                peer.no_write |= how.write;
            }
            State::Idle | State::Closed => {}
        }
        drop(state);
        self.common.queue.wake(Events::all());
        Ok(())
    }

    fn unread(&self) -> Result<usize> {
        match &*self.state.lock() {
            State::Connected(end) => Ok(end.connection.unread(end.side)),
            State::Datagram(_) => Ok(self.inbox.first_len()),
            _ => Err(Errno::EINVAL),
        }
    }

    fn unsent(&self) -> Result<usize> {
        match &*self.state.lock() {
            State::Connected(end) => Ok(end.connection.unread(1 - end.side)),
            _ => Ok(self.outbox.bytes()),
        }
    }

    fn take_error(&self) -> Option<Errno> {
        let end = self.connection();
        self.common.take_error().or_else(|| end.and_then(|end| end.connection.take_error(end.side)))
    }

    fn is_listening(&self) -> bool {
        matches!(&*self.state.lock(), State::Listening(_))
    }

    fn option_changed(&self, name: u32) {
        let Some(end) = self.connection() else { return };
        match name {
            n::SO_PASSCRED if self.common.passes_credentials() => end.connection.tell_senders(),
            n::SO_SNDBUF | n::SO_SNDBUFFORCE => end.connection.set_capacity(end.side, self.common.send_room()),
            _ => {}
        }
    }

    fn peer_credentials(&self) -> Option<Ucred> {
        match &*self.state.lock() {
            State::Connected(end) => Some(end.peer),
            State::Listening(listener) => Some(listener.owner),
            State::Datagram(peer) => peer.credentials,
            _ => None,
        }
    }
}
