//! What the heads of an attention do with queries, keys and values.

use candle_core::Result;
use fgvr_cuda::ops::attention::{self, Shape};

use super::unary::unary;
use crate::kernels::attention::{self as on_host, AttentionShape};
use crate::{Activation, Device, Tape};

fn of(shape: &AttentionShape) -> Shape {
    let AttentionShape {
        images,
        tokens,
        heads,
        width,
    } = *shape;
    Shape {
        images,
        tokens,
        heads,
        width,
    }
}

/// (N, H, W, C) of `qkv` (N, H, W, 3C).
pub(in crate::layers) fn attention(
    device: &Device,
    tape: &mut Tape,
    shape: &AttentionShape,
    qkv: &Activation,
) -> Result<Activation> {
    let (input, of_heads) = (qkv.array()?.clone(), of(shape));
    let made = device.run(|m| attention::forward(m, &input, of_heads))?;
    let [n, h, w, _] = qkv.shape;
    unary(
        device,
        tape,
        qkv,
        [n, h, w, shape.heads * shape.width],
        made.y.clone(),
        move |m, dy| attention::backward(m, dy, &input, &made, of_heads),
    )
}

/// The shares that the first token gives to each, mean over heads, (images, tokens).
pub(in crate::layers) fn first_shares(
    device: &Device,
    shape: &AttentionShape,
    qkv: &Activation,
) -> Result<Vec<f32>> {
    let qkv = qkv.array()?;
    let shares = device.run(|m| attention::first_shares(m, qkv, of(shape)))?;
    device.values(&shares)
}

/// The shares that each query gives to each key, (images, heads, tokens, tokens): to be looked at, not
/// trained on, and computed on the CPU of what the device has found.
pub(in crate::layers) fn shares(
    device: &Device,
    shape: &AttentionShape,
    qkv: &Activation,
) -> Result<Vec<f32>> {
    let qkv = device.values(qkv.array()?)?;
    let mut shares = vec![0.; shape.images * shape.heads * shape.tokens * shape.tokens];
    on_host::shares(shape, &qkv, &mut shares);
    Ok(shares)
}
