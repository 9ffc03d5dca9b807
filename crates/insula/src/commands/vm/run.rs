//! `insula vm run`: a machine in the foreground, its console on our terminal; or in the background.

use super::host;
use super::machines::{Machines, Record, socket_path};
use super::options::{Accel, Args};
use super::stats::marks;
use crate::background::{self, Ready};
use crate::commands::kernel;
use crate::commands::run::random_id;
use crate::global::{Coded, Global};
use anyhow::Context;
use insula_boundary::Init;
use insula_boundary::store::{Removal, Slot};
use insula_machine::console::Log;
use insula_machine::qemu::{self, Emulated};
use insula_machine::{Config, Console, Input, Machine, Report, Surroundings};
use insula_spec::Id;
use insula_sys::process;
use insula_sys::signals::SignalFd;
use insula_sys::tty;
use rustix::fd::OwnedFd;
use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::cell::Cell;
use std::fs::File;
use std::io::IsTerminal;
use std::os::unix::fs::OpenOptionsExt;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Instant;

/// Signals that end a machine as they would end any program: hang up, interrupt, quit, terminate.
const ENDING: [i32; 4] = [1, 2, 3, 15];

pub(crate) fn main(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    run(global, &args).map_err(|error| Coded::new(125, format!("{error:#}")).into())
}

fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let config = args.config()?;
    let id = args.name.as_deref().map_or_else(random_id, |name| Ok(name.parse()?))?;
    let vcpus = if args.accel == Accel::Tcg { qemu::MOST_VCPUS } else { host::most_vcpus()? };
    config.check(host::memory()?, vcpus)?;
    if args.no_seccomp {
        crate::show::warn(format_args!(
            "insula: --no-seccomp: this machine's threads aren't confined; don't run guests you don't trust"
        ));
    }
    let place = Place { machines: Machines::new(global), record: record(args, &config)?, id, began: global.began };
    if args.detach {
        let id = place.id.clone();
        return background::start(&id, |ready| in_background(place, args, &config, ready));
    }
    in_foreground(place, args, &config)
}

/// Where a machine is put on record, and what is said of it there.
struct Place {
    machines: Machines,
    id: Id,
    record: Record,
    /// When our program began.
    began: Instant,
}

fn record(args: &Args, config: &Config) -> anyhow::Result<Record> {
    let absolute = |path: &std::path::Path| std::path::absolute(path).with_context(|| format!("can't use {}", path.display()));
    let (created, owner) = Record::now();
    Ok(Record {
        created,
        owner,
        accelerator: if args.accel == Accel::Tcg { "tcg" } else { "kvm" }.into(),
        kernel: absolute(&config.kernel)?,
        memory: config.memory,
        cpus: config.vcpus,
        sockets: args.vsock.iter().map(|path| absolute(path)).collect::<anyhow::Result<_>>()?,
        keep: args.detach && !args.rm,
    })
}

/// A machine that is on record, and removed from it when this goes, unless it is kept.
struct OnRecord {
    slot: Slot,
    /// Made at the start: when the guest has run, this thread can open nothing any more.
    removal: Option<Removal>,
}

impl OnRecord {
    fn new(place: &Place) -> anyhow::Result<OnRecord> {
        let slot = place.machines.reserve(&place.id, &place.record)?;
        let removal = Some(slot.removal()?);
        Ok(OnRecord { slot, removal })
    }
}

impl Drop for OnRecord {
    fn drop(&mut self) {
        if let Some(removal) = &self.removal
            && let Err(error) = removal.carry_out()
        {
            crate::show::warn(format_args!("insula: {error}"));
        }
    }
}

/// A machine of either kind.
enum Made {
    Kvm(Machine),
    Tcg(Emulated),
}

impl Made {
    fn new(args: &Args, config: &Config, console: &Console) -> anyhow::Result<Made> {
        if args.accel == Accel::Tcg {
            return Ok(Made::Tcg(Emulated::new(config, console)?));
        }
        let cache = kernel::unpacked(&config.kernel).unwrap_or_else(host::cache_dir);
        Ok(Made::Kvm(Machine::new(config, Some(&cache), console)?))
    }

    /// Tells what isn't as it was asked for.
    fn notify(&self) {
        match self {
            Made::Kvm(machine) => {
                machine.notices().iter().for_each(|notice| crate::show::warn(format_args!("insula: {notice}")));
            }
            Made::Tcg(_) => crate::show::warn("insula: --accel tcg: QEMU emulates the processor, many times slower than KVM"),
        }
    }

    fn run(self, with: Surroundings) -> insula_machine::Result<Report> {
        match self {
            Made::Kvm(machine) => machine.run(with),
            Made::Tcg(machine) => machine.run(with),
        }
    }
}

fn in_foreground(place: Place, args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    // Before there is a thread, so that all of them leave these signals to the event loop.
    let signals = SignalFd::new(ENDING)?;
    let began = place.began;
    let place = OnRecord::new(&place)?;
    let stdin = rustix::stdio::stdin();
    let interactive = std::io::stdin().is_terminal();
    let file = stdin.try_clone_to_owned().context("can't use the standard input")?;
    let output = rustix::stdio::stdout().try_clone_to_owned().context("can't use the standard output")?;
    let console = Console::new(Some(output), None)?;
    let control = Some(listen(&place.slot)?);
    let machine = Made::new(args, config, &console)?;
    machine.notify();
    place.slot.write_init(init()?)?;
    let raw = interactive.then(|| tty::Raw::new(stdin)).transpose()?;
    let report = machine.run(Surroundings {
        input: Some(Input { file, interactive }),
        control,
        signals: Some(signals),
        entered: Box::new(|| Ok(())),
        began,
        say: |line| crate::show::warn(format_args!("\r\ninsula: {line}\r")),
    });
    drop(raw);
    let report = report?;
    tell(&report, args.stats);
    Ok(ExitCode::from(report.outcome.code()))
}

/// In a process of its own, whose name is told when the guest runs.
fn in_background(place: Place, args: &Args, config: &Config, ready: Ready) -> anyhow::Result<()> {
    let signals = SignalFd::new(ENDING)?;
    let (keep, began) = (place.record.keep, place.began);
    let mut place = OnRecord::new(&place)?;
    let slot = &place.slot;
    let log = Log::new(slot.dir(), [&slot.name("output"), &slot.name("output.2")])?;
    let path = slot.path("errors");
    let errors = File::options().append(true).create(true).mode(0o600).open(&path);
    let errors = errors.with_context(|| format!("can't make {}", path.display()))?;
    let console = Console::new(None, Some(log))?;
    let control = Some(listen(slot)?);
    let machine = Made::new(args, config, &console)?;
    machine.notify();
    // All that is written later is opened now.
    let (init, running, exit) = (init()?, slot.later("init")?, slot.later("exit")?);
    ready.leave(Some(errors.into())).context("can't go on in the background")?;
    let told = Rc::new(Cell::new(false));
    let tells = told.clone();
    let entered = Box::new(move || {
        running.write_init(init)?;
        ready.tell().inspect(|()| tells.set(true))
    });
    let report = machine.run(Surroundings { input: None, control, signals: Some(signals), entered, began, say: |_| {} });
    if !told.get() {
        return report.map(drop).map_err(Into::into);
    }
    // What goes wrong from here on is nobody's to hear but the file's of errors.
    let code = match report {
        Ok(report) => {
            tell(&report, false);
            report.outcome.code()
        }
        Err(error) => {
            crate::show::warn(format_args!("insula: {error}"));
            125
        }
    };
    if keep {
        place.removal = None;
        if let Err(error) = exit.write_exit(code) {
            crate::show::warn(format_args!("insula: can't write the exit code: {error}"));
        }
    }
    Ok(())
}

/// What the user should know of a guest that has ended.
fn tell(report: &Report, stats: bool) {
    report.notes.iter().for_each(|note| crate::show::warn(format_args!("insula: {note}")));
    if stats && let Some(marks) = marks(&report.marks) {
        crate::show::warn(format_args!("insula: start: {marks}"));
    }
    match report.exits.filter(|_| stats) {
        Some(exits) => crate::show::warn(format_args!(
            "insula: exits: {} ports, {} memory, {} others",
            exits.ports, exits.memory, exits.others
        )),
        None if stats => crate::show::warn("insula: exits: QEMU counts none"),
        None => {}
    }
}

/// This process, as others find it.
fn init() -> anyhow::Result<Init> {
    let pid = rustix::process::getpid();
    Ok(Init { pid: pid.as_raw_pid(), started: process::start_time(pid)? })
}

/// The control socket: for who may do anything to this process anyway.
fn listen(slot: &Slot) -> anyhow::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let listen = || {
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        // The file gets the socket's mode.
        rustix::fs::fchmod(&socket, Mode::from_raw_mode(0o600))?;
        let path = socket_path(slot)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        rustix::net::listen(&socket, 16)?;
        anyhow::Ok(socket)
    };
    listen().with_context(|| format!("can't make the control socket of {}", slot.id()))
}
