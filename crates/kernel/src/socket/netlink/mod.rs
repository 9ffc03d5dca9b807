//! Netlink, netlink(7): programs ask the kernel about network interfaces, addresses and routes.
//!
//! A request is answered at once: the answers go into the socket's own inbox. There are the protocol of routes, and that which tells of
//! sockets; others are refused as by a Linux that has them not.
//!
//! | module | holds |
//! |---|---|
//! | [`message`] | messages and attributes |
//! | [`route`] | what is asked about interfaces, addresses and routes |
//! | `link` | interfaces and ways that are made and changed |
//! | `diag` | what is asked about sockets: sock_diag(7) |
//! | `filter` | which sockets of TCP and UDP are asked for |

mod diag;
mod filter;
mod link;
pub mod message;
pub mod route;

use super::inbox::{Datagram, Inbox};
use super::options::number;
use super::{Address, Common, Connect, Incoming, NetSpace, Outgoing, Received, Socket};
use crate::socket::control::Item;
use crate::sync::Mutex;
use crate::task::Task;
use crate::wait::{Events, Observer, Pollable, Registration};
use crate::{Errno, Kernel, Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use insula_abi::general as c;
use insula_abi::net as n;
use insula_abi::netlink as l;
use insula_abi::socket::{SockaddrNl, Ucred};
use message::{Message, flags};

/// The family of routes (`NETLINK_ROUTE`).
const ROUTE: u32 = l::NETLINK_ROUTE;
/// That which tells of sockets (`NETLINK_SOCK_DIAG`).
const DIAG: u32 = l::NETLINK_SOCK_DIAG;
/// The highest protocol (Linux: `MAX_LINKS`).
const PROTOCOLS: i32 = 32;

/// Options of `SOL_NETLINK`.
#[derive(Clone, Copy, Debug, Default)]
struct Options {
    packet_info: bool,
    extended: bool,
    capped: bool,
    strict: bool,
    no_overrun: bool,
    broadcast_error: bool,
}

/// Who has which number of a protocol.
#[derive(Default)]
pub struct Numbers(Mutex<BTreeMap<(u32, u32), Weak<Netlink>>>);

/// A netlink socket.
pub struct Netlink {
    this: Weak<Netlink>,
    common: Common,
    inbox: Inbox,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    number: Option<u32>,
    groups: u32,
    /// Set by connect(2): whom it speaks to, if not the kernel.
    peer: u32,
    peer_groups: u32,
    options: Options,
}

/// A socket of a netlink protocol.
///
/// # Errors
/// `ESOCKTNOSUPPORT`, `EPROTONOSUPPORT`.
pub fn socket(kernel: &Arc<Kernel>, task: &Arc<Task>, kind: u32, protocol: i32) -> Result<Arc<Netlink>> {
    if kind != n::SOCK_RAW && kind != n::SOCK_DGRAM {
        return Err(Errno::ESOCKTNOSUPPORT);
    }
    if !(0..PROTOCOLS).contains(&protocol) || !matches!(protocol as u32, ROUTE | DIAG) {
        return Err(Errno::EPROTONOSUPPORT);
    }
    let common = Common::new(kernel, &task.net(), task.credentials().uid.fs, n::AF_NETLINK, kind, protocol as u32);
    Ok(Arc::new_cyclic(|this| Netlink { this: this.clone(), common, inbox: Inbox::default(), state: Mutex::default() }))
}

fn address(port: u32, groups: u32) -> Address {
    Address::of(&SockaddrNl { family: n::AF_NETLINK as u16, port, groups, ..SockaddrNl::default() })
}

fn parse(address: &Address) -> Result<SockaddrNl> {
    let found: SockaddrNl = address.get()?;
    if u32::from(found.family) == n::AF_NETLINK { Ok(found) } else { Err(Errno::EINVAL) }
}

/// Answers to a request, each one datagram.
fn answers(
    net: &Arc<NetSpace>,
    task: &Arc<Task>,
    protocol: u32,
    request: &Message<'_>,
    number: u32,
    capped: bool,
) -> Vec<Vec<u8>> {
    // What isn't a request, or is for nobody, has no answer.
    if request.flags & flags::REQUEST == 0 || request.kind < 16 {
        let asked = request.flags & flags::ACK != 0;
        return if asked { alloc::vec![message::error(request, number, 0, true)] } else { Vec::new() };
    }
    let (answered, gets) = match protocol {
        ROUTE => (route::carry_out(net, task, request, number), route::is_get(request.kind)),
        _ => (diag::carry_out(net, task, request, number), diag::is_get(request.kind)),
    };
    let dumps = request.flags & flags::DUMP == flags::DUMP && gets;
    let (mut answers, end) = match answered {
        Ok(answers) => (answers, 0),
        // That nothing can be told of a protocol is found when the dump has begun.
        Err(Errno::ENOENT) if dumps && protocol == DIAG && diag::is_inet(request) => (Vec::new(), Errno::ENOENT.0.into()),
        Err(errno) => return alloc::vec![message::error(request, number, errno.0.into(), capped)],
    };
    if dumps {
        return in_parts(answers, message::done(request.sequence, number, end));
    }
    if request.flags & flags::ACK != 0 {
        answers.push(message::error(request, number, 0, capped));
    }
    answers
}

/// Several messages to a datagram, as many as programs have room for.
fn in_parts(messages: Vec<Vec<u8>>, done: Vec<u8>) -> Vec<Vec<u8>> {
    const ROOM: usize = 8192;
    let mut parts: Vec<Vec<u8>> = alloc::vec![Vec::new()];
    for message in messages {
        match parts.last_mut() {
            Some(last) if last.is_empty() || last.len() + message.len() <= ROOM => last.extend(message),
            _ => parts.push(message),
        }
    }
    parts.retain(|part| !part.is_empty());
    parts.push(done);
    parts
}

impl Netlink {
    /// Takes a number: the one that is wanted, or the process's own, or any.
    fn ensure_bound(&self, task: &Arc<Task>, wanted: u32) -> Result<u32> {
        let mut state = self.state.lock();
        if let Some(number) = state.number {
            return if wanted == 0 || wanted == number { Ok(number) } else { Err(Errno::EINVAL) };
        }
        let protocol = self.common.protocol;
        let mut numbers = self.common.net.holds.netlink.0.lock();
        let number = match wanted {
            0 => {
                let own = task.process.pid as u32;
                let others = (0..).map(|step| (u32::MAX - 4096).wrapping_sub(step)).take(1 << 20);
                let free = core::iter::once(own).chain(others).find(|number| !numbers.contains_key(&(protocol, *number)));
                free.ok_or(Errno::EADDRINUSE)?
            }
            wanted if numbers.contains_key(&(protocol, wanted)) => return Err(Errno::EADDRINUSE),
            wanted => wanted,
        };
        numbers.insert((protocol, number), self.this.clone());
        state.number = Some(number);
        Ok(number)
    }

    /// An answer comes from the kernel; answers whether it had room.
    fn answer(&self, data: Vec<u8>) -> bool {
        let sender = self.common.passes_credentials().then(Ucred::default);
        let mut items = Vec::new();
        if self.state.lock().options.packet_info {
            items.push(Item::of(n::SOL_NETLINK, l::NETLINK_PKTINFO, &0u32));
        }
        let mut datagram = Some(Datagram { data, from: Some(address(0, 0)), sender, items, ..Datagram::default() });
        if self.inbox.push(&mut datagram, self.common.receive_room()).is_err() {
            // Who doesn't look is told that something was lost.
            if !self.state.lock().options.no_overrun {
                self.common.set_error(Errno::ENOBUFS);
            }
            return false;
        }
        self.common.queue.wake(Events::READABLE);
        true
    }
}

impl Pollable for Netlink {
    fn poll(&self) -> Events {
        let mut events = Events::WRITABLE;
        if !self.inbox.is_empty() {
            events |= Events::READABLE;
        }
        if self.common.has_error() {
            events |= Events::ERR;
        }
        events
    }

    fn observe(&self, interest: Events, observer: &Arc<dyn Observer>) -> Vec<Registration> {
        alloc::vec![self.common.queue.register(interest, observer.clone())]
    }
}

impl Socket for Netlink {
    fn common(&self) -> &Common {
        &self.common
    }

    fn close(&self) {
        let number = self.state.lock().number.take();
        if let Some(number) = number {
            self.common.net.holds.netlink.0.lock().remove(&(self.common.protocol, number));
        }
        drop(self.inbox.close());
    }

    fn bind(&self, task: &Arc<Task>, address: &Address) -> Result<()> {
        let wanted = parse(address)?;
        self.ensure_bound(task, wanted.port)?;
        self.state.lock().groups = wanted.groups;
        Ok(())
    }

    fn connect(&self, task: &Arc<Task>, address: &Address) -> Result<Connect> {
        if address.family() == Some(n::AF_UNSPEC) {
            let mut state = self.state.lock();
            (state.peer, state.peer_groups) = (0, 0);
            return Ok(Connect::Done);
        }
        let to = parse(address)?;
        if (to.port != 0 || to.groups != 0) && !self.common.net.grants(task, c::CAP_NET_ADMIN) {
            return Err(Errno::EPERM);
        }
        self.ensure_bound(task, 0)?;
        let mut state = self.state.lock();
        (state.peer, state.peer_groups) = (to.port, to.groups);
        Ok(Connect::Done)
    }

    fn name(&self) -> Result<Address> {
        let state = self.state.lock();
        Ok(address(state.number.unwrap_or(0), state.groups))
    }

    fn peer_name(&self) -> Result<Address> {
        let state = self.state.lock();
        Ok(address(state.peer, state.peer_groups))
    }

    fn send(&self, task: &Arc<Task>, message: &mut Outgoing<'_>) -> Result<usize> {
        if message.flags & n::MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let to = match message.to {
            Some(address) => parse(address)?.port,
            None => self.state.lock().peer,
        };
        let number = self.ensure_bound(task, 0)?;
        let len = message.data.left();
        if len > self.common.send_room().saturating_sub(32) {
            return Err(Errno::EMSGSIZE);
        }
        if to != 0 {
            // Programs speak with programs only if they are privileged.
            return Err(if self.common.net.grants(task, c::CAP_NET_ADMIN) { Errno::ECONNREFUSED } else { Errno::EPERM });
        }
        let mut bytes = Vec::new();
        message.data.append_to(&mut bytes)?;
        let capped = self.state.lock().options.capped;
        for request in message::Messages(&bytes) {
            let answers = answers(&self.common.net, task, self.common.protocol, &request, number, capped);
            if !answers.into_iter().all(|answer| self.answer(answer)) {
                break;
            }
        }
        Ok(len)
    }

    fn receive(&self, _: &Arc<Task>, message: &mut Incoming<'_>) -> Result<Received> {
        if message.flags & n::MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        self.common.check_error()?;
        self.inbox.receive(&mut message.data, message.flags)
    }

    fn set_option(&self, task: &Arc<Task>, level: u32, name: u32, value: &[u8]) -> Result<()> {
        if level != n::SOL_NETLINK {
            return Err(Errno::ENOPROTOOPT);
        }
        let value = number(value)?;
        let on = value != 0;
        let mut state = self.state.lock();
        match name {
            l::NETLINK_ADD_MEMBERSHIP | l::NETLINK_DROP_MEMBERSHIP => {
                let bit = u32::try_from(value).ok().and_then(|group| group.checked_sub(1)).ok_or(Errno::EINVAL)?;
                // Groups beyond the first 32 are there, but nothing is ever sent to them here.
                let mask = 1u32.checked_shl(bit).unwrap_or(0);
                if name == l::NETLINK_ADD_MEMBERSHIP { state.groups |= mask } else { state.groups &= !mask }
            }
            l::NETLINK_PKTINFO => state.options.packet_info = on,
            l::NETLINK_BROADCAST_ERROR => state.options.broadcast_error = on,
            l::NETLINK_NO_ENOBUFS => state.options.no_overrun = on,
            l::NETLINK_CAP_ACK => state.options.capped = on,
            l::NETLINK_EXT_ACK => state.options.extended = on,
            l::NETLINK_GET_STRICT_CHK => state.options.strict = on,
            l::NETLINK_LISTEN_ALL_NSID if !self.common.net.grants(task, c::CAP_NET_ADMIN) => return Err(Errno::EPERM),
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(())
    }

    fn option(&self, _: &Arc<Task>, level: u32, name: u32, _: &[u8]) -> Result<Vec<u8>> {
        if level != n::SOL_NETLINK {
            return Err(Errno::ENOPROTOOPT);
        }
        let state = self.state.lock();
        let value = match name {
            l::NETLINK_PKTINFO => state.options.packet_info.into(),
            l::NETLINK_BROADCAST_ERROR => state.options.broadcast_error.into(),
            l::NETLINK_NO_ENOBUFS => state.options.no_overrun.into(),
            l::NETLINK_CAP_ACK => state.options.capped.into(),
            l::NETLINK_EXT_ACK => state.options.extended.into(),
            l::NETLINK_GET_STRICT_CHK => state.options.strict.into(),
            l::NETLINK_LIST_MEMBERSHIPS => state.groups,
            _ => return Err(Errno::ENOPROTOOPT),
        };
        Ok(value.to_ne_bytes().to_vec())
    }
}
