//! A convolution and its norm as training leaves them.

#![allow(clippy::unwrap_used)] // in helpers of tests

use candle_core::{DType, Device};
use fgvr_nn::layers::{BatchNormConfig, ConvConfig, ConvNorm};
use fgvr_nn::{NormMode, Parameters, Tape};
use fgvr_testkit::normal;

/// With weights and biases that are not the initial ones, and running statistics that are those of no batch.
pub(crate) fn conv_norm(
    channels: [usize; 2],
    kernel: usize,
    conv: &ConvConfig,
    norm: &BatchNormConfig,
) -> ConvNorm {
    let parameters = Parameters::new(1);
    let vb = parameters.builder(DType::F32, &Device::Cpu);
    let layer = ConvNorm::new(channels, kernel, conv, vb.pp("conv"), norm, vb.pp("bn")).unwrap();
    if norm.affine {
        for (name, around) in [("bn.weight", 1.), ("bn.bias", 0.)] {
            let values = (normal(5, channels[1]) * 0.3).unwrap() + around;
            parameters.all()[name].set(&values.unwrap()).unwrap();
        }
    }
    for seed in 0..3 {
        let images = normal(seed, (2, channels[0], 9, 11));
        let images = images.affine(2., 0.5).unwrap();
        let mut tape = Tape::inference();
        let x = tape.input(&images, false).unwrap();
        let _ = layer.apply(&mut tape, &x, NormMode::Train).unwrap();
    }
    layer
}
