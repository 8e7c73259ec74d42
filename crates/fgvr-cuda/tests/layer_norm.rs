//! Layer norm's kernels against the equation written out in f64.

mod support;

use fgvr_cuda::ops::Rows;
use fgvr_cuda::ops::layer_norm::{backward, forward};
use fgvr_cuda::{Array, Real};
use support::{close, on_each_machine, stored};

const EPS: f64 = 1e-6;

/// Rows of packs and odd ones, longer than a warp holds, more rows than one slab.
const SHAPES: &[Rows] = &[
    Rows::new(5, 3),
    Rows::new(11, 24),
    Rows::new(9, 192),
    Rows::new(300, 40),
    Rows::new(3, 1024),
    Rows::new(4, 1025),
    Rows::new(5, 1040),
    Rows::new(150, 7),
];

#[test]
fn forward_and_gradients_are_those_of_the_equation() {
    on_each_machine(|machine, random| {
        for (real, shape) in Real::ALL
            .iter()
            .flat_map(|real| SHAPES.iter().map(move |rows| (*real, *rows)))
        {
            let (n, c) = (shape.rows, shape.channels);
            // Far from zero, so that a naive sum of squares would fail.
            let x = Array::from_reals(machine, real, &random.normals(n * c, 20., 1.5))?;
            let dy = Array::from_reals(machine, real, &random.normals(n * c, 0.2, 1.))?;
            let weight = Array::from_f32(machine, &random.normals(c, 1., 0.3))?;
            let bias = Array::from_f32(machine, &random.normals(c, 0., 0.5))?;
            let (y, kept) = forward(machine, &x, shape, [&weight, &bias], EPS)?;
            let made = backward(machine, &dy, &x, shape, &weight, &kept)?;

            let [x, dy, weight, bias] = [&x, &dy, &weight, &bias].map(|a| stored(machine, a));
            let (x, dy, weight, bias) = (x?, dy?, weight?, bias?);
            let (mut means, mut inverses) = (vec![], vec![]);
            let (mut expected, mut of_x) = (vec![], vec![]);
            let (mut of_weight, mut of_bias) = (vec![0.; c], vec![0.; c]);
            for (x, dy) in x.chunks(c).zip(dy.chunks(c)) {
                let count = c as f64;
                let mean = x.iter().sum::<f64>() / count;
                let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
                let inverse = 1. / (variance + EPS).sqrt();
                let hat: Vec<f64> = x.iter().map(|v| (v - mean) * inverse).collect();
                let g: Vec<f64> = dy.iter().zip(&weight).map(|(d, w)| d * w).collect();
                let average = g.iter().sum::<f64>() / count;
                let slope = g.iter().zip(&hat).map(|(g, h)| g * h).sum::<f64>() / count;
                for i in 0..c {
                    expected.push(hat[i] * weight[i] + bias[i]);
                    of_x.push((g[i] - average - hat[i] * slope) * inverse);
                    of_weight[i] += dy[i] * hat[i];
                    of_bias[i] += dy[i];
                }
                means.push(mean);
                inverses.push(inverse);
            }
            // A narrow row may have little variance, which magnifies the rounding of x.
            let narrow = inverses.iter().copied().fold(1., f64::max);
            let tolerance = match real {
                Real::F32 => 1e-5 * narrow,
                Real::Bf16 => 1e-2,
            };
            close("mean", &kept.mean.to_f32(machine)?, &means, 1e-6);
            close(
                "inverse",
                &kept.inverse.to_f32(machine)?,
                &inverses,
                1e-5 * narrow * narrow,
            );
            close(
                "y",
                &y.to_f32(machine)?,
                &expected,
                tolerance.max(1e-5 * narrow),
            );
            let of_x_allowed = tolerance.max(1e-5 * narrow) * narrow * 4.;
            close("dx", &made.x.to_f32(machine)?, &of_x, of_x_allowed);
            let sums = 1e-5 * narrow * (n as f64).sqrt();
            close("dweight", &made.weight.to_f32(machine)?, &of_weight, sums);
            close("dbias", &made.bias.to_f32(machine)?, &of_bias, sums);
        }
        Ok(())
    });
}

#[test]
fn a_row_with_what_is_no_number_spoils_no_other() {
    on_each_machine(|machine, random| {
        for c in [16, 5] {
            let mut values = random.normals(3 * c, 0., 1.);
            values[c] = f32::NAN;
            let x = Array::from_f32(machine, &values)?;
            let (one, zero) = (vec![1.; c], vec![0.; c]);
            let weight = Array::from_f32(machine, &one)?;
            let bias = Array::from_f32(machine, &zero)?;
            let (y, _) = forward(machine, &x, Rows::new(3, c), [&weight, &bias], EPS)?;
            let y = y.to_f32(machine)?;
            let spoiled: Vec<bool> = y.iter().map(|v| v.is_nan()).collect();
            let expected: Vec<bool> = (0..3 * c).map(|i| i / c == 1).collect();
            assert_eq!(spoiled, expected);
        }
        Ok(())
    });
}

#[test]
fn gradients_of_no_rows_are_zero_and_what_does_not_fit_is_refused() {
    on_each_machine(|machine, _| {
        let (none, one) = (
            Array::from_f32(machine, &[])?,
            Array::from_f32(machine, &[1.; 4])?,
        );
        let (_, kept) = forward(machine, &none, Rows::new(0, 4), [&one, &one], EPS)?;
        let made = backward(machine, &none, &none, Rows::new(0, 4), &one, &kept)?;
        assert_eq!(made.weight.to_f32(machine)?, [0.; 4]);
        assert_eq!(made.bias.to_f32(machine)?, [0.; 4]);
        let error = forward(machine, &one, Rows::new(2, 4), [&one, &one], EPS).err();
        let text = error.map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(text, "layer norm: x: expected 8 of F32, found 4 of F32");
        Ok(())
    });
}
