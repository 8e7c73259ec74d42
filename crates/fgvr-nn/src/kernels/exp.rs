//! The exponential, written so that the compiler vectorises a loop over it.

/// 1.5 * 2²³: a float this large has no bits left for a fraction, so adding it rounds to an integer,
/// which then lies in its low bits.
const ROUNDER: f32 = 12_582_912.;

/// ln 2 in two parts: the first has so few bits that its product with an exponent is exact.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

/// e^x to 2e-7 of itself: 2^n e^r with |r| <= ln(2) / 2, where the series of e^r to r⁷ has an error
/// of 6e-9. Above 88.7 infinity, below -104 zero; NaN stays NaN.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    let x = if x > 89. { 89. } else { x };
    let x = if x < -105. { -105. } else { x };
    let rounded = x * std::f32::consts::LOG2_E + ROUNDER;
    let n = rounded - ROUNDER;
    let r = (x - n * LN_2[0]) - n * LN_2[1];
    let series = horner(
        r,
        &[
            1.,
            1.,
            0.5,
            1. / 6.,
            1. / 24.,
            1. / 120.,
            1. / 720.,
            1. / 5040.,
        ],
    );
    // In two factors, each a normal float: the result may be a subnormal one, or infinite. Wrapping,
    // since a check for overflow would keep the loop from being vectorised.
    let n = rounded
        .to_bits()
        .wrapping_sub(ROUNDER.to_bits())
        .cast_signed();
    let half = n >> 1;
    series * power_of_2(half) * power_of_2(n.wrapping_sub(half))
}

/// A polynomial from its coefficients, lowest power first.
#[inline(always)]
pub(super) fn horner<const N: usize>(x: f32, coefficients: &[f32; N]) -> f32 {
    let mut sum = coefficients[N - 1];
    let mut i = N - 1;
    while i > 0 {
        i -= 1;
        sum = sum * x + coefficients[i];
    }
    sum
}

/// 2^n for -126 <= n <= 127.
#[inline(always)]
fn power_of_2(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) << 23).cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_that_of_f64_to_2e_7() {
        for i in -870_000..887_000 {
            let x = i as f32 * 1e-4;
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) / expected - 1.).abs();
            assert!(error < 2e-7, "exp({x}) is off by {error:.1e}");
        }
    }

    #[test]
    fn exp_ends_at_zero_and_infinity() {
        assert_eq!(exp(0.), 1.);
        for x in [89., 1e30, f32::INFINITY] {
            assert_eq!(exp(x), f32::INFINITY);
        }
        for x in [-105., -1e30, f32::NEG_INFINITY] {
            assert_eq!(exp(x), 0.);
        }
        // Subnormal floats have fewer bits.
        assert!((f64::from(exp(-95.)) / (-95f64).exp() - 1.).abs() < 1e-3);
        assert!(exp(f32::NAN).is_nan());
    }
}
