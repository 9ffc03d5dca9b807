//! One connection: a stream socket of the host's, and what guest and host have told each other about their buffers (section 5.10.6.3).

use super::packet::{Header, NO_RECEIVE, NO_SEND, op};
use crate::chain::slices;
use insula_sys::guest;
use insula_vm::memory::GuestMemory;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown};
use std::collections::VecDeque;
use vm_memory::GuestAddress;

/// So much of the guest's can be on the way to a socket: what we say as `buf_alloc`.
pub(super) const BUFFER: u32 = 128 << 10;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The host asked, and the guest hasn't answered.
    Requested,
    Open,
    /// To be forgotten once the guest is told.
    Gone,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    /// Our port.
    pub(super) local: u32,
    /// The guest's.
    pub(super) remote: u32,
    pub(super) phase: Phase,
    /// It is in the queue of those that have something for the guest.
    pub(super) queued: bool,
    /// The socket may have bytes; it says so once (EPOLLET).
    readable: bool,
    /// All its bytes are read.
    ended: bool,
    /// The other end is closed, so nobody reads it either.
    hung_up: bool,
    /// What the guest has shut down.
    shut: u32,
    /// The socket was told that no more bytes come.
    socket_ended: bool,
    waiting: VecDeque<u8>,
    /// Bytes the guest was sent, and those of which it said that they are out of its buffer.
    sent: u32,
    remote_forwarded: u32,
    remote_buffer: u32,
    /// Bytes that came from the guest, those that are in the socket, and how many of them it knows of.
    received: u32,
    forwarded: u32,
    told: u32,
    /// What is to be said, in the order of [`Connection::speak`].
    request: bool,
    response: bool,
    update: bool,
    asked: bool,
    /// Which directions the guest was told to be over.
    end_told: u32,
}

impl Connection {
    pub(super) fn new(socket: OwnedFd, local: u32, remote: u32, phase: Phase) -> Connection {
        Connection {
            socket,
            local,
            remote,
            phase,
            queued: false,
            readable: phase == Phase::Open,
            ended: false,
            hung_up: false,
            shut: 0,
            socket_ended: false,
            waiting: VecDeque::new(),
            sent: 0,
            remote_forwarded: 0,
            remote_buffer: 0,
            received: 0,
            forwarded: 0,
            told: 0,
            request: phase == Phase::Requested,
            response: phase == Phase::Open,
            update: false,
            asked: false,
            end_told: 0,
        }
    }

    /// The socket may have bytes, or has ended.
    pub(super) fn wake(&mut self, hung_up: bool) {
        self.readable = true;
        self.hung_up |= hung_up;
    }

    /// Takes what the guest says of its buffer; false if that can't be: it forwarded more than it was sent.
    pub(super) fn credit(&mut self, header: &Header) -> bool {
        let news = header.forwarded.wrapping_sub(self.remote_forwarded);
        if news > self.sent.wrapping_sub(self.remote_forwarded) {
            return false;
        }
        self.remote_forwarded = header.forwarded;
        self.remote_buffer = header.buffer;
        self.asked = false;
        true
    }

    /// How many bytes the guest has room for.
    fn room(&self) -> u32 {
        self.remote_buffer.saturating_sub(self.sent.wrapping_sub(self.remote_forwarded))
    }

    /// The guest has answered: the one who asked is told our port, and may send.
    pub(super) fn accepted(&mut self) -> bool {
        let answer = format!("OK {}\n", self.local);
        self.phase = Phase::Open;
        self.readable = true;
        rustix::net::send(&self.socket, answer.as_bytes(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT) == Ok(answer.len())
    }

    /// Takes bytes of the guest's; false if it has sent more than it was allowed to, or after it said it wouldn't, or nobody reads them.
    pub(super) fn take(&mut self, memory: &GuestMemory, pieces: &[(GuestAddress, u32)], length: u32) -> bool {
        if self.phase != Phase::Open || self.shut & NO_SEND != 0 || length > BUFFER - self.received.wrapping_sub(self.forwarded) {
            return false;
        }
        self.received = self.received.wrapping_add(length);
        let pieces = slices(memory, pieces);
        let mut done = 0;
        if self.waiting.is_empty() {
            done = match guest::write(&self.socket, &pieces) {
                Ok(count) => count,
                Err(Errno::AGAIN | Errno::INTR) => 0,
                Err(_) => return false,
            };
        }
        self.forward(done);
        for piece in pieces {
            let skip = done.min(piece.len());
            done -= skip;
            let mut bytes = vec![0; piece.len() - skip];
            if let Ok(rest) = piece.offset(skip) {
                rest.copy_to(&mut bytes);
            }
            self.waiting.extend(bytes);
        }
        true
    }

    fn forward(&mut self, count: usize) {
        // No more than BUFFER waits, so it fits.
        self.forwarded = self.forwarded.wrapping_add(count as u32);
        // Before the guest has to wait; not for each packet.
        self.update |= self.forwarded.wrapping_sub(self.told) >= BUFFER / 2;
    }

    /// Gives the socket what waits for it; false if nobody reads it any more.
    pub(super) fn flush(&mut self) -> bool {
        while !self.waiting.is_empty() {
            match rustix::net::send(&self.socket, self.waiting.as_slices().0, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(count) => {
                    self.waiting.drain(..count);
                    self.forward(count);
                }
                Err(Errno::AGAIN) => return true,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        // Once: the socket says each time that it has changed, and would bring us here for ever.
        if self.shut & NO_SEND != 0 && !std::mem::replace(&mut self.socket_ended, true) {
            let _ = rustix::net::shutdown(&self.socket, Shutdown::Write);
        }
        // Section 5.10.6.5: both directions are shut down, so the other side says that all is over.
        self.shut != NO_SEND | NO_RECEIVE
    }

    /// The guest shuts a direction down; false if that was the last, and nothing waits.
    pub(super) fn shut(&mut self, flags: u32) -> bool {
        self.shut |= flags & (NO_SEND | NO_RECEIVE);
        self.flush()
    }

    pub(super) fn want_update(&mut self) {
        self.update = true;
    }

    /// Whether [`Connection::speak`] has something to say.
    pub(super) fn has_news(&self) -> bool {
        let data = self.phase == Phase::Open && self.readable && !self.ended && self.shut & NO_RECEIVE == 0;
        let asks = data && self.room() == 0 && !self.asked;
        self.phase == Phase::Gone
            || self.request
            || self.response
            || self.update
            || self.ends()
            || asks
            || data && self.room() > 0
    }

    fn ends(&self) -> bool {
        self.phase == Phase::Open && self.over() & !self.end_told != 0
    }

    /// Which directions are over on the host's side. What is closed may still have bytes to be read, and they come first.
    fn over(&self) -> u32 {
        match (self.ended, self.hung_up) {
            (false, _) => 0,
            (true, false) => NO_SEND,
            (true, true) => NO_SEND | NO_RECEIVE,
        }
    }

    /// The next packet: its header without addresses, after its bytes went into these pieces of guest memory.
    pub(super) fn speak(&mut self, memory: &GuestMemory, room: impl Fn(u32) -> Vec<(GuestAddress, u32)>) -> Option<Header> {
        let said = if self.phase == Phase::Gone {
            Header { op: op::RESET, ..Header::default() }
        } else if std::mem::take(&mut self.request) {
            Header { op: op::REQUEST, ..Header::default() }
        } else if std::mem::take(&mut self.response) {
            Header { op: op::RESPONSE, ..Header::default() }
        } else if self.update {
            Header { op: op::CREDIT_UPDATE, ..Header::default() }
        } else {
            self.data(memory, room)?
        };
        // Every packet says it.
        self.update = false;
        self.told = self.forwarded;
        Some(Header { buffer: BUFFER, forwarded: self.forwarded, ..said })
    }

    fn data(&mut self, memory: &GuestMemory, room: impl Fn(u32) -> Vec<(GuestAddress, u32)>) -> Option<Header> {
        if self.ended || !self.has_news() {
            return self.end();
        }
        if self.room() == 0 {
            self.asked = true;
            return Some(Header { op: op::CREDIT_REQUEST, ..Header::default() });
        }
        match guest::read(&self.socket, &slices(memory, &room(self.room()))) {
            Ok(0) => {
                self.ended = true;
                self.readable = false;
                self.end()
            }
            Ok(count) => {
                self.sent = self.sent.wrapping_add(count as u32);
                Some(Header { op: op::DATA, length: count as u32, ..Header::default() })
            }
            Err(Errno::INTR) => None,
            Err(Errno::AGAIN) => {
                self.readable = false;
                None
            }
            Err(_) => {
                self.phase = Phase::Gone;
                Some(Header { op: op::RESET, ..Header::default() })
            }
        }
    }

    fn end(&mut self) -> Option<Header> {
        if !self.ends() {
            return None;
        }
        self.end_told = self.over();
        Some(Header { op: op::SHUTDOWN, flags: self.end_told, ..Header::default() })
    }
}
