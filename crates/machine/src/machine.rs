//! The machine: how it is put together, and how it runs.

use crate::attend::{Outcome, Surroundings, attend};
use crate::bus::Bus;
use crate::config::Config;
use crate::confinement::{Filters, Part};
use crate::console::Console;
use crate::devices::Devices;
use crate::error::{Result, host};
use crate::loader::Loader;
use crate::marks::Marks;
use crate::ports::{EVENTS_LINE, Ports, SERIAL_LINE};
use crate::processors::Processors;
use crate::running::Running;
use crate::stats::Residence;
use crate::threads;
use insula_usernet::Network;
use insula_virtio::Device;
use insula_virtio::balloon::Balloon;
use insula_virtio::block::Block;
use insula_virtio::net::Net;
use insula_virtio::rng::{self, Rng};
use insula_virtio::vsock::Vsock;
use insula_vm::boot::Start;
use insula_vm::event::Event;
use insula_vm::fill::{Filling, Rest};
use insula_vm::kernel::Kernel;
use insula_vm::kvm::Vm;
use insula_vm::memory::GuestMemory;
use insula_vm::vcpu::{Exits, Vcpu};
use insula_vm::{acpi, boot, memory};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, TryRecvError};
use std::time::Duration;

/// A machine that is ready to run.
pub struct Machine {
    /// Keeps interrupts and memory connected.
    vm: Vm,
    vcpus: Vec<Vcpu>,
    bus: Arc<Bus>,
    console: Console,
    /// Asks the guest to switch off.
    request: Event,
    filters: Filters,
    notices: Vec<String>,
    /// What of the kernel's file isn't in memory yet.
    rest: Option<Rest>,
}

/// What there is to tell of a guest that has ended.
#[derive(Clone, Debug)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// When its start got how far.
    pub marks: Marks,
    /// How often it came back to us; of an emulated one nobody knows.
    pub exits: Option<Exits>,
    /// What went wrong with devices, a line each.
    pub notes: Vec<String>,
}

impl Machine {
    /// Puts a machine together: nothing of the guest runs yet.
    ///
    /// # Errors
    /// Something asked for can't be had; nothing is left behind.
    pub fn new(config: &Config, cache: Option<&Path>, console: &Console) -> Result<Machine> {
        let kernel = Kernel::open(&config.kernel, cache)?;
        let initrd = config.initrd.as_deref().map(boot::open_initrd).transpose()?.map(Arc::new);

        let memory = memory::allocate(config.memory, config.backing)?;
        let (mut vm, start, filling) =
            beside(&memory, || boot::load(&memory, &kernel, config.boot, initrd.as_ref(), &config.command_line()))?;
        let (line, request) = (Event::new()?, Event::new()?);
        vm.interrupt_on(&line, SERIAL_LINE)?;
        vm.interrupt_on(&request, EVENTS_LINE)?;
        let ports = Arc::new(Ports::new(line, console.clone())?);
        let mut notices = Vec::new();
        let devices = Devices::new(&mut vm, config.bus, devices(config, &mut notices)?)?;

        // Checked to fit ([`Config::check`]); a machine with fewer than asked for would be a wrong one.
        let count = u8::try_from(config.vcpus).map_err(host("number the virtual processors"))?;
        let own = [acpi::Device::Serial, acpi::Device::Events { line: EVENTS_LINE }];
        let described: Vec<acpi::Device> = devices.described().into_iter().chain(own).collect();
        acpi::write(vm.memory(), count, &described)?;
        let vcpus = (0..count).map(|number| vm.vcpu(number, count)).collect::<std::result::Result<Vec<_>, _>>()?;
        if let Some(first) = vcpus.first() {
            first.start_at(&start)?;
        }
        let filters = if config.confined { Filters::new(config.parts())? } else { Filters::none() };
        let (bus, console) = (Arc::new(Bus { ports, devices }), console.clone());
        // Last, as the guest is to start at once.
        let rest = filling.rest()?;
        Ok(Machine { vm, vcpus, bus, console, request, filters, notices, rest })
    }

    /// What isn't as it was asked for, or as it best would be: a line each, for the user.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Runs the guest until it is off, or somebody ends it. The calling thread is confined for good, as are those that are made here: everything that a machine
    /// needs is open by now, and nothing of the guest's has been looked at yet.
    ///
    /// # Errors
    /// A thread can't be confined, or a processor can't go on.
    pub fn run(self, with: Surroundings) -> Result<Report> {
        let Machine { vm, vcpus, bus, console, request, filters, rest, .. } = self;
        let filters = Arc::new(filters);
        let loader = rest.map(|rest| Loader::start(rest, &bus, &filters)).transpose()?;
        let began = with.began;
        let (prepared, entered) = with.prepare(&filters)?;
        let mut running = Running::new(&bus, request, &vcpus, Residence::new(vm.memory()), began);
        let processors = Processors::start(vcpus, &bus, &filters)?;
        running.tasks = processors.tasks().to_vec();
        let waited = match entered() {
            Ok(()) => attend(&mut running, &console, prepared),
            Err(error) => Err(host("tell that the guest runs")(error)),
        };
        console.close();
        // Before the processors: one may wait for what it brings.
        let brought = loader.map_or(Ok(()), Loader::stop);
        let exits = processors.stop()?;
        brought?;
        let notes = bus.devices.notes().into_iter().chain(console.note()).collect();
        Ok(Report { outcome: waited?, marks: bus.ports.course.marks(began), exits: Some(exits), notes })
    }
}

/// Makes the machine in KVM, and reads as much of what the guest needs as that leaves time for.
///
/// The kernel waits for a grace period or two when it makes a machine, because it starts threads that join our groups. Where one processor
/// is left for us all, these threads don't get it while we are busy: so they have a moment first. Then we read until the machine is there.
fn beside(memory: &GuestMemory, load: impl FnOnce() -> insula_vm::Result<(Start, Filling)>) -> Result<(Vm, Start, Filling)> {
    const MOMENT: Duration = Duration::from_micros(500);
    let (made, is_made) = mpsc::channel();
    let thread = {
        let memory = memory.clone();
        let body = move || {
            let vm = Vm::new(memory);
            let _ = made.send(());
            vm
        };
        threads::start("kvm", body)?
    };
    let waits = is_made.recv_timeout(MOMENT) == Err(RecvTimeoutError::Timeout);
    let loaded = load().and_then(|(start, mut filling)| {
        filling.read_while(|| waits && is_made.try_recv() == Err(TryRecvError::Empty))?;
        Ok((start, filling))
    });
    let Ok(vm) = thread.join() else { std::process::abort() };
    let (vm, (start, filling)) = (vm?, loaded?);
    Ok((vm, start, filling))
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
    if config.parts().contains(&Part::Network) && !Network::pings() {
        let notice =
            "--net user: the guest's ping reaches only the gateway, as net.ipv4.ping_group_range leaves this user's groups out";
        notices.push(notice.to_owned());
    }
    if let Some(sockets) = &config.sockets {
        devices.push(Box::new(Vsock::new(sockets)?));
    }
    if let Some(balloon) = config.balloon {
        devices.push(Box::new(Balloon::new(balloon)?));
    }
    Ok(devices)
}
