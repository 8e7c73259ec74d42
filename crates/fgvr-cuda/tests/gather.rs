//! Gathered rows against indices written out.

mod support;

use fgvr_cuda::ops::Rows;
use fgvr_cuda::ops::gather::gather_rows;
use fgvr_cuda::{Array, Machine, Real, Result};
use support::{on_each_machine, pairs, rounded};

/// (rows, values of each): packs and not, less than a warp, several pieces a row.
const SHAPES: &[[usize; 2]] = &[
    [5, 8],
    [3, 7],
    [1, 1],
    [9, 100],
    [4, 16_392],
    [3, 2_051],
    [70, 64],
    [2, 0],
];

#[test]
fn rows_come_in_the_order_of_the_indices() {
    on_each_machine(|machine, random| {
        for (real, [rows, channels]) in pairs(Real::ALL, SHAPES) {
            let x = random.normals(rows * channels, 0., 1.);
            let on_machine = Array::from_reals(machine, real, &x)?;
            let x = rounded(real, &x);
            // Reversed with a row left out and one twice, one alone, none.
            let reversed: Vec<u32> = (1..rows as u32).rev().chain([0, 0]).collect();
            for index in [reversed, vec![rows as u32 - 1], vec![]] {
                let on = Array::from_u32(machine, &index)?;
                let y = gather_rows(machine, &on_machine, &on, Rows::new(rows, channels))?;
                let row = |i: &u32| &x[*i as usize * channels..][..channels];
                let expected: Vec<f32> = index.iter().flat_map(row).copied().collect();
                assert_eq!(y.to_f32(machine)?, expected, "{rows} of {channels}");
            }
        }
        Ok(())
    });
}

#[test]
fn an_index_beyond_the_rows_gives_what_is_no_number() {
    on_each_machine(|machine, _| {
        for (real, channels) in pairs(Real::ALL, &[8, 3]) {
            let x = Array::from_reals(machine, real, &vec![1.; 2 * channels])?;
            let index = Array::from_u32(machine, &[1, 2, u32::MAX, 0])?;
            let y = gather_rows(machine, &x, &index, Rows::new(2, channels))?.to_f32(machine)?;
            for (i, value) in y.iter().enumerate() {
                assert_eq!(value.is_nan(), [1, 2].contains(&(i / channels)), "{i}");
            }
        }
        Ok(())
    });
}

#[test]
fn what_is_no_number_is_moved_as_it_is() {
    on_each_machine(|machine, _| {
        let values = [
            f32::NAN,
            f32::INFINITY,
            -0.,
            1.,
            f32::MIN_POSITIVE,
            0.,
            0.,
            0.,
        ];
        let x = Array::from_f32(machine, &values)?;
        let index = Array::from_u32(machine, &[1, 0])?;
        let y = gather_rows(machine, &x, &index, Rows::new(2, 4))?.to_f32(machine)?;
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&y[4..]), bits(&values[..4]));
        Ok(())
    });
}

#[test]
fn rows_of_other_lengths_are_refused() {
    on_each_machine(|machine: &dyn Machine, _| -> Result<()> {
        let x = Array::from_f32(machine, &[0.; 12])?;
        let index = Array::from_u32(machine, &[0])?;
        let error = gather_rows(machine, &x, &index, Rows::new(3, 5)).err();
        let text = error.map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(text, "gather rows: x: expected 15 of F32, found 12 of F32");
        assert!(gather_rows(machine, &x, &x, Rows::new(3, 4)).is_err());
        assert!(gather_rows(machine, &index, &index, Rows::new(1, 1)).is_err());
        Ok(())
    });
}
