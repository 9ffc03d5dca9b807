//! The virtio devices: each behind its registers in a page of the guest's address space, with an interrupt line, and an event for each
//! queue that KVM signals without coming back to us.

use crate::control::NewLimits;
use crate::error::{Error, Result};
use crate::stats;
use insula_sys::epoll::Epoll;
use insula_virtio::balloon::{self, Balloon};
use insula_virtio::block::{self, Block};
use insula_virtio::mmio::Transport;
use insula_virtio::net::{self, Net};
use insula_virtio::{Change, Device, Source, interrupt, rng, vsock};
use insula_vm::acpi;
use insula_vm::event::Event;
use insula_vm::kvm::Vm;
use insula_vm::memory::layout;
use insula_vm::window::Window;
use rustix::event::PollFlags;
use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
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

/// The name of one more device of this kind.
fn name(kind: u32, others: &[String]) -> String {
    let word = match kind {
        net::KIND => "net",
        block::KIND => "disk",
        rng::KIND => "rng",
        balloon::KIND => "balloon",
        vsock::KIND => "vsock",
        _ => "device",
    };
    let before = others.iter().filter(|name| name.trim_end_matches(|c: char| c.is_ascii_digit()) == word).count();
    format!("{word}{before}")
}

/// All devices. Processors reach them by addresses, the event loop by what they wait for.
pub(crate) struct Devices {
    slots: Vec<Mutex<Transport>>,
    /// By which the user knows them.
    names: Vec<String>,
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
        let (mut slots, mut names) = (Vec::new(), Vec::new());
        let registers = Window::new(devices.len())?;
        vm.show(&registers, layout::DEVICES)?;
        // Nobody waits for it: what is signalled needs no answer.
        let acknowledged = Event::new()?;
        for (window, device) in (0_u32..).zip(devices) {
            names.push(name(device.kind(), &names));
            let transport = Transport::new(device, vm.memory().clone(), registers.page(window as usize))?;
            vm.interrupt_on(transport.interrupt().event(), FIRST_LINE + window)?;
            let start = layout::DEVICES + u64::from(window) * layout::DEVICE_SIZE;
            for (queue, kick) in (0..).zip(transport.kicks()) {
                vm.event_on_write(kick.as_ref(), start + QUEUE_NOTIFY, queue)?;
            }
            vm.event_on_write(&acknowledged, start + INTERRUPT_ACK, interrupt::QUEUE)?;
            slots.push(Mutex::new(transport));
        }
        Ok(Devices { slots, names, stale: AtomicU32::new(0), news: Event::new()?, notes: Mutex::default() })
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
        self.renew(slot);
    }

    /// Its descriptors are to be asked for anew.
    fn renew(&self, slot: usize) {
        self.stale.fetch_or(1 << slot, Ordering::SeqCst);
        self.news.signal();
    }

    fn note(&self, slot: usize, error: &insula_virtio::Error) {
        const MOST_NOTES: usize = 16;
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        // A guest can break a device as often as it likes.
        if notes.len() < MOST_NOTES {
            notes.push(format!("{}: {error}", self.names[slot]));
        }
    }

    /// What went wrong.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let trouble = |slot| self.lock(slot)?.ask(|disk: &mut Block| disk.trouble())?;
        notes.extend((0..self.slots.len()).filter_map(trouble));
        notes
    }

    /// Has the event loop told when there is something else to wait for.
    pub(crate) fn watch(&self, epoll: &Epoll) -> Result<()> {
        Ok(epoll.add(self.news.as_raw_fd(), PollFlags::IN, WATCH_KEY)?)
    }

    /// What each has done.
    pub(crate) fn counters(&self) -> Vec<stats::Device> {
        let names = self.names.iter().enumerate();
        let device =
            |(slot, name): (usize, &String)| Some(stats::Device { name: name.clone(), counters: self.lock(slot)?.counters() });
        names.filter_map(device).collect()
    }

    /// Asks the guest to give up so many bytes in all.
    pub(crate) fn set_balloon(&self, bytes: u64) -> Result<()> {
        let ask =
            |slot| self.lock(slot).and_then(|mut transport| transport.ask(|balloon: &mut Balloon| balloon.set_target(bytes)));
        if (0..self.slots.len()).any(|slot| ask(slot).is_some()) {
            return Ok(());
        }
        Err(Error::Refused("the machine has no balloon; start it with --balloon".into()))
    }

    /// Sets new rates of one device.
    pub(crate) fn set_limits(&self, limits: &NewLimits) -> Result<()> {
        let NewLimits { device, both, receive, send } = limits;
        let Some(slot) = self.names.iter().position(|name| name == device) else {
            return Err(Error::Refused(format!("the machine has no {device}; it has {}", self.names.join(", "))));
        };
        let Some(mut transport) = self.lock(slot) else { return Ok(()) };
        let set = match both {
            Some(both) => transport.ask(|disk: &mut Block| disk.set_limits(*both)),
            None => transport.ask(|card: &mut Net| card.set_limits(*receive, *send)),
        };
        drop(transport);
        self.renew(slot);
        match set {
            Some(result) => Ok(result?),
            None => Err(Error::Refused(format!(
                "{device} has no such limit: a disk has one for both ways, a network card one for each, others none"
            ))),
        }
    }
}

/// What the event loop waits for on behalf of devices.
#[derive(Default)]
pub(crate) struct Sources(BTreeMap<usize, Vec<Source>>);

/// The key of [`Devices::watch`]; those of devices are below it.
pub(crate) const WATCH_KEY: u64 = 1 << 62;

impl Sources {
    /// What has this key is ready.
    pub(crate) fn ready(&mut self, devices: &Devices, epoll: &Epoll, key: u64) -> Result<()> {
        if key == WATCH_KEY {
            devices.news.take();
            return self.renew(devices, epoll);
        }
        let slot = (key >> 32) as usize;
        // One that is to be asked anew may have closed what this is about.
        let known = self.0.get(&slot).is_some_and(|sources| sources.iter().any(|source| source.token == key as u32));
        if known {
            devices.event(slot, key as u32);
        }
        Ok(())
    }

    fn renew(&mut self, devices: &Devices, epoll: &Epoll) -> Result<()> {
        let stale = devices.stale.swap(0, Ordering::SeqCst);
        for slot in (0..devices.slots.len()).filter(|slot| stale >> slot & 1 == 1) {
            let sources = self.0.entry(slot).or_default();
            for old in sources.drain(..) {
                epoll.remove(old.fd);
            }
            let Some(transport) = devices.lock(slot) else { continue };
            for source in transport.sources() {
                epoll.add(source.fd, source.interest, (slot as u64) << 32 | u64::from(source.token))?;
                sources.push(source);
            }
        }
        Ok(())
    }
}
