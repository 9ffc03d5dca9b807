//! A guest that runs on KVM, as the event loop sees it.

use crate::attend::{Guest, OWN_KEYS, Outcome};
use crate::bus::Bus;
use crate::control::NewLimits;
use crate::devices::{Sources, WATCH_KEY};
use crate::error::{Error, Result};
use crate::ports::Wish;
use crate::stats::{Exits, Residence, Stats, Task};
use insula_sys::epoll::Epoll;
use insula_vm::event::Event;
use insula_vm::vcpu::{ExitCounter, Vcpu};
use rustix::event::PollFlags;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Instant;

const PORTS: u64 = WATCH_KEY + 1;
const _: () = assert!(PORTS < OWN_KEYS);

pub(crate) struct Running {
    bus: Arc<Bus>,
    sources: Sources,
    counters: Vec<Arc<ExitCounter>>,
    residence: Residence,
    /// Threads of this process.
    pub(crate) tasks: Vec<Task>,
    request: Event,
    /// When the machine's program began, and the guest.
    began: Instant,
    since: Instant,
}

impl Running {
    pub(crate) fn new(bus: &Arc<Bus>, request: Event, vcpus: &[Vcpu], residence: Residence, began: Instant) -> Running {
        Running {
            bus: bus.clone(),
            sources: Sources::default(),
            counters: vcpus.iter().map(Vcpu::exit_counter).collect(),
            residence,
            tasks: Vec::new(),
            request,
            began,
            since: Instant::now(),
        }
    }

    fn exits(&self) -> Exits {
        let mut sum = Exits::default();
        for exits in self.counters.iter().map(|counter| counter.read()) {
            sum.ports += exits.ports;
            sum.memory += exits.memory;
            sum.others += exits.others;
        }
        sum
    }
}

impl Guest for Running {
    fn watch(&mut self, epoll: &Epoll) -> Result<()> {
        epoll.add(self.bus.ports.event().as_raw_fd(), PollFlags::IN, PORTS)?;
        self.bus.devices.watch(epoll)
    }

    fn ready(&mut self, epoll: &Epoll, key: u64) -> Result<()> {
        if key == PORTS {
            self.bus.ports.event().take();
            return Ok(());
        }
        self.sources.ready(&self.bus.devices, epoll, key)
    }

    fn ended(&self) -> Option<Outcome> {
        self.bus.ports.wished().map(|wish| match wish {
            Wish::Off => Outcome::Off,
            Wish::Reset => Outcome::Reset,
        })
    }

    fn room(&mut self) -> usize {
        self.bus.ports.room()
    }

    fn type_in(&mut self, bytes: &[u8]) -> usize {
        self.bus.ports.type_in(bytes)
    }

    fn stop(&mut self) -> Result<()> {
        self.request.signal();
        Ok(())
    }

    fn stats(&mut self) -> Result<Stats> {
        Ok(Stats {
            accelerator: "kvm".into(),
            running_ms: u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            marks: self.bus.ports.course.marks(self.began),
            exits: Some(self.exits()),
            memory: self.residence.measure(),
            threads: self.tasks.iter().map(Task::measure).collect(),
            devices: self.bus.devices.counters(),
        })
    }

    fn set_balloon(&mut self, bytes: u64) -> Result<()> {
        let guest = self.residence.guest();
        if bytes >= guest {
            return Err(Error::Refused(format!("the balloon can't have {} MiB of the guest's {} MiB", bytes >> 20, guest >> 20)));
        }
        self.bus.devices.set_balloon(bytes)
    }

    fn set_limits(&mut self, limits: &NewLimits) -> Result<()> {
        self.bus.devices.set_limits(limits)
    }
}
