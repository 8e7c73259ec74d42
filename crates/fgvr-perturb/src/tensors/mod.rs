//! What takes and gives candle's tensors. All of it is computed on plain values, on the host.

mod bank;
mod mask;
mod perturb;
mod values;

pub use bank::FeatureBank;
pub use mask::{mask_overlap, non_discriminative_mask, non_discriminative_mask_with_stats};
pub use perturb::perturb;
