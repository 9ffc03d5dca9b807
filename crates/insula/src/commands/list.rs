//! `insula list`: all sandboxes.

use crate::global::Global;
use crate::show::{printable, show};
use crate::table;
use clap::ValueEnum;
use insula_boundary::{Boundary, Error, Status};
use insula_spec::Plan;
use insula_spec::plan::RootSource;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

/// List the sandboxes
#[derive(clap::Args)]
#[command(visible_alias = "ls")]
pub(crate) struct Args {
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: Format,
    /// Print names only
    #[arg(short, long)]
    quiet: bool,
}

/// Forms of the output.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns
    Table,
    /// An array of objects, as runc prints it
    Json,
}

pub(crate) fn main(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    let containers = global.containers();
    let mut objects = Vec::new();
    let mut unreadable = false;
    for id in containers.store().list()? {
        let sandbox = match containers.open(&id) {
            Ok(sandbox) => sandbox,
            // Removed in the meantime.
            Err(Error::NotFound(_)) => continue,
            Err(Error::Unmade(_)) => {
                objects.push(serde_json::json!({"id": id.as_str(), "pid": 0, "status": "stopped", "bundle": "", "created": "", "owner": ""}));
                continue;
            }
            // One that can't be read must not hide the others.
            Err(error) => {
                crate::show::warn(format_args!("insula: {error}"));
                unreadable = true;
                continue;
            }
        };
        let entry = sandbox.entry();
        let status = sandbox.status();
        let init = containers.store().find(&id).ok().and_then(|slot| slot.read_init());
        let pid = init.filter(|_| status != Status::Stopped).map_or(0, |init| init.pid);
        let mut object = insula_container::state(&entry.plan, status, pid);
        object["pid"] = pid.into();
        object["rootfs"] = serde_json::to_value(rootfs(&entry.plan))?;
        object["created"] = time(entry.created).into();
        object["owner"] = entry.owner.to_string().into();
        object["boundary"] = entry.boundary.clone().into();
        if let Some(network) = insula_network::facts(&global.root(), id.as_str()) {
            object["network"] = serde_json::to_value(network)?;
        }
        objects.push(object);
    }
    let text =
        |object: &serde_json::Value, key: &str| object[key].as_str().map_or_else(|| object[key].to_string(), str::to_owned);
    if args.quiet {
        show(objects.iter().map(|object| text(object, "id") + "\n").collect::<String>())?;
    } else if args.format == Format::Json {
        show(format!("{}\n", serde_json::to_string(&objects)?))?;
    } else {
        let row =
            |object| ["id", "pid", "status", "bundle", "created", "owner"].map(|key| printable(&text(object, key))).to_vec();
        let rows: Vec<Vec<String>> = objects.iter().map(row).collect();
        show(table::lines(&["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"], &rows))?;
    }
    Ok(if unreadable { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The directory that is a sandbox's root; of the host's own, `/`.
pub(super) fn rootfs(plan: &Plan) -> PathBuf {
    match &plan.root.source {
        RootSource::Dir(path) => path.clone(),
        RootSource::Over { keep, .. } => keep.clone(),
        RootSource::Host { .. } => Path::new("/").to_owned(),
    }
}

/// Seconds since 1970 as RFC 3339 has it.
pub(super) fn time(seconds: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}
