//! The virtio devices: each behind its registers in a page of the guest's address space, with an interrupt line, and an event for each
//! queue that KVM signals without coming back to us.

use crate::error::Result;
use insula_sys::epoll::Epoll;
use insula_virtio::mmio::Transport;
use insula_virtio::{Change, Device, Source, interrupt};
use insula_vm::acpi;
use insula_vm::event::Event;
use insula_vm::kvm::Vm;
use insula_vm::memory::layout;
use insula_vm::window::Window;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Lines below belong to devices of a PC; the I/O APIC has 24.
const FIRST_LINE: u32 = 5;
const LAST_LINE: u32 = 23;
/// As many as there are lines.
pub(crate) const MOST: usize = (LAST_LINE - FIRST_LINE + 1) as usize;
/// Register QueueNotify, virtio 1.2 section 4.2.2.
const QUEUE_NOTIFY: u64 = 0x50;
/// Register InterruptACK.
const INTERRUPT_ACK: u64 = 0x64;

/// All devices. Processors reach them by addresses, the event loop by what they wait for.
pub(crate) struct Devices {
    slots: Vec<Mutex<Transport>>,
    /// A bit for each whose descriptors are to be asked for anew.
    stale: AtomicU32,
    /// Signalled when there is such a bit.
    news: Event,
    /// What went wrong on the way, for the end.
    notes: Mutex<Vec<String>>,
}

impl Devices {
    /// Puts devices where the guest finds them, in order.
    pub(crate) fn new(vm: &mut Vm, devices: Vec<Box<dyn Device>>) -> Result<Devices> {
        let mut slots = Vec::new();
        let registers = Window::new(devices.len())?;
        vm.show(&registers, layout::DEVICES)?;
        // Nobody waits for it: what is signalled needs no answer.
        let acknowledged = Event::new()?;
        for (window, device) in (0_u32..).zip(devices) {
            let transport = Transport::new(device, vm.memory().clone(), registers.page(window as usize))?;
            vm.interrupt_on(transport.interrupt().event(), FIRST_LINE + window)?;
            let start = layout::DEVICES + u64::from(window) * layout::DEVICE_SIZE;
            for (queue, kick) in (0..).zip(transport.kicks()) {
                vm.event_on_write(kick.as_ref(), start + QUEUE_NOTIFY, queue)?;
            }
            vm.event_on_write(&acknowledged, start + INTERRUPT_ACK, interrupt::QUEUE)?;
            slots.push(Mutex::new(transport));
        }
        Ok(Devices { slots, stale: AtomicU32::new(0), news: Event::new()?, notes: Mutex::default() })
    }

    /// How the kernel is told of them.
    pub(crate) fn described(&self) -> impl Iterator<Item = acpi::Device> {
        (0..self.slots.len() as u32).map(|window| acpi::Device::Virtio { window, line: FIRST_LINE + window })
    }

    /// Whose window an address lies in: the device's number, and where in the window.
    fn find(&self, address: u64) -> Option<(usize, u64)> {
        let offset = address.checked_sub(layout::DEVICES)?;
        let slot = usize::try_from(offset / layout::DEVICE_SIZE).ok().filter(|slot| *slot < self.slots.len())?;
        Some((slot, offset % layout::DEVICE_SIZE))
    }

    fn lock(&self, slot: usize) -> Option<MutexGuard<'_, Transport>> {
        // A panic ends the process in what we ship; where it doesn't, the device is as good as it was.
        Some(self.slots.get(slot)?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn read(&self, address: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let Some((slot, offset)) = self.find(address)
            && let Some(transport) = self.lock(slot)
        {
            transport.read(offset, data);
        }
    }

    pub(crate) fn write(&self, address: u64, data: &[u8]) {
        if let Some((slot, offset)) = self.find(address)
            && let Some(mut transport) = self.lock(slot)
        {
            self.heed(slot, transport.write(offset, data));
        }
    }

    /// Something that the device waits for is ready.
    fn event(&self, slot: usize, token: insula_virtio::Token) {
        if let Some(mut transport) = self.lock(slot) {
            self.heed(slot, transport.event(token));
        }
    }

    fn heed(&self, slot: usize, result: insula_virtio::Result<Change>) {
        match result {
            Ok(Change::Nothing) => return,
            Ok(Change::Sources) => {}
            Err(error) => self.note(slot, &error),
        }
        self.stale.fetch_or(1 << slot, Ordering::SeqCst);
        self.news.signal();
    }

    fn note(&self, slot: usize, error: &insula_virtio::Error) {
        const MOST_NOTES: usize = 16;
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        // A guest can break a device as often as it likes.
        if notes.len() < MOST_NOTES {
            notes.push(format!("virtio device {slot}: {error}"));
        }
    }

    /// What went wrong.
    pub(crate) fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the event loop waits for on behalf of devices.
pub(crate) struct Watch<'d> {
    devices: &'d Devices,
    sources: Vec<Vec<Source>>,
}

/// Keys beyond every device's.
const NEWS: u64 = u64::MAX;

impl<'d> Watch<'d> {
    pub(crate) fn new(devices: &'d Devices, epoll: &Epoll) -> Result<Watch<'d>> {
        use rustix::fd::{AsFd, AsRawFd};
        epoll.add(devices.news.as_fd().as_raw_fd(), rustix::event::PollFlags::IN, NEWS)?;
        Ok(Watch { devices, sources: vec![Vec::new(); devices.slots.len()] })
    }

    /// What has this key is ready.
    pub(crate) fn ready(&mut self, epoll: &Epoll, key: u64) -> Result<()> {
        if key == NEWS {
            self.devices.news.take();
            return self.renew(epoll);
        }
        let slot = (key >> 32) as usize;
        // One that is to be asked anew may have closed what this is about.
        let known = self.sources.get(slot).is_some_and(|sources| sources.iter().any(|source| source.token == key as u32));
        if known {
            self.devices.event(slot, key as u32);
        }
        Ok(())
    }

    fn renew(&mut self, epoll: &Epoll) -> Result<()> {
        let stale = self.devices.stale.swap(0, Ordering::SeqCst);
        for (slot, sources) in self.sources.iter_mut().enumerate().filter(|(slot, _)| stale >> slot & 1 == 1) {
            for old in sources.drain(..) {
                epoll.remove(old.fd);
            }
            let Some(transport) = self.devices.lock(slot) else { continue };
            for source in transport.sources() {
                epoll.add(source.fd, source.interest, (slot as u64) << 32 | u64::from(source.token))?;
                sources.push(source);
            }
        }
        Ok(())
    }
}
