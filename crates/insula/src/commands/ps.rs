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

/// Processes that ps(1) can't see: what it would print of them, as far as their kernel tells that.
fn inside(list: &[Summary], options: &[String], format: Format) -> anyhow::Result<ExitCode> {
    if format == Format::Json {
        let pids: Vec<i32> = list.iter().map(|process| process.pid).collect();
        show(format!("{}\n", serde_json::to_string(&pids)?))?;
        return Ok(ExitCode::SUCCESS);
    }
    let columns = columns(options)?;
    // The last isn't filled up, as with ps(1).
    let line = |cells: Vec<String>| {
        let filled = |(index, (cell, column)): (usize, (&String, &&Column))| match column.width {
            _ if index + 1 == columns.len() => cell.clone(),
            width @ 0.. => format!("{cell:>0$}", width as usize),
            width => format!("{cell:<0$}", width.unsigned_abs()),
        };
        cells.iter().zip(&columns).enumerate().map(filled).collect::<Vec<_>>().join(" ") + "\n"
    };
    let mut table = line(columns.iter().map(|column| column.head.to_owned()).collect());
    list.iter().for_each(|process| table += &line(columns.iter().map(|column| (column.cell)(process)).collect()));
    show(table)?;
    Ok(ExitCode::SUCCESS)
}

/// A column: what ps(1) calls it with `-o`, its head, its width (below zero: to the left), and what is in it.
struct Column {
    names: &'static [&'static str],
    head: &'static str,
    width: isize,
    cell: fn(&Summary) -> String,
}

const fn column(names: &'static [&'static str], head: &'static str, width: isize, cell: fn(&Summary) -> String) -> Column {
    Column { names, head, width, cell }
}

/// The usual ones in their order, and those that are only there for who asks.
const COLUMNS: &[Column] = &[
    column(&["uid", "euid", "user", "euser"], "UID", -8, |process| process.uid.to_string()),
    column(&["pid", "tgid"], "PID", 7, |process| process.pid.to_string()),
    column(&["ppid"], "PPID", 7, |process| process.parent.to_string()),
    column(&["etime"], "AGE", 9, |process| clock(process.age)),
    column(&["tty", "tt", "tname"], "TTY", -8, |process| {
        process.terminal.map_or("?".to_owned(), |number| format!("pts/{number}"))
    }),
    column(&["time", "cputime"], "TIME", 8, |process| clock(process.time)),
    column(&["args", "cmd", "command"], "CMD", -27, |process| printable(&process.command).to_string()),
    column(&["comm", "ucmd", "ucomm"], "COMMAND", -15, |process| printable(name(&process.command)).to_string()),
    column(&["etimes"], "ELAPSED", 7, |process| process.age.as_secs().to_string()),
];
const USUAL: usize = 7;

/// The columns that options of ps(1) ask for. Which processes they choose doesn't matter: those of the sandbox are shown.
fn columns(options: &[String]) -> anyhow::Result<Vec<&'static Column>> {
    let mut chosen: Vec<&'static Column> = Vec::new();
    let mut words = options.iter();
    while let Some(word) = words.next() {
        let (flags, list) = match word.strip_prefix("--format=").or_else(|| word.strip_prefix("o=")) {
            Some(list) => ("", Some(list)),
            None => word.split_once('o').map_or((&**word, None), |(flags, list)| (flags, Some(list))),
        };
        let unknown = flags.trim_start_matches('-').chars().find(|flag| !"eAfaxuw".contains(*flag));
        ensure!(
            unknown.is_none(),
            "the option {word} of ps(1): a kernel of ours shows its processes itself, and knows -e, -f, -A, aux and -o; leave it out"
        );
        let Some(list) = list else { continue };
        let list = if list.is_empty() { words.next().context("ps: -o wants columns: -o pid,args")? } else { list };
        for name in list.split([',', ' ']).filter(|name| !name.is_empty()) {
            let known = COLUMNS.iter().find(|column| column.names.contains(&name));
            let all = || COLUMNS.iter().map(|column| column.names[0]).collect::<Vec<_>>().join(", ");
            chosen.push(
                known.with_context(|| format!("ps: no column {name} of processes behind the sentry; there are {}", all()))?,
            );
        }
    }
    Ok(if chosen.is_empty() { COLUMNS[..USUAL].iter().collect() } else { chosen })
}

/// What a command is called: its file's name, without arguments.
fn name(command: &str) -> &str {
    let program = command.split(' ').next().unwrap_or_default();
    program.rsplit('/').next().unwrap_or_default()
}

/// Hours, minutes and seconds.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}
