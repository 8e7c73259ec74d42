//! One optimiser of any kind.

use std::collections::{BTreeMap, HashMap};

use candle_core::{Result, Tensor, Var};
use fgvr_nn::ParameterGradients;
use fgvr_nn::optim::{Adam, AdamConfig, Lars, LarsConfig, MissingGradient, Sgd, SgdConfig};

use crate::config::{OptimizerKind, OptimizerSettings};

pub(super) enum Stepper {
    Sgd(Sgd),
    Lars(Lars),
    Adamw(Adam),
}

impl Stepper {
    pub(super) fn new(
        vars: BTreeMap<String, Var>,
        settings: &OptimizerSettings,
        skips: bool,
    ) -> Result<Self> {
        let missing = match skips {
            true => MissingGradient::Skip,
            false => MissingGradient::default(),
        };
        let (momentum, weight_decay) = (settings.momentum, settings.weight_decay);
        Ok(match settings.kind {
            OptimizerKind::Sgd => Self::Sgd(Sgd::new(
                vars,
                &SgdConfig {
                    momentum,
                    weight_decay,
                    exclude_norm_and_bias: true,
                    missing,
                },
            )?),
            OptimizerKind::Lars => Self::Lars(Lars::new(
                vars,
                &LarsConfig {
                    trust: settings.trust,
                    momentum,
                    weight_decay,
                    missing,
                    ..LarsConfig::default()
                },
            )?),
            OptimizerKind::Adamw => Self::Adamw(Adam::new(
                vars,
                &AdamConfig {
                    weight_decay,
                    exclude_norm_and_bias: true,
                    missing,
                    ..AdamConfig::default()
                },
            )?),
        })
    }

    /// The weight decay of steps to come, of those kinds whose decay has a course.
    pub(super) fn set_weight_decay(&mut self, decay: f64) -> Result<()> {
        match self {
            Self::Adamw(adam) => adam.set_weight_decay(decay),
            Self::Sgd(_) | Self::Lars(_) => Ok(()),
        }
    }

    pub(super) fn step(&mut self, gradients: &ParameterGradients, lr: f64) -> Result<()> {
        match self {
            Self::Sgd(sgd) => sgd.step(gradients, lr),
            Self::Lars(lars) => lars.step(gradients, lr),
            Self::Adamw(adam) => adam.step(gradients, lr),
        }
    }

    pub(super) fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        match self {
            Self::Sgd(sgd) => sgd.state(),
            Self::Lars(lars) => lars.state(),
            Self::Adamw(adam) => adam.state(),
        }
    }

    pub(super) fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        match self {
            Self::Sgd(sgd) => sgd.load_state(state),
            Self::Lars(lars) => lars.load_state(state),
            Self::Adamw(adam) => adam.load_state(state),
        }
    }
}
