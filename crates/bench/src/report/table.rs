//! The report as a table for the terminal. Styled with ANSI codes; whoever prints it takes them away where they are not wanted.

use super::{Cell, Report, RowReport, number, times};
use crate::rows::Section;
use crate::stats::Verdict;
use anstyle::{AnsiColor, Style};
use std::fmt::Write as _;
use std::io::{self, Write as _};

const NAME: usize = 24;
const VALUE: usize = 16;
const CELL: usize = 14;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GREEN: Style = AnsiColor::Green.on_default();
const YELLOW: Style = AnsiColor::Yellow.on_default();
const RED: Style = AnsiColor::Red.on_default();

/// The table, one line for each row, and below it what could not be measured and why.
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    // Writing into a string does not fail.
    let _ = write(report, &mut out);
    out
}

/// Prints the table on standard output: in colour at a terminal, unless `NO_COLOR` or `TERM=dumb` say otherwise.
///
/// # Errors
/// When standard output can't be written.
pub fn print(report: &Report) -> io::Result<()> {
    anstream::stdout().write_all(render(report).as_bytes())
}

fn write(report: &Report, out: &mut String) -> std::fmt::Result {
    let host = &report.host;
    writeln!(out, "{BOLD}insula bench{BOLD:#}  {}, {} cores, {}, cgroups {:?}", host.cpu, host.cores, host.kernel, host.cgroups)?;
    let stopped = if report.interrupted { ", stopped by the user" } else { "" };
    writeln!(out, "{} rounds in {:.0} s, seed {}{stopped}", report.rounds, report.took, report.seed)?;
    if let Some(warning) = host.busy() {
        writeln!(out, "{YELLOW}{warning}{YELLOW:#}")?;
    }
    for (section, rows) in report.sections() {
        write!(out, "\n{BOLD}{:<NAME$}{:>VALUE$}", section.title(), "native")?;
        for platform in report.shown() {
            write!(out, "{:>CELL$}", platform.name)?;
        }
        writeln!(out, "{:>CELL$}{BOLD:#}", "noise")?;
        for row in rows {
            line(report, row, out)?;
        }
    }
    writeln!(out, "\n{DIM}{LEGEND}{DIM:#}")?;
    footnotes(report, out)
}

const LEGEND: &str = "\
Start-up shows medians. Below it, cells are costs beside native's, medians of ratios taken side by side: 2.00\u{d7} is twice as
dear, for times and rates alike.
=  within 2 % of native    ~  inside the noise floor    ?  not decided by these runs    -  not measured
noise: the greatest ratio native has to itself; what is smaller means nothing.";

fn line(report: &Report, row: &RowReport, out: &mut String) -> std::fmt::Result {
    let native = row.native().and_then(|cell| cell.summary);
    let native = native.map_or("-".into(), |summary| format!("{} {}", number(summary.median), row.row.unit));
    write!(out, "{:<NAME$}{native:>VALUE$}", row.row.name)?;
    for platform in report.shown() {
        let (text, style) = row.cell(platform.name).map_or(("-".into(), DIM), |of| cell(row, of));
        // Padding goes first: codes must not count as columns.
        let padding = CELL.saturating_sub(text.chars().count());
        write!(out, "{:padding$}{style}{text}{style:#}", "")?;
    }
    let floor = row.floor.map_or("-".into(), |floor| format!("\u{b1}{:.0} %", (floor - 1.0) * 100.0));
    writeln!(out, "{DIM}{floor:>CELL$}{DIM:#}")
}

fn cell(row: &RowReport, cell: &Cell) -> (String, Style) {
    let Some(summary) = cell.summary else { return ("-".into(), DIM) };
    // What a start costs is a thing of its own, and many times a plain process's, which may have none; what work costs only compares.
    let text = match (row.row.section, &cell.ratio) {
        (Section::Start, _) => format!("{} {}", number(summary.median), row.row.unit),
        (Section::Work(_), Some(ratio)) => times(ratio.value),
        (Section::Work(_), None) => return ("-".into(), DIM),
    };
    let Some(ratio) = &cell.ratio else { return (text, Style::new()) };
    match ratio.verdict {
        Verdict::Within => (format!("= {text}"), GREEN),
        Verdict::Noise => (format!("~ {text}"), DIM),
        Verdict::Open => (format!("? {text}"), DIM),
        Verdict::Cheaper => (text, GREEN),
        Verdict::Dearer if ratio.value < 2.0 => (text, YELLOW),
        Verdict::Dearer => (text, RED),
    }
}

fn footnotes(report: &Report, out: &mut String) -> std::fmt::Result {
    for platform in &report.platforms {
        for note in &platform.notes {
            writeln!(out, "{}: {note}", platform.name)?;
        }
    }
    for missing in &report.absent {
        writeln!(out, "{YELLOW}{} was not measured{YELLOW:#}: {}", missing.name, missing.reason)?;
    }
    for reason in super::reasons(report) {
        writeln!(out, "{}, {}: {}", reason.whose(), reason.rows.join(" "), reason.text)?;
    }
    Ok(())
}
