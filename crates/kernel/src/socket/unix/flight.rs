//! Open files on their way (`SCM_RIGHTS`), and those among them that nobody can receive any more.
//!
//! A socket whose only descriptors lie in queues of sockets that are in the same case is garbage: a cycle that no count of references ends.
//! All moves of open files into and out of queues are made under one lock, so that a look at them is a look at a moment. Garbage is looked for
//! when sockets close, in proportion to how many are in flight.

use super::UnixSocket;
use crate::fs::Description;
use crate::socket::file;
use crate::sync::{Mutex, MutexGuard};
use crate::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Most open files in flight in a sandbox, whoever sends them: each holds memory of ours.
const MOST: usize = 1 << 16;

/// Open files on their way.
#[derive(Default)]
pub struct Flights {
    air: Mutex<Air>,
    /// How many there are, for a look without the lock.
    count: AtomicUsize,
    /// Open files that are to be closed, one after the other: a chain of sockets in each other's queues must not end in deep recursion.
    graveyard: Mutex<Vec<Arc<Description>>>,
    burying: AtomicBool,
}

/// What is in flight.
#[derive(Default)]
pub(super) struct Air {
    count: usize,
    /// Unix sockets among them, and how often each is.
    sockets: BTreeMap<usize, (Weak<Description>, usize)>,
    /// Sockets that were closed since garbage was last looked for.
    closed: usize,
}

fn socket_of(description: &Description) -> Option<&UnixSocket> {
    let any: &dyn Any = &**file::of(description).ok()?;
    any.downcast_ref()
}

fn key(description: &Arc<Description>) -> usize {
    Arc::as_ptr(description) as usize
}

impl Air {
    /// These leave.
    ///
    /// # Errors
    /// `ETOOMANYREFS`: more than `most` would be on their way.
    pub(super) fn depart(&mut self, rights: &[Arc<Description>], most: u64) -> Result<()> {
        if self.count + rights.len() > MOST || (self.count + rights.len()) as u64 > most {
            return Err(Errno::ETOOMANYREFS);
        }
        self.count += rights.len();
        for description in rights.iter().filter(|description| socket_of(description).is_some()) {
            self.sockets.entry(key(description)).or_insert_with(|| (Arc::downgrade(description), 0)).1 += 1;
        }
        Ok(())
    }

    /// These have arrived, or will never.
    pub(super) fn arrive(&mut self, rights: &[Arc<Description>]) {
        self.count -= rights.len();
        for description in rights {
            let key = key(description);
            if let Some((_, count)) = self.sockets.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.sockets.remove(&key);
                }
            }
        }
    }

    /// Takes out what lies in queues that nobody can read any more.
    fn garbage(&mut self) -> Vec<Arc<Description>> {
        // Those that have no reference but those in flight.
        let candidates: BTreeMap<usize, Arc<Description>> = self
            .sockets
            .iter()
            .filter(|(_, (weak, count))| weak.strong_count() == *count)
            .filter_map(|(key, (weak, _))| Some((*key, weak.upgrade()?)))
            .collect();
        let mut within: BTreeMap<usize, usize> = BTreeMap::new();
        let mut edges: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (from, description) in &candidates {
            let Some(socket) = socket_of(description) else { continue };
            socket.each_right(&mut |right| {
                let to = key(right);
                if candidates.contains_key(&to) {
                    *within.entry(to).or_default() += 1;
                    edges.entry(*from).or_default().push(to);
                }
            });
        }
        // What lies in a queue of another can be received, and all that can be received through it.
        let outside = |key: &usize| self.sockets.get(key).map_or(0, |(_, count)| *count) > within.get(key).copied().unwrap_or(0);
        let mut todo: Vec<usize> = candidates.keys().filter(|key| outside(key)).copied().collect();
        let mut lost = candidates;
        while let Some(key) = todo.pop() {
            if lost.remove(&key).is_some() {
                todo.extend(edges.remove(&key).unwrap_or_default());
            }
        }
        let mut taken = Vec::new();
        for description in lost.values() {
            if let Some(socket) = socket_of(description) {
                taken.extend(socket.take_rights());
            }
        }
        self.arrive(&taken);
        taken
    }
}

impl Flights {
    /// The right to move open files into queues, or out of them.
    pub(super) fn lock(&self) -> Moving<'_> {
        Moving { air: self.air.lock(), count: &self.count }
    }

    /// Whether nothing is in flight, as far as can be said without the lock.
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }

    /// A socket was closed; these were on their way to it. Now and then, looks for garbage.
    pub(super) fn closed(&self, mut rights: Vec<Arc<Description>>) {
        if !self.is_empty() {
            let mut moving = self.lock();
            moving.air.closed += 1;
            if moving.air.closed * 4 > moving.air.sockets.len() {
                moving.air.closed = 0;
                rights.extend(moving.air.garbage());
            }
        }
        self.bury(rights);
    }

    /// Closes open files, none within another's close.
    pub(super) fn bury(&self, rights: Vec<Arc<Description>>) {
        if rights.is_empty() {
            return;
        }
        self.graveyard.lock().extend(rights);
        while !self.burying.swap(true, Ordering::SeqCst) {
            loop {
                let Some(next) = self.graveyard.lock().pop() else { break };
                drop(next);
            }
            self.burying.store(false, Ordering::SeqCst);
            if self.graveyard.lock().is_empty() {
                return;
            }
        }
    }

    /// How many open files are in flight.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.lock().air.count
    }
}

/// The right to move open files into queues, or out of them.
pub(super) struct Moving<'a> {
    pub(super) air: MutexGuard<'a, Air>,
    count: &'a AtomicUsize,
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        self.count.store(self.air.count, Ordering::SeqCst);
    }
}
