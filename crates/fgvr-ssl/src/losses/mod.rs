//! Losses, each on the host by candle's autograd and on a device by kernels.

pub(crate) mod compare;
pub(crate) mod contrast;
pub(crate) mod found;
pub(crate) mod info_nce;

pub use self::compare::Comparison;
pub use self::found::{DeviceFound, Found, Numbers};
pub use self::info_nce::{InfoNce, Negatives, info_nce};
