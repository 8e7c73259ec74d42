//! The layers on a device: the same values and gradients as their forms on the CPU, by fgvr-cuda's kernels.
//!
//! A layer's `apply` checks shapes and comes here if its tape is on a device.

mod attention;
mod batch_norm;
mod channels;
mod conv;
mod conv_norm;
mod frozen_conv;
mod frozen_tokens;
mod linear;
mod normed;
mod places;
mod tokens;
mod unary;

pub(super) use attention::{attention, first_shares, shares};
pub(super) use batch_norm::batch_norm;
pub(super) use channels::{gelu, l2_normalise, layer_norm, layer_scale, softmax};
pub(super) use conv::conv2d;
pub(super) use conv_norm::conv_norm;
pub use frozen_conv::{DeviceConv, mean_of_places};
pub use frozen_tokens::{DeviceLinear, DeviceNorm, DeviceTokens, self_attention};
pub(super) use linear::linear;
pub(super) use normed::DeviceNormed;
pub(super) use places::{
    activate, add, avg_pool, global_mean, max_pool, resize_bilinear, unflatten, upsample_nearest,
};
pub(super) use tokens::{add_positions, cut_patches, join_vectors, prepend_tokens, take_tokens};
