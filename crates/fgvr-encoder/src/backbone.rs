//! Any of the networks, chosen at run time.

use std::collections::BTreeMap;

use candle_core::{Error as CandleError, Result, Tensor};
use candle_nn::VarBuilder;
use fgvr_nn::{Activation, Device, Encoder, FeatureMaps, NormMode, Tape};

use crate::{EfficientNet, EncoderConfig, FrozenBackbone, NetworkConfig, ResNet, Vit};

/// A network of any [`Architecture`](crate::Architecture).
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use fgvr_encoder::{Architecture, Backbone, EncoderConfig};
/// use fgvr_nn::{Encoder, NormMode, Parameters};
///
/// let config = EncoderConfig { width: 8, ..EncoderConfig::from(Architecture::ResNet18) };
/// let vb = Parameters::new(0).builder(DType::F32, &Device::Cpu);
/// let encoder = Backbone::new(&config, vb)?;
/// let images = Tensor::ones((2, 3, 64, 64), DType::F32, &Device::Cpu)?;
/// assert_eq!(encoder.features(&images, NormMode::Eval)?.pooled.dims(), [2, 64]);
/// let inside = encoder.intermediates(&images, NormMode::Eval, &["layer2"])?;
/// assert_eq!(inside["layer2"].dims(), [2, 16, 8, 8]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[non_exhaustive]
pub enum Backbone {
    /// A residual network.
    ResNet(ResNet),
    /// An EfficientNet-Lite.
    EfficientNet(EfficientNet),
    /// A vision transformer.
    Vit(Vit),
}

impl Backbone {
    /// The network, with its variables under `vb`.
    ///
    /// # Errors
    /// A configuration that [`EncoderConfig::validate`] refuses; a variable of another shape in
    /// `vb`.
    pub fn new(config: &EncoderConfig, vb: VarBuilder) -> Result<Self> {
        Ok(match config.network().map_err(CandleError::wrap)? {
            NetworkConfig::ResNet(config) => Self::ResNet(ResNet::new(&config, vb)?),
            NetworkConfig::EfficientNet(config) => {
                Self::EfficientNet(EfficientNet::new(&config, vb)?)
            }
            NetworkConfig::Vit(config) => Self::Vit(Vit::new(&config, vb)?),
        })
    }

    /// This network, run on `device`; on the CPU if there is none. Its variables stay where they are.
    /// [`Backbone::freeze`] makes a snapshot for the same place.
    #[must_use]
    pub fn on(self, device: Option<Device>) -> Self {
        match self {
            Self::ResNet(network) => Self::ResNet(network.on(device)),
            Self::EfficientNet(network) => Self::EfficientNet(network.on(device)),
            Self::Vit(network) => Self::Vit(network.on(device)),
        }
    }

    /// What the network was built from.
    #[must_use]
    pub fn config(&self) -> NetworkConfig {
        match self {
            Self::ResNet(network) => NetworkConfig::ResNet(network.config().clone()),
            Self::EfficientNet(network) => NetworkConfig::EfficientNet(network.config().clone()),
            Self::Vit(network) => NetworkConfig::Vit(network.config().clone()),
        }
    }

    /// The network as it is now, made ready to embed many images where it runs: see [`FrozenBackbone`]. Its
    /// variables are read as the CPU has them.
    ///
    /// # Errors
    /// Variables that are not f32 on the CPU; what a GPU says, if the network is on one.
    pub fn freeze(&self) -> Result<FrozenBackbone> {
        match self {
            Self::ResNet(network) => network.freeze(),
            Self::EfficientNet(network) => network.freeze(),
            Self::Vit(network) => network.freeze(),
        }
    }

    fn network(&self) -> &dyn Encoder {
        match self {
            Self::ResNet(network) => network,
            Self::EfficientNet(network) => network,
            Self::Vit(network) => network,
        }
    }

    /// What [`Backbone::intermediates`] can give: see [`ResNet::intermediate_names`],
    /// [`EfficientNet::intermediate_names`] and [`Vit::intermediate_names`].
    #[must_use]
    pub fn intermediate_names(&self) -> Vec<String> {
        match self {
            Self::ResNet(network) => network.intermediate_names(),
            Self::EfficientNet(network) => network.intermediate_names(),
            Self::Vit(network) => network.intermediate_names(),
        }
    }

    /// What the network computes on its way, without a way back: the tensors that `wanted` names,
    /// and no others are made.
    ///
    /// # Errors
    /// A name that is not among [`Backbone::intermediate_names`]; images of a shape that does not fit.
    pub fn intermediates(
        &self,
        images: &Tensor,
        norm: NormMode,
        wanted: &[&str],
    ) -> Result<BTreeMap<String, Tensor>> {
        match self {
            Self::ResNet(network) => network.intermediates(images, norm, wanted),
            Self::EfficientNet(network) => network.intermediates(images, norm, wanted),
            Self::Vit(network) => network.intermediates(images, wanted),
        }
    }
}

impl Encoder for Backbone {
    fn apply(&self, tape: &mut Tape, images: &Activation, norm: NormMode) -> Result<FeatureMaps> {
        self.network().apply(tape, images, norm)
    }

    fn device(&self) -> Option<&Device> {
        self.network().device()
    }

    fn width(&self) -> usize {
        self.network().width()
    }

    fn class_attention(&self, images: &Tensor, norm: NormMode) -> Result<Option<Vec<Tensor>>> {
        self.network().class_attention(images, norm)
    }
}
