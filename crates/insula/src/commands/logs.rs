//! `insula logs`: what a detached program wrote.

use crate::global::Global;
use crate::show::show;
use anyhow::Context;
use std::io::Read;
use std::process::ExitCode;

/// More than is ever kept, in bytes.
const MOST: u64 = 64 << 20;

/// Show what a program in the background wrote (its first 16 MiB)
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The sandbox
    id: String,
}

pub(crate) fn main(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    let slot = global.containers().store().find(&args.id.parse()?)?;
    let file = std::fs::File::open(slot.path("output"));
    let file = file.with_context(|| format!("{} has no output kept; only `run --detach` keeps it", args.id))?;
    let mut kept = Vec::new();
    file.take(MOST).read_to_end(&mut kept).context("can't read the output")?;
    show(kept)?;
    Ok(ExitCode::SUCCESS)
}
