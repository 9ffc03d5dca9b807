//! How a row's time is measured: the work is sized so that a sample is long against the clock, and several samples are taken.

use std::time::Instant;

/// How many samples a row takes.
const SAMPLES: u32 = 5;

/// Measures `work(n)`, which does its operation `n` times, for about `seconds`; each sample is the seconds one operation took.
///
/// # Errors
/// Those of `work`.
pub(crate) fn per_operation<E>(seconds: f64, mut work: impl FnMut(u64) -> Result<(), E>) -> Result<Vec<f64>, E> {
    let slice = seconds / f64::from(SAMPLES);
    let mut timed = |n: u64| {
        let start = Instant::now();
        work(n)?;
        Ok(start.elapsed().as_secs_f64())
    };
    // Doubling warms caches and finds the size; its last step is already near the slice, so it costs about one sample more.
    let mut n = 1;
    let mut took: f64 = timed(n)?;
    while took < slice / 2.0 {
        n *= if took < slice / 16.0 { 8 } else { 2 };
        took = timed(n)?;
    }
    let n = ((n as f64 * slice / took.max(1e-9)) as u64).max(1);
    (0..SAMPLES).map(|_| Ok(timed(n)? / n as f64)).collect()
}

/// Turns seconds per operation into operations per second, each counting for `amount`.
pub(crate) fn rate(samples: Vec<f64>, amount: f64) -> Vec<f64> {
    samples.into_iter().map(|seconds| amount / seconds).collect()
}

/// Turns seconds into another unit of time, `per_second` of which make a second.
pub(crate) fn time(samples: Vec<f64>, per_second: f64) -> Vec<f64> {
    samples.into_iter().map(|seconds| seconds * per_second).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    #[test]
    fn every_sample_does_the_same_amount_of_work() {
        let mut sizes = Vec::new();
        let samples = per_operation(0.02, |n| {
            sizes.push(n);
            std::thread::sleep(std::time::Duration::from_micros(20 * n));
            Ok::<_, Infallible>(())
        });
        assert_eq!(samples, samples.clone());
        assert_eq!(samples.map(|samples| samples.len()), Ok(SAMPLES as usize));
        let last = &sizes[sizes.len() - SAMPLES as usize..];
        assert!(last.iter().all(|size| size == &last[0]), "{sizes:?}");
    }

    #[test]
    fn an_error_of_the_work_ends_it() {
        assert_eq!(per_operation(0.01, |_| Err("broken")), Err("broken"));
    }
}
