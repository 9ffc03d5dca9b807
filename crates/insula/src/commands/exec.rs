//! `insula exec`: one more process in a sandbox.

use super::{check_preserved, read_limited, write_pid_file};
use crate::attend::{Attendant, Output};
use crate::global::{Coded, Global};
use anyhow::{Context, ensure};
use insula_boundary::{Boundary, ExecOptions, Session};
use insula_spec::oci;
use insula_spec::plan::{Capabilities, Process};
use std::path::PathBuf;
use std::process::ExitCode;

/// Run one more program in a sandbox
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  insula exec web ls -l /\n  insula exec -t web sh\n  insula exec --process process.json web")]
pub(crate) struct Args {
    /// The sandbox
    id: String,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, value_name = "CMD")]
    words: Vec<String>,
    /// Give it a terminal of its own
    #[arg(short, long)]
    tty: bool,
    /// Keep its input open, as it is anyway
    #[arg(short, long)]
    interactive: bool,
    /// Don't wait for its end
    #[arg(short, long)]
    detach: bool,
    /// Start in this directory
    #[arg(long, visible_alias = "workdir", value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Set a variable
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Run as this user, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Add a group
    #[arg(short = 'g', long, value_name = "GID")]
    additional_gids: Vec<u32>,
    /// Give it a capability
    #[arg(short, long, value_name = "CAP")]
    cap: Vec<String>,
    /// Allow it no more privileges than it starts with
    #[arg(long)]
    no_new_privs: bool,
    /// Put it under this AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    /// Give it this SELinux label
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// Add it to a paused sandbox, too: it begins when that is resumed
    #[arg(long)]
    ignore_paused: bool,
    /// Take everything from this file, a process in OCI's JSON
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["words", "cwd", "env", "user", "cap"])]
    process: Option<PathBuf>,
    /// Put it into a group below the sandbox's own; with CONTROLLERS: only in theirs
    #[arg(long, value_name = "[CONTROLLERS:]PATH", value_parser = cgroup)]
    cgroup: Vec<(Vec<String>, PathBuf)>,
    /// Send its pidfd to this unix socket
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    /// Write its number to this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Send the terminal to this unix socket
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Pass this many descriptors on, from number 3
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
}

pub(crate) fn main(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    run(global, args).map_err(Coded::of_run)
}

fn run(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    check_preserved(args.preserve_fds)?;
    insula_sys::exe::seal()?;
    let mut sandbox = global.containers().open(&args.id.parse()?)?;
    let (mut process, warnings) = process(&args, &sandbox.entry().plan.process)?;
    if args.process.is_some() || !args.cap.is_empty() {
        global.warn_of(&sandbox.entry().plan, &process, &warnings);
    }
    ensure!(
        !(process.terminal && args.detach && args.console_socket.is_none()),
        "a terminal with --detach needs --console-socket: nobody would hold its other end"
    );
    if !args.detach {
        process.console_size = process.console_size.or_else(crate::attend::size_of_ours);
    }
    let attendant = if args.detach { None } else { Some(Attendant::new(Session::Own)?) };
    let options = ExecOptions {
        console_socket: args.console_socket.clone(),
        preserve_fds: args.preserve_fds,
        detached: args.detach,
        session: Session::Own,
        stdio: None,
        cgroups: args.cgroup.clone(),
        ignore_paused: args.ignore_paused,
    };
    let job = sandbox.exec(process, options)?;
    if let Some(path) = &args.pid_file {
        write_pid_file(path, job.pid)?;
    }
    if let Some(path) = &args.pidfd_socket {
        super::send_pidfd(path, &job.pidfd)?;
    }
    match attendant {
        None => Ok(ExitCode::SUCCESS),
        Some(attendant) => Ok(attendant.stay(job, Output::Ours)?.conclude()),
    }
}

/// `cpu,memory:PATH`, or `PATH`.
fn cgroup(text: &str) -> Result<(Vec<String>, PathBuf), String> {
    let (controllers, path) = text.split_once(':').unwrap_or(("", text));
    if path.is_empty() {
        return Err("names no group".into());
    }
    Ok((controllers.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(), path.into()))
}

/// The process, and what of it isn't had: from a file, or like the sandbox's own with another program.
fn process(args: &Args, like: &Process) -> anyhow::Result<(Process, Vec<String>)> {
    if let Some(path) = &args.process {
        let json = read_limited(path, oci::MAX_CONFIG).with_context(|| format!("--process: can't read {}", path.display()))?;
        let (mut process, warnings) = oci::exec_process(&path.to_string_lossy(), &json)?;
        process.terminal |= args.tty;
        label(args, &mut process);
        return Ok((process, warnings));
    }
    ensure!(!args.words.is_empty(), "no program is named; for example: insula exec {} ls -l", args.id);
    let mut process = Process { args: args.words.clone(), terminal: args.tty, ..like.clone() };
    for text in &args.env {
        ensure!(text.contains('=') && !text.contains('\0'), "--env: {text:?} is not NAME=VALUE");
        let name = text.split('=').next().unwrap_or_default();
        process.env.retain(|known| known.split('=').next() != Some(name));
        process.env.push(text.clone());
    }
    if let Some(cwd) = &args.cwd {
        ensure!(cwd.is_absolute(), "--cwd: {} is not absolute", cwd.display());
        process.cwd = cwd.clone();
    }
    if args.user.is_some() {
        process.user.lookup = args.user.clone();
        // Another user's home.
        process.env.retain(|text| !text.starts_with("HOME="));
    }
    process.user.groups.extend(&args.additional_gids);
    let mut added = insula_spec::CapSet::EMPTY;
    for name in &args.cap {
        added = added.with(name).context("--cap")?;
    }
    let Capabilities { bounding, effective, permitted, inheritable, ambient } = process.capabilities;
    let with = |set: insula_spec::CapSet| insula_spec::CapSet::from_bits(set.bits() | added.bits());
    process.capabilities =
        Capabilities { bounding: with(bounding), effective: with(effective), permitted: with(permitted), inheritable, ambient };
    process.no_new_privileges |= args.no_new_privs;
    process.console_size = None;
    label(args, &mut process);
    Ok((process, Vec::new()))
}

/// What a security module is told of it.
fn label(args: &Args, process: &mut Process) {
    process.apparmor = args.apparmor.clone().or(process.apparmor.take());
    process.selinux = args.process_label.clone().or(process.selinux.take());
}
