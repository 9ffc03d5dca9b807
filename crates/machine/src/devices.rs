//! The virtio devices: each behind its registers, where [`crate::places`] has put it; and what the event loop does for them.

use crate::config::DeviceBus;
use crate::control::NewLimits;
use crate::error::{Error, Result};
use crate::places::Found;
use crate::stats;
use insula_sys::epoll::Epoll;
use insula_virtio::balloon::{self, Balloon};
use insula_virtio::block::{self, Block};
use insula_virtio::net::{self, Net};
use insula_virtio::transport::Transport;
use insula_virtio::{Change, Device, Source, rng, vsock};
use insula_vm::acpi;
use insula_vm::event::Event;
use insula_vm::kvm::Vm;
use rustix::event::PollFlags;
use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

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
    bus: DeviceBus,
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
    pub(crate) fn new(vm: &mut Vm, bus: DeviceBus, devices: Vec<Box<dyn Device>>) -> Result<Devices> {
        let mut names = Vec::new();
        for device in &devices {
            names.push(name(device.kind(), &names));
        }
        let slots = bus.place(vm, devices)?.into_iter().map(Mutex::new).collect();
        Ok(Devices { bus, slots, names, stale: AtomicU32::new(0), news: Event::new()?, notes: Mutex::default() })
    }

    /// How the kernel is told of them.
    pub(crate) fn described(&self) -> Vec<acpi::Device> {
        self.bus.described(self.slots.len())
    }

    fn lock(&self, slot: usize) -> Option<MutexGuard<'_, Transport>> {
        // A panic ends the process in what we ship; where it doesn't, the device is as good as it was.
        Some(self.slots.get(slot)?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn read(&self, address: u64, data: &mut [u8]) {
        data.fill(0xff);
        match self.bus.find(self.slots.len(), address) {
            Some(Found::Registers(slot, offset)) => self.lock(slot).iter().for_each(|transport| transport.read(offset, data)),
            Some(Found::Space(slot, offset)) => self.lock(slot).iter().for_each(|transport| transport.read_space(offset, data)),
            None => {}
        }
    }

    pub(crate) fn write(&self, address: u64, data: &[u8]) {
        let found = self.bus.find(self.slots.len(), address);
        let Some(Found::Registers(slot, offset) | Found::Space(slot, offset)) = found else { return };
        let Some(mut transport) = self.lock(slot) else { return };
        let change = match found {
            Some(Found::Space(..)) => transport.write_space(offset, data),
            _ => transport.write(offset, data),
        };
        drop(transport);
        self.heed(slot, change);
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
