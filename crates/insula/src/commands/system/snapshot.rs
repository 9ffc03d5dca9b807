//! `insula snapshot`: a system's files as they are, to come back to.

use super::{clone, copies};
use crate::global::Global;
use crate::show::show;
use crate::table;
use anyhow::{Context, ensure};
use insula_boundary::Boundary;
use insula_spec::{Id, Plan};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::UNIX_EPOCH;

/// Keep a system's files as they are, or come back to what was kept
#[derive(clap::Args)]
#[command(
    after_help = "Snapshots lie beside the system's files, in NAME.snapshots; of an overlay (clone --overlay) only what was written is in them. On\n\
    btrfs a subvolume is snapshotted; else files are copied, and share their content where the file system can do that.\n\n\
    Examples:\n  insula snapshot web before-upgrade\n  insula snapshot web --list\n  insula snapshot web --restore before-upgrade"
)]
pub(crate) struct Args {
    /// The system
    name: String,
    /// Name of the snapshot; by default snap0, snap1, …
    snapshot: Option<String>,
    /// List those there are
    #[arg(short, long, conflicts_with_all = ["snapshot", "restore", "delete"])]
    list: bool,
    /// Put the files of this one in the place of the system's
    #[arg(short, long, value_name = "SNAPSHOT", conflicts_with_all = ["snapshot", "delete"])]
    restore: Option<String>,
    /// Remove this one
    #[arg(short, long, value_name = "SNAPSHOT", conflicts_with = "snapshot")]
    delete: Option<String>,
}

pub(crate) fn main(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    if args.list {
        let plan = global.containers().open(&args.name.parse()?)?.entry().plan.clone();
        let rows: Vec<Vec<String>> = all(&plan)?.into_iter().map(|(name, created)| vec![name, created]).collect();
        show(table::lines(&["SNAPSHOT", "CREATED"], &rows))?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(name) = &args.delete {
        let plan = global.containers().open(&args.name.parse()?)?.entry().plan.clone();
        copies::remove(&existing(&plan, name)?)?;
        // The last one takes the directory with it.
        let _ = std::fs::remove_dir(place(&plan)?);
        return Ok(ExitCode::SUCCESS);
    }
    let plan = clone::ended(global, &args.name)?;
    if let Some(name) = &args.restore {
        copies::replace(&copies::files_of(&plan)?, &existing(&plan, name)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let name = match &args.snapshot {
        Some(name) => name.parse::<Id>().context("the snapshot's name")?.to_string(),
        None => {
            let taken: Vec<String> = all(&plan)?.into_iter().map(|(name, _)| name).collect();
            (0..).map(|number| format!("snap{number}")).find(|name| !taken.contains(name)).unwrap_or_default()
        }
    };
    let place = place(&plan)?;
    std::fs::create_dir_all(&place).with_context(|| format!("can't make {}", place.display()))?;
    copies::copy(&copies::files_of(&plan)?, &place.join(&name)).inspect_err(|_| drop(std::fs::remove_dir(&place)))?;
    show(format!("{name}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Where a system's snapshots are.
fn place(plan: &Plan) -> anyhow::Result<PathBuf> {
    copies::beside(plan, &format!("{}.snapshots", plan.id))
}

fn existing(plan: &Plan, name: &str) -> anyhow::Result<PathBuf> {
    let path = place(plan)?.join(name.parse::<Id>().context("the snapshot's name")?.as_str());
    ensure!(path.is_dir(), "{} has no snapshot {name}; `insula snapshot {} --list` shows those there are", plan.id, plan.id);
    Ok(path)
}

/// Names and times, the oldest first.
fn all(plan: &Plan) -> anyhow::Result<Vec<(String, String)>> {
    let entries = std::fs::read_dir(place(plan)?).into_iter().flatten().flatten();
    let mut found: Vec<(u64, String)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok().filter(|name| !name.starts_with('.'))?;
            let made = entry.metadata().and_then(|metadata| metadata.created()).unwrap_or(UNIX_EPOCH);
            Some((made.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()), name))
        })
        .collect();
    found.sort();
    Ok(found.into_iter().map(|(made, name)| (name, crate::commands::list::time(made))).collect())
}
