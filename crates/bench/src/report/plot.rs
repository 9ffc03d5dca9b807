//! The plots: inline SVG whose horizontal positions are percentages, so that a plot takes whatever width the page gives it and its
//! marks and letters keep their size.

use super::{number, times};
use crate::stats::Interval;
use std::fmt::Write;

/// Marks a scale may carry; those in reach are thinned out until they have room.
const FACTORS: [f64; 22] = [
    0.05, 0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0,
];
/// Least room between two marks, in percent of the width.
const ROOM: f64 = 15.0;
/// Margins within a plot, in percent of the width, so that marks at the ends are whole.
const MARGIN: f64 = 2.0;

/// How values become places.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scale {
    /// From zero; for amounts.
    Linear { high: f64 },
    /// Logarithmic; for ratios, so that twice and half are equally far from one.
    Log { low: f64, high: f64 },
}

impl Scale {
    /// From zero to a little beyond the greatest value.
    pub(super) fn amounts(values: impl Iterator<Item = f64>) -> Scale {
        Scale::Linear { high: values.fold(f64::MIN_POSITIVE, f64::max) * 1.04 }
    }

    /// Around one, wide enough for all values, and never so narrow that noise looks like a finding.
    pub(super) fn ratios(values: impl Iterator<Item = f64>) -> Scale {
        let (low, high) = values.fold((0.8, 1.25), |(low, high): (f64, f64), value| (low.min(value), high.max(value)));
        Scale::Log { low: low.max(0.01) * 0.97, high: high.min(5000.0) * 1.03 }
    }

    /// The place of a value, in percent of the width; what lies beyond the scale is put at its end.
    fn place(self, value: f64) -> f64 {
        let share = match self {
            Scale::Linear { high } => value / high,
            Scale::Log { low, high } => (value / low).ln() / (high / low).ln(),
        };
        MARGIN + share.clamp(0.0, 1.0) * (100.0 - 2.0 * MARGIN)
    }

    /// Values to be marked: one first (or zero), then outwards whatever has room.
    fn marks(self) -> Vec<f64> {
        match self {
            Scale::Linear { high } => {
                let step = round_up(high / 5.0);
                (0..=5).map(|i| f64::from(i) * step).filter(|&value| value <= high).collect()
            }
            Scale::Log { low, high } => {
                let mut marks = vec![1.0];
                let mut candidates: Vec<f64> = FACTORS.into_iter().filter(|factor| (low..=high).contains(factor)).collect();
                let round = |factor: &f64| if [0.1, 0.5, 2.0, 5.0, 10.0, 100.0].contains(factor) { 0 } else { 1 };
                candidates.sort_by_key(round);
                for factor in candidates {
                    if marks.iter().all(|&mark| (self.place(mark) - self.place(factor)).abs() >= ROOM) {
                        marks.push(factor);
                    }
                }
                marks
            }
        }
    }
}

/// The next number of the form 1, 2 or 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.max(f64::MIN_POSITIVE).log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|factor| factor * power).find(|&step| step >= value).unwrap_or(10.0 * power)
}

/// A scale's marks with their numbers.
pub(super) fn axis(scale: Scale) -> String {
    let mut svg = String::from(r#"<svg class="axis" aria-hidden="true">"#);
    for mark in scale.marks() {
        let x = scale.place(mark);
        let label = match scale {
            Scale::Linear { .. } => number(mark),
            Scale::Log { .. } => format!("{mark}\u{d7}"),
        };
        let _ = write!(svg, r#"<line x1="{x:.2}%" x2="{x:.2}%" y1="15" y2="20"/><text x="{x:.2}%" y="11">{label}</text>"#);
    }
    svg + "</svg>"
}

/// One lane of a dot plot of ratios: the noise floor as a band, every sample as a small dot, the interval as a bar, the median as a dot.
pub(super) fn ratio(scale: Scale, floor: Option<f64>, samples: &[f64], median: f64, interval: Interval, title: &str) -> String {
    let mut svg = lane(title);
    if let Some(floor) = floor {
        rect(&mut svg, "band", scale.place(1.0 / floor), scale.place(floor), "0", "100%");
    }
    for mark in scale.marks() {
        let (x, class) = (scale.place(mark), if mark == 1.0 { "one" } else { "grid" });
        let _ = write!(svg, r#"<line class="{class}" x1="{x:.2}%" x2="{x:.2}%" y1="0" y2="100%"/>"#);
    }
    dots(&mut svg, scale, samples);
    whisker(&mut svg, scale, interval);
    let _ = write!(svg, r#"<circle class="median" cx="{:.2}%" cy="50%" r="4.5"/></svg>"#, scale.place(median));
    svg
}

/// One lane of a bar plot of amounts: a bar to the median, the interval and every sample over it.
pub(super) fn bar(scale: Scale, samples: &[f64], median: f64, interval: Interval, title: &str) -> String {
    let mut svg = lane(title);
    for mark in scale.marks() {
        let x = scale.place(mark);
        let _ = write!(svg, r#"<line class="grid" x1="{x:.2}%" x2="{x:.2}%" y1="0" y2="100%"/>"#);
    }
    rect(&mut svg, "bar", scale.place(0.0), scale.place(median), "18%", "64%");
    dots(&mut svg, scale, samples);
    whisker(&mut svg, scale, interval);
    svg + "</svg>"
}

/// How verdicts are distributed: parts of a bar, each with its class, its count and its words.
pub(super) fn shares(parts: &[(&str, usize, &str)]) -> String {
    let all: usize = parts.iter().map(|(_, count, _)| count).sum();
    let mut svg = String::from(r#"<svg class="shares" role="img">"#);
    let mut from = 0.0;
    for (class, count, words) in parts.iter().filter(|(_, count, _)| *count > 0) {
        let wide = *count as f64 * 100.0 / all.max(1) as f64;
        let _ = write!(
            svg,
            r#"<rect class="{class}" x="{from:.2}%" width="{wide:.2}%" height="100%"><title>{count} {words}</title></rect>"#
        );
        from += wide;
    }
    svg + "</svg>"
}

/// What stands in a lane's tooltip: the ratio with its interval.
pub(super) fn spoken(value: f64, interval: Interval) -> String {
    format!("{} ({} to {})", times(value), times(interval.low), times(interval.high))
}

fn lane(title: &str) -> String {
    format!(r#"<svg class="lane" role="img"><title>{title}</title>"#)
}

fn rect(svg: &mut String, class: &str, from: f64, to: f64, y: &str, height: &str) {
    let wide = (to - from).max(0.0);
    let _ = write!(svg, r#"<rect class="{class}" x="{from:.2}%" width="{wide:.2}%" y="{y}" height="{height}"/>"#);
}

/// Samples, spread a little up and down so that they don't hide one another.
fn dots(svg: &mut String, scale: Scale, samples: &[f64]) {
    for (i, &sample) in samples.iter().enumerate() {
        let y = 50 + [0, -18, 18, -9, 9, -27, 27][i % 7];
        let _ = write!(svg, r#"<circle class="dot" cx="{:.2}%" cy="{y}%" r="1.7"/>"#, scale.place(sample));
    }
}

fn whisker(svg: &mut String, scale: Scale, interval: Interval) {
    let (from, to) = (scale.place(interval.low), scale.place(interval.high));
    let _ = write!(svg, r#"<line class="interval" x1="{from:.2}%" x2="{to:.2}%" y1="50%" y2="50%"/>"#);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_stay_on_the_plot_and_keep_order() {
        let scale = Scale::ratios([0.5, 40.0].into_iter());
        let places: Vec<f64> = [0.0001, 0.5, 1.0, 2.0, 40.0, 1e9].map(|value| scale.place(value)).to_vec();
        assert!(places.is_sorted() && places.iter().all(|place| (0.0..=100.0).contains(place)), "{places:?}");
    }

    #[test]
    fn marks_have_room() {
        for values in [vec![], vec![0.3, 3.0], vec![60.0], vec![0.02, 4000.0]] {
            let scale = Scale::ratios(values.into_iter());
            let mut places: Vec<f64> = scale.marks().into_iter().map(|mark| scale.place(mark)).collect();
            places.sort_by(f64::total_cmp);
            assert!(places.windows(2).all(|pair| pair[1] - pair[0] >= ROOM) && places.len() >= 3, "{places:?}");
        }
        assert_eq!(Scale::amounts([52.0].into_iter()).marks(), [0.0, 20.0, 40.0]);
    }
}
