//! The command line: verbs, global options, and how an error reaches the user.

use crate::commands::{bench, completion, diff, doctor, exec, features, lifecycle, list, logs, man, ps, run, spec, update};
use clap::{Parser, Subcommand, ValueEnum};
use insula_boundary::Store;
use insula_container::Containers;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

const EXAMPLES: &str = "\
Examples:
  insula run -- make test           run a command; what it writes is thrown away
  insula run --keep out -- ./setup  run a command; what it writes is kept in out/
  insula diff out                   show what it wrote
  insula run --bundle DIR web       run an OCI bundle
  insula doctor                     what this host can isolate with
  insula bench --quick              what isolation costs on this machine

Exit codes: of run and exec, the program's own, 128+n if signal n killed it, 127 if there is no such
program, 126 if it can't be run, 125 if insula failed; of the other verbs, 0, 1, or 2 for a wrong option.";

/// Run a workload behind an isolation boundary, and measure what the boundary costs.
#[derive(Parser)]
#[command(name = "insula", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every verb.
#[derive(clap::Args, Clone)]
pub(crate) struct Global {
    /// Directory in which the state of sandboxes is kept
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub(crate) root: Option<PathBuf>,
    /// Also write errors to this file, for the program that called us
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub(crate) log: Option<PathBuf>,
    /// Form of the lines in --log
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text", help_heading = "Global options")]
    pub(crate) log_format: LogFormat,
    /// Write what is done to --log too
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) debug: bool,
    /// Have systemd make the cgroups
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) systemd_cgroup: bool,
}

/// Form of log lines.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line of words.
    Text,
    /// An object a line.
    Json,
}

#[derive(Subcommand)]
enum Command {
    Run(Box<run::Args>),
    Exec(exec::Args),
    List(list::Args),
    Ps(ps::Args),
    Logs(logs::Args),
    Diff(diff::Args),
    Doctor(doctor::Args),
    Bench(bench::Args),
    Create(lifecycle::Create),
    Start(lifecycle::Start),
    State(lifecycle::State),
    Kill(lifecycle::Kill),
    Delete(lifecycle::Delete),
    Pause(lifecycle::Pause),
    Resume(lifecycle::Resume),
    Update(Box<update::Args>),
    Spec(spec::Args),
    Features(features::Args),
    Completion(completion::Args),
    #[command(hide = true)]
    Man(man::Args),
}

/// Parses the command line, runs the verb, and turns an error into one line and an exit code.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let global = cli.global;
    let result = global.check().and_then(|()| match cli.command {
        Command::Run(args) => run::main(&global, *args),
        Command::Exec(args) => exec::main(&global, args),
        Command::List(args) => list::main(&global, args),
        Command::Ps(args) => ps::main(&global, args),
        Command::Logs(args) => logs::main(&global, args),
        Command::Diff(args) => diff::main(args),
        Command::Doctor(args) => doctor::main(args),
        Command::Bench(args) => bench::main(args),
        Command::Create(args) => lifecycle::create(&global, args),
        Command::Start(args) => lifecycle::start(&global, args),
        Command::State(args) => lifecycle::state(&global, args),
        Command::Kill(args) => lifecycle::kill(&global, args),
        Command::Delete(args) => lifecycle::delete(&global, args),
        Command::Pause(args) => lifecycle::pause(&global, args),
        Command::Resume(args) => lifecycle::resume(&global, args),
        Command::Update(args) => update::main(&global, *args),
        Command::Spec(args) => spec::main(args),
        Command::Features(args) => features::main(args),
        Command::Completion(args) => completion::main(args),
        Command::Man(args) => man::main(args),
    });
    result.unwrap_or_else(|error| {
        global.report(&error);
        let ours = error.downcast_ref::<Coded>().map(|coded| coded.code);
        ExitCode::from(ours.unwrap_or(1))
    })
}

/// An error with the exit code that goes with it.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub(crate) struct Coded {
    code: u8,
    error: String,
}

impl Coded {
    /// An error with a code.
    pub(crate) fn new(code: u8, error: String) -> Coded {
        Coded { code, error }
    }

    /// The code.
    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    /// What `run` and `exec` end with: 125 unless the program itself was at fault.
    pub(crate) fn of_run(error: anyhow::Error) -> anyhow::Error {
        if error.is::<Coded>() {
            return error;
        }
        let code = error.downcast_ref::<insula_boundary::Error>().map_or(125, insula_boundary::Error::exit_code);
        Coded { code, error: format!("{error:#}") }.into()
    }
}

impl Global {
    /// The containers of this user's store.
    pub(crate) fn containers(&self) -> Containers {
        Containers::new(Store::new(self.root.clone().unwrap_or_else(default_root)))
    }

    fn check(&self) -> anyhow::Result<()> {
        if self.systemd_cgroup {
            anyhow::bail!(
                "--systemd-cgroup: cgroups are made directly in this version; leave the option out, and name them with linux.cgroupsPath"
            );
        }
        Ok(())
    }

    /// Writes what is done to the log, with --debug.
    pub(crate) fn note(&self, message: &str) {
        if self.debug {
            self.write_log("debug", message);
        }
    }

    /// One line to the user, and the same to the log.
    fn report(&self, error: &anyhow::Error) {
        let line = format!("{error:#}").replace('\n', "; ");
        eprintln!("insula: {line}");
        self.write_log("error", &line);
    }

    fn write_log(&self, level: &str, message: &str) {
        let Some(path) = &self.log else { return };
        let time = humantime::format_rfc3339_seconds(SystemTime::now());
        let line = match self.log_format {
            LogFormat::Json => serde_json::json!({"level": level, "msg": message, "time": time.to_string()}).to_string(),
            LogFormat::Text => format!("time=\"{time}\" level={level} msg={message:?}"),
        };
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        if let Err(error) = file.and_then(|mut file| writeln!(file, "{line}")) {
            eprintln!("insula: can't write --log {}: {error}", path.display());
        }
    }
}

/// `/run/insula` for root, a place of their own for others.
fn default_root() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/run/insula");
    }
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    own.unwrap_or_else(|| PathBuf::from(format!("/tmp/insula-{}", rustix::process::getuid().as_raw()))).join("insula")
}
