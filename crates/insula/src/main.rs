//! `insula`: runs a workload behind an isolation boundary, and measures what the boundary costs.
//!
//! [`cli`] is what can be said on the command line; each file of [`commands`] is one verb (or one family of verbs) and turns what
//! was said into a plan, hands it to a boundary, and prints what came of it.

mod cli;
mod commands;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
