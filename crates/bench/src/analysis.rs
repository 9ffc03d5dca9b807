//! From samples to statements: medians, intervals, ratios to native taken side by side, the noise floor, and verdicts.

use crate::measure::{Column, Lane, Measured};
use crate::platform::{AGAIN, NATIVE};
use crate::report::{Cell, Missing, Platform, Ratio, Report, RowReport};
use crate::rows::Row;
use crate::stats::{self, Interval};
use std::time::UNIX_EPOCH;
use workload::Better;

/// Makes the report.
pub(crate) fn report(rows: &[Row], measured: Measured) -> Report {
    // The order of runs and the resampling both come from the seed, but not from the same stream.
    let mut rng = fastrand::Rng::with_seed(measured.seed ^ 0x626f_6f74);
    let rows = rows.iter().map(|row| judge(row, &measured, &mut rng)).collect();
    let Measured { host, seed, quick, plan, rounds, interrupted, started, took, lanes, absent, .. } = measured;
    let platform = |lane: Lane| Platform { name: lane.name, version: lane.version, notes: lane.notes };
    Report {
        version: env!("CARGO_PKG_VERSION"),
        started: started.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        took: took.as_secs_f64(),
        seed,
        quick,
        rounds,
        planned: plan.rounds,
        seconds: plan.seconds,
        interrupted,
        host,
        platforms: lanes.into_iter().map(platform).collect(),
        absent: absent.into_iter().map(|(name, reason)| Missing { name, reason }).collect(),
        rows,
    }
}

fn judge(row: &Row, measured: &Measured, rng: &mut fastrand::Rng) -> RowReport {
    let empty = Column::default();
    let column = |lane: usize| measured.columns.get(&(row.name, lane)).unwrap_or(&empty);
    let place = |name: &str| measured.lanes.iter().position(|lane| lane.name == name);
    let native = place(NATIVE).map_or(&empty, column);
    let floor =
        place(AGAIN).and_then(|again| compare(row.better, column(again), native, rng)).map(|(_, _, on)| stats::noise_floor(&on));
    let cells = (0..measured.lanes.len())
        .map(|lane| {
            let Column { values, reason } = column(lane);
            let samples: Vec<f64> = values.iter().map(|(_, value)| *value).collect();
            let summary = stats::summary(&samples, rng);
            let ratio = match measured.lanes[lane].name {
                NATIVE => None,
                _ => compare(row.better, column(lane), native, rng),
            };
            let ratio = ratio.map(|(samples, value, interval)| {
                let verdict = stats::verdict(samples.len(), value, &interval, floor.unwrap_or(1.0));
                Ratio { value, interval, samples, verdict }
            });
            // A failure now and then is not the reason why there is no value, but it is not left out either.
            Cell { platform: measured.lanes[lane].name, summary, samples, ratio, reason: reason.clone() }
        })
        .collect();
    RowReport { row: *row, floor, cells }
}

/// The ratios of costs, each of values taken side by side, with their median and its interval.
fn compare(better: Better, one: &Column, native: &Column, rng: &mut fastrand::Rng) -> Option<(Vec<f64>, f64, Interval)> {
    let beside = |pass: u32| native.values.iter().find(|(at, _)| *at == pass).map(|(_, value)| *value);
    let pairs = one.values.iter().filter_map(|&(pass, value)| Some((value, beside(pass)?)));
    let ratios: Vec<f64> = pairs.filter_map(|(value, base)| cost(better, value, base)).collect();
    let summary = stats::summary(&ratios, rng)?;
    Some((ratios, summary.median, summary.interval))
}

/// How many times as dear `value` is as `base`: above 1 is dearer, whichever way the unit runs.
fn cost(better: Better, value: f64, base: f64) -> Option<f64> {
    let ratio = match better {
        Better::Lower => value / base,
        Better::Higher => base / value,
    };
    (ratio.is_finite() && ratio > 0.0).then_some(ratio)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(values: &[(u32, f64)]) -> Column {
        Column { values: values.to_vec(), reason: None }
    }

    #[test]
    fn only_what_was_taken_side_by_side_is_compared() {
        let mut rng = fastrand::Rng::with_seed(1);
        let native = column(&[(0, 1.0), (1, 2.0), (3, 4.0)]);
        let one = column(&[(0, 2.0), (2, 9.0), (3, 12.0)]);
        let (ratios, median, _) = compare(Better::Lower, &one, &native, &mut rng).expect("two pairs");
        assert_eq!((ratios, median), (vec![2.0, 3.0], 2.5));
        assert!(compare(Better::Lower, &column(&[(7, 1.0)]), &native, &mut rng).is_none());
    }

    #[test]
    fn dearer_is_above_one_for_times_and_rates() {
        assert_eq!(cost(Better::Lower, 3.0, 2.0), Some(1.5));
        assert_eq!(cost(Better::Higher, 2.0, 3.0), Some(1.5));
        assert_eq!(cost(Better::Lower, 1.0, 0.0), None);
    }
}
