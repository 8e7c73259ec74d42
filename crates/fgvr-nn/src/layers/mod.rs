//! Layers on the [`Tape`](crate::Tape), most of them also candle `ModuleT`s with a right backward.
//!
//! On the tape a layer is `apply(&mut tape, &map, ..)`, or a function such as [`max_pool`]; with candle's
//! autograd it is `forward_t(&tensor, train)` from [`candle_nn::ModuleT`]. Both run the same kernels on the same
//! variables. The variables have the names and initial values of PyTorch's layers, or of timm's where
//! PyTorch has none; the weight of a convolution starts as in torchvision's ResNet.

use candle_core::{CpuStorage, Layout, Result, bail};

mod activation;
mod add;
mod attention;
mod batch_norm;
mod conv2d;
mod conv_norm;
mod frozen_conv;
mod frozen_linear;
mod gelu;
mod join;
mod l2_normalise;
mod layer_norm;
mod layer_scale;
mod linear;
mod normalisation;
mod normed;
mod on_device;
mod patch_embed;
mod pool;
mod position_embedding;
mod resize;
mod softmax;
mod tokens;
mod unary;

pub use activation::{relu, relu6, unflatten};
pub use add::add;
pub use attention::{AttentionConfig, MultiHeadAttention};
pub use batch_norm::{After, BatchNorm, BatchNormConfig};
pub use conv_norm::ConvNorm;
pub use conv2d::{Conv2d, ConvConfig};
pub use frozen_conv::{Finish, FrozenConv, FrozenPass};
pub use frozen_linear::{FrozenLinear, LinearFinish};
pub use gelu::Gelu;
pub use join::join_vectors;
pub use l2_normalise::L2Normalise;
pub use layer_norm::{LayerNorm, LayerNormConfig};
pub use layer_scale::LayerScale;
pub use linear::Linear;
pub use normed::{ConvInput, Normed, Shortcut};
pub use on_device::{
    DeviceConv, DeviceLinear, DeviceNorm, DeviceTokens, mean_of_places, self_attention,
};
pub use patch_embed::PatchEmbed;
pub use pool::{PoolConfig, avg_pool, global_mean, max_pool};
pub use position_embedding::{PositionEmbedding, resize_position_embedding};
pub use resize::{resize_bilinear, upsample_nearest};
pub use softmax::Softmax;
pub use tokens::{prepend_tokens, take_tokens};

pub use crate::kernels::activation::ActivationFunction;

/// The values of a contiguous operand.
fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("expected a contiguous operand, found {layout:?}"),
    }
}

/// The number of elements of `shape`, (N, H, W, C).
fn elements(op: &str, shape: [usize; 4]) -> Result<usize> {
    let product = shape
        .iter()
        .try_fold(1usize, |product, size| product.checked_mul(*size));
    match product.filter(|elements| *elements <= isize::MAX as usize / size_of::<f32>()) {
        Some(elements) => Ok(elements),
        None => bail!("{op}: {shape:?} (N, H, W, C) is larger than memory"),
    }
}
