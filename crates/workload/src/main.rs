//! `workload`: does the measured work inside a boundary, and checks its own results.
//!
//! `workload noop` ends at once: what its start costs, the boundary's start costs. `workload run` does rows of the catalogue: [`clock`]
//! sizes the work and takes the samples, one file of [`rows`] for each group does it, and each row ends as one line of JSON.
//! `workload launch` ([`launcher`]) starts and times other programs for the benchmark.

mod clock;
mod launcher;
mod options;
mod rows;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        // First, and before anything is allocated: this is what start-up is measured with.
        Some("noop") => ExitCode::SUCCESS,
        Some("list") => list(),
        Some("launch") => launcher::main(),
        Some("run") => match options::parse(args) {
            Ok(options) => rows::run(&options),
            Err(message) => usage(&message),
        },
        Some(other) => usage(&format!("'{other}' is not a command of workload")),
        None => usage("no command given"),
    }
}

fn list() -> ExitCode {
    for row in workload::ROWS {
        println!("{:<24} {:<8} {}", row.name, row.unit, row.about);
    }
    ExitCode::SUCCESS
}

fn usage(message: &str) -> ExitCode {
    eprintln!("workload: {message}");
    eprintln!("usage: workload list | noop | launch | run ROW... [--seconds S] [--dir DIR] [--volume DIR] [--threads N]");
    ExitCode::from(2)
}
