//! `insula ps`: the processes of a container, as `runc ps` has it.

use super::list::Format;
use crate::global::Global;
use crate::show::{printable, show};
use anyhow::{Context, ensure};
use insula_boundary::{Boundary, Processes, Status, Summary};
use std::process::{Command, ExitCode};
use std::time::Duration;

/// List the processes of a sandbox
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  insula ps web\n  insula ps --format json web\n  insula ps web -o pid,rss,args")]
pub(crate) struct Args {
    /// The sandbox; and options for ps(1), -ef unless given
    // One list, so that what follows the name is never taken for an option of ours.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "SANDBOX [PS OPTIONS]")]
    words: Vec<String>,
    /// Form of the output; json gives numbers only
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: Format,
}

pub(crate) fn main(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    let Some((id, options)) = args.words.split_first() else { return Ok(ExitCode::FAILURE) };
    let sandbox = global.containers().open(&id.parse()?)?;
    let processes = if sandbox.status() == Status::Stopped { Processes::Host(Vec::new()) } else { sandbox.processes()? };
    let mut pids = match processes {
        Processes::Host(pids) => pids,
        Processes::Inside(list) => return inside(&list, options, args.format),
    };
    pids.sort_unstable();
    pids.dedup();
    if args.format == Format::Json {
        show(format!("{}\n", serde_json::to_string(&pids)?))?;
        return Ok(ExitCode::SUCCESS);
    }
    let options = if options.is_empty() { &["-ef".to_owned()] } else { options };
    let output = Command::new("ps").args(options).output().context("can't run ps; install procps, or use --format json")?;
    ensure!(output.status.success(), "ps: {}", String::from_utf8_lossy(&output.stderr).trim());
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let column =
        head.split_whitespace().position(|word| word == "PID").context("ps: with these options it shows no column PID")?;
    let mut table = format!("{head}\n");
    for line in lines {
        let pid = line.split_whitespace().nth(column).and_then(|word| word.parse().ok());
        if pid.is_some_and(|pid: i32| pids.binary_search(&pid).is_ok()) {
            table.push_str(line);
            table.push('\n');
        }
    }
    show(table)?;
    Ok(ExitCode::SUCCESS)
}

/// Processes that ps(1) can't see: with the columns of `ps -ef`, as far as they say anything.
fn inside(list: &[Summary], options: &[String], format: Format) -> anyhow::Result<ExitCode> {
    if format == Format::Json {
        let pids: Vec<i32> = list.iter().map(|process| process.pid).collect();
        show(format!("{}\n", serde_json::to_string(&pids)?))?;
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(
        options.is_empty(),
        "options for ps(1): it doesn't see the processes of another kernel; leave {} out",
        options.join(" ")
    );
    let mut table = "UID          PID    PPID     AGE TTY          TIME CMD\n".to_owned();
    for process in list {
        let Summary { pid, parent, uid, .. } = process;
        let terminal = process.terminal.map_or("?".to_owned(), |number| format!("pts/{number}"));
        let (age, time) = (clock(process.age), clock(process.time));
        table += &format!("{uid:<8} {pid:>7} {parent:>7} {age:>9} {terminal:<8} {time} {}\n", printable(&process.command));
    }
    show(table)?;
    Ok(ExitCode::SUCCESS)
}

/// Hours, minutes and seconds.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}
