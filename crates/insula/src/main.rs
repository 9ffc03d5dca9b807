//! `insula`: runs a workload behind an isolation boundary, and measures what the boundary costs.
//!
//! [`cli`] is what can be said on the command line, [`global`] what every verb shares. Each file of [`commands`] is one verb (or one
//! family of verbs): it turns what was said into a plan, hands it to a boundary, and prints what came of it. [`attend`] stands between
//! the user's terminal and a program in the foreground, [`background`] starts what stays with one that is not.

mod attend;
mod background;
mod cli;
mod commands;
mod global;
mod show;
mod table;

use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let began = Instant::now();
    if let Err(error) = insula_sys::exe::check() {
        crate::show::warn(format_args!("insula: {error}"));
        return ExitCode::from(125);
    }
    cli::main(began)
}
