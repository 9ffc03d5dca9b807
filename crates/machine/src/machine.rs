//! The machine: how it is put together, and its event loop.

use crate::bus::Bus;
use crate::config::Config;
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
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::thread::Builder;

/// A machine that is ready to run.
pub struct Machine {
    /// Keeps interrupts and memory connected.
    _vm: Vm,
    vcpus: Vec<Vcpu>,
    bus: Arc<Bus>,
    input: Option<OwnedFd>,
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
        let initrd = config.initrd.as_ref().map(File::open).transpose();
        let initrd = initrd.map_err(host("open the initial file system (--initrd)"))?;

        let memory = memory::allocate(config.memory, config.backing)?;
        // The kernel waits for a grace period or two when it makes a machine; the guest's image is put into memory meanwhile.
        let vm = {
            let memory = memory.clone();
            Builder::new().name("kvm".into()).spawn(|| Vm::new(memory)).map_err(host("start a thread"))?
        };
        let loaded = boot::load(&memory, &kernel, initrd.as_ref(), &config.command_line());
        let Ok(vm) = vm.join() else { std::process::abort() };
        let (vm, start) = (vm?, loaded?);
        let line = Event::new()?;
        vm.interrupt_on(&line, SERIAL_LINE)?;
        let ports = Arc::new(Ports::new(line, output)?);
        let devices = Devices::new(&vm, devices(config)?)?;

        // Checked to fit ([`Config::check`]); a machine with fewer than asked for would be a wrong one.
        let count = u8::try_from(config.vcpus).map_err(host("number the virtual processors"))?;
        let described: Vec<acpi::Device> = devices.described().chain([acpi::Device::Serial]).collect();
        acpi::write(vm.memory(), count, &described)?;
        let vcpus = (0..count).map(|number| vm.vcpu(number, count)).collect::<std::result::Result<Vec<_>, _>>()?;
        if let Some(first) = vcpus.first() {
            first.start_at(&start)?;
        }
        Ok(Machine { _vm: vm, vcpus, bus: Arc::new(Bus { ports, devices }), input })
    }

    /// Runs the guest until it is off.
    ///
    /// # Errors
    /// A processor can't go on.
    pub fn run(self) -> Result<Report> {
        let input = self.input.map(waitable).transpose()?;
        let processors = Processors::start(self.vcpus, &self.bus)?;
        let waited = attend(&self.bus, input);
        let exits = processors.stop()?;
        let outcome = match waited? {
            Wish::Off => Outcome::Off,
            Wish::Reset => Outcome::Reset,
        };
        Ok(Report { outcome, exits, notes: self.bus.devices.notes() })
    }
}

/// Every device asked for, in the order in which the guest finds them.
fn devices(config: &Config) -> Result<Vec<Box<dyn Device>>> {
    let mut devices: Vec<Box<dyn Device>> = vec![Box::new(Rng::new(rng::Config::default())?)];
    for disk in &config.disks {
        devices.push(Box::new(Block::new(disk.clone())?));
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
fn attend(bus: &Bus, mut input: Option<OwnedFd>) -> Result<Wish> {
    let ports = &bus.ports;
    let epoll = Epoll::new()?;
    epoll.add(ports.event().as_raw_fd(), PollFlags::IN, PORTS)?;
    let mut watch = Watch::new(&bus.devices, &epoll)?;
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
                key => watch.ready(&epoll, key)?,
            }
        }
    }
}

/// Input that can be waited for. A plain file can't: a thread carries it through a pipe.
fn waitable(input: OwnedFd) -> Result<OwnedFd> {
    if Epoll::new()?.add(input.as_raw_fd(), PollFlags::IN, 0).is_ok() {
        return Ok(input);
    }
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(host("make a pipe"))?;
    let copy = move || std::io::copy(&mut File::from(input), &mut File::from(write));
    std::thread::Builder::new().name("input".into()).spawn(copy).map_err(host("start a thread"))?;
    Ok(read)
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
