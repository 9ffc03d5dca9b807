//! Making a container, the caller's side.
//!
//! The order is what makes a crash harmless: first the record of what will be, then the things themselves. Whoever finds the record
//! later can remove everything it names, whether or not it came to be. Only a first process may be there before the record: all it
//! has are namespaces, and when its channel to us closes, it ends.

use crate::channel::{self, Channel, Message, failed};
use crate::init::{self, LATE, space};
use crate::runner::Runner;
use crate::sandbox::Container;
use crate::{cgroup, hooks, userns};
use insula_boundary::store::Slot;
use insula_boundary::{Entry, Error, Init, Options, Status, Store};
use insula_spec::Plan;
use insula_spec::plan::{Namespace, Process};
use insula_sys::process::{self, Child, Fork, Spaces};
use insula_sys::{Context, Errno};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::Pid;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Makes a container whose program waits for the start.
pub(crate) fn create(store: &Store, runner: Option<Arc<dyn Runner>>, plan: Plan, options: Options) -> Result<Container, Error> {
    let runner = runner.map(|runner| runner.container_plan(&plan).map(|container| (runner, container))).transpose()?;
    hooks::check(&plan.hooks)?;
    check_labels(&plan.process)?;
    let joins = open_namespaces(&plan)?;
    let mapped = init::map_all(runner.as_ref().map_or(&plan, |(_, container)| container), store.root())?;
    let console = connect_console(&plan, options.console_socket.as_deref())?;
    let listener = connect_listener(&plan.process)?;
    let again = options.again.then(|| Container::make_room(store, &plan.id)).transpose()?;
    let groups = cgroup::plan(&plan)?;
    // Before they are on record as ours: what is ours is removed, with all that is in it.
    groups.check_free()?;
    let boundary = match &runner {
        Some((runner, _)) => runner.boundary(),
        None if plan.system.is_some() => crate::SYSTEM,
        None => crate::CONTAINER,
    };
    let boundary = boundary.to_owned();
    let mut parts = Parts { anchor: store.root().to_owned(), runner, control: None, groups, joins, mapped, listener, options };
    let first = parts.make_first_early(&plan)?;
    let (slot, before) = match again {
        Some((slot, before)) => (Ok(slot), Some(before)),
        None => (store.reserve(&plan.id), None),
    };
    let slot = match slot {
        Ok(slot) => slot,
        Err(error) => {
            if let Some(first) = first {
                first.abandon();
            }
            return Err(error);
        }
    };
    let created = now();
    let owner = rustix::process::getuid().as_raw();
    let cgroups = parts.groups.paths();
    let entry = match &before {
        Some(before) => Entry { cgroups, plan, ..before.clone() },
        None => Entry { boundary, created, plan, cgroups, remove: parts.options.remove, owner },
    };
    let mut container = Container::made(slot, entry, console, first, before);
    let recorded = container.record();
    recorded.and_then(|()| parts.assemble(&mut container)).inspect_err(|_| container.undo())?;
    container.slot().unlock();
    Ok(container)
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What has been prepared before anything is made.
struct Parts {
    /// Where the record will be: something to mount on.
    anchor: PathBuf,
    /// Who runs the program instead of the host's kernel, and what is left for the container to do.
    runner: Option<(Arc<dyn Runner>, Plan)>,
    /// Where that one hears of more processes that are to be run.
    control: Option<OwnedFd>,
    groups: cgroup::Groups,
    joins: Vec<(Namespace, OwnedFd)>,
    mapped: init::Mapped,
    listener: Option<OwnedFd>,
    options: Options,
}

/// The first process, and what connects its maker with it.
#[derive(Debug)]
pub(crate) struct FirstProcess {
    pub(crate) child: Child,
    pub(crate) channel: Channel,
    pub(crate) stops: Option<OwnedFd>,
}

impl FirstProcess {
    /// Ends it; all that it has are namespaces, which go with it.
    fn abandon(self) {
        process::kill(&self.child.pidfd);
        let _ = process::reap(&self.child.pidfd);
    }
}

impl Parts {
    /// Makes the first process before there is a record, if nothing speaks against it: the kernel takes long over its network
    /// namespace, and here another processor goes on meanwhile. Until it hears that it is on record it makes nothing that outlives
    /// it, and it doesn't outlive us. On v2 its group must be there first; one that others will start needs its socket.
    fn make_first_early(&mut self, plan: &Plan) -> Result<Option<FirstProcess>, Error> {
        // Another kernel's first process needs its socket, likewise.
        let early = self.options.attached && self.runner.is_none() && !self.groups.iter().any(cgroup::Group::is_unified);
        if early { self.make_first(plan, None, None).map(Some) } else { Ok(None) }
    }

    fn make_first(&mut self, plan: &Plan, start_socket: Option<OwnedFd>, cgroup: Option<OwnedFd>) -> Result<FirstProcess, Error> {
        let (ours, theirs) = channel::pair()?;
        let (stops, stops_told) = stops_pipe(&plan.process)?;
        let restore = set_spaces_of_children(plan, &self.joins)?;
        let builder = userns::builder(plan);
        let fork = process::fork(first_spaces(plan), cgroup.as_ref().map(AsFd::as_fd)).map_err(|error| explain(error, plan))?;
        match fork {
            Fork::Child => {
                drop((ours, stops));
                init::run(init::Start {
                    plan: self.runner.as_ref().map_or(plan, |(_, container)| container),
                    runner: self.runner.as_ref().map(|(runner, _)| (&**runner, plan)),
                    control: self.control.take(),
                    groups: &self.groups,
                    channel: theirs,
                    start_socket,
                    joins: std::mem::take(&mut self.joins),
                    mapped: std::mem::take(&mut self.mapped),
                    builder,
                    anchor: &self.anchor,
                    stops: stops_told,
                    stdio: self.options.stdio.take(),
                    session: self.options.session,
                    preserve_fds: self.options.preserve_fds,
                    share_keyring: self.options.share_keyring,
                    no_pivot: self.options.no_pivot,
                    in_network: self.options.in_network.take(),
                    attached: self.options.attached,
                    listener: self.listener.take(),
                })
            }
            Fork::Parent(child) => {
                let first = FirstProcess { child, channel: ours, stops };
                match restore.restore() {
                    Ok(()) => Ok(first),
                    Err(error) => {
                        first.abandon();
                        Err(error)
                    }
                }
            }
        }
    }

    /// Makes everything that was put on record.
    fn assemble(mut self, container: &mut Container) -> Result<(), Error> {
        let pid = match container.first_pid() {
            Some(pid) => pid,
            None => {
                let slot = container.slot();
                let cgroup = self.groups.create_unified(&container.plan().resources)?;
                let start_socket = if self.options.attached { None } else { Some(listen(slot, &slot.start_socket()?)?) };
                if self.runner.is_some() {
                    self.control = Some(listen(slot, &slot.control_socket()?)?);
                }
                let first = self.make_first(container.plan(), start_socket, cgroup)?;
                container.set_first(first)
            }
        };
        self.accompany(container, pid)
    }

    /// Does for the first process what only the caller can.
    fn accompany(self, container: &mut Container, pid: Pid) -> Result<(), Error> {
        let init = process::start_time(pid).map(|started| Init { pid: pid.as_raw_pid(), started });
        // Whatever fails from here on, the first process ends when the channel closes.
        self.groups.create_around(container.plan(), pid)?;
        container.slot().write_init(init.map_err(failed)?)?;
        let namespaces = &container.plan().namespaces;
        if namespaces.creates(Namespace::User) {
            userns::map(pid, &namespaces.uid_map, &namespaces.gid_map)?;
        }
        container.tell(Message::OnRecord(pid.as_raw_pid()));
        if hooks::wants_caller(&container.plan().hooks) {
            container.until_namespaces_made()?;
            let plan = container.plan();
            let state = hooks::state(plan, Status::Creating, pid.as_raw_pid());
            hooks::run(&plan.hooks.prestart, "prestart", &state)?;
            hooks::run(&plan.hooks.create_runtime, "createRuntime", &state)?;
            container.tell(Message::Continue);
        }
        container.send_filter()
    }
}

/// The namespaces the first process is made in. What acts on children only is made or joined before it, by us.
fn first_spaces(plan: &Plan) -> Spaces {
    let with_it = |kind: &&Namespace| {
        plan.namespaces.creates(**kind) && !LATE.contains(kind) && (**kind != Namespace::Time || !makes_time_first(plan))
    };
    Namespace::ALL.iter().filter(with_it).map(|kind| space(*kind)).fold(Spaces::empty(), |all, one| all | one)
}

/// Namespaces of others that the plan names, opened: a wrong one is found before anything is made.
fn open_namespaces(plan: &Plan) -> Result<Vec<(Namespace, OwnedFd)>, Error> {
    let mut joins = Vec::new();
    for kind in Namespace::ALL {
        let Some(Some(path)) = plan.namespaces.list.get(&kind) else { continue };
        let file = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let file = file.on("open the namespace", format_args!("{} ({})", path.display(), kind.file())).map_err(failed)?;
        joins.push((kind, file));
    }
    Ok(joins)
}

/// Whether the caller makes the time namespace, before anybody is in it: only then can its clocks be set. It takes a privilege, which a
/// plain user has in the user namespace only.
fn makes_time_first(plan: &Plan) -> bool {
    let plain = plan.namespaces.creates(Namespace::User) && !rustix::process::geteuid().is_root();
    plan.namespaces.creates(Namespace::Time) && !(plain && plan.time_offsets.is_empty())
}

/// Puts the caller's own choice for its children back.
struct Restore(Vec<Namespace>);

/// Joins or makes the namespaces that a process can only give to its children.
fn set_spaces_of_children(plan: &Plan, joins: &[(Namespace, OwnedFd)]) -> Result<Restore, Error> {
    let mut changed = Restore(Vec::new());
    for (kind, file) in joins.iter().filter(|(kind, _)| [Namespace::Pid, Namespace::Time].contains(kind)) {
        process::join_namespace(file, space(*kind)).on("join the namespace", kind.file()).map_err(failed)?;
        changed.0.push(*kind);
    }
    if makes_time_first(plan) {
        let made = process::unshare(Spaces::TIME);
        if made == Err(Errno::PERM) && !plan.time_offsets.is_empty() {
            let problem = "linux.timeOffsets: setting a new time namespace's clocks needs root; remove them, or run as root";
            return Err(Error::Unsupported(problem.into()));
        }
        made.on("make", "a time namespace").map_err(failed)?;
        changed.0.push(Namespace::Time);
        for (clock, (seconds, nanoseconds)) in &plan.time_offsets {
            let line = format!("{clock} {seconds} {nanoseconds}");
            std::fs::write("/proc/self/timens_offsets", &line).on("set linux.timeOffsets to", &line).map_err(failed)?;
        }
    }
    Ok(changed)
}

impl Restore {
    fn restore(self) -> Result<(), Error> {
        for kind in self.0 {
            let path = format!("/proc/self/ns/{}", kind.file());
            let own = rustix::fs::openat(CWD, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .on("open", &path)
                .map_err(failed)?;
            process::join_namespace(own, space(kind)).on("go back to the namespace", kind.file()).map_err(failed)?;
        }
        Ok(())
    }
}

/// A socket of this name in the store, to be connected to. Its path can be longer than an address holds, so it is bound by the directory's descriptor.
fn listen(slot: &Slot, name: &str) -> Result<OwnedFd, Error> {
    let address = address(slot, name)?;
    let make = || {
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::net::bind(&socket, &address)?;
        rustix::net::listen(&socket, 1)?;
        Ok::<_, Errno>(socket)
    };
    make().on("make a socket beside", slot.path("init").display()).map_err(failed)
}

/// The address of the start socket.
pub(crate) fn start_address(slot: &Slot) -> Result<SocketAddrUnix, Error> {
    address(slot, &slot.start_socket()?)
}

/// The address of a socket in the store.
pub(crate) fn address(slot: &Slot, name: &str) -> Result<SocketAddrUnix, Error> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}/{name}", slot.dir().as_raw_fd());
    SocketAddrUnix::new(&path).on("use as a socket's address", &path).map_err(failed)
}

/// Where a first process of ours tells how the program is stopped or killed, which its own end can't tell.
pub(crate) fn stops_pipe(process: &Process) -> Result<(Option<OwnedFd>, Option<OwnedFd>), Error> {
    if !process.reaper {
        return Ok((None, None));
    }
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).on("make", "a pipe").map_err(failed)?;
    Ok((Some(read), Some(write)))
}

/// Connects to the socket that wants the terminal.
pub(crate) fn connect_console(plan: &Plan, path: Option<&Path>) -> Result<Option<OwnedFd>, Error> {
    let Some(path) = path else { return Ok(None) };
    if !plan.process.terminal {
        return Err(Error::Failed(
            "--console-socket: the configuration has process.terminal false; set it, or leave the option out".into(),
        ));
    }
    connect(path).on("connect to --console-socket", path.display()).map(Some).map_err(failed)
}

/// Connects to who decides about notified system calls.
pub(crate) fn connect_listener(process: &Process) -> Result<Option<OwnedFd>, Error> {
    let listener = process.seccomp.as_ref().and_then(|policy| policy.listener.as_ref());
    let Some(listener) = listener else { return Ok(None) };
    connect(&listener.path).on("connect to linux.seccomp.listenerPath", listener.path.display()).map(Some).map_err(failed)
}

pub(crate) fn connect(path: &Path) -> rustix::io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// Labels of a security module that isn't there would silently not protect.
pub(crate) fn check_labels(process: &Process) -> Result<(), Error> {
    let apparmor = || std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.trim() == "Y");
    if process.apparmor.as_ref().is_some_and(|name| name != "unconfined") && !apparmor() {
        return Err(Error::Unsupported(
            "process.apparmorProfile: AppArmor isn't enabled on this host; remove the profile".into(),
        ));
    }
    if process.selinux.is_some() && !Path::new("/sys/fs/selinux/enforce").exists() {
        return Err(Error::Unsupported("process.selinuxLabel: SELinux isn't enabled on this host; remove the label".into()));
    }
    Ok(())
}

/// Why no process could be made, where the kernel's word alone helps nobody.
fn explain(error: insula_sys::Error, plan: &Plan) -> Error {
    let advice = match error.errno {
        Errno::PERM => {
            "; making these namespaces needs root, or a user namespace in linux.namespaces (`insula spec --rootless` writes one)"
        }
        Errno::NOSPC => "; the limit of namespaces is reached (/proc/sys/user/max_*_namespaces)",
        Errno::INVAL => "; this kernel lacks one of the namespaces",
        Errno::AGAIN => "; the limit of processes is reached (ulimit -u, or pids.max of the caller's cgroup)",
        _ => "",
    };
    Error::Failed(format!("can't make the first process of {}: {}{advice}", plan.id, insula_sys::error::describe(error.errno)))
}
