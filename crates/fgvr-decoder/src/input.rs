//! The decoder's first layers: from features to its first map.

use candle_core::{Error, Result};
use candle_nn::VarBuilder;
use fgvr_nn::layers::{self, Conv2d, ConvConfig, Linear};
use fgvr_nn::{Activation, Tape};

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

    /// What is wrong with features of the shape `found`.
    pub(crate) fn refused(&self, config: &DecoderConfig, found: &[usize]) -> Error {
        let DecoderConfig {
            features, start, ..
        } = *config;
        Error::Msg(match self {
            Self::Vector { .. } => {
                format!("decoder: pooled is {found:?}, expected (N, {features}) with N > 0")
            }
            Self::Map(_) => format!(
                "decoder: map is {found:?}, expected (N, {features}, {start}, {start}) with N > 0"
            ),
        })
    }

    /// Dimensions of the features that it takes.
    pub(crate) fn rank(&self) -> usize {
        match self {
            Self::Vector { .. } => 2,
            Self::Map(_) => 4,
        }
    }

    /// The first map of `features`, which is on the tape.
    pub(crate) fn apply(
        &self,
        config: &DecoderConfig,
        tape: &mut Tape,
        features: &Activation,
    ) -> Result<Activation> {
        let DecoderConfig { hidden, start, .. } = *config;
        let (expected, [n, h, w, c]) = (config.features, features.shape());
        let fits = match self {
            Self::Vector { .. } => (h, w) == (1, 1),
            Self::Map(_) => (h, w) == (start, start),
        };
        if n == 0 || c != expected || !fits {
            let found = match self {
                Self::Vector { .. } if (h, w) == (1, 1) => vec![n, c],
                _ => vec![n, c, h, w],
            };
            return Err(self.refused(config, &found));
        }
        match self {
            Self::Vector { fc1, fc2 } => {
                let x = fc1.apply(tape, features)?;
                let x = fc2.apply(tape, &x)?;
                // (N, hidden * start * start) -> (N, hidden, start, start)
                layers::unflatten(tape, &x, (hidden, start, start))
            }
            Self::Map(project) => project.apply(tape, features),
        }
    }
}
