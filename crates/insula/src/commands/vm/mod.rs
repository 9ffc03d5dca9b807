//! `insula vm`: plain virtual machines.
//!
//! A machine is one process: ours, in the foreground or detached. What there is to know of it lies in a store ([`machines`]); everything else is
//! asked of that process, by its control socket ([`insula_machine::control`]).
//!
//! | file | holds |
//! |---|---|
//! | `options`, `devices` | what can be asked for, as a configuration of a machine's |
//! | `host` | what this host has for a machine |
//! | `run` | the machine itself, on record for as long as it is there |
//! | `machines` | which there are, and how they are |
//! | `ps`, `stop`, `console`, `logs`, `stats`, `update` | the other verbs |

mod console;
mod devices;
mod host;
mod logs;
mod machines;
mod options;
mod ps;
mod run;
mod stats;
mod stop;
mod update;

use crate::global::Global;
use clap::Subcommand;
use std::process::ExitCode;

/// Run virtual machines: a kernel of your own, not a workload
#[derive(clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "Examples:\n  insula vm run --kernel vmlinuz --initrd initrd.img\n  \
    insula vm run -d --name web --kernel vmlinuz --disk root.img\n  insula vm ps\n  insula vm console web\n  insula vm stop web")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    Run(Box<options::Args>),
    Ps(ps::Args),
    Stop(stop::Stop),
    Kill(stop::Kill),
    Rm(stop::Remove),
    Console(console::Args),
    Logs(logs::Args),
    Stats(stats::Args),
    Update(update::Args),
}

pub(crate) fn main(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    match args.action {
        Action::Run(args) => run::main(global, *args),
        Action::Ps(args) => ps::main(global, args),
        Action::Stop(args) => stop::stop(global, args),
        Action::Kill(args) => stop::kill(global, args),
        Action::Rm(args) => stop::remove(global, args),
        Action::Console(args) => console::main(global, args),
        Action::Logs(args) => logs::main(global, args),
        Action::Stats(args) => stats::main(global, args),
        Action::Update(args) => update::main(global, args),
    }
}
