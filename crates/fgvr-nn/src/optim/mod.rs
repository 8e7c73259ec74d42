//! Optimisers over named variables, whose state can be saved and restored.
//!
//! candle's own SGD has no momentum, and its AdamW hides its moments. These step PyTorch's way, in
//! place and in one pass over each variable (LARS: one more for the lengths), and hand out all they carry from step to step as named tensors.

mod adam;
mod anchor;
mod average;
mod clip;
mod lars;
mod low_rank;
mod on_device;
mod sgd;
mod variables;

pub use adam::{Adam, AdamConfig};
pub use anchor::Anchor;
pub use average::{Following, follow};
pub use clip::clip_gradient_norm;
pub use lars::{Lars, LarsConfig};
pub use low_rank::LowRank;
pub use sgd::{Sgd, SgdConfig};
pub use variables::MissingGradient;
