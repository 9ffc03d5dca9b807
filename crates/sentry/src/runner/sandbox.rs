//! The sandbox's processes, from the container's first one on.

use super::control::Control;
use super::exports::{self, Exported};
use super::policy::Filter;
use super::signals::Switchboard;
use super::streams::{self, Front};
use super::{describe, host_errno, tree};
use crate::host::{Alert, HostClock, HostEntropy, HostMemory, Room, Watcher};
use crate::hostfs::HostFs;
use crate::hostnet::{self, HostNetwork};
use crate::platform::Memory;
use crate::platform::ptrace::{Ptrace, Seed};
use crate::{confine, driver};
use insula_boundary::Error;
use insula_container::runner::{Gate, Inside};
use insula_gofer::net::Net;
use insula_gofer::{Client, Confinement};
use insula_kernel::fs::Inode as _;
use insula_kernel::host::{Host, Machine, Network, Vdso};
use insula_kernel::task::boot::{Boot, Manner};
use insula_kernel::task::{Credentials, Kick, Limits, Task};
use insula_kernel::wait::{Events, Observer, Pollable};
use insula_kernel::{Errno, Kernel};
use insula_spec::Plan;
use insula_spec::plan::{Namespace, Process, User};
use insula_sys::Context as _;
use insula_sys::signals::{self, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::Signal;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// All memory of a sandbox's programs, at most, in bytes: address space, not memory; what limits memory is the container's group.
const MEMORY: u64 = 1 << 38;

/// Signals that a thread of ours causes itself: what they tell (a forbidden call, by its name) is told at once.
const OWN_FAULTS: [i32; 6] = [libc::SIGILL, libc::SIGTRAP, libc::SIGBUS, libc::SIGFPE, libc::SIGSEGV, libc::SIGSYS];

/// Places that the allocator has: threads hold its lock for moments, and each place keeps memory of its own. A second one would also, when it
/// gives memory back, ask the host whether it overcommits memory, by a file that the filter doesn't let it open.
const ARENAS: i32 = 1;

/// Makes a sandbox, waits for the start, and runs the container's program in it; ends with it.
pub(super) fn run(mut inside: Inside<'_>) -> ! {
    let parts = make_parts(&inside).and_then(|parts| confine_all(inside.attached).map(|()| parts));
    match parts.and_then(|parts| Sandbox::bring_up(parts, &mut inside)) {
        Ok(sandbox) => sandbox.serve(inside),
        Err(error) => give_up(inside.gate, error),
    }
}

/// There is no program, because.
fn give_up(gate: Gate, error: Error) -> ! {
    gate.fail(error);
    insula_sys::process::exit(125)
}

fn failed(what: &str) -> impl FnOnce(std::io::Error) -> Error + '_ {
    move |error| Error::Failed(format!("can't {what}: {error}"))
}

/// What was made while there still were privileges.
struct Parts {
    memory: Arc<Memory>,
    room: Arc<Room>,
    platform: Ptrace,
    seed: Seed,
    /// What new address spaces are made from.
    nursery: Seed,
    client: Client,
    /// The host's network, if the program is to have it, and what it looks like.
    outside: Option<(Net, hostnet::Seen)>,
    exported: Vec<Exported>,
    signals: SignalFd,
    watcher: Arc<Watcher>,
    ended: Ended,
    /// For a terminal of its own.
    alert: Option<Alert>,
}

/// All that needs the container's root, or privileges, or this process's having one thread.
fn make_parts(inside: &Inside<'_>) -> Result<Parts, Error> {
    let host = |error: insula_sys::Error| Error::Failed(error.to_string());
    let exported = exports::find(inside.plan).map_err(failed("find what is mounted"))?;
    let list: Vec<_> = exported.iter().map(|exported| exported.export.clone()).collect();
    let gofer = |error: insula_gofer::Error| Error::Failed(format!("the file server: {error}"));
    let (starting, client) = insula_gofer::spawn(&list, &Confinement::default()).map_err(gofer)?;
    let outside = network(inside.plan)?;
    confine::raise_descriptors();
    insula_sys::process::limit_arenas(ARENAS);
    // That a stub ended, its thread hears by wait4: nobody has to wake up for the signal.
    let passed_on = signals::blockable().filter(|signal| !OWN_FAULTS.contains(signal) && *signal != libc::SIGCHLD);
    let signals = SignalFd::new(passed_on).map_err(host)?;
    let watcher = Watcher::new().map_err(failed("watch the standard streams"))?;
    let ended = Ended::new().map_err(failed("wait for the program"))?;
    let alert = inside.terminal.then(Alert::new).transpose();
    let alert = alert.map_err(|errno| failed("use the terminal")(errno.into()))?;
    starting.ready().map_err(gofer)?;
    let platform = |error: crate::platform::Error| Error::Failed(format!("the platform ptrace: {error}"));
    let memory = Arc::new(Memory::new(MEMORY).map_err(platform)?);
    let room = Room::new(inside.plan.resources.memory_limit(), &memory);
    let ptrace = Ptrace::new(memory.clone()).map_err(platform)?;
    confine::leave_root().map_err(host)?;
    confine::give_up_privileges().map_err(host)?;
    let seed = ptrace.first().map_err(platform)?;
    let nursery = ptrace.first().map_err(platform)?;
    Ok(Parts { memory, room, platform: ptrace, seed, nursery, client, outside, exported, signals, watcher, ended, alert })
}

/// Where the program is to have the host's network (or one that was made for it by others), the process that stands in it; this one leaves it.
fn network(plan: &Plan) -> Result<Option<(Net, hostnet::Seen)>, Error> {
    if plan.namespaces.creates(Namespace::Net) {
        return Ok(None);
    }
    let failed_in = |error: insula_gofer::Error| Error::Failed(format!("the network: {error}"));
    let low_ports = plan.process.capabilities.bounding.bits() & 1 << insula_abi::general::CAP_NET_BIND_SERVICE != 0;
    let (starting, net) = insula_gofer::net::spawn(low_ports).map_err(failed_in)?;
    let seen = hostnet::look().map_err(failed("look at the network"))?;
    starting.ready().map_err(failed_in)?;
    let left = insula_sys::process::unshare(insula_sys::process::Spaces::NET);
    left.map_err(|errno| failed("leave the network")(errno.into()))?;
    Ok(Some((net, seen)))
}

/// Gives up all calls but those the sentry needs. Threads that are made from here on inherit that.
fn confine_all(attached: bool) -> Result<(), Error> {
    if attached {
        // Becoming nobody has undone it.
        let death = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).on("follow", "the caller");
        death.map_err(|error| Error::Failed(error.to_string()))?;
    }
    let program = confine::filter().map_err(|error| Error::Failed(format!("can't make the system-call filter: {error}")))?;
    let told = insula_sys::seccomp::tell_of_violations(|number| insula_seccomp::Sysno::new(number).map(|call| call.name()));
    let confined = told.and_then(|()| insula_sys::seccomp::confine(&program, "sentry"));
    confined.map_err(|error| Error::Failed(error.to_string()))
}

/// A kernel that runs, and its first process, which has no program yet.
struct Sandbox {
    kernel: Arc<Kernel>,
    first: Arc<Task>,
    /// What the first process begins with.
    boot: Boot,
    seed: Seed,
    front: Front,
    signals: SignalFd,
    ended: Ended,
    _platform: Ptrace,
}

impl Sandbox {
    /// Has the kernel answer, also who wants more processes to be run.
    fn bring_up(parts: Parts, inside: &mut Inside<'_>) -> Result<Sandbox, Error> {
        let Parts { memory, room, platform, seed, nursery, client, outside, exported, signals, watcher, ended, alert } = parts;
        let clock = Arc::new(HostClock::default());
        let (net, seen) = outside.unzip();
        let network = net.map(|net| Arc::new(hostnet::Network(HostNetwork::new(net, &watcher))) as Arc<dyn Network>);
        let kernel = Kernel::new(Host {
            clock: clock.clone(),
            entropy: Arc::new(HostEntropy),
            memory: Arc::new(HostMemory(memory.clone(), room.clone())),
            machine: machine(&platform),
            network,
        });
        if let Some(seen) = seen {
            kernel.spaces.net.holds.inet.interfaces.show(seen.interfaces, seen.gateways);
        }
        name(&kernel, inside.plan).map_err(|errno| Error::Failed(format!("can't name the sandbox: {errno}")))?;
        clock.serve(&kernel).map_err(failed("start the timer"))?;
        watcher.serve().map_err(failed("watch the standard streams"))?;
        let (boot, front) = prepare(&kernel, &watcher, &client, (&memory, &room), &exported, alert, inside)?;
        let first = first_process(&kernel, &boot, &front, inside)?;
        let filter = inside.filter.as_deref().map(Filter::new);
        let refused = |errno| Error::Failed(format!("can't load the filter of linux.seccomp: {}", describe(errno)));
        filter.as_ref().map_or(Ok(()), |filter| filter.confine(&first)).map_err(refused)?;
        ended.watch(&first, &front);
        if let Some(socket) = inside.control.take() {
            let control = Control { kernel: kernel.clone(), first: first.clone(), watcher, room, filter };
            control.listen(socket, nursery).map_err(failed("listen for more processes"))?;
        }
        Ok(Sandbox { kernel, first, boot, seed, front, signals, ended, _platform: platform })
    }

    /// Waits for the start, runs the program, and stays until it has ended.
    fn serve(self, inside: Inside<'_>) -> ! {
        let Inside { plan, program, news, mut gate, .. } = inside;
        let Sandbox { kernel, first, boot, seed, front, signals, ended, _platform } = self;
        let command = plan.process.reaper;
        let switchboard = Switchboard { kernel: &kernel, first: &first.process, front: &front, command };
        let begun = gate.ready().and_then(|()| await_start(&mut gate, &first, &switchboard, &signals, &ended)).and_then(|()| {
            let cant_run = |errno: Errno| insula_container::runner::cant_run(&program, host_errno(errno));
            let regs = kernel.load(&first, &boot).map_err(cant_run)?;
            driver::start(seed, first.clone(), regs, driver::Token::default()).map_err(failed("start the program"))
        });
        drop(boot);
        match begun {
            Ok(()) => gate.open(),
            Err(error) => give_up(gate, error),
        }
        stay(&switchboard, &signals, &ended, news.as_ref())
    }
}

/// Waits until the program is to be run. Until then signals from outside mean the first process; if one ends it, this process ends as it did.
fn await_start(
    gate: &mut Gate,
    first: &Arc<Task>,
    switchboard: &Switchboard<'_>,
    signals: &SignalFd,
    ended: &Ended,
) -> Result<(), Error> {
    loop {
        let mut waits =
            [gate.descriptor(), signals.as_fd(), ended.told.as_fd()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        let _ = poll(&mut waits, None);
        let somebody = !waits[0].revents().is_empty();
        ended.heard();
        while let Some(received) = signals.read() {
            switchboard.pass_on(received);
        }
        if let Some(status) = first.ends() {
            first.exit(status);
            super::end(status, None);
        }
        if somebody && gate.hear()? {
            return Ok(());
        }
    }
}

/// Calls the sandbox what the plan calls it; the plan's names are short enough.
fn name(kernel: &Kernel, plan: &Plan) -> Result<(), Errno> {
    plan.hostname.as_ref().map_or(Ok(()), |name| kernel.set_host_name(name.as_bytes()))?;
    plan.domainname.as_ref().map_or(Ok(()), |name| kernel.set_domain_name(name.as_bytes()))
}

/// The machine that programs see: the host's processors.
fn machine(platform: &Ptrace) -> Machine {
    let (capabilities, capabilities2) = rustix::param::linux_hwcap();
    Machine {
        user: LOWEST..crate::platform::GUEST_END,
        extended: crate::platform::extended_state(),
        capabilities: capabilities as u64,
        capabilities2: capabilities2 as u64,
        vdso: platform.vdso().map(|(address, code)| Arc::new(Vdso { address, code })),
        vsyscall: platform.vsyscall(),
        processors: rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count()),
    }
}

/// Below, nobody maps anything, so that a null pointer is found out (Linux: `vm.mmap_min_addr`).
const LOWEST: u64 = 64 << 10;

/// The tree of files, and what the first process begins with.
fn prepare(
    kernel: &Arc<Kernel>,
    watcher: &Arc<Watcher>,
    client: &Client,
    (memory, room): (&Arc<Memory>, &Arc<Room>),
    exported: &[Exported],
    alert: Option<Alert>,
    inside: &mut Inside<'_>,
) -> Result<(Boot, Front), Error> {
    let roots = (0..).zip(exported).map(|(number, exported)| {
        let devices = exported.export.devices.then(|| watcher.clone());
        HostFs::attach(client, number, memory, exported.in_memory.then_some(room), devices)
    });
    let roots: Result<Vec<_>, Errno> = roots.collect();
    let kernel_said = |what: &'static str| move |errno: Errno| Error::Failed(format!("can't {what}: {}", describe(errno)));
    let roots = roots.map_err(kernel_said("reach the file server"))?;
    // All layers are in one file system: any tells how full it is.
    if let Some((_, layer)) = exported.iter().zip(&roots).find(|(exported, _)| exported.in_memory) {
        let layer = layer.clone();
        room.set_layer(Box::new(move || layer.statfs().map(|fs| fs.blocks.saturating_sub(fs.bfree) * fs.frsize.max(0) as u64)));
    }
    let fs = tree::build(kernel, exported, roots, inside).map_err(Error::Failed)?;
    let std = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let streams = match alert {
        Some(alert) => streams::terminal(kernel, &fs, (inside.user.uid, inside.user.gid), std[0], alert),
        None => streams::first(kernel, &fs, watcher, std),
    };
    let (descriptors, front) = streams.map_err(kernel_said("use the standard streams"))?;
    let passed = streams::pass_on(&descriptors, watcher, std::mem::take(&mut inside.preserved));
    passed.map_err(kernel_said("use the descriptors of --preserve-fds"))?;
    if let Some(terminal) = front.terminal() {
        kernel.terminals.set_console(&terminal);
    }
    let boot = Boot {
        program: inside.program.as_os_str().as_bytes().to_vec(),
        arguments: inside.args.iter().map(|text| text.clone().into_bytes()).collect(),
        environment: inside.env.iter().map(|text| text.clone().into_bytes()).collect(),
        fs,
        credentials: credentials_of(&inside.plan.process, &inside.user),
        limits: limits_of(&inside.plan.process),
        descriptors,
    };
    Ok((boot, front))
}

/// The first process, without its program.
fn first_process(kernel: &Arc<Kernel>, boot: &Boot, front: &Front, inside: &Inside<'_>) -> Result<Arc<Task>, Error> {
    let command = inside.plan.process.reaper;
    let manner = Manner { ordinary: command, job: command && matches!(front, Front::Shared(..)), terminal: front.terminal() };
    let made = kernel.boot_without_program(boot, manner);
    made.map_err(|errno| Error::Failed(format!("can't make the first process: {}", describe(errno))))
}

/// Who a process is in the kernel.
pub(super) fn credentials_of(process: &Process, user: &User) -> Credentials {
    let caps = &process.capabilities;
    let mut credentials = Credentials::root(caps.permitted.bits());
    credentials.uid = insula_kernel::task::credentials::Ids::all(user.uid);
    credentials.gid = insula_kernel::task::credentials::Ids::all(user.gid);
    credentials.groups = Arc::new(user.groups.clone());
    credentials.capabilities.effective = caps.effective.bits();
    credentials.capabilities.inheritable = caps.inheritable.bits();
    credentials.capabilities.ambient = caps.ambient.bits();
    credentials.capabilities.bounding = caps.bounding.bits();
    credentials.no_new_privileges = process.no_new_privileges;
    if user.uid != 0 {
        // As execve(2) does it for who isn't root.
        credentials.capabilities.permitted = caps.ambient.bits();
        credentials.capabilities.effective = caps.ambient.bits();
    }
    credentials
}

/// What a process may use.
pub(super) fn limits_of(process: &Process) -> Limits {
    let mut limits = Limits::default();
    for limit in &process.rlimits {
        limits.set(limit.resource, insula_abi::process::Rlimit { soft: limit.soft, hard: limit.hard });
    }
    limits
}

/// Tells when the first process, or what carries its output, has ended.
struct Ended {
    told: OwnedFd,
    tell: Arc<Tell>,
}

/// Writes to the pipe that [`stay`] waits at.
struct Tell(OwnedFd);

impl Observer for Tell {
    fn notify(&self, _: Events) {
        let _ = rustix::io::write(&self.0, b"!");
    }
}

impl Kick for Tell {
    fn kick(&self) {
        self.notify(Events::empty());
    }
}

impl Ended {
    fn new() -> std::io::Result<Ended> {
        let (told, tell) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK)?;
        Ok(Ended { told, tell: Arc::new(Tell(tell)) })
    }

    fn watch(&self, task: &Arc<Task>, front: &Front) {
        let observer: Arc<dyn Observer> = self.tell.clone();
        if let Front::Own(relay) = front {
            relay.tell(observer.clone());
        }
        // For as long as this process lives.
        std::mem::forget(task.process.observe(Events::READABLE, &observer));
        // Until it has a thread of its own.
        task.placed(self.tell.clone());
    }

    fn heard(&self) {
        let mut word = [0; 16];
        let _ = rustix::io::read(self.told.as_fd(), &mut word);
    }
}

/// Passes signals on until the first process has ended; then so does this one, as that one did.
fn stay(switchboard: &Switchboard<'_>, incoming: &SignalFd, ended: &Ended, news: Option<&OwnedFd>) -> ! {
    let first = switchboard.first;
    loop {
        if let Some(status) = first.status() {
            show_rest(switchboard.front, ended, incoming);
            super::end(status, news);
        }
        if let Some(signal) = switchboard.kernel.pids.take_stop(first.pid) {
            news.inspect(|news| super::tell(news, signal as u8));
        }
        let _ = poll(&mut [PollFd::new(incoming, PollFlags::IN), PollFd::new(&ended.told, PollFlags::IN)], None);
        ended.heard();
        while let Some(received) = incoming.read() {
            switchboard.pass_on(received);
        }
    }
}

/// Waits until all that was written on the program's terminal is with the host; not for ever, for who doesn't want to.
fn show_rest(front: &Front, ended: &Ended, incoming: &SignalFd) {
    while !front.is_finished() {
        let _ = poll(&mut [PollFd::new(incoming, PollFlags::IN), PollFd::new(&ended.told, PollFlags::IN)], None);
        ended.heard();
        while let Some(received) = incoming.read() {
            if [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM].iter().any(|end| end.as_raw() == received.signal) {
                return;
            }
        }
    }
}
