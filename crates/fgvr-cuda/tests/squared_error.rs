//! Mean squared error and its gradient against f64.

mod support;

use fgvr_cuda::ops::squared_error::{mean_absolute_error, mean_squared_error};
use fgvr_cuda::{Array, DType, Real};
use support::{close, close_together, on_each_machine, pairs, rounded};

#[test]
fn the_mean_and_its_gradient_are_those_of_the_equation() {
    on_each_machine(|machine, random| {
        // Less than a pack, no multiple of one, several blocks.
        for (real, len) in pairs(Real::ALL, &[1, 7, 8, 1029, 40_003]) {
            let weight = 1.5f32;
            let (a, b) = (random.normals(len, 3., 1.), random.normals(len, 2.9, 1.));
            let [images, target] = [&a, &b].map(|values| Array::from_reals(machine, real, values));
            let (images, target) = (images?, target?);
            let absolute = mean_absolute_error(machine, &images, &target)?;
            let (loss, gradient) = mean_squared_error(machine, &images, &target, weight)?;
            let (a, b) = (rounded(real, &a), rounded(real, &b));
            let off: Vec<f64> = (a.iter().zip(&b))
                .map(|(a, b)| f64::from(*a) - f64::from(*b))
                .collect();
            let mean = off.iter().map(|v| v * v).sum::<f64>() / len as f64;
            let of_absolute = off.iter().map(|v| v.abs()).sum::<f64>() / len as f64;
            close("absolute", &absolute.to_f32(machine)?, &[of_absolute], 1e-6);
            close("loss", &loss.to_f32(machine)?, &[mean], 1e-6);
            let slope = |v: &f64| 2. * f64::from(weight) * v / len as f64;
            let expected: Vec<f64> = off.iter().map(slope).collect();
            assert_eq!(gradient.dtype(), DType::from(real));
            let share = match real {
                Real::F32 => 1e-6,
                Real::Bf16 => 4e-3,
            };
            close_together("gradient", &gradient.to_f32(machine)?, &expected, share);
        }
        Ok(())
    });
}

#[test]
fn what_is_no_number_shows_in_the_loss() {
    on_each_machine(|machine, _| {
        let images = Array::from_f32(machine, &[1., 2., 3., 4., f32::NAN])?;
        let target = Array::from_f32(machine, &[0.; 5])?;
        let (loss, gradient) = mean_squared_error(machine, &images, &target, 1.)?;
        assert!(loss.to_f32(machine)?[0].is_nan());
        let gradient = gradient.to_f32(machine)?;
        assert!(gradient[4].is_nan() && gradient[..4].iter().all(|v| v.is_finite()));
        Ok(())
    });
}

#[test]
fn maps_that_differ_and_empty_ones_are_refused() {
    on_each_machine(|machine, _| {
        let text = |a: &Array, b: &Array| {
            let made = mean_squared_error(machine, a, b, 1.);
            made.err().map(|e| e.to_string()).unwrap_or_default()
        };
        let two = Array::from_f32(machine, &[0.; 2])?;
        let halves = Array::from_reals(machine, Real::Bf16, &[0.; 2])?;
        assert_eq!(
            text(&two, &halves),
            "mean squared error: target: expected 2 of F32, found 2 of Bf16"
        );
        let none = Array::from_f32(machine, &[])?;
        assert_eq!(
            text(&none, &none),
            "mean squared error: images: expected at least one value, found none"
        );
        Ok(())
    });
}
