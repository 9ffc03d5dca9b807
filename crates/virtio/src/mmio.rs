//! The register file of a device on virtio-mmio, version 2 (section 4.2).
//!
//! A driver reads and writes registers of 4 bytes, aligned; the configuration from 0x100 on in any size. What isn't so, what comes out of
//! order (a queue set up while the device runs), and what names nothing (a queue that isn't there) is ignored, and reads as zero.
//!
//! What can be read lies in a page that the guest reads as memory, without coming back to us; it is brought up to date after all that may
//! change it. Only writes come here, and of these not the two that belong to each request: KVM turns the kick into an event, and takes
//! in the acknowledgement of a used ring, after which InterruptStatus says, as before, that there may be something in one. A driver looks,
//! and finds it or not.

use crate::device::{Activation, Change, Counters, Device, Saved, Source, Token};
use crate::error::{Error, Result, Tried};
use crate::interrupt::Interrupt;
#[cfg(doc)]
use crate::interrupt::QUEUE;
use crate::ring::{Ring, RingState};
use insula_vm::memory::GuestMemory;
use insula_vm::window::Page;
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use virtio_bindings::virtio_config as status;
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_mmio as register;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

#[cfg(test)]
mod tests;

/// "virt", little-endian.
const MAGIC: u32 = 0x7472_6976;
/// "insu": who made the device; drivers don't care.
const VENDOR: u32 = 0x7573_6e69;
/// What [`Transport::register`] knows; the two that change by themselves are [`Interrupt`]'s.
const READABLE: [u32; 12] = [
    register::VIRTIO_MMIO_MAGIC_VALUE,
    register::VIRTIO_MMIO_VERSION,
    register::VIRTIO_MMIO_DEVICE_ID,
    register::VIRTIO_MMIO_VENDOR_ID,
    register::VIRTIO_MMIO_DEVICE_FEATURES,
    register::VIRTIO_MMIO_QUEUE_NUM_MAX,
    register::VIRTIO_MMIO_QUEUE_READY,
    register::VIRTIO_MMIO_STATUS,
    register::VIRTIO_MMIO_SHM_LEN_LOW,
    register::VIRTIO_MMIO_SHM_LEN_HIGH,
    register::VIRTIO_MMIO_SHM_BASE_LOW,
    register::VIRTIO_MMIO_SHM_BASE_HIGH,
];
/// Offered for every device: the transport and [`Ring`] do them.
const TRANSPORT_FEATURES: u64 = 1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC;

/// What the driver has written about a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Setup {
    size: u32,
    ready: bool,
    descriptors: u64,
    available: u64,
    used: u64,
}

/// What the driver has written, beside the device's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Registers {
    status: u32,
    device_features_select: u32,
    driver_features_select: u32,
    driver_features: u64,
    queue_select: u32,
    queues: Vec<Setup>,
}

/// A device and its registers.
pub struct Transport {
    device: Box<dyn Device>,
    memory: GuestMemory,
    interrupt: Interrupt,
    page: Page,
    kicks: Vec<Arc<EventFd>>,
    registers: Registers,
    active: bool,
}

/// A transport's state, with its device's: serde writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    kind: u32,
    registers: Registers,
    interrupt: u32,
    generation: u32,
    active: bool,
    saved: Saved,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").field("kind", &self.device.kind()).field("registers", &self.registers).finish_non_exhaustive()
    }
}

impl Transport {
    /// Puts a device behind registers, which are read in this page. The machine then registers [`Transport::interrupt`] as an irqfd, and
    /// [`Transport::kicks`] as ioeventfds on register 0x50 (QueueNotify), with the queue's number as what has to match; and it may let
    /// KVM take in [`QUEUE`] on register 0x64 (InterruptACK).
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new(device: Box<dyn Device>, memory: GuestMemory, page: Page) -> Result<Transport> {
        let count = device.queue_sizes().len();
        let kick = |_| EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map(Arc::new).tried("make an eventfd for a queue");
        let kicks = (0..count).map(kick).collect::<Result<_>>()?;
        let mut transport = Transport {
            device,
            memory,
            interrupt: Interrupt::new(page.clone())?,
            page,
            kicks,
            registers: Registers::default(),
            active: false,
        };
        transport.registers.queues = transport.fresh_queues();
        transport.publish();
        Ok(transport)
    }

    fn fresh_queues(&self) -> Vec<Setup> {
        self.device.queue_sizes().iter().map(|&size| Setup { size: u32::from(size), ..Setup::default() }).collect()
    }

    /// The device's interrupt.
    pub fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// One eventfd for each queue: the driver's kick.
    pub fn kicks(&self) -> &[Arc<EventFd>] {
        &self.kicks
    }

    /// Asks something of the device, if it is of this type, on behalf of the host.
    pub fn ask<D: Device, R>(&mut self, what: impl FnOnce(&mut D) -> R) -> Option<R> {
        let device: &mut dyn Any = self.device.as_mut();
        let answer = device.downcast_mut().map(what);
        self.publish();
        answer
    }

    /// What the device has done.
    pub fn counters(&self) -> Counters {
        self.device.counters()
    }

    /// What to wait for: nothing before the driver is ready.
    pub fn sources(&self) -> Vec<Source> {
        if self.active { self.device.sources() } else { Vec::new() }
    }

    /// One of the sources is ready. A device that fails asks its driver to be reset, and what failed is answered for the log.
    ///
    /// # Errors
    /// As [`Device::event`]. Then there is nothing to wait for until the driver resets the device.
    pub fn event(&mut self, token: Token) -> Result<Change> {
        if !self.active {
            return Ok(Change::Nothing);
        }
        let change = self.device.event(token).inspect_err(|_| self.fail());
        self.publish();
        change
    }

    /// Brings what the driver reads up to date; then it hears of what has changed.
    fn publish(&self) {
        /// No device's configuration is longer.
        const CONFIGURATION: usize = 128;
        for offset in READABLE {
            self.page.word(offset).store(self.register(offset), Ordering::Release);
        }
        let mut configuration = [0; CONFIGURATION];
        self.device.read_config(0, &mut configuration);
        self.page.put(register::VIRTIO_MMIO_CONFIG, &configuration);
        self.interrupt.tell();
    }

    /// Section 2.1.2: a device in an error it can't leave sets DEVICE_NEEDS_RESET, and says so if its driver was ready.
    fn fail(&mut self) {
        self.device.reset();
        self.active = false;
        self.registers.status |= status::VIRTIO_CONFIG_S_NEEDS_RESET;
        if self.has(status::VIRTIO_CONFIG_S_DRIVER_OK) {
            self.interrupt.status_changed();
        }
    }

    fn has(&self, bit: u32) -> bool {
        self.registers.status & bit != 0
    }

    fn offered(&self) -> u64 {
        self.device.features() | TRANSPORT_FEATURES
    }

    fn queue(&self) -> Option<&Setup> {
        self.registers.queues.get(self.registers.queue_select as usize)
    }

    /// The driver reads, which needs no transport where the page is shown to the guest; `offset` counts from the start of the window.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        self.page.get(offset, data);
    }

    /// Table 4.1, but for what [`Interrupt`] keeps in the page itself.
    fn register(&self, offset: u32) -> u32 {
        match offset {
            register::VIRTIO_MMIO_MAGIC_VALUE => MAGIC,
            register::VIRTIO_MMIO_VERSION => 2,
            register::VIRTIO_MMIO_DEVICE_ID => self.device.kind(),
            register::VIRTIO_MMIO_VENDOR_ID => VENDOR,
            register::VIRTIO_MMIO_DEVICE_FEATURES => match self.registers.device_features_select {
                0 => self.offered() as u32,
                1 => (self.offered() >> 32) as u32,
                _ => 0,
            },
            register::VIRTIO_MMIO_QUEUE_NUM_MAX => {
                let size = self.device.queue_sizes().get(self.registers.queue_select as usize);
                size.copied().map_or(0, u32::from)
            }
            register::VIRTIO_MMIO_QUEUE_READY => self.queue().is_some_and(|queue| queue.ready).into(),
            register::VIRTIO_MMIO_STATUS => self.registers.status,
            // No device has shared memory: regions that don't exist are -1 long (section 4.2.2).
            register::VIRTIO_MMIO_SHM_LEN_LOW | register::VIRTIO_MMIO_SHM_LEN_HIGH => u32::MAX,
            register::VIRTIO_MMIO_SHM_BASE_LOW | register::VIRTIO_MMIO_SHM_BASE_HIGH => u32::MAX,
            _ => 0,
        }
    }

    /// The driver writes. If there is something else to wait for by that, it is said.
    ///
    /// # Errors
    /// The device refused to start; the driver has been told. For the log.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<Change> {
        let change = self.take(offset, data);
        self.publish();
        change
    }

    fn take(&mut self, offset: u64, data: &[u8]) -> Result<Change> {
        let config = u64::from(register::VIRTIO_MMIO_CONFIG);
        if offset >= config {
            // Section 3.1.1: not before the driver has found out what it is.
            if self.has(status::VIRTIO_CONFIG_S_DRIVER) && !self.has(status::VIRTIO_CONFIG_S_FAILED) {
                self.device.write_config(offset - config, data);
            }
            return Ok(Change::Nothing);
        }
        let Ok(data) = <[u8; 4]>::try_from(data) else { return Ok(Change::Nothing) };
        let value = u32::from_le_bytes(data);
        match offset as u32 {
            register::VIRTIO_MMIO_STATUS => return self.set_status(value),
            register::VIRTIO_MMIO_DEVICE_FEATURES_SEL => self.registers.device_features_select = value,
            register::VIRTIO_MMIO_DRIVER_FEATURES_SEL => self.registers.driver_features_select = value,
            register::VIRTIO_MMIO_DRIVER_FEATURES => self.set_features(value),
            register::VIRTIO_MMIO_QUEUE_SEL => self.registers.queue_select = value,
            // The usual kick never comes here; KVM turns it into the event itself.
            register::VIRTIO_MMIO_QUEUE_NOTIFY => {
                if let Some(kick) = self.kicks.get(value as usize) {
                    let _ = kick.write(1);
                }
            }
            register::VIRTIO_MMIO_INTERRUPT_ACK => self.interrupt.acknowledge(value),
            offset => self.set_queue(offset, value),
        }
        Ok(Change::Nothing)
    }

    fn set_features(&mut self, value: u32) {
        if !self.has(status::VIRTIO_CONFIG_S_DRIVER) || self.has(status::VIRTIO_CONFIG_S_FEATURES_OK) {
            return;
        }
        let features = &mut self.registers.driver_features;
        match self.registers.driver_features_select {
            0 => *features = *features & !0xffff_ffff | u64::from(value),
            1 => *features = *features & 0xffff_ffff | u64::from(value) << 32,
            _ => {}
        }
    }

    fn set_queue(&mut self, offset: u32, value: u32) {
        let done = status::VIRTIO_CONFIG_S_DRIVER_OK | status::VIRTIO_CONFIG_S_FAILED | status::VIRTIO_CONFIG_S_NEEDS_RESET;
        if !self.has(status::VIRTIO_CONFIG_S_FEATURES_OK) || self.has(done) {
            return;
        }
        let index = self.registers.queue_select as usize;
        let Some(queue) = self.registers.queues.get_mut(index) else { return };
        if offset == register::VIRTIO_MMIO_QUEUE_READY {
            queue.ready = value == 1;
            // A driver reads the register to see whether the queue is good (section 4.2.2.2).
            let good = value == 1 && self.make_queue(index, None).is_some();
            self.registers.queues[index].ready = good;
            return;
        }
        // Section 4.2.2.2: none of these may be written while the queue is ready.
        if queue.ready {
            return;
        }
        let low = |address: u64| address & !0xffff_ffff | u64::from(value);
        let high = |address: u64| address & 0xffff_ffff | u64::from(value) << 32;
        match offset {
            register::VIRTIO_MMIO_QUEUE_NUM => queue.size = value,
            register::VIRTIO_MMIO_QUEUE_DESC_LOW => queue.descriptors = low(queue.descriptors),
            register::VIRTIO_MMIO_QUEUE_DESC_HIGH => queue.descriptors = high(queue.descriptors),
            register::VIRTIO_MMIO_QUEUE_AVAIL_LOW => queue.available = low(queue.available),
            register::VIRTIO_MMIO_QUEUE_AVAIL_HIGH => queue.available = high(queue.available),
            register::VIRTIO_MMIO_QUEUE_USED_LOW => queue.used = low(queue.used),
            register::VIRTIO_MMIO_QUEUE_USED_HIGH => queue.used = high(queue.used),
            _ => {}
        }
    }

    /// The queue that the driver has described, if that is one: its size is a power of 2 and not beyond the most, its parts are aligned
    /// and lie in memory.
    fn make_queue(&self, index: usize, at: Option<RingState>) -> Option<Queue> {
        let setup = self.registers.queues.get(index)?;
        let mut queue = Queue::new(*self.device.queue_sizes().get(index)?).ok()?;
        queue.try_set_size(u16::try_from(setup.size).ok()?).ok()?;
        queue.try_set_desc_table_address(GuestAddress(setup.descriptors)).ok()?;
        queue.try_set_avail_ring_address(GuestAddress(setup.available)).ok()?;
        queue.try_set_used_ring_address(GuestAddress(setup.used)).ok()?;
        queue.set_event_idx(self.registers.driver_features >> VIRTIO_RING_F_EVENT_IDX & 1 == 1);
        queue.set_ready(setup.ready);
        if let Some(at) = at {
            queue.set_next_avail(at.next_avail);
            queue.set_next_used(at.next_used);
        }
        (setup.available != 0 && queue.is_valid(&self.memory)).then_some(queue)
    }

    /// Section 3.1.1: the driver goes from step to step, and takes none back but by a reset.
    fn set_status(&mut self, value: u32) -> Result<Change> {
        if value == 0 {
            return Ok(self.reset());
        }
        let before = self.registers.status;
        let own = before & status::VIRTIO_CONFIG_S_NEEDS_RESET;
        let mut value = value & !status::VIRTIO_CONFIG_S_NEEDS_RESET | own;
        let steps = [
            status::VIRTIO_CONFIG_S_ACKNOWLEDGE,
            status::VIRTIO_CONFIG_S_DRIVER,
            status::VIRTIO_CONFIG_S_FEATURES_OK,
            status::VIRTIO_CONFIG_S_DRIVER_OK,
        ];
        let skips = steps.windows(2).any(|pair| value & pair[1] != 0 && value & pair[0] == 0);
        if before & !value != 0 || skips {
            return Ok(Change::Nothing);
        }
        let news = value & !before;
        if news & status::VIRTIO_CONFIG_S_FEATURES_OK != 0 && !self.features_fit() {
            // It reads back without the bit (section 3.1.1, step 6), and there is no step beyond.
            value &= !(status::VIRTIO_CONFIG_S_FEATURES_OK | status::VIRTIO_CONFIG_S_DRIVER_OK);
        }
        let start = value & !before & status::VIRTIO_CONFIG_S_DRIVER_OK != 0;
        self.registers.status = value;
        if start && !self.has(status::VIRTIO_CONFIG_S_FAILED | status::VIRTIO_CONFIG_S_NEEDS_RESET) {
            return self.activate(&[]);
        }
        Ok(Change::Nothing)
    }

    fn features_fit(&self) -> bool {
        let accepted = self.registers.driver_features;
        accepted & !self.offered() == 0 && accepted >> VIRTIO_F_VERSION_1 & 1 == 1
    }

    fn activate(&mut self, at: &[Option<RingState>]) -> Result<Change> {
        let queues = (0..self.kicks.len()).map(|index| self.ring(index, at.get(index).copied().flatten())).collect();
        let start = Activation {
            memory: self.memory.clone(),
            queues,
            interrupt: self.interrupt.clone(),
            features: self.registers.driver_features,
        };
        self.active = true;
        self.device.activate(start).inspect_err(|_| self.fail())?;
        // A kick from before, or a request from before it was saved, is looked at now.
        for kick in &self.kicks {
            let _ = kick.write(1);
        }
        Ok(Change::Sources)
    }

    fn ring(&self, index: usize, at: Option<RingState>) -> Option<Ring> {
        let queue = self.registers.queues.get(index).filter(|queue| queue.ready).and_then(|_| self.make_queue(index, at))?;
        // There are no more queues than a u16 counts.
        Some(Ring::new(index as u16, queue, self.memory.clone(), self.kicks.get(index)?.clone(), self.interrupt.clone()))
    }

    /// Section 2.4, and 4.2.2.1: all registers are as at the start.
    fn reset(&mut self) -> Change {
        let was_active = std::mem::take(&mut self.active);
        self.device.reset();
        self.registers = Registers { queues: self.fresh_queues(), ..Registers::default() };
        self.interrupt.reset();
        for kick in &self.kicks {
            let _ = kick.read();
        }
        if was_active { Change::Sources } else { Change::Nothing }
    }

    /// What is needed to go on elsewhere, once the virtual processors stand still.
    ///
    /// # Errors
    /// The device can't finish what is under way.
    pub fn save(&mut self) -> Result<State> {
        let saved = self.device.save()?;
        let (interrupt, generation) = (self.interrupt.status(), self.interrupt.generation());
        Ok(State {
            kind: self.device.kind(),
            registers: self.registers.clone(),
            interrupt,
            generation,
            active: self.active,
            saved,
        })
    }

    /// Goes on where another transport was saved, over the same memory. The file it comes from may be hostile, too.
    ///
    /// # Errors
    /// It is another device's, or contradicts itself.
    pub fn restore(&mut self, state: State) -> Result<Change> {
        let kind = self.device.kind();
        let refuse = |cause: &str| Err(Error::State { kind, cause: cause.to_owned() });
        if state.kind != kind {
            return refuse(&format!("it is of device {}", state.kind));
        }
        if state.registers.queues.len() != self.kicks.len() {
            return refuse("it has another number of queues");
        }
        let _ = self.reset();
        self.registers = state.registers;
        if self.has(status::VIRTIO_CONFIG_S_FEATURES_OK) && !self.features_fit() {
            let _ = self.reset();
            return refuse("its driver accepted features that aren't offered here");
        }
        let broken = |index: usize| self.registers.queues[index].ready && self.make_queue(index, None).is_none();
        if (0..self.kicks.len()).any(broken) {
            let _ = self.reset();
            return refuse("a queue doesn't lie in memory");
        }
        self.device.restore(&state.saved.device)?;
        self.interrupt.restore(state.interrupt, state.generation);
        self.publish();
        if state.active && self.has(status::VIRTIO_CONFIG_S_DRIVER_OK) {
            let change = self.activate(&state.saved.rings);
            self.publish();
            return change;
        }
        Ok(Change::Nothing)
    }
}
