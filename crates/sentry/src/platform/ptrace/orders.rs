//! What the sentry has a stub do: changes of its address space, more stubs, its own end.

use super::super::{Error, MapOp, Registers, Result, SpawnKind, Tried};
use super::raw::{self, Go, Stop, StopKind, Tid};
use super::space::Place;
use super::stub::{self, Then};
use super::{Context, Loaded, Seed, Unattached};
use rustix::io::Errno;
use std::ops::Range;
use std::sync::Arc;

impl Context {
    /// Has the stub's own code make a range of `orders`, and then a clone. Gives clone's result.
    fn batch(&mut self, range: Range<usize>, then: Then) -> std::result::Result<u64, Failed> {
        self.fetch()?;
        self.state = Loaded::Here;
        let file = self.shared.slots.file();
        let orders = self.orders.get(range.clone()).unwrap_or_default();
        file.write(self.place.slot, orders);
        let registers = stub::to_batch(&self.registers, self.place.local, orders.len(), then, file);
        let [left, result, ..] = self.run_stub(&registers)?.args;
        if left == 0 && (matches!(then, Then::Nothing) || (result as i64) >= 0) {
            return Ok(result);
        }
        let errno = Errno::from_raw_os_error((result as i64).wrapping_neg() as i32);
        // No left one: it was the clone.
        Err(Failed::Call(range.end.saturating_sub(left as usize), errno))
    }

    /// Lets the stub run from these registers until it is ready for the next order.
    fn run_stub(&mut self, registers: &Registers) -> Result<Stop> {
        self.host(|tid| raw::set_registers(tid, registers))?;
        loop {
            self.host(|tid| raw::resume(tid, Go::Stub))?;
            let stop = self.wait()?;
            match stop.kind {
                StopKind::Filter if stop.number == stub::READY => return Ok(stop),
                // From outside, or a kick, which the next `enter` sees.
                StopKind::Other if !self.host(raw::signal)?.is_exception() => {}
                // Our own code did what it can't: nothing is known of the stub any more.
                _ => return Err(self.abandon()),
            }
        }
    }

    /// Makes all `orders`, and then a clone. The first `ours` of them aren't our caller's.
    pub(super) fn make(&mut self, ours: usize, then: Then) -> Result<u64> {
        let count = self.orders.len();
        let mut done = 0;
        let result = loop {
            let last = count - done <= stub::BATCH;
            let end = if last { count } else { done + stub::BATCH };
            match self.batch(done..end, if last { then } else { Then::Nothing }) {
                Ok(_) if !last => done = end,
                result => break result,
            }
        };
        result.map_err(|failed| match failed {
            Failed::Call(index, errno) if (ours..count).contains(&index) => Error::Map { index: index - ours, errno },
            Failed::Call(_, errno) => Error::Host { what: "make a stub", errno },
            Failed::Stub(error) => error,
        })
    }

    /// Appends operations to `orders`, up to the first that can't be right; gives that one's place.
    pub(super) fn encode(&mut self, ops: &[MapOp]) -> Option<usize> {
        for (index, op) in ops.iter().enumerate() {
            match stub::order(op, &self.shared.memory) {
                Some(order) => self.orders.push(order),
                None => return Some(index),
            }
        }
        None
    }

    /// Makes a new stub thread with `orders` done before.
    pub(super) fn clone_stub(&mut self, kind: SpawnKind) -> Result<Seed> {
        if kind == SpawnKind::Thread {
            let place = self.space.take().ok_or(Errno::AGAIN).tried("make a stub")?;
            let map = (!place.mapped).then(|| stub::map_slot(self.shared.slots.file(), place.local, place.slot));
            self.orders.splice(0..0, map);
            let made = self.make(usize::from(!place.mapped), Then::Thread);
            let (shared, space) = (Arc::clone(&self.shared), Arc::clone(&self.space));
            return match made {
                Ok(tid) => Ok(Seed(Some(Unattached { shared, space, place: Place { mapped: true, ..place }, tid: tid as Tid }))),
                Err(error) => {
                    self.space.give_back(place);
                    Err(error)
                }
            };
        }
        let slot = self.shared.slots.take().ok_or(Errno::AGAIN).tried("make a stub")?;
        match self.make(0, Then::Process { slot, empty: kind == SpawnKind::Empty }) {
            Ok(pid) => Ok(Seed::of_process(&self.shared, pid as Tid, slot)),
            Err(error) => {
                self.shared.slots.give_back(slot);
                Err(error)
            }
        }
    }

    /// Ends this thread of a stub in which others go on.
    pub(super) fn leave(&mut self) -> rustix::io::Result<()> {
        raw::set_registers(self.tid, &stub::to_leave(&self.registers))?;
        loop {
            raw::resume(self.tid, Go::Stub)?;
            if raw::wait(self.tid)? {
                return Ok(());
            }
        }
    }

    /// Leaves this thread of a stub to itself; it waits for the process's end.
    pub(super) fn park(&mut self) -> rustix::io::Result<()> {
        raw::set_registers(self.tid, &stub::to_park(&self.registers))?;
        raw::detach(self.tid)
    }
}

/// Why a batch isn't done.
enum Failed {
    /// One of `orders`; none of those: the clone.
    Call(usize, Errno),
    /// The stub is gone.
    Stub(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed::Stub(error)
    }
}
