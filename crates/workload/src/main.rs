//! `workload`: does the measured work inside a boundary, and checks its own results.
//!
//! `workload noop` ends at once: what its start costs, the boundary's start costs. `workload idle` only waits: what is resident then is the boundary's. `workload run` does rows of the catalogue: [`clock`]
//! sizes the work and takes the samples, one file of [`rows`] for each group does it, and each row ends as one line of JSON.
//! `workload launch` ([`launcher`]) starts and times other programs for the benchmark, and adds up their memory ([`weight`]).

mod clock;
mod launcher;
mod options;
mod rows;
mod weight;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        // First, and before anything is allocated: this is what start-up is measured with.
        Some("noop") => ExitCode::SUCCESS,
        Some("idle") => idle(),
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

/// Says a word and waits for the end of standard input, as `workload launch` weighs it meanwhile.
fn idle() -> ExitCode {
    println!("idle");
    match std::io::copy(&mut std::io::stdin(), &mut std::io::sink()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
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
    eprintln!("usage: workload list | noop | idle | launch | run ROW... [--seconds S] [--dir DIR] [--volume DIR] [--threads N]");
    ExitCode::from(2)
}
