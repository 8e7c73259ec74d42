//! Batch norm's kernels against sums written out in f64.

mod support;

use fgvr_cuda::ops::ActivationFunction;
use fgvr_cuda::ops::Rows;
use fgvr_cuda::ops::batch_norm::{Mask, Norm, Residual};
use fgvr_cuda::{Array, Machine, Real, Result};
use support::{Random, close, on_each_machine};

const EPS: f64 = 1e-5;

/// Odd numbers of rows and channels, channels that fill packs and that do not, more columns than threads.
const SHAPES: &[Rows] = &[
    rows(1, 7, 3),
    rows(1, 300, 8),
    rows(2, 65, 64),
    rows(3, 5, 24),
    rows(1, 1030, 16),
    rows(1, 9, 2056),
    rows(1, 1, 8),
];

const fn rows(groups: usize, rows: usize, channels: usize) -> Rows {
    Rows {
        groups,
        rows,
        channels,
    }
}

/// Values as the machine stores them, in f64.
struct Case {
    rows: Rows,
    x: Vec<f64>,
    r: Vec<f64>,
    dy: Vec<f64>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    arrays: [Array; 5],
}

impl Case {
    fn new(machine: &dyn Machine, random: &mut Random, real: Real, rows: Rows) -> Result<Self> {
        let len = rows.groups * rows.rows * rows.channels;
        // Far from zero, so that a naive sum of squares would fail.
        let x = random.normals(len, 30., 1.);
        let (r, dy) = (random.normals(len, 0., 1.), random.normals(len, 0.3, 1.));
        let (weight, bias) = (
            random.normals(rows.channels, 1., 0.3),
            random.normals(rows.channels, 0., 0.5),
        );
        let arrays = [
            Array::from_reals(machine, real, &x)?,
            Array::from_reals(machine, real, &r)?,
            Array::from_reals(machine, real, &dy)?,
            Array::from_f32(machine, &weight)?,
            Array::from_f32(machine, &bias)?,
        ];
        let stored = |array: &Array| -> Result<Vec<f64>> {
            Ok(array.to_f32(machine)?.into_iter().map(f64::from).collect())
        };
        Ok(Self {
            rows,
            x: stored(&arrays[0])?,
            r: stored(&arrays[1])?,
            dy: stored(&arrays[2])?,
            weight,
            bias,
            arrays,
        })
    }

    fn group(&self, i: usize) -> usize {
        i / (self.rows.rows * self.rows.channels)
    }

    fn channel(&self, i: usize) -> usize {
        i % self.rows.channels
    }

    /// Sums over the rows of each group, (groups, channels).
    fn sums(&self, of: impl Fn(usize) -> f64) -> Vec<f64> {
        let mut sums = vec![0.; self.rows.groups * self.rows.channels];
        for i in 0..self.x.len() {
            sums[self.group(i) * self.rows.channels + self.channel(i)] += of(i);
        }
        sums
    }

    fn at<'a>(&self, values: &'a [f64], i: usize) -> &'a f64 {
        &values[self.group(i) * self.rows.channels + self.channel(i)]
    }

    /// Mean and biased variance.
    fn moments(&self) -> (Vec<f64>, Vec<f64>) {
        let n = self.rows.rows as f64;
        let mean: Vec<f64> = self.sums(|i| self.x[i]).iter().map(|s| s / n).collect();
        let variance = self.sums(|i| (self.x[i] - self.at(&mean, i)).powi(2));
        (mean, variance.iter().map(|s| s / n).collect())
    }

    /// The norm of every value.
    fn normed(&self) -> Vec<f64> {
        let (mean, variance) = self.moments();
        let one = |i: usize| {
            let inverse = 1. / (self.at(&variance, i) + EPS).sqrt();
            let c = self.channel(i);
            (self.x[i] - self.at(&mean, i)) * inverse * f64::from(self.weight[c])
                + f64::from(self.bias[c])
        };
        (0..self.x.len()).map(one).collect()
    }

    /// Gradients of weight, bias and x, given the gradient at the norm's output.
    fn gradients(&self, g: &[f64]) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        let (mean, variance) = self.moments();
        let inverse: Vec<f64> = variance.iter().map(|v| 1. / (v + EPS).sqrt()).collect();
        let hat = |i: usize| (self.x[i] - self.at(&mean, i)) * self.at(&inverse, i);
        let (sum, product) = (self.sums(|i| g[i]), self.sums(|i| g[i] * hat(i)));
        let n = self.rows.rows as f64;
        let one = |i: usize| {
            let scale = self.at(&inverse, i) * f64::from(self.weight[self.channel(i)]);
            scale * (g[i] - self.at(&sum, i) / n - hat(i) * self.at(&product, i) / n)
        };
        let fold = |sums: &[f64]| {
            let channels = self.rows.channels;
            let of = |c: usize| sums.chunks(channels).map(|group| group[c]).sum::<f64>();
            (0..channels).map(of).collect::<Vec<_>>()
        };
        (
            fold(&product),
            fold(&sum),
            (0..self.x.len()).map(one).collect(),
        )
    }
}

/// What a value of this type may differ by, for values of about 1.
fn tolerance(real: Real) -> f64 {
    match real {
        Real::F32 => 2e-5,
        Real::Bf16 => 1e-2,
    }
}

#[test]
fn forward_is_the_norm_with_residual_and_relu() {
    on_each_machine(|machine, random| {
        for (real, rows) in Real::ALL
            .iter()
            .flat_map(|real| SHAPES.iter().map(move |rows| (*real, *rows)))
        {
            let case = Case::new(machine, random, real, rows)?;
            let [x, r, _, weight, bias] = &case.arrays;
            let made = Norm::of_batch(machine, x, rows, weight, bias, EPS)?;
            let (mean, variance) = case.moments();
            close("mean", &made.mean.to_f32(machine)?, &mean, 4e-6);
            close("variance", &made.variance.to_f32(machine)?, &variance, 1e-4);
            let normed = case.normed();
            let relu = |v: f64| v.max(0.);
            let y = made.apply(machine, x, Residual::None, ActivationFunction::Identity)?;
            // One row has no variance: what little rounding leaves is magnified by 1/sqrt(eps).
            let tolerance = tolerance(real) * if rows.rows == 1 { 30. } else { 1. };
            close("norm", &y.to_f32(machine)?, &normed, tolerance);
            // Twice the values, so that some are above 6 where there are many.
            let y = made.apply(
                machine,
                x,
                Residual::Normed(x, &made),
                ActivationFunction::Relu6,
            )?;
            let expected: Vec<f64> = normed.iter().map(|v| (2. * v).clamp(0., 6.)).collect();
            close(
                "norm + norm, ReLU6",
                &y.to_f32(machine)?,
                &expected,
                2. * tolerance,
            );
            let y = made.apply(machine, x, Residual::Map(r), ActivationFunction::Relu)?;
            let expected: Vec<f64> = normed
                .iter()
                .zip(&case.r)
                .map(|(v, r)| relu(v + r))
                .collect();
            close("norm + residual", &y.to_f32(machine)?, &expected, tolerance);
            let y = made.apply(
                machine,
                x,
                Residual::Normed(x, &made),
                ActivationFunction::Relu,
            )?;
            let expected: Vec<f64> = normed.iter().map(|v| relu(2. * v)).collect();
            close(
                "norm + norm",
                &y.to_f32(machine)?,
                &expected,
                2. * tolerance,
            );
        }
        Ok(())
    });
}

#[test]
fn gradients_are_those_of_the_norm() {
    on_each_machine(|machine, random| {
        for (real, rows) in Real::ALL
            .iter()
            .flat_map(|real| SHAPES.iter().map(move |rows| (*real, *rows)))
        {
            if rows.rows == 1 {
                continue;
            }
            let case = Case::new(machine, random, real, rows)?;
            let [x, r, dy, weight, bias] = &case.arrays;
            let made = Norm::of_batch(machine, x, rows, weight, bias, EPS)?;
            let y = made.apply(machine, x, Residual::Map(r), ActivationFunction::Relu)?;
            let output = y.to_f32(machine)?;
            let normed = case.normed();
            let recomputed = [
                ActivationFunction::Identity,
                ActivationFunction::Relu,
                ActivationFunction::Relu6,
            ]
            .map(Mask::Recompute);
            for mask in recomputed.into_iter().chain([Mask::Output(&y)]) {
                let passes = |i: usize| match mask {
                    Mask::Recompute(ActivationFunction::Identity) => true,
                    Mask::Recompute(ActivationFunction::Relu) => normed[i] > 0.,
                    Mask::Recompute(ActivationFunction::Relu6) => normed[i] > 0. && normed[i] < 6.,
                    Mask::Output(_) => output[i] > 0.,
                };
                let g: Vec<f64> = (0..case.dy.len())
                    .map(|i| if passes(i) { case.dy[i] } else { 0. })
                    .collect();
                // Rounding may put a value on the other side of zero or six.
                let near = normed
                    .iter()
                    .any(|v| v.abs() < 1e-4 || (v - 6.).abs() < 1e-4);
                let near = near && matches!(mask, Mask::Recompute(_));
                if near {
                    continue;
                }
                let kept = Array::new(machine, x.dtype(), x.len())?;
                let of_norm = made.gradients(machine, dy, x, mask, Some(&kept))?;
                let masked: Vec<f64> = kept.to_f32(machine)?.into_iter().map(f64::from).collect();
                assert_eq!(masked, g, "masked gradient");
                let (of_weight, of_bias, of_x) = case.gradients(&g);
                let size = (rows.groups * rows.rows) as f64;
                close(
                    "weight",
                    &of_norm.weight.to_f32(machine)?,
                    &of_weight,
                    6e-6 * size.max(20.),
                );
                close(
                    "bias",
                    &of_norm.bias.to_f32(machine)?,
                    &of_bias,
                    6e-6 * size.max(20.),
                );
                let dx =
                    made.grad_input(machine, &kept, x, &of_norm, ActivationFunction::Identity)?;
                close("dx", &dx.to_f32(machine)?, &of_x, 4. * tolerance(real));
                if let Mask::Recompute(activation) = mask {
                    let again = made.grad_input(machine, dy, x, &of_norm, activation)?;
                    assert_eq!(
                        again.to_f32(machine)?,
                        dx.to_f32(machine)?,
                        "mask recomputed"
                    );
                }
            }
        }
        Ok(())
    });
}

#[test]
fn constant_statistics_have_no_gradient() {
    on_each_machine(|machine, random| {
        let rows = rows(1, 40, 16);
        let case = Case::new(machine, random, Real::F32, rows)?;
        let [x, _, dy, weight, bias] = &case.arrays;
        let (mean, variance) = (random.normals(16, 29., 1.), random.normals(16, 2., 0.1));
        let running = [
            Array::from_f32(machine, &mean)?,
            Array::from_f32(machine, &variance)?,
        ];
        let norm = Norm::constant(machine, rows, [&running[0], &running[1]], weight, bias, EPS)?;
        let scale = |c: usize| f64::from(case.weight[c]) / (f64::from(variance[c]) + EPS).sqrt();
        let y = norm.apply(machine, x, Residual::None, ActivationFunction::Identity)?;
        let value = |i: usize| {
            (case.x[i] - f64::from(mean[i % 16])) * scale(i % 16) + f64::from(case.bias[i % 16])
        };
        close(
            "y",
            &y.to_f32(machine)?,
            &(0..case.x.len()).map(value).collect::<Vec<_>>(),
            1e-5,
        );
        let of_norm = norm.gradients(
            machine,
            dy,
            x,
            Mask::Recompute(ActivationFunction::Identity),
            None,
        )?;
        let dx = norm.grad_input(machine, dy, x, &of_norm, ActivationFunction::Identity)?;
        let expected: Vec<f64> = (0..case.dy.len())
            .map(|i| case.dy[i] * scale(i % 16))
            .collect();
        close("dx", &dx.to_f32(machine)?, &expected, 1e-6);
        Ok(())
    });
}

#[test]
fn running_statistics_move_by_the_momentum() {
    on_each_machine(|machine, random| {
        let rows = rows(2, 30, 6);
        let case = Case::new(machine, random, Real::F32, rows)?;
        let made = Norm::of_batch(
            machine,
            &case.arrays[0],
            rows,
            &case.arrays[3],
            &case.arrays[4],
            EPS,
        )?;
        let before = (random.normals(6, 0., 1.), random.normals(6, 2., 0.1));
        let running = [
            Array::from_f32(machine, &before.0)?,
            Array::from_f32(machine, &before.1)?,
        ];
        made.update_running(machine, [&running[0], &running[1]], 0.1)?;
        let (mean, variance) = case.moments();
        let moved = |before: &[f32], now: &[f64], factor: f64| -> Vec<f64> {
            let of =
                |c: usize| 0.9 * f64::from(before[c]) + 0.1 * factor * (now[c] + now[6 + c]) / 2.;
            (0..6).map(of).collect()
        };
        close(
            "running mean",
            &running[0].to_f32(machine)?,
            &moved(&before.0, &mean, 1.),
            1e-5,
        );
        let unbias = 30. / 29.;
        close(
            "running variance",
            &running[1].to_f32(machine)?,
            &moved(&before.1, &variance, unbias),
            1e-5,
        );
        Ok(())
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    on_each_machine(|machine, _| {
        let x = Array::from_f32(machine, &[0.; 12])?;
        let weight = Array::from_f32(machine, &[1.; 4])?;
        let error = Norm::of_batch(machine, &x, rows(1, 4, 4), &weight, &weight, EPS).err();
        let text = error.map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(
            text,
            "batch norm statistics: x: expected 16 of F32, found 12 of F32"
        );
        Ok(())
    });
}
