//! An EfficientNet-Lite for inference: norms folded into the convolutions, weights in order once.

use candle_core::{Result, Tensor};
use fgvr_nn::{Device, Features};

mod on_device;
mod on_host;

pub(super) use on_device::{BlockThere, OnDevice};
pub(super) use on_host::{FrozenBlock, OnHost};

/// An [`EfficientNet`](crate::EfficientNet) as it was when it was frozen, made to embed many images where the network
/// ran.
///
/// A snapshot with weights of its own: training the network, or loading weights into it, does not change what this one
/// says. Features are those of [`Encoder::features`](fgvr_nn::Encoder::features) in
/// [`NormMode::Eval`](fgvr_nn::NormMode::Eval) up to rounding. On the CPU bits do not depend on the number of threads,
/// and batches of more than two sizes by turns should be sorted by size, as for
/// [`FrozenResNet`](crate::FrozenResNet). On a device pooled features are f32 means, whatever the type of its maps.
pub struct FrozenEfficientNet {
    pub(super) place: Place,
    pub(super) width: usize,
}

/// Where a frozen network is.
pub(super) enum Place {
    Host(Box<OnHost>),
    Device(Box<OnDevice>),
}

impl FrozenEfficientNet {
    /// The head's map (N, C, h, w) of `images` (N, 3, H, W), and its mean over places (N, C).
    ///
    /// # Errors
    /// Images of another shape, or not f32 on the CPU; what a GPU says, if the network is on one.
    pub fn features(&self, images: &Tensor) -> Result<Features> {
        match &self.place {
            Place::Host(network) => network.features(images),
            Place::Device(network) => network.features(images),
        }
    }

    /// The mean over places of the head's map, (N, C), of `images` (N, 3, H, W): all that comes back from a device.
    ///
    /// # Errors
    /// As [`FrozenEfficientNet::features`].
    pub fn embed(&self, images: &Tensor) -> Result<Tensor> {
        match &self.place {
            Place::Host(network) => network.embed(images),
            Place::Device(network) => network.embed(images),
        }
    }

    /// C, the number of channels of the last map.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Where it is, if not on the CPU.
    #[must_use]
    pub fn device(&self) -> Option<&Device> {
        match &self.place {
            Place::Host(_) => None,
            Place::Device(network) => Some(network.device()),
        }
    }
}
