//! The first process of a container, from the moment it exists until the program takes it over.
//!
//! It is a copy of the caller with one thread. [`run`] reads like the recipe it is; each step is a file here. Whatever fails goes
//! back to the caller as one line, and the process ends: everything it has made lives in its namespaces and goes with them.

mod console;
mod devices;
mod gate;
mod mounts;
mod overlay;
mod program;
mod reaper;
mod root;
mod sysctl;
mod users;

pub(crate) use console::open as open_console;
pub(crate) use gate::Gate;
pub(crate) use mounts::{Mapped, map_all};
pub(crate) use program::{
    Identity, Notified, Surroundings, before_root_is_gone, cant_run, die_with_parent, enter_program, identity, settle,
};

use crate::cgroup::Groups;
use crate::channel::{Channel, Message, failed};
use crate::runner::{self, Runner};
use crate::{hooks, seccomp};
use insula_boundary::{Error, InNetwork};
use insula_spec::Plan;
use insula_spec::plan::{Namespace, Process, User};
use insula_sys::process::{self, Spaces};
use insula_sys::{Context, net};
use rustix::fd::OwnedFd;
use rustix::process::DumpableBehavior;
use std::convert::Infallible;
use std::path::Path;

/// Who a process is, and its environment, by the text of a passwd and a group file.
pub(crate) fn find_user(passwd: &str, group: &str, process: &Process) -> Result<(User, Vec<String>), Error> {
    users::who(process, |text| users::find(passwd, group, text, &process.user))
}

/// Who `user[:group]` is, by the files of a root.
pub(crate) fn look_up_user(root: &OwnedFd, text: &str, like: &User) -> Result<User, Error> {
    users::look_up(root, text, like).map(|found| found.user)
}

/// What the first process is given.
pub(crate) struct Start<'p> {
    /// What the container is to be.
    pub(crate) plan: &'p Plan,
    /// Who runs the program instead of the host's kernel, and all that was asked for.
    pub(crate) runner: Option<(&'p dyn Runner, &'p Plan)>,
    /// Where that one hears of more processes that are to be run.
    pub(crate) control: Option<OwnedFd>,
    pub(crate) groups: &'p Groups,
    /// To the caller.
    pub(crate) channel: Channel,
    /// Where another process will say "start"; none when the caller itself will.
    pub(crate) start_socket: Option<OwnedFd>,
    /// Namespaces that exist already, opened: kind and file.
    pub(crate) joins: Vec<(Namespace, OwnedFd)>,
    /// Mounts that the caller has made.
    pub(crate) mapped: Mapped,
    /// Who puts the container together, in its user namespace.
    pub(crate) builder: (u32, u32),
    /// The store's directory: something to mount an overlay on.
    pub(crate) anchor: &'p Path,
    /// For a reaper: where it tells how the program is stopped or killed.
    pub(crate) stops: Option<OwnedFd>,
    pub(crate) stdio: Option<[OwnedFd; 3]>,
    pub(crate) session: insula_boundary::Session,
    pub(crate) preserve_fds: u32,
    pub(crate) share_keyring: bool,
    pub(crate) no_pivot: bool,
    /// What is to be done in the new network namespace.
    pub(crate) in_network: Option<InNetwork>,
    pub(crate) attached: bool,
    /// A connection to who decides about notified system calls.
    pub(crate) listener: Option<OwnedFd>,
}

/// Becomes the container's program. Never returns.
pub(crate) fn run(start: Start<'_>) -> ! {
    let mut gate = None;
    let Err(error) = prepare(start, &mut gate);
    if let Some(gate) = gate {
        // If the caller is gone there is nobody to tell.
        gate.channel().tell(Message::Failed(error));
    }
    process::exit(1)
}

/// Returns only the reason for which the program couldn't be run. Who is to be told of it is left in `told`.
fn prepare(start: Start<'_>, told: &mut Option<Gate>) -> Result<Infallible, Error> {
    let Start {
        plan,
        runner,
        control,
        groups,
        joins,
        mapped,
        builder,
        anchor,
        stops,
        stdio,
        session,
        preserve_fds,
        share_keyring,
        no_pivot,
        in_network,
        attached,
        start_socket,
        channel,
        listener,
    } = start;
    let starts_later = start_socket.is_some();
    let gate = told.insert(Gate::new(channel, start_socket));
    let channel = gate.channel();
    rustix::process::umask(rustix::fs::Mode::empty());
    if attached {
        program::die_with_parent()?;
    }
    let pid = join_spaces(plan, groups, channel, joins, builder)?;
    in_network.map_or(Ok(()), InNetwork::carry_out)?;
    program::before_root_is_gone(&plan.process)?;
    // A plain user who adds a process before the start has no other way to them than by us, who can't be looked at.
    let waits_hidden = starts_later && runner.is_none() && plan.namespaces.has(Namespace::User);
    let own = if waits_hidden { own_namespaces(plan)? } else { Vec::new() };
    // Our program file is open to whoever may look at us, and a process in a PID namespace that others share may (CVE-2019-5736).
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    if hooks::wants_caller(&plan.hooks) {
        channel.send(Message::NamespacesMade)?;
        expect_continue(channel)?;
    }
    let terminal = root::change(plan, groups, anchor, channel, mapped, no_pivot)?;
    sysctl::write(&plan.sysctl)?;
    root::finish(plan)?;

    let state = || hooks::state(plan, insula_boundary::Status::Creating, pid);
    let listener = listener.map(|socket| Notified { socket, message: notification(&plan.process, pid, state()) });
    let keyring = (!share_keyring).then(|| session_keyring(plan));
    let mut identity = program::identity(&plan.process)?;
    if let Some(terminal) = &terminal {
        // Before the start: who waits for the end of what we say (containerd) would wait for ever.
        program::use_terminal(terminal)?;
    }
    identity.slave = terminal;
    identity.find_program()?;
    let judged = runner.map_or(&plan.process, |(_, asked)| &asked.process);
    let filter = seccomp::receive(channel, judged)?;
    let around = program::Surroundings { stdio, session, preserve_fds, keyring, attached, stops, listener };
    if let Some((runner, asked)) = runner {
        return runner::hand_over(runner, asked, control, identity, filter, around, told);
    }
    channel.send(Message::Ready)?;
    gate.show(own);
    gate.wait()?;
    hooks::run_inside(&plan.hooks.start_container, "startContainer", plan)?;
    enter_program(&plan.process, identity, filter.as_deref(), around, Some(gate.channel()))
}

/// Enters the namespaces and groups; gives back our number outside.
///
/// The kernel takes longest for a network namespace: meanwhile the caller, on another processor, makes the groups. But a user
/// namespace's root has no right to the host's groups, so there they come first.
fn join_spaces(
    plan: &Plan,
    groups: &Groups,
    channel: &Channel,
    joins: Vec<(Namespace, OwnedFd)>,
    builder: (u32, u32),
) -> Result<i32, Error> {
    let groups_first = plan.namespaces.has(Namespace::User);
    let join_groups = || {
        // The caller has put us on record, or is dead and so are we.
        let Message::OnRecord(pid) = channel.receive()? else { process::exit(1) };
        groups.join_v1().map(|()| pid)
    };
    let mut pid = if groups_first { join_groups()? } else { 0 };
    if plan.namespaces.creates(Namespace::User) {
        become_builder(builder)?;
    }
    join_namespaces(&joins)?;
    if plan.namespaces.creates(Namespace::Net) {
        process::unshare(Spaces::NET).on("make", "a network namespace").map_err(failed)?;
        net::loopback_up().map_err(failed)?;
    }
    name_host(plan)?;
    if !groups_first {
        pid = join_groups()?;
    }
    if plan.namespaces.creates(Namespace::Cgroup) {
        process::unshare(Spaces::CGROUP).on("make", "a cgroup namespace").map_err(failed)?;
    }
    Ok(pid)
}

fn expect_continue(channel: &Channel) -> Result<(), Error> {
    match channel.receive()? {
        Message::Continue => Ok(()),
        _ => process::exit(1),
    }
}

/// In a user namespace: somebody whom it knows, so that files can be made.
pub(crate) fn become_builder((uid, gid): (u32, u32)) -> Result<(), Error> {
    process::set_ids(uid, gid, None).map_err(failed)
}

/// Joins namespaces that others made, the user namespace first: it gives the right to join the rest.
pub(crate) fn join_namespaces(joins: &[(Namespace, OwnedFd)]) -> Result<(), Error> {
    for (kind, file) in joins {
        // Joining a PID or time namespace acts on children: the caller has done that before it made us.
        if ![Namespace::Pid, Namespace::Time].contains(kind) {
            process::join_namespace(file, space(*kind)).on("join the namespace", kind.file()).map_err(failed)?;
        }
        if *kind == Namespace::User {
            become_builder((0, 0))?;
        }
    }
    Ok(())
}

/// The flag of a namespace.
pub(crate) fn space(kind: Namespace) -> Spaces {
    match kind {
        Namespace::User => Spaces::USER,
        Namespace::Cgroup => Spaces::CGROUP,
        Namespace::Ipc => Spaces::IPC,
        Namespace::Uts => Spaces::UTS,
        Namespace::Net => Spaces::NET,
        Namespace::Pid => Spaces::PID,
        Namespace::Mnt => Spaces::MNT,
        Namespace::Time => Spaces::TIME,
    }
}

/// Namespaces that are made in the first process rather than with it: the cgroup namespace, whose root is the groups we are in
/// then; and the one that takes the kernel longest.
pub(crate) const LATE: [Namespace; 2] = [Namespace::Cgroup, Namespace::Net];

fn name_host(plan: &Plan) -> Result<(), Error> {
    if let Some(name) = &plan.hostname {
        rustix::system::sethostname(name.as_bytes()).on("set the host name to", name).map_err(failed)?;
    }
    if let Some(name) = &plan.domainname {
        rustix::system::setdomainname(name.as_bytes()).on("set the domain name to", name).map_err(failed)?;
    }
    Ok(())
}

/// The name of the sandbox's session keyring. Another user's of the name is never found.
pub(crate) fn session_keyring(plan: &Plan) -> String {
    format!("_ses.{}", plan.id)
}

/// What is sent along with the notification descriptor of a process, and of its container in this state: runtime-spec
/// `config-linux.md#containerprocessstate`.
pub(crate) fn notification(process: &Process, pid: i32, state: serde_json::Value) -> String {
    let metadata = process.seccomp.as_ref().and_then(|policy| policy.listener.as_ref()).map(|listener| &listener.metadata);
    serde_json::json!({
        "ociVersion": insula_spec::oci::VERSION,
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": metadata,
        "state": state,
    })
    .to_string()
}

/// Files of the namespaces that the plan names, in the order of [`Namespace::ALL`]: the host's `/proc` is still there.
fn own_namespaces(plan: &Plan) -> Result<Vec<OwnedFd>, Error> {
    let named = Namespace::ALL.into_iter().filter(|kind| plan.namespaces.has(*kind));
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    let open = |kind: Namespace| {
        let path = format!("/proc/self/ns/{}", kind.file());
        rustix::fs::open(&path, flags, rustix::fs::Mode::empty()).on("open", path).map_err(failed)
    };
    named.map(open).collect()
}
