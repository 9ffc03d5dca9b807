//! Slots, and the address spaces they belong to.
//!
//! A slot that was mapped into an address space stays with it until that is gone: there is nobody who could unmap it when its thread has
//! ended. So a new thread takes a slot that another one left, and no other process of the guest's ever sees what was in it.

use super::super::Mailbox;
use super::raw::{self, Tid};
use super::stub::{self, Order, SLOT_COUNT, StubFile};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Takes a lock; a thread that died with it left nothing half done that matters to us.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The slots of the stub file.
#[derive(Debug)]
pub(super) struct Slots {
    file: StubFile,
    state: Mutex<Free>,
}

#[derive(Debug)]
struct Free {
    given_back: Vec<u64>,
    next: u64,
}

impl Slots {
    pub(super) fn new(file: StubFile) -> Slots {
        Slots { file, state: Mutex::new(Free { given_back: Vec::new(), next: 0 }) }
    }

    pub(super) fn file(&self) -> &StubFile {
        &self.file
    }

    /// A slot that nobody has.
    pub(super) fn take(&self) -> Option<u64> {
        let mut free = lock(&self.state);
        free.given_back.pop().or_else(|| {
            let slot = free.next;
            free.next += u64::from(slot < SLOT_COUNT);
            (slot < SLOT_COUNT).then_some(slot)
        })
    }

    pub(super) fn give_back(&self, slot: u64) {
        self.file.clear(slot);
        lock(&self.state).given_back.push(slot);
    }
}

/// A slot and where a stub has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) local: u64,
    pub(super) slot: u64,
    /// The stub has it mapped already.
    pub(super) mapped: bool,
}

/// A stub process: one address space of the guest's.
#[derive(Debug)]
pub(super) struct Space {
    slots: Arc<Slots>,
    /// Its process, and that one's first thread.
    pub(super) pid: Tid,
    /// Its first slot.
    first: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: Vec<Place>,
    next_local: u64,
    threads: usize,
    /// The first thread waits for the end, untraced.
    leader_waits: bool,
    /// Its mailboxes are mapped.
    mailboxes: bool,
}

/// What a thread that is done for has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// Kill the process; the number of its first thread is to be waited for, too, if `leader`.
    Kill { leader: bool },
    /// Wait untraced: as the first thread, it can't end before the others.
    Park,
    /// End.
    Leave,
}

impl Space {
    /// A process with one thread, whose slot number 0 is `slot`.
    pub(super) fn new(slots: Arc<Slots>, pid: Tid, slot: u64) -> (Arc<Space>, Place) {
        let state = Mutex::new(State { free: Vec::new(), next_local: 1, threads: 1, leader_waits: false, mailboxes: false });
        (Arc::new(Space { slots, pid, first: slot, state }), Place { local: 0, slot, mapped: true })
    }

    /// What maps its mailboxes, if they aren't.
    pub(super) fn map_mailboxes(&self) -> Option<Order> {
        (!lock(&self.state).mailboxes).then(|| stub::map_mailboxes(self.slots.file(), self.first))
    }

    /// They are mapped now: the mailbox of a thread, if there is one for it.
    pub(super) fn mailbox(&self, place: Place) -> Option<Mailbox> {
        lock(&self.state).mailboxes = true;
        self.slots.file().mailbox(Arc::clone(&self.slots) as _, self.first, place.local)
    }

    /// A place for one more thread.
    pub(super) fn take(&self) -> Option<Place> {
        let mut state = lock(&self.state);
        let place = match state.free.pop() {
            Some(place) => place,
            None if state.next_local == SLOT_COUNT => return None,
            None => {
                let place = Place { local: state.next_local, slot: self.slots.take()?, mapped: false };
                state.next_local += 1;
                place
            }
        };
        state.threads += 1;
        Some(place)
    }

    /// Its thread has never been.
    pub(super) fn give_back(&self, place: Place) {
        let mut state = lock(&self.state);
        state.threads -= 1;
        state.free.push(place);
    }

    /// Its thread is about to end, or has and was waited for, if `reaped`.
    pub(super) fn leave(&self, place: Place, tid: Tid, reaped: bool) -> Farewell {
        let mut state = lock(&self.state);
        state.threads -= 1;
        state.free.push(place);
        if state.threads == 0 {
            Farewell::Kill { leader: state.leader_waits }
        } else if tid == self.pid {
            state.leader_waits = !reaped;
            Farewell::Park
        } else {
            Farewell::Leave
        }
    }

    /// Kills it with all its threads.
    pub(super) fn kill(&self) {
        raw::kill(self.pid);
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if state.mailboxes {
            self.slots.file().clear_mailboxes(self.first);
        }
        for place in &state.free {
            self.slots.give_back(place.slot);
        }
    }
}
