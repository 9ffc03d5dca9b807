//! The machine: how it is put together, and its event loop.

use crate::bus::Bus;
use crate::config::Config;
use crate::error::{Result, host};
use crate::ports::{Output, Ports, SERIAL_LINE, Wish};
use crate::processors::Processors;
use insula_vm::event::Event;
use insula_vm::kernel::Kernel;
use insula_vm::kvm::Vm;
use insula_vm::vcpu::{Exits, Vcpu};
use insula_vm::{acpi, boot, memory};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

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
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// How often it came back to us.
    pub exits: Exits,
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

        let vm = Vm::new(memory::allocate(config.memory, config.backing)?)?;
        let line = Event::new()?;
        vm.interrupt_on(&line, SERIAL_LINE)?;
        let ports = Arc::new(Ports::new(line, output)?);
        let devices = [acpi::Device::Serial];

        let start = boot::load(vm.memory(), &kernel, initrd.as_ref(), &config.command_line())?;
        // Checked to fit ([`Config::check`]); a machine with fewer than asked for would be a wrong one.
        let count = u8::try_from(config.vcpus).map_err(host("number the virtual processors"))?;
        acpi::write(vm.memory(), count, &devices)?;
        let vcpus = (0..count).map(|number| vm.vcpu(number, count)).collect::<std::result::Result<Vec<_>, _>>()?;
        if let Some(first) = vcpus.first() {
            first.start_at(&start)?;
        }
        Ok(Machine { _vm: vm, vcpus, bus: Arc::new(Bus { ports }), input })
    }

    /// Runs the guest until it is off.
    ///
    /// # Errors
    /// A processor can't go on.
    pub fn run(self) -> Result<Report> {
        let ports = self.bus.ports.clone();
        let processors = Processors::start(self.vcpus, &self.bus)?;
        let waited = attend(&ports, self.input);
        let exits = processors.stop()?;
        let outcome = match waited? {
            Wish::Off => Outcome::Off,
            Wish::Reset => Outcome::Reset,
        };
        Ok(Report { outcome, exits })
    }
}

/// The event loop: what is typed goes to the guest as far as it takes it.
fn attend(ports: &Ports, mut input: Option<OwnedFd>) -> Result<Wish> {
    loop {
        ports.event().take();
        if let Some(wish) = ports.wished() {
            return Ok(wish);
        }
        let room = ports.room();
        let mut files = vec![PollFd::new(ports.event(), PollFlags::IN)];
        files.extend(input.as_ref().filter(|_| room > 0).map(|input| PollFd::new(input, PollFlags::IN)));
        match poll(&mut files, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(host("wait for the guest")(errno)),
        }
        let readable = files.get(1).is_some_and(|file| !file.revents().is_empty());
        drop(files);
        if readable && !carry(ports, input.as_ref(), room) {
            input = None;
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
