//! Arithmetic: work that should cost the same behind every boundary. Each batch has a known result.

use super::{Samples, Trouble, check};
use crate::clock::{per_operation, rate};
use crate::options::Options;
use sha2::{Digest, Sha256};
use std::hint::black_box;

/// A batch of work that checks itself.
type Batch = fn(&Data) -> Result<(), Trouble>;

/// What the batches read.
struct Data {
    text: Vec<u8>,
}

const MIX_STEPS: u64 = 1 << 14;
/// Operations in a step: a multiplication, a rotation, an exclusive or and an addition in each of four lanes.
const MIX_OPERATIONS: f64 = 16.0;
const MIX_RESULT: u64 = 0x087d_365b_a445_1501;
const BODY_STEPS: usize = 1000;
/// The energy after 1000 steps that the Computer Language Benchmarks Game publishes for its n-body program.
const BODY_ENERGY: f64 = -0.169_087_605;
const TEXT: usize = 128 * 1024;
/// How much of the text a batch compresses.
const PROSE: usize = 32 * 1024;
const TEXT_SHA256: &str = "75c7bf78aca7e620531d2749f446ec48f2b8d9ab0a2b8d2fe506e4d176885711";

pub(super) fn run(kind: &str, options: &Options) -> Samples {
    let (kind, threads) = match kind.strip_suffix("-all") {
        Some(kind) => (kind, options.threads),
        None => (kind, 1),
    };
    let (batch, amount): (Batch, f64) = match kind {
        "integer" => (integer, MIX_STEPS as f64 * MIX_OPERATIONS / 1e6),
        "float" => (float, BODY_STEPS as f64 / 1e3),
        "sha256" => (sha256, TEXT as f64 / 1e6),
        "deflate" => (deflate, PROSE as f64 / 1e6),
        other => return Err(Trouble::Unsupported(format!("no row cpu.{other}"))),
    };
    let data = Data { text: text(TEXT) };
    let samples = per_operation(options.seconds, |n| on_threads(threads, || (0..n).try_for_each(|_| batch(&data))))?;
    Ok(rate(samples, amount * threads as f64))
}

/// Does `work` on so many threads at once; the caller's is one of them.
fn on_threads(threads: usize, work: impl Fn() -> Result<(), Trouble> + Sync) -> Result<(), Trouble> {
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(&work)).collect();
        let mine = work();
        let panicked = || Err(Trouble::Wrong("a thread panicked".into()));
        others.into_iter().map(|other| other.join().unwrap_or_else(|_| panicked())).fold(mine, Result::and)
    })
}

fn integer(_: &Data) -> Result<(), Trouble> {
    check(mix(black_box(1)) == MIX_RESULT, "integer arithmetic gave another result than it should")
}

/// Four independent lanes, so that the processor's width is used, of a mixing step in the manner of wyhash and murmur.
fn mix(seed: u64) -> u64 {
    let mut lanes = [seed, seed + 1, seed + 2, seed + 3];
    for step in 0..MIX_STEPS {
        for lane in &mut lanes {
            *lane = (lane.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) ^ step).wrapping_add(0xd1b5_4a32_d192_ed03);
        }
    }
    lanes.iter().fold(0, |sum, lane| sum ^ lane)
}

fn float(_: &Data) -> Result<(), Trouble> {
    let mut bodies = black_box(solar_system());
    for _ in 0..BODY_STEPS {
        advance(&mut bodies, 0.01);
    }
    check((energy(&bodies) - BODY_ENERGY).abs() < 1e-9, "floating point arithmetic gave another result than it should")
}

#[derive(Clone, Copy)]
struct Body {
    at: [f64; 3],
    speed: [f64; 3],
    mass: f64,
}

/// The Sun and the four outer planets of the Computer Language Benchmarks Game's n-body program (units: AU, year, 4 pi^2 solar masses).
fn solar_system() -> [Body; 5] {
    const YEAR: f64 = 365.24;
    const SUN: f64 = 4.0 * std::f64::consts::PI * std::f64::consts::PI;
    let planet = |at, [x, y, z]: [f64; 3], mass: f64| Body { at, speed: [x * YEAR, y * YEAR, z * YEAR], mass: mass * SUN };
    let mut bodies = [
        Body { at: [0.0; 3], speed: [0.0; 3], mass: SUN },
        planet(
            [4.841_431_442_464_72, -1.160_320_044_027_428_4, -0.103_622_044_471_123_11],
            [0.001_660_076_642_744_037, 0.007_699_011_184_197_404, -6.904_600_169_720_63e-5],
            9.547_919_384_243_266e-4,
        ),
        planet(
            [8.343_366_718_244_58, 4.124_798_564_124_305, -0.403_523_417_114_321_4],
            [-0.002_767_425_107_268_624, 0.004_998_528_012_349_172, 2.304_172_975_737_639_3e-5],
            2.858_859_806_661_308e-4,
        ),
        planet(
            [12.894_369_562_139_131, -15.111_151_401_698_631, -0.223_307_578_892_655_73],
            [0.002_964_601_375_647_616, 0.002_378_471_739_594_809_5, -2.965_895_685_402_375_6e-5],
            4.366_244_043_351_563e-5,
        ),
        planet(
            [15.379_697_114_850_917, -25.919_314_609_987_964, 0.179_258_772_950_371_18],
            [0.002_680_677_724_903_893_3, 0.001_628_241_700_382_423, -9.515_922_545_197_159e-5],
            5.151_389_020_466_114_5e-5,
        ),
    ];
    for axis in 0..3 {
        let momentum: f64 = bodies.iter().map(|body| body.speed[axis] * body.mass).sum();
        bodies[0].speed[axis] = -momentum / SUN;
    }
    bodies
}

fn advance(bodies: &mut [Body; 5], step: f64) {
    for i in 0..bodies.len() {
        let (done, rest) = bodies.split_at_mut(i + 1);
        let one = &mut done[i];
        for two in rest {
            let apart = [one.at[0] - two.at[0], one.at[1] - two.at[1], one.at[2] - two.at[2]];
            let square = apart.iter().map(|x| x * x).sum::<f64>();
            let pull = step / (square * square.sqrt());
            for (axis, x) in apart.iter().enumerate() {
                one.speed[axis] -= x * two.mass * pull;
                two.speed[axis] += x * one.mass * pull;
            }
        }
    }
    for body in bodies {
        for axis in 0..3 {
            body.at[axis] += step * body.speed[axis];
        }
    }
}

fn energy(bodies: &[Body; 5]) -> f64 {
    let mut sum = 0.0;
    for (i, one) in bodies.iter().enumerate() {
        sum += 0.5 * one.mass * one.speed.iter().map(|x| x * x).sum::<f64>();
        for two in &bodies[i + 1..] {
            let apart = one.at.iter().zip(two.at).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
            sum -= one.mass * two.mass / apart.sqrt();
        }
    }
    sum
}

fn sha256(data: &Data) -> Result<(), Trouble> {
    let digest = Sha256::digest(black_box(&data.text));
    let hex = digest.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    check(hex == TEXT_SHA256, "SHA-256 gave another digest than it should")
}

fn deflate(data: &Data) -> Result<(), Trouble> {
    let prose = black_box(&data.text[..PROSE]);
    let small = miniz_oxide::deflate::compress_to_vec(prose, 6);
    check(small.len() < PROSE / 2, "text did not shrink under compression")?;
    let back = miniz_oxide::inflate::decompress_to_vec_with_limit(&small, PROSE)
        .map_err(|error| Trouble::Wrong(format!("compressed text can't be read back: {error}")))?;
    check(back == prose, "compressed text came back changed")
}

/// Words in a pseudo-random order, always the same: it shrinks under compression about as prose does.
fn text(size: usize) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "island ",
        "the ",
        "of ",
        "boundary ",
        "kernel ",
        "and ",
        "a ",
        "memory ",
        "page ",
        "in ",
        "call ",
        "process ",
        "is ",
        "time ",
        "root ",
        "mount ",
    ];
    let mut state = 1_u64;
    let mut text = Vec::with_capacity(size + 16);
    while text.len() < size {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.extend_from_slice(WORDS[(state >> 60) as usize].as_bytes());
        if state >> 40 & 7 == 0 {
            text.extend_from_slice(format!("{} ", state >> 44 & 0xffff).as_bytes());
        }
    }
    text.truncate(size);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_batch_gives_its_known_result() {
        let data = Data { text: text(TEXT) };
        for batch in [integer, float, sha256, deflate] {
            assert_eq!(batch(&data), Ok(()));
        }
    }

    #[test]
    fn a_wrong_result_is_noticed() {
        let mut data = Data { text: text(TEXT) };
        data.text[77] ^= 1;
        assert!(matches!(sha256(&data), Err(Trouble::Wrong(_))));
    }

    #[test]
    fn a_failure_on_any_thread_is_the_failure_of_all() {
        let count = std::sync::atomic::AtomicUsize::new(0);
        let work = || check(count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) != 2, "third");
        assert!(on_threads(4, work).is_err());
    }
}
