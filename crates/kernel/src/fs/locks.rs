//! Locks on files: flock(2), and the two kinds of record locks, fcntl_locking(2).
//!
//! All are ranges of bytes, each with an owner: a table of descriptors (POSIX), or an open file (OFD, and flock(2), whose range is everything).
//! POSIX and OFD locks exclude each other; flock(2) is a class of its own. Locks are kept by file number, so that it doesn't matter by
//! which name or mount a file was opened.

use super::Description;
use crate::sync::Mutex;
use crate::wait::{Events, Observer, Pollable, Queue, Registration};
use crate::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Most locks on one file.
const MOST: usize = 1 << 16;

/// How far a circle of waiting owners is looked for (Linux: `MAX_DEADLK_ITERATIONS`).
const MOST_STEPS: usize = 10;

/// Who has a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// All processes that share a table of descriptors: a POSIX lock.
    Table(u64),
    /// An open file.
    Open(usize),
}

/// Which locks can exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// POSIX and OFD.
    Record,
    /// flock(2).
    Flock,
}

/// A lock that is there, or wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Whose.
    pub owner: Owner,
    /// The process that asked for it.
    pub pid: i32,
    /// Whether it excludes all others, not just exclusive ones.
    pub exclusive: bool,
    /// First byte.
    pub start: u64,
    /// Last byte.
    pub last: u64,
}

impl Lock {
    fn overlaps(&self, other: &Lock) -> bool {
        self.start <= other.last && other.start <= self.last
    }

    fn excludes(&self, other: &Lock) -> bool {
        self.owner != other.owner && (self.exclusive || other.exclusive) && self.overlaps(other)
    }
}

/// The numbers of a file, and which of its locks.
type Key = (u64, u64, Class);

#[derive(Default)]
struct FileLocks {
    locks: Vec<Lock>,
    /// Who waits for one.
    queue: Arc<Queue>,
}

/// All locks of a kernel.
#[derive(Default)]
pub struct Locks {
    state: Mutex<State>,
    /// How many there are, for a look without the lock.
    count: AtomicUsize,
}

#[derive(Default)]
struct State {
    files: BTreeMap<Key, FileLocks>,
    /// Owners of POSIX locks that wait, and for whom.
    waiting: BTreeMap<Owner, Owner>,
}

/// Who waits for a lock: told when one of the file is given back. Dropping it ends the wait.
pub struct Waiter {
    locks: Arc<Locks>,
    key: Key,
    owner: Owner,
    queue: Arc<Queue>,
}

impl Pollable for Waiter {
    fn poll(&self) -> Events {
        Events::empty()
    }

    fn observe(&self, _: Events, observer: &Arc<dyn Observer>) -> Vec<Registration> {
        alloc::vec![self.queue.register(Events::WRITABLE, observer.clone())]
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut state = self.locks.state.lock();
        state.waiting.remove(&self.owner);
        // Ours is the last but the file's own.
        if state.files.get(&self.key).is_some_and(|file| file.locks.is_empty() && Arc::strong_count(&file.queue) == 2) {
            state.files.remove(&self.key);
        }
    }
}

impl Locks {
    /// The first lock that excludes this one.
    pub fn conflict(&self, file: (u64, u64), class: Class, wanted: &Lock) -> Option<Lock> {
        let state = self.state.lock();
        let file = state.files.get(&(file.0, file.1, class))?;
        file.locks.iter().filter(|lock| lock.excludes(wanted)).min_by_key(|lock| lock.start).copied()
    }

    /// Takes a lock, in place of what the owner has of that range.
    ///
    /// # Errors
    /// `EAGAIN`: another excludes it. `EDEADLK`: its owner waits for this one, if this one `waits`. `ENOLCK`: there are too many.
    pub fn take(&self, file: (u64, u64), class: Class, wanted: &Lock, waits: bool) -> Result<()> {
        let mut state = self.state.lock();
        let key = (file.0, file.1, class);
        if class == Class::Flock {
            // Another kind of lock isn't changed at once, but given back, and taken anew, flock(2).
            let other = state.files.get(&key).is_some_and(|file| {
                file.locks.iter().any(|lock| lock.owner == wanted.owner && lock.exclusive != wanted.exclusive)
            });
            if other {
                self.clear(&mut state, &key, wanted);
            }
        }
        let entry = state.files.entry(key).or_default();
        if let Some(blocker) = entry.locks.iter().find(|lock| lock.excludes(wanted)).map(|lock| lock.owner) {
            if waits && matches!(wanted.owner, Owner::Table(_)) {
                if state.leads_to(blocker, wanted.owner) {
                    return Err(Errno::EDEADLK);
                }
                state.waiting.insert(wanted.owner, blocker);
            }
            return Err(Errno::EAGAIN);
        }
        if entry.locks.len() >= MOST {
            return Err(Errno::ENOLCK);
        }
        let before = entry.locks.len();
        entry.cut(wanted);
        entry.add(*wanted);
        let after = entry.locks.len();
        let queue = entry.queue.clone();
        self.recount(before, after);
        drop(state);
        // What became shared may let others in.
        queue.wake(Events::WRITABLE);
        Ok(())
    }

    /// Gives back what the owner has of a range.
    pub fn release(&self, file: (u64, u64), class: Class, range: &Lock) {
        self.clear(&mut self.state.lock(), &(file.0, file.1, class), range);
    }

    /// Whether there is any lock at all.
    pub fn are_there(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// An owner is gone, with all it had on a file.
    pub fn release_all(&self, file: (u64, u64), class: Class, owner: Owner) {
        let all = Lock { owner, pid: 0, exclusive: true, start: 0, last: u64::MAX };
        self.release(file, class, &all);
    }

    /// Prepares a wait for a lock on a file.
    pub fn waiter(self: &Arc<Self>, file: (u64, u64), class: Class, owner: Owner) -> Waiter {
        let key = (file.0, file.1, class);
        let queue = self.state.lock().files.entry(key).or_default().queue.clone();
        Waiter { locks: self.clone(), key, owner, queue }
    }

    /// All, for `/proc/locks`.
    pub fn all(&self) -> Vec<((u64, u64), Class, Lock)> {
        let state = self.state.lock();
        let each = |(key, file): (&Key, &FileLocks)| {
            let (dev, ino, class) = *key;
            file.locks.iter().map(move |lock| ((dev, ino), class, *lock)).collect::<Vec<_>>()
        };
        state.files.iter().flat_map(each).collect()
    }

    fn clear(&self, state: &mut State, key: &Key, range: &Lock) {
        let Some(entry) = state.files.get_mut(key) else { return };
        let before = entry.locks.len();
        entry.cut(range);
        self.recount(before, entry.locks.len());
        entry.queue.wake(Events::WRITABLE);
        // Who waits has the queue, and must find it again.
        if entry.locks.is_empty() && Arc::strong_count(&entry.queue) == 1 {
            state.files.remove(key);
        }
    }

    fn recount(&self, before: usize, after: usize) {
        self.count.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }
}

impl State {
    /// Whether `from` waits for `to`, if over others.
    fn leads_to(&self, from: Owner, to: Owner) -> bool {
        let mut at = from;
        for _ in 0..MOST_STEPS {
            if at == to {
                return true;
            }
            match self.waiting.get(&at) {
                Some(next) => at = *next,
                None => return false,
            }
        }
        false
    }
}

impl FileLocks {
    /// Takes a range away from what its owner has.
    fn cut(&mut self, range: &Lock) {
        let mut rest = Vec::new();
        self.locks.retain_mut(|lock| {
            if lock.owner != range.owner || !lock.overlaps(range) {
                return true;
            }
            if range.last < lock.last {
                rest.push(Lock { start: range.last + 1, ..*lock });
            }
            let keep = lock.start < range.start;
            if keep {
                lock.last = range.start - 1;
            }
            keep
        });
        self.locks.extend(rest);
    }

    /// Adds a lock where its owner has none; neighbours of one kind become one.
    fn add(&mut self, mut lock: Lock) {
        self.locks.retain(|other| {
            let touches = other.last.checked_add(1) == Some(lock.start) || lock.last.checked_add(1) == Some(other.start);
            let joins = other.owner == lock.owner && other.exclusive == lock.exclusive && touches;
            if joins {
                lock.start = lock.start.min(other.start);
                lock.last = lock.last.max(other.last);
            }
            !joins
        });
        self.locks.push(lock);
    }
}

/// The numbers of an open file, by which its locks are known.
///
/// # Errors
/// What its file system says.
pub fn key(description: &Description) -> Result<(u64, u64)> {
    match &description.path {
        Some(path) => path.inode().identity(),
        None => description.file.attributes().map(|attributes| (attributes.dev, attributes.ino)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(owner: u64, exclusive: bool, start: u64, last: u64) -> Lock {
        Lock { owner: Owner::Table(owner), pid: owner as i32, exclusive, start, last }
    }

    fn ranges(locks: &Locks) -> Vec<(u64, u64, bool)> {
        let mut all: Vec<_> = locks.all().iter().map(|(_, _, lock)| (lock.start, lock.last, lock.exclusive)).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn an_owner_has_one_lock_on_each_byte() {
        let locks = Locks::default();
        let take = |lock: Lock| locks.take((1, 1), Class::Record, &lock, false);
        take(lock(1, true, 0, 99)).expect("nobody has any");
        take(lock(1, false, 10, 19)).expect("it is one's own");
        assert_eq!(ranges(&locks), [(0, 9, true), (10, 19, false), (20, 99, true)]);
        take(lock(1, true, 10, 19)).expect("it is one's own");
        assert_eq!(ranges(&locks), [(0, 99, true)]);
        locks.release((1, 1), Class::Record, &lock(1, true, 50, u64::MAX));
        assert_eq!(ranges(&locks), [(0, 49, true)]);
        assert!(locks.are_there());
        locks.release_all((1, 1), Class::Record, Owner::Table(1));
        assert!(!locks.are_there());
    }

    #[test]
    fn a_circle_of_waiters_is_found() {
        let locks = Arc::new(Locks::default());
        let take = |lock: Lock| locks.take((1, 1), Class::Record, &lock, true);
        take(lock(1, true, 0, 0)).expect("free");
        take(lock(2, true, 1, 1)).expect("free");
        take(lock(3, true, 2, 2)).expect("free");
        let first = locks.waiter((1, 1), Class::Record, Owner::Table(1));
        assert_eq!(take(lock(1, true, 1, 1)), Err(Errno::EAGAIN));
        assert_eq!(take(lock(2, true, 2, 2)), Err(Errno::EAGAIN));
        assert_eq!(take(lock(3, true, 0, 0)), Err(Errno::EDEADLK));
        drop(first);
        assert_eq!(take(lock(3, true, 0, 0)), Err(Errno::EAGAIN), "the first waits no more");
    }

    #[test]
    fn shared_locks_let_each_other_in() {
        let locks = Locks::default();
        let take = |lock: Lock| locks.take((1, 1), Class::Record, &lock, false);
        take(lock(1, false, 0, 9)).expect("free");
        take(lock(2, false, 5, 14)).expect("both only read");
        assert_eq!(take(lock(3, true, 14, 20)), Err(Errno::EAGAIN));
        let found = locks.conflict((1, 1), Class::Record, &lock(3, true, 0, u64::MAX)).expect("the first");
        assert_eq!((found.pid, found.start), (1, 0));
    }
}
