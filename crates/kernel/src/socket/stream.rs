//! Two ways of bytes between two ends: what a connected Unix socket, and a TCP connection within a sandbox, are made of.
//!
//! Both ways are under one lock, so that an end sees a close whole. Bytes go straight from the sender's memory into the way's ring, and from there
//! to the receiver: there are no segments, acknowledgements or timers, for nothing is ever lost.
//!
//! Beside the bytes lie *marks*: who sent them, and which open files came along. Bytes of a stream with equal marks are one; with records
//! (`SOCK_SEQPACKET`) each message has a mark of its own, and is received whole.

use super::control::Sent;
use super::data::{Sink, Source};
use crate::fs::Description;
use crate::fs::pipe::Ring;
use crate::sync::Mutex;
use crate::wait::{Events, Queue};
use crate::{Errno, Result};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use insula_abi::net as n;
use insula_abi::socket::Ucred;

/// What a mark costs beside its bytes, so that empty records aren't free.
const MARK: usize = 512;

/// How a connection behaves where families differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// A stream of unix(7).
    Unix,
    /// Records of unix(7).
    Records,
    /// A stream of tcp(7).
    Tcp,
}

/// Two ends of a connection.
pub struct Connection {
    rules: Rules,
    state: Mutex<[Way; 2]>,
    queues: [Arc<Queue>; 2],
    /// Whether either end wants to know who sends (`SO_PASSCRED`).
    senders: AtomicBool,
    /// When the last bytes came to each end, if somebody noted it: in nanoseconds, by the clock of the day.
    arrivals: [AtomicU64; 2],
}

/// What goes to one end.
struct Way {
    ring: Ring,
    marks: VecDeque<Mark>,
    /// Bytes that have room.
    capacity: usize,
    /// The sender sends no more.
    ended: bool,
    /// The receiver wants no more.
    refused: bool,
    /// The receiver is closed.
    gone: bool,
    /// What the receiver is told, once, when it has read all there was.
    error: Option<Errno>,
    /// Where in the ring the byte lies that is urgent (`MSG_OOB`), from its first byte on, and that byte until it is read. The place stays after that.
    urgent: Option<(usize, Option<u8>)>,
    /// Whether that byte stays among the others (`SO_OOBINLINE`).
    inline: bool,
    /// Bytes that ever went this way.
    total: u64,
}

/// Bytes of one sender.
struct Mark {
    len: usize,
    sender: Option<Ucred>,
    rights: Vec<Arc<Description>>,
}

/// What was taken out of a way.
#[derive(Default)]
pub struct Taken {
    /// Bytes that were copied.
    pub count: usize,
    /// Bytes that the record had.
    pub whole: usize,
    /// Who sent them.
    pub sender: Option<Ucred>,
    /// What came along.
    pub rights: Vec<Arc<Description>>,
    /// Nothing was taken: it must be asked for so that open files may be.
    pub has_rights: bool,
}

/// How something is to be taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct Take {
    /// It stays there (`MSG_PEEK`).
    pub peek: bool,
    /// So many bytes are passed over, when peeking.
    pub offset: usize,
    /// Bytes are thrown away instead of copied.
    pub discard: bool,
    /// Bytes of two senders are kept apart.
    pub one_sender: bool,
    /// Open files may be taken. If not, and some are there, nothing is taken ([`Taken::has_rights`]).
    pub rights: bool,
}

impl Way {
    fn new(capacity: usize) -> Self {
        Way {
            ring: Ring::default(),
            marks: VecDeque::new(),
            capacity,
            ended: false,
            refused: false,
            gone: false,
            error: None,
            urgent: None,
            inline: false,
            total: 0,
        }
    }

    fn used(&self, rules: Rules) -> usize {
        let marks = if rules == Rules::Records { self.marks.len() } else { self.marks.len().saturating_sub(1) };
        self.ring.len() + marks * MARK
    }

    /// Whether a writer is told of room: not of each byte, for that would wake it for each.
    fn is_writable(&self, rules: Rules) -> bool {
        let used = self.used(rules);
        match rules {
            Rules::Tcp => used < self.capacity - self.capacity / 3,
            _ => used * 4 <= self.capacity,
        }
    }

    /// All that is in it, to be dropped when no lock is held.
    fn clear(&mut self) -> VecDeque<Mark> {
        self.ring = Ring::default();
        self.urgent = None;
        core::mem::take(&mut self.marks)
    }

    fn add_mark(&mut self, len: usize, sender: Option<Ucred>, rights: Vec<Arc<Description>>, records: bool) {
        self.total += len as u64;
        match self.marks.back_mut() {
            Some(last) if !records && rights.is_empty() && last.sender == sender && last.rights.is_empty() => last.len += len,
            _ => self.marks.push_back(Mark { len, sender, rights }),
        }
    }

    fn take_stream(&mut self, sink: &mut Sink<'_>, how: Take) -> Result<Taken> {
        let mut taken = Taken::default();
        let (mut index, mut at, mut skip) = (0, 0, how.offset);
        while sink.left() > 0
            && let Some(mark) = self.marks.get_mut(index)
        {
            if how.peek && skip >= mark.len {
                (skip, at, index) = (skip - mark.len, at + mark.len, index + 1);
                continue;
            }
            if taken.count > 0 && how.one_sender && mark.sender != taken.sender {
                break;
            }
            let mut want = (mark.len - skip).min(sink.left());
            // A read stops before what is urgent.
            if let Some((urgent, _)) = self.urgent
                && !how.peek
                && urgent > 0
            {
                want = want.min(urgent);
            }
            let count = match copy(&self.ring, at + skip, want, sink, how.discard) {
                Ok(count) => count,
                Err(_) if taken.count > 0 => break,
                Err(errno) => return Err(errno),
            };
            taken.sender = mark.sender;
            taken.count += count;
            let whole = count == mark.len - skip;
            let stop = !mark.rights.is_empty() || count < want || self.urgent.is_some_and(|(at, _)| at == count);
            if how.peek {
                taken.rights.extend(mark.rights.iter().cloned());
                (at, skip, index) = (at + mark.len, 0, index + 1);
            } else {
                taken.rights.append(&mut mark.rights);
                mark.len -= count;
                self.ring.skip(count);
                self.urgent = self.urgent.and_then(|(at, byte)| Some((at.checked_sub(count)?, byte)));
                if whole {
                    self.marks.pop_front();
                }
            }
            if stop || !whole {
                break;
            }
        }
        Ok(taken)
    }

    fn take_record(&mut self, sink: &mut Sink<'_>, how: Take) -> Result<Taken> {
        let Some(mark) = self.marks.front_mut() else { return Ok(Taken::default()) };
        let want = mark.len.min(sink.left());
        let count = copy(&self.ring, 0, want, sink, false)?;
        let mut taken = Taken { count, whole: mark.len, sender: mark.sender, ..Taken::default() };
        if how.peek {
            taken.rights.extend(mark.rights.iter().cloned());
        } else {
            taken.rights.append(&mut mark.rights);
            self.ring.skip(taken.whole);
            self.marks.pop_front();
        }
        if count < want { Err(Errno::EFAULT) } else { Ok(taken) }
    }
}

/// Copies `want` bytes from `at` on out of a ring, where they stay; answers how many there was memory for.
fn copy(ring: &Ring, at: usize, want: usize, sink: &mut Sink<'_>, discard: bool) -> Result<usize> {
    if discard {
        sink.skip(want);
        return Ok(want);
    }
    let [first, second] = ring.filled(at + want);
    let pieces = if at < first.len() { [&first[at..], second] } else { [&second[at - first.len()..], &[]] };
    let mut done = 0;
    for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
        match sink.put(piece) {
            Ok(count) => {
                done += count;
                if count < piece.len() {
                    break;
                }
            }
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(done)
}

impl Connection {
    /// A new one, with room for so many bytes to each end, and who waits at each.
    pub fn new(rules: Rules, capacity: [usize; 2], queues: [Arc<Queue>; 2]) -> Arc<Self> {
        Arc::new(Connection {
            rules,
            state: Mutex::new(capacity.map(Way::new)),
            queues,
            senders: AtomicBool::new(false),
            arrivals: Default::default(),
        })
    }

    /// Either end wants to know who sends.
    pub fn tell_senders(&self) {
        self.senders.store(true, Ordering::Relaxed);
    }

    /// Whether one does.
    pub fn tells_senders(&self) -> bool {
        self.senders.load(Ordering::Relaxed)
    }

    /// What end `from` sends may wait up to so many bytes, from now on.
    pub fn set_capacity(&self, from: usize, bytes: usize) {
        let mut state = self.state.lock();
        state[1 - from].capacity = bytes;
        let room = state[1 - from].is_writable(self.rules);
        drop(state);
        if room {
            self.queues[from].wake(Events::WRITABLE);
        }
    }

    /// End `from` sends.
    ///
    /// # Errors
    /// `EAGAIN`: there is no room. `EPIPE`: nobody will read it. `EMSGSIZE`: no record is that long. `EFAULT`.
    pub fn send(
        &self,
        from: usize,
        data: &mut Source<'_>,
        control: &mut Sent,
        sender: Option<Ucred>,
        urgent: bool,
    ) -> Result<usize> {
        let records = self.rules == Rules::Records;
        let mut state = self.state.lock();
        if state[1 - from].ended {
            return Err(Errno::EPIPE);
        }
        let all = data.left();
        let way = &mut state[1 - from];
        if way.gone || way.refused {
            if self.rules != Rules::Tcp {
                return Err(Errno::EPIPE);
            }
            let count = all.min(way.capacity);
            data.skip(count);
            return Self::send_to_nobody(state, &self.queues, from, count);
        }
        if all == 0 && !records {
            return Ok(0);
        }
        let used = way.used(self.rules);
        let room = way.capacity.saturating_sub(used);
        if records && all > way.capacity.saturating_sub(32) {
            return Err(Errno::EMSGSIZE);
        }
        if room == 0 || records && used > 0 && room < all {
            return Err(Errno::EAGAIN);
        }
        let before = way.ring.len();
        let count = data.give_to(&mut way.ring, if records { all } else { all.min(room) })?;
        if records && count < all {
            way.ring.truncate(before);
            return Err(Errno::EFAULT);
        }
        let mut bytes = count;
        if urgent && count == all {
            // The last byte goes beside the others, unless they are wanted together.
            way.urgent = Some((way.ring.len() - 1, way.ring.last()));
            if !way.inline {
                way.ring.truncate(before + count - 1);
                bytes -= 1;
            }
        }
        if bytes > 0 || records {
            way.add_mark(bytes, sender, core::mem::take(&mut control.rights), records);
        }
        drop(state);
        let events = if urgent { Events::READABLE | Events::PRI } else { Events::READABLE };
        self.queues[1 - from].wake(events);
        Ok(count)
    }

    /// Over TCP, what is sent to a socket that was closed is answered with a reset, which the next call tells; to one that only reads no more,
    /// it is lost. Either way no more of it goes out than has room.
    fn send_to_nobody(
        mut state: crate::sync::MutexGuard<'_, [Way; 2]>,
        queues: &[Arc<Queue>; 2],
        from: usize,
        count: usize,
    ) -> Result<usize> {
        if count > 0 && state[1 - from].gone {
            state[1 - from].ended = true;
            state[from].ended = true;
            state[from].error.get_or_insert(Errno::EPIPE);
            drop(state);
            queues[from].wake(Events::all());
        }
        Ok(count)
    }

    /// End `side` receives; 0 bytes, of a stream, are its end.
    ///
    /// # Errors
    /// `EAGAIN`: nothing is there. `ECONNRESET`: the other end closed and had not read all. `EFAULT`.
    pub fn receive(&self, side: usize, sink: &mut Sink<'_>, how: Take) -> Result<Taken> {
        let mut state = self.state.lock();
        let way = &mut state[side];
        let nothing = match self.rules {
            Rules::Records => way.marks.is_empty(),
            _ => way.ring.len() <= how.offset,
        };
        if nothing {
            if let Some(error) = way.error.take() {
                // After EPIPE a reader just sees the end.
                return if error == Errno::EPIPE { Ok(Taken::default()) } else { Err(error) };
            }
            return if way.ended || way.refused { Ok(Taken::default()) } else { Err(Errno::EAGAIN) };
        }
        if !how.rights && way.marks.iter().any(|mark| !mark.rights.is_empty()) {
            return Ok(Taken { has_rights: true, ..Taken::default() });
        }
        let was_writable = way.is_writable(self.rules);
        let taken = match self.rules {
            Rules::Records => way.take_record(sink, how)?,
            _ => way.take_stream(sink, how)?,
        };
        let wakes = !was_writable && way.is_writable(self.rules);
        drop(state);
        if wakes {
            self.queues[1 - side].wake(Events::WRITABLE);
        }
        Ok(taken)
    }

    /// The urgent byte of what goes to `side` (`MSG_OOB`).
    ///
    /// # Errors
    /// `EINVAL`: there is none, or it was read.
    pub fn urgent(&self, side: usize, peek: bool) -> Result<u8> {
        let mut state = self.state.lock();
        let (_, byte) = state[side].urgent.as_mut().ok_or(Errno::EINVAL)?;
        let urgent = byte.ok_or(Errno::EINVAL)?;
        if !peek {
            *byte = None;
        }
        Ok(urgent)
    }

    /// Whether the urgent byte for `side` stays among the others (`SO_OOBINLINE`).
    pub fn set_inline(&self, side: usize, inline: bool) {
        self.state.lock()[side].inline = inline;
    }

    /// Whether the next byte for `side` is the urgent one (`SIOCATMARK`).
    pub fn at_urgent(&self, side: usize) -> bool {
        self.state.lock()[side].urgent.is_some_and(|(at, _)| at == 0)
    }

    /// End `side` sends, or reads, no more.
    pub fn shutdown(&self, side: usize, read: bool, write: bool) {
        let mut state = self.state.lock();
        state[side].refused |= read;
        state[1 - side].ended |= write;
        drop(state);
        let all = Events::READABLE | Events::WRITABLE | Events::HUP | Events::RDHUP;
        self.queues[side].wake(all);
        self.queues[1 - side].wake(all);
    }

    /// End `side` is closed. Answers whether that resets the connection: what came was not all read, or `reset` wants it so.
    pub fn close(&self, side: usize, reset: bool) -> bool {
        let mut state = self.state.lock();
        let reset = reset || state[side].used(self.rules) > 0;
        let dropped = state[side].clear();
        (state[side].gone, state[side].refused) = (true, true);
        let first = !state[side].ended;
        let to_peer = &mut state[1 - side];
        to_peer.ended = true;
        if reset && !to_peer.gone {
            to_peer.error = Some(Errno::ECONNRESET);
        }
        if reset || self.rules != Rules::Tcp {
            // The other end can't send any more, either.
            state[side].ended = true;
        }
        drop(state);
        drop(dropped);
        self.queues[1 - side].wake(Events::all());
        first && !reset
    }

    /// The error that `side` is to be told, which is told once (`SO_ERROR`).
    pub fn take_error(&self, side: usize) -> Option<Errno> {
        self.state.lock()[side].error.take()
    }

    /// Gives `side` an error.
    pub fn set_error(&self, side: usize, error: Errno) {
        self.state.lock()[side].error = Some(error);
    }

    /// What `side` is ready for.
    pub fn poll(&self, side: usize) -> Events {
        let state = self.state.lock();
        let (mine, theirs) = (&state[side], &state[1 - side]);
        let mut events = Events::empty();
        let (no_read, no_write) = (mine.ended || mine.refused, theirs.ended);
        if !mine.marks.is_empty() || no_read {
            events |= Events::READABLE;
        }
        if no_read {
            events |= Events::RDHUP;
        }
        if no_read && no_write {
            events |= Events::HUP;
        }
        if mine.error.is_some() {
            events |= Events::ERR;
        }
        if mine.urgent.is_some_and(|(_, byte)| byte.is_some()) {
            events |= Events::PRI;
        }
        if theirs.is_writable(self.rules) || no_write && self.rules == Rules::Tcp {
            events |= Events::WRITABLE;
        }
        events
    }

    /// Bytes that `side` can read: of records, those of the first.
    pub fn unread(&self, side: usize) -> usize {
        let state = self.state.lock();
        match self.rules {
            Rules::Records => state[side].marks.front().map_or(0, |mark| mark.len),
            _ => state[side].ring.len(),
        }
    }

    /// How it stands for `side`: whether the other end has ended its way, and whether this end has; and whether the other is closed.
    pub fn ended(&self, side: usize) -> (bool, bool, bool) {
        let state = self.state.lock();
        (state[side].ended, state[1 - side].ended, state[1 - side].gone)
    }

    /// Notes that bytes come to `side` at `now`, in nanoseconds by the clock of the day.
    pub fn note_arrival(&self, side: usize, now: u64) {
        self.arrivals[side].store(now, Ordering::Relaxed);
    }

    /// When the last bytes came to `side`, as far as that was noted.
    pub fn arrival(&self, side: usize) -> Option<u64> {
        Some(self.arrivals[side].load(Ordering::Relaxed)).filter(|at| *at != 0)
    }

    /// Bytes that ever came to `side`, and went from it.
    pub fn totals(&self, side: usize) -> (u64, u64) {
        let state = self.state.lock();
        (state[side].total, state[1 - side].total)
    }

    /// Calls `each` with all open files on their way to `side`.
    pub fn each_right(&self, side: usize, each: &mut dyn FnMut(&Arc<Description>)) {
        let state = self.state.lock();
        state[side].marks.iter().flat_map(|mark| &mark.rights).for_each(each);
    }

    /// Takes out all open files on their way to `side`.
    pub fn take_rights(&self, side: usize) -> Vec<Arc<Description>> {
        let mut state = self.state.lock();
        state[side].marks.iter_mut().flat_map(|mark| core::mem::take(&mut mark.rights)).collect()
    }
}

/// What receive flags say of how to take.
pub fn take_of(flags: u32) -> Take {
    Take { peek: flags & n::MSG_PEEK != 0, ..Take::default() }
}
