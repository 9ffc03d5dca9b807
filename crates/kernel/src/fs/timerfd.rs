//! A timer to wait at, timerfd_create(2).

use super::{File, FileType, Io};
use crate::mm::UserBuf;
use crate::sync::Mutex;
use crate::time::{Alarm, Clock, Schedule, Ticket};
use crate::wait::{Events, Observer, Pollable, Queue, Registration};
use crate::{Errno, Kernel, Result};
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use insula_abi::time::Itimerspec;

/// A timer that counts how often it has fired.
pub struct Timerfd {
    kernel: Arc<Kernel>,
    this: Weak<Timerfd>,
    clock: Clock,
    id: u32,
    state: Mutex<State>,
    queue: Arc<Queue>,
}

#[derive(Default)]
struct State {
    schedule: Schedule,
    /// How often it has fired and nobody read it.
    count: u64,
    ticket: Option<Ticket>,
    flags: u32,
}

impl Timerfd {
    /// One that isn't set, by the clock of this number.
    pub fn new(kernel: &Arc<Kernel>, clock: Clock, id: u32) -> Arc<Self> {
        Arc::new_cyclic(|this| Timerfd {
            kernel: kernel.clone(),
            this: this.clone(),
            clock,
            id,
            state: Mutex::default(),
            queue: Queue::new(),
        })
    }

    fn now(&self) -> u64 {
        self.kernel.host.clock.monotonic()
    }

    /// Sets it; answers what was set before.
    ///
    /// # Errors
    /// `EINVAL`: not times.
    pub fn set(&self, spec: &Itimerspec, absolute: bool, flags: u32) -> Result<Itimerspec> {
        let schedule = Schedule::new(&self.kernel, &self.clock, spec, absolute)?;
        let now = self.now();
        let mut state = self.state.lock();
        state.schedule.advance(now);
        let before = state.schedule.spec(now);
        (state.schedule, state.count, state.flags) = (schedule, 0, flags);
        self.arm(&mut state);
        drop(state);
        // It may have been set to a moment that has passed.
        if self.poll().contains(Events::IN) {
            self.queue.wake(Events::READABLE);
        }
        Ok(before)
    }

    /// What is left until it fires, and its period.
    pub fn get(&self) -> Itimerspec {
        let now = self.now();
        let mut state = self.state.lock();
        state.count += state.schedule.advance(now);
        state.schedule.spec(now)
    }

    fn arm(&self, state: &mut State) {
        if let Some(ticket) = state.ticket.take() {
            self.kernel.timers.cancel(ticket);
        }
        let this: Weak<dyn Alarm> = self.this.clone();
        state.ticket = state.schedule.next().map(|at| self.kernel.timers.set(at, this));
    }
}

impl Alarm for Timerfd {
    fn expire(&self, now: u64) -> Option<u64> {
        let mut state = self.state.lock();
        state.count += state.schedule.advance(now);
        self.arm(&mut state);
        let fired = state.count > 0;
        drop(state);
        if fired {
            self.queue.wake(Events::READABLE);
        }
        None
    }
}

impl Drop for Timerfd {
    fn drop(&mut self) {
        if let Some(ticket) = self.state.lock().ticket.take() {
            self.kernel.timers.cancel(ticket);
        }
    }
}

impl Pollable for Timerfd {
    fn poll(&self) -> Events {
        let now = self.now();
        let mut state = self.state.lock();
        state.count += state.schedule.advance(now);
        if state.count > 0 { Events::READABLE } else { Events::empty() }
    }

    fn observe(&self, interest: Events, observer: &Arc<dyn Observer>) -> Vec<Registration> {
        alloc::vec![self.queue.register(interest, observer.clone())]
    }
}

impl File for Timerfd {
    fn file_type(&self) -> FileType {
        FileType::Anonymous
    }

    fn read(&self, _: &Io<'_>, _: u64, buffer: &mut UserBuf) -> Result<usize> {
        if buffer.left() < 8 {
            return Err(Errno::EINVAL);
        }
        let now = self.now();
        let mut state = self.state.lock();
        state.count += state.schedule.advance(now);
        let count = core::mem::take(&mut state.count);
        drop(state);
        if count == 0 {
            return Err(Errno::EAGAIN);
        }
        if buffer.put(&count.to_ne_bytes())? < 8 { Err(Errno::EFAULT) } else { Ok(8) }
    }

    fn describe(&self) -> Vec<u8> {
        b"anon_inode:[timerfd]".to_vec()
    }

    fn fdinfo(&self) -> Vec<u8> {
        let Itimerspec { interval, value } = self.get();
        let state = self.state.lock();
        format!(
            "clockid: {}\nticks: {}\nsettime flags: 0{:o}\nit_value: ({}, {})\nit_interval: ({}, {})\n",
            self.id, state.count, state.flags, value.sec, value.nsec, interval.sec, interval.nsec
        )
        .into_bytes()
    }
}
