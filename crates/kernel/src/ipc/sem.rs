//! Sets of semaphores, semget(2).

use super::{Ids, Object, Perm};
use crate::sync::Mutex;
use crate::wait::{Events, Observer, Pollable, Queue, Registration};
use crate::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use insula_abi::ipc::{IPC_NOWAIT, Sembuf, sem};

/// The highest value (`SEMVMX`).
pub const HIGHEST: i32 = 32767;
/// The most semaphores of a set (`SEMMSL`).
pub const MOST_OF_SET: usize = 32000;
/// The most sets (`SEMMNI`).
pub const MOST_SETS: usize = 32000;
/// The most operations of one call (`SEMOPM`).
pub const MOST_OPERATIONS: u64 = 500;
/// The most semaphores of all sets, and the most changes that are to be undone: Linux has far more of both, and charges the memory to who
/// makes them.
const MOST: usize = 1 << 20;

/// All sets of a kernel.
#[derive(Default)]
pub struct Semaphores {
    /// The sets.
    pub sets: Mutex<Ids<Set>>,
    /// Semaphores of all.
    count: Arc<AtomicUsize>,
    /// Changes that are to be undone, of all.
    undos: Arc<AtomicUsize>,
}

/// A set.
pub struct Set {
    perm: Mutex<Perm>,
    state: Mutex<State>,
    queue: Arc<Queue>,
    count: Arc<AtomicUsize>,
    undos: Arc<AtomicUsize>,
}

/// One semaphore.
#[derive(Clone, Copy, Debug, Default)]
pub struct Semaphore {
    /// Its value.
    pub value: u16,
    /// The process that changed it last.
    pub pid: i32,
}

struct State {
    semaphores: Vec<Semaphore>,
    /// When it was last operated on, and changed, in seconds.
    operated: i64,
    changed: i64,
    removed: bool,
    /// What is to be added at a process's end, by process and semaphore.
    undo: BTreeMap<(i32, u16), i32>,
    /// Who waits: at which semaphore, and whether for 0.
    waiting: BTreeMap<usize, (u16, bool)>,
}

fn take(count: &AtomicUsize, more: usize, otherwise: Errno) -> Result<()> {
    let fits = |now: usize| now.checked_add(more).filter(|now| *now <= MOST);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).map(|_| ()).map_err(|_| otherwise)
}

impl Semaphores {
    /// A new set, all 0.
    ///
    /// # Errors
    /// `ENOSPC`: there are too many semaphores.
    pub fn make(&self, perm: Perm, len: usize, now: i64) -> Result<Set> {
        take(&self.count, len, Errno::ENOSPC)?;
        let state = State {
            semaphores: alloc::vec![Semaphore::default(); len],
            operated: 0,
            changed: now,
            removed: false,
            undo: BTreeMap::new(),
            waiting: BTreeMap::new(),
        };
        let (count, undos) = (self.count.clone(), self.undos.clone());
        Ok(Set { perm: Mutex::new(perm), state: Mutex::new(state), queue: Queue::new(), count, undos })
    }

    /// A process ends: what it asked to be undone is.
    pub fn undo(&self, pid: i32) {
        if self.undos.load(Ordering::Relaxed) == 0 {
            return;
        }
        let sets = self.sets.lock().all();
        for set in sets {
            set.undo(pid);
        }
    }
}

impl Object for Set {
    fn perm(&self) -> &Mutex<Perm> {
        &self.perm
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        let state = self.state.lock();
        self.count.fetch_sub(state.semaphores.len(), Ordering::Relaxed);
        self.undos.fetch_sub(state.undo.len(), Ordering::Relaxed);
    }
}

impl Pollable for Set {
    fn poll(&self) -> Events {
        Events::empty()
    }

    fn observe(&self, _: Events, observer: &Arc<dyn Observer>) -> Vec<Registration> {
        alloc::vec![self.queue.register(Events::WRITABLE, observer.clone())]
    }
}

/// A wait at a set; dropping it ends it.
pub struct Waiting(Arc<Set>);

impl Waiting {
    /// At this set.
    pub fn at(set: &Arc<Set>) -> Arc<Self> {
        Arc::new(Waiting(set.clone()))
    }

    /// Whether it waits: an operation that has to wait may.
    pub fn waits(self: &Arc<Self>) -> bool {
        self.0.state.lock().waiting.contains_key(&self.number())
    }

    fn number(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self) as usize
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let number = core::ptr::from_ref(self) as usize;
        self.0.state.lock().waiting.remove(&number);
    }
}

impl Set {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.state.lock().semaphores.len()
    }

    /// Whether there is none, which never is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When it was last operated on, and changed, in seconds.
    pub fn times(&self) -> (i64, i64) {
        let state = self.state.lock();
        (state.operated, state.changed)
    }

    /// It is changed now.
    pub fn touch(&self, now: i64) {
        self.state.lock().changed = now;
    }

    /// One of them.
    ///
    /// # Errors
    /// `EINVAL`: there is no such.
    pub fn get(&self, number: i32) -> Result<Semaphore> {
        let number = usize::try_from(number).map_err(|_| Errno::EINVAL)?;
        self.state.lock().semaphores.get(number).copied().ok_or(Errno::EINVAL)
    }

    /// The values of all.
    pub fn values(&self) -> Vec<u16> {
        self.state.lock().semaphores.iter().map(|semaphore| semaphore.value).collect()
    }

    /// How many wait for one to grow, or to be 0.
    ///
    /// # Errors
    /// `EINVAL`: there is no such.
    pub fn waiters(&self, number: i32, zero: bool) -> Result<u64> {
        self.get(number)?;
        let state = self.state.lock();
        Ok(state.waiting.values().filter(|(at, for_zero)| i32::from(*at) == number && *for_zero == zero).count() as u64)
    }

    /// Sets values, from semaphore `first` on; nothing is left to be undone there.
    ///
    /// # Errors
    /// `EINVAL`: there are no such. `EIDRM`.
    pub fn set(&self, first: i32, values: &[u16], pid: i32, now: i64) -> Result<()> {
        let first = usize::try_from(first).map_err(|_| Errno::EINVAL)?;
        let mut state = self.state.lock();
        if state.removed {
            return Err(Errno::EIDRM);
        }
        let range = first..first.saturating_add(values.len());
        let semaphores = state.semaphores.get_mut(range.clone()).ok_or(Errno::EINVAL)?;
        for (semaphore, value) in semaphores.iter_mut().zip(values) {
            *semaphore = Semaphore { value: *value, pid };
        }
        let before = state.undo.len();
        state.undo.retain(|(_, number), _| !range.contains(&usize::from(*number)));
        self.undos.fetch_sub(before - state.undo.len(), Ordering::Relaxed);
        state.changed = now;
        drop(state);
        self.queue.wake(Events::WRITABLE);
        Ok(())
    }

    /// It is removed: who waits learns of it.
    pub fn remove(&self) {
        self.state.lock().removed = true;
        self.queue.wake(Events::WRITABLE);
    }

    /// Does all operations, or none, semop(2).
    ///
    /// # Errors
    /// `EAGAIN`: one of them has to wait, as `waiting` from now on says if it may. `EIDRM`, `EFBIG`, `ERANGE`, `ENOMEM`.
    pub fn operate(&self, operations: &[Sembuf], pid: i32, now: i64, waiting: &Arc<Waiting>) -> Result<()> {
        let mut state = self.state.lock();
        state.waiting.remove(&waiting.number());
        if state.removed {
            return Err(Errno::EIDRM);
        }
        let mut before = Vec::with_capacity(operations.len());
        let outcome = state.try_all(operations, pid, &mut before);
        if let Err(stop) = outcome {
            state.restore(&before);
            return Err(match stop {
                Stop::Fails(errno) => errno,
                Stop::Waits { .. } if operations_do_not_wait(operations, &stop) => Errno::EAGAIN,
                Stop::Waits { number, zero, .. } => {
                    state.waiting.insert(waiting.number(), (number, zero));
                    Errno::EAGAIN
                }
            });
        }
        if let Err(errno) = self.note_undos(&mut state, operations, pid) {
            state.restore(&before);
            return Err(errno);
        }
        state.operated = now;
        drop(state);
        self.queue.wake(Events::WRITABLE);
        Ok(())
    }

    fn note_undos(&self, state: &mut State, operations: &[Sembuf], pid: i32) -> Result<()> {
        let undone = |operation: &&Sembuf| operation.flags as u32 & sem::UNDO != 0 && operation.change != 0;
        let mut changed = BTreeMap::new();
        for operation in operations.iter().filter(undone) {
            let key = (pid, operation.number);
            let before = || state.undo.get(&key).copied().unwrap_or(0);
            let adjustment = changed.entry(key).or_insert_with(before);
            *adjustment -= i32::from(operation.change);
            if adjustment.abs() > HIGHEST {
                return Err(Errno::ERANGE);
            }
        }
        let more = changed.keys().filter(|key| !state.undo.contains_key(key)).count();
        take(&self.undos, more, Errno::ENOMEM)?;
        state.undo.extend(changed);
        Ok(())
    }

    fn undo(&self, pid: i32) {
        let mut state = self.state.lock();
        let own: Vec<_> = state.undo.range((pid, 0)..=(pid, u16::MAX)).map(|(key, adjustment)| (*key, *adjustment)).collect();
        if own.is_empty() {
            return;
        }
        self.undos.fetch_sub(own.len(), Ordering::Relaxed);
        for ((pid, number), adjustment) in own {
            state.undo.remove(&(pid, number));
            if let Some(semaphore) = state.semaphores.get_mut(usize::from(number)) {
                // As Linux has it: what can't be undone whole is as far as it goes.
                let value = (i32::from(semaphore.value) + adjustment).clamp(0, HIGHEST);
                *semaphore = Semaphore { value: value as u16, pid };
            }
        }
        drop(state);
        self.queue.wake(Events::WRITABLE);
    }
}

/// Why operations can't be done now.
enum Stop {
    Fails(Errno),
    Waits { operation: usize, number: u16, zero: bool },
}

/// Whether the operation that has to wait must not.
fn operations_do_not_wait(operations: &[Sembuf], stop: &Stop) -> bool {
    matches!(stop, Stop::Waits { operation, .. } if operations[*operation].flags as u32 & IPC_NOWAIT != 0)
}

impl State {
    /// Undoes what was done, from the last to the first.
    fn restore(&mut self, before: &[(u16, Semaphore)]) {
        for (number, semaphore) in before.iter().rev() {
            self.semaphores[usize::from(*number)] = *semaphore;
        }
    }

    /// Does one operation after the other, as far as they can be done; `before` gets what was there.
    fn try_all(&mut self, operations: &[Sembuf], pid: i32, before: &mut Vec<(u16, Semaphore)>) -> core::result::Result<(), Stop> {
        for (index, operation) in operations.iter().enumerate() {
            let semaphore = self.semaphores.get_mut(usize::from(operation.number)).ok_or(Stop::Fails(Errno::EFBIG))?;
            let (now, change) = (i32::from(semaphore.value), i32::from(operation.change));
            let waits = Stop::Waits { operation: index, number: operation.number, zero: change == 0 };
            if change == 0 && now != 0 || now + change < 0 {
                return Err(waits);
            }
            if now + change > HIGHEST {
                return Err(Stop::Fails(Errno::ERANGE));
            }
            before.push((operation.number, *semaphore));
            *semaphore = Semaphore { value: (now + change) as u16, pid };
        }
        Ok(())
    }
}
