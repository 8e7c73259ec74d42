//! The optimiser of encoder and heads: which one, at which rates, with which decay.

mod groups;
mod stepper;
mod trained;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use candle_core::{Tensor, Var};
use fgvr_nn::optim::{Anchor, LowRank};
use fgvr_nn::{Device, FrozenVariables, ParameterGradients};

use self::groups::{Group, grouped};
use self::stepper::Stepper;
use self::trained::Trained;
use crate::Result;
use crate::config::{OptimizerKind, OptimizerSettings};
use crate::learning_rate::of_peak;

/// What an add-on to the optimiser saves its state under.
const LOW_RANK: &str = "low_rank";
const ANCHOR: &str = "anchor";

/// What the names of the trunk's variables begin with.
const TRUNK: &str = "encoder.";

/// Those of the trunk's variables `vars`, by timm's names, that stay as they are throughout.
///
/// # Errors
/// Names that are to be frozen and are none of the trunk's.
pub(crate) fn frozen_of_trunk(
    vars: &BTreeMap<String, Var>,
    settings: &OptimizerSettings,
) -> Result<FrozenVariables> {
    let of_base = vars
        .iter()
        .map(|(name, var)| (format!("{TRUNK}{name}"), var.clone()));
    let of_base: BTreeMap<_, _> = of_base.collect();
    let frozen = trained::frozen(&of_base, settings)?;
    Ok(frozen
        .iter()
        .map(|name| of_base[name].as_tensor())
        .collect())
}

/// An optimiser over all trained variables, in groups that each have a rate of their own.
pub(crate) struct TrunkOptimizer {
    kind: OptimizerKind,
    groups: Vec<(Group, Stepper)>,
    /// Matrices of the trunk that change by a product of low rank; then nothing else of the trunk is trained.
    low_rank: Option<LowRank>,
    /// The trunk's variables that are drawn toward the start, by the group's number.
    anchors: Vec<(usize, Anchor)>,
    /// Where variables live, if not on the CPU.
    device: Option<Device>,
    /// Names of variables whose gradients nobody uses.
    frozen: BTreeSet<String>,
    /// Values of the trunk that change freely.
    trunk_values: usize,
    /// Weight decay at the first step and at the last.
    weight_decay: [f64; 2],
    warm_up: f64,
    /// Steps in which the trunk stays as it is.
    head_steps: u64,
}

impl TrunkOptimizer {
    /// Over those of `vars` that are not frozen; those whose names begin with one of `constant` keep the peak rate. With
    /// `skips`, a variable without gradient is left alone rather than an error. `seed` is that of matrices of low rank, and
    /// `device` where variables live, if not on the CPU.
    ///
    /// # Errors
    /// Constants out of range; names that are to be frozen and are none of the trunk's.
    pub(crate) fn new(
        vars: BTreeMap<String, Var>,
        settings: &OptimizerSettings,
        (constant, skips): (&[&str], bool),
        seed: u64,
        device: Option<Device>,
    ) -> Result<Self> {
        let Trained {
            vars,
            low_rank,
            frozen,
        } = Trained::new(vars, settings, seed)?;
        let of_trunk = vars.iter().filter(|(name, _)| name.starts_with(TRUNK));
        let trunk_values = of_trunk.map(|(_, var)| var.elem_count()).sum();
        let (mut groups, mut anchors) = (Vec::new(), Vec::new());
        for (number, (group, vars)) in grouped(vars, settings, constant).into_iter().enumerate() {
            if settings.anchor > 0. {
                let mut trunk = vars.clone();
                trunk.retain(|name, _| name.starts_with(TRUNK));
                anchors.push((number, Anchor::new(trunk, settings.anchor)?));
            }
            groups.push((group, Stepper::new(vars, settings, skips)?));
        }
        Ok(Self {
            kind: settings.kind,
            groups,
            low_rank,
            anchors,
            device,
            frozen,
            trunk_values,
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
        let of_low_rank = self.low_rank.as_ref().map(|l| l.gradients(gradients));
        let of_low_rank = of_low_rank.transpose()?;
        let mut rates = Vec::with_capacity(self.groups.len());
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
            let gradients = match &of_low_rank {
                Some(of_low_rank) if group.is_trunk => of_low_rank,
                _ => gradients,
            };
            stepper.step(gradients, lr)?;
            rates.push(lr);
        }
        let device = self.device.as_ref();
        if let Some(low_rank) = &self.low_rank {
            low_rank.apply(device)?;
        }
        for (group, anchor) in &self.anchors {
            anchor.draw(rates[*group], device)?;
        }
        Ok(())
    }

    /// Whether the gradient of the variable `name` is of use to nobody.
    pub(crate) fn is_frozen(&self, name: &str) -> bool {
        self.frozen.contains(name)
    }

    /// How many values of the trunk change freely.
    pub(crate) fn trunk_values(&self) -> usize {
        self.trunk_values
    }

    /// What a resumed run needs, by the name of a file and then of a tensor.
    ///
    /// # Errors
    /// None in practice.
    pub(crate) fn state(&self) -> Result<Vec<(String, BTreeMap<String, Tensor>)>> {
        let kind = self.kind;
        let of = |(group, stepper): &(Group, Stepper)| Ok((group.file(kind), stepper.state()?));
        let mut state: Vec<_> = self.groups.iter().map(of).collect::<Result<_>>()?;
        if let Some(low_rank) = &self.low_rank {
            state.push((LOW_RANK.to_owned(), low_rank.state()?));
        }
        let anchors = self.anchors.iter().flat_map(|(_, anchor)| anchor.state());
        let anchors: BTreeMap<_, _> = anchors.collect();
        if !anchors.is_empty() {
            state.push((ANCHOR.to_owned(), anchors));
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
        for (group, stepper) in &mut self.groups {
            stepper.load_state(&part(&group.file(self.kind)))?;
        }
        if let Some(low_rank) = &mut self.low_rank {
            low_rank.load_state(&part(LOW_RANK))?;
        }
        for (_, anchor) in &mut self.anchors {
            anchor.load_state(&part(ANCHOR))?;
        }
        Ok(())
    }
}
