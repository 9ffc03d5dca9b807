//! The machine: how it is put together, and its event loop.

use crate::bus::Bus;
use crate::config::Config;
use crate::confinement::{Filters, Thread};
use crate::devices::{Devices, Watch};
use crate::error::{Result, host};
use crate::ports::{Output, Ports, SERIAL_LINE, Wish};
use crate::processors::Processors;
use insula_sys::epoll::Epoll;
use insula_virtio::Device;
use insula_virtio::block::Block;
use insula_virtio::net::Net;
use insula_virtio::rng::{self, Rng};
use insula_virtio::vsock::Vsock;
use insula_vm::event::Event;
use insula_vm::kernel::Kernel;
use insula_vm::kvm::Vm;
use insula_vm::vcpu::{Exits, Vcpu};
use insula_vm::{acpi, boot, memory};
use rustix::event::PollFlags;
use rustix::fd::OwnedFd;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::Builder;

/// A machine that is ready to run.
pub struct Machine {
    /// Keeps interrupts and memory connected.
    _vm: Vm,
    vcpus: Vec<Vcpu>,
    bus: Arc<Bus>,
    input: Option<OwnedFd>,
    filters: Filters,
    notices: Vec<String>,
}

/// How a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It switched off.
    Off,
    /// It reset itself, which ends this machine as well (a panic does so by default).
    Reset,
}

/// What there is to tell of a guest that has ended.
#[derive(Clone, Debug)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// How often it came back to us.
    pub exits: Exits,
    /// What went wrong with devices, a line each.
    pub notes: Vec<String>,
}

impl Machine {
    /// Puts a machine together: nothing of the guest runs yet. Its console is `output`, and `input` if there is one.
    ///
    /// # Errors
    /// Something asked for can't be had; nothing is left behind.
    pub fn new(config: &Config, cache: Option<&Path>, output: Output, input: Option<OwnedFd>) -> Result<Machine> {
        let kernel = Kernel::open(&config.kernel, cache)?;
        let initrd = config.initrd.as_deref().map(boot::open_initrd).transpose()?;

        let memory = memory::allocate(config.memory, config.backing)?;
        // The kernel waits for a grace period or two when it makes a machine; the guest's image is put into memory meanwhile.
        let vm = {
            let memory = memory.clone();
            Builder::new().name("kvm".into()).spawn(|| Vm::new(memory)).map_err(host("start a thread"))?
        };
        let loaded = boot::load(&memory, &kernel, config.boot, initrd.as_ref(), &config.command_line());
        let Ok(vm) = vm.join() else { std::process::abort() };
        let (mut vm, start) = (vm?, loaded?);
        let line = Event::new()?;
        vm.interrupt_on(&line, SERIAL_LINE)?;
        let ports = Arc::new(Ports::new(line, output)?);
        let mut notices = Vec::new();
        let devices = Devices::new(&mut vm, devices(config, &mut notices)?)?;

        // Checked to fit ([`Config::check`]); a machine with fewer than asked for would be a wrong one.
        let count = u8::try_from(config.vcpus).map_err(host("number the virtual processors"))?;
        let described: Vec<acpi::Device> = devices.described().chain([acpi::Device::Serial]).collect();
        acpi::write(vm.memory(), count, &described)?;
        let vcpus = (0..count).map(|number| vm.vcpu(number, count)).collect::<std::result::Result<Vec<_>, _>>()?;
        if let Some(first) = vcpus.first() {
            first.start_at(&start)?;
        }
        let filters = if config.confined { Filters::new(config.parts())? } else { Filters::none() };
        Ok(Machine { _vm: vm, vcpus, bus: Arc::new(Bus { ports, devices }), input, filters, notices })
    }

    /// What isn't as it was asked for, or as it best would be: a line each, for the user.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Runs the guest until it is off. The calling thread is confined for good, as are those that are made here: everything that a machine
    /// needs is open by now, and nothing of the guest's has been looked at yet.
    ///
    /// # Errors
    /// A thread can't be confined, or a processor can't go on.
    pub fn run(self) -> Result<Report> {
        let filters = Arc::new(self.filters);
        let input = self.input.map(|input| waitable(input, &filters)).transpose()?;
        let epoll = Epoll::new()?;
        let processors = Processors::start(self.vcpus, &self.bus, &filters)?;
        let waited = attend(&self.bus, &epoll, input);
        let exits = processors.stop()?;
        let outcome = match waited? {
            Wish::Off => Outcome::Off,
            Wish::Reset => Outcome::Reset,
        };
        Ok(Report { outcome, exits, notes: self.bus.devices.notes() })
    }
}

/// Every device asked for, in the order in which the guest finds them.
fn devices(config: &Config, notices: &mut Vec<String>) -> Result<Vec<Box<dyn Device>>> {
    let mut devices: Vec<Box<dyn Device>> = vec![Box::new(Rng::new(rng::Config::default())?)];
    for disk in &config.disks {
        let block = Block::new(disk.clone())?;
        notices.extend(block.without_uring().map(|errno| {
            let (path, cause) = (disk.path.display(), insula_sys::error::describe(errno));
            format!("{path}: io_uring can't be used here: {cause}; requests are carried out one after the other")
        }));
        devices.push(Box::new(block));
    }
    for card in &config.cards {
        devices.push(Box::new(Net::new(card)?));
    }
    if let Some(sockets) = &config.sockets {
        devices.push(Box::new(Vsock::new(sockets)?));
    }
    Ok(devices)
}

/// Keys of the event loop's own; a device's number is far below their upper half.
const PORTS: u64 = 1 << 62;
const INPUT: u64 = 1 << 61;

/// The event loop: what devices wait for, and what is typed, which goes to the guest as far as it takes it.
fn attend(bus: &Bus, epoll: &Epoll, mut input: Option<OwnedFd>) -> Result<Wish> {
    let ports = &bus.ports;
    epoll.add(ports.event().as_raw_fd(), PollFlags::IN, PORTS)?;
    let mut watch = Watch::new(&bus.devices, epoll)?;
    let (mut ready, mut reading) = (Vec::new(), false);
    loop {
        let room = ports.room();
        if let Some(input) = input.as_ref().filter(|_| reading != (room > 0)) {
            reading = room > 0;
            if reading { epoll.add(input.as_raw_fd(), PollFlags::IN, INPUT)? } else { epoll.remove(input.as_raw_fd()) }
        }
        epoll.wait(&mut ready)?;
        for key in ready.drain(..) {
            match key {
                PORTS => {
                    ports.event().take();
                    if let Some(wish) = ports.wished() {
                        return Ok(wish);
                    }
                }
                INPUT => {
                    if !carry(ports, input.as_ref(), room) {
                        input.iter().for_each(|file| epoll.remove(file.as_raw_fd()));
                        input = None;
                    }
                }
                key => watch.ready(epoll, key)?,
            }
        }
    }
}

/// Input that can be waited for. A plain file can't: a thread carries it through a pipe.
fn waitable(input: OwnedFd, filters: &Arc<Filters>) -> Result<OwnedFd> {
    if Epoll::new()?.add(input.as_raw_fd(), PollFlags::IN, 0).is_ok() {
        return Ok(input);
    }
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(host("make a pipe"))?;
    let filters = filters.clone();
    let (confined, is_confined) = mpsc::channel();
    let body = move || {
        let _ = confined.send(filters.confine(Thread::Input, "input"));
        copy(&input, &write);
    };
    std::thread::Builder::new().name("input".into()).spawn(body).map_err(host("start a thread"))?;
    is_confined.into_iter().next().unwrap_or(Ok(()))?;
    Ok(read)
}

/// Copies until there is no more, or nobody reads it.
fn copy(from: &OwnedFd, to: &OwnedFd) {
    let mut buffer = [0; 4096];
    loop {
        let mut bytes = match rustix::io::read(from, &mut buffer) {
            Ok(0) => return,
            Ok(length) => &buffer[..length],
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return,
        };
        while !bytes.is_empty() {
            match rustix::io::write(to, bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

/// Passes on what was typed; whether there may be more.
fn carry(ports: &Ports, input: Option<&OwnedFd>, room: usize) -> bool {
    let Some(input) = input else { return false };
    let mut buffer = [0; 64];
    let room = room.min(buffer.len());
    match rustix::io::read(input, &mut buffer[..room]) {
        Ok(0) => false,
        Ok(length) => {
            ports.type_in(&buffer[..length]);
            true
        }
        Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => true,
        Err(_) => false,
    }
}
