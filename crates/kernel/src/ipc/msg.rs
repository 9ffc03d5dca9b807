//! Queues of messages, msgget(2).

use super::{Ids, Object, Perm};
use crate::sync::Mutex;
use crate::wait::{Events, Observer, Pollable, Queue as WaitQueue, Registration};
use crate::{Errno, Result};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use insula_abi::ipc::{MsqidDs, msg};

/// The longest message, in bytes (`MSGMAX`).
pub const LONGEST: u64 = 8192;
/// Bytes that a queue holds at first (`MSGMNB`).
pub const ROOM: u64 = 16384;
/// The most queues (`MSGMNI`).
pub const MOST_QUEUES: usize = 32000;
/// Bytes of all messages, with [`OVERHEAD`] for each: Linux has no such limit, but charges the memory to who sends them.
const MOST_BYTES: usize = 64 << 20;
/// What a message takes beside its text.
const OVERHEAD: usize = 64;

/// All queues of a kernel.
#[derive(Default)]
pub struct Messages {
    /// The queues.
    pub queues: Mutex<Ids<Queue>>,
    bytes: Arc<AtomicUsize>,
}

/// A queue.
pub struct Queue {
    perm: Mutex<Perm>,
    state: Mutex<State>,
    senders: Arc<WaitQueue>,
    receivers: Arc<WaitQueue>,
    bytes: Arc<AtomicUsize>,
}

/// A message.
pub struct Message {
    /// Its type, at least 1.
    pub kind: i64,
    /// Its text.
    pub text: Vec<u8>,
}

#[derive(Default)]
struct State {
    messages: VecDeque<Message>,
    told: MsqidDs,
    removed: bool,
}

/// Which messages somebody wants, msgrcv(2).
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The type, or with a minus the highest of several; 0 is any.
    pub kind: i64,
    /// Bytes there is room for.
    pub room: usize,
    /// `MSG_*`.
    pub flags: u32,
}

impl Messages {
    /// A new queue.
    pub fn make(&self, perm: Perm, now: i64) -> Queue {
        let told = MsqidDs { qbytes: ROOM, ctime: now, ..MsqidDs::default() };
        Queue {
            perm: Mutex::new(perm),
            state: Mutex::new(State { told, ..State::default() }),
            senders: WaitQueue::new(),
            receivers: WaitQueue::new(),
            bytes: self.bytes.clone(),
        }
    }
}

impl Object for Queue {
    fn perm(&self) -> &Mutex<Perm> {
        &self.perm
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let held: usize = self.state.lock().messages.iter().map(|message| message.text.len() + OVERHEAD).sum();
        self.bytes.fetch_sub(held, Ordering::Relaxed);
    }
}

impl Pollable for Queue {
    fn poll(&self) -> Events {
        Events::empty()
    }

    fn observe(&self, interest: Events, observer: &Arc<dyn Observer>) -> Vec<Registration> {
        let queue = if interest.contains(Events::OUT) { &self.senders } else { &self.receivers };
        alloc::vec![queue.register(Events::all(), observer.clone())]
    }
}

impl Queue {
    /// What msgctl(2) tells, without owner and mode.
    pub fn told(&self) -> MsqidDs {
        let state = self.state.lock();
        MsqidDs { qnum: state.messages.len() as u64, ..state.told }
    }

    /// It may hold so many bytes, and is changed now.
    pub fn set(&self, room: u64, now: i64) {
        {
            let mut state = self.state.lock();
            (state.told.qbytes, state.told.ctime) = (room, now);
        }
        self.senders.wake(Events::WRITABLE);
    }

    /// It is removed: who waits learns of it.
    pub fn remove(&self) {
        self.state.lock().removed = true;
        self.senders.wake(Events::WRITABLE);
        self.receivers.wake(Events::READABLE);
    }

    /// Adds a message, of which nothing is left if that was done.
    ///
    /// # Errors
    /// `EAGAIN`: there is no room. `EIDRM`. `ENOMEM`: all queues together hold too much.
    pub fn send(&self, message: &mut Option<Message>, pid: i32, now: i64) -> Result<()> {
        let mut state = self.state.lock();
        if state.removed {
            return Err(Errno::EIDRM);
        }
        let len = message.as_ref().map_or(0, |message| message.text.len());
        let room = state.told.qbytes;
        if state.told.cbytes + len as u64 > room || state.messages.len() as u64 + 1 > room {
            return Err(Errno::EAGAIN);
        }
        let fits = |held: usize| held.checked_add(len + OVERHEAD).filter(|held| *held <= MOST_BYTES);
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).map_err(|_| Errno::ENOMEM)?;
        state.messages.extend(message.take());
        state.told.cbytes += len as u64;
        (state.told.lspid, state.told.stime) = (pid, now);
        drop(state);
        self.receivers.wake(Events::READABLE);
        Ok(())
    }

    /// Takes a message; its text may be longer than there is room for.
    ///
    /// # Errors
    /// `EAGAIN`: there is none of these. `E2BIG`: it is too long. `EIDRM`.
    pub fn receive(&self, wanted: &Wanted, pid: i32, now: i64) -> Result<Message> {
        let mut state = self.state.lock();
        if state.removed {
            return Err(Errno::EIDRM);
        }
        let index = state.find(wanted).ok_or(Errno::EAGAIN)?;
        let len = state.messages.get(index).map_or(0, |message| message.text.len());
        if len > wanted.room && wanted.flags & msg::NOERROR == 0 {
            return Err(Errno::E2BIG);
        }
        if wanted.flags & msg::COPY != 0 {
            let message = state.messages.get(index).ok_or(Errno::EAGAIN)?;
            return Ok(Message { kind: message.kind, text: message.text.clone() });
        }
        let message = state.messages.remove(index).ok_or(Errno::EAGAIN)?;
        state.told.cbytes -= len as u64;
        (state.told.lrpid, state.told.rtime) = (pid, now);
        drop(state);
        self.bytes.fetch_sub(len + OVERHEAD, Ordering::Relaxed);
        self.senders.wake(Events::WRITABLE);
        Ok(message)
    }
}

impl State {
    fn find(&self, wanted: &Wanted) -> Option<usize> {
        let kinds = self.messages.iter().map(|message| message.kind).enumerate();
        let mut kinds = kinds.map(|(index, kind)| (kind, index));
        match wanted.kind {
            // Then the number says which, in the order in which they came.
            nth if wanted.flags & msg::COPY != 0 => usize::try_from(nth).ok().filter(|nth| *nth < self.messages.len()),
            0 => (!self.messages.is_empty()).then_some(0),
            kind if kind > 0 && wanted.flags & msg::EXCEPT != 0 => {
                kinds.find(|(other, _)| *other != kind).map(|(_, index)| index)
            }
            kind if kind > 0 => kinds.find(|(other, _)| *other == kind).map(|(_, index)| index),
            // i64::MIN has no positive counterpart: as Linux, it means all.
            most => kinds.filter(|(kind, _)| *kind <= most.checked_neg().unwrap_or(i64::MAX)).min().map(|(_, index)| index),
        }
    }
}
