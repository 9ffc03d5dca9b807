//! `insula vm ps`: the machines there are.

use super::machines::{Known, Machines, Status};
use super::options::Format;
use crate::commands::list::time;
use crate::global::Global;
use crate::show::{printable, show};
use crate::table;
use serde_json::json;
use std::process::ExitCode;

/// List the virtual machines that run
#[derive(clap::Args)]
#[command(visible_aliases = ["ls", "list"])]
#[command(
    after_help = "Examples:\n  insula vm ps\n  insula vm ps --all --format json\n  insula vm rm $(insula vm ps --all --quiet)"
)]
pub(crate) struct Args {
    /// Those that have ended, too
    #[arg(short, long)]
    all: bool,
    /// Print names only
    #[arg(short, long)]
    quiet: bool,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: Format,
}

pub(crate) fn main(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    let (mut machines, broken) = Machines::new(global).list()?;
    machines.retain(|known| args.all || !matches!(known.status, Status::Stopped(_)));
    broken.iter().for_each(|problem| crate::show::warn(format_args!("insula: {problem}")));
    if args.quiet {
        show(machines.iter().map(|known| format!("{}\n", known.slot.id())).collect::<String>())?;
    } else if args.format == Format::Json {
        let objects = machines.iter().map(object).collect::<anyhow::Result<Vec<_>>>()?;
        show(format!("{}\n", serde_json::to_string(&objects)?))?;
    } else {
        let rows: Vec<Vec<String>> = machines.iter().map(row).collect();
        show(table::lines(&["NAME", "STATUS", "PID", "CPUS", "MEMORY", "CREATED", "KERNEL"], &rows))?;
    }
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn pid(known: &Known) -> Option<i32> {
    match known.status {
        Status::Running { pid } => Some(pid),
        _ => None,
    }
}

fn object(known: &Known) -> anyhow::Result<serde_json::Value> {
    let Known { slot, record, status } = known;
    let exit = if let Status::Stopped(code) = status { *code } else { None };
    let alive = !matches!(status, Status::Stopped(_));
    let control = alive.then(|| slot.control_socket().map(|name| slot.store().join(name))).transpose()?;
    Ok(json!({
        "name": slot.id(), "status": status.word(), "pid": pid(known), "exitCode": exit, "cpus": record.cpus,
        "memory": record.memory, "kernel": record.kernel, "accelerator": record.accelerator,
        "created": time(record.created), "owner": record.owner, "control": control,
    }))
}

fn row(known: &Known) -> Vec<String> {
    let Known { slot, record, status } = known;
    let status = match status {
        Status::Stopped(Some(code)) => format!("stopped ({code})"),
        // Whoever ended it left no word of that.
        Status::Stopped(None) => "stopped (killed)".to_owned(),
        status => status.word().to_owned(),
    };
    let number = pid(known).map_or_else(|| "-".to_owned(), |pid| pid.to_string());
    let memory = format!("{} MiB", record.memory >> 20);
    let kernel = printable(&record.kernel.display().to_string());
    vec![slot.id().to_string(), status, number, record.cpus.to_string(), memory, time(record.created), kernel]
}
