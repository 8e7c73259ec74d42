//! A network for inference: norms and layer scale folded into its weights, which are put in order once.

use candle_core::{Result, Tensor};
use fgvr_nn::{Device, Features, Tape};

mod convolutional;
mod host_map;
mod on_device;
mod on_host;

pub(crate) use convolutional::{FrozenBlock, FrozenConvNet, FrozenShortcut};

/// A [`Backbone`](crate::Backbone) as it was when it was frozen, made to embed many images where it ran.
///
/// A snapshot with weights of its own: training the network, or loading weights into it, does not
/// change what this one says. Freezing takes about as long as copying the weights. On a device they are put there once,
/// in the type of its maps. On the CPU convolutions put them into the kernels' order by the first batch of each image
/// size; the last two sizes are kept, so batches of more sizes by turns should be sorted by size.
///
/// Features are those of [`Encoder::features`](fgvr_nn::Encoder::features) in
/// [`NormMode::Eval`](fgvr_nn::NormMode::Eval) up to rounding. On the CPU bits do not depend on the number of
/// threads, and those of a vision transformer not on the other images of a batch. On a device pooled features are f32,
/// whatever the type of its maps.
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
pub struct FrozenBackbone {
    network: Box<dyn Frozen>,
    device: Option<Device>,
    width: usize,
}

/// A network with its weights where it runs. The tape it is given is one for inference, there.
pub(crate) trait Frozen: Send + Sync {
    /// See [`FrozenBackbone::features`].
    fn features(&self, tape: &mut Tape, images: &Tensor) -> Result<Features>;

    /// See [`FrozenBackbone::embed`].
    fn embed(&self, tape: &mut Tape, images: &Tensor) -> Result<Tensor>;
}

impl FrozenBackbone {
    /// A network in one of two forms: that `on_host`, or, if there is a device, that `on_device`.
    pub(crate) fn new<H: Frozen + 'static, D: Frozen + 'static>(
        width: usize,
        device: Option<&Device>,
        on_host: impl FnOnce() -> Result<H>,
        on_device: impl FnOnce(&Device) -> Result<D>,
    ) -> Result<Self> {
        Ok(Self {
            network: match device {
                None => Box::new(on_host()?),
                Some(device) => Box::new(on_device(device)?),
            },
            device: device.cloned(),
            width,
        })
    }

    fn tape(&self) -> Tape {
        Tape::inference().on(self.device.as_ref())
    }

    /// The last feature map (N, C, h, w) of `images` (N, 3, H, W), and the pooled features (N, C): what the network's
    /// own documentation says they are.
    ///
    /// # Errors
    /// Images of a shape that does not fit the network, or not f32 on the CPU; what a GPU says, if it is on one.
    pub fn features(&self, images: &Tensor) -> Result<Features> {
        self.network.features(&mut self.tape(), images)
    }

    /// The pooled features (N, C) of `images` (N, 3, H, W): all that comes back from a device. Where they are the class
    /// token of a vision transformer, no other token is looked at any more in the last block.
    ///
    /// # Errors
    /// Images of a shape that does not fit the network, or not f32 on the CPU; what a GPU says, if it is on one.
    pub fn embed(&self, images: &Tensor) -> Result<Tensor> {
        self.network.embed(&mut self.tape(), images)
    }

    /// Where it is, if not on the CPU.
    #[must_use]
    pub fn device(&self) -> Option<&Device> {
        self.device.as_ref()
    }

    /// The length of a pooled vector.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }
}
