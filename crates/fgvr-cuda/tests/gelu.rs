//! GELU's kernels against the normal distribution by its series and continued fraction.

mod support;

use fgvr_cuda::ops::gelu::{backward, forward};
use fgvr_cuda::{Array, Real};
use support::{close, on_each_machine, stored};

/// (Φ(x), φ(x)): Φ by its series around 0, or by the continued fraction of its tail.
fn distribution(x: f64) -> (f64, f64) {
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
    (if x < 0. { tail } else { 1. - tail }, density)
}

#[test]
fn value_and_gradient_are_those_of_the_equation() {
    on_each_machine(|machine, random| {
        for real in Real::ALL {
            // Whole packs, and some that are not; more than a block.
            for count in [1, 7, 8, 2051, 4096] {
                let x = Array::from_reals(machine, *real, &random.normals(count, 0., 3.))?;
                let dy = Array::from_reals(machine, *real, &random.normals(count, 0., 1.))?;
                let y = forward(machine, &x)?;
                let dx = backward(machine, &dy, &x)?;
                let (x, dy) = (stored(machine, &x)?, stored(machine, &dy)?);
                let value: Vec<f64> = x.iter().map(|x| x * distribution(*x).0).collect();
                let slope = |x: f64| {
                    let (below, density) = distribution(x);
                    below + x * density
                };
                let of_x: Vec<f64> = x.iter().zip(&dy).map(|(x, d)| d * slope(*x)).collect();
                let tolerance = match real {
                    Real::F32 => 2e-6,
                    Real::Bf16 => 5e-3,
                };
                close("y", &y.to_f32(machine)?, &value, tolerance);
                close("dx", &dx.to_f32(machine)?, &of_x, tolerance);
            }
        }
        Ok(())
    });
}

#[test]
fn the_left_tail_keeps_its_relative_accuracy() {
    on_each_machine(|machine, _| {
        let x: Vec<f32> = (0..1200).map(|i| -12. + i as f32 * 0.01).collect();
        let y = forward(machine, &Array::from_f32(machine, &x)?)?.to_f32(machine)?;
        for (x, y) in x.iter().zip(y) {
            let expected = f64::from(*x) * distribution(f64::from(*x)).0;
            // exp(-x²/2) carries half an ulp of x²/2.
            let allowed = expected.abs() * (1e-6 + 1e-7 * f64::from(x * x));
            assert!(
                (f64::from(y) - expected).abs() <= allowed,
                "gelu({x}) is {y}, not {expected}"
            );
        }
        Ok(())
    });
}

#[test]
fn infinity_and_nan_are_passed_on_and_zero_stays() {
    on_each_machine(|machine, _| {
        let x = Array::from_f32(machine, &[f32::INFINITY, 1e30, -1e30, 0., f32::NAN])?;
        let y = forward(machine, &x)?.to_f32(machine)?;
        assert_eq!(y[..4], [f32::INFINITY, 1e30, 0., 0.]);
        assert!(y[4].is_nan());
        let x = Array::from_f32(machine, &[1e30, -1e30, 0., -0.])?;
        let ones = Array::from_f32(machine, &[1.; 4])?;
        let dx = backward(machine, &ones, &x)?.to_f32(machine)?;
        assert_eq!(dx, [1., 0., 0.5, 0.5]);
        let short = Array::from_f32(machine, &[1.; 3])?;
        assert!(backward(machine, &short, &x).is_err());
        Ok(())
    });
}
