//! A convolution and the norm after it.
//!
//! cuDNN reads what is in memory, so here the normalised values of the layer before are written, where the
//! CPU's form makes them a few images at a time.

use std::sync::Arc;

use candle_core::{Result, Tensor};
use fgvr_cuda::Array;
use fgvr_cuda::ops::ActivationFunction;
use fgvr_cuda::ops::batch_norm::{Norm, Residual};

use super::conv::Held;
use super::normed::DeviceNormed;
use crate::layers::normed::NormedStorage;
use crate::layers::{BatchNorm, Conv2d, ConvInput, Normed};
use crate::tape::{Gradients, NormedArray};
use crate::{Device, NormMode, Tape};

/// What the convolution read.
struct Input {
    id: usize,
    /// As the convolution saw them.
    values: Array,
    /// What a normed input was made from.
    normed: Option<(DeviceNormed, ActivationFunction)>,
    wants_gradient: bool,
}

impl Input {
    fn new(device: &Device, tape: &Tape, input: ConvInput<'_>) -> Result<Self> {
        let (normed, activation) = match input {
            ConvInput::Map(map) => {
                return Ok(Self {
                    id: map.id,
                    values: map.array()?.clone(),
                    normed: None,
                    wants_gradient: tape.needs_gradient(map),
                });
            }
            ConvInput::Relu(normed) => (normed.on_device()?, ActivationFunction::Relu),
            ConvInput::Relu6(normed) => (normed.on_device()?, ActivationFunction::Relu6),
        };
        let (of_norm, values) = (&normed.norm, &normed.values);
        Ok(Self {
            id: normed.id,
            values: device.run(|m| of_norm.apply(m, values, Residual::None, activation))?,
            normed: Some((normed, activation)),
            wants_gradient: true,
        })
    }
}

pub(in crate::layers) fn conv_norm(
    device: &Device,
    tape: &mut Tape,
    (layer, norm): (&Conv2d, &BatchNorm),
    input: ConvInput<'_>,
    mode: NormMode,
) -> Result<Normed> {
    let shape = layer.shape(input.shape())?;
    let input = Input::new(device, tape, input)?;
    let conv = Held::new(device, layer, &shape)?;
    let y = conv.forward(device, &input.values)?;
    let out = [shape.n, shape.out_h(), shape.out_w(), shape.c_out];
    let normed = DeviceNormed {
        id: tape.id(),
        shape: out,
        device: device.clone(),
        norm: Arc::new(norm.on_device(device, &y, out, mode)?),
        values: y,
    };
    let backward = Backward {
        device: device.clone(),
        input,
        conv,
        output: normed.values.clone(),
        norm: Arc::clone(&normed.norm),
        of_norm: norm.parameters(),
    };
    tape.push_normed_on(normed.id, move |gradient, gradients| {
        backward.run(&gradient, gradients)
    });
    Ok(Normed(NormedStorage::Device(normed)))
}

/// What the way back needs.
struct Backward {
    device: Device,
    input: Input,
    conv: Held,
    output: Array,
    norm: Arc<Norm>,
    of_norm: Option<(Tensor, Tensor)>,
}

impl Backward {
    fn run(self, gradient: &NormedArray, gradients: &mut Gradients<'_>) -> Result<()> {
        let Self {
            device,
            input,
            conv,
            output,
            norm,
            of_norm,
        } = self;
        if let Some((weight, bias)) = &of_norm {
            gradients.add_parameter_array(weight, gradient.of_norm.weight.clone());
            gradients.add_parameter_array(bias, gradient.of_norm.bias.clone());
        }
        let (values, activation) = (&gradient.values, gradient.activation);
        let dy =
            device.run(|m| norm.grad_input(m, values, &output, &gradient.of_norm, activation))?;
        conv.grad_weight(&device, &input.values, &dy, gradients)?;
        if !input.wants_gradient {
            return Ok(());
        }
        let dx = conv.grad_input(&device, &dy)?;
        match &input.normed {
            None => gradients.add_array(input.id, dx),
            Some((normed, activation)) => {
                let gradient = normed.gradient(dx, *activation)?;
                gradients.add_normed_array(input.id, gradient);
                Ok(())
            }
        }
    }
}
