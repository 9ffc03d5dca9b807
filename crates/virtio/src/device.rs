//! What each device offers: to the transport that a driver finds it by, and to the machine that waits for it.

use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::ring::{Ring, RingState};
use crate::{balloon, block, net, rng, vsock};
use insula_vm::memory::GuestMemory;
use rustix::event::PollFlags;
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::os::fd::RawFd;

/// Which of a device's descriptors is ready. It means something to the device only.
pub type Token = u32;

/// A descriptor to wait for. It stays open until the device says [`Change::Sources`] or is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The descriptor. (It is raw as it may be an eventfd of `vmm-sys-util`, which lends no other.)
    pub fd: RawFd,
    /// What to say when it is ready.
    pub token: Token,
    /// For what: IN, OUT. Level-triggered.
    pub interest: PollFlags,
}

/// What has changed for the one who waits.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The same descriptors as before.
    Nothing,
    /// [`Device::sources`] is to be asked again.
    Sources,
}

/// What a device is started with, once its driver is ready (section 3.1.1, step 8).
#[derive(Debug)]
pub struct Activation {
    /// The guest's memory.
    pub memory: GuestMemory,
    /// The queues, by number; those that the driver didn't set up are missing.
    pub queues: Vec<Option<Ring>>,
    /// How to reach the driver.
    pub interrupt: Interrupt,
    /// The features that the driver accepted, as bits.
    pub features: u64,
}

impl Activation {
    /// Takes a queue, if the driver has set it up.
    pub fn queue(&mut self, index: usize) -> Option<Ring> {
        self.queues.get_mut(index)?.take()
    }

    /// Whether the driver accepted a feature, by the number of its bit.
    pub fn accepted(&self, feature: u32) -> bool {
        self.features >> feature & 1 == 1
    }
}

/// A device (section 5). Calls come from one thread at a time.
pub trait Device: Any + Send {
    /// The device's number (section 5, Device Types).
    fn kind(&self) -> u32;

    /// The features offered, as bits (section 2.2). The transport adds VERSION_1, EVENT_IDX and INDIRECT_DESC.
    fn features(&self) -> u64;

    /// How many descriptors each queue can have; powers of 2, at most 32768.
    fn queue_sizes(&self) -> &[u16];

    /// How many interrupts its queues are worth where there can be more than one. A driver's processor takes one that tells of two queues
    /// sooner than two, so it is one, unless there are queues for several processors.
    fn interrupts(&self) -> usize {
        1
    }

    /// Reads the device's configuration (section 2.5). What lies beyond it reads as zero.
    fn read_config(&self, offset: u64, data: &mut [u8]);

    /// Writes the device's configuration. What can't be written stays as it is.
    fn write_config(&mut self, offset: u64, data: &[u8]) {
        let _ = (offset, data);
    }

    /// The driver is ready: here are its queues.
    ///
    /// # Errors
    /// The device can't work; the driver is told so by DEVICE_NEEDS_RESET.
    fn activate(&mut self, start: Activation) -> Result<()>;

    /// Forgets the driver and all it asked for (section 2.4). When this returns, nothing writes to guest memory any more.
    fn reset(&mut self);

    /// What to wait for; asked after `activate`, and after each call that answers [`Change::Sources`].
    fn sources(&self) -> Vec<Source>;

    /// One of the sources is ready. A token of the past is no error.
    ///
    /// # Errors
    /// The driver broke a queue, or the host fails the device: it gets DEVICE_NEEDS_RESET.
    fn event(&mut self, token: Token) -> Result<Change>;

    /// Finishes what is under way, and says what is needed to go on elsewhere. The virtual machine's processors stand still.
    ///
    /// # Errors
    /// What is under way can't be finished.
    fn save(&mut self) -> Result<Saved>;

    /// Takes up what [`Device::save`] said; before `activate`.
    ///
    /// # Errors
    /// It is another device's.
    fn restore(&mut self, saved: &DeviceState) -> Result<()>;

    /// What it has done since it was made.
    fn counters(&self) -> Counters;
}

/// What a device has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Counters {
    /// Of [`rng`].
    Rng(rng::Counters),
    /// Of [`block`].
    Block(block::Counters),
    /// Of [`net`].
    Net(net::Counters),
    /// Of [`vsock`].
    Vsock(vsock::Counters),
    /// Of [`balloon`].
    Balloon(balloon::Counters),
}

/// What a device was doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// How far each queue was; none while there is no driver.
    pub rings: Vec<Option<RingState>>,
    /// What the device itself has to know.
    pub device: DeviceState,
}

/// What a device has to know to go on, beside its configuration and its queues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceState {
    /// Of [`rng`].
    Rng(rng::State),
    /// Of [`block`].
    Block(block::State),
    /// Of [`net`].
    Net(net::State),
    /// Of [`vsock`].
    Vsock(vsock::State),
    /// Of [`balloon`].
    Balloon(balloon::State),
}

/// Copies a part of a configuration that lies in `bytes`; what lies beyond is zero.
pub(crate) fn read_bytes(bytes: &[u8], offset: u64, data: &mut [u8]) {
    data.fill(0);
    let from = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
    let count = from.len().min(data.len());
    data[..count].copy_from_slice(&from[..count]);
}
