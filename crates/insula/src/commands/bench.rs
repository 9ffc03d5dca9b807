//! `insula bench`: what was said on the command line becomes options; the report becomes a table, JSON, or a page.

use anyhow::{Context, bail};
use insula_bench::report::{html, table};
use insula_bench::{Error, Options, PLATFORMS, rows};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// What a shell reports of a program ended by Ctrl-C.
const INTERRUPTED: u8 = 130;

const EXAMPLES: &str = "\
Examples:
  insula bench --quick                          all that is installed, in 90 seconds
  insula bench --html report.html               the full run, as a page with plots
  insula bench --platforms container,runc --rows 'start.*'
  insula bench --rows 'cpu.*' --rows 'mem.*' --runs 20 --seed 7
  insula bench --platforms system,lxc --rows start.system --system /srv/debian
  insula bench --volume /mnt/data --rows 'volume.*' --format json > volume.json

The baseline is a plain process, measured twice as if it were two platforms: what differs between the two is noise.
A platform that is missing or fails is named with its reason. Run it as root, or runtimes that need root will be missing.";

/// Measure what each isolation boundary costs on this machine
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// End within 90 seconds; the figures are coarser
    #[arg(long)]
    quick: bool,
    /// Platforms to measure beside the baseline, separated by commas [default: all that are installed]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    platforms: Vec<String>,
    /// Rows to measure, as patterns with * and ?; may be given several times [default: all]
    #[arg(long, value_name = "GLOB", value_delimiter = ',')]
    rows: Vec<String>,
    /// Rounds to run, whatever time they take [default: as many as fit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: Option<u32>,
    /// Directory on the volume that the volume rows measure [default: beside the root file system]
    #[arg(long, value_name = "DIR")]
    volume: Option<PathBuf>,
    /// Root directory of a system with systemd, for the row start.system; it is booted there, and writes to it
    #[arg(long, value_name = "DIR")]
    system: Option<PathBuf>,
    /// What goes to standard output
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Write a page with plots, one file without references to others
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Where the random order of runs begins; the report names it [default: random]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Show rows and platforms, and measure nothing
    #[arg(long)]
    list: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For reading
    Table,
    /// For programs: all samples, the host, the seed
    Json,
}

pub(crate) fn main(args: Args) -> anyhow::Result<ExitCode> {
    if args.list {
        return list().map(|()| ExitCode::SUCCESS).context("the list can't be printed");
    }
    if let Some(volume) = args.volume.as_deref().filter(|volume| !volume.is_dir()) {
        bail!("--volume {}: not a directory; give one that exists on the volume to measure", volume.display());
    }
    if let Some(system) = args.system.as_deref().filter(|system| !system.join("sbin").is_dir()) {
        bail!("--system {}: not the root directory of a system; debootstrap makes one", system.display());
    }
    // Before the minutes of measuring, not after them, is when a file that can't be written should be known.
    let page = args.html.as_deref().map(html::Page::at).transpose().context("--html")?;
    let Args { quick, platforms, rows, runs, volume, system, seed, .. } = args;
    let report = match insula_bench::run(&Options { quick, platforms, rows, runs, volume, system, seed }) {
        Err(error @ Error::Interrupted) => {
            eprintln!("insula: {error}");
            return Ok(ExitCode::from(INTERRUPTED));
        }
        other => other?,
    };
    if let Some(page) = page {
        page.write(&report).context("--html")?;
    }
    match args.format {
        Format::Table => table::print(&report).context("the table can't be printed")?,
        Format::Json => writeln!(std::io::stdout(), "{}", report.json()?).context("the report can't be printed")?,
    }
    Ok(if report.interrupted { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}

fn list() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for row in rows::all() {
        writeln!(out, "{:<24} {:<8} {}", row.name, row.unit, row.about)?;
    }
    writeln!(out, "\nplatforms: {}", PLATFORMS.join(", "))
}
