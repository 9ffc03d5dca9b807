//! `insula man`: the manual pages, for packagers and `make install`.

use crate::cli;
use anyhow::Context;
use std::path::PathBuf;
use std::process::ExitCode;

/// Write the manual pages into a directory
#[derive(clap::Args)]
#[command(hide = true)]
pub(crate) struct Args {
    /// The directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

pub(crate) fn main(args: Args) -> anyhow::Result<ExitCode> {
    std::fs::create_dir_all(&args.dir).with_context(|| format!("can't make {}", args.dir.display()))?;
    // A page gives the version in a line.
    let command = cli::command().long_version(None);
    clap_mangen::generate_to(command, &args.dir).with_context(|| format!("can't write into {}", args.dir.display()))?;
    Ok(ExitCode::SUCCESS)
}
