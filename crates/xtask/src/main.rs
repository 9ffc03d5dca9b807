//! `cargo xtask`: the project's own chores.
//!
//! Each module is one chore: its arguments and a `main` that does it and answers with the exit code of the whole program.

mod figures;
mod lab;
mod systems;
mod weakened;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// The project's own chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    Figures(figures::Args),
    Lab(lab::Args),
    Systems(systems::Args),
    Weakened(weakened::Args),
}

fn main() -> ExitCode {
    match Cli::parse().chore {
        Chore::Figures(args) => figures::main(&args),
        Chore::Lab(args) => lab::main(&args),
        Chore::Systems(args) => ended(systems::run(&args)),
        Chore::Weakened(args) => ended(weakened::run(&args)),
    }
}

fn ended(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
