//! The losses of BYOL and SimSiam and their gradient against f64.

mod support;

use fgvr_cuda::ops::cosine::{Compared, Loss, cosine};
use fgvr_cuda::{Array, Machine, Result};
use support::{close, close_together, on_each_machine, pairs};

const SHORTEST: f64 = 1e-6;
const WEIGHT: f32 = 1.5;

/// The row over its length, zero where that is no longer than SHORTEST; and the length.
fn unit(row: &[f32]) -> (Vec<f64>, f64) {
    let row: Vec<f64> = row.iter().map(|v| f64::from(*v)).collect();
    let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
    match length <= SHORTEST {
        true => (vec![0.; row.len()], 0.),
        false => (row.iter().map(|v| v / length).collect(), length),
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Mean loss, mean cosine, gradient of the loss times WEIGHT.
fn expected(q: &[f32], k: &[f32], width: usize, loss: Loss) -> (f64, f64, Vec<f64>) {
    let rows = (q.len() / width) as f64;
    let (mut mean, mut cosines, mut gradient) = (0., 0., Vec::new());
    for (q, k) in q.chunks(width).zip(k.chunks(width)) {
        let ((q, length), (k, _)) = (unit(q), unit(k));
        let cos = dot(&q, &k);
        // By the normalised row, and from there through the normalisation.
        let (value, at_unit): (f64, Vec<f64>) = match loss {
            Loss::Distance => {
                let off: Vec<f64> = q.iter().zip(&k).map(|(q, k)| q - k).collect();
                (dot(&off, &off), off.iter().map(|v| 2. * v).collect())
            }
            Loss::HalfNegative => (-0.5 * cos, k.iter().map(|v| -0.5 * v).collect()),
        };
        mean += value / rows;
        cosines += cos / rows;
        let along = dot(&at_unit, &q);
        let slope = |(g, q): (&f64, &f64)| match length == 0. {
            true => 0.,
            false => f64::from(WEIGHT) / rows * (g - along * q) / length,
        };
        gradient.extend(at_unit.iter().zip(&q).map(slope));
    }
    (mean, cosines, gradient)
}

fn check(machine: &dyn Machine, q: &[f32], k: &[f32], width: usize, loss: Loss) -> Result<()> {
    let [predictions, targets] = [q, k].map(|rows| Array::from_f32(machine, rows));
    let compared = Compared {
        predictions: &predictions?,
        targets: &targets?,
        rows: q.len() / width,
        width,
        shortest: SHORTEST,
    };
    let found = cosine(machine, &compared, loss, WEIGHT)?;
    let (mean, cosines, gradient) = expected(q, k, width, loss);
    let what = format!("{loss:?}, width {width}");
    close(&what, &found.loss.to_f32(machine)?, &[mean], 1e-6);
    close(&what, &found.cosine.to_f32(machine)?, &[cosines], 1e-6);
    let found = found.gradient.to_f32(machine)?;
    // A row of one value has no gradient but what rounding leaves.
    match width {
        1 => close(&what, &found, &gradient, 1e-6),
        _ => close_together(&what, &found, &gradient, 2e-6),
    }
    Ok(())
}

#[test]
fn loss_and_gradient_are_those_of_the_equation() {
    on_each_machine(|machine, random| {
        let losses = [Loss::Distance, Loss::HalfNegative];
        for ((rows, width), loss) in pairs(
            &[
                (1, 1),
                (5, 7),
                (3, 8),
                (4, 256),
                (3, 2048),
                (300, 4),
                (2, 1031),
            ],
            &losses,
        ) {
            let mut q = random.normals(rows * width, 0.1, 1.);
            let k = random.normals(rows * width, 0.1, 2.);
            check(machine, &q, &k, width, loss)?;
            // Almost alike: what is left of the loss is a small difference.
            let near = random.normals(rows * width, 0., 1e-3);
            q.iter_mut()
                .zip(&k)
                .zip(near)
                .for_each(|((q, k), off)| *q = 0.5 * k + off);
            check(machine, &q, &k, width, loss)?;
        }
        Ok(())
    });
}

#[test]
fn short_rows_are_zero_and_get_no_gradient() {
    on_each_machine(|machine, _| {
        for loss in [Loss::Distance, Loss::HalfNegative] {
            // A short prediction, a short target, both, and one that is just long enough.
            let q = [1e-7, 0., 3., 4., 0., 0., 2e-6, 1e-6];
            let k = [1., 2., 0., 1e-7, 0., 0., -1., 2.];
            check(machine, &q, &k, 2, loss)?;
        }
        Ok(())
    });
}

#[test]
fn what_is_no_number_shows() {
    on_each_machine(|machine, _| {
        let [q, k] = [[1., f32::NAN, 1., 2.], [1.; 4]].map(|v| Array::from_f32(machine, &v));
        let compared = Compared {
            predictions: &q?,
            targets: &k?,
            rows: 2,
            width: 2,
            shortest: SHORTEST,
        };
        let found = cosine(machine, &compared, Loss::Distance, 1.)?;
        assert!(found.loss.to_f32(machine)?[0].is_nan());
        let gradient = found.gradient.to_f32(machine)?;
        assert!(gradient[..2].iter().all(|v| v.is_nan()), "{gradient:?}");
        assert!(gradient[2..].iter().all(|v| v.is_finite()), "{gradient:?}");
        Ok(())
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    on_each_machine(|machine, _| {
        let four = Array::from_f32(machine, &[1.; 4])?;
        let text = |rows, width, shortest| {
            let compared = Compared {
                predictions: &four,
                targets: &four,
                rows,
                width,
                shortest,
            };
            let made = cosine(machine, &compared, Loss::Distance, 1.);
            made.err().map(|e| e.to_string()).unwrap_or_default()
        };
        assert_eq!(
            text(0, 4, 0.),
            "cosine: rows and width: expected both above 0, found 0 and 4"
        );
        assert_eq!(
            text(2, 3, 0.),
            "cosine: predictions: expected 6 of F32, found 4 of F32"
        );
        assert_eq!(
            text(2, 2, -1.),
            "cosine: shortest length: expected a finite number, 0 or more, found -1"
        );
        Ok(())
    });
}
