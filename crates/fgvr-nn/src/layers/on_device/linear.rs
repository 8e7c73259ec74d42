//! The fully connected layer.

use candle_core::Result;
use fgvr_cuda::ops::Rows;
use fgvr_cuda::ops::elementwise::{self, AfterBias};
use fgvr_cuda::{Array, DType, Product};

use crate::layers::Linear;
use crate::{Activation, Device, Tape};

pub(in crate::layers) fn linear(
    device: &Device,
    tape: &mut Tape,
    layer: &Linear,
    x: &Activation,
) -> Result<Activation> {
    let (c_in, c_out) = (layer.c_in(), layer.c_out());
    let [images, h, w, _] = x.shape;
    let n = images * h * w;
    let (input, weight) = (x.array()?.clone(), device.matrix(layer.weight())?);
    // (rows, I) x (O, I)T -> (rows, O)
    let forward = Product {
        m: n,
        n: c_out,
        k: c_in,
        a_transposed: false,
        b_transposed: true,
    };
    let mut y = device.map(n * c_out)?;
    device.run(|m| m.multiply(&forward, [&input, &weight, &y], false))?;
    let rows = Rows::new(n, c_out);
    if let Some(bias) = layer.bias() {
        let bias = device.parameter(bias)?;
        let after = AfterBias::default();
        y = device.run(|m| elementwise::add_bias(m, &y, rows, &bias, after))?;
    }
    let y = tape.map_on(device, [images, h, w, c_out], y);
    let (id, wants_input) = (x.id, tape.needs_gradient(x));
    let (of_weight, of_bias) = (layer.weight().clone(), layer.bias().cloned());
    let device = device.clone();
    tape.push_on(&y, move |dy, gradients| {
        if let Some(bias) = &of_bias {
            let sums = device.run(|m| elementwise::sum_rows(m, &dy, rows))?;
            gradients.add_parameter_array(bias, sums);
        }
        // (rows, O)T x (rows, I) -> (O, I)
        let to_weight = Product {
            m: c_out,
            n: c_in,
            k: n,
            a_transposed: true,
            b_transposed: false,
        };
        let dw = device.run(|m| {
            let dw = Array::new(m, DType::F32, c_out * c_in)?;
            m.multiply(&to_weight, [&dy, &input, &dw], false)?;
            Ok(dw)
        })?;
        gradients.add_parameter_array(&of_weight, dw);
        if wants_input {
            // (rows, O) x (O, I) -> (rows, I)
            let to_input = Product {
                m: n,
                n: c_in,
                k: c_out,
                a_transposed: false,
                b_transposed: false,
            };
            let dx = device.map(n * c_in)?;
            device.run(|m| m.multiply(&to_input, [&dy, &weight, &dx], false))?;
            gradients.add_array(id, dx)?;
        }
        Ok(())
    });
    Ok(y)
}
