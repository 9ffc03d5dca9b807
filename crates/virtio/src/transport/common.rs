//! What a driver does with its device by any transport: sections 2.1 (status), 2.2 (features) and 2.6 (queues), and 3.1 (in which order).

use crate::device::{Activation, Change, Device, Saved, Source, Token};
use crate::error::{Error, Result, Tried};
use crate::interrupt::Interrupt;
use crate::ring::{Ring, RingState};
use insula_vm::memory::GuestMemory;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use virtio_bindings::virtio_config as status;
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Offered for every device: the transport and [`Ring`] do them.
const TRANSPORT_FEATURES: u64 = 1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC;

/// What the driver has written about a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Setup {
    pub(super) size: u32,
    pub(super) ready: bool,
    pub(super) descriptors: u64,
    pub(super) available: u64,
    pub(super) used: u64,
}

impl Setup {
    fn address(&mut self, area: Area) -> &mut u64 {
        match area {
            Area::Descriptors => &mut self.descriptors,
            Area::Available => &mut self.available,
            Area::Used => &mut self.used,
        }
    }
}

/// One of a queue's three parts in memory.
#[derive(Clone, Copy, Debug)]
pub(super) enum Area {
    Descriptors,
    Available,
    Used,
}

/// Something that is said about a queue.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field {
    Size,
    Ready,
    /// The lower half of an address.
    Low(Area),
    High(Area),
}

/// What the driver has written, beside the device's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Registers {
    pub(super) status: u32,
    pub(super) device_features_select: u32,
    pub(super) driver_features_select: u32,
    pub(super) driver_features: u64,
    pub(super) queue_select: u32,
    pub(super) queues: Vec<Setup>,
}

/// A device, and how far its driver is with it.
pub(super) struct Core {
    pub(super) device: Box<dyn Device>,
    memory: GuestMemory,
    pub(super) interrupt: Interrupt,
    pub(super) kicks: Vec<Arc<EventFd>>,
    pub(super) registers: Registers,
    pub(super) active: bool,
}

impl Core {
    pub(super) fn new(device: Box<dyn Device>, memory: GuestMemory, interrupt: Interrupt) -> Result<Core> {
        let count = device.queue_sizes().len();
        let kick = |_| EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map(Arc::new).tried("make an eventfd for a queue");
        let kicks = (0..count).map(kick).collect::<Result<_>>()?;
        let mut core = Core { device, memory, interrupt, kicks, registers: Registers::default(), active: false };
        core.registers.queues = core.fresh_queues();
        Ok(core)
    }

    fn fresh_queues(&self) -> Vec<Setup> {
        self.device.queue_sizes().iter().map(|&size| Setup { size: u32::from(size), ..Setup::default() }).collect()
    }

    pub(super) fn sources(&self) -> Vec<Source> {
        if self.active { self.device.sources() } else { Vec::new() }
    }

    pub(super) fn event(&mut self, token: Token) -> Result<Change> {
        if !self.active {
            return Ok(Change::Nothing);
        }
        self.device.event(token).inspect_err(|_| self.fail())
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

    pub(super) fn offered(&self) -> u64 {
        self.device.features() | TRANSPORT_FEATURES
    }

    /// The one that is selected.
    pub(super) fn queue(&self) -> Option<&Setup> {
        self.registers.queues.get(self.registers.queue_select as usize)
    }

    /// The half of the features offered that is selected.
    pub(super) fn offered_half(&self) -> u32 {
        half(self.offered(), self.registers.device_features_select)
    }

    /// The half of the features accepted that is selected.
    pub(super) fn accepted_half(&self) -> u32 {
        half(self.registers.driver_features, self.registers.driver_features_select)
    }

    /// The driver writes the device's own configuration.
    pub(super) fn write_config(&mut self, offset: u64, data: &[u8]) {
        // Section 3.1.1: not before the driver has found out what it is.
        if self.has(status::VIRTIO_CONFIG_S_DRIVER) && !self.has(status::VIRTIO_CONFIG_S_FAILED) {
            self.device.write_config(offset, data);
        }
    }

    /// The driver kicks a queue by a write that KVM hasn't made the event itself.
    pub(super) fn kick(&self, queue: u32) {
        if let Some(kick) = self.kicks.get(queue as usize) {
            let _ = kick.write(1);
        }
    }

    pub(super) fn set_features(&mut self, value: u32) {
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

    /// The driver says something about the queue that is selected.
    pub(super) fn set_queue(&mut self, field: Field, value: u32) {
        let done = status::VIRTIO_CONFIG_S_DRIVER_OK | status::VIRTIO_CONFIG_S_FAILED | status::VIRTIO_CONFIG_S_NEEDS_RESET;
        if !self.has(status::VIRTIO_CONFIG_S_FEATURES_OK) || self.has(done) {
            return;
        }
        let index = self.registers.queue_select as usize;
        let Some(queue) = self.registers.queues.get_mut(index) else { return };
        if matches!(field, Field::Ready) {
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
        match field {
            Field::Size => queue.size = value,
            Field::Low(area) => {
                let address = queue.address(area);
                *address = *address & !0xffff_ffff | u64::from(value);
            }
            Field::High(area) => {
                let address = queue.address(area);
                *address = *address & 0xffff_ffff | u64::from(value) << 32;
            }
            Field::Ready => {}
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
    pub(super) fn set_status(&mut self, value: u32) -> Result<Change> {
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

    /// Takes up what another one had; before [`Core::go_on`].
    pub(super) fn restore(&mut self, registers: Registers, saved: &Saved) -> Result<()> {
        let kind = self.device.kind();
        let refuse = |cause: &str| Err(Error::State { kind, cause: cause.to_owned() });
        if registers.queues.len() != self.kicks.len() {
            return refuse("it has another number of queues");
        }
        let _ = self.reset();
        self.registers = registers;
        if self.has(status::VIRTIO_CONFIG_S_FEATURES_OK) && !self.features_fit() {
            let _ = self.reset();
            return refuse("its driver accepted features that aren't offered here");
        }
        let broken = |index: usize| self.registers.queues[index].ready && self.make_queue(index, None).is_none();
        if (0..self.kicks.len()).any(broken) {
            let _ = self.reset();
            return refuse("a queue doesn't lie in memory");
        }
        self.device.restore(&saved.device)
    }

    /// Lets the device work where it had worked before.
    pub(super) fn go_on(&mut self, active: bool, at: &[Option<RingState>]) -> Result<Change> {
        if active && self.has(status::VIRTIO_CONFIG_S_DRIVER_OK) { self.activate(at) } else { Ok(Change::Nothing) }
    }
}

fn half(features: u64, select: u32) -> u32 {
    match select {
        0 => features as u32,
        1 => (features >> 32) as u32,
        _ => 0,
    }
}
