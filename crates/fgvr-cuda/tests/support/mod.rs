//! Machines to test on, random numbers, comparisons.
#![allow(dead_code, unreachable_pub)] // each test file uses a part

use std::io::Write as _;
use std::path::Path;

use fgvr_cuda::emulator::{Emulator, Order};
use fgvr_cuda::{Array, Machine, Real, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Runs `check` on the emulator in every order of threads, and says so where there is no C++ compiler to
/// make it with; then on the GPU, with the feature `cuda` and where there is one (`FGVR_GPU=require` makes it an
/// error that there is none). Inputs are new at each run; `FGVR_KERNEL_SEED` repeats one.
pub fn on_each_machine(check: impl Fn(&dyn Machine, &mut Random) -> Result<()>) {
    on_each_shared_machine(|machine, random| check(machine, random));
}

/// As [`on_each_machine`], for a check that uses the machine from several threads.
pub fn on_each_shared_machine(check: impl Fn(&(dyn Machine + Sync), &mut Random) -> Result<()>) {
    let seed = seed();
    let run = |machine: &(dyn Machine + Sync), what: &str| {
        let mut random = Random(ChaCha8Rng::seed_from_u64(seed));
        if let Err(error) = check(machine, &mut random) {
            panic!("{what}, FGVR_KERNEL_SEED={seed}: {error}");
        }
    };
    match Emulator::new(Path::new(env!("CARGO_TARGET_TMPDIR"))) {
        Ok(emulator) => {
            for order in Order::ALL {
                emulator.set_order(*order);
                run(&emulator, &format!("emulator, {order:?} order"));
            }
        }
        Err(error) => skipped(&error),
    }
    #[cfg(feature = "cuda")]
    match fgvr_cuda::gpu::Gpu::new(0, fgvr_cuda::gpu::Precision::Full) {
        Ok(gpu) => run(&gpu, gpu.name()),
        Err(error) if std::env::var_os("FGVR_GPU").is_some_and(|v| v == "require") => {
            panic!("{error}")
        }
        Err(error) => skipped(&format!("on a GPU: {error}")),
    }
}

/// Says why a test does not run here. Not by `eprintln!`, which the test harness keeps to itself when a test
/// passes.
pub fn skipped(why: &dyn std::fmt::Display) {
    // Nobody to tell if standard error is closed.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

fn seed() -> u64 {
    match std::env::var("FGVR_KERNEL_SEED") {
        Ok(seed) => seed.parse().expect("FGVR_KERNEL_SEED is a number"),
        Err(_) => {
            let seed = u64::from(std::process::id());
            eprintln!("FGVR_KERNEL_SEED={seed}");
            seed
        }
    }
}

/// Random numbers of one run.
pub struct Random(ChaCha8Rng);

impl Random {
    /// `count` values of a normal distribution.
    pub fn normals(&mut self, count: usize, mean: f32, deviation: f32) -> Vec<f32> {
        let mut one = || {
            let (u, v): (f64, f64) = (1. - self.0.random::<f64>(), self.0.random());
            (-2. * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
        };
        (0..count)
            .map(|_| mean + deviation * one() as f32)
            .collect()
    }

    /// `count` numbers below `end`.
    pub fn indices(&mut self, count: usize, end: u32) -> Vec<u32> {
        (0..count).map(|_| self.0.random_range(0..end)).collect()
    }
}

/// That each value is within `tolerance` of what is expected, relative to the larger of 1 and its size.
#[track_caller]
pub fn close(what: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}: number of values");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let off = (f64::from(*found) - expected).abs() / expected.abs().max(1.);
        assert!(
            off <= tolerance,
            "{what}[{i}]: expected {expected}, found {found}: off by {off:.1e}, allowed {tolerance:.1e}"
        );
    }
}

/// The values as a machine stores them.
pub fn rounded(real: Real, values: &[f32]) -> Vec<f32> {
    let round = |v: &f32| {
        let bits = v.to_bits();
        let even = (bits >> 16) & 1;
        match v.is_nan() {
            true => *v,
            false => f32::from_bits(bits.wrapping_add(0x7fff + even) & 0xffff_0000),
        }
    };
    match real {
        Real::F32 => values.to_vec(),
        Real::Bf16 => values.iter().map(round).collect(),
    }
}

/// Each of `first` with each of `second`.
pub fn pairs<A: Copy, B: Copy>(first: &[A], second: &[B]) -> Vec<(A, B)> {
    let of = |a: &A| second.iter().map(|b| (*a, *b)).collect::<Vec<_>>();
    first.iter().flat_map(of).collect()
}

/// The values of an array as the machine stores them, in f64.
pub fn stored(machine: &dyn Machine, array: &Array) -> Result<Vec<f64>> {
    Ok(array.to_f32(machine)?.into_iter().map(f64::from).collect())
}

/// That the differences are together within `share` of what is expected, by the root of their squares' mean:
/// for values much smaller than 1, of which some are zero.
#[track_caller]
pub fn close_together(what: &str, found: &[f32], expected: &[f64], share: f64) {
    assert_eq!(found.len(), expected.len(), "{what}: number of values");
    let length = |of: &mut dyn Iterator<Item = f64>| of.map(|v| v * v).sum::<f64>().sqrt();
    let mut differences = found.iter().zip(expected).map(|(f, e)| f64::from(*f) - e);
    let off = length(&mut differences);
    let whole = length(&mut expected.iter().copied());
    assert!(
        off <= share * whole,
        "{what}: values of length {whole:.3e} are off by {off:.3e}, allowed {:.3e}",
        share * whole
    );
}
