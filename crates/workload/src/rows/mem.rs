//! Memory: bandwidth after STREAM (McCalpin 1995), and the latency of a load that depends on the one before.

use super::{Samples, Trouble, check};
use crate::clock::{per_operation, rate, time};
use crate::options::Options;
use std::hint::black_box;

/// Numbers in each of the three arrays: 64 MiB each, beyond what most caches hold.
const NUMBERS: usize = 8 << 20;
const FACTOR: f64 = 3.0;
const COPIED: usize = 16 << 20;
/// Numbers (of 8 bytes) in a cache line.
const LINE: usize = 8;

/// The arrays of STREAM: made by the first row that needs them.
#[derive(Default)]
pub(super) struct Streams {
    a: Vec<f64>,
    b: Vec<f64>,
    c: Vec<f64>,
}

pub(super) fn run(kind: &str, streams: &mut Streams, options: &Options) -> Samples {
    let seconds = options.seconds;
    match kind {
        "copy" => streams.run(options, 2, |a, b, _| a.copy_from_slice(b), |b, _| b),
        "scale" => streams.run(options, 2, |a, b, _| each(a, b, b, |x, _| FACTOR * x), |b, _| FACTOR * b),
        "add" => streams.run(options, 3, |a, b, c| each(a, b, c, |x, y| x + y), |b, c| b + c),
        "triad" => streams.run(options, 3, |a, b, c| each(a, b, c, |x, y| x + FACTOR * y), |b, c| b + FACTOR * c),
        "memcpy" => memcpy(seconds),
        "latency-16k" => latency(seconds, 16 << 10),
        "latency-256k" => latency(seconds, 256 << 10),
        "latency-4m" => latency(seconds, 4 << 20),
        "latency-32m" => latency(seconds, 32 << 20),
        "latency-256m" => latency(seconds, 256 << 20),
        other => Err(Trouble::Unsupported(format!("no row mem.{other}"))),
    }
}

fn each(a: &mut [f64], b: &[f64], c: &[f64], f: impl Fn(f64, f64) -> f64) {
    for ((a, b), c) in a.iter_mut().zip(b).zip(c) {
        *a = f(*b, *c);
    }
}

impl Streams {
    /// Runs `kernel` over the arrays, cut among the threads; afterwards every number of `a` must be what `expected` says.
    fn run(
        &mut self,
        options: &Options,
        arrays: usize,
        kernel: impl Fn(&mut [f64], &[f64], &[f64]) + Sync,
        expected: impl Fn(f64, f64) -> f64,
    ) -> Samples {
        if self.a.is_empty() {
            // Written, not only reserved: the first touch of a page is not what these rows measure.
            self.a = vec![1.0; NUMBERS];
            self.b = (0..NUMBERS).map(|i| (i % 1024) as f64).collect();
            self.c = (0..NUMBERS).map(|i| (i % 771) as f64).collect();
        }
        let part = NUMBERS.div_ceil(options.threads);
        let samples = per_operation(options.seconds, |n| {
            for _ in 0..n {
                std::thread::scope(|scope| {
                    for ((a, b), c) in self.a.chunks_mut(part).zip(self.b.chunks(part)).zip(self.c.chunks(part)) {
                        let kernel = &kernel;
                        scope.spawn(move || kernel(black_box(a), b, c));
                    }
                });
            }
            Ok(())
        })?;
        let right = self.a.iter().zip(&self.b).zip(&self.c).all(|((a, b), c)| *a == expected(*b, *c));
        check(right, "an array does not hold what was stored into it")?;
        Ok(rate(samples, (arrays * NUMBERS * size_of::<f64>()) as f64 / 1e9))
    }
}

fn memcpy(seconds: f64) -> Samples {
    let from: Vec<u64> = (0..(COPIED / 8) as u64).collect();
    let mut to = vec![1; from.len()];
    let samples = per_operation(seconds, |n| {
        for _ in 0..n {
            black_box(&mut to).copy_from_slice(black_box(&from));
        }
        Ok::<_, Trouble>(())
    })?;
    check(from == to, "a copy differs from what was copied")?;
    Ok(rate(samples, COPIED as f64 / 1e9))
}

/// Follows a random cycle through all cache lines of `bytes`.
fn latency(seconds: f64, bytes: usize) -> Samples {
    let chain = Chain::new(bytes / (LINE * size_of::<u64>()));
    // Before the measurement: it also brings into the caches what has room there.
    check(chain.visits_every_line(), "the chain of loads misses a line")?;
    let (mut at, mut steps) = (chain.line(0), 0);
    let samples = per_operation(seconds, |n| {
        at = chain.walk(at, n);
        steps += n;
        check(at == chain.line(steps), "the chain of loads went astray")
    })?;
    Ok(time(samples, 1e9))
}

/// A cycle through all lines in an order no prefetcher guesses: the k-th line visited is a bijective hash of k, so that the end of any
/// walk can be told without walking.
struct Chain {
    lines: usize,
    links: Vec<u64>,
}

impl Chain {
    /// `lines` is a power of two, [`Chain::WALKERS`] at least. Filled in the order of addresses, which takes the inverse of the hash but
    /// a fraction of the time that filling in the order of the walk would.
    fn new(lines: usize) -> Chain {
        let mut chain = Chain { lines, links: vec![0; lines * LINE] };
        for at in 0..lines {
            chain.links[at * LINE] = chain.line(chain.step(at) + 1) as u64;
        }
        chain
    }

    /// The line reached from line `at` in `steps` steps, each a load that needs the one before.
    fn walk(&self, mut at: usize, steps: u64) -> usize {
        for _ in 0..steps {
            at = self.links[at * LINE] as usize;
        }
        at
    }

    const WALKERS: usize = 16;

    /// Whether walking once around leads through every line: walkers share the way, each from where the one before it shall arrive.
    /// Side by side they wait for memory together, which makes this cheap enough to be done at every measurement.
    fn visits_every_line(&self) -> bool {
        let part = self.lines / Self::WALKERS;
        let mut at: [usize; Self::WALKERS] = std::array::from_fn(|walker| self.line((walker * part) as u64));
        for _ in 0..part {
            at = at.map(|at| self.links[at * LINE] as usize);
        }
        at.iter().enumerate().all(|(walker, &at)| at == self.line(((walker + 1) * part) as u64))
    }

    /// The line visited after `step` steps. Each part of the hash is a bijection: multiplication by an odd number, and an exclusive or
    /// with the own upper half, which undoes itself.
    fn line(&self, step: u64) -> usize {
        let mix = |x: usize| self.fold(x.wrapping_mul(ODD) & (self.lines - 1));
        mix(mix(self.fold(step as usize & (self.lines - 1))))
    }

    /// The step after which `line` is visited: [`Chain::line`] backwards.
    fn step(&self, line: usize) -> u64 {
        let unmix = |x: usize| self.fold(x).wrapping_mul(inverse(ODD)) & (self.lines - 1);
        self.fold(unmix(unmix(line))) as u64
    }

    fn fold(&self, x: usize) -> usize {
        x ^ (x >> self.lines.trailing_zeros().div_ceil(2))
    }
}

const ODD: usize = 0x9e37_79b9_7f4a_7c15;

/// The number whose product with an odd one is 1 in the arithmetic of machine words: Newton's method doubles the right bits each time.
const fn inverse(odd: usize) -> usize {
    let mut inverse = odd;
    let mut round = 0;
    while round < 6 {
        inverse = inverse.wrapping_mul(2_usize.wrapping_sub(odd.wrapping_mul(inverse)));
        round += 1;
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_is_one_cycle_through_every_line() {
        for lines in [16, 256, 512, 4096] {
            let mut chain = Chain::new(lines);
            let mut seen = vec![false; lines];
            let mut at = chain.line(0);
            for _ in 0..lines {
                assert!(!std::mem::replace(&mut seen[at], true), "line {at} of {lines} twice");
                at = chain.links[at * LINE] as usize;
            }
            assert_eq!(at, chain.line(0));
            assert!(chain.visits_every_line());
            let (from, to) = (chain.line(3), chain.line(1));
            chain.links[from * LINE] = to as u64;
            assert!(!chain.visits_every_line(), "a short circuit among {lines} lines went unnoticed");
        }
    }

    #[test]
    fn a_walk_ends_where_it_should() {
        assert!(latency(0.001, 16 << 10).is_ok());
    }
}
