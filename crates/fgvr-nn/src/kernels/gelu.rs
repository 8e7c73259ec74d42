//! GELU, x Φ(x) with the normal distribution's Φ (arXiv:1606.08415), and its gradient.

use rayon::prelude::*;

use super::exp::{exp, horner};
use super::rows::CHUNK;
use super::simd::{self, simd_fn};

/// Where the variable of [`TAIL`] is zero.
const CENTRE: f32 = 2.5;

/// Φ(-t) (t + 2.5) e^(t²/2) as a polynomial in u = (t - 2.5) / (t + 2.5), lowest power first. Fitted
/// at 400 Chebyshev nodes of 0 <= t <= 15 by least squares of the relative error, which is at most
/// 1.8e-8; in f32, 3e-7.
const TAIL: [f32; 10] = [
    0.706_656_63,
    -0.433_692,
    0.131_987_14,
    0.009_235_876,
    -0.016_387_694,
    -0.001_601_329_5,
    0.002_528_426,
    0.000_686_936_66,
    -0.000_315_851_7,
    -0.000_160_815_05,
];

/// (Φ(x), e^(-x²/2)). Both tails keep their relative accuracy: 1 + erf would lose the left one.
#[inline(always)]
fn distribution(x: f32) -> (f32, f32) {
    let t = x.abs();
    // e^(-15²/2) is zero, and infinity would make u NaN.
    let t = if t > 15. { 15. } else { t };
    let density = exp(-0.5 * t * t);
    let inverse = 1. / (t + CENTRE);
    let u = (t - CENTRE) * inverse;
    let tail = horner(u, &TAIL) * inverse * density;
    (if x < 0. { tail } else { 1. - tail }, density)
}

simd_fn! {
    fn forward_chunk(x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = x * distribution(*x).0;
        }
    }

    // y = (y + row) Φ(y + row), for each row of `y`.
    pub(crate) fn add_row_gelu(y: &mut [f32], row: &[f32]) {
        for y in y.chunks_mut(row.len()) {
            for (y, b) in y.iter_mut().zip(row) {
                let x = *y + b;
                *y = x * distribution(x).0;
            }
        }
    }

    fn backward_chunk(dy: &mut [f32], x: &[f32]) {
        // 1 / sqrt(2 π)
        const PEAK: f32 = 0.398_942_3;
        for (d, x) in dy.iter_mut().zip(x) {
            let (below, density) = distribution(*x);
            *d *= below + x * density * PEAK;
        }
    }
}

/// y = x Φ(x).
pub fn forward(x: &[f32], y: &mut [f32]) {
    let level = simd::level();
    y.par_chunks_mut(CHUNK)
        .zip(x.par_chunks(CHUNK))
        .for_each(|(y, x)| forward_chunk(level, x, y));
}

/// Turns `dy` into the gradient of x, dy (Φ(x) + x φ(x)).
pub fn backward(dy: &mut [f32], x: &[f32]) {
    let level = simd::level();
    dy.par_chunks_mut(CHUNK)
        .zip(x.par_chunks(CHUNK))
        .for_each(|(dy, x)| backward_chunk(level, dy, x));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::simd::Level;

    /// Φ by its series around 0, or by the continued fraction of its tail: good to 1e-13.
    fn phi(x: f64) -> f64 {
        let t = x.abs();
        let density = (-0.5 * t * t).exp() / (2. * std::f64::consts::PI).sqrt();
        let tail = if t < 3. {
            let (mut term, mut sum, mut k) = (t, t, 1.);
            while term > 1e-18 {
                k += 2.;
                term *= t * t / k;
                sum += term;
            }
            0.5 - density * sum
        } else {
            density / (1..200).rev().fold(t, |below, k| t + f64::from(k) / below)
        };
        if x < 0. { tail } else { 1. - tail }
    }

    #[test]
    fn both_tails_keep_their_relative_accuracy_at_every_level() {
        let x: Vec<f32> = (-13_000..=13_000).map(|i| i as f32 * 1e-3).collect();
        for level in Level::available() {
            let mut y = vec![0.; x.len()];
            forward_chunk(level, &x, &mut y);
            for (x, y) in x.iter().zip(&y) {
                let expected = f64::from(*x) * phi(f64::from(*x));
                // exp(-x²/2) carries half an ulp of x²/2.
                let allowed = expected.abs() * (6e-7 + 6e-8 * f64::from(x * x));
                let error = (f64::from(*y) - expected).abs();
                assert!(
                    error <= allowed,
                    "{level:?}: gelu({x}) is {y}, not {expected}"
                );
            }
        }
    }

    #[test]
    fn infinity_and_nan_are_passed_on_and_zero_stays() {
        let x = [f32::INFINITY, 1e30, -1e30, 0., f32::NAN];
        let mut y = [7.; 5];
        forward(&x, &mut y);
        assert_eq!(y[..4], [f32::INFINITY, 1e30, 0., 0.]);
        assert!(y[4].is_nan());
        let mut dy = [1.; 4];
        backward(&mut dy, &[1e30, -1e30, 0., -0.]);
        assert_eq!(dy, [1., 0., 0.5, 0.5]);
    }
}
