//! One more process in a container that runs: it joins the namespaces and groups of the first one, all at once by its pidfd, and from
//! there on goes the way the first one went.

use crate::cgroup::Groups;
use crate::channel::{self, Channel, Message, failed};
use crate::create::connect_listener;
use crate::init::{self, Notified, space};
use crate::members::Door;
use crate::{hooks, seccomp, userns};
use insula_boundary::{Error, ExecOptions, Init, Job, Result, Status};
use insula_spec::Plan;
use insula_spec::plan::{Namespace, Process};
use insula_sys::process::{self, Fork, Processors, Spaces};
use insula_sys::{Context, mount};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::OFlags;
use std::convert::Infallible;
use std::path::Path;

/// Runs a process in the container of `init`, whose namespaces are behind `door`; returns when its program runs.
pub(crate) fn exec(
    plan: &Plan,
    init: Init,
    door: &Door,
    groups: &Groups,
    mut process: Process,
    mut options: ExecOptions,
) -> Result<Job> {
    process.seccomp = process.seccomp.or_else(|| plan.process.seccomp.clone());
    process.reaper = false;
    check_devices(plan, &process)?;
    let console = options.console_socket.as_deref().map(|path| {
        let mut of_process = plan.clone();
        of_process.process.terminal = process.terminal;
        crate::create::connect_console(&of_process, Some(path))
    });
    let console = console.transpose()?.flatten();
    let listener = connect_listener(&process)?;
    let cgroup = match plan.system {
        // An init leaves the group it was started in to divide it; then no process may be there.
        Some(_) => groups.unified_of(init.pid)?,
        None => groups.unified()?,
    };
    let (ours, theirs) = channel::pair()?;
    let spaces = joined(plan, door)?;
    let builder = spaces.contains(Spaces::USER).then(|| userns::builder(plan));
    let mut of_children = spaces & (Spaces::PID | Spaces::TIME);
    if spaces.contains(Spaces::USER) && !rustix::process::geteuid().is_root() {
        // The user namespace is what gives a plain user the right to join others, in the same call. We stay in it; nobody there may
        // look at us, as long as we can't be dumped.
        of_children |= Spaces::USER;
        let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    }
    if !of_children.is_empty() {
        door.join(of_children).map_err(failed)?;
    }
    let processors = process::stay_here();
    let fork = process::fork(Spaces::empty(), cgroup.as_ref().map(AsFd::as_fd)).map_err(failed)?;
    let child = match fork {
        Fork::Child => {
            drop(ours);
            let spaces = spaces - of_children;
            let parts = Parts { plan, init, groups, door, spaces, builder, processors, process, listener, options };
            let Err(error) = parts.enter(&theirs);
            theirs.tell(Message::Failed(error));
            process::exit(1)
        }
        Fork::Parent(child) => child,
    };
    drop((theirs, options.stdio.take()));
    ours.tell(Message::OnRecord(child.pid.as_raw_pid()));
    let heard = seccomp::send(&ours, &process).and_then(|()| hear(&ours, console.as_ref()));
    process::roam(processors);
    match heard {
        Ok(terminal) => Ok(Job { pid: child.pid.as_raw_pid(), pidfd: child.pidfd, terminal, news: None }),
        Err(error) => {
            process::kill(&child.pidfd);
            let _ = process::reap(&child.pidfd);
            Err(error)
        }
    }
}

/// Who can make device nodes needs rules for them: without any, each device of the host would be open. A container gets them when it is
/// made, if its own program can.
fn check_devices(plan: &Plan, process: &Process) -> Result<()> {
    let makes_nodes = |process: &Process| process.capabilities.bounding.has("MKNOD");
    let free = plan.resources.devices.is_empty() && !plan.namespaces.has(Namespace::User);
    if free && makes_nodes(process) && !makes_nodes(&plan.process) {
        let problem = "was made without rules for devices, so CAP_MKNOD would open every device of the host; leave it out, or make the \
            container anew with it (--cap-add MKNOD), or with linux.resources.devices";
        return Err(Error::Unsupported(format!("{} {problem}", plan.id)));
    }
    Ok(())
}

/// Follows the new process until its program runs; its terminal, if it is ours to keep.
fn hear(channel: &Channel, console: Option<&OwnedFd>) -> Result<Option<OwnedFd>> {
    let mut kept = None;
    loop {
        match (channel.receive()?, console) {
            (Message::End, _) => return Ok(kept),
            (Message::Failed(error), _) => return Err(error),
            (Message::Terminal(terminal), Some(socket)) => {
                channel::send_descriptor(socket, b"/dev/pts/ptmx", &terminal).map_err(failed)?;
            }
            (Message::Terminal(terminal), None) => kept = Some(terminal),
            _ => {}
        }
    }
}

/// The namespaces of the container that aren't ours already (joining one's own user namespace is refused by the kernel): those that were made for
/// it, and of those it joined whichever are others.
fn joined(plan: &Plan, door: &Door) -> Result<Spaces> {
    let mut spaces = Spaces::empty();
    for kind in Namespace::ALL.into_iter().filter(|kind| plan.namespaces.has(*kind)) {
        if plan.namespaces.creates(kind) {
            spaces |= space(kind);
            continue;
        }
        if !door.is_ours(kind).map_err(failed)? {
            spaces |= space(kind);
        }
    }
    Ok(spaces)
}

/// What the new process is given.
struct Parts<'p> {
    plan: &'p Plan,
    init: Init,
    groups: &'p Groups,
    door: &'p Door,
    spaces: Spaces,
    /// Whom it becomes first, in a user namespace that it joins.
    builder: Option<(u32, u32)>,
    /// Which it is to have again.
    processors: Option<Processors>,
    process: Process,
    listener: Option<OwnedFd>,
    options: ExecOptions,
}

impl Parts<'_> {
    /// Becomes the program inside; returns only the reason for which it couldn't.
    fn enter(self, channel: &Channel) -> std::result::Result<Infallible, Error> {
        let Parts { plan, init, groups, door, spaces, builder, processors, process, listener, options } = self;
        if !options.detached {
            // Until it is followed, its end is read from the channel.
            init::die_with_parent()?;
        }
        init::before_root_is_gone(&process)?;
        // From here on the container's processes can see us.
        let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
        groups.join_v1()?;
        if !spaces.is_empty() {
            door.join(spaces).map_err(failed)?;
        }
        builder.map_or(Ok(()), init::become_builder)?;
        let mut identity = init::identity(&process)?;
        if process.terminal {
            let root = mount::open_place(Path::new("/"), OFlags::DIRECTORY).on("open", "/").map_err(failed)?;
            identity.slave = Some(init::open_console(&root, &process, channel)?);
        }
        identity.find_program()?;
        // It was sent long ago, and nobody waited for it: a wake-up on another processor takes its time.
        let Message::OnRecord(pid) = channel.receive()? else { process::exit(1) };
        let filter = seccomp::receive(channel, &process)?;
        let state = hooks::state(plan, Status::Running, init.pid);
        let listener = listener.map(|socket| Notified { socket, message: init::notification(&process, pid, state) });
        let around = init::Surroundings {
            stdio: options.stdio,
            session: options.session,
            preserve_fds: options.preserve_fds,
            keyring: Some(init::session_keyring(plan)),
            attached: !options.detached,
            stops: None,
            listener,
        };
        process::roam(processors);
        init::enter_program(&process, identity, filter.as_deref(), around, Some(channel))
    }
}
