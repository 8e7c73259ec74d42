//! Whether arrays are finite, wherever the one value is that is not.

mod support;

use fgvr_cuda::ops::finite::all_finite;
use fgvr_cuda::{Array, DType, Machine, Real, Result};
use support::on_each_machine;

fn answer(machine: &dyn Machine, arrays: &[Vec<f32>]) -> Result<u32> {
    let held: Result<Vec<Array>> = (arrays.iter())
        .map(|values| Array::from_f32(machine, values))
        .collect();
    let held = held?;
    let found = all_finite(machine, &held.iter().collect::<Vec<_>>())?;
    assert_eq!((found.dtype(), found.len()), (DType::U32, 1));
    Ok(found.to_u32(machine)?[0])
}

#[test]
fn one_value_that_is_not_finite_is_found_wherever_it_is() {
    on_each_machine(|machine, random| {
        // One block; several of one array; more arrays than a launch takes, some without values.
        let cases: &[&[usize]] = &[
            &[1],
            &[5, 3],
            &[9001],
            &[1, 0, 4096, 7, 4097, 0, 2, 1, 3, 5000, 1],
        ];
        for lens in cases {
            let mut arrays: Vec<Vec<f32>> = lens
                .iter()
                .map(|len| random.normals(*len, 0., 1e30))
                .collect();
            assert_eq!(answer(machine, &arrays)?, 1, "{lens:?}");
            for (of, len) in lens.iter().enumerate().filter(|(_, len)| **len > 0) {
                let wrong = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
                for (at, value) in [0, len / 2, len - 1].into_iter().zip(wrong) {
                    let before = std::mem::replace(&mut arrays[of][at], value);
                    assert_eq!(
                        answer(machine, &arrays)?,
                        0,
                        "{lens:?}: {value} at {of}, {at}"
                    );
                    arrays[of][at] = before;
                }
            }
        }
        Ok(())
    });
}

#[test]
fn the_largest_and_smallest_numbers_are_finite() {
    on_each_machine(|machine, _| {
        let numbers = vec![f32::MAX, f32::MIN, f32::MIN_POSITIVE / 2., -0.];
        assert_eq!(answer(machine, &[numbers])?, 1);
        Ok(())
    });
}

#[test]
fn no_values_are_finite() {
    on_each_machine(|machine, _| {
        assert_eq!(answer(machine, &[])?, 1);
        assert_eq!(answer(machine, &[vec![], vec![]])?, 1);
        Ok(())
    });
}

#[test]
fn arrays_of_another_type_are_refused() {
    on_each_machine(|machine, _| {
        let halves = Array::from_reals(machine, Real::Bf16, &[0.; 2])?;
        let error = all_finite(machine, &[&halves]).map(|_| ()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "all finite: array: expected 2 of F32, found 2 of Bf16"
        );
        Ok(())
    });
}
