//! `insula run`: a command, a root directory or a bundle, in the foreground or not.

pub(crate) mod network;
mod options;
mod plan;
mod rootless;
mod system;
mod users;

pub(crate) use options::Args;
pub(crate) use plan::{random_id, size};

use crate::attend::{Attendant, Output};
use crate::background::{self, Ready};
use crate::global::{Coded, Global};
use anyhow::Context;
use insula_boundary::{Boundary, Error, Job, Options, Sandbox, Session};
use insula_spec::Plan;
use insula_sys::tty;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use std::process::ExitCode;

pub(crate) fn main(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    let run = || {
        super::check_preserved(args.preserve_fds)?;
        let mut plan = plan::make(global, &args)?;
        global.place(&mut plan)?;
        insula_container::protect_program_file(&plan)?;
        global.note(&format!("run {}", plan.id));
        if plan.system.is_some() {
            return super::system::run(global, plan, &args);
        }
        if args.detach { detached(global, &args, plan) } else { foreground(global, &args, plan) }
    };
    run().map_err(Coded::of_run)
}

/// Takes the policy that nobody asked for from a program that doesn't reach the host's kernel, which it is about.
fn without_default_policy(global: &Global, args: &Args, plan: &mut Plan) {
    let named = args.security_opt.iter().any(|option| option.starts_with("seccomp"));
    if global.behind_sentry() && args.bundle.is_none() && !named {
        plan.process.seccomp = None;
    }
}

/// The program as a foreground job; it is removed when it ends.
fn foreground(global: &Global, args: &Args, mut plan: Plan) -> anyhow::Result<ExitCode> {
    plan.process.console_size = plan.process.console_size.or_else(crate::attend::size_of_ours);
    let session = session(&plan);
    without_default_policy(global, args, &mut plan);
    let attendant = Attendant::new(session)?;
    let mut network = network::join(global, args, &mut plan)?;
    let options = Options {
        console_socket: args.console_socket.clone(),
        preserve_fds: args.preserve_fds,
        share_keyring: args.no_new_keyring,
        no_pivot: args.no_pivot,
        attached: true,
        session,
        stdio: None,
        remove: true,
        again: false,
        in_network: network.in_network(),
    };
    let mut sandbox = global.containers().create(plan, options)?;
    network.complete(global, sandbox.as_mut())?;
    let job = started(global, sandbox.as_mut(), args)?;
    let outcome = attendant.stay(job, Output::Ours);
    sandbox.delete(true)?;
    network.leave()?;
    let outcome = outcome?;
    explain(outcome.killed);
    Ok(outcome.conclude())
}

pub(crate) fn started(global: &Global, sandbox: &mut dyn Sandbox, args: &Args) -> anyhow::Result<Job> {
    // All are all that can be had.
    if args.bundle.is_some() || args.cap_add.iter().any(|name| !name.eq_ignore_ascii_case("ALL")) {
        let plan = &sandbox.entry().plan;
        global.warn_of(plan, &plan.process, &plan.warnings);
    }
    sandbox.start()?;
    let job = sandbox.job().context("the program can't be waited for")?;
    if let Some(path) = &args.pid_file {
        super::write_pid_file(path, job.pid).inspect_err(|_| drop(sandbox.delete(true)))?;
    }
    if let Some(path) = &args.pidfd_socket {
        super::send_pidfd(path, &job.pidfd).inspect_err(|_| drop(sandbox.delete(true)))?;
    }
    Ok(job)
}

/// As a job of our terminal if a shell would start it so: it reads our terminal, and no filter but ours stands between them.
fn session(plan: &Plan) -> Session {
    let stdin = rustix::stdio::stdin();
    let shares_terminal = plan.process.reaper && !plan.process.terminal && rustix::termios::isatty(stdin);
    // Without the filter it could type into the terminal it shares (TIOCSTI); then it gets a session without one.
    if !shares_terminal || plan.process.seccomp.is_none() {
        return Session::Own;
    }
    // Into a pipe: whoever reads from it may want the terminal too, and neither has it until it asks.
    let alone = rustix::termios::isatty(rustix::stdio::stdout());
    Session::Job { foreground: alone && tty::foreground(stdin) == Some(rustix::process::getpgrp()) }
}

/// A word on an end that leaves users guessing.
fn explain(killed: Option<i32>) {
    const SIGSYS: i32 = 31;
    if killed == Some(SIGSYS) {
        crate::show::warn(format_args!("insula: the program made a system call that its seccomp policy answers with its end"));
    }
}

/// A process of ours stays with the program in the background; this one tells its name when it runs.
fn detached(global: &Global, args: &Args, plan: Plan) -> anyhow::Result<ExitCode> {
    let id = plan.id.clone();
    background::start(&id, |ready| stay(global, args, plan, ready))
}

fn stay(global: &Global, args: &Args, mut plan: Plan, ready: Ready) -> anyhow::Result<()> {
    without_default_policy(global, args, &mut plan);
    let attendant = Attendant::new(Session::Own)?;
    let id = plan.id.clone();
    let terminal = plan.process.terminal;
    let (pipe, stdio, _keep_open) = streams(args)?;
    let mut network = network::join(global, args, &mut plan)?;
    let options = Options {
        console_socket: args.console_socket.clone(),
        preserve_fds: args.preserve_fds,
        share_keyring: args.no_new_keyring,
        no_pivot: args.no_pivot,
        attached: true,
        session: Session::Own,
        stdio: (!terminal).then_some(stdio),
        remove: args.rm,
        again: false,
        in_network: network.in_network(),
    };
    let containers = global.containers();
    let mut sandbox = containers.create(plan, options)?;
    network.complete(global, sandbox.as_mut())?;
    let job = started(global, sandbox.as_mut(), args)?;
    let slot = containers.store().find(&id)?;
    let file = std::fs::File::create(slot.path("output")).context("can't keep the program's output")?;
    let told = ready.leave(None).and_then(|()| ready.tell());
    told.context("can't tell that the program runs").inspect_err(|_| drop(sandbox.delete(true)))?;
    let ended = attendant.stay(job, Output::File(file, (!terminal).then_some(pipe)))?.ended;
    if args.rm {
        sandbox.delete(true)?;
        network.leave()?;
    } else {
        // What has ended keeps its exit code and its output, but no address.
        network.leave()?;
        match slot.lock() {
            // Who has removed it in the meantime doesn't ask how it ended.
            Err(Error::NotFound(_)) => {}
            locked => locked.and_then(|()| slot.write_exit(ended.code()))?,
        }
    }
    Ok(())
}

/// The reading end of a detached program's output; its streams; and with `-i` the end that keeps its input open.
fn streams(args: &Args) -> anyhow::Result<(OwnedFd, [OwnedFd; 3], Option<OwnedFd>)> {
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).context("can't make a pipe");
    let (read, write) = pipe()?;
    let errors = write.try_clone()?;
    if args.interactive {
        let (input, open) = pipe()?;
        return Ok((read, [input, write, errors], Some(open)));
    }
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context("can't open /dev/null")?;
    Ok((read, [null, write, errors], None))
}
