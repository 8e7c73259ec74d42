//! Convolution, pooling and resizing at many shapes, against PyTorch: one pixel, one channel, one
//! image, sizes that fill no tile, any stride, padding, dilation and groups.

use candle_core::{Device, Tensor};
use fgvr_nn::layers::{
    Conv2d, ConvConfig, PoolConfig, avg_pool, global_mean, max_pool, relu, resize_bilinear,
    upsample_nearest,
};
use fgvr_nn::{Activation, Tape};
use fgvr_testkit::{Golden, assert_close_values, golden};

use crate::support::{REL, parameters_of, run, values};

/// The values that both golden scripts compute from the number of the element and the seed:
/// multiples of 2^-12 in -1..1.
fn hashed(seed: u32, count: usize) -> Vec<f64> {
    let one = |i: u32| {
        let h = (i.wrapping_mul(0x9E37_79B1)).wrapping_add(seed.wrapping_mul(0x85EB_CA77));
        let h = (h ^ (h >> 16)).wrapping_mul(0x85EB_CA6B);
        let h = (h ^ (h >> 13)).wrapping_mul(0xC2B2_AE35);
        let h = h ^ (h >> 16);
        f64::from(h >> 19) / 4096. - 1.
    };
    (0..count as u32).map(one).collect()
}

fn tensor(values: &[f64], shape: &[usize]) -> Tensor {
    let values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn hashed_tensor(seed: u32, shape: &[usize]) -> Tensor {
    tensor(&hashed(seed, shape.iter().product()), shape)
}

/// The sum over dimensions `over`, with weights that depend on the index in them alone.
fn contract(tensor: &Tensor, over: &[usize]) -> Vec<f64> {
    let dims = tensor.dims();
    let len = |keep: bool| -> usize {
        let chosen = (0..dims.len()).filter(|d| over.contains(d) != keep);
        chosen.map(|d| dims[d]).product()
    };
    let (weights, mut sums) = (hashed(99, len(false)), vec![0.; len(true)]);
    for (flat, value) in values(tensor).into_iter().enumerate() {
        let (mut rest, mut inside, mut outside) = (flat, 0, 0);
        let (mut inside_step, mut outside_step) = (1, 1);
        for (d, size) in dims.iter().enumerate().rev() {
            let (index, step) = match over.contains(&d) {
                true => (&mut inside, &mut inside_step),
                false => (&mut outside, &mut outside_step),
            };
            *index += rest % size * *step;
            *step *= size;
            rest /= size;
        }
        sums[outside] += value * weights[inside];
    }
    sums
}

/// The numbers of a case's name.
fn numbers(name: &str) -> Vec<usize> {
    name.split('_').map(|n| n.parse().unwrap()).collect()
}

#[test]
fn convolution_is_pytorchs_at_every_shape() {
    let golden = golden("nn_conv.safetensors");
    let mut cases: Vec<&str> = (golden.tensors().keys())
        .filter_map(|name| name.strip_suffix(".d_bias.0"))
        .collect();
    cases.sort_unstable();
    assert_eq!(cases.len(), 63);
    for case in cases {
        let [k, stride, padding, dilation, groups, i, o, n, h, w] = numbers(case)[..] else {
            panic!("{case}: not ten numbers");
        };
        let cfg = ConvConfig {
            stride,
            padding,
            dilation,
            groups,
            bias: true,
            ..ConvConfig::default()
        };
        let (_, vb) = parameters_of(&[
            ("weight", hashed_tensor(2, &[o, i / groups, k, k])),
            ("bias", hashed_tensor(3, &[o])),
        ]);
        let conv = Conv2d::new(i, o, k, &cfg, vb).unwrap();
        let side = |from: usize| (from + 2 * padding - dilation * (k - 1) - 1) / stride + 1;
        let dy = hashed_tensor(4, &[n, o, side(h), side(w)]);
        let x = hashed_tensor(1, &[n, i, h, w]);
        let outcome = run(&x, Some(&dy), |t, x| conv.apply(t, x));
        let gradient = |var| outcome.gradients.get(var).unwrap();
        let close = |what: &str, found: &[f64]| {
            let name = format!("{case}.{what}");
            assert_close_values(&name, found, &values(&golden.get(&name)), REL);
        };
        for (what, map) in [("y", &outcome.y), ("d_x", &outcome.dx)] {
            close(&format!("{what}.0"), &contract(map, &[1]));
            close(&format!("{what}.1"), &contract(map, &[0, 2, 3]));
        }
        let of_weight = gradient(conv.weight());
        close("d_weight.0", &contract(of_weight, &[1]));
        close("d_weight.1", &contract(of_weight, &[0]));
        close("d_bias.0", &values(gradient(conv.bias().unwrap())));
    }
}

/// Runs `op(case's numbers)` on all cases of `kind`, from inputs that `input` makes of hashed values,
/// and compares the output and the gradient of the input.
fn check_places(
    golden: &Golden,
    kind: &str,
    count: usize,
    input: impl Fn(f64) -> f64,
    shape: impl Fn(&[usize]) -> &[usize],
    op: impl Fn(&mut Tape, &Activation, &[usize]) -> candle_core::Result<Activation>,
) {
    let prefix = format!("{kind}.");
    let mut cases: Vec<&str> = (golden.tensors().keys())
        .filter_map(|name| name.strip_prefix(&prefix))
        .collect();
    cases.sort_unstable();
    assert_eq!(cases.len(), count, "{kind}");
    for case in cases {
        let numbers = numbers(case);
        let shape = shape(&numbers);
        let x: Vec<f64> = hashed(1, shape.iter().product());
        let x = tensor(&x.into_iter().map(&input).collect::<Vec<_>>(), shape);
        let expected = values(&golden.get(&format!("{kind}.{case}")));
        let (y, dx) = expected.split_at(expected.len() - x.elem_count());
        let dy = hashed_tensor(4, &[y.len()]);
        let outcome = run(&x, Some(&dy), |t, x| op(t, x, &numbers));
        let name = format!("{kind} {case}");
        assert_close_values(&format!("{name} y"), &values(&outcome.y), y, REL);
        assert_close_values(&format!("{name} dx"), &values(&outcome.dx), dx, REL);
    }
}

fn pool_config(numbers: &[usize]) -> PoolConfig {
    PoolConfig {
        kernel: numbers[0],
        stride: numbers[1],
        padding: numbers[2],
    }
}

#[test]
fn pooling_is_pytorchs_at_every_stride_and_padding_with_ties_and_zeros() {
    let golden = golden("nn_places.safetensors");
    let integers = |v: f64| (v * 2.5).floor();
    check_places(
        &golden,
        "max_pool",
        60,
        integers,
        |n| &n[3..],
        |t, x, n| max_pool(t, x, &pool_config(n)),
    );
    check_places(
        &golden,
        "avg_pool",
        60,
        |v| v,
        |n| &n[3..],
        |t, x, n| avg_pool(t, x, &pool_config(n)),
    );
    check_places(
        &golden,
        "global_mean",
        4,
        |v| v,
        |n| n,
        |t, x, _| global_mean(t, x),
    );
}

#[test]
fn resizing_is_pytorchs_from_and_to_one_pixel() {
    let golden = golden("nn_places.safetensors");
    check_places(
        &golden,
        "bilinear",
        8,
        |v| v,
        |n| &n[..4],
        |t, x, n| resize_bilinear(t, x, (n[4], n[5])),
    );
    check_places(
        &golden,
        "nearest",
        5,
        |v| v,
        |n| &n[..4],
        |t, x, n| upsample_nearest(t, x, n[4]),
    );
}

#[test]
fn relu_is_pytorchs_at_zeros_of_both_signs() {
    let golden = golden("nn_places.safetensors");
    let input = |v: f64| (v * 2.5).floor() * if v < 0.2 { 1. } else { -1. };
    check_places(&golden, "relu", 1, input, |n| n, |t, x, _| relu(t, x));
}
