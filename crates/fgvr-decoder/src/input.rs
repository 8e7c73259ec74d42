//! The decoder's first layers: from features to its first map.

use candle_core::{Result, Tensor, bail};
use candle_nn::VarBuilder;
use fgvr_nn::layers::{self, Conv2d, ConvConfig, Linear};
use fgvr_nn::{Map, Tape};

use crate::DecoderConfig;

/// What a decoder is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum DecoderInput {
    /// Pooled features (N, C).
    #[default]
    Vector,
    /// The encoder's last map (N, C, start, start), which says where things are.
    Map,
}

/// To (N, hidden, start, start).
pub(crate) enum Input {
    /// `fc1`, `fc2`, without an activation between them.
    Vector { fc1: Linear, fc2: Linear },
    /// A 1x1 convolution, `project`.
    Map(Conv2d),
}

impl Input {
    pub(crate) fn new(config: &DecoderConfig, vb: VarBuilder) -> Result<Self> {
        let (features, hidden) = (config.features, config.hidden);
        let places = config.start * config.start;
        Ok(match config.input {
            DecoderInput::Vector => Self::Vector {
                fc1: Linear::new(features, hidden, true, vb.pp("fc1"))?,
                fc2: Linear::new(hidden, hidden * places, true, vb.pp("fc2"))?,
            },
            DecoderInput::Map => {
                let config = ConvConfig {
                    bias: true,
                    ..ConvConfig::default()
                };
                Self::Map(Conv2d::new(features, hidden, 1, &config, vb.pp("project"))?)
            }
        })
    }

    /// Puts `features` on the tape, whose backward returns their gradient.
    pub(crate) fn apply(
        &self,
        config: &DecoderConfig,
        tape: &mut Tape,
        features: &Tensor,
    ) -> Result<Map> {
        let DecoderConfig { hidden, start, .. } = *config;
        let (expected, found) = (config.features, features.dims());
        match (self, found) {
            (Self::Vector { .. }, &[n, c]) if n > 0 && c == expected => {}
            (Self::Map(_), &[n, c, h, w]) if n > 0 && c == expected && [h, w] == [start; 2] => {}
            (Self::Vector { .. }, _) => {
                bail!("decoder: pooled is {found:?}, expected (N, {expected}) with N > 0")
            }
            (Self::Map(_), _) => bail!(
                "decoder: map is {found:?}, expected (N, {expected}, {start}, {start}) with N > 0"
            ),
        }
        let wants_gradient = tape.is_recording();
        let x = tape.input(features, wants_gradient)?;
        match self {
            Self::Vector { fc1, fc2 } => {
                let x = fc1.apply(tape, &x)?;
                let x = fc2.apply(tape, &x)?;
                // (N, hidden * start * start) -> (N, hidden, start, start)
                layers::unflatten(tape, &x, (hidden, start, start))
            }
            Self::Map(project) => project.apply(tape, &x),
        }
    }
}
