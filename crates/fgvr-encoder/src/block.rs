//! A residual block: basic or bottleneck.

use candle_core::{Result, Tensor, bail};
use candle_nn::VarBuilder;
use fgvr_nn::layers::{BatchNormConfig, ConvConfig, ConvInput, ConvNorm, Shortcut};
use fgvr_nn::{Activation, NormMode, Tape};

use crate::ResNetConfig;
use crate::config::BlockKind;
use crate::frozen::{FrozenBlock, FrozenShortcut};

/// A convolution of odd `kernel` that keeps the side (or divides it by `stride`), and its norm.
pub(crate) fn conv_norm(
    channels: [usize; 2],
    kernel: usize,
    stride: usize,
    conv: VarBuilder,
    norm: VarBuilder,
    norm_config: &BatchNormConfig,
) -> Result<ConvNorm> {
    let config = ConvConfig {
        stride,
        padding: kernel / 2,
        ..ConvConfig::default()
    };
    ConvNorm::new(channels, kernel, &config, conv, norm_config, norm)
}

/// y = relu(branch(x) + shortcut(x)); arXiv:1512.03385, figure 5.
///
/// # Differs
/// The bottleneck's stride is on its 3x3 convolution, as in torchvision ("v1.5"), where the paper
/// has it on the first 1x1.
pub(crate) struct Block {
    /// conv1-bn1 (and conv2-bn2 in a bottleneck), each with a ReLU after it.
    inner: Vec<ConvNorm>,
    last: ConvNorm,
    /// 1x1 convolution and norm, where the branch changes the shape.
    downsample: Option<ConvNorm>,
}

impl Block {
    /// A block of `kind` from `c_in` to `base * expansion` channels.
    pub(crate) fn new(
        config: &ResNetConfig,
        kind: BlockKind,
        [c_in, base]: [usize; 2],
        stride: usize,
        vb: VarBuilder,
    ) -> Result<Self> {
        let (c_out, inner) = (base * kind.expansion(), config.inner_width(base));
        // (channels, kernel, stride) of each convolution
        let layers = match kind {
            BlockKind::Basic => vec![([c_in, base], 3, stride), ([base, c_out], 3, 1)],
            BlockKind::Bottleneck => vec![
                ([c_in, inner], 1, 1),
                ([inner, inner], 3, stride),
                ([inner, c_out], 1, 1),
            ],
        };
        let plain = BatchNormConfig::default();
        let last_norm = BatchNormConfig {
            initial_weight: if config.zero_init_residual { 0. } else { 1. },
            ..BatchNormConfig::default()
        };
        let count = layers.len();
        let mut inner = layers
            .into_iter()
            .enumerate()
            .map(|(i, (channels, kernel, stride))| {
                let config = if i + 1 == count { &last_norm } else { &plain };
                let (conv, norm) = (
                    vb.pp(format!("conv{}", i + 1)),
                    vb.pp(format!("bn{}", i + 1)),
                );
                conv_norm(channels, kernel, stride, conv, norm, config)
            })
            .collect::<Result<Vec<_>>>()?;
        let Some(last) = inner.pop() else {
            bail!("block: expected two or three layers, found none");
        };
        let downsample = if stride != 1 || c_in != c_out {
            let vb = vb.pp("downsample");
            Some(conv_norm(
                [c_in, c_out],
                1,
                stride,
                vb.pp("0"),
                vb.pp("1"),
                &plain,
            )?)
        } else {
            None
        };
        Ok(Self {
            inner,
            last,
            downsample,
        })
    }

    /// With `freeze` of each of its layers.
    pub(crate) fn freeze<C>(
        &self,
        freeze: impl Fn(&ConvNorm) -> Result<C>,
    ) -> Result<FrozenBlock<C>> {
        Ok(FrozenBlock {
            inner: self.inner.iter().map(&freeze).collect::<Result<_>>()?,
            last: freeze(&self.last)?,
            shortcut: FrozenShortcut::Relu(self.downsample.as_ref().map(freeze).transpose()?),
        })
    }

    pub(crate) fn variables(&self) -> Vec<Tensor> {
        let layers = self
            .inner
            .iter()
            .chain([&self.last])
            .chain(&self.downsample);
        layers.flat_map(ConvNorm::variables).collect()
    }

    pub(crate) fn apply(
        &self,
        tape: &mut Tape,
        x: &Activation,
        mode: NormMode,
    ) -> Result<Activation> {
        let shortcut = match &self.downsample {
            Some(downsample) => Shortcut::Projection(downsample.apply(tape, x, mode)?),
            None => Shortcut::Identity(x),
        };
        let mut y = ConvInput::Map(x);
        for layer in &self.inner {
            y = ConvInput::Relu(layer.apply(tape, y, mode)?);
        }
        self.last.apply(tape, y, mode)?.add_relu(tape, shortcut)
    }
}
