//! Elementwise kernels and sums over rows against f64.

mod support;

use fgvr_cuda::ops::elementwise::{self, AfterBias};
use fgvr_cuda::ops::{ActivationFunction, Rows};
use fgvr_cuda::{Array, DType, Machine, Real, Result};
use support::{Random, close, on_each_machine, pairs, rounded};

const LENGTHS: &[usize] = &[0, 1, 7, 8, 1029];

/// (rows, channels): packs and not, more columns than threads, several slabs.
const ROWS: &[(usize, usize)] = &[(1, 3), (70, 24), (33, 7), (1100, 8), (3, 2056), (0, 4)];

/// Values as stored, in f64, and their array.
fn made(
    machine: &dyn Machine,
    random: &mut Random,
    real: Real,
    len: usize,
) -> Result<(Vec<f64>, Array)> {
    let values = random.normals(len, 0.2, 1.);
    let array = Array::from_reals(machine, real, &values)?;
    let stored = rounded(real, &values).into_iter().map(f64::from).collect();
    Ok((stored, array))
}

fn tolerance(real: Real) -> f64 {
    match real {
        Real::F32 => 1e-6,
        Real::Bf16 => 4e-3,
    }
}

#[test]
fn each_value_is_added_rectified_and_scaled() {
    on_each_machine(|machine, random| {
        for (real, len) in pairs(Real::ALL, LENGTHS) {
            let (a, x) = made(machine, random, real, len)?;
            let (b, y) = made(machine, random, real, len)?;
            let of = |f: &dyn Fn(f64, f64) -> f64| -> Vec<f64> {
                a.iter().zip(&b).map(|(a, b)| f(*a, *b)).collect()
            };
            // Times 8, so that some are above 6; exact in bf16, too.
            let x8 = elementwise::scale(machine, &x, 8.)?;
            for (activation, most) in [
                (ActivationFunction::Relu, f64::INFINITY),
                (ActivationFunction::Relu6, 6.),
            ] {
                let cut = elementwise::activate(machine, &x8, activation)?;
                let expected = of(&|a, _| (8. * a).max(0.).min(most));
                close("activation", &cut.to_f32(machine)?, &expected, 0.);
                let grad = elementwise::activate_grad(machine, &y, &cut, activation)?;
                let expected = of(&|a, b| if a > 0. && 8. * a < most { b } else { 0. });
                close("its gradient", &grad.to_f32(machine)?, &expected, 0.);
            }
            let scaled = elementwise::scale(machine, &x, 0.3)?;
            let expected = of(&|a, _| a * 0.3);
            close(
                "scale",
                &scaled.to_f32(machine)?,
                &expected,
                tolerance(real),
            );
            elementwise::add_to(machine, &y, &x)?;
            close(
                "add",
                &y.to_f32(machine)?,
                &of(&|a, b| a + b),
                tolerance(real),
            );
        }
        Ok(())
    });
}

#[test]
fn what_is_no_number_passes_a_relu() {
    on_each_machine(|machine, _| {
        let x = Array::from_f32(machine, &[f32::NAN, -1., 2., 0., f32::NAN])?;
        for activation in [ActivationFunction::Relu, ActivationFunction::Relu6] {
            let y = elementwise::activate(machine, &x, activation)?.to_f32(machine)?;
            assert!(y[0].is_nan() && y[4].is_nan());
            assert_eq!(y[1..4], [0., 2., 0.]);
        }
        Ok(())
    });
}

#[test]
fn bias_residual_and_relu_are_added_to_each_row() {
    on_each_machine(|machine, random| {
        for (real, (rows, channels)) in pairs(Real::ALL, ROWS) {
            let (x, of_x) = made(machine, random, real, rows * channels)?;
            let (r, of_r) = made(machine, random, real, rows * channels)?;
            let (b, bias) = made(machine, random, Real::F32, channels)?;
            let shape = Rows::new(rows, channels);
            let activations = [
                ActivationFunction::Identity,
                ActivationFunction::Relu,
                ActivationFunction::Relu6,
            ];
            for (residual, activation) in pairs(&[false, true], &activations) {
                let after = AfterBias {
                    residual: residual.then_some(&of_r),
                    activation,
                };
                let y = elementwise::add_bias(machine, &of_x, shape, &bias, after)?;
                let value = |i: usize| {
                    let v = x[i] + b[i % channels] + if residual { r[i] } else { 0. };
                    match activation {
                        ActivationFunction::Identity => v,
                        ActivationFunction::Relu => v.max(0.),
                        ActivationFunction::Relu6 => v.clamp(0., 6.),
                    }
                };
                let expected: Vec<f64> = (0..x.len()).map(value).collect();
                close("bias", &y.to_f32(machine)?, &expected, tolerance(real));
            }
        }
        Ok(())
    });
}

/// The sum of `values` over rows.
fn sums(values: impl Iterator<Item = f64>, channels: usize) -> Vec<f64> {
    let mut sums = vec![0.; channels];
    values
        .enumerate()
        .for_each(|(i, v)| sums[i % channels] += v);
    sums
}

#[test]
fn rows_are_summed() {
    on_each_machine(|machine, random| {
        for (real, (rows, channels)) in pairs(Real::ALL, ROWS) {
            let (x, array) = made(machine, random, real, rows * channels)?;
            let found = elementwise::sum_rows(machine, &array, Rows::new(rows, channels))?;
            assert_eq!(found.dtype(), DType::F32);
            let expected = sums(x.iter().copied(), channels);
            close("sums", &found.to_f32(machine)?, &expected, 1e-5);
        }
        Ok(())
    });
}

#[test]
fn layer_scale_and_its_gradients() {
    on_each_machine(|machine, random| {
        for (real, (rows, channels)) in pairs(Real::ALL, ROWS) {
            let shape = Rows::new(rows, channels);
            let (x, of_x) = made(machine, random, real, rows * channels)?;
            let (d, dy) = made(machine, random, real, rows * channels)?;
            let (g, gamma) = made(machine, random, Real::F32, channels)?;
            let times_gamma =
                |v: &[f64]| -> Vec<f64> { (0..v.len()).map(|i| v[i] * g[i % channels]).collect() };
            let y = elementwise::layer_scale(machine, &of_x, shape, &gamma)?;
            close("y", &y.to_f32(machine)?, &times_gamma(&x), tolerance(real));
            let (dx, dgamma) = elementwise::layer_scale_grad(machine, &dy, &of_x, shape, &gamma)?;
            close(
                "dx",
                &dx.to_f32(machine)?,
                &times_gamma(&d),
                tolerance(real),
            );
            let expected = sums(x.iter().zip(&d).map(|(x, d)| x * d), channels);
            close("dgamma", &dgamma.to_f32(machine)?, &expected, 1e-5);
        }
        Ok(())
    });
}

#[test]
fn other_types_are_refused() {
    on_each_machine(|machine, _| {
        let x = Array::from_f32(machine, &[0.; 4])?;
        let y = Array::from_reals(machine, Real::Bf16, &[0.; 4])?;
        let error = elementwise::add_to(machine, &y, &x).err();
        let text = error.map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(text, "add: y: expected 4 of F32, found 4 of Bf16");
        Ok(())
    });
}
