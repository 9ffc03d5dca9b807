//! `insula vm`: plain virtual machines.

mod devices;
mod run;

use crate::global::Global;
use clap::Subcommand;
use std::process::ExitCode;

/// Run a virtual machine: a kernel of your own, not a workload
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    Run(run::Args),
}

pub(crate) fn main(_global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    match args.action {
        Action::Run(args) => run::main(args),
    }
}
