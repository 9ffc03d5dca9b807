//! The command line: verbs, global options, and how an error reaches the user.

use crate::commands::{bench, doctor};
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Run a workload behind an isolation boundary, and measure what the boundary costs.
#[derive(Parser)]
#[command(name = "insula", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Bench(bench::Args),
    Doctor(doctor::Args),
}

/// Parses the command line, runs the verb, and turns an error into one line and an exit code.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Bench(args) => bench::main(args),
        Command::Doctor(args) => doctor::main(args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("insula: {error:#}");
        ExitCode::FAILURE
    })
}
