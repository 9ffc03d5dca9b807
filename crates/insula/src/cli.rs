//! The command line: its verbs, and which of them is meant.

use crate::commands::{
    bench, checkpoint, completion, debug, diff, doctor, events, exec, features, kernel, lifecycle, list, logs, man, ps, run,
    spec, system, update, vm,
};
use crate::global::{Coded, Global};
use clap::error::ErrorKind;
use clap::{ArgMatches, Command};
use std::process::ExitCode;
use std::time::Instant;

const EXAMPLES: &str = "\
Examples:
  insula run -- make test           run a command; what it writes is thrown away
  insula run --keep out -- ./setup  run a command; what it writes is kept in out/
  insula diff out                   show what it wrote
  insula run --bundle DIR web       run an OCI bundle
  insula vm run --kernel vmlinuz    run a virtual machine
  insula doctor                     what this host can isolate with
  insula bench --quick              what isolation costs on this machine

Exit codes: of run and exec, the program's own, 128+n if signal n killed it, 127 if there is no such
program, 126 if it can't be run, 125 if insula failed; of the other verbs, 0 or 1. 2: a wrong option.";

/// One word of the command line after `insula`.
struct Verb {
    name: &'static str,
    /// Adds its options and its help.
    options: fn(Command) -> Command,
    /// Does it.
    main: fn(&Global, &ArgMatches) -> anyhow::Result<ExitCode>,
}

/// A verb whose options are a [`clap::Args`].
macro_rules! verb {
    ($name:literal, $args:ty, $main:expr) => {
        Verb {
            name: $name,
            options: <$args as clap::Args>::augment_args,
            main: |global, matches| {
                let main: fn(&Global, $args) -> anyhow::Result<ExitCode> = $main;
                main(global, <$args as clap::FromArgMatches>::from_arg_matches(matches)?)
            },
        }
    };
}

/// Every verb, in the order in which help shows them.
const VERBS: [Verb; 31] = [
    verb!("run", run::Args, run::main),
    verb!("exec", exec::Args, exec::main),
    verb!("attach", system::attach::Args, system::attach::main),
    verb!("stop", system::stop::Args, system::stop::main),
    verb!("clone", system::clone::Args, system::clone::main),
    verb!("snapshot", system::snapshot::Args, system::snapshot::main),
    verb!("autostart", system::autostart::Args, system::autostart::main),
    verb!("list", list::Args, list::main),
    verb!("ps", ps::Args, ps::main),
    verb!("logs", logs::Args, logs::main),
    verb!("diff", diff::Args, |_, args| diff::main(args)),
    verb!("doctor", doctor::Args, |_, args| doctor::main(args)),
    verb!("bench", bench::Args, |_, args| bench::main(args)),
    verb!("kernel", kernel::Args, |_, args| kernel::main(args)),
    verb!("create", lifecycle::Create, lifecycle::create),
    verb!("start", lifecycle::Start, lifecycle::start),
    verb!("state", lifecycle::State, lifecycle::state),
    verb!("kill", lifecycle::Kill, lifecycle::kill),
    verb!("delete", lifecycle::Delete, lifecycle::delete),
    verb!("pause", lifecycle::Pause, lifecycle::pause),
    verb!("resume", lifecycle::Resume, lifecycle::resume),
    verb!("update", update::Args, update::main),
    verb!("events", events::Args, events::main),
    verb!("checkpoint", checkpoint::Args, checkpoint::main),
    verb!("restore", checkpoint::Args, checkpoint::main),
    verb!("spec", spec::Args, |_, args| spec::main(args)),
    verb!("features", features::Args, |_, args| features::main(args)),
    verb!("vm", vm::Args, vm::main),
    verb!("debug", debug::Args, |_, args| debug::main(args)),
    verb!("completion", completion::Args, |_, args| completion::main(args)),
    verb!("man", man::Args, |_, args| man::main(args)),
];

/// The whole command line.
pub(crate) fn command() -> Command {
    command_with(&|_| true)
}

/// The command line with some of the verbs.
fn command_with(wanted: &dyn Fn(&str) -> bool) -> Command {
    let command = Command::new("insula")
        .version(env!("CARGO_PKG_VERSION"))
        // In runc's words, which engines look for.
        .long_version(concat!("version ", env!("CARGO_PKG_VERSION"), "\nspec: 1.2.1"))
        .after_help(EXAMPLES)
        .max_term_width(100)
        .subcommand_required(true)
        .arg_required_else_help(true);
    let verbs = VERBS.iter().filter(|verb| wanted(verb.name));
    let verbs = verbs.map(|verb| (verb.options)(Command::new(verb.name)));
    <Global as clap::Args>::augment_args(command)
        .about("Run a workload behind an isolation boundary, and measure what the boundary costs")
        .subcommands(verbs)
}

/// What was said. Putting a verb's options together takes longer than reading the line, so it is done for the one that is said; only
/// where that doesn't work out (help, a mistake) for all.
fn parse() -> ArgMatches {
    let said = std::env::args().skip(1).find(|word| VERBS.iter().any(|verb| verb.name == word));
    let one = said.and_then(|said| command_with(&|name| name == said).try_get_matches().ok());
    one.unwrap_or_else(|| command().try_get_matches().unwrap_or_else(|error| refuse(&error)))
}

/// Shows the help that was asked for, or tells of a mistake in one line.
fn refuse(error: &clap::Error) -> ! {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        error.exit();
    }
    let text = error.render().to_string();
    let (said, after) = text.split_once("\nUsage: ").unwrap_or((&text, ""));
    let said = said.strip_prefix("error: ").unwrap_or(said);
    let parts: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("For more")).collect();
    let usage = after.lines().next().unwrap_or_default();
    let verb = usage.split_whitespace().nth(1).filter(|word| VERBS.iter().any(|verb| verb.name == *word));
    let said_verb = || std::env::args().skip(1).find(|word| VERBS.iter().any(|verb| verb.name == word));
    let help = match verb.map(str::to_owned).or_else(said_verb) {
        Some(verb) => format!("insula {verb} --help"),
        None => "insula --help".to_owned(),
    };
    crate::show::warn(format_args!("insula: {}; see `{help}`", crate::show::printable(&parts.join(" ").replace(" tip: ", "; "))));
    std::process::exit(2)
}

/// Parses the command line, runs the verb, and turns an error into one line and an exit code.
/// `began`: when the program did.
pub(crate) fn main(began: Instant) -> ExitCode {
    let matches = parse();
    let mut global = <Global as clap::FromArgMatches>::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    global.began = began;
    let verb = matches.subcommand().and_then(|(name, of_verb)| Some((VERBS.iter().find(|verb| verb.name == name)?, of_verb)));
    let Some((verb, of_verb)) = verb else {
        return ExitCode::from(2);
    };
    let result = global.check(verb.name).and_then(|()| (verb.main)(&global, of_verb));
    result.unwrap_or_else(|error| {
        global.report(&error);
        let ours = error.downcast_ref::<Coded>().map(Coded::code);
        ExitCode::from(ours.unwrap_or(1))
    })
}
