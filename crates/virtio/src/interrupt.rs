//! How a device reaches its driver (section 2.3, Notifications): by a line with a register that says why (4.2.3.4, virtio-mmio), or by a
//! message for each reason (4.1.4.5 and PCI 3.0 section 6.8.2, MSI-X).

use crate::error::{Result, Tried};
use insula_vm::window::Page;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, Ordering};
use virtio_bindings::virtio_mmio as register;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// The driver is to look at its used rings (VIRTIO_MMIO_INT_VRING).
pub const QUEUE: u32 = 1;
/// The device's configuration has changed, or its status has (VIRTIO_MMIO_INT_CONFIG).
pub const CONFIG: u32 = 2;
/// What has no message of its own (VIRTIO_MSI_NO_VECTOR).
pub(crate) const NO_MESSAGE: u16 = 0xffff;

/// A device's way to its driver. A clone is the same way.
#[derive(Clone, Debug)]
pub struct Interrupt {
    way: Way,
    /// The driver is to be told of another configuration or status, once its registers say so.
    untold: Arc<AtomicBool>,
}

#[derive(Clone, Debug)]
enum Way {
    Line(Line),
    Messages(Arc<Messages>),
}

/// A line: the bits that say why, in the page of registers that the driver reads, and the eventfd that KVM raises the line for (irqfd).
#[derive(Clone, Debug)]
pub struct Line {
    event: Arc<EventFd>,
    page: Page,
}

impl Line {
    /// What is to be registered as the irqfd.
    pub fn event(&self) -> &EventFd {
        &self.event
    }

    fn raise(&self, why: u32) {
        // Before the event: the driver reads it as soon as the line is up.
        self.page.word(register::VIRTIO_MMIO_INTERRUPT_STATUS).fetch_or(why, Ordering::AcqRel);
        // It fails only if the counter is full, and then the line is up anyway.
        let _ = self.event.write(1);
    }
}

/// Messages: an eventfd for each, that KVM sends it for (irqfd); and which of them says what.
#[derive(Debug)]
pub struct Messages {
    all: Vec<Message>,
    /// Of each queue.
    queues: Vec<AtomicU16>,
    config: AtomicU16,
    /// Messages are sent at all: MSI-X is enabled, and the function isn't masked.
    on: AtomicBool,
    generation: AtomicU8,
}

#[derive(Debug)]
struct Message {
    event: EventFd,
    masked: AtomicBool,
    /// Is to be sent when that is allowed.
    pending: AtomicBool,
}

/// Which message says what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Choice {
    queues: Vec<u16>,
    config: u16,
}

impl Messages {
    /// So many for as many queues, and one more. None is sent before [`Messages::set`].
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new(count: usize, queues: usize) -> Result<Messages> {
        let message = |_| {
            let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).tried("make an eventfd for an interrupt")?;
            Ok(Message { event, masked: AtomicBool::new(true), pending: AtomicBool::default() })
        };
        Ok(Messages {
            all: (0..=count).map(message).collect::<Result<_>>()?,
            queues: (0..queues).map(|_| AtomicU16::new(NO_MESSAGE)).collect(),
            config: AtomicU16::new(NO_MESSAGE),
            on: AtomicBool::default(),
            generation: AtomicU8::default(),
        })
    }

    /// What is to be registered as irqfds, by their numbers.
    pub fn events(&self) -> impl Iterator<Item = &EventFd> {
        self.all.iter().map(|message| &message.event)
    }

    /// How many there are; at least one.
    pub(crate) fn count(&self) -> u16 {
        self.all.len() as u16
    }

    fn send(&self, number: u16) {
        let Some(message) = self.all.get(usize::from(number)) else { return };
        // Calls come from one thread at a time: a device's transport is locked.
        if self.on.load(Ordering::SeqCst) && !message.masked.load(Ordering::SeqCst) {
            let _ = message.event.write(1);
        } else {
            message.pending.store(true, Ordering::SeqCst);
        }
    }

    /// Whether messages are sent at all. What had to wait is sent.
    pub(crate) fn set_on(&self, on: bool) {
        self.on.store(on, Ordering::SeqCst);
        (0..self.count()).for_each(|number| self.settle(number));
    }

    /// Whether this one is held back. What had to wait is sent.
    pub(crate) fn set_masked(&self, number: u16, masked: bool) {
        if let Some(message) = self.all.get(usize::from(number)) {
            message.masked.store(masked, Ordering::SeqCst);
        }
        self.settle(number);
    }

    fn settle(&self, number: u16) {
        let Some(message) = self.all.get(usize::from(number)) else { return };
        if message.pending.swap(false, Ordering::SeqCst) {
            self.send(number);
        }
    }

    /// A bit for each that waits (the pending bit array).
    pub(crate) fn pending(&self) -> u64 {
        let bit = |(number, message): (usize, &Message)| u64::from(message.pending.load(Ordering::SeqCst)) << number;
        self.all.iter().take(64).enumerate().map(bit).sum()
    }

    /// Which one says that a queue has something; answers what it is now, as a driver wants to read it (section 4.1.5.1.2.2).
    pub(crate) fn choose(&self, queue: Option<u32>, number: u16) {
        let number = if number < self.count() { number } else { NO_MESSAGE };
        if let Some(of) = self.of(queue) {
            of.store(number, Ordering::SeqCst);
        }
    }

    /// Which one says that a queue has something, or without a queue, that the configuration has changed.
    pub(crate) fn chosen(&self, queue: Option<u32>) -> u16 {
        self.of(queue).map_or(NO_MESSAGE, |of| of.load(Ordering::SeqCst))
    }

    fn of(&self, queue: Option<u32>) -> Option<&AtomicU16> {
        queue.map_or(Some(&self.config), |queue| self.queues.get(queue as usize))
    }

    pub(crate) fn choice(&self) -> Choice {
        let queues = (0..self.queues.len() as u32).map(|queue| self.chosen(Some(queue))).collect();
        Choice { queues, config: self.chosen(None) }
    }

    pub(crate) fn set_choice(&self, choice: &Choice) {
        self.choose(None, choice.config);
        (0..).zip(&choice.queues).for_each(|(queue, number)| self.choose(Some(queue), *number));
    }
}

impl Interrupt {
    /// Makes a line that nobody listens to yet.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn line(page: Page) -> Result<Interrupt> {
        let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).tried("make an eventfd for an interrupt")?;
        Ok(Interrupt { way: Way::Line(Line { event: Arc::new(event), page }), untold: Arc::default() })
    }

    /// Goes by these messages.
    pub fn messages(messages: Arc<Messages>) -> Interrupt {
        Interrupt { way: Way::Messages(messages), untold: Arc::default() }
    }

    /// The line, if it is one.
    pub fn as_line(&self) -> Option<&Line> {
        match &self.way {
            Way::Line(line) => Some(line),
            Way::Messages(_) => None,
        }
    }

    /// The messages, if it goes by them.
    pub fn as_messages(&self) -> Option<&Messages> {
        match &self.way {
            Way::Line(_) => None,
            Way::Messages(messages) => Some(messages),
        }
    }

    /// Says that a queue's used ring has something new.
    pub fn queue(&self, index: u16) {
        match &self.way {
            Way::Line(line) => line.raise(QUEUE),
            Way::Messages(messages) => messages.send(messages.chosen(Some(index.into()))),
        }
    }

    /// Whether two queues have the same interrupt: a line always, messages as the driver chose.
    pub fn is_same(&self, one: u16, other: u16) -> bool {
        self.as_messages().is_none_or(|messages| messages.chosen(Some(one.into())) == messages.chosen(Some(other.into())))
    }

    /// The device's configuration has changed (section 2.5). The driver hears of it when its registers say so ([`Self::tell`]).
    pub fn config(&self) {
        match &self.way {
            Way::Line(line) => drop(line.page.word(register::VIRTIO_MMIO_CONFIG_GENERATION).fetch_add(1, Ordering::AcqRel)),
            Way::Messages(messages) => drop(messages.generation.fetch_add(1, Ordering::AcqRel)),
        }
        self.untold.store(true, Ordering::Release);
    }

    /// The status (DEVICE_NEEDS_RESET) has changed, and nothing in the configuration.
    pub(crate) fn status_changed(&self) {
        self.untold.store(true, Ordering::Release);
    }

    /// Whether there is something that registers have to say: another configuration or status, or a message that waits.
    pub(crate) fn has_news(&self) -> bool {
        self.untold.load(Ordering::Acquire) || self.as_messages().is_some_and(|messages| messages.pending() != 0)
    }

    /// The registers are as the device is: the driver is told, if there is something it doesn't know.
    pub(crate) fn tell(&self) {
        if self.untold.swap(false, Ordering::AcqRel) {
            match &self.way {
                Way::Line(line) => line.raise(CONFIG),
                Way::Messages(messages) => messages.send(messages.chosen(None)),
            }
        }
    }

    /// Why the line is up: [`QUEUE`], [`CONFIG`] (register InterruptStatus). A message is its own reason.
    pub fn status(&self) -> u32 {
        self.as_line().map_or(0, |line| line.page.word(register::VIRTIO_MMIO_INTERRUPT_STATUS).load(Ordering::Acquire))
    }

    /// Takes reasons away that the driver has seen (register InterruptACK).
    pub(crate) fn acknowledge(&self, seen: u32) {
        if let Way::Line(line) = &self.way {
            line.page.word(register::VIRTIO_MMIO_INTERRUPT_STATUS).fetch_and(!seen, Ordering::AcqRel);
        }
    }

    /// Nobody waits for it any more: the driver has reset the device. What PCI has of messages (masks, MSI-X itself) isn't the device's.
    pub(crate) fn reset(&self) {
        self.acknowledge(u32::MAX);
        self.untold.store(false, Ordering::Release);
        match &self.way {
            Way::Line(line) => drop(line.event.read()),
            Way::Messages(messages) => {
                messages.set_choice(&Choice { queues: vec![NO_MESSAGE; messages.queues.len()], config: NO_MESSAGE });
                messages.all.iter().for_each(|message| message.pending.store(false, Ordering::SeqCst));
            }
        }
    }

    /// The generation of the configuration (register ConfigGeneration).
    pub fn generation(&self) -> u32 {
        match &self.way {
            Way::Line(line) => line.page.word(register::VIRTIO_MMIO_CONFIG_GENERATION).load(Ordering::Acquire),
            Way::Messages(messages) => messages.generation.load(Ordering::Acquire).into(),
        }
    }

    pub(crate) fn restore(&self, status: u32, generation: u32) {
        match &self.way {
            Way::Line(line) => {
                line.page.word(register::VIRTIO_MMIO_INTERRUPT_STATUS).store(status & (QUEUE | CONFIG), Ordering::Release);
                line.page.word(register::VIRTIO_MMIO_CONFIG_GENERATION).store(generation, Ordering::Release);
                if self.status() != 0 {
                    let _ = line.event.write(1);
                }
            }
            Way::Messages(messages) => messages.generation.store(generation as u8, Ordering::Release),
        }
    }
}
