//! A container that exists. How it is *now* is asked of the kernel each time; only what can't be asked is on record.

use crate::cgroup;
use crate::channel::{Channel, Message, failed};
use crate::create::{FirstProcess, start_address};
use crate::members::Door;
use crate::runner::Runner;
use crate::{exec, hooks, members, seccomp, system};
use insula_boundary::store::Slot;
use insula_boundary::{Alarm, Entry, Error, ExecOptions, Init, Job, Processes, Result, Sandbox, Stats, Status, Store};
use insula_spec::plan::{Namespace, Process, RootSource, Shutdown};
use insula_spec::resources::Resources;
use insula_spec::{Id, Plan};
use insula_sys::process::{self, Child};
use insula_sys::{Context, Errno};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::Pid;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const SIGTERM: i32 = 15;

/// A container: one this process has just made, or one found in the store.
#[derive(Debug)]
pub(crate) struct Container {
    slot: Slot,
    entry: Entry,
    /// Only in the process that made it.
    making: Option<Making>,
    /// The socket that wants the terminal.
    console: Option<OwnedFd>,
    /// The other kernel that stands in it.
    runner: Option<Arc<dyn Runner>>,
    /// What is on record of it from before: it was there once, and stays on record if it can't be made again.
    before: Option<Entry>,
}

/// Why the other kernel in a container can't be reached.
enum Unreachable {
    Socket(Errno),
    Store(Error),
}

impl From<Errno> for Unreachable {
    fn from(errno: Errno) -> Self {
        Unreachable::Socket(errno)
    }
}

impl From<Error> for Unreachable {
    fn from(error: Error) -> Self {
        Unreachable::Store(error)
    }
}

/// What the maker holds.
#[derive(Debug)]
struct Making {
    child: Child,
    channel: Channel,
    stops: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    ready: bool,
    started: bool,
}

impl Container {
    pub(crate) fn made(
        slot: Slot,
        entry: Entry,
        console: Option<OwnedFd>,
        first: Option<FirstProcess>,
        before: Option<Entry>,
    ) -> Container {
        // Who makes one adds no process to it.
        let mut container = Container { slot, entry, making: None, console, runner: None, before };
        if let Some(first) = first {
            container.set_first(first);
        }
        container
    }

    pub(crate) fn opened(slot: Slot, entry: Entry, runner: Option<Arc<dyn Runner>>) -> Container {
        Container { slot, entry, making: None, console: None, runner, before: None }
    }

    /// The place of one that has ended, locked, with nothing left of it but the record.
    pub(crate) fn make_room(store: &Store, id: &Id) -> Result<(Slot, Entry)> {
        let slot = store.find(id)?;
        slot.lock()?;
        let Some(entry) = slot.read_entry()? else { return Err(Error::Unmade(id.clone())) };
        let ended = Container::opened(slot, entry, None);
        if ended.init()?.is_some() {
            return Err(ended.wrong_state("only one that has ended can be started again"));
        }
        ended.remove_groups(&ended.all_cgroups()?)?;
        ended.slot.renew()?;
        Ok((ended.slot, ended.entry))
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.entry.plan
    }

    pub(crate) fn slot(&self) -> &Slot {
        &self.slot
    }

    /// Writes what will be made.
    pub(crate) fn record(&self) -> Result<()> {
        match &self.before {
            None => self.slot.write_entry(&self.entry),
            // Its groups stand where the caller's do.
            Some(before) if before.cgroups != self.entry.cgroups => self.slot.replace_entry(&self.entry),
            Some(_) => Ok(()),
        }
    }

    /// Takes the first process in; gives its number.
    pub(crate) fn set_first(&mut self, first: FirstProcess) -> Pid {
        let FirstProcess { child, channel, stops } = first;
        let pid = child.pid;
        self.making = Some(Making { child, channel, stops, terminal: None, ready: false, started: false });
        pid
    }

    /// The number of the first process, if it has been made.
    pub(crate) fn first_pid(&self) -> Option<Pid> {
        self.making.as_ref().map(|making| making.child.pid)
    }

    pub(crate) fn tell(&self, message: Message) {
        if let Some(making) = &self.making {
            making.channel.tell(message);
        }
    }

    /// Compiles the system-call policy for the first process, which meanwhile, on another processor, puts its root together.
    pub(crate) fn send_filter(&self) -> Result<()> {
        match &self.making {
            Some(making) => seccomp::send(&making.channel, &self.plan().process),
            None => Ok(()),
        }
    }

    /// Waits until the first process has its namespaces.
    pub(crate) fn until_namespaces_made(&mut self) -> Result<()> {
        self.until(|message| matches!(message, Message::NamespacesMade))
    }

    /// Reads messages until the wanted one; a failure told is this call's.
    fn until(&mut self, wanted: impl Fn(&Message) -> bool) -> Result<()> {
        let Some(making) = &mut self.making else { return Ok(()) };
        loop {
            let message = making.channel.receive()?;
            if wanted(&message) {
                return Ok(());
            }
            match message {
                Message::Failed(error) => return Err(error),
                Message::Terminal(terminal) => match &self.console {
                    Some(socket) => {
                        let name = format!("/dev/pts/ptmx of {}", self.entry.plan.id);
                        crate::channel::send_descriptor(socket, name.as_bytes(), &terminal).map_err(failed)?;
                    }
                    None => making.terminal = Some(terminal),
                },
                Message::Ready => making.ready = true,
                Message::End => return Err(died(making)),
                _ => {}
            }
        }
    }

    /// A connection to the other kernel that stands in it.
    fn connect_control(&self) -> Result<OwnedFd> {
        let connect = || {
            let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
            rustix::net::connect(&socket, &crate::create::address(&self.slot, &self.slot.control_socket()?)?)?;
            Ok::<_, Unreachable>(socket)
        };
        connect().map_err(|error| match error {
            Unreachable::Socket(errno) => {
                let text = insula_sys::error::describe(errno);
                Error::Failed(format!("can't reach the kernel of {}: {text}", self.entry.plan.id))
            }
            Unreachable::Store(error) => error,
        })
    }

    /// Who has a kernel that runs the sandbox's processes, and can be asked: not while it is paused.
    fn kernel_that_answers(&self) -> Option<&dyn Runner> {
        self.runner.as_deref().filter(|_| [Status::Running, Status::Created].contains(&self.status()))
    }

    /// Its processes on the host.
    fn host_processes(&self) -> Result<Vec<i32>> {
        let (init, _) = self.living("only a running container has processes")?;
        let of_group = self.groups()?.processes();
        if !of_group.is_empty() {
            return Ok(of_group);
        }
        if self.plan().namespaces.has(Namespace::Pid) {
            return Ok(members::in_pid_namespace_of(init.pid));
        }
        Ok(vec![init.pid])
    }

    /// Takes back whatever has been made.
    pub(crate) fn undo(&mut self) {
        self.end_first();
        // Somebody may have removed it, and made another of the name.
        if self.slot.lock().is_ok() {
            // What can't be removed stays on record.
            if self.remove_groups(&self.entry.cgroups).is_ok() && self.before.is_none() {
                let _ = self.slot.remove();
            }
        }
    }

    fn remove_groups(&self, paths: &[PathBuf]) -> Result<()> {
        if let Some(scope) = &self.plan().scope {
            cgroup::scope::remove(scope, paths)?;
        }
        cgroup::remove(paths)
    }

    /// Kills the first process, if this process made it.
    fn end_first(&mut self) {
        if let Some(making) = self.making.take() {
            process::kill(&making.child.pidfd);
            let _ = process::reap(&making.child.pidfd);
        }
    }

    /// The first process, if it lives.
    fn init(&self) -> Result<Option<(Init, OwnedFd)>> {
        let Some(init) = self.slot.read_init() else { return Ok(None) };
        let Some(pid) = Pid::from_raw(init.pid) else { return Ok(None) };
        let found = process::find(pid, init.started).map_err(failed)?;
        Ok(found.map(|pidfd| (init, pidfd)))
    }

    /// The first process of a container that must have one.
    fn living(&self, problem: &'static str) -> Result<(Init, OwnedFd)> {
        self.init()?.ok_or_else(|| self.wrong_state(problem))
    }

    fn wrong_state(&self, problem: &'static str) -> Error {
        Error::State { id: self.entry.plan.id.clone(), status: self.status(), problem }
    }

    /// The status of a container whose first process lives.
    fn status_of_living(&self, groups: Option<&cgroup::Groups>) -> Status {
        match groups {
            Some(groups) if groups.is_frozen() => Status::Paused,
            _ if self.slot.waits_for_start() => Status::Created,
            // Between the first process and its start socket's end, or until the maker lets go.
            _ => Status::Running,
        }
    }

    fn groups(&self) -> Result<cgroup::Groups> {
        let mut paths = self.all_cgroups()?;
        // One that was to be made later may not have been.
        paths.retain(|path| self.entry.cgroups.contains(path) || path.exists());
        Ok(cgroup::recorded(&paths))
    }

    /// Those it was made with, and those it got later.
    fn all_cgroups(&self) -> Result<Vec<PathBuf>> {
        let mut paths = self.entry.cgroups.clone();
        paths.extend(self.slot.read_later_cgroups()?);
        Ok(paths)
    }

    /// Moves all of it into further groups, frozen or not.
    fn put_into(&self, more: &cgroup::Groups, resources: &Resources, init: Init, frozen: bool) -> Result<()> {
        more.check_free()?;
        let mut paths = self.slot.read_later_cgroups()?;
        paths.extend(more.paths());
        paths.sort();
        paths.dedup();
        // On record before they are there.
        self.slot.write_later_cgroups(&paths)?;
        let put = || {
            more.create_unified(resources)?;
            more.create_v1(resources)?;
            if frozen {
                more.freeze(true)?;
            }
            more.adopt(|| members::in_pid_namespace_of(init.pid))
        };
        put().inspect_err(|_| {
            if frozen {
                let _ = more.freeze(false);
            }
            more.disband();
        })
    }

    /// Starts a container that another process has made, over its socket.
    fn start_from_outside(&mut self) -> Result<()> {
        self.slot.lock()?;
        if self.status() != Status::Created {
            return Err(self.wrong_state("only a created container can be started"));
        }
        let channel = self.reach_waiting()?;
        channel.send(Message::Start)?;
        let answer = channel.receive()?;
        self.slot.forget_start();
        match answer {
            Message::Failed(error) => Err(error),
            _ => self.after_start(),
        }
    }

    /// A connection to the first process, which waits for the start.
    fn reach_waiting(&self) -> Result<Channel> {
        let address = start_address(&self.slot)?;
        let connect = || {
            let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
            rustix::net::connect(&socket, &address)?;
            Ok::<_, Errno>(socket)
        };
        connect().on("reach the first process of", &self.entry.plan.id).map_err(failed).map(Channel::from_socket)
    }

    /// The namespaces of the first process, from itself, as long as it waits for the start.
    fn ask_for_namespaces(&self) -> Result<Option<Vec<(Namespace, OwnedFd)>>> {
        let channel = self.reach_waiting()?;
        channel.send(Message::Join)?;
        let files = channel.receive_namespaces()?;
        let kinds: Vec<Namespace> = Namespace::ALL.into_iter().filter(|kind| self.plan().namespaces.has(*kind)).collect();
        Ok((kinds.len() == files.len()).then(|| kinds.into_iter().zip(files).collect()))
    }

    fn after_start(&self) -> Result<()> {
        if !self.plan().hooks.poststart.is_empty() {
            let pid = self.slot.read_init().map_or(0, |init| init.pid);
            hooks::run(&self.plan().hooks.poststart, "poststart", &hooks::state(self.plan(), Status::Running, pid)).inspect_err(
                |_| {
                    if let Ok(Some((_, pidfd))) = self.init() {
                        process::kill(pidfd);
                    }
                },
            )?;
        }
        Ok(())
    }

    /// Kills everything in the container and waits until its first process is gone.
    fn kill_all(&self) -> Result<()> {
        if let Some((_, pidfd)) = self.init()? {
            process::kill(&pidfd);
            let groups = self.groups()?;
            groups.kill();
            // A frozen process doesn't see the signal.
            let _ = groups.freeze(false);
            if !process::wait_ended(&pidfd, Some(Duration::from_secs(10))).map_err(failed)? {
                return Err(self.wrong_state("its first process doesn't end; try again, or look for a hung device in dmesg"));
            }
        }
        Ok(())
    }
}

/// Removes what the kernel needed beside what a program wrote. Its directories are nobody's to look into, not even their owner's.
fn remove_work(keep: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let number = |name: &str| name.strip_prefix("work").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    for entry in std::fs::read_dir(keep).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(number) {
            if !rustix::process::geteuid().is_root() {
                let _ = std::fs::set_permissions(entry.path().join("work"), std::fs::Permissions::from_mode(0o700));
            }
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// The first process ended without a word: how, is all there is to say.
fn died(making: &Making) -> Error {
    let how = match process::reap(&making.child.pidfd) {
        Ok(process::Ended::Killed(signal)) => format!("was killed by signal {signal} (is memory or pids limited too low?)"),
        Ok(process::Ended::Exited(code)) => format!("ended with code {code}"),
        Err(_) => "ended".into(),
    };
    Error::Failed(format!("the container's first process {how} while the container was made"))
}

impl Sandbox for Container {
    fn ready(&mut self) -> Result<()> {
        if self.making.as_ref().is_some_and(|making| making.ready) {
            return Ok(());
        }
        self.until(|message| matches!(message, Message::Ready)).inspect_err(|_| self.undo())?;
        if let Some(making) = &mut self.making {
            making.ready = true;
        }
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        if self.making.is_none() {
            return self.start_from_outside();
        }
        self.tell(Message::Start);
        let Some(making) = &mut self.making else { return Ok(()) };
        making.started = true;
        // Its end of the channel closes at exec. It also does when it is killed before: then there never was a "ready".
        match self.until(|message| matches!(message, Message::End)) {
            Ok(()) if self.making.as_ref().is_some_and(|making| making.ready) => self.after_start(),
            Ok(()) => {
                Err(self.making.as_ref().map_or_else(|| Error::Failed("it ended".into()), died)).inspect_err(|_| self.undo())
            }
            Err(error) => {
                self.undo();
                Err(error)
            }
        }
    }

    fn exec(&mut self, mut process: Process, options: ExecOptions) -> Result<Job> {
        process.user.umask = process.user.umask.or(self.plan().process.user.umask);
        let (init, pidfd) = self.living("a process can only be added to a running container")?;
        let groups = self.groups()?;
        let status = self.status_of_living(Some(&groups));
        let fit = [Status::Running, Status::Created].contains(&status) || status == Status::Paused && options.ignore_paused;
        if !fit {
            return Err(self.wrong_state("a process can only be added to a running container"));
        }
        crate::create::check_labels(&process)?;
        match &self.runner {
            None => {
                let waits = status == Status::Created;
                let door = Door::find(init, &pidfd, || if waits { self.ask_for_namespaces() } else { Ok(None) })?;
                exec::exec(self.plan(), init, &door, &groups.below(&options.cgroups)?, process, options)
            }
            Some(runner) => runner.exec(self.plan(), self.connect_control()?, process, options),
        }
    }

    fn signal(&mut self, signal: i32, all: bool) -> Result<()> {
        let (_, pidfd) = self.living("container not running, there is no process to signal")?;
        if all && let Some(runner) = self.kernel_that_answers() {
            return runner.signal_all(self.connect_control()?, signal);
        }
        if all {
            for pid in self.host_processes()? {
                if let Some(pid) = Pid::from_raw(pid) {
                    insula_sys::signals::send(pid, signal);
                }
            }
            return Ok(());
        }
        let sent = process::signal(&pidfd, signal).map_err(failed)?;
        if sent { Ok(()) } else { Err(self.wrong_state("container not running, there is no process to signal")) }
    }

    fn shut_down(&mut self) -> Result<()> {
        match self.plan().system.as_ref().map(|system| system.shutdown.clone()) {
            None => self.signal(SIGTERM, false),
            Some(Shutdown::Signal(number)) => self.signal(number, false),
            Some(Shutdown::Program(args)) => {
                let program = args.join(" ");
                let process = Process { args, terminal: false, ..self.plan().process.clone() };
                let null = || rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
                let null = || null().on("open", "/dev/null").map_err(failed);
                let options = ExecOptions { stdio: Some([null()?, null()?, null()?]), detached: true, ..ExecOptions::default() };
                system::await_asking(&self.exec(process, options)?, &program)
            }
        }
    }

    fn job(&mut self) -> Option<Job> {
        let making = self.making.as_mut()?;
        let pidfd = making.child.pidfd.try_clone().ok()?;
        Some(Job { pid: making.child.pid.as_raw_pid(), pidfd, terminal: making.terminal.take(), news: making.stops.take() })
    }

    fn pause(&mut self) -> Result<()> {
        self.slot.lock()?;
        if ![Status::Running, Status::Created].contains(&self.status()) {
            return Err(self.wrong_state("only a running container can be paused"));
        }
        let (init, _) = self.living("only a running container can be paused")?;
        let groups = self.groups()?;
        if groups.can_freeze() {
            return groups.freeze(true).map(drop);
        }
        let no_limit = Resources::default();
        let more = groups.lacking(self.plan(), init.pid, &no_limit)?;
        if more.can_freeze() {
            self.put_into(&more, &no_limit, init, true)?;
            // Those that came last may still be on the way.
            return more.freeze(true).map(drop);
        }
        Err(Error::Unsupported(format!("{}: {}", self.plan().id, cgroup::no_freezer())))
    }

    fn resume(&mut self) -> Result<()> {
        self.slot.lock()?;
        if self.status() != Status::Paused {
            return Err(self.wrong_state("only a paused container can be resumed"));
        }
        self.groups()?.freeze(false).map(drop)
    }

    fn update(&mut self, resources: &Resources) -> Result<()> {
        self.slot.lock()?;
        let (init, _) = self.living("only a container with processes can be changed")?;
        if let (Some(scope), Some(group)) = (&self.plan().scope, self.entry.cgroups.first()) {
            cgroup::scope::update(scope, group, resources)?;
        }
        let more = self.groups()?.lacking(self.plan(), init.pid, resources)?;
        if !more.is_empty() {
            self.put_into(&more, resources, init, false)?;
        }
        self.groups()?.update(resources)?;
        match (&self.runner, resources.memory_change()) {
            (Some(runner), Some(most)) => {
                let now = self.kernel_that_answers().is_some();
                runner.limit_memory(self.connect_control()?, most, now)
            }
            _ => Ok(()),
        }
    }

    fn stats(&self) -> Result<Stats> {
        self.living("only a running container uses anything")?;
        Ok(self.groups()?.stats())
    }

    fn alarm(&self) -> Result<Option<Alarm>> {
        self.groups()?.alarm()
    }

    fn processes(&self) -> Result<Processes> {
        self.living("only a running container has processes")?;
        match self.kernel_that_answers() {
            Some(runner) => runner.processes(self.connect_control()?).map(Processes::Inside),
            None => self.host_processes().map(Processes::Host),
        }
    }

    fn status(&self) -> Status {
        match self.init() {
            Ok(Some(_)) => self.status_of_living(self.groups().ok().as_ref()),
            _ if self.slot.read_init().is_none() && self.slot.is_locked() => Status::Creating,
            _ => Status::Stopped,
        }
    }

    fn entry(&self) -> &Entry {
        &self.entry
    }

    fn delete(&mut self, force: bool) -> Result<()> {
        match self.slot.lock() {
            // By somebody else; if there is one of the name, it isn't this one.
            Err(Error::NotFound(_)) if self.making.is_some() => {
                self.end_first();
                return Ok(());
            }
            locked => locked?,
        }
        if !force && self.init()?.is_some() {
            return Err(self.wrong_state("stop it first, or remove it with --force"));
        }
        self.kill_all()?;
        if let Some(making) = self.making.take() {
            // Ours to reap; who waited for it before has done so.
            let _ = process::reap(&making.child.pidfd);
        }
        self.remove_groups(&self.all_cgroups()?)?;
        if let RootSource::Host { keep: Some(keep) } = &self.plan().root.source {
            remove_work(keep);
        }
        let poststop = &self.plan().hooks.poststop;
        if !poststop.is_empty() {
            hooks::run_and_report(poststop, "poststop", &hooks::state(self.plan(), Status::Stopped, 0));
        }
        self.slot.remove()
    }
}
