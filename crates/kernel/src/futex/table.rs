//! The queues of waiters.

use super::{Key, Word};
use crate::sync::{Mutex, MutexGuard};
use crate::task::Task;
use crate::wait::{Outcome, until_woken};
use crate::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::Future;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Buckets: words that many tasks use at the same time are seldom in one.
const BUCKETS: usize = 64;

/// Waiters of some keys, by key and arrival.
pub(super) type Bucket = BTreeMap<(Key, u64), Arc<Waiter>>;

/// All waiters of a kernel.
pub struct Futexes {
    buckets: [Mutex<Bucket>; BUCKETS],
    arrivals: AtomicU64,
    /// How many wait for locks whose owner the kernel knows.
    pub(super) owned: AtomicUsize,
}

impl Default for Futexes {
    fn default() -> Self {
        Futexes { buckets: core::array::from_fn(|_| Mutex::default()), arrivals: AtomicU64::new(0), owned: AtomicUsize::new(0) }
    }
}

/// How a waiter waits.
#[derive(Clone)]
pub(super) enum Role {
    /// To be woken.
    Plain,
    /// To own the lock at the word it waits at.
    Owner(Word),
    /// To be moved to this word, and to own the lock there.
    Moves(Word),
}

/// A task's wait at a word.
pub struct Waiter {
    pub(super) task: Arc<Task>,
    bitset: u32,
    place: Mutex<Place>,
    woken: AtomicBool,
}

struct Place {
    /// Where it stands; nowhere once it is woken, or has given up.
    at: Option<(Key, u64)>,
    role: Role,
}

impl Waiter {
    fn new(task: &Arc<Task>, bitset: u32, role: Role) -> Arc<Self> {
        Arc::new(Waiter {
            task: task.clone(),
            bitset,
            place: Mutex::new(Place { at: None, role }),
            woken: AtomicBool::new(false),
        })
    }

    /// One that is woken by wake-ups whose set meets `bitset`.
    pub fn plain(task: &Arc<Task>, bitset: u32) -> Arc<Self> {
        Waiter::new(task, bitset, Role::Plain)
    }

    /// One that is to own the lock at `word`.
    pub(super) fn owner(task: &Arc<Task>, word: &Word) -> Arc<Self> {
        Waiter::new(task, u32::MAX, Role::Owner(word.clone()))
    }

    /// One that is to be moved to `target`.
    pub fn moves(task: &Arc<Task>, bitset: u32, target: &Word) -> Arc<Self> {
        Waiter::new(task, bitset, Role::Moves(target.clone()))
    }

    /// Whether it was woken.
    pub fn is_woken(&self) -> bool {
        self.woken.load(Ordering::SeqCst)
    }

    /// Whether it waits to own a lock: then it was moved there, if it wasn't made for it.
    pub fn waits_for_lock(&self) -> bool {
        matches!(self.place.lock().role, Role::Owner(_))
    }

    pub(super) fn role(&self) -> Role {
        self.place.lock().role.clone()
    }
}

/// Waiters that were taken out of their queues and are told once no lock is held.
#[derive(Default)]
#[must_use = "they wait until they are told"]
pub(super) struct Woken(Vec<Arc<Waiter>>);

impl Woken {
    /// How many.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Lets them run.
    pub(super) fn tell(self) -> usize {
        for waiter in &self.0 {
            waiter.task.wake();
        }
        self.0.len()
    }

    pub(super) fn add(&mut self, waiter: Arc<Waiter>) {
        waiter.place.lock().at = None;
        waiter.woken.store(true, Ordering::SeqCst);
        self.0.push(waiter);
    }
}

/// The buckets of two keys, which may be one.
pub(super) enum Pair<'a> {
    One(MutexGuard<'a, Bucket>),
    Two(MutexGuard<'a, Bucket>, MutexGuard<'a, Bucket>),
}

impl Pair<'_> {
    pub(super) fn first(&mut self) -> &mut Bucket {
        match self {
            Pair::One(bucket) | Pair::Two(bucket, _) => bucket,
        }
    }

    pub(super) fn second(&mut self) -> &mut Bucket {
        match self {
            Pair::One(bucket) | Pair::Two(_, bucket) => bucket,
        }
    }
}

/// The first that waits under a key.
pub(super) fn first_of(bucket: &Bucket, key: Key) -> Option<&Arc<Waiter>> {
    bucket.range((key, 0)..=(key, u64::MAX)).next().map(|(_, waiter)| waiter)
}

impl Futexes {
    fn index(key: Key) -> usize {
        let (a, b) = match key {
            Key::Private(space, address) | Key::Own(space, address) => (space as u64, address),
            Key::Shared(object, offset) => (object, offset),
        };
        let mixed = (a.rotate_left(29) ^ (b >> 2)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 58) as usize % BUCKETS
    }

    pub(super) fn bucket(&self, key: Key) -> MutexGuard<'_, Bucket> {
        self.buckets[Self::index(key)].lock()
    }

    /// All buckets, one after the other.
    pub(super) fn each_bucket(&self) -> impl Iterator<Item = MutexGuard<'_, Bucket>> {
        self.buckets.iter().map(Mutex::lock)
    }

    /// The buckets of two keys, locked in an order that all keep to.
    pub(super) fn pair(&self, first: Key, second: Key) -> Pair<'_> {
        let (a, b) = (Self::index(first), Self::index(second));
        if a == b {
            return Pair::One(self.buckets[a].lock());
        }
        let lower = self.buckets[a.min(b)].lock();
        let upper = self.buckets[a.max(b)].lock();
        if a < b { Pair::Two(lower, upper) } else { Pair::Two(upper, lower) }
    }

    /// Puts a waiter at the end of its key's queue; the bucket is the key's.
    pub(super) fn insert(&self, bucket: &mut Bucket, key: Key, waiter: &Arc<Waiter>) {
        let at = (key, self.arrivals.fetch_add(1, Ordering::Relaxed));
        let mut place = waiter.place.lock();
        place.at = Some(at);
        if matches!(place.role, Role::Owner(_)) {
            self.owned.fetch_add(1, Ordering::SeqCst);
        }
        drop(place);
        bucket.insert(at, waiter.clone());
    }

    /// Takes a waiter out of its bucket, which is locked.
    pub(super) fn remove(&self, bucket: &mut Bucket, at: (Key, u64)) -> Option<Arc<Waiter>> {
        let waiter = bucket.remove(&at)?;
        let mut place = waiter.place.lock();
        place.at = None;
        if matches!(place.role, Role::Owner(_)) {
            self.owned.fetch_sub(1, Ordering::SeqCst);
        }
        drop(place);
        Some(waiter)
    }

    /// Moves a waiter to the end of another queue, where it is to own a lock, if `target` says so.
    pub(super) fn move_to(&self, pair: &mut Pair<'_>, at: (Key, u64), to: Key, target: Option<Word>) {
        let Some(waiter) = self.remove(pair.first(), at) else { return };
        if let Some(word) = target {
            waiter.place.lock().role = Role::Owner(word);
        }
        self.insert(pair.second(), to, &waiter);
    }

    /// Lets `waiter` wait at `word`, if `expected` is there.
    ///
    /// # Errors
    /// `EAGAIN`: it isn't. `EFAULT`.
    pub fn enqueue(&self, waiter: &Arc<Waiter>, word: &Word, expected: u32) -> Result<()> {
        let mut bucket = self.bucket(word.key);
        if word.load()? != expected {
            return Err(Errno::EAGAIN);
        }
        self.insert(&mut bucket, word.key, waiter);
        Ok(())
    }

    /// It waits no more; answers whether it would have: otherwise it was woken.
    pub fn give_up(&self, waiter: &Waiter) -> bool {
        loop {
            let Some(at) = waiter.place.lock().at else { return false };
            let mut bucket = self.bucket(at.0);
            // It may have been woken or moved before we had the lock.
            if waiter.place.lock().at == Some(at) {
                return self.remove(&mut bucket, at).is_some();
            }
        }
    }

    /// Wakes the first waiters at a key whose sets meet `bitset`, `most` but at least one of them; answers how many.
    ///
    /// # Errors
    /// `EINVAL`: there are waiters that can't be woken so, as they wait to own a lock.
    pub fn wake(&self, key: Key, most: i32, bitset: u32) -> Result<usize> {
        let mut woken = Woken::default();
        let outcome = self.take(&mut self.bucket(key), key, most, bitset, &mut woken);
        let count = woken.tell();
        outcome.map(|()| count)
    }

    fn take(&self, bucket: &mut Bucket, key: Key, most: i32, bitset: u32, woken: &mut Woken) -> Result<()> {
        let before = woken.count();
        let most = most.max(1) as usize;
        let mut from = 0;
        while woken.count() - before < most {
            let Some((at, waiter)) = bucket.range((key, from)..=(key, u64::MAX)).next() else { break };
            let at = *at;
            if !matches!(waiter.place.lock().role, Role::Plain) {
                return Err(Errno::EINVAL);
            }
            from = at.1 + 1;
            if waiter.bitset & bitset != 0 {
                self.remove(bucket, at).into_iter().for_each(|waiter| woken.add(waiter));
            }
        }
        Ok(())
    }

    /// Wakes the first `wake` waiters at `from` and lets up to `most` others wait at `to` instead, if `expected` is at `from`; answers how
    /// many that were together.
    ///
    /// # Errors
    /// `EAGAIN`: something else is there. `EFAULT`. `EINVAL`: they wait to own a lock.
    pub fn requeue(&self, from: &Word, to: &Word, wake: u32, most: u32, expected: Option<u32>) -> Result<usize> {
        let mut woken = Woken::default();
        let mut moved = 0;
        let mut pair = self.pair(from.key, to.key);
        if let Some(expected) = expected
            && from.load()? != expected
        {
            return Err(Errno::EAGAIN);
        }
        let all: Vec<_> = pair.first().range((from.key, 0)..=(from.key, u64::MAX)).map(|(at, _)| *at).collect();
        let mut outcome = Ok(());
        for at in all {
            let Some(waiter) = pair.first().get(&at) else { continue };
            if !matches!(waiter.place.lock().role, Role::Plain) {
                outcome = Err(Errno::EINVAL);
                break;
            }
            if woken.count() < wake as usize {
                self.remove(pair.first(), at).into_iter().for_each(|waiter| woken.add(waiter));
            } else if moved < most {
                self.move_to(&mut pair, at, to.key, None);
                moved += 1;
            } else {
                break;
            }
        }
        drop(pair);
        let count = woken.tell() + moved as usize;
        outcome.map(|()| count)
    }

    /// Changes the word `second` by `operation`, wakes waiters at `first`, and waiters at `second` if `operation` says so of what was
    /// there (`FUTEX_WAKE_OP`); answers how many that were together.
    ///
    /// # Errors
    /// `EFAULT`, `EINVAL`, and what the operation says.
    pub fn wake_op(
        &self,
        first: (&Word, i32),
        second: (&Word, i32),
        operation: impl Fn(u32) -> Result<u32>,
        compare: impl Fn(u32) -> Result<bool>,
    ) -> Result<usize> {
        let mut woken = Woken::default();
        let mut pair = self.pair(first.0.key, second.0.key);
        let old = second.0.update(|word| operation(word).map(Some))?;
        let wakes_second = compare(old)?;
        let mut outcome = self.take(pair.first(), first.0.key, first.1, u32::MAX, &mut woken);
        if outcome.is_ok() && wakes_second {
            outcome = self.take(pair.second(), second.0.key, second.1, u32::MAX, &mut woken);
        }
        drop(pair);
        let count = woken.tell();
        outcome.map(|()| count)
    }
}

/// A waiter that gives up when this is dropped, so that none is left behind by a task that ends.
pub(crate) struct Waiting {
    pub(crate) waiter: Arc<Waiter>,
}

impl Waiting {
    /// Waits until it is woken.
    pub(crate) fn woken(&self, deadline: Option<u64>) -> impl Future<Output = Outcome<()>> + Send + use<> {
        let waiter = self.waiter.clone();
        until_woken(&self.waiter.task, deadline, move || if waiter.is_woken() { Ok(()) } else { Err(Errno::EAGAIN) })
    }

    /// It waits no more; answers whether it would have.
    pub(crate) fn give_up(&self) -> bool {
        self.waiter.task.kernel().futexes.give_up(&self.waiter)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.give_up();
    }
}
