//! Waiting: for a file to become ready, for a child, for a moment; and always also for signals.
//!
//! What can be waited for has a [`Queue`]. Who waits registers an [`Observer`] there *before* it looks whether it must wait, so nothing is
//! missed; it is told that something changed, and looks again. For a task, [`until`] is all of that: it tries an operation, and
//! when the operation says `EAGAIN`, waits and tries again, until it works, a deadline passes, or a signal wants the task.
//!
//! Futures assume no executor, only a [`core::task::Waker`]. A deadline is the one thing more that who drives them must know: at
//! [`Task::deadline`] a future wants to be polled even if nobody wakes it.

use crate::sync::Mutex;
use crate::task::Task;
use crate::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::task::{Context, Poll};

bitflags::bitflags! {
    /// What a file is ready for, poll(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Events: u32 {
        /// There is something to read.
        const IN = 0x001;
        /// There is something urgent to read.
        const PRI = 0x002;
        /// Something can be written.
        const OUT = 0x004;
        /// An error is pending.
        const ERR = 0x008;
        /// The other side is gone.
        const HUP = 0x010;
        /// The descriptor isn't open; only poll(2) says so.
        const NVAL = 0x020;
        /// As `IN`.
        const RDNORM = 0x040;
        /// Never there.
        const RDBAND = 0x080;
        /// As `OUT`.
        const WRNORM = 0x100;
        /// As `OUT`.
        const WRBAND = 0x200;
        /// The other side writes no more.
        const RDHUP = 0x2000;
    }
}

impl Events {
    /// What is reported whether or not it was asked for.
    pub const ALWAYS: Events = Events::ERR.union(Events::HUP);
    /// Ready to be read.
    pub const READABLE: Events = Events::IN.union(Events::RDNORM);
    /// Ready to be written.
    pub const WRITABLE: Events = Events::OUT.union(Events::WRNORM).union(Events::WRBAND);
}

/// Is told that something may have changed. It must not block, nor take locks that a caller of [`Queue::wake`] may hold.
pub trait Observer: Send + Sync {
    /// These events may be there.
    fn notify(&self, events: Events);

    /// Whether, of all such observers in a queue, one is enough to be told (`EPOLLEXCLUSIVE`).
    fn is_exclusive(&self) -> bool {
        false
    }
}

/// Who wants to know of something.
#[derive(Default)]
pub struct Queue {
    entries: Mutex<Vec<Entry>>,
    /// How many entries, for a look without the lock.
    len: AtomicUsize,
}

struct Entry {
    id: usize,
    interest: Events,
    observer: Arc<dyn Observer>,
}

/// An observer's place in a [`Queue`]; dropping it ends the interest.
#[must_use = "dropping it ends the interest"]
pub struct Registration {
    queue: Weak<Queue>,
    id: usize,
}

impl Queue {
    /// An empty one.
    pub fn new() -> Arc<Self> {
        Arc::new(Queue::default())
    }

    /// Tells `observer` whenever one of `interest` may be there.
    pub fn register(self: &Arc<Self>, interest: Events, observer: Arc<dyn Observer>) -> Registration {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut entries = self.entries.lock();
        entries.push(Entry { id, interest, observer });
        self.len.store(entries.len(), Ordering::SeqCst);
        Registration { queue: Arc::downgrade(self), id }
    }

    /// Tells all that are interested that these events may be there.
    pub fn wake(&self, events: Events) {
        // The change itself comes before this call, and an observer registers before it looks: one of the two sees the other.
        core::sync::atomic::fence(Ordering::SeqCst);
        if self.len.load(Ordering::SeqCst) == 0 {
            return;
        }
        // Observers are told after the lock is given back, for they may lead to other queues.
        let mut observers = Vec::new();
        let mut entries = self.entries.lock();
        let mut exclusive = None;
        for (index, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.interest.intersects(events)) {
            match entry.observer.is_exclusive() {
                true if exclusive.is_some() => continue,
                true => exclusive = Some(index),
                false => {}
            }
            observers.push(entry.observer.clone());
        }
        // Next time it is another's turn.
        if let Some(index) = exclusive {
            entries[index..].rotate_left(1);
        }
        drop(entries);
        for observer in observers {
            observer.notify(events);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let Some(queue) = self.queue.upgrade() else { return };
        let mut entries = queue.entries.lock();
        let removed = entries.iter().position(|entry| entry.id == self.id).map(|index| entries.remove(index));
        queue.len.store(entries.len(), Ordering::SeqCst);
        drop(entries);
        drop(removed);
    }
}

/// Something that can be waited for.
pub trait Pollable: Send + Sync {
    /// What it is ready for now.
    fn poll(&self) -> Events;

    /// Registers with all its queues.
    fn observe(&self, interest: Events, observer: &Arc<dyn Observer>) -> Vec<Registration>;
}

/// Wakes the task whose future waits.
pub struct TaskObserver {
    task: Weak<Task>,
    fired: AtomicBool,
}

impl TaskObserver {
    /// For `task`.
    pub fn new(task: &Arc<Task>) -> Arc<Self> {
        Arc::new(TaskObserver { task: Arc::downgrade(task), fired: AtomicBool::new(false) })
    }
}

impl Observer for TaskObserver {
    fn notify(&self, _: Events) {
        // Between two looks one wake-up is enough.
        if !self.fired.swap(true, Ordering::SeqCst)
            && let Some(task) = self.task.upgrade()
        {
            task.wake();
        }
    }
}

/// Why a wait ended without its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A signal wants the task.
    Interrupted,
    /// The deadline has passed.
    TimedOut,
}

/// How a wait came out: the operation's own result, unless the wait ended before.
pub type Outcome<T> = core::result::Result<Result<T>, Ended>;

/// Waits until `operation` says something else than `EAGAIN`: tries it now, and again whenever `sources` may have changed.
///
/// The interest is registered by this call; polling the future tries. The sources must live as long as the operation, which mostly
/// owns them.
pub fn until<T: Send, F: FnMut() -> Result<T> + Send + Unpin>(
    task: &Arc<Task>,
    sources: &[(&dyn Pollable, Events)],
    deadline: Option<u64>,
    operation: F,
) -> impl Future<Output = Outcome<T>> + Send + use<T, F> {
    let waiter = TaskObserver::new(task);
    let observer: Arc<dyn Observer> = waiter.clone();
    let registered = sources.iter().flat_map(|(source, events)| source.observe(*events | Events::ALWAYS, &observer)).collect();
    Wait { task: task.clone(), waiter: Some(waiter), _registered: registered, deadline, operation }
}

/// Waits for a call of [`Task::wake`] that makes `operation` say something else than `EAGAIN`, with nothing registered anywhere: who makes the
/// difference knows the task.
pub fn until_woken<T: Send, F: FnMut() -> Result<T> + Send + Unpin>(
    task: &Arc<Task>,
    deadline: Option<u64>,
    operation: F,
) -> impl Future<Output = Outcome<T>> + Send + use<T, F> {
    Wait { task: task.clone(), waiter: None, _registered: Vec::new(), deadline, operation }
}

struct Wait<F> {
    task: Arc<Task>,
    waiter: Option<Arc<TaskObserver>>,
    _registered: Vec<Registration>,
    deadline: Option<u64>,
    operation: F,
}

impl<T, F: FnMut() -> Result<T> + Unpin> Future for Wait<F> {
    type Output = Outcome<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.task.wait_with(context.waker());
        if let Some(waiter) = &self.waiter {
            waiter.fired.store(false, Ordering::SeqCst);
        }
        // Looked at first: an operation that has done a part finds the wait over, too, and says so itself.
        let interrupted = self.task.interrupted();
        let deadline = self.deadline.unwrap_or(u64::MAX);
        let late = deadline != u64::MAX && self.task.kernel().host.clock.monotonic() >= deadline;
        let outcome = (self.operation)();
        if !matches!(outcome, Err(Errno::EAGAIN)) {
            return Poll::Ready(Ok(outcome));
        }
        if interrupted {
            return Poll::Ready(Err(Ended::Interrupted));
        }
        if late {
            return Poll::Ready(Err(Ended::TimedOut));
        }
        self.task.set_deadline(deadline);
        Poll::Pending
    }
}
