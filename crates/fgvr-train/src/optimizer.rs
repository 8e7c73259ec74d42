//! The optimiser of encoder and heads: which one, at which rates, with which decay.

mod groups;
mod stepper;

use std::collections::{BTreeMap, HashMap};

use candle_core::{Tensor, Var};
use fgvr_nn::ParameterGradients;

use self::groups::{Group, grouped};
use self::stepper::Stepper;
use crate::Result;
use crate::config::{OptimizerKind, OptimizerSettings};
use crate::learning_rate::of_peak;

/// An optimiser over all trained variables, in groups that each have a rate of their own.
pub(crate) struct TrunkOptimizer {
    kind: OptimizerKind,
    groups: Vec<(Group, Stepper)>,
    /// Weight decay at the first step and at the last.
    weight_decay: [f64; 2],
    warm_up: f64,
    /// Steps in which the trunk stays as it is.
    head_steps: u64,
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
        let groups = grouped(vars, settings, constant)
            .into_iter()
            .map(|(group, vars)| Ok((group, Stepper::new(vars, settings, skips)?)))
            .collect::<Result<_>>()?;
        Ok(Self {
            kind: settings.kind,
            groups,
            weight_decay: [
                settings.weight_decay,
                settings.weight_decay_end.unwrap_or(settings.weight_decay),
            ],
            warm_up: settings.warm_up,
            head_steps: settings.head_steps,
        })
    }

    /// Step `step` (from 0) of `total`.
    ///
    /// # Errors
    /// A variable without gradient, or a gradient of another shape.
    pub(crate) fn step(
        &mut self,
        gradients: &ParameterGradients,
        step: u64,
        total: u64,
    ) -> Result<()> {
        let [start, end] = self.weight_decay;
        if start != end {
            // A cosine from one to the other, as DINO has it.
            let done = step as f64 / total.max(1) as f64;
            let decay = end + (start - end) * (1. + (std::f64::consts::PI * done).cos()) / 2.;
            for (_, stepper) in &mut self.groups {
                stepper.set_weight_decay(decay)?;
            }
        }
        for (group, stepper) in &mut self.groups {
            let lr = match group {
                Group { is_trunk: true, .. } if step < self.head_steps => 0.,
                Group {
                    is_constant: true,
                    peak,
                    ..
                } => *peak,
                Group { peak, .. } => of_peak(*peak, self.warm_up, step, total),
            };
            stepper.step(gradients, lr)?;
        }
        Ok(())
    }

    /// What a resumed run needs, by the name of a file and then of a tensor.
    ///
    /// # Errors
    /// None in practice.
    pub(crate) fn state(&self) -> Result<Vec<(String, BTreeMap<String, Tensor>)>> {
        let kind = self.kind;
        let of = |(group, stepper): &(Group, Stepper)| Ok((group.file(kind), stepper.state()?));
        self.groups.iter().map(of).collect()
    }

    /// Takes over what [`TrunkOptimizer::state`] gave; `part` gives the tensors of a file.
    ///
    /// # Errors
    /// Tensors that are missing or of another shape.
    pub(crate) fn load_state(
        &mut self,
        part: impl Fn(&str) -> HashMap<String, Tensor>,
    ) -> Result<()> {
        for (group, stepper) in &mut self.groups {
            stepper.load_state(&part(&group.file(self.kind)))?;
        }
        Ok(())
    }
}
