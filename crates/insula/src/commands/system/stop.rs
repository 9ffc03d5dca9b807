//! `insula stop`: an orderly end.

use crate::global::Global;
use anyhow::{Context, bail};
use insula_boundary::{Boundary, Sandbox, Status};
use insula_sys::process;
use rustix::fd::OwnedFd;
use rustix::process::Pid;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long its end may take when nothing can stop it any more.
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
    all(global, &args.names, Duration::from_secs(args.time.into()), args.kill)?;
    Ok(ExitCode::SUCCESS)
}

/// Has all of them end at once, and waits for the last; what still runs after that time is killed.
pub(super) fn all(global: &Global, names: &[String], patience: Duration, kill: bool) -> anyhow::Result<()> {
    // A system may be asked by a program in it.
    insula_sys::exe::seal()?;
    let running: Vec<Running> = names.iter().map(|name| Running::find(global, name)).collect::<Result<_, _>>()?;
    let mut asked = Vec::new();
    let mut problem = None;
    for mut one in running {
        match one.ask(kill) {
            Ok(()) => asked.push(one),
            Err(error) => problem = problem.or(Some(error)),
        }
    }
    let deadline = Instant::now() + patience;
    for one in &mut asked {
        if let Err(error) = one.await_end(deadline, kill) {
            problem = problem.or(Some(error));
        }
    }
    problem.map_or(Ok(()), Err)
}

/// A sandbox that runs, and its first process.
struct Running {
    sandbox: Box<dyn Sandbox>,
    pidfd: OwnedFd,
}

impl Running {
    fn find(global: &Global, name: &str) -> anyhow::Result<Running> {
        let id = name.parse()?;
        let containers = global.containers();
        let sandbox = containers.open(&id)?;
        let init = containers.store().find(&id)?.read_init().and_then(|init| Some((Pid::from_raw(init.pid)?, init.started)));
        match init.map(|(pid, started)| process::find(pid, started)).transpose()?.flatten() {
            Some(pidfd) => Ok(Running { sandbox, pidfd }),
            None => bail!("{id} is {}; there is nothing to stop", sandbox.status().as_str()),
        }
    }

    fn ask(&mut self, kill: bool) -> anyhow::Result<()> {
        if kill {
            return self.kill();
        }
        // Nobody shuts down while frozen.
        if self.sandbox.status() == Status::Paused {
            self.sandbox.resume()?;
        }
        Ok(self.sandbox.shut_down()?)
    }

    fn await_end(&mut self, deadline: Instant, killed: bool) -> anyhow::Result<()> {
        let id = self.sandbox.entry().plan.id.clone();
        if !killed {
            let left = deadline.saturating_duration_since(Instant::now());
            if process::wait_ended(&self.pidfd, Some(left))? {
                return Ok(());
            }
            crate::show::warn(format_args!("insula: {id} has not ended in time; it is killed"));
            self.kill()?;
        }
        let ended = process::wait_ended(&self.pidfd, Some(AFTER_KILL))?;
        ended.then_some(()).with_context(|| format!("{id} doesn't end; try again, or look for a hung device in dmesg"))
    }

    fn kill(&mut self) -> anyhow::Result<()> {
        process::kill(&self.pidfd);
        // A frozen process doesn't see the signal.
        if self.sandbox.status() == Status::Paused {
            self.sandbox.resume()?;
        }
        Ok(())
    }
}
