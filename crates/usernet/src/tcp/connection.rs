//! One connection: what the guest sent, and what became of it.
//!
//! Names of the sequence numbers are those of RFC 9293, section 3.3.1.

use super::sequence::{after, distance};
use crate::flow::Flow;
use crate::hub::Hub;
use crate::payload::Payload;
use crate::ring::{Pool, Ring, SIZE};
use crate::timers::{Alarm, Id};
use crate::wire::{Tcp, flag};
use insula_sys::guest;
use rustix::event::epoll::EventFlags;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::Shutdown;

/// By how many bits our windows are shifted: a whole [`SIZE`] can be said.
pub(super) const SCALE: u8 = 4;
/// The smallest segment that is sent, whatever the guest says it takes (Linux's `tcp_min_snd_mss` is much the same).
const LEAST_MSS: u16 = 88;
/// More aren't due at once: so many segments that came too early say the same.
const MOST_REPEATS: u8 = 4;
/// As many tries as it takes to wait long.
const PATIENT: u32 = 6;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The guest asked, and the host's kernel is connecting.
    Connecting,
    /// The host is connected, and the guest is told.
    Answering,
    /// The host asked, and so do we.
    Calling,
    /// Both are connected.
    Open,
    /// All is said and done, but the guest may not know.
    Lingering,
}

/// What becomes of a connection after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Lives,
    /// The host's end is gone: the guest is told.
    Reset,
    /// The host couldn't connect.
    Failed(Errno),
    /// The guest's end is gone, or never was.
    Gone,
}

/// From the guest to the host.
#[derive(Debug)]
pub(super) struct Receive {
    /// RCV.NXT
    pub(super) next: u32,
    /// RCV.NXT + RCV.WND, as the guest was told.
    pub(super) edge: u32,
    /// What the socket didn't take yet.
    pub(super) waiting: Ring,
    /// The guest has said that there is no more.
    pub(super) ended: bool,
    /// The socket was told so.
    pub(super) shut: bool,
    /// The socket may have room; it says so once (EPOLLET).
    pub(super) writable: bool,
    /// An acknowledgement is due.
    pub(super) owed: bool,
    /// The same ones that are due once more, for each segment that came too early: by three of them the guest knows what was lost
    /// (RFC 5681 section 3.2).
    pub(super) repeats: u8,
}

/// From the host to the guest.
#[derive(Debug)]
pub(super) struct Send {
    /// SND.UNA
    pub(super) una: u32,
    /// SND.NXT; it goes back when something is to be sent again.
    pub(super) next: u32,
    /// The furthest that SND.NXT ever was.
    pub(super) max: u32,
    /// SND.WND
    pub(super) window: u32,
    pub(super) scale: u8,
    pub(super) mss: u16,
    /// From SND.UNA on: what the guest hasn't acknowledged.
    pub(super) kept: Ring,
    /// The socket may have bytes, or an end; it says so once (EPOLLET).
    pub(super) readable: bool,
    /// There is an end, after the bytes.
    pub(super) ending: bool,
    /// All its bytes are in `kept`, or were.
    pub(super) ended: bool,
    pub(super) end_acknowledged: bool,
    /// How often SND.UNA was acknowledged again.
    duplicates: u8,
    /// What was sent when something was sent again: until it is acknowledged, duplicates say nothing new.
    recover: u32,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(super) id: Id,
    pub(super) flow: Flow,
    pub(super) socket: Option<OwnedFd>,
    pub(super) phase: Phase,
    pub(super) receive: Receive,
    pub(super) send: Send,
    /// It is among those that have something for the guest.
    pub(super) listed: bool,
    /// The segment that opens it is due.
    pub(super) opens: bool,
    /// A segment is due that the guest must answer.
    pub(super) probes: bool,
    pub(super) alarm: Alarm,
    /// How often nothing came back.
    pub(super) tries: u32,
    /// Windows are shifted (RFC 7323 section 2).
    pub(super) scales: bool,
}

impl Connection {
    /// With the number that our side starts from (ISS).
    pub(super) fn new(id: Id, flow: Flow, socket: OwnedFd, phase: Phase, iss: u32) -> Connection {
        let receive = Receive {
            next: 0,
            edge: 0,
            waiting: Ring::default(),
            ended: false,
            shut: false,
            writable: true,
            owed: false,
            repeats: 0,
        };
        let send = Send {
            una: iss,
            next: iss,
            max: iss.wrapping_add(1),
            window: 0,
            scale: 0,
            // RFC 9293 section 3.7.1, if nothing is said.
            mss: if flow.is_ipv6() { 1220 } else { 536 },
            kept: Ring::default(),
            readable: true,
            ending: false,
            ended: false,
            end_acknowledged: false,
            duplicates: 0,
            recover: iss,
        };
        let (opens, probes, listed) = (phase == Phase::Calling, false, false);
        Connection {
            id,
            flow,
            socket: Some(socket),
            phase,
            receive,
            send,
            listed,
            opens,
            probes,
            alarm: Alarm::default(),
            tries: 0,
            scales: false,
        }
    }

    /// What the guest says of itself when it opens a connection, or agrees to one.
    pub(super) fn meet(&mut self, hub: &Hub, tcp: &Tcp) {
        self.receive.next = tcp.seq.wrapping_add(1);
        self.receive.edge = self.receive.next;
        self.send.window = tcp.window.into();
        let least = self.send.mss.min(LEAST_MSS);
        let mss = tcp.mss.unwrap_or(self.send.mss);
        self.send.mss = mss.clamp(least, hub.link.mss(self.flow.is_ipv6()));
        // RFC 7323 section 2.2: either both say it, or none does it.
        self.send.scale = tcp.scale.unwrap_or(0);
        self.scales = tcp.scale.is_some();
    }

    /// Whether bytes or an end are with the guest, and not acknowledged.
    pub(super) fn is_under_way(&self) -> bool {
        self.send.una != self.send.max
    }

    /// A segment of the guest's.
    pub(super) fn segment(&mut self, hub: &mut Hub, tcp: &Tcp, text: &Payload<'_>) -> Fate {
        let answers = tcp.has(flag::ACK) && tcp.ack == self.send.una.wrapping_add(1);
        match self.phase {
            Phase::Connecting if tcp.has(flag::RST) => Fate::Gone,
            // It asks again. The host doesn't know yet.
            Phase::Connecting => Fate::Lives,
            Phase::Answering if tcp.has(flag::RST) => Fate::Gone,
            Phase::Answering if tcp.has(flag::SYN) => {
                self.opens = true;
                // Another number is another connection: this one is forgotten, and it will ask again.
                if tcp.seq.wrapping_add(1) == self.receive.next { Fate::Lives } else { Fate::Gone }
            }
            Phase::Answering if !answers => Fate::Lives,
            Phase::Answering => {
                self.open(tcp.ack);
                self.established(hub, tcp, text)
            }
            Phase::Calling if answers && tcp.has(flag::RST) => Fate::Gone,
            Phase::Calling if answers && tcp.has(flag::SYN) => {
                self.meet(hub, tcp);
                self.open(tcp.ack);
                self.receive.owed = true;
                self.arm(hub);
                Fate::Lives
            }
            Phase::Calling => Fate::Lives,
            Phase::Open | Phase::Lingering => self.established(hub, tcp, text),
        }
    }

    fn open(&mut self, ack: u32) {
        self.phase = Phase::Open;
        (self.send.una, self.send.next, self.send.max) = (ack, ack, ack);
        self.opens = false;
        self.tries = 0;
    }

    /// Section 3.10.7.4.
    fn established(&mut self, hub: &mut Hub, tcp: &Tcp, text: &Payload<'_>) -> Fate {
        if tcp.has(flag::RST) {
            let within = distance(self.receive.next, tcp.seq) <= SIZE as u32;
            return if within { Fate::Gone } else { Fate::Lives };
        }
        // RFC 5961 section 4: it may be of the past, and whoever sent it tells by what it answers.
        if tcp.has(flag::SYN) {
            self.receive.owed = true;
            return Fate::Lives;
        }
        if !tcp.has(flag::ACK) {
            return Fate::Lives;
        }
        if after(tcp.ack, self.send.max) {
            self.receive.owed = true;
            return Fate::Lives;
        }
        self.acknowledged(hub, tcp, text.len());
        match self.take(hub, tcp, text) {
            Ok(()) => Fate::Lives,
            Err(_) => Fate::Reset,
        }
    }

    fn acknowledged(&mut self, hub: &mut Hub, tcp: &Tcp, length: usize) {
        let send = &mut self.send;
        if after(send.una, tcp.ack) {
            return;
        }
        let window = u32::from(tcp.window) << send.scale;
        let news = distance(send.una, tcp.ack) as usize;
        // Who says again and again that it has no room lives, but needn't be asked as often.
        self.tries = if news > 0 || window > 0 { 0 } else { self.tries.min(PATIENT) };
        if news > 0 {
            let bytes = news.min(send.kept.len());
            send.kept.consume(&mut hub.pool, bytes);
            send.end_acknowledged |= news > bytes;
            send.una = tcp.ack;
            if after(send.una, send.next) {
                send.next = send.una;
            }
            send.duplicates = 0;
        } else if length == 0 && window == send.window && send.una != send.max && !tcp.has(flag::FIN) {
            // RFC 5681 section 3.2: the third says that something was lost. There is no other road on which it could still come.
            send.duplicates = send.duplicates.saturating_add(1);
            if send.duplicates == 3 && !after(send.recover, send.una) {
                send.recover = send.max;
                send.next = send.una;
            }
        }
        send.window = window;
        self.arm(hub);
    }

    /// Takes the text, and the end.
    fn take(&mut self, hub: &mut Hub, tcp: &Tcp, text: &Payload<'_>) -> Result<(), Errno> {
        let end = tcp.has(flag::FIN);
        let receive = &mut self.receive;
        // Positive if we have the first of it already, or all.
        let known = distance(tcp.seq, receive.next) as i32;
        if text.len() == 0 && !end {
            // Who says nothing at a place where nothing is expected wants to know whether we live (RFC 9293 section 3.8.4).
            receive.owed |= known != 0;
            return Ok(());
        }
        receive.owed = true;
        let Ok(known) = usize::try_from(known) else {
            receive.repeats = (receive.repeats + 1).min(MOST_REPEATS);
            return Ok(());
        };
        receive.repeats = 0;
        if known > text.len() || receive.ended || self.phase != Phase::Open {
            return Ok(());
        }
        let promised = distance(receive.next, receive.edge) as usize;
        let fresh = text.part(known, promised);
        let taken = self.forward(&mut hub.pool, &fresh)?;
        // No more than was promised, which is no more than SIZE.
        self.receive.next = self.receive.next.wrapping_add(taken as u32);
        if end && known + taken == text.len() {
            self.receive.next = self.receive.next.wrapping_add(1);
            self.receive.ended = true;
        }
        self.finish();
        Ok(())
    }

    /// Gives bytes to the socket; what it doesn't take waits. How many were taken: all, unless there is no buffer.
    fn forward(&mut self, pool: &mut Pool, text: &Payload<'_>) -> Result<usize, Errno> {
        let mut done = 0;
        let receive = &mut self.receive;
        let takes = receive.writable && receive.waiting.is_empty() && text.len() > 0;
        if let Some(socket) = self.socket.as_ref().filter(|_| takes) {
            done = match rustix::io::retry_on_intr(|| guest::write(socket, &text.pieces())) {
                Err(Errno::AGAIN) => 0,
                result => result?,
            };
            receive.writable = done == text.len();
        }
        let rest = text.part(done, SIZE);
        if rest.len() > 0
            && let Some([first, second]) = receive.waiting.room(pool, rest.len())
        {
            let count = rest.part(0, first.len()).copy_to(first);
            let count = count + rest.part(count, second.len()).copy_to(second);
            receive.waiting.add(count);
            done += count;
        }
        Ok(done)
    }

    /// Tells the socket that there is no more, once it has all.
    fn finish(&mut self) {
        if self.receive.ended && self.receive.waiting.is_empty() && !self.receive.shut {
            self.receive.shut = true;
            // If it isn't connected any more, reading says so.
            let _ = self.socket.as_ref().map(|socket| rustix::net::shutdown(socket, Shutdown::Write));
        }
    }

    /// The socket has something to say.
    pub(super) fn ready(&mut self, hub: &mut Hub, flags: EventFlags) -> Fate {
        let Some(socket) = &self.socket else { return Fate::Lives };
        if self.phase == Phase::Connecting {
            if !flags.intersects(EventFlags::OUT | EventFlags::ERR | EventFlags::HUP) {
                return Fate::Lives;
            }
            if let Ok(Err(errno)) | Err(errno) = rustix::net::sockopt::socket_error(socket) {
                return Fate::Failed(errno);
            }
            // What follows may be there already.
            self.phase = Phase::Answering;
            self.opens = true;
        }
        self.send.ending |= flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        self.send.readable |= self.send.ending || flags.contains(EventFlags::IN);
        if flags.contains(EventFlags::OUT) {
            self.receive.writable = true;
            return self.flush(&mut hub.pool);
        }
        Fate::Lives
    }

    /// Gives the socket what waits for it.
    fn flush(&mut self, pool: &mut Pool) -> Fate {
        let Some(socket) = &self.socket else { return Fate::Lives };
        let receive = &mut self.receive;
        while !receive.waiting.is_empty() {
            let pieces = receive.waiting.part(0, receive.waiting.len()).map(std::io::IoSlice::new);
            match rustix::io::writev(socket, &pieces) {
                Ok(count) => receive.waiting.consume(pool, count),
                Err(Errno::AGAIN) => {
                    receive.writable = false;
                    break;
                }
                Err(Errno::INTR) => {}
                Err(_) => return Fate::Reset,
            }
        }
        self.finish();
        Fate::Lives
    }

    /// Both directions are over.
    pub(super) fn is_over(&self) -> bool {
        self.receive.shut && self.send.end_acknowledged
    }
}
