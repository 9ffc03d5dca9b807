//! Timers of a process that send signals: timer_create(2), setitimer(2), alarm(2).
//!
//! A timer by a clock of processor time looks again whenever the time that is left could have been used up, as nobody is told when a task has
//! used so much; it fires late by up to a [`TICK`].

use super::clock::TICK;
use super::{Alarm, Clock, Schedule, Ticket};
use crate::signal::send::{Target, send};
use crate::sync::{Mutex, MutexGuard};
use crate::task::{Process, Task};
use crate::{Errno, Kernel, Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use insula_abi::general as c;
use insula_abi::signal::Siginfo;

/// What a timer does when it fires.
#[derive(Clone)]
pub enum Notice {
    /// Nothing.
    None,
    /// Sends a signal to its process, with nothing said of the timer (setitimer(2)).
    Plain(i32),
    /// Sends this signal with this value to its process.
    Process(i32, u64),
    /// Sends it to this task.
    Task(Weak<Task>, i32, u64),
}

/// A timer.
pub struct Timer {
    kernel: Arc<Kernel>,
    this: Weak<Timer>,
    process: Weak<Process>,
    clock: Clock,
    id: i32,
    notice: Notice,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    schedule: Schedule,
    ticket: Option<Ticket>,
    /// How often it fired since its last signal was sent, beside for that.
    overrun: u64,
}

impl Timer {
    /// One that isn't set.
    pub fn new(kernel: &Arc<Kernel>, process: &Arc<Process>, clock: Clock, id: i32, notice: Notice) -> Arc<Self> {
        Arc::new_cyclic(|this| Timer {
            kernel: kernel.clone(),
            this: this.clone(),
            process: Arc::downgrade(process),
            clock,
            id,
            notice,
            state: Mutex::default(),
        })
    }

    fn by_processor(&self) -> bool {
        matches!(self.clock, Clock::Task(..) | Clock::Process(..))
    }

    /// Now, as its schedule has it.
    fn now(&self) -> u64 {
        if self.by_processor() { self.clock.now(&self.kernel) } else { self.kernel.host.clock.monotonic() }
    }

    /// Sets it: to fire in `value` nanoseconds (at that moment of its clock, if `absolute`), 0 being never, and then each `interval`. Answers what
    /// was left before, and the interval.
    pub fn set(&self, value: u64, interval: u64, absolute: bool) -> (u64, u64) {
        let now = self.now();
        let schedule = match absolute {
            true if self.by_processor() => Schedule::at(value as i64, interval),
            true => Schedule::at(self.clock.to_monotonic(&self.kernel, value).unwrap_or(i64::MAX), interval),
            false => Schedule::after(now, value, interval),
        };
        let schedule = if value == 0 { Schedule::after(now, 0, interval) } else { schedule };
        let mut state = self.current(now);
        let before = state.schedule.left(now);
        (state.schedule, state.overrun) = (schedule, 0);
        self.arm(&mut state, now);
        drop(state);
        self.fire(now);
        before
    }

    /// Nanoseconds that are left, and the interval.
    pub fn left(&self) -> (u64, u64) {
        let now = self.now();
        self.fire(now);
        self.current(now).schedule.left(now)
    }

    /// How often it fired beside for the last signal, at most `i32::MAX`.
    pub fn overrun(&self) -> i32 {
        i32::try_from(self.state.lock().overrun).unwrap_or(i32::MAX)
    }

    /// Its state; one that tells nobody has fired in silence.
    fn current(&self, now: u64) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        if matches!(self.notice, Notice::None) {
            state.schedule.advance(now);
        }
        state
    }

    fn arm(&self, state: &mut State, now: u64) {
        if let Some(ticket) = state.ticket.take() {
            self.kernel.timers.cancel(ticket);
        }
        let Some(next) = state.schedule.next().filter(|_| !matches!(self.notice, Notice::None)) else { return };
        let at = match &self.clock {
            Clock::Task(..) => self.kernel.host.clock.monotonic() + next.saturating_sub(now).max(TICK),
            Clock::Process(task, _) => {
                // So many tasks can use it up together.
                let tasks = task.process.tasks().len().max(1) as u64;
                self.kernel.host.clock.monotonic() + (next.saturating_sub(now) / tasks).max(TICK)
            }
            _ => next,
        };
        let this: Weak<dyn Alarm> = self.this.clone();
        state.ticket = Some(self.kernel.timers.set(at, this));
    }

    /// Sends what is due.
    fn fire(&self, now: u64) {
        if matches!(self.notice, Notice::None) {
            return;
        }
        let count = {
            let mut state = self.state.lock();
            let count = state.schedule.advance(now);
            self.arm(&mut state, now);
            count
        };
        if count > 0
            && let Some(process) = self.process.upgrade()
        {
            self.send(&process, count);
        }
    }

    fn send(&self, process: &Arc<Process>, count: u64) {
        let (target, signal, value) = match &self.notice {
            Notice::None => return,
            Notice::Plain(signal) => {
                let info = Siginfo { signo: *signal, code: c::SI_KERNEL as i32, ..Siginfo::default() };
                let _ = send(Target::Process(process), info);
                return;
            }
            Notice::Process(signal, value) => (None, *signal, *value),
            Notice::Task(task, signal, value) => match task.upgrade() {
                Some(task) => (Some(task), *signal, *value),
                None => return,
            },
        };
        let waits = match &target {
            Some(task) => task.signals().pending.overrun(self.id, count),
            None => process.lock().pending.overrun(self.id, count),
        };
        let mut state = self.state.lock();
        if waits {
            state.overrun += count;
            return;
        }
        state.overrun = count - 1;
        drop(state);
        let overrun = i32::try_from(count - 1).unwrap_or(i32::MAX);
        let info = Siginfo::timer(signal, self.id, overrun, value);
        // There is nobody to be told that a process's queue is full.
        let _ = send(target.as_ref().map_or(Target::Process(process), Target::Task), info);
    }
}

impl Alarm for Timer {
    fn expire(&self, _: u64) -> Option<u64> {
        self.fire(self.now());
        None
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(ticket) = self.state.lock().ticket.take() {
            self.kernel.timers.cancel(ticket);
        }
    }
}

/// All timers of a process.
#[derive(Default)]
pub struct ProcessTimers(Mutex<Own>);

#[derive(Default)]
struct Own {
    posix: BTreeMap<i32, Arc<Timer>>,
    next: i32,
    /// By `ITIMER_*`.
    interval: [Option<Arc<Timer>>; 3],
}

impl ProcessTimers {
    /// Adds a timer, of which `make` is told the number; answers that.
    ///
    /// # Errors
    /// `EAGAIN`: there are `most` already.
    pub fn add(&self, most: u64, make: impl FnOnce(i32) -> Arc<Timer>) -> Result<i32> {
        let mut own = self.0.lock();
        if own.posix.len() as u64 >= most.min(1 << 16) {
            return Err(Errno::EAGAIN);
        }
        while own.posix.contains_key(&own.next) {
            own.next = own.next.wrapping_add(1) & i32::MAX;
        }
        let id = own.next;
        own.next = id.wrapping_add(1) & i32::MAX;
        own.posix.insert(id, make(id));
        Ok(id)
    }

    /// A timer.
    ///
    /// # Errors
    /// `EINVAL`: there is none of this number.
    pub fn get(&self, id: i32) -> Result<Arc<Timer>> {
        self.0.lock().posix.get(&id).cloned().ok_or(Errno::EINVAL)
    }

    /// Removes a timer.
    ///
    /// # Errors
    /// `EINVAL`: there is none of this number.
    pub fn remove(&self, id: i32) -> Result<()> {
        let removed = self.0.lock().posix.remove(&id);
        removed.map(drop).ok_or(Errno::EINVAL)
    }

    /// The interval timer `which`, made by `make` if it is used for the first time.
    ///
    /// # Errors
    /// `EINVAL`: there is none.
    pub fn interval(&self, which: u32, make: impl FnOnce() -> Arc<Timer>) -> Result<Arc<Timer>> {
        let mut own = self.0.lock();
        let slot = own.interval.get_mut(which as usize).ok_or(Errno::EINVAL)?;
        Ok(slot.get_or_insert_with(make).clone())
    }

    /// Forgets those that execve(2) ends, or all.
    pub fn clear(&self, all: bool) {
        let mut own = self.0.lock();
        let posix = core::mem::take(&mut own.posix);
        let interval = if all { core::mem::take(&mut own.interval) } else { Default::default() };
        drop(own);
        drop((posix, interval));
    }
}
