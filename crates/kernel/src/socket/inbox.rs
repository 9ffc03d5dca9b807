//! Datagrams that wait to be received.

use super::address::Address;
use super::control::Item;
use super::data::Sink;
use crate::fs::Description;
use crate::sync::Mutex;
use crate::wait::{Events, Queue};
use crate::{Errno, Result};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use insula_abi::PAGE;
use insula_abi::net as n;
use insula_abi::socket::Ucred;

/// What Linux keeps of each datagram beside its bytes: `struct sk_buff`, and `struct skb_shared_info` behind the bytes.
const HEAD: usize = 256;
const TAIL: usize = 320;

/// The longest piece of memory that a datagram's bytes are put into together.
const PIECE: usize = 16 << 10;

/// Room for headers of a network in front of the bytes, and the least piece with them.
const HEADERS: usize = 59;
const LEAST: usize = 576;

/// A datagram.
#[derive(Default)]
pub struct Datagram {
    /// Its bytes.
    pub data: Vec<u8>,
    /// From whom.
    pub from: Option<Address>,
    /// Of whom.
    pub sender: Option<Ucred>,
    /// Open files that come along.
    pub rights: Vec<Arc<Description>>,
    /// What the network tells of it.
    pub items: Vec<Item>,
    /// What it counts for its sender.
    pub charge: Option<Charge>,
}

impl Datagram {
    /// What it takes of a buffer, in bytes: as on Linux the memory it lies in, so that programs find as many to have room as there.
    pub fn cost(&self) -> usize {
        let all = HEADERS + self.data.len() + TAIL;
        let lies_in = if all <= LEAST {
            LEAST
        } else if all <= PIECE {
            all.next_power_of_two()
        } else {
            // Only headers are in the piece; the rest is gathered from pages.
            LEAST + self.data.len()
        };
        HEAD + lies_in
    }
}

/// The same of one of `len` bytes that doesn't leave the machine, and has no headers.
pub fn local_cost(len: usize) -> usize {
    let together = len.min(PIECE - TAIL);
    HEAD + (together + TAIL).next_power_of_two() + (len - together).next_multiple_of(PAGE as usize)
}

/// What a sender has under way.
pub struct Outbox {
    bytes: AtomicUsize,
    queue: Arc<Queue>,
}

impl Outbox {
    /// With nothing under way; who waits for room waits in `queue`.
    pub fn new(queue: &Arc<Queue>) -> Arc<Self> {
        Arc::new(Outbox { bytes: AtomicUsize::new(0), queue: queue.clone() })
    }

    /// Bytes under way.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// So many more are under way until what is answered is dropped.
    pub fn charge(self: &Arc<Self>, bytes: usize) -> Charge {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Charge { outbox: self.clone(), bytes }
    }
}

/// Bytes under way; no longer when it is dropped.
pub struct Charge {
    outbox: Arc<Outbox>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.outbox.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.outbox.queue.wake(Events::WRITABLE);
    }
}

/// Datagrams that wait.
#[derive(Default)]
pub struct Inbox(Mutex<State>);

#[derive(Default)]
struct State {
    datagrams: VecDeque<Datagram>,
    cost: usize,
    /// Those that found no room.
    lost: u32,
    closed: bool,
}

impl Inbox {
    /// Puts one in, taking it out of `datagram`. There is always room for the first.
    ///
    /// # Errors
    /// `ECONNREFUSED`: the inbox is closed. `EAGAIN`: with it more than `most` (by cost) would wait. Then `datagram` is left.
    pub fn push(&self, datagram: &mut Option<Datagram>, most: usize) -> Result<()> {
        let mut state = self.0.lock();
        if state.closed {
            return Err(Errno::ECONNREFUSED);
        }
        let cost = datagram.as_ref().map_or(0, Datagram::cost);
        if !state.datagrams.is_empty() && state.cost.saturating_add(cost) > most {
            state.lost = state.lost.wrapping_add(1);
            return Err(Errno::EAGAIN);
        }
        if let Some(datagram) = datagram.take() {
            state.cost += cost;
            state.datagrams.push_back(datagram);
        }
        Ok(())
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.0.lock().datagrams.len()
    }

    /// How many found no room so far.
    pub fn lost(&self) -> u32 {
        self.0.lock().lost
    }

    /// What poll(2) tells of a socket of datagrams, but whether it can be written to.
    pub fn events(&self, error: bool, no_read: bool, no_write: bool) -> Events {
        let mut events = Events::empty();
        if error {
            events |= Events::ERR;
        }
        if no_read || !self.is_empty() {
            events |= Events::READABLE;
        }
        if no_read {
            events |= Events::RDHUP;
        }
        if no_read && no_write {
            events |= Events::HUP;
        }
        events
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the first.
    pub fn first_len(&self) -> usize {
        self.0.lock().datagrams.front().map_or(0, |first| first.data.len())
    }

    /// Whether open files come along with the first.
    pub fn has_rights(&self) -> bool {
        self.0.lock().datagrams.front().is_some_and(|first| !first.rights.is_empty())
    }

    /// Takes the first, or copies it if `flags` have `MSG_PEEK`: what doesn't fit is lost. The count is the whole length if `flags` have `MSG_TRUNC`.
    ///
    /// # Errors
    /// `EAGAIN`: there is none. `EFAULT`: it is lost.
    pub fn receive(&self, sink: &mut Sink<'_>, flags: u32) -> Result<super::Received> {
        let peek = flags & n::MSG_PEEK != 0;
        let mut state = self.0.lock();
        let taken;
        let (datagram, rights, items) = if peek {
            let first = state.datagrams.front().ok_or(Errno::EAGAIN)?;
            (first, first.rights.clone(), first.items.clone())
        } else {
            let mut first = state.datagrams.pop_front().ok_or(Errno::EAGAIN)?;
            state.cost -= first.cost();
            drop(state);
            let (rights, items) = (core::mem::take(&mut first.rights), core::mem::take(&mut first.items));
            taken = first;
            (&taken, rights, items)
        };
        let whole = datagram.data.len();
        let want = whole.min(sink.left());
        let count = if want == 0 { 0 } else { sink.put(&datagram.data[..want])? };
        if count < want {
            return Err(Errno::EFAULT);
        }
        Ok(super::Received {
            count: if flags & n::MSG_TRUNC != 0 { whole } else { count },
            flags: if count < whole { n::MSG_TRUNC } else { 0 },
            from: datagram.from,
            credentials: datagram.sender,
            rights,
            items,
        })
    }

    /// Takes out what waits and `keep` doesn't want to stay, to be dropped by the caller.
    pub fn retain(&self, keep: impl Fn(&Datagram) -> bool) -> Vec<Datagram> {
        let mut state = self.0.lock();
        let (stay, go): (VecDeque<_>, VecDeque<_>) = core::mem::take(&mut state.datagrams).into_iter().partition(keep);
        state.cost = stay.iter().map(Datagram::cost).sum();
        state.datagrams = stay;
        go.into()
    }

    /// Takes nothing in any more; answers what was there.
    pub fn close(&self) -> Vec<Datagram> {
        self.0.lock().closed = true;
        self.retain(|_| false)
    }

    /// Calls `each` with all open files that wait.
    pub fn each_right(&self, each: &mut dyn FnMut(&Arc<Description>)) {
        self.0.lock().datagrams.iter().flat_map(|datagram| &datagram.rights).for_each(each);
    }

    /// Takes out all open files that wait.
    pub fn take_rights(&self) -> Vec<Arc<Description>> {
        self.0.lock().datagrams.iter_mut().flat_map(|datagram| core::mem::take(&mut datagram.rights)).collect()
    }
}
