//! Resizing against the half-pixel rule written out in f64.

mod support;

use fgvr_cuda::ops::resize::{self, Resize};
use fgvr_cuda::{Array, Machine, Real, Result};
use support::{Random, close, on_each_machine, pairs, rounded};

/// Up, by odd ratios, down, one place, the same sides; packs of channels and not.
const SHAPES: &[Resize] = &[
    of([2, 4, 5, 8], (8, 10)),
    of([1, 5, 7, 3], (7, 16)),
    of([1, 9, 8, 16], (4, 3)),
    of([2, 1, 3, 8], (5, 2)),
    of([1, 4, 4, 5], (4, 4)),
    of([1, 3, 2, 8], (11, 13)),
    of([1, 7, 13, 24], (20, 5)),
];

const fn of(input: [usize; 4], to: (usize, usize)) -> Resize {
    Resize { input, to }
}

fn made(
    machine: &dyn Machine,
    random: &mut Random,
    real: Real,
    len: usize,
) -> Result<(Vec<f64>, Array)> {
    let values = random.normals(len, 0., 1.);
    let stored = rounded(real, &values).into_iter().map(f64::from).collect();
    Ok((stored, Array::from_reals(machine, real, &values)?))
}

/// The inputs and weights of each output along a side.
fn taps(from: usize, to: usize) -> Vec<[(usize, f64); 2]> {
    let of = |o: usize| {
        let at = ((o as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.);
        let low = (at as usize).min(from - 1);
        let weight = at - low as f64;
        [(low, 1. - weight), ((low + 1).min(from - 1), weight)]
    };
    (0..to).map(of).collect()
}

/// `f(input, output, weight)` for each pair of values.
fn each(resize: &Resize, mut f: impl FnMut(usize, usize, f64)) {
    let ([n, h, w, c], (oh, ow)) = (resize.input, resize.to);
    let (rows, columns) = (taps(h, oh), taps(w, ow));
    for i in 0..n * oh * ow * c {
        let (channel, ox, oy, image) = (i % c, i / c % ow, i / c / ow % oh, i / c / ow / oh);
        for ((y, wy), (x, wx)) in pairs(&rows[oy], &columns[ox]) {
            f(((image * h + y) * w + x) * c + channel, i, wy * wx);
        }
    }
}

fn tolerance(real: Real) -> f64 {
    match real {
        Real::F32 => 2e-6,
        Real::Bf16 => 4e-3,
    }
}

#[test]
fn bilinear_and_its_gradient() {
    on_each_machine(|machine, random| {
        for (real, resize) in pairs(Real::ALL, SHAPES) {
            let ([n, h, w, c], (oh, ow)) = (resize.input, resize.to);
            let (x, array) = made(machine, random, real, n * h * w * c)?;
            let (d, dy) = made(machine, random, real, n * oh * ow * c)?;
            let (mut y, mut dx) = (vec![0.; d.len()], vec![0.; x.len()]);
            each(&resize, |i, o, weight| {
                y[o] += weight * x[i];
                dx[i] += weight * d[o];
            });
            let found = resize::bilinear(machine, &array, &resize)?;
            close("y", &found.to_f32(machine)?, &y, tolerance(real));
            let found = resize::bilinear_grad(machine, &dy, &resize)?;
            close("dx", &found.to_f32(machine)?, &dx, tolerance(real));
        }
        Ok(())
    });
}

#[test]
fn nearest_and_its_gradient() {
    on_each_machine(|machine, random| {
        for (real, input) in pairs(Real::ALL, &[[2, 3, 4, 8], [1, 5, 2, 3], [2, 2, 2, 16]]) {
            for factor in [1, 2, 3] {
                let [n, h, w, c] = input;
                let (oh, ow) = (h * factor, w * factor);
                let (x, array) = made(machine, random, real, n * h * w * c)?;
                let (d, dy) = made(machine, random, real, n * oh * ow * c)?;
                let (mut y, mut dx) = (vec![0.; d.len()], vec![0.; x.len()]);
                for o in 0..y.len() {
                    let (row, column) = (o / c / ow, o / c % ow);
                    let i = ((row / factor) * w + column / factor) * c + o % c;
                    y[o] = x[i];
                    dx[i] += d[o];
                }
                let found = resize::nearest(machine, &array, input, factor)?;
                close("y", &found.to_f32(machine)?, &y, 0.);
                let found = resize::nearest_grad(machine, &dy, input, factor)?;
                close("dx", &found.to_f32(machine)?, &dx, tolerance(real));
            }
        }
        Ok(())
    });
}

#[test]
fn sides_of_zero_or_too_large_are_refused() {
    on_each_machine(|machine, _| {
        let x = Array::from_f32(machine, &[0.; 4])?;
        for to in [(0, 2), (2, usize::MAX), (1 << 30, 2)] {
            let resize = of([1, 2, 2, 1], to);
            assert!(resize::bilinear(machine, &x, &resize).is_err(), "{to:?}");
        }
        assert!(resize::nearest(machine, &x, [1, 2, 2, 1], 0).is_err());
        assert!(resize::nearest(machine, &x, [1, 2, 3, 1], 2).is_err());
        Ok(())
    });
}
