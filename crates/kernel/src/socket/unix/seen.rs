//! What others are told of Unix sockets: `/proc/net/unix`, and netlink.

use super::Unix;
use super::names::Bound;
use super::socket::{State, UnixSocket};
use crate::socket::{NetSpace, Socket};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

/// States: `TCP_ESTABLISHED`, `TCP_CLOSE`, `TCP_LISTEN`.
const CONNECTED: u8 = 1;
const IDLE: u8 = 7;
const LISTENS: u8 = 10;

/// A socket, as it is told of.
pub struct Seen {
    /// `SOCK_*`.
    pub kind: u32,
    /// `TCP_*`, the state.
    pub state: u8,
    /// Its number; 0 while it waits to be accepted.
    pub ino: u64,
    /// By which it is known in any case.
    pub cookie: u64,
    /// Its name as it was given, without the zero at the end of a path; empty is none.
    pub name: Vec<u8>,
    /// The file that it is bound to: device and number.
    pub file: Option<(u64, u64)>,
    /// The number of its peer, if it has one; 0 of one that is gone, or waits to be accepted.
    pub peer: Option<u64>,
    /// Of a listener: the numbers of those whose connections wait to be accepted.
    pub waiting: Vec<u64>,
    /// Bytes to read; of a listener, connections that wait.
    pub unread: usize,
    /// Bytes that weren't read; of a listener, how many connections may wait.
    pub unsent: usize,
    /// Whose it is.
    pub uid: u32,
    /// Which ways are ended: 1 is receiving, 2 sending.
    pub shut: u8,
    /// Bytes that have room, to receive and to send.
    pub room: [u32; 2],
}

impl UnixSocket {
    /// How it is told of, by itself: numbers of others are those that they have once they are accepted.
    fn seen(&self) -> Option<Seen> {
        let (mut peer, mut waiting, mut shut, mut backlog) = (None, Vec::new(), 0, None);
        let state = match &*self.state.lock() {
            State::Closed => return None,
            State::Idle => IDLE,
            State::Listening(listener) => {
                waiting = listener.waiting.iter().map(|one| one.common.ino).collect();
                backlog = Some(listener.backlog as usize);
                LISTENS
            }
            State::Connected(end) => {
                let (theirs, ours, _) = end.connection.ended(end.side);
                shut = u8::from(theirs) | u8::from(ours) << 1;
                peer = Some(end.peer_ino);
                CONNECTED
            }
            State::Datagram(other) => {
                shut = u8::from(other.no_read) | u8::from(other.no_write) << 1;
                peer = other.number();
                if peer.is_some() { CONNECTED } else { IDLE }
            }
        };
        let told = *self.told.lock();
        let name = told.as_ref().and_then(|name| name.bytes().get(2..)).unwrap_or_default();
        let name = if name.first() == Some(&0) { name } else { name.strip_suffix(&[0]).unwrap_or(name) };
        let file = match &*self.bound.lock() {
            Some(Bound::File(dev, ino)) => Some((*dev, *ino)),
            _ => None,
        };
        let unread = if backlog.is_some() { waiting.len() } else { self.unread().unwrap_or(0) };
        let unsent = backlog.unwrap_or_else(|| self.unsent().unwrap_or(0));
        Some(Seen {
            kind: self.common.kind,
            state,
            ino: self.common.ino,
            cookie: self.common.ino,
            name: name.to_vec(),
            file,
            peer,
            waiting,
            unread,
            unsent,
            uid: self.common.uid,
            shut,
            room: [self.common.receive_room() as u32, self.common.send_room() as u32],
        })
    }
}

impl Unix {
    /// The sockets of a network.
    fn within(&self, net: &NetSpace) -> Vec<Arc<UnixSocket>> {
        let all: Vec<_> = self.all.lock().values().filter_map(Weak::upgrade).collect();
        all.into_iter().filter(|socket| socket.common.net.number == net.number).collect()
    }

    /// How many sockets there are in a network.
    pub fn count(&self, net: &NetSpace) -> usize {
        self.within(net).len()
    }

    /// All sockets of a network.
    pub fn seen(&self, net: &NetSpace) -> Vec<Seen> {
        let all = self.within(net);
        let mut seen: Vec<Seen> = all.iter().filter_map(|socket| socket.seen()).collect();
        let waiting: BTreeSet<u64> = seen.iter().flat_map(|one| one.waiting.iter().copied()).collect();
        let peers: BTreeMap<u64, u64> = seen.iter().filter_map(|one| Some((one.cookie, one.peer?))).collect();
        let there: BTreeSet<u64> = seen.iter().map(|one| one.cookie).filter(|one| !waiting.contains(one)).collect();
        for one in &mut seen {
            if waiting.contains(&one.cookie) {
                one.ino = 0;
            }
            one.peer = one.peer.map(|peer| if there.contains(&peer) { peer } else { 0 });
            for number in &mut one.waiting {
                *number = peers.get(number).copied().filter(|peer| there.contains(peer)).unwrap_or(0);
            }
        }
        seen
    }

    /// `/proc/net/unix`.
    pub fn show(&self, net: &NetSpace) -> Vec<u8> {
        let mut text = b"Num       RefCount Protocol Flags    Type St Inode Path\n".to_vec();
        for Seen { kind, state, ino, name, .. } in self.seen(net) {
            let flags = if state == LISTENS { 0x10000 } else { 0 };
            // `SS_CONNECTING`, `SS_CONNECTED`, `SS_UNCONNECTED`.
            let state = match state {
                CONNECTED if ino == 0 => 2,
                CONNECTED => 3,
                _ => 1,
            };
            let row = format!("0000000000000000: 00000002 00000000 {flags:08X} {kind:04X} {state:02X} {ino:5}");
            text.extend_from_slice(row.as_bytes());
            if !name.is_empty() {
                text.push(b' ');
                text.extend(name.iter().map(|byte| if *byte == 0 { b'@' } else { *byte }));
            }
            text.push(b'\n');
        }
        text
    }
}
