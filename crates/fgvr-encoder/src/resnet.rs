//! The residual network: stem, four stages, mean over places.

use candle_core::{Error as CandleError, Result};
use candle_nn::VarBuilder;
use fgvr_nn::layers::{self, ActivationFunction, BatchNormConfig, ConvNorm, PoolConfig};
use fgvr_nn::{Activation, Device, FeatureMaps, NormMode, Tape};

use crate::block::{Block, conv_norm};
use crate::convolutional::convolutional;
use crate::frozen::FrozenConvNet;
use crate::intermediates::Intermediates;
use crate::{ResNetConfig, Stem};

/// A residual network (arXiv:1512.03385) without its classifier, under torchvision's parameter
/// names: `conv1.weight`, `bn1.weight`, `layer1.0.conv1.weight`, `layer2.0.downsample.0.weight`, ...
///
/// Convolutions start from kaiming's normal law over the fan-out, norms at weight 1 and bias 0.
///
/// # Differs
/// Depths 10 and 14 and widths other than 64 are not in torchvision; their parameters are named by
/// the same rule.
pub struct ResNet {
    config: ResNetConfig,
    stem: ConvNorm,
    pool: Option<PoolConfig>,
    stages: Vec<Vec<Block>>,
    device: Option<Device>,
}

impl ResNet {
    /// The network, with its variables under `vb`.
    ///
    /// # Errors
    /// A configuration that [`ResNetConfig::validate`] refuses; a variable of another shape in `vb`.
    pub fn new(config: &ResNetConfig, vb: VarBuilder) -> Result<Self> {
        let (kind, blocks) = config.layout().map_err(CandleError::wrap)?;
        let (kernel, pool) = match config.stem {
            Stem::ImageNet => (
                7,
                Some(PoolConfig {
                    kernel: 3,
                    stride: 2,
                    padding: 1,
                }),
            ),
            Stem::Small => (3, None),
        };
        let stem = conv_norm(
            [3, config.width],
            kernel,
            2,
            vb.pp("conv1"),
            vb.pp("bn1"),
            &BatchNormConfig::default(),
        )?;
        let mut channels = config.width;
        let mut stages = Vec::with_capacity(blocks.len());
        for (stage, count) in blocks.into_iter().enumerate() {
            let vb = vb.pp(format!("layer{}", stage + 1));
            let base = config.width << stage;
            let mut stage_blocks = Vec::with_capacity(count);
            for i in 0..count {
                let stride = if i == 0 && stage > 0 { 2 } else { 1 };
                let vb = vb.pp(i.to_string());
                stage_blocks.push(Block::new(config, kind, [channels, base], stride, vb)?);
                channels = base * kind.expansion();
            }
            stages.push(stage_blocks);
        }
        Ok(Self {
            config: config.clone(),
            stem,
            pool,
            stages,
            device: None,
        })
    }

    fn convolutions<C>(&self, freeze: impl Fn(&ConvNorm) -> Result<C>) -> Result<FrozenConvNet<C>> {
        let blocks = self.stages.iter().flatten();
        Ok(FrozenConvNet {
            stem: freeze(&self.stem)?,
            pool: self.pool.clone(),
            blocks: blocks
                .map(|block| block.freeze(&freeze))
                .collect::<Result<_>>()?,
            head: None,
            activation: ActivationFunction::Relu,
        })
    }

    /// What [`ResNet::intermediates`] can give: `stem` (before its pooling) and `layer1` to `layer4`.
    #[must_use]
    pub fn intermediate_names(&self) -> Vec<String> {
        let layers = (1..=self.stages.len()).map(|stage| format!("layer{stage}"));
        std::iter::once("stem".to_owned()).chain(layers).collect()
    }

    /// The one forward pass, of training and inference: the last map and its mean over places.
    fn forward(
        &self,
        tape: &mut Tape,
        images: &Activation,
        norm: NormMode,
        intermediates: &mut Intermediates<'_>,
    ) -> Result<FeatureMaps> {
        let mut x = tape.part(images, &self.stem.variables(), |tape| {
            let stem = self.stem.apply(tape, images, norm)?;
            let stem = stem.activate(tape, ActivationFunction::Relu)?;
            intermediates.see("stem", || stem.to_tensor())?;
            match &self.pool {
                Some(pool) => layers::max_pool(tape, &stem, pool),
                None => Ok(stem),
            }
        })?;
        for (i, stage) in self.stages.iter().enumerate() {
            for block in stage {
                x = tape.part(&x, &block.variables(), |tape| block.apply(tape, &x, norm))?;
            }
            intermediates.see(&format!("layer{}", i + 1), || x.to_tensor())?;
        }
        // (N, h, w, C) -> (N, 1, 1, C)
        let pooled = layers::global_mean(tape, &x)?;
        Ok(FeatureMaps { map: x, pooled })
    }
}

convolutional!(ResNet, ResNetConfig);
