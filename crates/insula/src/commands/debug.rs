//! `insula debug`: what helps to find out why something doesn't work.

use crate::show::show;
use crate::table;
use clap::ValueEnum;
use insula_kernel::syscall::{self, Level};
use serde_json::json;
use std::process::ExitCode;

/// Tell what helps to find out why something doesn't work
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  insula debug syscalls\n  insula debug syscalls --format json")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// List Linux's system calls, and how far the boundary sentry supports each
    Syscalls {
        /// Form of the output
        #[arg(short, long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// A table
    Text,
    /// An array of objects
    Json,
    /// What docs/syscalls.md is made of
    Markdown,
}

pub(crate) fn main(args: Args) -> anyhow::Result<ExitCode> {
    let What::Syscalls { format } = args.what;
    let calls: Vec<Call> = syscall::support().map(|(call, level)| Call::new(call.name(), call.id(), level)).collect();
    show(match format {
        Format::Text => text(&calls),
        Format::Json => json(&calls)?,
        Format::Markdown => markdown(&calls),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A call and how far it is supported.
struct Call {
    name: &'static str,
    number: i32,
    support: &'static str,
    missing: &'static str,
}

impl Call {
    fn new(name: &'static str, number: i32, level: Option<Level>) -> Call {
        let (support, missing) = match level {
            Some(Level::Full) => ("full", ""),
            Some(Level::Partial(missing)) => ("partial", missing),
            None => ("refused", ""),
        };
        Call { name, number, support, missing }
    }
}

/// How many calls there are of each kind.
fn summary(calls: &[Call]) -> String {
    let count = |support: &str| calls.iter().filter(|call| call.support == support).count();
    format!("{} full, {} partial, {} refused", count("full"), count("partial"), count("refused"))
}

fn text(calls: &[Call]) -> String {
    let row = |call: &Call| [&call.number.to_string(), call.name, call.support, call.missing].map(str::to_owned).to_vec();
    let rows: Vec<_> = calls.iter().map(row).collect();
    format!("{}\n{}\n", table::lines(&["NUMBER", "CALL", "SUPPORT", "NOTE"], &rows), summary(calls))
}

fn json(calls: &[Call]) -> serde_json::Result<String> {
    let object = |call: &Call| {
        let mut object = json!({"name": call.name, "number": call.number, "support": call.support});
        if !call.missing.is_empty() {
            object["note"] = call.missing.into();
        }
        object
    };
    Ok(serde_json::to_string_pretty(&calls.iter().map(object).collect::<Vec<_>>())? + "\n")
}

fn markdown(calls: &[Call]) -> String {
    let mut text = format!(
        "<!-- Made by `insula debug syscalls --format markdown`; a test holds it to that. -->\n\n\
        # System calls of the boundary sentry\n\n\
        Every call that Linux has on x86-64: {}. *Full*: as Linux has it. *Partial*: but for what the note says. *Refused*: answered\n\
        with `ENOSYS`, as by a Linux that is built without it, and counted.\n\n\
        | Number | Call | Support | Note |\n|---:|---|---|---|\n",
        summary(calls)
    );
    for Call { name, number, support, missing } in calls {
        text += &format!("| {number} | `{name}` | {support} | {missing} |\n");
    }
    text
}
