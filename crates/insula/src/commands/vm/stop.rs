//! `insula vm stop`, `kill`, `rm`: the end of a machine.

use super::machines::{Known, Machines, Status};
use crate::global::Global;
use crate::show::show;
use anyhow::bail;
use insula_machine::control::Request;
use insula_sys::process::{kill as kill_process, wait_ended};
use rustix::fd::OwnedFd;
use std::process::ExitCode;
use std::time::Duration;

/// Ask the guest to switch off, and end the machine if it doesn't
#[derive(clap::Args)]
#[command(
    after_help = "The guest gets ACPI's request for a graceful shutdown: Linux runs /sbin/poweroff, or switches off at once where there is none.\n\n\
    Example:\n  insula vm stop --time 60 web"
)]
pub(crate) struct Stop {
    /// The machines
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// How long to wait, in seconds, before the machine is ended
    #[arg(short, long, value_name = "SECONDS", default_value_t = 10)]
    time: u32,
}

/// End a machine at once, as if its plug were pulled
#[derive(clap::Args)]
#[command(after_help = "Example:\n  insula vm kill web")]
pub(crate) struct Kill {
    /// The machines
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Forget a machine that has ended, with what it printed
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  insula vm rm web\n  insula vm rm --force $(insula vm ps --all --quiet)")]
pub(crate) struct Remove {
    /// The machines
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// End it first if it runs; one that isn't there is no error
    #[arg(short, long)]
    force: bool,
}

/// How long a machine that is to end at once may take to leave nothing behind, before the kernel ends it.
const GRACE: Duration = Duration::from_secs(2);

pub(crate) fn stop(global: &Global, args: Stop) -> anyhow::Result<ExitCode> {
    let machines = Machines::new(global);
    each(&args.names, |name| {
        let known = machines.find(name)?;
        let Some(process) = known.process()? else { return Ok(()) };
        // Nobody who was in time to end by itself is to blame for not answering.
        let asked = known.connect().and_then(|mut connection| Ok(connection.ask(&Request::Stop {})?));
        if asked.is_ok() && wait_ended(&process, Some(Duration::from_secs(args.time.into())))? {
            return Ok(());
        }
        if wait_ended(&process, Some(Duration::ZERO))? {
            return Ok(());
        }
        let why = match asked {
            Ok(_) => format!("didn't switch off within {} seconds", args.time),
            Err(error) => format!("can't be asked to switch off ({error:#})"),
        };
        end(&machines, &known, &process)?;
        crate::show::warn(format_args!("insula: {name} {why}, so it was ended"));
        Ok(())
    })
}

pub(crate) fn kill(global: &Global, args: Kill) -> anyhow::Result<ExitCode> {
    let machines = Machines::new(global);
    each(&args.names, |name| {
        let known = machines.find(name)?;
        match known.process()? {
            Some(process) => end(&machines, &known, &process),
            None => bail!("the machine {name} isn't running"),
        }
    })
}

pub(crate) fn remove(global: &Global, args: Remove) -> anyhow::Result<ExitCode> {
    let machines = Machines::new(global);
    each(&args.names, |name| {
        let known = match machines.look(&name.parse()?)? {
            Some(known) => known,
            None if args.force => return Ok(()),
            None => machines.find(name)?,
        };
        if !matches!(known.status, Status::Stopped(_)) && !args.force {
            bail!("the machine {name} is {}; `insula vm stop {name}` first, or use --force", known.status.word());
        }
        if let Some(process) = known.process()? {
            end(&machines, &known, &process)?;
        }
        machines.remove(name)
    })
}

/// Ends a machine, and sees to it that nothing of it is left but its record.
fn end(machines: &Machines, known: &Known, process: &OwnedFd) -> anyhow::Result<()> {
    let asked = known.connect().and_then(|mut connection| Ok(connection.ask(&Request::Kill {})?));
    if asked.is_err() || !wait_ended(process, Some(GRACE))? {
        kill_process(process);
        wait_ended(process, None)?;
    }
    machines.look(known.slot.id()).map(drop)
}

/// Does it for each, and prints the names of those it is done for; one that fails keeps no other from its turn.
fn each(names: &[String], mut work: impl FnMut(&str) -> anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for name in names {
        match work(name) {
            Ok(()) => show(format!("{name}\n"))?,
            // The last one's error is reported by whoever called us.
            Err(error) if names.len() == 1 => return Err(error),
            Err(error) => {
                crate::show::warn(format_args!("insula: {error:#}"));
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}
