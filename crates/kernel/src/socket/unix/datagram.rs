//! What Unix datagrams do.

use super::names;
use super::socket::{Kind, State, UnixSocket};
use crate::fs::Description;
use crate::socket::inbox::{Datagram, local_cost};
use crate::socket::{Address, Connect, Incoming, Outgoing, Received, common};
use crate::sync::Mutex;
use crate::task::Task;
use crate::wait::{Events, Queue};
use crate::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use insula_abi::net as n;
use insula_abi::socket::Ucred;

/// How many datagrams of others may wait at a socket (Linux: `net.unix.max_dgram_qlen`).
const WAITING_MAX: usize = 10;

/// Whom it speaks with.
#[derive(Default)]
pub(super) struct Peer {
    socket: Option<Weak<UnixSocket>>,
    pub(super) told: Option<Arc<Mutex<Option<Address>>>>,
    pub(super) credentials: Option<Ucred>,
    pub(super) no_read: bool,
    pub(super) no_write: bool,
}

impl Peer {
    /// The peer's number, if there is one; 0 of one that is gone.
    pub(super) fn number(&self) -> Option<u64> {
        self.socket.as_ref().map(|socket| socket.upgrade().map_or(0, |socket| socket.common.ino))
    }

    fn set(&mut self, peer: &Arc<UnixSocket>) {
        self.socket = Some(Arc::downgrade(peer));
        self.told = Some(peer.told.clone());
    }

    fn clear(&mut self) {
        (self.socket, self.told) = (None, None);
    }
}

/// Connects two that are new.
pub(super) fn join(one: &Arc<UnixSocket>, other: &Arc<UnixSocket>) {
    for (socket, peer) in [(one, other), (other, one)] {
        if let State::Datagram(state) = &mut *socket.state.lock() {
            state.set(peer);
        }
    }
}

/// The peer, if there is one; it may be closed.
fn peer_of(socket: &UnixSocket) -> Option<Weak<UnixSocket>> {
    match &*socket.state.lock() {
        State::Datagram(peer) => peer.socket.clone(),
        _ => None,
    }
}

fn is(one: &Weak<UnixSocket>, other: &UnixSocket) -> bool {
    core::ptr::eq(one.as_ptr(), other)
}

pub(super) fn connect(socket: &UnixSocket, task: &Arc<Task>, address: &Address) -> Result<Connect> {
    if address.family() == Some(n::AF_UNSPEC) {
        if let State::Datagram(peer) = &mut *socket.state.lock() {
            peer.clear();
        }
        return Ok(Connect::Done);
    }
    let target = find(socket, task, address)?;
    if peer_of(&target).is_some_and(|peer| !is(&peer, socket)) {
        return Err(Errno::EPERM);
    }
    if let State::Datagram(peer) = &mut *socket.state.lock() {
        peer.set(&target);
        peer.credentials = Some(common::credentials_of(task));
    }
    socket.common.queue.wake(Events::WRITABLE);
    Ok(Connect::Done)
}

fn find(socket: &UnixSocket, task: &Arc<Task>, address: &Address) -> Result<Arc<UnixSocket>> {
    let target = socket.unix.names.find(&socket.common.net, task, &names::parse(address)?)?;
    if target.kind == Kind::Datagram { Ok(target) } else { Err(Errno::EPROTOTYPE) }
}

/// Whether a socket takes no more from this one for now: too many wait, unless the two only speak with each other.
fn is_full(target: &UnixSocket, sender: &UnixSocket) -> bool {
    target.inbox.len() > WAITING_MAX && !peer_of(target).is_some_and(|peer| is(&peer, sender))
}

/// As [`is_full`]; if so, the sender is told when there is room.
fn waits_for(target: &UnixSocket, sender: &UnixSocket) -> bool {
    if !is_full(target, sender) {
        return false;
    }
    let queue: Weak<Queue> = Arc::downgrade(&sender.common.queue);
    let mut waiters = target.waiters.lock();
    waiters.retain(|waiter| waiter.strong_count() > 0);
    if !waiters.iter().any(|waiter| waiter.ptr_eq(&queue)) {
        waiters.push(queue);
    }
    drop(waiters);
    is_full(target, sender)
}

pub(super) fn send(socket: &UnixSocket, task: &Arc<Task>, message: &mut Outgoing<'_>) -> Result<usize> {
    if message.flags & n::MSG_OOB != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let target = match message.to {
        Some(address) => find(socket, task, address)?,
        None => match peer_of(socket) {
            None => return Err(Errno::ENOTCONN),
            Some(peer) => peer.upgrade().ok_or(Errno::ECONNREFUSED).inspect_err(|_| forget(socket))?,
        },
    };
    if let State::Datagram(own) = &*socket.state.lock()
        && own.no_write
    {
        return Err(Errno::EPIPE);
    }
    let len = message.data.left();
    let room = socket.common.send_room();
    if len > room.saturating_sub(32) {
        return Err(Errno::EMSGSIZE);
    }
    match &*target.state.lock() {
        State::Datagram(peer) if peer.socket.as_ref().is_some_and(|peer| !is(peer, socket)) => return Err(Errno::EPERM),
        State::Datagram(peer) if peer.no_read => return Err(Errno::EPIPE),
        _ => {}
    }
    // To oneself there is nobody to wait for.
    let full = !core::ptr::eq(&*target, socket) && waits_for(&target, socket);
    if full || socket.outbox.bytes() >= room {
        return Err(Errno::EAGAIN);
    }
    let sender = socket.sender(task, message, socket.common.passes_credentials() || target.common.passes_credentials());
    let from = *socket.told.lock();
    let mut data = Vec::new();
    message.data.append_to(&mut data)?;
    let outcome = socket.carry(task, message, |message| {
        let rights = core::mem::take(&mut message.control.rights);
        let charge = Some(socket.outbox.charge(local_cost(len)));
        let mut datagram = Some(Datagram { data, from, sender, rights, charge, ..Datagram::default() });
        let outcome = target.inbox.push(&mut datagram, usize::MAX);
        if let Some(back) = datagram {
            message.control.rights = back.rights;
        }
        outcome?;
        Ok(len)
    });
    match outcome {
        Ok(_) => target.common.queue.wake(Events::READABLE),
        Err(Errno::ECONNREFUSED) if message.to.is_none() => forget(socket),
        Err(_) => {}
    }
    outcome
}

/// Its peer is gone.
fn forget(socket: &UnixSocket) {
    if let State::Datagram(peer) = &mut *socket.state.lock() {
        peer.clear();
    }
}

pub(super) fn receive(socket: &UnixSocket, message: &mut Incoming<'_>) -> Result<Received> {
    if message.flags & n::MSG_OOB != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    socket.common.check_error()?;
    let flags = message.flags;
    let received = socket.arrive(flags, |rights| {
        if !rights && socket.inbox.has_rights() {
            return Ok((Received::default(), true));
        }
        Ok((socket.inbox.receive(&mut message.data, flags)?, false))
    });
    let mut received = match received {
        Err(Errno::EAGAIN) => match &*socket.state.lock() {
            State::Datagram(peer) if peer.no_read => return Ok(Received::default()),
            _ => return Err(Errno::EAGAIN),
        },
        outcome => outcome?,
    };
    if !socket.common.passes_credentials() {
        received.credentials = None;
    }
    if flags & n::MSG_PEEK == 0 && socket.inbox.len() <= WAITING_MAX {
        let waiters = core::mem::take(&mut *socket.waiters.lock());
        waiters.iter().filter_map(Weak::upgrade).for_each(|queue| queue.wake(Events::WRITABLE));
    }
    Ok(received)
}

pub(super) fn poll(socket: &UnixSocket) -> Events {
    // No state is locked while another's is looked at.
    let (peer, no_read, no_write) = match &*socket.state.lock() {
        State::Datagram(peer) => (peer.socket.clone(), peer.no_read, peer.no_write),
        _ => return Events::HUP,
    };
    let mut events = socket.inbox.events(socket.common.has_error(), no_read, no_write);
    let target = peer.as_ref().and_then(Weak::upgrade).filter(|target| !core::ptr::eq(&**target, socket));
    let full = target.is_some_and(|target| waits_for(&target, socket));
    if !full && socket.outbox.bytes() * 4 <= socket.common.send_room() {
        events |= Events::WRITABLE;
    }
    events
}

/// Takes nothing in any more; answers the open files that were on their way.
pub(super) fn close(socket: &UnixSocket) -> Vec<Arc<Description>> {
    let mut dropped = {
        // Under the lock of all moves, so that nothing is lost track of.
        let mut moving = socket.unix.flights.lock();
        let dropped = socket.inbox.close();
        for datagram in &dropped {
            moving.air.arrive(&datagram.rights);
        }
        dropped
    };
    let waiters = core::mem::take(&mut *socket.waiters.lock());
    waiters.iter().filter_map(Weak::upgrade).for_each(|queue| queue.wake(Events::all()));
    dropped.iter_mut().flat_map(|datagram| core::mem::take(&mut datagram.rights)).collect()
}
