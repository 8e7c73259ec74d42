//! Stochastic gradient descent with momentum.

use std::collections::{BTreeMap, HashMap};

use candle_core::{Result, Tensor, Var, bail};

use fgvr_cuda::ops::optimizer as kernels;

use super::MissingGradient;
use super::variables::{Piece, Variables};
use crate::ParameterGradients;
use crate::kernels::simd::{self, simd_fn};

/// The constants of [`Sgd`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default))]
pub struct SgdConfig {
    /// Share of the previous velocity that is kept. By default 0.9.
    pub momentum: f64,
    /// Multiple of the variable that is added to its gradient. By default 1e-4.
    pub weight_decay: f64,
    /// Leaves every variable with one dimension (norm weights, biases) without weight decay. By default false.
    pub exclude_norm_and_bias: bool,
    /// What becomes of a variable without gradient. By default an error.
    pub missing: MissingGradient,
}

impl Default for SgdConfig {
    /// MoCo v2's constants: momentum 0.9, weight decay 1e-4 on every variable.
    fn default() -> Self {
        Self {
            momentum: 0.9,
            weight_decay: 1e-4,
            exclude_norm_and_bias: false,
            missing: MissingGradient::Error,
        }
    }
}

/// SGD with PyTorch's momentum, whose velocity does not contain the learning rate:
///
/// v = momentum v + (g + weight_decay p),  p = p - lr v
pub struct Sgd {
    variables: Variables<1>,
    cfg: SgdConfig,
}

simd_fn! {
    fn update(p: &mut [f32], v: &mut [f32], g: &[f32], lr: f32, momentum: f32, decay: f32) {
        for ((p, v), g) in p.iter_mut().zip(v).zip(g) {
            *v = momentum * *v + (g + decay * *p);
            *p -= lr * *v;
        }
    }
}

impl Sgd {
    /// An optimiser of `vars` with velocities of zero.
    ///
    /// # Errors
    /// A momentum outside 0..1, a negative weight decay, or a variable that is not f32 on the CPU.
    pub fn new(vars: BTreeMap<String, Var>, cfg: &SgdConfig) -> Result<Self> {
        if !(0. ..1.).contains(&cfg.momentum) || cfg.weight_decay.is_nan() || cfg.weight_decay < 0.
        {
            bail!(
                "sgd: momentum {} (0 to 1), weight decay {} (0 or more)",
                cfg.momentum,
                cfg.weight_decay
            );
        }
        let variables = Variables::new(
            "sgd",
            ["momentum"],
            vars,
            cfg.exclude_norm_and_bias,
            cfg.missing,
        )?;
        Ok(Self {
            variables,
            cfg: cfg.clone(),
        })
    }

    /// One step of every variable.
    ///
    /// # Errors
    /// A learning rate that is negative or not finite, a gradient of another shape, or none for a
    /// variable (unless [`MissingGradient::Skip`]). No variable has changed then.
    pub fn step(&mut self, gradients: &ParameterGradients, lr: f64) -> Result<()> {
        let level = simd::level();
        let (momentum, decay) = (self.cfg.momentum as f32, self.cfg.weight_decay as f32);
        let here = |piece: Piece<'_, 1>, _, decays: bool| {
            let Piece {
                values,
                moments: [velocity],
                gradient,
            } = piece;
            let decay = if decays { decay } else { 0. };
            update(
                level, values, velocity, gradient, lr as f32, momentum, decay,
            );
        };
        self.variables
            .step(gradients, lr, here, |machine, table, _| {
                let sgd = kernels::Sgd {
                    lr,
                    momentum: self.cfg.momentum,
                    weight_decay: self.cfg.weight_decay,
                };
                table.sgd(machine, sgd, None)
            })
    }

    /// Steps taken.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.variables.steps()
    }

    /// All that the optimiser carries: `{variable}.momentum`, `{variable}.step` and `step`.
    ///
    /// # Errors
    /// None in practice.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        self.variables.state()
    }

    /// Takes the state that [`Sgd::state`] gave.
    ///
    /// # Errors
    /// A tensor that is missing, left over or of another shape; nothing changes then.
    pub fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        self.variables.load_state(state)
    }
}
