//! L2 normalisation's kernels against the equation written out in f64.

mod support;

use fgvr_cuda::ops::Rows;
use fgvr_cuda::ops::l2_normalise::{backward, forward};
use fgvr_cuda::{Array, Real};
use support::{close, on_each_machine, stored};

const SHAPES: &[(usize, usize)] = &[(5, 3), (13, 128), (9, 264), (3, 1024), (4, 1025), (2, 2048)];

#[test]
fn forward_and_gradient_are_those_of_the_equation() {
    on_each_machine(|machine, random| {
        for (real, (n, c)) in Real::ALL
            .iter()
            .flat_map(|real| SHAPES.iter().map(move |shape| (*real, *shape)))
        {
            let shape = Rows::new(n, c);
            // The first row is shorter than eps: what scales it is a constant.
            for eps in [1e-12, 0.5] {
                let mut values = random.normals(n * c, 0.1, 1.);
                values[..c].iter_mut().for_each(|v| *v *= 1e-3);
                let x = Array::from_reals(machine, real, &values)?;
                let dy = Array::from_reals(machine, real, &random.normals(n * c, 0., 1.))?;
                let y = forward(machine, &x, shape, eps)?;
                let dx = backward(machine, &dy, &x, shape, eps)?;
                let (x, dy) = (stored(machine, &x)?, stored(machine, &dy)?);
                let (mut value, mut of_x, mut largest) = (vec![], vec![], 1f64);
                for (x, dy) in x.chunks(c).zip(dy.chunks(c)) {
                    let norm = x.iter().map(|v| v * v).sum::<f64>().sqrt();
                    let by = norm.max(eps);
                    let dot: f64 = x.iter().zip(dy).map(|(x, d)| x * d).sum();
                    let along = if norm <= eps { 0. } else { dot / (norm * norm) };
                    value.extend(x.iter().map(|v| v / by));
                    of_x.extend(x.iter().zip(dy).map(|(x, d)| (d - along * x) / by));
                    largest = largest.max(1. / by);
                }
                let tolerance = match real {
                    Real::F32 => 1e-6,
                    Real::Bf16 => 4e-3,
                };
                close("y", &y.to_f32(machine)?, &value, tolerance);
                close("dx", &dx.to_f32(machine)?, &of_x, tolerance * largest);
            }
        }
        Ok(())
    });
}

#[test]
fn lengths_that_no_float_can_square_are_right_and_zero_stays() {
    on_each_machine(|machine, _| {
        for c in [4, 5] {
            let mut values = vec![0.; 3 * c];
            values[..c].fill(1e-25);
            values[c..2 * c].fill(1e25);
            let shape = Rows::new(3, c);
            let x = Array::from_f32(machine, &values)?;
            let y = forward(machine, &x, shape, 1e-30)?.to_f32(machine)?;
            let one = 1. / (c as f64).sqrt();
            let expected: Vec<f64> = (0..3 * c)
                .map(|i| if i < 2 * c { one } else { 0. })
                .collect();
            close("y", &y, &expected, 1e-6);
        }
        Ok(())
    });
}
