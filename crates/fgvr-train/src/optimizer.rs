//! The optimiser of encoder and heads: which one, at which rate, with which decay.

use std::collections::{BTreeMap, HashMap};

use candle_core::{Result as CandleResult, Tensor, Var};
use fgvr_nn::ParameterGradients;
use fgvr_nn::optim::{Adam, AdamConfig, Lars, LarsConfig, MissingGradient, Sgd, SgdConfig};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::config::OptimizerSettings;

/// An optimiser of encoder and heads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerKind {
    /// Gradient descent with momentum: MoCo v2, SimSiam.
    #[default]
    Sgd,
    /// Layer-wise adaptive rates, for large batches: BYOL, MoCo v3 on residual networks.
    Lars,
    /// Adam with decoupled weight decay: transformers.
    Adamw,
}

impl OptimizerKind {
    /// Its name in settings, and of its file in a checkpoint.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sgd => "sgd",
            Self::Lars => "lars",
            Self::Adamw => "adamw",
        }
    }
}

/// One optimiser over all trained variables, or two where some keep the rate they start with.
pub(crate) struct TrunkOptimizer {
    kind: OptimizerKind,
    /// At the rate of the schedule.
    scheduled: Stepper,
    /// At the peak rate throughout, such as SimSiam's predictor.
    constant: Option<Stepper>,
    /// Weight decay at the first step and at the last.
    weight_decay: [f64; 2],
    lr: f64,
}

enum Stepper {
    Sgd(Sgd),
    Lars(Lars),
    Adamw(Adam),
}

impl TrunkOptimizer {
    /// Over `vars`; those whose names begin with one of `constant` keep the peak rate. With `skips`,
    /// a variable without gradient is left alone rather than an error.
    ///
    /// # Errors
    /// Constants out of range.
    pub(crate) fn new(
        vars: BTreeMap<String, Var>,
        settings: &OptimizerSettings,
        constant: &[&str],
        skips: bool,
    ) -> Result<Self> {
        let keeps = |name: &String| constant.iter().any(|prefix| name.starts_with(prefix));
        let (kept, scheduled): (BTreeMap<_, _>, _) =
            vars.into_iter().partition(|(name, _)| keeps(name));
        let stepper = |vars| Stepper::new(vars, settings, skips);
        Ok(Self {
            kind: settings.kind,
            scheduled: stepper(scheduled)?,
            constant: match kept.is_empty() {
                true => None,
                false => Some(stepper(kept)?),
            },
            weight_decay: [
                settings.weight_decay,
                settings.weight_decay_end.unwrap_or(settings.weight_decay),
            ],
            lr: settings.lr,
        })
    }

    /// Step `step` (from 0) of `total`, at the schedule's rate `lr`.
    ///
    /// # Errors
    /// A variable without gradient, or a gradient of another shape.
    pub(crate) fn step(
        &mut self,
        gradients: &ParameterGradients,
        lr: f64,
        step: u64,
        total: u64,
    ) -> Result<()> {
        let [start, end] = self.weight_decay;
        if start != end {
            // A cosine from one to the other, as DINO has it.
            let done = step as f64 / total.max(1) as f64;
            let decay = end + (start - end) * (1. + (std::f64::consts::PI * done).cos()) / 2.;
            for stepper in std::iter::once(&mut self.scheduled).chain(&mut self.constant) {
                if let Stepper::Adamw(adam) = stepper {
                    adam.set_weight_decay(decay)?;
                }
            }
        }
        self.scheduled.step(gradients, lr)?;
        if let Some(constant) = &mut self.constant {
            constant.step(gradients, self.lr)?;
        }
        Ok(())
    }

    /// What a resumed run needs, by the name of a file and then of a tensor.
    ///
    /// # Errors
    /// None in practice.
    pub(crate) fn state(&self) -> Result<Vec<(String, BTreeMap<String, Tensor>)>> {
        let name = self.kind.name();
        let mut state = vec![(name.to_owned(), self.scheduled.state()?)];
        if let Some(constant) = &self.constant {
            state.push((format!("{name}_constant"), constant.state()?));
        }
        Ok(state)
    }

    /// Takes over what [`TrunkOptimizer::state`] gave; `part` gives the tensors of a file.
    ///
    /// # Errors
    /// Tensors that are missing or of another shape.
    pub(crate) fn load_state(
        &mut self,
        part: impl Fn(&str) -> HashMap<String, Tensor>,
    ) -> Result<()> {
        let name = self.kind.name();
        self.scheduled.load_state(&part(name))?;
        if let Some(constant) = &mut self.constant {
            constant.load_state(&part(&format!("{name}_constant")))?;
        }
        Ok(())
    }
}

impl Stepper {
    fn new(vars: BTreeMap<String, Var>, settings: &OptimizerSettings, skips: bool) -> Result<Self> {
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

    fn step(&mut self, gradients: &ParameterGradients, lr: f64) -> CandleResult<()> {
        match self {
            Self::Sgd(sgd) => sgd.step(gradients, lr),
            Self::Lars(lars) => lars.step(gradients, lr),
            Self::Adamw(adam) => adam.step(gradients, lr),
        }
    }

    fn state(&self) -> CandleResult<BTreeMap<String, Tensor>> {
        match self {
            Self::Sgd(sgd) => sgd.state(),
            Self::Lars(lars) => lars.state(),
            Self::Adamw(adam) => adam.state(),
        }
    }

    fn load_state(&mut self, state: &HashMap<String, Tensor>) -> CandleResult<()> {
        match self {
            Self::Sgd(sgd) => sgd.load_state(state),
            Self::Lars(lars) => lars.load_state(state),
            Self::Adamw(adam) => adam.load_state(state),
        }
    }
}
