//! Who has which port.

use super::endpoint::Local;
use crate::socket::NetSpace;
use crate::sync::Mutex;
use crate::task::Task;
use crate::{Errno, Kernel, Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use insula_abi::general as c;
use insula_abi::time::SECOND;

/// Ports that are given to who wants any (Linux: `net.ipv4.ip_local_port_range`).
const EPHEMERAL: core::ops::RangeInclusive<u16> = 32768..=60999;

/// Ports below are only for the privileged (Linux: `net.ipv4.ip_unprivileged_port_start`).
const UNPRIVILEGED: u16 = 1024;

/// How long a port stays taken after a connection of it was closed (TIME_WAIT), in nanoseconds.
const TIME_WAIT: u64 = 60 * SECOND;

/// The most ports of which that is remembered.
const WAITS_MAX: usize = 4096;

/// Whose rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// With connections: only one listens.
    Tcp,
    /// Each with `SO_REUSEADDR` may receive.
    Udp,
}

/// How a socket wants a port.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// Where.
    pub local: Local,
    /// `SO_REUSEADDR`.
    pub reuse_address: bool,
    /// `SO_REUSEPORT`.
    pub reuse_port: bool,
    /// Who wants it.
    pub uid: u32,
    /// It is given what comes from others: it listens, or takes datagrams.
    pub receives: bool,
    /// It hears only this one.
    pub remote: Option<SocketAddr>,
}

/// A port that a socket has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Which.
    pub port: u16,
    id: u64,
}

/// Ports of one protocol.
pub struct Ports<T> {
    rules: Rules,
    table: Mutex<Table<T>>,
}

struct Table<T> {
    ports: BTreeMap<u16, Port<T>>,
    next: u64,
    waits: usize,
}

struct Port<T> {
    claims: BTreeMap<u64, (Claim, Weak<T>)>,
    /// Those that receive, the youngest last.
    receivers: Vec<u64>,
    waits: Vec<Wait>,
}

/// A connection that was closed, and still counts.
struct Wait {
    /// Its address.
    ip: IpAddr,
    /// Until when, in nanoseconds.
    until: u64,
    /// It had `SO_REUSEADDR`.
    reuse_address: bool,
    /// It had `SO_REUSEPORT`.
    reuse_port: bool,
}

impl<T> Default for Port<T> {
    fn default() -> Self {
        Port { claims: BTreeMap::new(), receivers: Vec::new(), waits: Vec::new() }
    }
}

impl Claim {
    fn conflicts(&self, rules: Rules, other: &Claim) -> bool {
        if !self.local.overlaps(&other.local) {
            return false;
        }
        // Two that only have the name go together, and the first of them to listen may; Linux: `inet_csk_bind_conflict`.
        let listens = rules == Rules::Tcp && other.receives;
        let shared = self.reuse_address && other.reuse_address && !listens;
        let together = self.reuse_port && other.reuse_port && self.uid == other.uid;
        !(shared || together)
    }

    /// Whether a connection that was closed keeps it from its port; who had it with `SO_REUSEPORT` doesn't matter any more.
    fn minds(&self, wait: &Wait) -> bool {
        let together = self.reuse_address && wait.reuse_address || self.reuse_port && wait.reuse_port;
        self.local.overlaps(&Local { ip: wait.ip, ..self.local }) && !together
    }
}

impl<T> Ports<T> {
    /// None taken.
    pub fn new(rules: Rules) -> Self {
        Ports { rules, table: Mutex::new(Table { ports: BTreeMap::new(), next: 0, waits: 0 }) }
    }

    /// Takes a port: the one that is claimed, or any.
    ///
    /// # Errors
    /// `EADDRINUSE`: somebody has it, or there is none left.
    pub fn take(&self, kernel: &Kernel, mut claim: Claim, socket: Weak<T>) -> Result<Taken> {
        let now = kernel.host.clock.monotonic();
        let mut table = self.table.lock();
        if claim.local.port == 0 {
            claim.local.port = table.free(kernel).ok_or(Errno::EADDRINUSE)?;
        } else if let Some(port) = table.ports.get(&claim.local.port)
            && port.refuses(self.rules, &claim, None, now)
        {
            return Err(Errno::EADDRINUSE);
        }
        Ok(table.add(claim, socket))
    }

    /// One more that has a port with others, whatever they want: a connection that was accepted there.
    pub fn join(&self, claim: Claim, socket: Weak<T>) -> Taken {
        self.table.lock().add(claim, socket)
    }

    /// Changes how a port is had, if nobody minds.
    ///
    /// # Errors
    /// `EADDRINUSE`: somebody does.
    pub fn change(&self, kernel: &Kernel, taken: Taken, change: impl FnOnce(&mut Claim)) -> Result<()> {
        let now = kernel.host.clock.monotonic();
        let mut table = self.table.lock();
        let port = table.ports.get_mut(&taken.port).ok_or(Errno::EINVAL)?;
        let (mut claim, _) = *port.claims.get(&taken.id).map(|(claim, _)| (*claim, ())).as_ref().ok_or(Errno::EINVAL)?;
        change(&mut claim);
        if self.rules == Rules::Tcp && claim.receives && port.refuses(self.rules, &claim, Some(taken.id), now) {
            return Err(Errno::EADDRINUSE);
        }
        if let Some((slot, _)) = port.claims.get_mut(&taken.id) {
            *slot = claim;
        }
        port.receivers.retain(|id| *id != taken.id);
        if claim.receives {
            port.receivers.push(taken.id);
        }
        Ok(())
    }

    /// Gives a port back. If a connection `waits` after its end, the port is kept from others a while, unless they allow for that.
    pub fn release(&self, kernel: &Kernel, taken: Taken, waits: bool) {
        let now = if waits { kernel.host.clock.monotonic() } else { 0 };
        let mut table = self.table.lock();
        if waits && table.waits >= WAITS_MAX {
            table.sweep(now);
        }
        let room = table.waits < WAITS_MAX;
        let Some(port) = table.ports.get_mut(&taken.port) else { return };
        let Some((claim, _)) = port.claims.remove(&taken.id) else { return };
        port.receivers.retain(|id| *id != taken.id);
        let mut more = 0;
        if waits {
            let until = now + TIME_WAIT;
            let Claim { local: Local { ip, .. }, reuse_address, reuse_port, .. } = claim;
            match port.waits.iter_mut().find(|wait| wait.ip == ip) {
                Some(wait) => {
                    wait.until = until;
                    wait.reuse_address &= reuse_address;
                    wait.reuse_port &= reuse_port;
                }
                None if room => {
                    port.waits.push(Wait { ip, until, reuse_address, reuse_port });
                    more = 1;
                }
                None => {}
            }
        }
        if port.claims.is_empty() && port.waits.is_empty() {
            table.ports.remove(&taken.port);
        }
        table.waits += more;
    }

    /// Who receives what comes from `from` to `to`: the one that asks for the least.
    pub fn find(&self, from: SocketAddr, to: SocketAddr) -> Option<Arc<T>> {
        let table = self.table.lock();
        let port = table.ports.get(&to.port())?;
        let score = |claim: &Claim| {
            if !claim.local.takes(to.ip()) || claim.remote.is_some_and(|remote| remote != from) {
                return None;
            }
            let family = claim.local.ip.is_ipv4() == to.is_ipv4();
            Some(u32::from(claim.remote.is_some()) * 4 + u32::from(!claim.local.ip.is_unspecified()) * 2 + u32::from(family))
        };
        let scored = port
            .receivers
            .iter()
            .filter_map(|id| port.claims.get(id))
            .filter_map(|(claim, socket)| Some((score(claim)?, claim.reuse_port, socket)));
        let mut best: Vec<(u32, bool, &Weak<T>)> = Vec::new();
        for found in scored {
            match best.first() {
                Some(first) if first.0 > found.0 => {}
                Some(first) if first.0 == found.0 && first.1 && found.1 => best.push(found),
                // Of equals the youngest.
                _ => best = alloc::vec![found],
            }
        }
        // Among those that share a port, who is asked goes by who asks.
        let index = if best.len() > 1 { usize::from(from.port().wrapping_mul(0x9e37) >> 3) % best.len() } else { 0 };
        best.get(index)?.2.upgrade()
    }

    /// All that receive what goes to `to`, an address of many.
    pub fn find_all(&self, from: SocketAddr, to: SocketAddr, wants: impl Fn(&T) -> bool) -> Vec<Arc<T>> {
        let table = self.table.lock();
        let Some(port) = table.ports.get(&to.port()) else { return Vec::new() };
        let takes = |claim: &Claim| {
            (claim.local.takes(to.ip()) || claim.local.ip.is_unspecified()) && claim.remote.is_none_or(|remote| remote == from)
        };
        let found: Vec<Arc<T>> = port
            .receivers
            .iter()
            .filter_map(|id| port.claims.get(id))
            .filter(|(claim, _)| takes(claim))
            .filter_map(|(_, socket)| socket.upgrade())
            .collect();
        drop(table);
        found.into_iter().filter(|socket| wants(socket)).collect()
    }

    /// All sockets that have a port.
    pub fn all(&self) -> Vec<Arc<T>> {
        let table = self.table.lock();
        table.ports.values().flat_map(|port| port.claims.values()).filter_map(|(_, socket)| socket.upgrade()).collect()
    }

    /// How many ports are remembered after their connections.
    pub fn waits(&self) -> usize {
        self.table.lock().waits
    }
}

impl<T> Port<T> {
    /// Whether a claim can't be had beside those there are, but for that of `own`.
    fn refuses(&self, rules: Rules, claim: &Claim, own: Option<u64>, now: u64) -> bool {
        let others = self.claims.iter().filter(|(id, _)| Some(**id) != own);
        let mut waits = self.waits.iter().filter(|wait| wait.until > now);
        others.map(|(_, (other, _))| other).any(|other| claim.conflicts(rules, other))
            || own.is_none() && waits.any(|wait| claim.minds(wait))
    }
}

impl<T> Table<T> {
    fn add(&mut self, claim: Claim, socket: Weak<T>) -> Taken {
        let id = self.next;
        self.next += 1;
        let port = self.ports.entry(claim.local.port).or_default();
        port.claims.insert(id, (claim, socket));
        if claim.receives {
            port.receivers.push(id);
        }
        Taken { port: claim.local.port, id }
    }

    /// A port that nobody has.
    fn free(&mut self, kernel: &Kernel) -> Option<u16> {
        let mut chance = [0; 2];
        kernel.host.entropy.fill(&mut chance);
        let count = EPHEMERAL.end() - EPHEMERAL.start() + 1;
        let first = u16::from_ne_bytes(chance) % count;
        let candidates = (0..count).map(|step| EPHEMERAL.start() + (first + step) % count);
        candidates.into_iter().find(|port| !self.ports.contains_key(port))
    }

    /// Forgets connections that ended long ago.
    fn sweep(&mut self, now: u64) {
        let mut left = 0;
        self.ports.retain(|_, port| {
            port.waits.retain(|wait| wait.until > now);
            left += port.waits.len();
            !port.waits.is_empty() || !port.claims.is_empty()
        });
        self.waits = left;
    }
}

/// Whether a port may be had by who isn't privileged.
///
/// # Errors
/// `EACCES`.
pub fn check_privilege(net: &NetSpace, task: &Task, port: u16) -> Result<()> {
    if port == 0 || port >= UNPRIVILEGED || net.grants(task, c::CAP_NET_BIND_SERVICE) { Ok(()) } else { Err(Errno::EACCES) }
}
