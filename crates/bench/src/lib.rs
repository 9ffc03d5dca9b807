//! `insula bench`: what each isolation boundary costs on this machine.
//!
//! Data flows one way. [`Options`] choose [`rows`] and platforms; [`platform`] says how each boundary and each installed peer starts
//! a program; [`scratch`] is where root file system, bundles and test files stand meanwhile; [`launcher`] is the small process that
//! starts them and takes the time; [`schedule`] fits the rounds into the budget; [`measure`] runs them, interleaved and in random
//! order; [`analysis`] makes of the samples, with [`stats`], a [`Report`]; and [`report`] shows that as a table, JSON or HTML.
//!
//! A platform or a row that can't be measured stays in the report with its reason.

mod analysis;
mod error;
mod host;
mod interrupt;
mod launcher;
mod measure;
mod platform;
mod progress;
pub mod report;
pub mod rows;
mod schedule;
mod scratch;
pub mod stats;

pub use error::Error;
pub use platform::NAMES as PLATFORMS;
pub use report::Report;

use std::path::PathBuf;

/// What to measure, and how thoroughly.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// End within 90 seconds.
    pub quick: bool,
    /// Platforms by name; all if empty. The baseline `native` is always measured.
    pub platforms: Vec<String>,
    /// Patterns (`*`, `?`) of rows; all if empty.
    pub rows: Vec<String>,
    /// Rounds to run, whatever time they take; else as many as fit.
    pub runs: Option<u32>,
    /// A directory in which the volume rows keep their files; else beside the root's.
    pub volume: Option<PathBuf>,
    /// The root directory of a system with systemd, which is booted there, and writes to it.
    pub system: Option<PathBuf>,
    /// Where the order of runs and the bootstrap begin; else drawn at random.
    pub seed: Option<u64>,
}

/// Measures, and returns what was found. Progress goes to standard error.
///
/// An interrupt (SIGINT, SIGTERM, SIGHUP) ends it early; everything made on the way is removed, and the report tells of it.
///
/// # Errors
/// A row or platform that doesn't exist, a directory that can't be used, or no baseline to compare with.
pub fn run(options: &Options) -> Result<Report, Error> {
    let rows = rows::choose(&options.rows)?;
    platform::known(&options.platforms)?;
    let measured = measure::measure(options, &rows)?;
    Ok(analysis::report(&rows, measured))
}
