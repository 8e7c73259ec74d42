//! A block that doubles the side of a map.

use candle_core::Result;
use candle_nn::VarBuilder;
use fgvr_nn::layers::{
    self, ActivationFunction, BatchNormConfig, ConvConfig, ConvInput, ConvNorm, Shortcut,
};
use fgvr_nn::{Activation, NormMode, Tape};

/// Nearest x2, then one of two branches.
pub(crate) enum Block {
    /// [3x3 convolution, norm, ReLU]; variables `conv`, `bn`.
    Plain(ConvNorm),
    /// relu([3x3 convolution, norm, ReLU, 3x3 convolution, norm] + shortcut), the shortcut a 1x1 convolution
    /// and norm where the widths differ; variables `conv1`, `bn1`, `conv2`, `bn2`, `shortcut.conv`,
    /// `shortcut.bn`. After arXiv:1512.03385, figure 5.
    Residual(Box<Residual>),
}

/// The layers of a residual block.
pub(crate) struct Residual {
    first: ConvNorm,
    last: ConvNorm,
    shortcut: Option<ConvNorm>,
}

impl Block {
    pub(crate) fn new(residual: bool, [c_in, c_out]: [usize; 2], vb: VarBuilder) -> Result<Self> {
        let layer = |channels, kernel: usize, conv: VarBuilder, norm: VarBuilder| {
            let config = ConvConfig {
                padding: kernel / 2,
                ..ConvConfig::default()
            };
            let norm_config = BatchNormConfig::default();
            ConvNorm::new(channels, kernel, &config, conv, &norm_config, norm)
        };
        if !residual {
            let plain = layer([c_in, c_out], 3, vb.pp("conv"), vb.pp("bn"))?;
            return Ok(Self::Plain(plain));
        }
        let shortcut = match c_in == c_out {
            true => None,
            false => {
                let vb = vb.pp("shortcut");
                Some(layer([c_in, c_out], 1, vb.pp("conv"), vb.pp("bn"))?)
            }
        };
        Ok(Self::Residual(Box::new(Residual {
            first: layer([c_in, c_out], 3, vb.pp("conv1"), vb.pp("bn1"))?,
            last: layer([c_out, c_out], 3, vb.pp("conv2"), vb.pp("bn2"))?,
            shortcut,
        })))
    }

    pub(crate) fn apply(
        &self,
        tape: &mut Tape,
        x: &Activation,
        norm: NormMode,
    ) -> Result<Activation> {
        let x = layers::upsample_nearest(tape, x, 2)?;
        match self {
            Self::Plain(layer) => layer
                .apply(tape, &x, norm)?
                .activate(tape, ActivationFunction::Relu),
            Self::Residual(layers) => {
                let Residual {
                    first,
                    last,
                    shortcut,
                } = layers.as_ref();
                let short = match shortcut {
                    Some(layer) => Shortcut::Projection(layer.apply(tape, &x, norm)?),
                    None => Shortcut::Identity(&x),
                };
                let inner = ConvInput::Relu(first.apply(tape, &x, norm)?);
                last.apply(tape, inner, norm)?.add_relu(tape, short)
            }
        }
    }
}
