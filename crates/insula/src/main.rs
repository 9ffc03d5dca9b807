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

/// Who adds a process to a sandbox is started anew out of its reach: here, before much is done that would have to be done again. The verb
/// itself sees to it that it has been.
fn seal_early() {
    if std::env::args_os().skip(1).take_while(|word| word != "--").any(|word| word == "exec") {
        let _ = insula_sys::exe::seal();
    }
}

fn main() -> ExitCode {
    let began = Instant::now();
    // Whoever can't find out isn't to go on either.
    if insula_sys::process::is_privileged_by_file().unwrap_or(true) && insula_sys::defence::stands("no-set-user-id") {
        let advice = "whoever runs it would be root on this host: chmod u-s,g-s, or setcap -r, on it";
        crate::show::warn(format_args!("insula: this program's file is set-user-ID, or has capabilities, and mustn't: {advice}"));
        return ExitCode::from(125);
    }
    seal_early();
    if let Err(error) = insula_sys::exe::check() {
        crate::show::warn(format_args!("insula: {error}"));
        return ExitCode::from(125);
    }
    cli::main(began)
}
