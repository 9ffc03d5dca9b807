//! The verbs of the OCI runtime specification, with runc's command lines: a container made, started, signalled and removed by
//! separate calls. Source: runtime-spec `runtime.md`, `runc(8)`.

use super::{check_preserved, plan_of_bundle, write_pid_file};
use crate::global::Global;
use crate::show::show;
use anyhow::{Context, bail};
use insula_boundary::{Boundary, Error, Options, Sandbox, Status};
use insula_spec::Id;
use std::path::PathBuf;
use std::process::ExitCode;

/// Make a container from an OCI bundle; its program waits for `start`
#[derive(clap::Args)]
#[command(after_help = "Example:\n  insula create --bundle ./bundle web && insula start web")]
pub(crate) struct Create {
    /// Its name
    id: String,
    /// Directory of the bundle
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// Send the terminal to this unix socket
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Send a pidfd of its first process to this unix socket
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    /// Write the number of its first process to this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Move the root to its place, where the host's is in memory (an initramfs): less safe
    #[arg(long)]
    no_pivot: bool,
    /// Leave the program our session keyring instead of one of its own
    #[arg(long)]
    no_new_keyring: bool,
    /// Pass this many descriptors on, from number 3
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
}

pub(crate) fn create(global: &Global, args: Create) -> anyhow::Result<ExitCode> {
    check_preserved(args.preserve_fds)?;
    if global.of_systems() {
        bail!(
            "--isolation system: a bundle's configuration says all that a container is; use `insula run --rootfs` for a system"
        );
    }
    let mut plan = plan_of_bundle(args.id.parse()?, &args.bundle)?;
    global.place(&mut plan)?;
    if plan.process.terminal && args.console_socket.is_none() {
        bail!("process.terminal is true, so --console-socket is needed: nobody would hold the terminal's other end");
    }
    insula_container::protect_program_file(&plan)?;
    global.note(&format!("create {}", plan.id));
    let options = Options {
        console_socket: args.console_socket,
        preserve_fds: args.preserve_fds,
        share_keyring: args.no_new_keyring,
        no_pivot: args.no_pivot,
        ..Options::default()
    };
    let mut sandbox = global.containers().create(plan, options)?;
    sandbox.ready()?;
    let plan = &sandbox.entry().plan;
    global.warn_of(plan, &plan.process, &plan.warnings);
    if let Some(path) = &args.pid_file {
        let pid = sandbox.job().map_or(0, |job| job.pid);
        write_pid_file(path, pid).inspect_err(|_| drop(sandbox.delete(true)))?;
    }
    if let (Some(path), Some(job)) = (&args.pidfd_socket, sandbox.job()) {
        super::send_pidfd(path, &job.pidfd).inspect_err(|_| drop(sandbox.delete(true)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Let a created container's program run, or start a system that has ended once more
#[derive(clap::Args)]
pub(crate) struct Start {
    /// The container
    id: String,
}

pub(crate) fn start(global: &Global, args: Start) -> anyhow::Result<ExitCode> {
    let mut sandbox = open(global, &args.id)?;
    // One of the store's: it has been asked for with all its options before.
    if sandbox.entry().plan.system.is_some() && sandbox.status() == Status::Stopped {
        let entry = sandbox.entry().clone();
        drop(sandbox);
        return super::system::start(global, entry);
    }
    sandbox.start()?;
    Ok(ExitCode::SUCCESS)
}

/// Print how a container is, as JSON
#[derive(clap::Args)]
pub(crate) struct State {
    /// The container
    id: String,
}

pub(crate) fn state(global: &Global, args: State) -> anyhow::Result<ExitCode> {
    let id: Id = args.id.parse()?;
    let containers = global.containers();
    let sandbox = containers.open(&id)?;
    let entry = sandbox.entry();
    let status = sandbox.status();
    let slot = containers.store().find(&id)?;
    let pid = if status == Status::Stopped { 0 } else { slot.read_init().map_or(0, |init| init.pid) };
    let mut state = insula_container::state(&entry.plan, status, pid);
    state["pid"] = pid.into();
    state["rootfs"] = serde_json::to_value(super::list::rootfs(&entry.plan))?;
    state["created"] = super::list::time(entry.created).into();
    state["owner"] = entry.owner.to_string().into();
    if let Some(network) = insula_network::facts(&global.root(), id.as_str()) {
        state["network"] = serde_json::to_value(network)?;
    }
    if let Some(code) = slot.read_exit() {
        state["exitCode"] = code.into();
    }
    show(format!("{state:#}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Send a signal to a container's first process
#[derive(clap::Args)]
#[command(after_help = "Example:\n  insula kill web KILL")]
pub(crate) struct Kill {
    /// The container
    id: String,
    /// By name or number
    #[arg(default_value = "TERM")]
    signal: String,
    /// Send it to all of the container's processes
    #[arg(short, long)]
    all: bool,
}

pub(crate) fn kill(global: &Global, args: Kill) -> anyhow::Result<ExitCode> {
    let number = insula_sys::signals::number(&args.signal);
    let number = number.with_context(|| format!("no signal is named {:?}; use a name like TERM, or a number", args.signal))?;
    open(global, &args.id)?.signal(number, args.all)?;
    Ok(ExitCode::SUCCESS)
}

/// Remove a container and everything of it
#[derive(clap::Args)]
pub(crate) struct Delete {
    /// The container
    id: String,
    /// Kill its processes first; one that isn't there is no error
    #[arg(short, long)]
    force: bool,
}

pub(crate) fn delete(global: &Global, args: Delete) -> anyhow::Result<ExitCode> {
    let id: Id = args.id.parse()?;
    match global.containers().delete(&id, args.force) {
        Err(Error::NotFound(_)) if args.force => {}
        result => result?,
    }
    insula_network::release(&global.root(), id.as_str())?;
    Ok(ExitCode::SUCCESS)
}

/// Stop all processes of a container where they are
#[derive(clap::Args)]
pub(crate) struct Pause {
    /// The container
    id: String,
}

pub(crate) fn pause(global: &Global, args: Pause) -> anyhow::Result<ExitCode> {
    open(global, &args.id)?.pause()?;
    Ok(ExitCode::SUCCESS)
}

/// Let a paused container go on
#[derive(clap::Args)]
pub(crate) struct Resume {
    /// The container
    id: String,
}

pub(crate) fn resume(global: &Global, args: Resume) -> anyhow::Result<ExitCode> {
    open(global, &args.id)?.resume()?;
    Ok(ExitCode::SUCCESS)
}

fn open(global: &Global, id: &str) -> anyhow::Result<Box<dyn Sandbox>> {
    global.note(&format!("open {id}"));
    Ok(global.containers().open(&id.parse()?)?)
}
