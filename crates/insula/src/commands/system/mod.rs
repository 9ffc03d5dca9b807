//! Whole systems in containers: run, in the foreground or not, until they are switched off; and the verbs that only they have.
//!
//! | module | verb |
//! |---|---|
//! | here | `run --isolation system`, and `start` of one that has ended |
//! | [`attach`] | `attach`: its console |
//! | [`stop`] | `stop`: an orderly end |
//! | [`autostart`] | `autostart`: those that the host's init starts |
//! | [`clone`], [`snapshot`] | `clone`, `snapshot`: copies of their files, made by [`copies`] |

pub(crate) mod attach;
pub(crate) mod autostart;
pub(crate) mod clone;
mod copies;
pub(crate) mod snapshot;
pub(crate) mod stop;

use crate::attend::{Attendant, Outcome, Output, Visitors};
use crate::background::{self, Ready};
use crate::commands::run;
use crate::global::{Coded, Global};
use anyhow::Context;
use insula_boundary::{Boundary, Entry, Error, Options, Sandbox, Session};
use insula_container::attach as console;
use insula_spec::Plan;
use insula_sys::process::Ended;
use std::process::ExitCode;

/// How reboot(2) ends the init of a PID namespace: to be started again, or not. Source: `kernel/pid_namespace.c`, `reboot_pid_ns`.
const REBOOTED: i32 = 1;
const SWITCHED_OFF: i32 = 2;

/// `insula run --isolation system`.
pub(crate) fn run(global: &Global, plan: Plan, args: &run::Args) -> anyhow::Result<ExitCode> {
    if args.detach {
        return in_background(global, Life { plan, remove: args.rm, again: false, args: Some(args) });
    }
    foreground(global, plan, args)
}

/// `insula start` of one that has ended.
pub(crate) fn start(global: &Global, entry: Entry) -> anyhow::Result<ExitCode> {
    let Entry { plan, remove, .. } = entry;
    insula_container::protect_program_file(&plan)?;
    in_background(global, Life { plan, remove, again: true, args: None }).map_err(Coded::of_run)
}

/// On our terminal, or with our streams; it is removed when it has ended.
fn foreground(global: &Global, mut plan: Plan, args: &run::Args) -> anyhow::Result<ExitCode> {
    plan.process.console_size = plan.process.console_size.or_else(crate::attend::size_of_ours);
    let attendant = Attendant::new(Session::Own)?;
    let mut again = false;
    loop {
        let mut made = plan.clone();
        let mut network = run::network::of_system(global, &mut made, again)?;
        let options = Options { remove: true, again, in_network: network.in_network(), ..options(args) };
        let mut sandbox = global.containers().create(made, options)?;
        network.complete(global, sandbox.as_mut())?;
        let job = run::started(global, sandbox.as_mut(), args)?;
        let outcome = attendant.stay_with_system(job, Output::Ours, &mut || end(sandbox.as_mut()));
        network.leave()?;
        if outcome.as_ref().is_ok_and(|outcome| how(outcome) == How::Rebooted) {
            again = true;
            continue;
        }
        sandbox.delete(true)?;
        return Ok(ExitCode::from(code(&outcome?)));
    }
}

/// A system that somebody stays with.
struct Life<'a> {
    plan: Plan,
    remove: bool,
    /// It is on record already.
    again: bool,
    args: Option<&'a run::Args>,
}

fn in_background(global: &Global, life: Life<'_>) -> anyhow::Result<ExitCode> {
    let id = life.plan.id.clone();
    background::start(&id, |ready| keep(global, life, ready))
}

/// Stays with a system until it is switched off.
fn keep(global: &Global, life: Life<'_>, ready: Ready) -> anyhow::Result<()> {
    let Life { plan, remove, mut again, args } = life;
    let attendant = Attendant::new(Session::Own)?;
    let mut ready = Some(ready);
    let containers = global.containers();
    loop {
        let mut made = plan.clone();
        let mut network = run::network::of_system(global, &mut made, again)?;
        let in_network = network.in_network();
        let options = Options { remove, again, attached: true, in_network, ..args.map(options).unwrap_or_default() };
        let mut sandbox = containers.create(made, options)?;
        network.complete(global, sandbox.as_mut())?;
        let job = match args {
            Some(args) => run::started(global, sandbox.as_mut(), args)?,
            None => {
                sandbox.start()?;
                sandbox.job().context("the system can't be waited for")?
            }
        };
        let slot = containers.store().find(&plan.id)?;
        let init = slot.read_init();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(slot.path("output"));
        let log = log.context("can't keep what the console prints")?;
        let visitors = Visitors::new(console::listen(&slot)?);
        if let Some(ready) = ready.take() {
            let told = ready.leave(None).and_then(|()| ready.tell());
            told.context("can't tell that the system runs").inspect_err(|_| drop(sandbox.delete(true)))?;
        }
        let output = Output::Console(log, visitors);
        let outcome = attendant.stay_with_system(job, output, &mut || end(sandbox.as_mut()))?;
        network.leave()?;
        if how(&outcome) == How::Rebooted {
            again = true;
            continue;
        }
        if remove {
            return Ok(sandbox.delete(true)?);
        }
        return match slot.lock() {
            // Who has removed it in the meantime doesn't ask how it ended.
            Err(Error::NotFound(_)) => Ok(()),
            locked => {
                locked?;
                // Or started it again.
                if slot.read_init() == init { Ok(slot.write_exit(code(&outcome))?) } else { Ok(()) }
            }
        };
    }
}

fn options(args: &run::Args) -> Options {
    Options { console_socket: args.console_socket.clone(), no_pivot: args.no_pivot, attached: true, ..Options::default() }
}

/// Has a system end. If it can't be asked, nobody is left who could be told.
fn end(sandbox: &mut dyn Sandbox) {
    let _ = sandbox.shut_down();
}

/// How a system has ended.
#[derive(PartialEq, Eq)]
enum How {
    Rebooted,
    SwitchedOff,
    /// As a program does, or killed.
    Otherwise,
}

fn how(outcome: &Outcome) -> How {
    match outcome.ended {
        Ended::Killed(REBOOTED) => How::Rebooted,
        Ended::Killed(SWITCHED_OFF) => How::SwitchedOff,
        _ => How::Otherwise,
    }
}

/// To have been switched off is a good end.
fn code(outcome: &Outcome) -> u8 {
    if how(outcome) == How::SwitchedOff { 0 } else { outcome.ended.code() }
}
