//! Time, and the thread that waits for the next alarm.

use insula_abi::general as c;
use insula_kernel::{Kernel, host};
use rustix::time::{ClockId, clock_gettime};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

/// The host's clocks. The first alarm that is set starts a thread, which sleeps until the earliest.
#[derive(Debug, Default)]
pub struct HostClock {
    /// The moment the thread waits for; none is set at the end of time.
    next: Mutex<Option<u64>>,
    changed: Condvar,
    kernel: OnceLock<Weak<Kernel>>,
}

impl HostClock {
    /// Whose alarms these are. Starts the thread that calls them.
    ///
    /// # Errors
    /// The host has no room for a thread.
    pub fn serve(self: &std::sync::Arc<Self>, kernel: &std::sync::Arc<Kernel>) -> std::io::Result<()> {
        let _ = self.kernel.set(std::sync::Arc::downgrade(kernel));
        let clock = self.clone();
        std::thread::Builder::new().name("timer".into()).stack_size(128 << 10).spawn(move || clock.run()).map(drop)
    }

    fn run(&self) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let now = host::Clock::monotonic(self);
            next = match *next {
                Some(at) if at <= now => {
                    *next = None;
                    drop(next);
                    let Some(kernel) = self.kernel.get().and_then(Weak::upgrade) else { return };
                    kernel.timers.expire();
                    self.next.lock().unwrap_or_else(PoisonError::into_inner)
                }
                Some(at) => {
                    let wait = self.changed.wait_timeout(next, Duration::from_nanos(at - now));
                    wait.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(next).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

fn nanos(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}

impl host::Clock for HostClock {
    fn monotonic(&self) -> u64 {
        nanos(ClockId::Monotonic)
    }

    fn realtime(&self) -> u64 {
        nanos(ClockId::Realtime)
    }

    fn other(&self, id: u32) -> u64 {
        nanos(match id {
            c::CLOCK_MONOTONIC_RAW => ClockId::MonotonicRaw,
            c::CLOCK_REALTIME_COARSE => ClockId::RealtimeCoarse,
            _ => ClockId::MonotonicCoarse,
        })
    }

    fn arm(&self, at: u64) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next = Some(at);
        self.changed.notify_one();
    }
}
