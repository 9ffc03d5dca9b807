//! `insula autostart`: systems that the host's init has started and stopped.
//!
//! The store doesn't outlive the host (`/run`), so what is to be started is kept in a place that does: for each system a file with its plan.

use super::{Life, in_background, stop};
use crate::commands::read_limited;
use crate::global::Global;
use crate::show::show;
use crate::table;
use anyhow::{Context, ensure};
use insula_boundary::{Boundary, Error, Status};
use insula_spec::{Id, Plan, oci};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Have the host's init start systems
#[derive(clap::Args)]
#[command(
    after_help = "The host's init runs `insula autostart start` at its start and `insula autostart stop` at its end; docs/system-containers.md has the\n\
    unit for systemd. Root's list is kept in /var/lib/insula/autostart; with --root DIR, in DIR.\n\n\
    Example:\n  insula autostart add --order 10 db && insula autostart add --order 20 web"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Put a system on the list, with all the options it was run with
    Add {
        /// The system
        name: String,
        /// Its place: those with smaller numbers are started before, and stopped after
        #[arg(short, long, value_name = "NUMBER", default_value_t = 100)]
        order: u32,
        /// Wait so many seconds before the next is started
        #[arg(short, long, value_name = "SECONDS", default_value_t = 0)]
        delay: u32,
    },
    /// Take a system from the list; it goes on
    Remove {
        /// The system
        name: String,
    },
    /// Show the list
    List,
    /// Start all that are on the list and don't run
    Start,
    /// Stop all that are on the list and run
    Stop {
        /// Kill what still runs after so many seconds
        #[arg(short, long, value_name = "SECONDS", default_value_t = 60)]
        time: u32,
    },
}

/// One on the list.
#[derive(Serialize, Deserialize)]
struct Saved {
    order: u32,
    delay: u32,
    plan: Plan,
}

pub(crate) fn main(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    match args.action {
        Action::Add { name, order, delay } => add(global, &name, order, delay)?,
        Action::Remove { name } => {
            let file = file(global, &name.parse()?)?;
            std::fs::remove_file(&file).with_context(|| format!("{name} isn't on the list ({})", file.display()))?;
        }
        Action::List => {
            let row = |saved: Saved| vec![saved.plan.id.to_string(), saved.order.to_string(), saved.delay.to_string()];
            let rows: Vec<Vec<String>> = all(global)?.into_iter().map(row).collect();
            show(table::lines(&["SYSTEM", "ORDER", "DELAY"], &rows))?;
        }
        Action::Start => return start(global),
        Action::Stop { time } => {
            // The last to come goes first.
            let names: Vec<String> = all(global)?.iter().rev().map(|saved| saved.plan.id.to_string()).collect();
            let runs = |name: &String| status(global, name).is_some_and(|status| status != Status::Stopped);
            let names: Vec<String> = names.into_iter().filter(runs).collect();
            stop::all(global, &names, Duration::from_secs(time.into()), false)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn add(global: &Global, name: &str, order: u32, delay: u32) -> anyhow::Result<()> {
    let sandbox = global.containers().open(&name.parse()?)?;
    let plan = sandbox.entry().plan.clone();
    ensure!(plan.system.is_some(), "{name} is no system (--isolation system)");
    let file = file(global, &plan.id)?;
    let dir = dir(global)?;
    std::fs::create_dir_all(&dir).with_context(|| format!("can't make {}", dir.display()))?;
    let json = serde_json::to_vec_pretty(&Saved { order, delay, plan })?;
    let draft = dir.join(format!(".{name}"));
    std::fs::write(&draft, json)
        .and_then(|()| std::fs::rename(&draft, &file))
        .with_context(|| format!("can't write {}", file.display()))
}

fn start(global: &Global) -> anyhow::Result<ExitCode> {
    // Before any is started, as it starts us anew.
    insula_sys::exe::seal()?;
    let list = all(global)?;
    let mut code = ExitCode::SUCCESS;
    let last = list.len().saturating_sub(1);
    for (index, Saved { plan, delay, .. }) in list.into_iter().enumerate() {
        let id = plan.id.clone();
        let started = match status(global, id.as_str()) {
            Some(Status::Stopped) => in_background(global, Life { plan, remove: false, again: true, args: None }),
            Some(_) => continue,
            None => in_background(global, Life { plan, remove: false, again: false, args: None }),
        };
        // One that can't be started keeps no other from it.
        if let Err(error) = started {
            global.report(&error.context(format!("can't start {id}")));
            code = ExitCode::FAILURE;
        } else if index < last {
            std::thread::sleep(Duration::from_secs(delay.into()));
        }
    }
    Ok(code)
}

/// How a system is; none if there is none of the name.
fn status(global: &Global, name: &str) -> Option<Status> {
    match global.containers().open(&name.parse().ok()?) {
        Ok(sandbox) => Some(sandbox.status()),
        Err(Error::NotFound(_)) => None,
        // It is there, but can't be looked at: starting it says why.
        Err(_) => Some(Status::Stopped),
    }
}

/// Where the list is kept.
fn dir(global: &Global) -> anyhow::Result<PathBuf> {
    if let Some(root) = &global.root {
        // No sandbox can have this name.
        return Ok(root.join(":autostart"));
    }
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/insula/autostart".into());
    }
    let set = |name: &str| std::env::var_os(name).filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let data = set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")));
    Ok(data.context("HOME isn't set: there is no place for the list")?.join("insula/autostart"))
}

fn file(global: &Global, id: &Id) -> anyhow::Result<PathBuf> {
    Ok(dir(global)?.join(format!("{id}.json")))
}

/// The list, in the order of starts.
fn all(global: &Global) -> anyhow::Result<Vec<Saved>> {
    let dir = dir(global)?;
    let entries = match std::fs::read_dir(&dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("can't read {}", dir.display()))?,
    };
    let mut list = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "json")) {
        let read = || Ok::<Saved, anyhow::Error>(serde_json::from_slice(&read_limited(&path, oci::MAX_CONFIG)?)?);
        list.push(read().with_context(|| format!("can't read {}; remove it, and add the system again", path.display()))?);
    }
    list.sort_by(|a, b| (a.order, &a.plan.id).cmp(&(b.order, &b.plan.id)));
    Ok(list)
}
