//! Layouts and types against indices written out.

mod support;

use fgvr_cuda::ops::layout::{self, Matrices};
use fgvr_cuda::{Array, DType, Machine, Real, Result};
use support::{on_each_machine, rounded};

/// (N, C, H, W): few channels and few places, whole packs and not, tiles cut at both sides, nothing to
/// transpose, runs that take several blocks.
const MAPS: &[[usize; 4]] = &[
    [2, 3, 24, 64],
    [1, 3, 40, 40],
    [2, 3, 5, 7],
    [1, 72, 9, 8],
    [1, 71, 7, 11],
    [2, 8, 3, 3],
    [1, 70, 1, 3],
    [3, 5, 1, 1],
    [2, 1, 3, 5],
    [1, 520, 3, 3],
    [0, 3, 4, 4],
];

/// The values of (N, C, P) as (N, P, C).
fn last(x: &[f32], shape: Matrices) -> Vec<f32> {
    let (c, p) = (shape.rows, shape.columns);
    let at = |i: usize| (i / (c * p) * c + i % c) * p + i / c % p;
    (0..x.len()).map(|i| x[at(i)]).collect()
}

#[test]
fn maps_go_to_channels_last_and_back() {
    on_each_machine(|machine, random| {
        for (real, shape) in support::pairs(Real::ALL, MAPS) {
            let shape = Matrices::of_maps(shape);
            let x = random.normals(shape.count * shape.rows * shape.columns, 0., 1.);
            let y = layout::to_channels_last(machine, &Array::from_f32(machine, &x)?, shape, real)?;
            assert_eq!(y.dtype(), DType::from(real));
            let expected = last(&rounded(real, &x), shape);
            assert_eq!(y.to_f32(machine)?, expected, "{shape:?}");
            let back = layout::to_channels_first(machine, &y, shape)?;
            assert_eq!(back.dtype(), DType::F32);
            assert_eq!(back.to_f32(machine)?, rounded(real, &x), "{shape:?} back");
        }
        Ok(())
    });
}

#[test]
fn weights_go_to_channels_last_and_their_gradients_back() {
    on_each_machine(|machine, random| {
        for (real, weight) in
            support::pairs(Real::ALL, &[[5, 16, 3], [4, 3, 7], [6, 1, 3], [3, 10, 1]])
        {
            let shape = Matrices::of_weight(weight);
            let [o, i, k] = weight;
            let w = random.normals(o * i * k * k, 0., 1.);
            let y = layout::to_channels_last(machine, &Array::from_f32(machine, &w)?, shape, real)?;
            let y = y.to_f32(machine)?;
            let w = rounded(real, &w);
            for (at, value) in w.iter().enumerate() {
                let (x, y_, c, n) = (at % k, at / k % k, at / (k * k) % i, at / (k * k * i));
                assert_eq!(y[((n * k + y_) * k + x) * i + c], *value);
            }
            let gradient = Array::from_reals(machine, real, &y)?;
            let back = layout::to_channels_first(machine, &gradient, shape)?;
            assert_eq!(back.to_f32(machine)?, w);
        }
        Ok(())
    });
}

#[test]
fn casts_round_to_nearest_and_keep_what_is_no_number() {
    on_each_machine(|machine, random| {
        for len in [0, 1, 7, 8, 2061] {
            let mut x = random.normals(len, 0., 1e3);
            if len > 7 {
                (x[0], x[1], x[7]) = (f32::NAN, f32::INFINITY, f32::NAN);
            }
            for real in Real::ALL {
                let same = layout::cast(machine, &Array::from_f32(machine, &x)?, (*real).into())?;
                let wide = layout::cast(machine, &same, DType::F32)?;
                let bits = |values: &[f32]| -> Vec<u32> {
                    let of = |v: &f32| if v.is_nan() { 1 } else { v.to_bits() };
                    values.iter().map(of).collect()
                };
                assert_eq!(bits(&same.to_f32(machine)?), bits(&rounded(*real, &x)));
                assert_eq!(bits(&wide.to_f32(machine)?), bits(&rounded(*real, &x)));
            }
        }
        let bf16 = Array::from_reals(machine, Real::Bf16, &[1.])?;
        assert!(layout::cast(machine, &bf16, DType::Bf16).is_err());
        assert!(layout::cast(machine, &bf16, DType::U32).is_err());
        Ok(())
    });
}

#[test]
fn fill_sets_every_value() {
    on_each_machine(|machine, _| {
        for (real, len) in support::pairs(Real::ALL, &[0, 3, 16, 2100]) {
            let y = Array::new(machine, real.into(), len)?;
            layout::fill(machine, &y, -1.5)?;
            assert_eq!(y.to_f32(machine)?, vec![-1.5; len]);
        }
        Ok(())
    });
}

#[test]
fn other_lengths_are_refused() {
    on_each_machine(|machine: &dyn Machine, _| -> Result<()> {
        let x = Array::from_f32(machine, &[0.; 12])?;
        let shape = Matrices::of_maps([1, 3, 2, 3]);
        let error = layout::to_channels_last(machine, &x, shape, Real::F32).err();
        let text = error.map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(
            text,
            "to channels last: x: expected 18 of F32, found 12 of F32"
        );
        Ok(())
    });
}
