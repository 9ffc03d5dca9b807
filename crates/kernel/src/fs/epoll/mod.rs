//! Files that wait for others, epoll(7).
//!
//! An [`Epoll`] has an [`Item`] for each open file it watches. The item is registered with the file and puts itself into the list of what may
//! be ready when the file says so; epoll_wait(2) looks at that list only, asks each file what is true now, and puts back what it will have to
//! look at again (level-triggered). So a wait costs what is ready, not what is watched.
//!
//! A closed file is one nobody has a description of any more: its item goes at the next look.

#[cfg(test)]
mod tests;

use super::{Description, File, FileType};
use crate::sync::Mutex;
use crate::wait::{Events, Observer, Pollable, Queue, Registration};
use crate::{Errno, Kernel, Result};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use insula_abi::file::EpollEvent;
use insula_abi::general as c;

/// What one sandbox may watch in all (Linux: `fs.epoll.max_user_watches`, by memory).
const MOST_WATCHES: usize = 1 << 19;

/// How deep epolls may watch epolls (Linux: `EP_MAX_NESTS`).
const MOST_NESTS: usize = 4;

/// What all epolls of a kernel share.
#[derive(Default)]
pub struct Epolls {
    /// Held while one comes to watch another, so that no two together make a loop.
    nesting: Mutex<()>,
    watches: AtomicUsize,
}

/// An epoll.
pub struct Epoll {
    kernel: Weak<Kernel>,
    this: Weak<Epoll>,
    items: Mutex<BTreeMap<(i32, usize), Arc<Item>>>,
    ready: Mutex<VecDeque<Arc<Item>>>,
    /// One look at a time: what is put back must be there for the next.
    looking: Mutex<()>,
    queue: Arc<Queue>,
}

/// A file that is watched.
struct Item {
    epoll: Weak<Epoll>,
    target: Weak<Description>,
    fd: i32,
    wanted: Mutex<Wanted>,
    /// Whether it is in the list of what may be ready.
    queued: AtomicBool,
    registrations: Mutex<Vec<Registration>>,
    exclusive: bool,
}

/// What is wanted of a file.
#[derive(Clone, Copy)]
struct Wanted {
    events: u32,
    data: u64,
    /// After it fired once (`EPOLLONESHOT`), nothing is until it is changed.
    enabled: bool,
}

impl Wanted {
    fn interest(&self) -> Events {
        Events::from_bits_truncate(self.events) | Events::ALWAYS
    }

    fn has(&self, flag: u32) -> bool {
        self.events & flag != 0
    }
}

impl Item {
    /// What there is to report, if anything.
    fn look(&self) -> Option<(Wanted, Events)> {
        let wanted = *self.wanted.lock();
        let target = self.target.upgrade()?;
        let events = target.file.poll() & wanted.interest();
        (wanted.enabled && !events.is_empty()).then_some((wanted, events))
    }

    /// It may be ready.
    fn queue(self: &Arc<Self>, epoll: &Epoll) {
        let mut ready = epoll.ready.lock();
        if !self.queued.swap(true, Ordering::SeqCst) {
            ready.push_back(self.clone());
        }
    }

    /// Ends its interest in the file.
    fn end(&self) {
        // Dropped when no lock is held: it leads to the file's queues.
        let registrations = core::mem::take(&mut *self.registrations.lock());
        drop(registrations);
    }
}

/// The item, as its file's queues know it.
struct Watch(Weak<Item>, bool);

impl Observer for Watch {
    fn notify(&self, _: Events) {
        let Some(item) = self.0.upgrade() else { return };
        let Some(epoll) = item.epoll.upgrade() else { return };
        if !item.wanted.lock().enabled {
            return;
        }
        item.queue(&epoll);
        epoll.queue.wake(Events::READABLE);
    }

    fn is_exclusive(&self) -> bool {
        self.1
    }
}

/// Options an exclusive item may have.
const WITH_EXCLUSIVE: u32 =
    c::EPOLLIN | c::EPOLLOUT | c::EPOLLERR | c::EPOLLHUP | c::EPOLLET | c::EPOLLWAKEUP | c::EPOLLEXCLUSIVE;

impl Epoll {
    /// One that watches nothing.
    pub fn new(kernel: &Arc<Kernel>) -> Arc<Self> {
        Arc::new_cyclic(|this| Epoll {
            this: this.clone(),
            kernel: Arc::downgrade(kernel),
            items: Mutex::default(),
            ready: Mutex::default(),
            looking: Mutex::default(),
            queue: Queue::new(),
        })
    }

    fn key(fd: i32, target: &Arc<Description>) -> (i32, usize) {
        (fd, Arc::as_ptr(target) as usize)
    }

    /// Watches a file (`EPOLL_CTL_ADD`).
    ///
    /// # Errors
    /// `EEXIST`: it does already. `EPERM`: the file can't be watched. `EINVAL`: itself, or options that don't go together. `ELOOP`: it would watch
    /// itself in the end, or too deep. `ENOSPC`: too many are watched.
    pub fn add(&self, fd: i32, target: &Arc<Description>, event: EpollEvent) -> Result<()> {
        if !target.file.can_be_watched() {
            return Err(Errno::EPERM);
        }
        let inner = target.as_file::<Epoll>();
        if inner.is_some_and(|inner| core::ptr::eq(inner, self)) {
            return Err(Errno::EINVAL);
        }
        let exclusive = event.events & c::EPOLLEXCLUSIVE != 0;
        if exclusive && (inner.is_some() || event.events & !WITH_EXCLUSIVE != 0) {
            return Err(Errno::EINVAL);
        }
        let Some(kernel) = self.kernel.upgrade() else { return Err(Errno::EBADF) };
        let nesting = inner.map(|inner| (inner, kernel.epolls.nesting.lock()));
        if let Some((inner, _)) = &nesting {
            self.check_nesting(inner)?;
        }
        let item = {
            let mut items = self.items.lock();
            // Those of files that were closed since make room for this one.
            let gone: Vec<_> = items
                .range((fd, 0)..=(fd, usize::MAX))
                .filter(|(_, item)| item.target.strong_count() == 0)
                .map(|(key, _)| *key)
                .collect();
            for key in gone {
                items.remove(&key);
                kernel.epolls.watches.fetch_sub(1, Ordering::Relaxed);
            }
            let key = Self::key(fd, target);
            if items.contains_key(&key) {
                return Err(Errno::EEXIST);
            }
            if kernel.epolls.watches.fetch_add(1, Ordering::Relaxed) >= MOST_WATCHES {
                kernel.epolls.watches.fetch_sub(1, Ordering::Relaxed);
                return Err(Errno::ENOSPC);
            }
            let item = Arc::new(Item {
                epoll: self.this.clone(),
                target: Arc::downgrade(target),
                fd,
                wanted: Mutex::new(Wanted { events: event.events, data: event.data, enabled: true }),
                queued: AtomicBool::new(false),
                registrations: Mutex::default(),
                exclusive,
            });
            items.insert(key, item.clone());
            item
        };
        self.watch(&item, target);
        Ok(())
    }

    /// Registers an item with its file, and looks whether it is ready already.
    fn watch(&self, item: &Arc<Item>, target: &Arc<Description>) {
        let interest = item.wanted.lock().interest();
        let observer: Arc<dyn Observer> = Arc::new(Watch(Arc::downgrade(item), item.exclusive));
        let registrations = target.file.observe(interest, &observer);
        let before = core::mem::replace(&mut *item.registrations.lock(), registrations);
        drop(before);
        if item.look().is_some() {
            item.queue(self);
            self.queue.wake(Events::READABLE);
        }
    }

    /// Watches a file for something else (`EPOLL_CTL_MOD`).
    ///
    /// # Errors
    /// `ENOENT`: it isn't watched. `EINVAL`: options that don't go together.
    pub fn modify(&self, fd: i32, target: &Arc<Description>, event: EpollEvent) -> Result<()> {
        let item = self.items.lock().get(&Self::key(fd, target)).cloned().ok_or(Errno::ENOENT)?;
        if item.exclusive || event.events & c::EPOLLEXCLUSIVE != 0 {
            return Err(Errno::EINVAL);
        }
        *item.wanted.lock() = Wanted { events: event.events, data: event.data, enabled: true };
        self.watch(&item, target);
        Ok(())
    }

    /// Watches a file no more (`EPOLL_CTL_DEL`).
    ///
    /// # Errors
    /// `ENOENT`: it isn't watched.
    pub fn delete(&self, fd: i32, target: &Arc<Description>) -> Result<()> {
        let item = self.items.lock().remove(&Self::key(fd, target)).ok_or(Errno::ENOENT)?;
        self.forget(&item);
        Ok(())
    }

    /// What is left to do for an item that isn't among the others any more.
    fn forget(&self, item: &Arc<Item>) {
        item.end();
        item.wanted.lock().enabled = false;
        self.ready.lock().retain(|other| !Arc::ptr_eq(other, item));
        if let Some(kernel) = self.kernel.upgrade() {
            kernel.epolls.watches.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The file that is watched under the number `fd`: the one at `nth` of those that ever had it and are there still.
    pub fn target(&self, fd: i32, nth: usize) -> Option<Arc<Description>> {
        self.items.lock().range((fd, 0)..=(fd, usize::MAX)).nth(nth).and_then(|(_, item)| item.target.upgrade())
    }

    /// What is ready, `most` at a time.
    ///
    /// # Errors
    /// `EAGAIN`: nothing is.
    pub fn collect(&self, most: usize) -> Result<Vec<EpollEvent>> {
        let looking = self.looking.lock();
        let mut found = Vec::new();
        let mut again = Vec::new();
        let candidates = self.ready.lock().len();
        for _ in 0..candidates {
            if found.len() == most {
                break;
            }
            let Some(item) = self.ready.lock().pop_front() else { break };
            item.queued.store(false, Ordering::SeqCst);
            let Some((wanted, events)) = item.look() else {
                if item.target.strong_count() == 0 {
                    self.drop_closed(&item);
                }
                continue;
            };
            found.push(EpollEvent { events: events.bits(), data: wanted.data });
            if wanted.has(c::EPOLLONESHOT) {
                item.wanted.lock().enabled = false;
            } else if !wanted.has(c::EPOLLET) {
                again.push(item);
            }
        }
        for item in again {
            item.queue(self);
        }
        drop(looking);
        if found.is_empty() { Err(Errno::EAGAIN) } else { Ok(found) }
    }

    fn drop_closed(&self, item: &Arc<Item>) {
        let mut items = self.items.lock();
        let key = (item.fd, item.target.as_ptr() as usize);
        let removed = items.remove(&key);
        drop(items);
        if let Some(item) = removed {
            self.forget(&item);
        }
    }

    /// Whether this one may come to watch `inner`.
    fn check_nesting(&self, inner: &Epoll) -> Result<()> {
        fn depth(of: &Epoll, not: &Epoll, left: usize) -> Result<()> {
            if core::ptr::eq(of, not) || left == 0 {
                return Err(Errno::ELOOP);
            }
            let watched: Vec<_> = of.items.lock().values().filter_map(|item| item.target.upgrade()).collect();
            watched.iter().filter_map(|target| target.as_file::<Epoll>()).try_for_each(|next| depth(next, not, left - 1))
        }
        depth(inner, self, MOST_NESTS)
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        let items = core::mem::take(&mut *self.items.lock());
        if let Some(kernel) = self.kernel.upgrade() {
            kernel.epolls.watches.fetch_sub(items.len(), Ordering::Relaxed);
        }
    }
}

impl Pollable for Epoll {
    fn poll(&self) -> Events {
        let candidates: Vec<_> = self.ready.lock().iter().cloned().collect();
        if candidates.iter().any(|item| item.look().is_some()) { Events::READABLE } else { Events::empty() }
    }

    fn observe(&self, interest: Events, observer: &Arc<dyn Observer>) -> Vec<Registration> {
        alloc::vec![self.queue.register(interest, observer.clone())]
    }
}

impl File for Epoll {
    fn file_type(&self) -> FileType {
        FileType::Anonymous
    }

    fn describe(&self) -> Vec<u8> {
        b"anon_inode:[eventpoll]".to_vec()
    }

    fn fdinfo(&self) -> Vec<u8> {
        let items: Vec<_> = self.items.lock().values().cloned().collect();
        let mut lines = Vec::new();
        for item in items {
            let wanted = *item.wanted.lock();
            let (events, data) = (wanted.events, wanted.data);
            lines.extend(format!("tfd: {:8} events: {events:8x} data: {data:16x}  pos:0 ino:0 sdev:0\n", item.fd).bytes());
        }
        lines
    }
}
