//! Order statistics and the bootstrap: what can be said of samples whose distribution nobody knows.
//!
//! Sources: Hyndman & Fan, "Sample Quantiles in Statistical Packages", 1996 (type 7); Efron & Tibshirani, "An Introduction to the
//! Bootstrap", 1993, chapter 13 (percentile intervals); Hoefler & Belli, "Scientific Benchmarking of Parallel Computing Systems", 2015.

use serde::Serialize;

/// Resamples drawn for an interval.
const RESAMPLES: usize = 2000;

/// An interval that holds the true value with 95 % confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl Interval {
    /// Whether `value` lies in it, its ends included.
    pub fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

/// What is said of a set of samples, in their unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// How many samples there are.
    pub n: usize,
    /// The median.
    pub median: f64,
    /// The first quartile.
    pub q1: f64,
    /// The third quartile.
    pub q3: f64,
    /// The median distance from the median.
    pub mad: f64,
    /// The bootstrap interval of the median.
    pub interval: Interval,
}

/// Summarises samples; `None` if there is none, or one is not a finite number.
pub fn summary(samples: &[f64], rng: &mut fastrand::Rng) -> Option<Summary> {
    if samples.is_empty() || samples.iter().any(|sample| !sample.is_finite()) {
        return None;
    }
    let sorted = sorted(samples);
    let median = quantile(&sorted, 0.5);
    let distances: Vec<f64> = samples.iter().map(|sample| (sample - median).abs()).collect();
    Some(Summary {
        n: samples.len(),
        median,
        q1: quantile(&sorted, 0.25),
        q3: quantile(&sorted, 0.75),
        mad: quantile(&self::sorted(&distances), 0.5),
        interval: bootstrap(samples, rng),
    })
}

/// The quantile `q` (0 to 1) of sorted samples, interpolated linearly between neighbours (type 7); 0 if there is no sample.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = q.clamp(0.0, 1.0) * last as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

/// The percentile-bootstrap interval of the median. With few samples it is close to their whole range, as it should be.
fn bootstrap(samples: &[f64], rng: &mut fastrand::Rng) -> Interval {
    let mut resample = vec![0.0; samples.len()];
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            resample.fill_with(|| samples[rng.usize(..samples.len())]);
            resample.sort_by(f64::total_cmp);
            quantile(&resample, 0.5)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    Interval { low: quantile(&medians, 0.025), high: quantile(&medians, 0.975) }
}

/// The geometric mean of positive numbers; `None` if there is none.
pub fn geometric_mean(values: &[f64]) -> Option<f64> {
    let logs: f64 = values.iter().map(|value| value.ln()).sum();
    let mean = (logs / values.len() as f64).exp();
    mean.is_finite().then_some(mean)
}

/// What may be said of a platform's cost beside native's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The whole interval lies within 2 % of native.
    Within,
    /// The difference is no greater than that between native and itself.
    Noise,
    /// The interval reaches from cheaper to dearer: these runs don't tell.
    Open,
    /// It costs more.
    Dearer,
    /// It costs less.
    Cheaper,
}

/// How far native is from itself: the greatest deviation from 1 in the interval of its ratio to its own double, as a factor >= 1.
pub fn noise_floor(against_itself: &Interval) -> f64 {
    against_itself.high.max(1.0 / against_itself.low.max(f64::MIN_POSITIVE)).max(1.0)
}

/// Fewer samples than these decide nothing: even the whole range of four holds the true median in 87 % of cases only.
const DECISIVE: usize = 5;

/// Judges the ratio of a cost to native's, the median of `n` samples, given the noise floor as a factor.
pub fn verdict(n: usize, ratio: f64, interval: &Interval, floor: f64) -> Verdict {
    if n < DECISIVE {
        Verdict::Open
    } else if interval.low >= 0.98 && interval.high <= 1.02 {
        Verdict::Within
    } else if ratio <= floor && ratio >= 1.0 / floor {
        Verdict::Noise
    } else if interval.contains(1.0) {
        Verdict::Open
    } else if ratio > 1.0 {
        Verdict::Dearer
    } else {
        Verdict::Cheaper
    }
}

fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rng() -> fastrand::Rng {
        fastrand::Rng::with_seed(7)
    }

    /// R 4.3: quantile(c(1,2,3,4,10), c(.25,.5,.75)) is 2 3 4; mad(..., constant = 1) is 1.
    #[test]
    fn known_answers() {
        let summary = summary(&[10.0, 1.0, 4.0, 2.0, 3.0], &mut rng()).expect("finite samples");
        assert_eq!((summary.n, summary.q1, summary.median, summary.q3, summary.mad), (5, 2.0, 3.0, 4.0, 1.0));
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 0.5), 2.5);
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 0.1), 1.3);
        assert_eq!(geometric_mean(&[2.0, 8.0]), Some(4.0));
        assert_eq!(geometric_mean(&[]), None);
    }

    #[test]
    fn nothing_is_said_of_nothing_or_of_nonsense() {
        assert_eq!(summary(&[], &mut rng()), None);
        assert_eq!(summary(&[1.0, f64::NAN], &mut rng()), None);
        assert_eq!(summary(&[f64::INFINITY], &mut rng()), None);
    }

    /// For any samples: order, range, and invariance under scaling.
    #[test]
    fn properties_of_a_summary() {
        let mut random = rng();
        for _ in 0..200 {
            let n = random.usize(1..40);
            let samples: Vec<f64> = (0..n).map(|_| (random.f64() * 20.0 - 10.0).exp()).collect();
            let seed = random.u64(..);
            let of = |samples: &[f64]| summary(samples, &mut fastrand::Rng::with_seed(seed)).expect("finite samples");
            let one = of(&samples);
            let (low, high) = samples.iter().fold((f64::MAX, f64::MIN), |(low, high), &x| (low.min(x), high.max(x)));
            let ladder = [low, one.interval.low, one.median, one.interval.high, high];
            assert!(ladder.is_sorted(), "{ladder:?} of {samples:?}");
            assert!([low, one.q1, one.median, one.q3, high].is_sorted());
            let doubled = of(&samples.iter().map(|x| x * 2.0).collect::<Vec<_>>());
            assert_eq!(
                (doubled.median, doubled.interval.low, doubled.mad),
                (one.median * 2.0, one.interval.low * 2.0, one.mad * 2.0)
            );
        }
    }

    /// The 95 % interval must hold the true median in about 95 % of experiments.
    #[test]
    fn the_interval_covers_the_truth() {
        let mut random = rng();
        let experiments = 400;
        let hits = (0..experiments)
            .filter(|_| {
                let samples: Vec<f64> = (0..25).map(|_| -random.f64().max(1e-12).ln()).collect();
                bootstrap(&samples, &mut random).contains(std::f64::consts::LN_2)
            })
            .count();
        assert!((360..=395).contains(&hits), "{hits} of {experiments}");
    }

    #[test]
    fn the_same_seed_gives_the_same_interval() {
        let samples = [3.0, 1.0, 4.0, 1.5, 9.0, 2.6];
        assert_eq!(bootstrap(&samples, &mut rng()), bootstrap(&samples, &mut rng()));
    }

    #[test]
    fn verdicts() {
        let on = |low, high| Interval { low, high };
        let floor = noise_floor(&on(0.95, 1.02));
        assert!((floor - 1.0 / 0.95).abs() < 1e-12);
        assert_eq!(verdict(5, 1.0, &on(0.99, 1.01), floor), Verdict::Within);
        assert_eq!(verdict(5, 1.04, &on(1.03, 1.06), floor), Verdict::Noise);
        assert_eq!(verdict(5, 1.2, &on(0.9, 1.6), floor), Verdict::Open);
        assert_eq!(verdict(5, 1.5, &on(1.4, 1.6), floor), Verdict::Dearer);
        assert_eq!(verdict(4, 9.0, &on(8.9, 9.1), floor), Verdict::Open);
        assert_eq!(verdict(5, 0.5, &on(0.4, 0.6), floor), Verdict::Cheaper);
    }
}
