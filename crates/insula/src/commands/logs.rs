//! `insula logs`: what a detached program wrote.

use crate::global::Global;
use anyhow::Context;
use std::process::ExitCode;

/// Show what a program in the background wrote (its first 16 MiB)
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The sandbox
    id: String,
}

pub(crate) fn main(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    let slot = global.containers().store().find(&args.id.parse()?)?;
    let file = std::fs::File::open(slot.path().join("output"));
    let mut file = file.with_context(|| format!("{} has no output kept; only `run --detach` keeps it", args.id))?;
    std::io::copy(&mut file, &mut std::io::stdout()).context("can't show the output")?;
    Ok(ExitCode::SUCCESS)
}
