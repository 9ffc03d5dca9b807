//! A queue in use (section 2.7, Split Virtqueues): requests come out by [`Ring::pop`], and go back by [`Ring::push`].
//!
//! ```text
//! ring.begin()?;
//! loop {
//!     while let Some(chain) = ring.pop()? { …; ring.push(chain, written)?; }
//!     if ring.idle()? { break; }
//! }
//! ring.signal()?;
//! ```
//!
//! While we are at it, the driver needn't kick; when we are done, it is interrupted if it wants to be. With EVENT_IDX (section 2.7.10) both
//! are said by index, so a busy queue costs neither exits nor interrupts.

use crate::chain::Chain;
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use insula_vm::memory::GuestMemory;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use virtio_bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

/// A queue that its driver has set up.
#[derive(Debug)]
pub struct Ring {
    index: u16,
    queue: Queue,
    memory: GuestMemory,
    kick: Arc<EventFd>,
    interrupt: Interrupt,
    /// Chains that were popped and not pushed.
    taken: u16,
    /// How many chains this event may still take.
    budget: u32,
    /// Chains pushed since the driver was last told.
    untold: bool,
    spare: Vec<Chain>,
}

/// How far a queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingState {
    /// The next entry of the available ring to look at.
    pub next_avail: u16,
    /// The next entry of the used ring to fill.
    pub next_used: u16,
}

impl Ring {
    /// A queue that has been checked ([`QueueT::is_valid`]), with its kick and the device's interrupt.
    pub fn new(index: u16, queue: Queue, memory: GuestMemory, kick: Arc<EventFd>, interrupt: Interrupt) -> Ring {
        Ring { index, queue, memory, kick, interrupt, taken: 0, budget: 0, untold: false, spare: Vec::new() }
    }

    /// The descriptor that is readable when the driver has kicked.
    pub fn kick_fd(&self) -> RawFd {
        self.kick.as_raw_fd()
    }

    /// The guest's memory.
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// How many descriptors it has.
    pub fn size(&self) -> u16 {
        self.queue.size()
    }

    /// How many chains are with the device.
    pub fn taken(&self) -> u16 {
        self.taken
    }

    /// Whether the driver has nothing in it that the device hasn't taken. (It can have put something in a moment later.)
    pub fn is_empty(&self) -> bool {
        self.queue.avail_idx(&self.memory, Ordering::Acquire).is_ok_and(|index| index.0 == self.queue.next_avail())
    }

    /// How far it is. What is taken and not pushed counts as not taken, if it is asked for before anything after it was pushed.
    pub fn state(&self) -> RingState {
        let next_avail = self.queue.next_avail().wrapping_sub(self.taken);
        RingState { next_avail, next_used: self.queue.next_used() }
    }

    fn broken(&self, cause: virtio_queue::Error) -> Error {
        Error::Queue { queue: self.index, cause }
    }

    /// Forgets the kick that brought us here, and asks for no other until [`Ring::idle`].
    ///
    /// # Errors
    /// The queue is broken.
    pub fn begin(&mut self) -> Result<()> {
        // Empty if somebody calls us without a kick.
        let _ = self.kick.read();
        self.go_on()
    }

    /// The same, where it isn't a kick that brought us here.
    ///
    /// # Errors
    /// The queue is broken.
    pub fn go_on(&mut self) -> Result<()> {
        // A driver on another processor could go on for ever; others of the machine want their turn.
        self.budget = 2 * u32::from(self.size());
        self.queue.disable_notification(&self.memory).map_err(|cause| self.broken(cause))
    }

    /// The next request. Malformed ones go back to the driver at once, with nothing written. None also when the device has as many as the
    /// queue can hold, or has had its share for this event.
    ///
    /// # Errors
    /// The queue is broken: its index jumped, or a head is beyond its size.
    pub fn pop(&mut self) -> Result<Option<Chain>> {
        let mut chain = self.spare.pop().unwrap_or_default();
        while self.budget > 0 && self.taken < self.size() {
            let mut heads = self.queue.iter(&self.memory).map_err(|cause| Error::Queue { queue: self.index, cause })?;
            let Some(descriptors) = heads.next() else { break };
            self.budget -= 1;
            let head = descriptors.head_index();
            if chain.fill(&self.memory, head, descriptors) {
                self.taken += 1;
                return Ok(Some(chain));
            }
            self.queue.add_used(&self.memory, head, 0).map_err(|cause| self.broken(cause))?;
            self.untold = true;
        }
        self.spare.push(chain);
        Ok(None)
    }

    /// Puts the request that was popped last back to where it was, to be popped again. No other may have been pushed since.
    pub fn unpop(&mut self, chain: Chain) {
        self.queue.go_to_previous_position();
        self.taken = self.taken.saturating_sub(1);
        self.keep(chain);
    }

    /// Gives a request back, with so many bytes written.
    ///
    /// # Errors
    /// The queue is broken.
    pub fn push(&mut self, chain: Chain, written: u32) -> Result<()> {
        self.queue.add_used(&self.memory, chain.head(), written).map_err(|cause| self.broken(cause))?;
        self.taken = self.taken.saturating_sub(1);
        self.untold = true;
        self.keep(chain);
        Ok(())
    }

    fn keep(&mut self, chain: Chain) {
        if self.spare.len() < usize::from(self.size()) {
            self.spare.push(chain);
        }
    }

    /// Asks for kicks again; false if there is more to pop by now. If our share for this event is used up, we kick ourselves.
    ///
    /// # Errors
    /// The queue is broken.
    pub fn idle(&mut self) -> Result<bool> {
        if self.budget == 0 {
            let _ = self.kick.write(1);
            return Ok(true);
        }
        let more = self.queue.enable_notification(&self.memory).map_err(|cause| self.broken(cause))?;
        // With as many taken as it can hold, the device comes back when it pushes.
        Ok(!more || self.taken >= self.size())
    }

    /// Interrupts the driver, if something was pushed and it wants to hear of that.
    ///
    /// # Errors
    /// The queue is broken.
    pub fn signal(&mut self) -> Result<()> {
        if self.due()? {
            self.interrupt();
        }
        Ok(())
    }

    /// Whether the driver is to be interrupted for what was pushed; who asks sees to it ([`Ring::interrupt`]), at once or soon.
    ///
    /// # Errors
    /// The queue is broken.
    pub fn due(&mut self) -> Result<bool> {
        Ok(std::mem::take(&mut self.untold) && self.wanted()?)
    }

    /// Interrupts the driver.
    pub fn interrupt(&self) {
        self.interrupt.queue(self.index);
    }

    /// Whether an interrupt for the other queue is one for this queue, too: drivers then look at both.
    pub fn shares_with(&self, other: &Ring) -> bool {
        self.interrupt.is_same(self.index, other.index)
    }

    fn wanted(&mut self) -> Result<bool> {
        let wanted = self.queue.needs_notification(&self.memory).map_err(|cause| self.broken(cause))?;
        if self.queue.event_idx_enabled() {
            return Ok(wanted);
        }
        // The library leaves this flag to us (section 2.7.7).
        let flags = self.memory.load::<u16>(GuestAddress(self.queue.avail_ring()), Ordering::Relaxed).map(u16::from_le);
        let flags = flags.map_err(|error| self.broken(virtio_queue::Error::GuestMemory(error)))?;
        Ok(u32::from(flags) & VRING_AVAIL_F_NO_INTERRUPT == 0)
    }
}
