//! The work of the rows. [`run`] takes them one by one; a row gives samples in its unit, or a [`Trouble`], and neither stops the rest.
//!
//! What is costly to prepare (arrays, the test file) is prepared once for the rows that share it, outside of what is timed.

mod cpu;
mod disk;
mod mem;
mod sys;

use crate::options::Options;
use std::io::{self, Write};
use std::process::ExitCode;
use workload::{Check, Group, Line, Row, median};

/// Why a row has no value.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum Trouble {
    /// The row means nothing here.
    #[error("{0}")]
    Unsupported(String),
    /// The work's own result is not the right one.
    #[error("{0}")]
    Wrong(String),
    /// A call failed.
    #[error("{what}: {cause}")]
    Failed { what: String, cause: String },
}

impl Trouble {
    /// For `map_err`: `what` was tried and failed.
    pub(crate) fn at<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Trouble {
        move |cause| Trouble::Failed { what: what.into(), cause: cause.into().to_string() }
    }
}

/// The samples of a row in its unit, or why there are none.
pub(crate) type Samples = Result<Vec<f64>, Trouble>;

/// `Ok` if `right`, else the trouble that `what` came out wrong.
pub(crate) fn check(right: bool, what: &str) -> Result<(), Trouble> {
    if right { Ok(()) } else { Err(Trouble::Wrong(what.into())) }
}

/// Runs the rows and prints a line for each. A wrong result makes the program fail; an unsupported row does not.
pub(crate) fn run(options: &Options) -> ExitCode {
    let mut streams = mem::Streams::default();
    let mut root = disk::Place::new(options.dir.as_deref(), "--dir");
    let mut volume = disk::Place::new(options.volume.as_deref(), "--volume");
    let mut code = ExitCode::SUCCESS;
    for row in &options.rows {
        let kind = row.name.split_once('.').map_or("", |(_, kind)| kind);
        let samples = match row.group {
            Group::Sys => sys::run(kind, options),
            Group::Cpu => cpu::run(kind, options),
            Group::Mem => mem::run(kind, &mut streams, options),
            Group::Root => root.run(kind, options.seconds),
            Group::Volume => volume.run(kind, options.seconds),
        };
        if matches!(samples, Err(Trouble::Wrong(_))) {
            code = ExitCode::FAILURE;
        }
        if let Err(error) = print(row, samples) {
            eprintln!("workload: a result can't be written: {error}");
            return ExitCode::FAILURE;
        }
    }
    code
}

fn print(row: &Row, samples: Samples) -> io::Result<()> {
    let (samples, check, reason) = match samples {
        Ok(samples) => (samples, Check::Ok, None),
        Err(trouble) => {
            let check = match &trouble {
                Trouble::Unsupported(_) => Check::Unsupported,
                Trouble::Wrong(_) => Check::Wrong,
                Trouble::Failed { .. } => Check::Failed,
            };
            (Vec::new(), check, Some(trouble.to_string()))
        }
    };
    let value = median(&samples);
    let line = Line { row: row.name.into(), unit: row.unit.into(), better: row.better, value, samples, check, reason };
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, &line)?;
    out.write_all(b"\n")
}
