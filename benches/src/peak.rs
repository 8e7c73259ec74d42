//! The most floating-point operations a second that the machine can do, measured: multiply-adds on
//! registers, with nothing to wait for.

use std::hint::black_box;
use std::time::Instant;

use fgvr_nn::kernels::simd::Level;
use rayon::prelude::*;

/// Sums in registers that do not depend on each other: more than latency x units of any processor.
const SUMS: usize = 16;
/// Multiply-adds of each sum in a round.
const ROUNDS: usize = 2_000_000;
/// The best of so many counts, after the first has raised the clock.
const REPEATS: usize = 7;

/// GFLOP/s on `threads` threads of the current pool, at the highest level of the processor.
pub(crate) fn gigaflops(threads: usize) -> f64 {
    let level = Level::detected();
    let mut best = 0f64;
    for _ in 0..=REPEATS {
        let start = Instant::now();
        let operations: usize = (0..threads)
            .into_par_iter()
            .with_max_len(1)
            .map(|_| fused(level))
            .sum();
        best = best.max(operations as f64 / start.elapsed().as_secs_f64() / 1e9);
    }
    best
}

/// Works, and says how many operations that were.
fn fused(level: Level) -> usize {
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Level::detected` found the instructions on this processor.
        Level::Avx512 => unsafe { avx512() },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx2 => unsafe { avx2() },
        _ => portable(),
    }
}

/// # Safety
/// The processor must have AVX-512 F.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512() -> usize {
    use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_reduce_add_ps, _mm512_set1_ps};
    let (factor, addend) = (
        _mm512_set1_ps(black_box(0.999)),
        _mm512_set1_ps(black_box(1e-3)),
    );
    let mut sums = [_mm512_set1_ps(black_box(1.)); SUMS];
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(*sum, factor, addend);
        }
    }
    black_box(sums.map(|sum| _mm512_reduce_add_ps(sum)));
    2 * 16 * SUMS * ROUNDS
}

/// # Safety
/// The processor must have AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2() -> usize {
    use std::arch::x86_64::{_mm256_cvtss_f32, _mm256_fmadd_ps, _mm256_set1_ps};
    // All but three of the sixteen registers.
    const HELD: usize = 12;
    let (factor, addend) = (
        _mm256_set1_ps(black_box(0.999)),
        _mm256_set1_ps(black_box(1e-3)),
    );
    let mut sums = [_mm256_set1_ps(black_box(1.)); HELD];
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(*sum, factor, addend);
        }
    }
    black_box(sums.map(|sum| _mm256_cvtss_f32(sum)));
    2 * 8 * HELD * ROUNDS
}

/// What the compiler makes of arrays of 4, a multiplication and an addition each.
fn portable() -> usize {
    let (factor, addend) = (black_box(0.999f32), black_box(1e-3f32));
    let mut sums = [[black_box(1f32); 4]; SUMS / 2];
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            *sum = sum.map(|value| value * factor + addend);
        }
    }
    black_box(sums);
    2 * 4 * (SUMS / 2) * ROUNDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_of_this_processor_does_its_operations() {
        for level in Level::available() {
            assert!(fused(level) > ROUNDS);
        }
    }
}
