//! Softmax's kernels against the equation written out in f64.

mod support;

use fgvr_cuda::ops::Rows;
use fgvr_cuda::ops::softmax::{backward, forward};
use fgvr_cuda::{Array, Real};
use support::{close, on_each_machine, stored};

const SHAPES: &[(usize, usize)] = &[
    (5, 1),
    (13, 10),
    (9, 200),
    (4, 197),
    (3, 1024),
    (4, 1025),
    (2, 3072),
    (3, 5003),
];

#[test]
fn forward_and_gradient_are_those_of_the_equation() {
    on_each_machine(|machine, random| {
        for (real, (n, c)) in Real::ALL
            .iter()
            .flat_map(|real| SHAPES.iter().map(move |shape| (*real, *shape)))
        {
            let x = Array::from_reals(machine, real, &random.normals(n * c, 50., 8.))?;
            let dy = Array::from_reals(machine, real, &random.normals(n * c, 1., 1.))?;
            let y = forward(machine, &x, Rows::new(n, c))?;
            let dx = backward(machine, &dy, &y, Rows::new(n, c))?;
            let found = y.to_f32(machine)?;
            let (x, dy, y) = (
                stored(machine, &x)?,
                stored(machine, &dy)?,
                stored(machine, &y)?,
            );
            let (mut value, mut of_x) = (vec![], vec![]);
            for (x, (dy, y)) in x.chunks(c).zip(dy.chunks(c).zip(y.chunks(c))) {
                let top = x.iter().copied().fold(f64::MIN, f64::max);
                let sum: f64 = x.iter().map(|v| (v - top).exp()).sum();
                value.extend(x.iter().map(|v| (v - top).exp() / sum));
                let mean: f64 = dy.iter().zip(y).map(|(d, y)| d * y).sum();
                of_x.extend(dy.iter().zip(y).map(|(d, y)| y * (d - mean)));
            }
            let tolerance = match real {
                Real::F32 => 5e-6,
                Real::Bf16 => 4e-3,
            };
            close("y", &found, &value, tolerance);
            close("dx", &dx.to_f32(machine)?, &of_x, 2. * tolerance);
        }
        Ok(())
    });
}

#[test]
fn rows_without_a_number_become_no_number_and_minus_infinity_gets_no_share() {
    on_each_machine(|machine, random| {
        for c in [8, 37, 1030] {
            let mut x = random.normals(5 * c, 0., 1.);
            x[c / 2] = f32::NAN;
            x[c + c - 1] = f32::INFINITY;
            x[2 * c..3 * c].fill(f32::NEG_INFINITY);
            x[3 * c..3 * c + 5].fill(f32::NEG_INFINITY);
            x[4 * c..].fill(3.);
            let y = forward(machine, &Array::from_f32(machine, &x)?, Rows::new(5, c))?;
            let y = y.to_f32(machine)?;
            assert!(y[..3 * c].iter().all(|v| v.is_nan()), "{c}: no number");
            assert_eq!(y[3 * c..3 * c + 5], [0.; 5]);
            let sum: f32 = y[3 * c..4 * c].iter().sum();
            assert!((sum - 1.).abs() < 1e-5, "{c}: {sum}");
            close("equal", &y[4 * c..], &vec![1. / c as f64; c], 1e-7);
        }
        Ok(())
    });
}
