//! Pooling against windows written out in f64.

mod support;

use fgvr_cuda::ops::pool::{self, Pool};
use fgvr_cuda::{Array, DType, Machine, Real, Result};
use support::{Random, close, on_each_machine, pairs, rounded};

/// The stem's windows, halves, windows that overlap thrice, gaps, one place; packs of channels and not.
const POOLS: &[Pool] = &[
    of([2, 9, 10, 8], 3, 2, 1),
    of([1, 7, 7, 3], 3, 2, 1),
    of([2, 6, 7, 16], 2, 2, 0),
    of([1, 5, 6, 8], 3, 1, 1),
    of([1, 4, 9, 24], 4, 3, 2),
    of([1, 7, 5, 5], 2, 3, 1),
    of([1, 1, 1, 8], 3, 2, 1),
    of([0, 4, 4, 8], 3, 2, 1),
];

const fn of(input: [usize; 4], kernel: usize, stride: usize, padding: usize) -> Pool {
    Pool {
        input,
        kernel,
        stride,
        padding,
    }
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

/// For each output value, the taps of its window that lie on the map, in order, and the index of each in x.
fn windows(pool: &Pool) -> Result<Vec<Vec<(usize, usize)>>> {
    let ([_, h, w, c], [n, oh, ow, _]) = (pool.input, pool.output()?);
    let mut all = Vec::new();
    for i in 0..n * oh * ow * c {
        let (channel, ox, oy, image) = (i % c, i / c % ow, i / c / ow % oh, i / c / ow / oh);
        let mut taps = Vec::new();
        for (ky, kx) in pairs(
            &(0..pool.kernel).collect::<Vec<_>>(),
            &(0..pool.kernel).collect::<Vec<_>>(),
        ) {
            let y = (oy * pool.stride + ky).checked_sub(pool.padding);
            let x = (ox * pool.stride + kx).checked_sub(pool.padding);
            if let (Some(y), Some(x)) = (y.filter(|y| *y < h), x.filter(|x| *x < w)) {
                taps.push((
                    ky * pool.kernel + kx,
                    ((image * h + y) * w + x) * c + channel,
                ));
            }
        }
        all.push(taps);
    }
    Ok(all)
}

fn tolerance(real: Real) -> f64 {
    match real {
        Real::F32 => 1e-6,
        Real::Bf16 => 4e-3,
    }
}

#[test]
fn the_largest_value_is_taken_and_its_gradient_goes_back_there() {
    on_each_machine(|machine, random| {
        for (real, pool) in pairs(Real::ALL, POOLS) {
            let (mut x, _) = made(machine, random, real, pool.input.iter().product())?;
            // Ties, as after a ReLU.
            x.iter_mut().for_each(|v| *v = v.max(0.));
            let values: Vec<f32> = x.iter().map(|v| *v as f32).collect();
            let (y, taps) = pool::max(machine, &Array::from_reals(machine, real, &values)?, &pool)?;
            let windows = windows(&pool)?;
            let (mut expected, mut taken) = (Vec::new(), Vec::new());
            for window in &windows {
                let mut best = window[0];
                for tap in window {
                    if x[tap.1] > x[best.1] {
                        best = *tap;
                    }
                }
                expected.push(x[best.1]);
                taken.push(best);
            }
            close("y", &y.to_f32(machine)?, &expected, 0.);
            assert_eq!(
                taps.to_u8(machine)?,
                taken.iter().map(|(tap, _)| *tap as u8).collect::<Vec<_>>()
            );
            let (d, dy) = made(machine, random, real, y.len())?;
            let mut dx = vec![0.; x.len()];
            taken.iter().zip(&d).for_each(|((_, at), d)| dx[*at] += d);
            let found = pool::max_grad(machine, &dy, &taps, &pool)?;
            close("dx", &found.to_f32(machine)?, &dx, tolerance(real));
        }
        Ok(())
    });
}

#[test]
fn what_is_no_number_and_minus_infinity_are_taken() {
    on_each_machine(|machine, _| {
        for (real, channels) in pairs(Real::ALL, &[1, 8]) {
            let pool = of([1, 2, 4, channels], 2, 2, 0);
            let (nan, low) = (f32::NAN, f32::NEG_INFINITY);
            let places = [1., nan, low, low, 5., 2., low, low];
            let x: Vec<f32> = places.iter().flat_map(|v| vec![*v; channels]).collect();
            let (y, taps) = pool::max(machine, &Array::from_reals(machine, real, &x)?, &pool)?;
            let (y, taps) = (y.to_f32(machine)?, taps.to_u8(machine)?);
            assert!(y[..channels].iter().all(|v| v.is_nan()));
            assert_eq!(y[channels..], vec![low; channels]);
            assert_eq!(taps[..channels], vec![1; channels]);
            assert_eq!(taps[channels..], vec![0; channels]);
        }
        Ok(())
    });
}

#[test]
fn averages_count_padding_as_zeros_and_share_their_gradient() {
    on_each_machine(|machine, random| {
        for (real, pool) in pairs(Real::ALL, POOLS) {
            let (x, array) = made(machine, random, real, pool.input.iter().product())?;
            let y = pool::average(machine, &array, &pool)?;
            let windows = windows(&pool)?;
            let share = 1. / (pool.kernel * pool.kernel) as f64;
            let mean = |window: &Vec<(usize, usize)>| {
                share * window.iter().map(|(_, at)| x[*at]).sum::<f64>()
            };
            let expected: Vec<f64> = windows.iter().map(mean).collect();
            close("y", &y.to_f32(machine)?, &expected, tolerance(real));
            let (d, dy) = made(machine, random, real, y.len())?;
            let mut dx = vec![0.; x.len()];
            for (window, d) in windows.iter().zip(&d) {
                window.iter().for_each(|(_, at)| dx[*at] += share * d);
            }
            let found = pool::average_grad(machine, &dy, &pool)?;
            close("dx", &found.to_f32(machine)?, &dx, tolerance(real));
        }
        Ok(())
    });
}

#[test]
fn the_global_mean_and_its_gradient() {
    on_each_machine(|machine, random| {
        let shapes = [
            [2, 49, 24],
            [3, 5, 7],
            [1, 700, 264],
            [2, 1, 8],
            [0, 4, 8],
            [1, 9, 70],
        ];
        for (real, shape) in pairs(Real::ALL, &shapes) {
            let [n, places, c] = shape;
            let (x, array) = made(machine, random, real, n * places * c)?;
            let mut mean = vec![0.; n * c];
            for (i, v) in x.iter().enumerate() {
                mean[i / (places * c) * c + i % c] += v / places as f64;
            }
            let y = pool::global_mean(machine, &array, shape)?;
            close("mean", &y.to_f32(machine)?, &mean, tolerance(real));
            let (d, dy) = made(machine, random, real, n * c)?;
            let share = |i: usize| d[i / (places * c) * c + i % c] / places as f64;
            let expected: Vec<f64> = (0..x.len()).map(share).collect();
            let dx = pool::global_mean_grad(machine, &dy, shape)?;
            close("dx", &dx.to_f32(machine)?, &expected, tolerance(real));
        }
        Ok(())
    });
}

#[test]
fn windows_out_of_bounds_are_refused() {
    on_each_machine(|machine, _| {
        let x = Array::from_f32(machine, &[0.; 16])?;
        for pool in [
            of([1, 4, 4, 1], 17, 1, 0),
            of([1, 4, 4, 1], 3, 0, 1),
            of([1, 4, 4, 1], 3, 1, 2),
            of([1, 4, 4, 1], 5, 1, 0),
            of([1, 4, 5, 1], 3, 1, 1),
        ] {
            assert!(pool::max(machine, &x, &pool).is_err(), "{pool:?}");
            assert!(pool::average(machine, &x, &pool).is_err(), "{pool:?}");
        }
        let taps = Array::new(machine, DType::F32, 16)?;
        assert!(pool::max_grad(machine, &x, &taps, &of([1, 4, 4, 1], 1, 1, 0)).is_err());
        assert!(pool::global_mean(machine, &x, [2, 0, 8]).is_err());
        Ok(())
    });
}
