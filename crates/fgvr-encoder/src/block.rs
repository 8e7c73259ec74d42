//! A residual block: basic or bottleneck.

use candle_core::Result;
use candle_nn::VarBuilder;
use fgvr_nn::layers::{After, BatchNorm, BatchNormConfig, Conv2d, ConvConfig};
use fgvr_nn::{Map, NormMode, Tape};

use crate::config::BlockKind;

/// A convolution without bias and the norm after it.
pub(crate) struct ConvNorm {
    conv: Conv2d,
    norm: BatchNorm,
}

impl ConvNorm {
    pub(crate) fn new(
        [c_in, c_out]: [usize; 2],
        kernel: usize,
        stride: usize,
        conv: VarBuilder,
        norm: VarBuilder,
        norm_config: &BatchNormConfig,
    ) -> Result<Self> {
        let config = ConvConfig {
            stride,
            padding: kernel / 2,
            bias: false,
            ..ConvConfig::default()
        };
        Ok(Self {
            conv: Conv2d::new(c_in, c_out, kernel, &config, conv)?,
            norm: BatchNorm::with_config(c_out, norm_config, norm)?,
        })
    }

    pub(crate) fn apply(
        &self,
        tape: &mut Tape,
        x: &Map,
        mode: NormMode,
        after: After<'_>,
    ) -> Result<Map> {
        let x = self.conv.apply(tape, x)?;
        self.norm.apply(tape, &x, mode, after)
    }
}

/// y = relu(branch(x) + shortcut(x)); arXiv:1512.03385, figure 5.
///
/// # Differs
/// The bottleneck's stride is on its 3x3 convolution, as in torchvision ("v1.5"), where the paper
/// has it on the first 1x1.
pub(crate) struct Block {
    /// conv1-bn1, conv2-bn2 (and conv3-bn3 in a bottleneck); all but the last end in a ReLU.
    branch: Vec<ConvNorm>,
    /// 1x1 convolution and norm, where the branch changes the shape.
    downsample: Option<ConvNorm>,
}

impl Block {
    /// A block from `c_in` to `base * expansion` channels.
    pub(crate) fn new(
        kind: BlockKind,
        c_in: usize,
        base: usize,
        stride: usize,
        zero_init_last_norm: bool,
        vb: VarBuilder,
    ) -> Result<Self> {
        let c_out = base * kind.expansion();
        // (channels, kernel, stride) of each convolution
        let layers = match kind {
            BlockKind::Basic => vec![([c_in, base], 3, stride), ([base, c_out], 3, 1)],
            BlockKind::Bottleneck => vec![
                ([c_in, base], 1, 1),
                ([base, base], 3, stride),
                ([base, c_out], 1, 1),
            ],
        };
        let plain = BatchNormConfig::default();
        let last_norm = BatchNormConfig {
            initial_weight: if zero_init_last_norm { 0. } else { 1. },
            ..BatchNormConfig::default()
        };
        let count = layers.len();
        let branch = layers
            .into_iter()
            .enumerate()
            .map(|(i, (channels, kernel, stride))| {
                let config = if i + 1 == count { &last_norm } else { &plain };
                let (conv, norm) = (
                    vb.pp(format!("conv{}", i + 1)),
                    vb.pp(format!("bn{}", i + 1)),
                );
                ConvNorm::new(channels, kernel, stride, conv, norm, config)
            })
            .collect::<Result<Vec<_>>>()?;
        let downsample = if stride != 1 || c_in != c_out {
            let vb = vb.pp("downsample");
            Some(ConvNorm::new(
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
        Ok(Self { branch, downsample })
    }

    pub(crate) fn apply(&self, tape: &mut Tape, x: &Map, mode: NormMode) -> Result<Map> {
        let shortcut = match &self.downsample {
            Some(downsample) => downsample.apply(tape, x, mode, After::NOTHING)?,
            None => x.clone(),
        };
        let mut y = x.clone();
        for (i, layer) in self.branch.iter().enumerate() {
            let after = if i + 1 == self.branch.len() {
                After::add_relu(&shortcut)
            } else {
                After::RELU
            };
            y = layer.apply(tape, &y, mode, after)?;
        }
        Ok(y)
    }
}
