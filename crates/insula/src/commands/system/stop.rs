//! `insula stop`: an orderly end.

use crate::global::Global;
use anyhow::{Context, bail};
use insula_boundary::{Boundary, Sandbox, Status};
use insula_sys::process;
use rustix::process::Pid;
use std::process::ExitCode;
use std::time::Duration;

const SIGKILL: i32 = 9;

/// How long its end may take after nothing could stop it, in seconds.
const AFTER_KILL: Duration = Duration::from_secs(10);

/// Have a sandbox end: a system shuts down, a program gets SIGTERM
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  insula stop web\n  insula stop --time 300 db\n  insula stop --kill web")]
pub(crate) struct Args {
    /// The sandboxes
    #[arg(required = true)]
    names: Vec<String>,
    /// Kill what still runs after so many seconds
    #[arg(short, long, value_name = "SECONDS", default_value_t = 60)]
    time: u32,
    /// Kill it right away
    #[arg(short, long)]
    kill: bool,
}

pub(crate) fn main(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    args.names.iter().try_for_each(|name| stop(global, name, &args))?;
    Ok(ExitCode::SUCCESS)
}

fn stop(global: &Global, name: &str, args: &Args) -> anyhow::Result<()> {
    let id = name.parse()?;
    // A system may be asked by a program in it.
    insula_sys::exe::seal()?;
    let containers = global.containers();
    let mut sandbox = containers.open(&id)?;
    let slot = containers.store().find(&id)?;
    let init = slot.read_init().and_then(|init| Some((Pid::from_raw(init.pid)?, init.started)));
    let found = init.map(|(pid, started)| process::find(pid, started)).transpose()?.flatten();
    let Some(pidfd) = found else { bail!("{id} is {}; there is nothing to stop", sandbox.status().as_str()) };
    if !args.kill {
        // Nobody shuts down while frozen.
        if sandbox.status() == Status::Paused {
            sandbox.resume()?;
        }
        sandbox.shut_down()?;
        if process::wait_ended(&pidfd, Some(Duration::from_secs(args.time.into())))? {
            return Ok(());
        }
        crate::show::warn(format_args!("insula: {id} has not ended in {} s; it is killed", args.time));
    }
    kill(sandbox.as_mut())?;
    let ended = process::wait_ended(&pidfd, Some(AFTER_KILL))?;
    ended.then_some(()).with_context(|| format!("{id} doesn't end; try again, or look for a hung device in dmesg"))
}

fn kill(sandbox: &mut dyn Sandbox) -> anyhow::Result<()> {
    sandbox.signal(SIGKILL, false)?;
    if sandbox.status() == Status::Paused {
        sandbox.resume()?;
    }
    Ok(())
}
