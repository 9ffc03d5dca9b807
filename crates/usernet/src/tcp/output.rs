//! One connection: what the guest is sent, and when it is sent again.

use super::connection::{Connection, Fate, Phase, SCALE};
use super::sequence::distance;
use crate::hub::Hub;
use crate::ring::{Pool, SIZE};
use crate::wire::{Tcp, flag};
use rustix::io::Errno;
use std::io::IoSliceMut;
use std::ops::Range;

/// Milliseconds without an acknowledgement after which something is sent again; doubled each time, up to [`LONGEST`]. Nothing is lost on the
/// cable as a rule, and a guest that has no processor for a while shouldn't be sent everything twice.
const RETRY: u64 = 300;
/// The same for the segment that opens a connection (RFC 6298 section 2.1).
const RETRY_OPENING: u64 = 1000;
const LONGEST: u64 = 15_000;
/// So often nothing came back; about two minutes (RFC 9293 section 3.8.3: at least 100 seconds).
const MOST_TRIES: u32 = 12;
const MOST_OPENING_TRIES: u32 = 6;
/// Milliseconds after which a silent guest is asked whether it still knows the connection: as RFC 9293 section 3.8.4 has it; and if it has
/// said its end, as it forgets those without a program soon (Linux's `tcp_fin_timeout`).
const IDLE: u64 = 7_200_000;
const IDLE_ENDED: u64 = 60_000;
/// Milliseconds for which a connection that is over still acknowledges the guest's end, if that was the last.
const LINGER: u64 = 2000;

/// A segment for the guest: its header without ports, and its text as a part of what is kept.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) tcp: Tcp,
    pub(super) text: Range<usize>,
}

impl Connection {
    /// The next segment, if there is one, with so much text at most.
    ///
    /// # Errors
    /// The host's end is gone.
    pub(super) fn due(&mut self, hub: &mut Hub, most: usize) -> Result<Option<Segment>, Errno> {
        match self.phase {
            Phase::Connecting => Ok(None),
            Phase::Answering | Phase::Calling => Ok(self.opening(hub)),
            Phase::Open => match self.data(hub, most)? {
                Some(segment) => Ok(Some(segment)),
                None => Ok(self.bare(&hub.pool)),
            },
            Phase::Lingering => Ok(self.bare(&hub.pool)),
        }
    }

    fn opening(&mut self, hub: &mut Hub) -> Option<Segment> {
        if !std::mem::take(&mut self.opens) {
            return None;
        }
        let answer = self.phase == Phase::Answering;
        self.receive.edge = self.receive.next.wrapping_add(u16::MAX.into());
        let tcp = Tcp {
            seq: self.send.una,
            ack: self.receive.next,
            flags: if answer { flag::SYN | flag::ACK } else { flag::SYN },
            window: u16::MAX,
            mss: Some(hub.link.mss(self.flow.is_ipv6())),
            scale: (!answer || self.scales).then_some(SCALE),
            ..Tcp::default()
        };
        self.arm(hub);
        Some(Segment { tcp, text: 0..0 })
    }

    /// Bytes of the host's, or its end.
    fn data(&mut self, hub: &mut Hub, most: usize) -> Result<Option<Segment>, Errno> {
        let sent = distance(self.send.una, self.send.next) as usize;
        if self.send.end_acknowledged || sent > self.send.kept.len() {
            // The end was sent.
            return Ok(None);
        }
        let room = (self.send.window as usize).min(SIZE).saturating_sub(sent);
        let most = hub.link.most_text(self.flow.is_ipv6(), self.send.mss).min(most);
        self.fill(&mut hub.pool, sent + room.min(most))?;
        let unsent = self.send.kept.len() - sent;
        let length = unsent.min(room).min(most);
        let last = self.send.ended && length == unsent;
        // Not many small ones where there will soon be room for a large one (RFC 9293 section 3.8.6.2.1).
        let silly = room < unsent.min(self.send.mss.into()) && sent > 0;
        if (length == 0 || silly) && !last {
            if room == 0 && !self.is_under_way() {
                self.arm(hub);
            }
            return Ok(None);
        }
        let mut flags = flag::ACK;
        flags |= if length == unsent && length > 0 { flag::PSH } else { 0 };
        flags |= if last { flag::FIN } else { 0 };
        let tcp = Tcp { seq: self.send.next, flags, ..self.header(&hub.pool) };
        let rests = !self.is_under_way();
        self.send.next = self.send.next.wrapping_add(length as u32 + u32::from(last));
        if super::sequence::after(self.send.next, self.send.max) {
            self.send.max = self.send.next;
        }
        if rests {
            self.arm(hub);
        }
        Ok(Some(Segment { tcp, text: sent..sent + length }))
    }

    /// Reads from the socket until so much is kept, or there is no more.
    fn fill(&mut self, pool: &mut Pool, target: usize) -> Result<(), Errno> {
        let send = &mut self.send;
        let Some(socket) = &self.socket else { return Ok(()) };
        while send.readable && !send.ended && send.kept.len() < target {
            let wanted = target - send.kept.len();
            let Some([first, second]) = send.kept.room(pool, wanted) else {
                pool.await_one(self.id);
                return Ok(());
            };
            match rustix::io::readv(socket, &mut [IoSliceMut::new(first), IoSliceMut::new(second)]) {
                Ok(0) => send.ended = true,
                Ok(count) => {
                    send.kept.add(count);
                    // There is no more for now, and more says so; an end has said so already.
                    send.readable = count == wanted || send.ending;
                }
                Err(Errno::AGAIN) => send.readable = false,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        if send.kept.is_empty() {
            send.kept.clear(pool);
        }
        Ok(())
    }

    /// A segment without text, if one is due.
    fn bare(&mut self, pool: &Pool) -> Option<Segment> {
        if std::mem::take(&mut self.probes) {
            // One that was there already: the guest must say what it expects.
            return Some(Segment { tcp: Tcp { seq: self.send.una.wrapping_sub(1), ..self.header(pool) }, text: 0..0 });
        }
        // Half the window has become free since the guest was told.
        let freed = distance(self.receive.edge, self.edge(pool)) as i32 >= (self.capacity() / 2) as i32;
        let repeats = self.receive.repeats > 0;
        self.receive.repeats -= u8::from(repeats);
        (self.receive.owed || repeats || freed).then(|| Segment { tcp: self.header(pool), text: 0..0 })
    }

    /// How much may wait: as much as can be said.
    fn capacity(&self) -> usize {
        SIZE.min(usize::from(u16::MAX) << self.shift())
    }

    fn shift(&self) -> u8 {
        if self.scales { SCALE } else { 0 }
    }

    /// Up to where the guest may send. Where there is no buffer, nothing new is promised.
    fn edge(&self, pool: &Pool) -> u32 {
        let receive = &self.receive;
        if receive.waiting.is_empty() && !pool.has() {
            return receive.edge;
        }
        receive.next.wrapping_add(self.capacity().saturating_sub(receive.waiting.len()) as u32)
    }

    /// Tells what was received, and how much more may be.
    fn header(&mut self, pool: &Pool) -> Tcp {
        // What was promised once isn't taken back.
        let promised = distance(self.receive.next, self.receive.edge);
        let window = distance(self.receive.next, self.edge(pool)).max(promised) >> self.shift();
        self.receive.edge = self.receive.next.wrapping_add((window << self.shift()).max(promised));
        self.receive.owed = false;
        // Not more than `capacity`.
        Tcp { seq: self.send.max, ack: self.receive.next, flags: flag::ACK, window: window as u16, ..Tcp::default() }
    }

    /// Sets the alarm for what comes next if nothing else does.
    pub(super) fn arm(&mut self, hub: &mut Hub) {
        let doubled = |first: u64| (first << self.tries.min(16)).min(LONGEST);
        let wait = match self.phase {
            Phase::Connecting => return,
            Phase::Answering | Phase::Calling => doubled(RETRY_OPENING),
            Phase::Lingering => LINGER,
            Phase::Open if self.is_under_way() || self.tries > 0 || self.is_shut_out() => doubled(RETRY),
            Phase::Open if self.receive.ended => IDLE_ENDED,
            Phase::Open => IDLE,
        };
        hub.timers.set(&mut self.alarm, self.id, hub.now, hub.now + wait);
    }

    /// There is something for the guest, and the guest has no room.
    fn is_shut_out(&self) -> bool {
        self.send.window == 0 && (self.send.readable || !self.send.kept.is_empty())
    }

    /// The alarm has gone off.
    pub(super) fn expired(&mut self, hub: &mut Hub) -> Fate {
        if !hub.timers.is_due(&mut self.alarm, self.id, hub.now) {
            return Fate::Lives;
        }
        self.tries += 1;
        match self.phase {
            Phase::Lingering => return Fate::Gone,
            Phase::Answering | Phase::Calling => {
                if self.tries > MOST_OPENING_TRIES {
                    return Fate::Gone;
                }
                self.opens = true;
            }
            Phase::Connecting => {}
            Phase::Open => {
                if self.tries > MOST_TRIES {
                    return Fate::Reset;
                }
                self.probes = !self.is_under_way() || self.send.window == 0;
                self.send.next = self.send.una;
            }
        }
        self.arm(hub);
        Fate::Lives
    }
}
