//! A residual network for inference: norms folded into the convolutions, weights in order once.

use candle_core::{Result, Tensor};
use fgvr_nn::{Device, Features};

mod on_device;
mod on_host;
pub(crate) mod values;

pub(crate) use on_device::{BlockThere, OnDevice};
pub(crate) use on_host::{FrozenBlock, OnHost};

/// A [`ResNet`](crate::ResNet) as it was when it was frozen, made to embed many images where the network ran.
///
/// A snapshot with weights of its own: training the network, or loading weights into it, does not
/// change what this one says. Freezing takes about as long as copying the weights. On the CPU they are put into
/// the kernels' order by the first batch of each image size; the last two sizes are kept, so batches
/// of more sizes by turns should be sorted by size. On a device they are put there once, in the type of its maps.
///
/// Features are those of [`Encoder::features`](fgvr_nn::Encoder::features) in
/// [`NormMode::Eval`](fgvr_nn::NormMode::Eval) up to rounding. On the CPU bits do not depend on the number of
/// threads. On a device pooled features are f32 means, whatever the type of its maps.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use fgvr_encoder::{ResNet, ResNetConfig};
/// use fgvr_nn::Parameters;
///
/// let config = ResNetConfig { width: 8, ..ResNetConfig::resnet18() };
/// let parameters = Parameters::new(0);
/// let encoder = ResNet::new(&config, parameters.builder(DType::F32, &Device::Cpu))?;
/// let frozen = encoder.freeze()?; // once
/// for batch in [2, 1] {
///     let images = Tensor::ones((batch, 3, 64, 48), DType::F32, &Device::Cpu)?;
///     assert_eq!(frozen.embed(&images)?.dims(), [batch, frozen.width()]);
/// }
/// # Ok::<(), candle_core::Error>(())
/// ```
pub struct FrozenResNet {
    pub(crate) place: Place,
    pub(crate) width: usize,
}

/// Where a frozen network is.
pub(crate) enum Place {
    Host(Box<OnHost>),
    Device(Box<OnDevice>),
}

impl FrozenResNet {
    /// The last feature map (N, C, h, w) of `images` (N, 3, H, W), and its mean over places (N, C).
    ///
    /// # Errors
    /// Images of another shape, or not f32 on the CPU; what a GPU says, if the network is on one.
    pub fn features(&self, images: &Tensor) -> Result<Features> {
        match &self.place {
            Place::Host(network) => network.features(images),
            Place::Device(network) => network.features(images),
        }
    }

    /// The mean over places of the last feature map, (N, C), of `images` (N, 3, H, W): all that comes back from a
    /// device.
    ///
    /// # Errors
    /// As [`FrozenResNet::features`].
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
