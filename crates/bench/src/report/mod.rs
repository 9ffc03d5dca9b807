//! The report: what was measured, on what, how, and what may be said of it. [`table`] and [`html`] show it; JSON is its own shape.

pub mod html;
mod plot;
pub mod table;

use crate::host::Host;
use crate::platform::{AGAIN, NATIVE};
use crate::rows::{Row, Section};
use crate::stats::{Interval, Summary, Verdict, geometric_mean};
use serde::Serialize;

/// Everything `insula bench` found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The version of Insula that measured.
    pub version: &'static str,
    /// When it began, in seconds since 1970.
    pub started: u64,
    /// How long it took, in seconds.
    pub took: f64,
    /// Where the order of runs and the resampling began.
    pub seed: u64,
    /// Whether it was in a hurry.
    pub quick: bool,
    /// Rounds completed.
    pub rounds: u32,
    /// Rounds planned.
    pub planned: u32,
    /// Nominal seconds of a row in each round.
    pub seconds: f64,
    /// Whether the user ended it early.
    pub interrupted: bool,
    /// The machine.
    pub host: Host,
    /// Platforms that were measured.
    pub platforms: Vec<Platform>,
    /// Platforms that were not, with the reason.
    pub absent: Vec<Missing>,
    /// The rows.
    pub rows: Vec<RowReport>,
}

/// A platform that was measured.
#[derive(Debug, Serialize)]
pub struct Platform {
    /// Its name.
    pub name: &'static str,
    /// What it says its version is.
    pub version: String,
    /// What one must know of how it was measured.
    pub notes: Vec<String>,
}

/// A platform that was not measured.
#[derive(Debug, Serialize)]
pub struct Missing {
    /// Its name.
    pub name: &'static str,
    /// Why.
    pub reason: String,
}

/// One row on all platforms.
#[derive(Debug, Serialize)]
pub struct RowReport {
    /// What was measured.
    #[serde(flatten)]
    pub row: Row,
    /// How far native is from itself, as a factor of 1 or more: smaller differences mean nothing.
    pub floor: Option<f64>,
    /// One for each platform, in the order of [`Report::platforms`].
    pub cells: Vec<Cell>,
}

/// One row on one platform.
#[derive(Debug, Serialize)]
pub struct Cell {
    /// The platform.
    pub platform: &'static str,
    /// What is said of the samples, in the row's unit.
    pub summary: Option<Summary>,
    /// The samples: one value for each run.
    pub samples: Vec<f64>,
    /// The cost beside native's.
    pub ratio: Option<Ratio>,
    /// Why samples are missing.
    pub reason: Option<String>,
}

/// A cost beside native's: above 1 is dearer, whichever way the row's unit runs.
#[derive(Debug, Serialize)]
pub struct Ratio {
    /// The median of the samples.
    pub value: f64,
    /// Its interval.
    pub interval: Interval,
    /// Ratios of values that were taken side by side.
    pub samples: Vec<f64>,
    /// What may be said of it.
    pub verdict: Verdict,
}

impl Report {
    /// Sections that have rows.
    pub fn sections(&self) -> impl Iterator<Item = (Section, Vec<&RowReport>)> {
        Section::all().filter_map(|section| {
            let rows: Vec<_> = self.rows.iter().filter(|row| row.row.section == section).collect();
            (!rows.is_empty()).then_some((section, rows))
        })
    }

    /// Platforms to be shown beside native: all but it and its double.
    pub fn shown(&self) -> impl Iterator<Item = &Platform> {
        self.platforms.iter().filter(|platform| platform.name != NATIVE && platform.name != AGAIN)
    }

    /// The geometric mean of a platform's costs beside native's over rows.
    pub fn mean_cost(&self, rows: &[&RowReport], platform: &str) -> Option<f64> {
        let ratios: Vec<f64> = rows.iter().filter_map(|row| Some(row.cell(platform)?.ratio.as_ref()?.value)).collect();
        geometric_mean(&ratios)
    }

    /// The geometric mean of the rows' noise floors: means of costs that are nearer to 1 than this mean nothing.
    pub fn mean_floor(&self, rows: &[&RowReport]) -> Option<f64> {
        let floors: Vec<f64> = rows.iter().filter_map(|row| row.floor).collect();
        geometric_mean(&floors)
    }

    /// The report as JSON.
    ///
    /// # Errors
    /// None that a report can cause.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }
}

impl RowReport {
    /// The row on a platform.
    pub fn cell(&self, platform: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.platform == platform)
    }

    /// The row on native.
    pub fn native(&self) -> Option<&Cell> {
        self.cell(NATIVE)
    }
}

impl Verdict {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Verdict::Within => "within 2 %",
            Verdict::Noise => "inside the noise floor",
            Verdict::Open => "not decided by these runs",
            Verdict::Dearer => "dearer",
            Verdict::Cheaper => "cheaper",
        }
    }
}

/// Why samples are missing, said once for all that it is true of.
pub(crate) struct Reason<'a> {
    platforms: Vec<&'static str>,
    /// Whether those are all.
    everywhere: bool,
    pub(crate) text: &'a str,
    pub(crate) rows: Vec<&'static str>,
}

impl Reason<'_> {
    /// Of whom it is true.
    pub(crate) fn whose(&self) -> String {
        if self.everywhere { "all".to_owned() } else { self.platforms.join(", ") }
    }
}

/// Reasons for missing samples: rows of a platform with the same reason together, and platforms with the same rows.
pub(crate) fn reasons(report: &Report) -> Vec<Reason<'_>> {
    gathered(&report.rows, report.platforms.len())
}

fn gathered(rows: &[RowReport], platforms: usize) -> Vec<Reason<'_>> {
    let mut each: Vec<Reason<'_>> = Vec::new();
    for row in rows {
        for cell in &row.cells {
            let Some(text) = cell.reason.as_deref() else { continue };
            match each.iter_mut().find(|reason| reason.platforms == [cell.platform] && reason.text == text) {
                Some(reason) => reason.rows.push(row.row.name),
                None => {
                    each.push(Reason { platforms: vec![cell.platform], everywhere: false, text, rows: vec![row.row.name] });
                }
            }
        }
    }
    let mut all: Vec<Reason<'_>> = Vec::new();
    for reason in each {
        match all.iter_mut().find(|other| other.text == reason.text && other.rows == reason.rows) {
            Some(other) => other.platforms.extend(reason.platforms),
            None => all.push(reason),
        }
    }
    for reason in &mut all {
        reason.everywhere = reason.platforms.len() == platforms;
    }
    all
}

/// A number with three significant digits or so, without an exponent.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100_000.0 => format!("{:.0}k", value / 1e3),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A ratio as `1.03x`.
pub(crate) fn times(ratio: f64) -> String {
    format!("{}\u{d7}", number(ratio))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_said_once_for_all_that_it_is_true_of() {
        let cell = |platform, reason: Option<&str>| {
            let reason = reason.map(str::to_owned);
            Cell { platform, summary: None, samples: Vec::new(), ratio: None, reason }
        };
        let reasons =
            [[None, None, Some("loud")], [Some("none"); 3], [None, Some("late"), Some("late")], [None, None, Some("loud")]];
        let rows: Vec<RowReport> = crate::rows::all()
            .zip(reasons)
            .map(|(row, reasons)| {
                let cells = ["native", "runc", "crun"].into_iter().zip(reasons).map(|(name, reason)| cell(name, reason));
                RowReport { row, floor: None, cells: cells.collect() }
            })
            .collect();
        let gathered: Vec<(String, &str, usize)> =
            gathered(&rows, 3).iter().map(|reason| (reason.whose(), reason.text, reason.rows.len())).collect();
        let expected = [("crun", "loud", 2), ("all", "none", 1), ("runc, crun", "late", 1)];
        assert_eq!(gathered, expected.map(|(whose, text, rows)| (whose.to_owned(), text, rows)));
    }
}
