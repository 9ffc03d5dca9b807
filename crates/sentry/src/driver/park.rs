//! A task's thread waits for what its system call waits for.

use insula_kernel::host::Clock;
use insula_kernel::task::{Busy, Task};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

/// Wakes one thread.
struct Parked {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::SeqCst) {
            self.thread.unpark();
        }
    }
}

/// Waits for futures on this thread, for one task after the other of its calls.
pub(super) struct Waiter {
    parked: Arc<Parked>,
    waker: Waker,
}

impl Waiter {
    /// For the calling thread.
    pub(super) fn new() -> Self {
        let parked = Arc::new(Parked { thread: std::thread::current(), woken: AtomicBool::new(false) });
        Waiter { waker: parked.clone().into(), parked }
    }

    /// Waits until the future has a value. Signals end the wait by making it have one.
    pub(super) fn wait<T>(&self, task: &Task, mut future: Pin<Box<dyn Future<Output = T> + Send>>) -> T {
        let mut context = Context::from_waker(&self.waker);
        loop {
            self.parked.woken.store(false, Ordering::SeqCst);
            task.set_deadline(u64::MAX);
            if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
                task.waited();
                return value;
            }
            task.busy(Busy::No);
            self.sleep(task);
            task.busy(Busy::Kernel);
        }
    }

    /// Sleeps until somebody wakes the task, or the moment has come at which its future wants to be polled.
    fn sleep(&self, task: &Task) {
        while !self.parked.woken.load(Ordering::SeqCst) {
            let deadline = task.deadline();
            if deadline == u64::MAX {
                std::thread::park();
                continue;
            }
            let now = Clock::monotonic(&*task.kernel().host.clock);
            if now >= deadline {
                return;
            }
            std::thread::park_timeout(Duration::from_nanos(deadline - now));
        }
    }
}
