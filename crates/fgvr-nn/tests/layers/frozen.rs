//! A convolution and its norm, frozen, against the layer itself by its running statistics.

use candle_core::{Device, Tensor};
use fgvr_nn::layers::{
    ActivationFunction, BatchNormConfig, ConvConfig, ConvNorm, Finish, FrozenConv, Shortcut,
};
use fgvr_nn::{Activation, NormMode, Tape};
use fgvr_testkit::{assert_close_values, normal, normal_values};

use crate::support::REL;
use crate::trained::conv_norm;

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

/// What the layer itself says: the norm alone, rectified, and with `residual` before the ReLU.
fn expected(
    layer: &ConvNorm,
    tape: &mut Tape,
    x: &Activation,
    residual: &[f32],
) -> [Activation; 3] {
    let normed = |tape: &mut Tape| layer.apply(tape, x, NormMode::Eval).unwrap();
    let [n, h, w, c] = normed(tape).shape();
    let residual = Tensor::from_slice(&residual[..n * h * w * c], (n, h, w, c), &Device::Cpu);
    // (N, H, W, C) -> (N, C, H, W)
    let residual = residual.unwrap().permute((0, 3, 1, 2)).unwrap();
    let residual = tape.input(&residual, false).unwrap();
    [
        normed(tape)
            .activate(tape, ActivationFunction::Identity)
            .unwrap(),
        normed(tape)
            .activate(tape, ActivationFunction::Relu)
            .unwrap(),
        normed(tape)
            .add_relu(tape, Shortcut::Identity(&residual))
            .unwrap(),
    ]
}

#[test]
fn a_frozen_convolution_says_what_the_layer_says_in_evaluation() {
    let plain = BatchNormConfig::default();
    let other = BatchNormConfig {
        eps: 0.1,
        affine: false,
        ..plain.clone()
    };
    let config = |stride, padding, dilation, groups| ConvConfig {
        stride,
        padding,
        dilation,
        groups,
        bias: false,
        ..ConvConfig::default()
    };
    for (channels, kernel, conv, norm) in [
        ([3, 5], 3, config(2, 1, 1, 1), &plain),
        ([16, 24], 3, config(1, 1, 1, 1), &other),
        ([8, 12], 3, config(1, 2, 2, 4), &plain),
        ([6, 70], 1, config(2, 0, 1, 1), &other),
    ] {
        let layer = conv_norm(channels, kernel, &conv, norm);
        let frozen = layer.freeze().unwrap();
        for shape @ (n, h, w) in [(2, 9, 13), (11, 4, 4), (1, 5, 3), (3, 4, 4)] {
            let mut tape = Tape::inference();
            let x = normal(9, (n, channels[0], h, w));
            let x = tape.input(&x, false).unwrap();
            let residual = normal_values(10, n * h * w * 100);
            let maps = expected(&layer, &mut tape, &x, &residual);
            let residual = &residual[..maps[0].data().unwrap().len()];
            for (expected, finish) in
                maps.iter()
                    .zip([Finish::Nothing, Finish::Relu, Finish::AddRelu(residual)])
            {
                let what = format!("{channels:?} {conv:?} {shape:?}");
                let (y, found) = frozen.apply(x.data().unwrap(), x.shape(), finish).unwrap();
                assert_eq!(found, expected.shape(), "{what}");
                assert_close_values(&what, &wide(&y), &wide(expected.data().unwrap()), REL);
            }
        }
    }
}

#[test]
fn a_pass_takes_the_images_of_a_batch_in_parts() {
    let conv = ConvConfig {
        padding: 1,
        ..ConvConfig::default()
    };
    let frozen = conv_norm([4, 6], 3, &conv, &BatchNormConfig::default());
    let frozen = frozen.freeze().unwrap();
    let shape = [5, 8, 6, 4];
    let x = normal_values(3, 5 * 8 * 6 * 4);
    let residual = normal_values(4, 5 * 8 * 6 * 6);
    let (whole, _) = frozen.apply(&x, shape, Finish::AddRelu(&residual)).unwrap();
    let pass = frozen.pass(shape).unwrap();
    assert_eq!(pass.output(), [5, 8, 6, 6]);
    let mut parts = vec![0.; whole.len()];
    for images in [0..2, 2..5] {
        let of = |channels: usize| images.start * 48 * channels..images.end * 48 * channels;
        let finish = Finish::AddRelu(&residual[of(6)]);
        pass.run(&x[of(4)], finish, &mut parts[of(6)]).unwrap();
    }
    assert_eq!(parts, whole[..]);
}

fn message<T>(result: candle_core::Result<T>) -> String {
    match result {
        Ok(_) => panic!("expected an error"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn other_channels_and_lengths_are_refused() {
    let frozen: FrozenConv = conv_norm(
        [4, 6],
        3,
        &ConvConfig::default(),
        &BatchNormConfig::default(),
    )
    .freeze()
    .unwrap();
    let error = message(frozen.pass([1, 8, 8, 3]));
    assert!(error.contains("expected 4 channels, found 3"), "{error}");
    let error = message(frozen.pass([1, 2, 8, 4]));
    assert!(error.contains("does not fit"), "{error}");
    assert!(frozen.pass([0, 8, 8, 4]).is_err());
    let x = vec![0.; 2 * 5 * 5 * 4];
    for (x, y, residual) in [
        (x.len() - 1, 2 * 9 * 6, None),
        (x.len(), 9 * 6, None),
        (0, 0, None),
        (x.len(), 2 * 9 * 6, Some(9 * 6)),
    ] {
        let (mut y, residual) = (vec![0.; y], residual.map(|len| vec![0.; len]));
        let finish = residual.as_deref().map_or(Finish::Relu, Finish::AddRelu);
        let pass = frozen.pass([2, 5, 5, 4]).unwrap();
        let error = message(pass.run(&vec![0.; x], finish, &mut y));
        assert!(error.contains("input, output and residual have"), "{error}");
    }
}
