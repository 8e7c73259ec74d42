//! Rows of length one, the way back, and products of rows, against f64.

mod support;

use fgvr_cuda::ops::Rows;
use fgvr_cuda::ops::unit_rows::{row_products, unit_rows};
use fgvr_cuda::{Array, DType, Real};
use support::{close, close_together, on_each_machine, pairs, rounded};

const SHORTEST: f64 = 1e-6;

#[test]
fn rows_and_their_way_back_are_those_of_the_equations() {
    on_each_machine(|machine, random| {
        // A row of one value has no way back but rounding.
        for (real, (rows, width)) in pairs(Real::ALL, &[(1, 9), (3, 7), (5, 33), (4, 300)]) {
            let mut z = random.normals(rows * width, 0.1, 1.);
            // The last row is too short to have a direction.
            let last = (rows - 1) * width;
            if rows > 1 {
                z[last..].iter_mut().for_each(|v| *v *= 1e-8);
            }
            let (g, keys) = (
                random.normals(rows * width, 0., 1.),
                random.normals(rows * width, 0., 1.),
            );
            let shares = random.normals(rows, 0., 1.);
            let shape = Rows::new(rows, width);
            let made = unit_rows(
                machine,
                &Array::from_reals(machine, real, &z)?,
                shape,
                SHORTEST,
            )?;
            let there = |values: &[f32]| Array::from_f32(machine, values);
            let (of_rows, of_keys, of_shares) = (there(&g)?, there(&keys)?, there(&shares)?);
            let dz = made.gradient(machine, Some(&of_rows), [&of_shares, &of_keys])?;
            let without = made.gradient(machine, None, [&of_shares, &of_keys])?;
            assert_eq!(dz.dtype(), DType::from(real));

            let z: Vec<f64> = rounded(real, &z).iter().map(|v| f64::from(*v)).collect();
            let (mut unit, mut expected, mut expected_without) = (vec![], vec![], vec![]);
            for row in 0..rows {
                let at = row * width..(row + 1) * width;
                let length = z[at.clone()].iter().map(|v| v * v).sum::<f64>().sqrt();
                let by = if length <= SHORTEST { 0. } else { 1. / length };
                let u: Vec<f64> = z[at.clone()].iter().map(|v| v * by).collect();
                for (with, into) in [(1., &mut expected), (0., &mut expected_without)] {
                    let sum = |i: usize| {
                        with * f64::from(g[row * width + i])
                            + f64::from(shares[row]) * f64::from(keys[row * width + i])
                    };
                    let along: f64 = u.iter().enumerate().map(|(i, u)| u * sum(i)).sum();
                    into.extend(u.iter().enumerate().map(|(i, u)| (sum(i) - u * along) * by));
                }
                unit.extend(u);
            }
            let share = match real {
                Real::F32 => 1e-5,
                Real::Bf16 => 5e-3,
            };
            close("unit", &made.rows.to_f32(machine)?, &unit, 1e-6);
            close_together("dz", &dz.to_f32(machine)?, &expected, share);
            close_together("dz", &without.to_f32(machine)?, &expected_without, share);

            let products = row_products(machine, &of_rows, &of_keys, shape)?;
            let expected: Vec<f64> = (g.chunks(width).zip(keys.chunks(width)))
                .map(|(a, b)| {
                    a.iter()
                        .zip(b)
                        .map(|(a, b)| f64::from(*a) * f64::from(*b))
                        .sum()
                })
                .collect();
            close("products", &products.to_f32(machine)?, &expected, 1e-5);
        }
        Ok(())
    });
}

#[test]
fn what_is_no_number_stays_in_its_row() {
    on_each_machine(|machine, _| {
        let z = Array::from_f32(machine, &[f32::NAN, 1., 3., 4.])?;
        let made = unit_rows(machine, &z, Rows::new(2, 2), SHORTEST)?;
        let rows = made.rows.to_f32(machine)?;
        assert!(rows[0].is_nan() && rows[1].is_nan());
        assert!((rows[2] - 0.6).abs() < 1e-6 && (rows[3] - 0.8).abs() < 1e-6);
        Ok(())
    });
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    on_each_machine(|machine, _| {
        let z = Array::from_f32(machine, &[0.; 6])?;
        let refused = unit_rows(machine, &z, Rows::new(2, 4), SHORTEST);
        let text = refused.err().map(|error| error.to_string());
        assert_eq!(
            text.as_deref(),
            Some("unit rows: z: expected 8 of F32, found 6 of F32")
        );
        let made = unit_rows(machine, &z, Rows::new(2, 3), SHORTEST)?;
        assert!(made.gradient(machine, None, [&z, &z]).is_err());
        assert!(row_products(machine, &z, &made.by_length, Rows::new(2, 3)).is_err());
        Ok(())
    });
}
