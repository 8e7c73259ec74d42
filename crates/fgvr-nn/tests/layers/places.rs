//! Pooling, resizing, ReLU and unflatten: operations without parameters.

use candle_core::{Device, Tensor};
use fgvr_nn::layers::{
    PoolConfig, avg_pool, global_mean, max_pool, relu, resize_bilinear, unflatten, upsample_nearest,
};
use fgvr_nn::{Activation, Tape};
use fgvr_testkit::{golden, normal};

use crate::support::{bits, check, check_golden, run, values, with_threads};

const FILE: &str = "nn_layers.safetensors";

/// (kernel, stride, padding, h, w) of the golden file.
const POOLS: [(usize, usize, usize, usize, usize); 7] = [
    (3, 2, 1, 7, 9),
    (3, 2, 1, 8, 6),
    (2, 2, 0, 5, 7),
    (3, 1, 1, 4, 5),
    (2, 3, 1, 7, 8),
    (5, 2, 2, 6, 5),
    (1, 2, 0, 3, 4),
];

#[test]
fn max_pool_is_pytorchs_also_with_ties() {
    let golden = golden(FILE);
    for (kernel, stride, padding, h, w) in POOLS {
        let cfg = PoolConfig {
            kernel,
            stride,
            padding,
        };
        for kind in ["normal", "ties"] {
            let case = format!("max_pool.{kernel}_{stride}_{padding}_{h}_{w}.{kind}");
            check_golden(&golden, &case, |tape, x| max_pool(tape, x, &cfg));
        }
    }
}

#[test]
fn avg_pool_is_pytorchs() {
    let golden = golden(FILE);
    for (kernel, stride, padding, h, w) in POOLS {
        let cfg = PoolConfig {
            kernel,
            stride,
            padding,
        };
        let case = format!("avg_pool.{kernel}_{stride}_{padding}_{h}_{w}.normal");
        check_golden(&golden, &case, |tape, x| avg_pool(tape, x, &cfg));
    }
}

/// Windows of a naive pooling of (n*c, h, w): `reduce` gets the values inside the input.
fn windows(
    x: &[f64],
    h: usize,
    w: usize,
    cfg: &PoolConfig,
    reduce: impl Fn(&[f64]) -> f64,
) -> Vec<f64> {
    let PoolConfig {
        kernel,
        stride,
        padding,
    } = *cfg;
    let mut out = Vec::new();
    for plane in x.chunks(h * w) {
        for oy in 0..(h + 2 * padding - kernel) / stride + 1 {
            for ox in 0..(w + 2 * padding - kernel) / stride + 1 {
                let mut window = Vec::new();
                for y in oy * stride..oy * stride + kernel {
                    for x in ox * stride..ox * stride + kernel {
                        let inside = (padding..padding + h).contains(&y)
                            && (padding..padding + w).contains(&x);
                        if inside {
                            window.push(plane[(y - padding) * w + x - padding]);
                        }
                    }
                }
                out.push(reduce(&window));
            }
        }
    }
    out
}

#[test]
fn pools_have_the_gradient_of_differences() {
    for (kernel, stride, padding, h, w) in POOLS {
        let cfg = PoolConfig {
            kernel,
            stride,
            padding,
        };
        for n in [1, 2] {
            let x = normal(3, (n, 3, h, w));
            let largest = |window: &[f64]| window.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let name = format!("max_pool {cfg:?}");
            check(
                &name,
                &x,
                &[],
                |t, x| max_pool(t, x, &cfg),
                |x| windows(&x[0], h, w, &cfg, largest),
            );
            let mean = |window: &[f64]| window.iter().sum::<f64>() / (kernel * kernel) as f64;
            let name = format!("avg_pool {cfg:?}");
            check(
                &name,
                &x,
                &[],
                |t, x| avg_pool(t, x, &cfg),
                |x| windows(&x[0], h, w, &cfg, mean),
            );
        }
    }
}

#[test]
fn max_pool_passes_nan_on() {
    let x = Tensor::new(&[[[[f32::NAN, 1.], [2., 3.]]]], &Device::Cpu).unwrap();
    let cfg = PoolConfig {
        kernel: 2,
        stride: 2,
        padding: 0,
    };
    let outcome = run(&x, None, |tape, x| max_pool(tape, x, &cfg));
    assert!(values(&outcome.y)[0].is_nan());
}

#[test]
fn windows_that_do_not_fit_are_errors() {
    let x = normal(0, (1, 1, 2, 5));
    let pool = |kernel, stride, padding| {
        let mut tape = Tape::recording();
        let x = tape.input(&x, true).unwrap();
        let cfg = PoolConfig {
            kernel,
            stride,
            padding,
        };
        let max = max_pool(&mut tape, &x, &cfg).unwrap_err().to_string();
        let average = avg_pool(&mut tape, &x, &cfg).unwrap_err().to_string();
        let first_line = |error: &str| {
            error
                .lines()
                .next()
                .unwrap_or_default()
                .replace("avg", "max")
        };
        assert_eq!(first_line(&max), first_line(&average));
        max
    };
    assert!(
        pool(3, 1, 0)
            .contains("max_pool: an input of 2 x 5 with padding 0 is smaller than the kernel of 3")
    );
    assert!(pool(2, 0, 0).contains("stride 0"));
    assert!(pool(2, 1, 2).contains("padding 2"));
    assert!(pool(0, 1, 0).contains("kernel 0"));
}

#[test]
fn global_mean_is_pytorchs_and_has_the_gradient_of_differences() {
    check_golden(&golden(FILE), "global_mean", global_mean);
    for shape in [(1, 3, 1, 1), (1, 2, 3, 5), (2, 3, 9, 10)] {
        let places = shape.2 * shape.3;
        let mean = |x: &[Vec<f64>]| -> Vec<f64> {
            x[0].chunks(places)
                .map(|p| p.iter().sum::<f64>() / places as f64)
                .collect()
        };
        check("global_mean", &normal(4, shape), &[], global_mean, mean);
    }
}

#[test]
fn upsample_nearest_is_pytorchs_and_has_the_gradient_of_differences() {
    let golden = golden(FILE);
    for factor in [1, 2, 3] {
        check_golden(&golden, &format!("nearest.{factor}"), |t, x| {
            upsample_nearest(t, x, factor)
        });
        let (h, w) = (3, 5);
        let reference = |x: &[Vec<f64>]| -> Vec<f64> {
            let place = |i: usize| (i / (w * factor) / factor) * w + i % (w * factor) / factor;
            let each = h * w * factor * factor;
            x[0].chunks(h * w)
                .flat_map(|plane| (0..each).map(move |i| plane[place(i)]))
                .collect()
        };
        check(
            "nearest",
            &normal(5, (2, 2, h, w)),
            &[],
            |t, x| upsample_nearest(t, x, factor),
            reference,
        );
    }
}

#[test]
fn resize_bilinear_is_pytorchs_and_has_the_gradient_of_differences() {
    let golden = golden(FILE);
    for (h, w, to_h, to_w) in [
        (5, 7, 8, 3),
        (4, 4, 9, 9),
        (1, 1, 3, 2),
        (6, 5, 6, 5),
        (8, 8, 3, 5),
        (3, 4, 7, 12),
    ] {
        let case = format!("bilinear.{h}_{w}_{to_h}_{to_w}");
        check_golden(&golden, &case, |t, x| resize_bilinear(t, x, (to_h, to_w)));
        // The value at a place is the sum of all inputs under a tent of width one around it.
        let tent = |o: usize, from: usize, to: usize, i: usize| -> f64 {
            let at = (o as f64 + 0.5) * from as f64 / to as f64 - 0.5;
            (1. - (at.clamp(0., (from - 1) as f64) - i as f64).abs()).max(0.)
        };
        let reference = |x: &[Vec<f64>]| -> Vec<f64> {
            let mut out = Vec::new();
            for plane in x[0].chunks(h * w) {
                for (oy, ox) in (0..to_h).flat_map(|y| (0..to_w).map(move |x| (y, x))) {
                    let share = |i: usize| tent(oy, h, to_h, i / w) * tent(ox, w, to_w, i % w);
                    out.push(plane.iter().enumerate().map(|(i, v)| v * share(i)).sum());
                }
            }
            out
        };
        check(
            &case,
            &normal(6, (1, 2, h, w)),
            &[],
            |t, x| resize_bilinear(t, x, (to_h, to_w)),
            reference,
        );
    }
}

#[test]
fn relu_has_no_gradient_at_zero_and_keeps_nan() {
    check_golden(&golden(FILE), "relu", relu);
    let x = Tensor::new(&[[0f32, -0., f32::NAN, -1., 1.]], &Device::Cpu).unwrap();
    let ones = Tensor::ones((1, 5), candle_core::DType::F32, &Device::Cpu).unwrap();
    let outcome = run(&x, Some(&ones), relu);
    assert!(values(&outcome.y)[2].is_nan());
    let dx = values(&outcome.dx);
    assert_eq!([dx[0], dx[1], dx[3], dx[4]], [0., 0., 0., 1.]);
}

#[test]
fn unflatten_is_pytorchs_view() {
    check_golden(&golden(FILE), "unflatten", |t, x| {
        unflatten(t, x, (3, 2, 4))
    });
    let mut tape = Tape::recording();
    let x = tape.input(&normal(0, (2, 24)), true).unwrap();
    let error = unflatten(&mut tape, &x, (3, 2, 5)).unwrap_err().to_string();
    assert!(
        error.contains("unflatten: expected one place of 3 x 2 x 5 channels, found [1, 1, 24]"),
        "{error}"
    );
}

#[test]
fn sizes_beyond_memory_are_errors() {
    let mut tape = Tape::recording();
    let x = tape.input(&normal(0, (1, 2, 3, 3)), true).unwrap();
    let nearest = upsample_nearest(&mut tape, &x, usize::MAX / 2).unwrap_err();
    let bilinear = resize_bilinear(&mut tape, &x, (1 << 40, 1 << 40)).unwrap_err();
    let view = unflatten(&mut tape, &x, (usize::MAX, 2, 1)).unwrap_err();
    for error in [nearest, bilinear, view] {
        assert!(error.to_string().contains("larger than memory"), "{error}");
    }
}

#[test]
fn bad_sizes_are_errors() {
    let mut tape = Tape::recording();
    let x = tape.input(&normal(0, (1, 2, 3, 3)), true).unwrap();
    assert!(
        upsample_nearest(&mut tape, &x, 0)
            .unwrap_err()
            .to_string()
            .contains("found 0")
    );
    let error = resize_bilinear(&mut tape, &x, (4, 0))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("resize_bilinear: 3 x 3 to 4 x 0: a side is zero"),
        "{error}"
    );
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let x = normal(8, (3, 17, 31, 29));
    type Op = fn(&mut Tape, &Activation) -> candle_core::Result<Activation>;
    let ops: [Op; 6] = [
        |t, x| max_pool(t, x, &PoolConfig::default()),
        |t, x| avg_pool(t, x, &PoolConfig::default()),
        global_mean,
        |t, x| upsample_nearest(t, x, 2),
        |t, x| resize_bilinear(t, x, (40, 11)),
        relu,
    ];
    for op in ops {
        let [one, two] = [1, 2].map(|threads| {
            with_threads(threads, || {
                let outcome = run(&x, None, op);
                (bits(&outcome.y), bits(&outcome.dx))
            })
        });
        assert_eq!(one, two);
    }
}
