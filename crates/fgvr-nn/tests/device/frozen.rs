//! Frozen layers on a device beside their forms on the CPU, and what they refuse.

#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device as Candle, Tensor};
use fgvr_nn::layers::{
    BatchNormConfig, ConvConfig, DeviceLinear, Finish, FrozenLinear, Linear, LinearFinish,
    mean_of_places, self_attention,
};
use fgvr_nn::{Activation, Device, Parameters, Tape};
use fgvr_testkit::{assert_close_values, normal, normal_values};

use crate::support::devices;
use crate::trained::conv_norm;

/// Values (N, H, W, C) as a map on `tape`.
fn put(tape: &mut Tape, values: &[f32], [n, h, w, c]: [usize; 4]) -> Activation {
    let tensor = Tensor::from_slice(values, (n, h, w, c), &Candle::Cpu).unwrap();
    // (N, H, W, C) -> (N, C, H, W)
    tape.input(&tensor.permute((0, 3, 1, 2)).unwrap(), false)
        .unwrap()
}

/// The values of a map, (N, H, W, C).
fn values(map: &Activation) -> Vec<f64> {
    let tensor = map.to_tensor().unwrap().permute((0, 2, 3, 1)).unwrap();
    wide(&tensor.flatten_all().unwrap().to_vec1().unwrap())
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

/// A tolerance for values of maps of this device.
fn allowed(of_gradients: f64) -> f64 {
    match of_gradients > 1e-3 {
        true => 1e-2,
        false => 1e-5,
    }
}

#[test]
fn a_frozen_convolution_says_there_what_it_says_on_the_cpu() {
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
    let same = ConvConfig {
        stride: 2,
        same: true,
        ..ConvConfig::default()
    };
    let depthwise = ConvConfig {
        groups: 8,
        ..same.clone()
    };
    for (channels, kernel, config, norm) in [
        ([3, 5], 3, config(2, 1, 1, 1), &plain),
        ([3, 8], 3, same, &plain),
        ([8, 8], 5, depthwise, &other),
        ([8, 12], 3, config(1, 2, 2, 4), &other),
        ([6, 16], 1, config(2, 0, 1, 1), &plain),
    ] {
        let layer = conv_norm(channels, kernel, &config, norm);
        let frozen = layer.freeze().unwrap();
        let shape = [2, 9, 7, channels[0]];
        let x = normal_values(9, shape.iter().product());
        let (_, out) = frozen.apply(&x, shape, Finish::Nothing).unwrap();
        let residual = normal_values(10, out.iter().product());
        for (device, of_device) in devices() {
            let there = layer.freeze_on(&device).unwrap();
            let mut tape = Tape::inference().on(Some(&device));
            let map = put(&mut tape, &x, shape);
            let shortcut = put(&mut tape, &residual, out);
            for (finish, on_host) in [
                (Finish::Nothing, Finish::Nothing),
                (Finish::Relu, Finish::Relu),
                (Finish::Relu6, Finish::Relu6),
                (Finish::Add(&shortcut), Finish::Add(&residual[..])),
                (Finish::AddRelu(&shortcut), Finish::AddRelu(&residual[..])),
            ] {
                let (expected, _) = frozen.apply(&x, shape, on_host).unwrap();
                let found = there.apply(&mut tape, &map, finish).unwrap();
                assert_eq!(found.shape(), out);
                let what = format!("{channels:?} {config:?} on {device:?}");
                let allowed = allowed(of_device);
                assert_close_values(&what, &values(&found), &wide(&expected), allowed);
            }
        }
    }
}

#[test]
fn a_frozen_linear_layer_says_there_what_it_says_on_the_cpu() {
    let vb = Parameters::new(2).builder(DType::F32, &Candle::Cpu);
    let scale = normal_values(3, 20);
    for (layer, scale) in [
        (Linear::new(12, 20, true, vb.pp("biased")).unwrap(), None),
        (
            Linear::new(12, 20, false, vb.pp("plain")).unwrap(),
            Some(&scale[..]),
        ),
    ] {
        let frozen = FrozenLinear::new(&layer, scale).unwrap();
        let (x, y) = (normal_values(4, 30 * 12), normal_values(5, 30 * 20));
        let run = |finish| {
            let mut y = vec![0.; 30 * 20];
            frozen.run(&x, finish, &mut y).unwrap();
            wide(&y)
        };
        let mut added = y.clone();
        frozen
            .run_add(&x, &mut vec![0.; y.len()], &mut added)
            .unwrap();
        for (device, of_device) in devices() {
            let there = DeviceLinear::new(&device, &layer, scale).unwrap();
            let mut tape = Tape::inference().on(Some(&device));
            let (x, y) = (
                put(&mut tape, &x, [2, 3, 5, 12]),
                put(&mut tape, &y, [2, 3, 5, 20]),
            );
            let found = [
                there.apply(&mut tape, &x, LinearFinish::Replace).unwrap(),
                there.apply(&mut tape, &x, LinearFinish::Gelu).unwrap(),
                there.apply_add(&mut tape, &x, &y).unwrap(),
            ];
            let expected = [
                run(LinearFinish::Replace),
                run(LinearFinish::Gelu),
                wide(&added),
            ];
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(found.shape(), [2, 3, 5, 20]);
                let what = format!("{device:?}");
                assert_close_values(&what, &values(found), expected, allowed(of_device));
            }
        }
    }
}

fn message<T>(result: candle_core::Result<T>) -> String {
    match result {
        Ok(_) => panic!("expected an error"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn other_shapes_and_maps_on_the_cpu_are_refused() {
    let config = ConvConfig::default();
    let layer = conv_norm([4, 6], 3, &config, &BatchNormConfig::default());
    let vb = Parameters::new(2).builder(DType::F32, &Candle::Cpu);
    let linear = Linear::new(4, 6, true, vb).unwrap();
    let refuse = |device: &Device| {
        let there = layer.freeze_on(device).unwrap();
        let mut tape = Tape::inference().on(Some(device));
        let mut of =
            |dims: (usize, usize, usize, usize)| tape.input(&normal(1, dims), false).unwrap();
        let (x, narrow, small) = (of((1, 4, 5, 5)), of((1, 3, 5, 5)), of((1, 4, 2, 5)));
        let on_host = Tape::inference()
            .input(&normal(1, (1, 4, 5, 5)), false)
            .unwrap();
        for (map, expected) in [
            (&narrow, "expected 4 channels, found 3"),
            (&small, "does not fit"),
            (
                &on_host,
                "was given a map of [1, 5, 5, 4] (N, H, W, C) on the CPU",
            ),
        ] {
            let error = message(there.apply(&mut tape, map, Finish::Relu));
            assert!(error.contains(expected), "{error}");
        }
        let error = message(there.apply(&mut tape, &x, Finish::AddRelu(&x)));
        assert!(error.contains("a residual of [1, 5, 5, 4]"), "{error}");
        let there = DeviceLinear::new(device, &linear, None).unwrap();
        let error = message(there.apply(&mut tape, &narrow, LinearFinish::Gelu));
        assert!(error.contains("4 to 6 channels"), "{error}");
        let error = message(there.apply_add(&mut tape, &x, &x));
        assert!(
            error.contains("a residual of Some([1, 5, 5, 4])"),
            "{error}"
        );
        assert!(DeviceLinear::new(device, &linear, Some(&[1.])).is_err());
        let error = message(self_attention(&mut tape, &x, 2));
        assert!(
            error.contains("4 channels of queries, keys and values"),
            "{error}"
        );
        assert!(self_attention(&mut tape, &on_host, 1).is_err());
        assert!(mean_of_places(&on_host).is_err());
    };
    devices().iter().for_each(|(device, _)| refuse(device));
}
