//! EfficientNet-Lite: stem, seven stages of inverted residual blocks, head, mean over places.

use candle_core::{Error as CandleError, Result};
use candle_nn::VarBuilder;
use fgvr_nn::layers::{self, ActivationFunction, ConvNorm};
use fgvr_nn::{Activation, Device, FeatureMaps, NormMode, Tape};

use crate::convolutional::convolutional;
use crate::frozen::FrozenConvNet;
use crate::intermediates::Intermediates;

mod block;
mod config;

use block::{Block, Layer};
pub(crate) use config::{EPS, HEAD, STEM, image_size};
pub use config::{EfficientNetConfig, Padding};

/// An EfficientNet-Lite (arXiv:1905.11946) without its classifier, under timm's parameter names: `conv_stem.weight`,
/// `bn1.weight`, `blocks.0.0.conv_dw.weight`, `blocks.1.0.conv_pw.weight`, `blocks.1.0.bn3.weight`,
/// `conv_head.weight`, `bn2.weight`, ...
///
/// [`Features::map`](fgvr_nn::Features::map) is the head's convolution after its norm and ReLU6, (N, 1280, H/32, W/32), rounded up;
/// [`Features::pooled`](fgvr_nn::Features::pooled) is its mean over places.
///
/// The Lite networks are EfficientNets without squeeze-and-excitation, with ReLU6 in place of SiLU, and with a stem and
/// a head that the multipliers leave as they are.
///
/// Convolutions start normal with the variance 2 / fan-out of a group, norms at weight 1 and bias 0, as timm's do.
///
/// # Differs
/// Nothing is dropped in training: neither features before the classifier nor branches.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use fgvr_encoder::{EfficientNet, EfficientNetConfig};
/// use fgvr_nn::{Encoder, NormMode, Parameters};
///
/// let config = EfficientNetConfig { width_multiplier: 0.2, ..EfficientNetConfig::default() };
/// let encoder = EfficientNet::new(&config, Parameters::new(0).builder(DType::F32, &Device::Cpu))?;
/// let images = Tensor::ones((2, 3, 64, 48), DType::F32, &Device::Cpu)?;
/// let features = encoder.features(&images, NormMode::Eval)?;
/// assert_eq!((features.map.dims(), features.pooled.dims()), (&[2, 1280, 2, 2][..], &[2, 1280][..]));
/// # Ok::<(), candle_core::Error>(())
/// ```
pub struct EfficientNet {
    config: EfficientNetConfig,
    stem: ConvNorm,
    stages: Vec<Vec<Block>>,
    head: ConvNorm,
    device: Option<Device>,
}

impl EfficientNet {
    /// The network, with its variables under `vb`.
    ///
    /// # Errors
    /// A configuration that [`EfficientNetConfig::validate`] refuses; a variable of another shape in `vb`.
    pub fn new(config: &EfficientNetConfig, vb: VarBuilder) -> Result<Self> {
        config.validate().map_err(CandleError::wrap)?;
        let stem = Layer {
            channels: [3, STEM],
            kernel: 3,
            stride: 2,
            groups: 1,
        };
        let stem = stem.build(config, vb.pp("conv_stem"), vb.pp("bn1"))?;
        let mut channels = STEM;
        let mut stages = Vec::new();
        for (i, stage) in config.stages().iter().enumerate() {
            let vb = vb.pp("blocks").pp(i.to_string());
            let mut blocks = Vec::with_capacity(stage.blocks);
            for block in 0..stage.blocks {
                let stride = if block == 0 { stage.stride } else { 1 };
                let vb = vb.pp(block.to_string());
                blocks.push(Block::new(config, stage, channels, stride, vb)?);
                channels = stage.channels;
            }
            stages.push(blocks);
        }
        let head = Layer::pointwise(channels, HEAD);
        Ok(Self {
            config: config.clone(),
            stem,
            stages,
            head: head.build(config, vb.pp("conv_head"), vb.pp("bn2"))?,
            device: None,
        })
    }

    fn convolutions<C>(&self, freeze: impl Fn(&ConvNorm) -> Result<C>) -> Result<FrozenConvNet<C>> {
        let blocks = self.stages.iter().flatten();
        Ok(FrozenConvNet {
            stem: freeze(&self.stem)?,
            pool: None,
            blocks: blocks
                .map(|block| block.freeze(&freeze))
                .collect::<Result<_>>()?,
            head: Some(freeze(&self.head)?),
            activation: ActivationFunction::Relu6,
        })
    }

    /// What [`EfficientNet::intermediates`] can give: `stem`, and `blocks.0` to `blocks.6`, the stages.
    #[must_use]
    pub fn intermediate_names(&self) -> Vec<String> {
        let stages = (0..self.stages.len()).map(|stage| format!("blocks.{stage}"));
        std::iter::once("stem".to_owned()).chain(stages).collect()
    }

    /// The one forward pass, of training and inference: the head's map and its mean over places.
    fn forward(
        &self,
        tape: &mut Tape,
        images: &Activation,
        norm: NormMode,
        intermediates: &mut Intermediates<'_>,
    ) -> Result<FeatureMaps> {
        let rectified = |tape: &mut Tape, layer: &ConvNorm, x: &Activation| {
            let y = layer.apply(tape, x, norm)?;
            y.activate(tape, ActivationFunction::Relu6)
        };
        let of_stem = self.stem.variables();
        let mut x = tape.part(images, &of_stem, |tape| rectified(tape, &self.stem, images))?;
        intermediates.see("stem", || x.to_tensor())?;
        for (i, stage) in self.stages.iter().enumerate() {
            for block in stage {
                x = tape.part(&x, &block.variables(), |tape| block.apply(tape, &x, norm))?;
            }
            intermediates.see(&format!("blocks.{i}"), || x.to_tensor())?;
        }
        let of_head = self.head.variables();
        let map = tape.part(&x, &of_head, |tape| rectified(tape, &self.head, &x))?;
        // (N, h, w, C) -> (N, 1, 1, C)
        let pooled = layers::global_mean(tape, &map)?;
        Ok(FeatureMaps { map, pooled })
    }
}

convolutional!(EfficientNet, EfficientNetConfig);
