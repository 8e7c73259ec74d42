//! Adam with decoupled weight decay (AdamW).

use std::collections::{BTreeMap, HashMap};

use candle_core::{Result, Tensor, Var, bail};

use fgvr_cuda::ops::optimizer as kernels;

use super::MissingGradient;
use super::variables::{Piece, Variables};
use crate::ParameterGradients;
use crate::kernels::simd::{self, simd_fn};

/// The constants of [`Adam`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default))]
pub struct AdamConfig {
    /// Share of the previous mean gradient that is kept. By default 0.9.
    pub beta1: f64,
    /// Share of the previous mean square gradient that is kept. By default 0.999.
    pub beta2: f64,
    /// Added to the root of the mean square. By default 1e-8.
    pub eps: f64,
    /// Share of the variable, times the learning rate, that a step takes away. By default 0.01.
    pub weight_decay: f64,
    /// Leaves every variable with one dimension (norm weights, biases) without weight decay. By default false.
    pub exclude_norm_and_bias: bool,
    /// What becomes of a variable without gradient. By default an error.
    pub missing: MissingGradient,
}

impl Default for AdamConfig {
    /// PyTorch's constants for AdamW.
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.01,
            exclude_norm_and_bias: false,
            missing: MissingGradient::Error,
        }
    }
}

/// AdamW (arXiv:1711.05101), in PyTorch's form:
///
/// p = p - lr weight_decay p,  m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g²,
/// p = p - lr m' / (sqrt(v') + eps),  with m' = m / (1 - beta1^t) and v' = v / (1 - beta2^t)
///
/// The step t is counted per variable.
pub struct Adam {
    variables: Variables<2>,
    cfg: AdamConfig,
}

simd_fn! {
    fn update(
        p: &mut [f32],
        m: &mut [f32],
        v: &mut [f32],
        g: &[f32],
        beta: [f32; 2],
        rest: [f32; 2],
        eps: f32,
        keep: f32,
        rate: f32,
        root: f32,
    ) {
        for (((p, m), v), g) in p.iter_mut().zip(m).zip(v).zip(g) {
            *m = beta[0] * *m + rest[0] * g;
            *v = beta[1] * *v + rest[1] * (g * g);
            *p = keep * *p - rate * *m / (v.sqrt() / root + eps);
        }
    }
}

impl Adam {
    /// An optimiser of `vars` with moments of zero.
    ///
    /// # Errors
    /// A beta outside 0..1, a negative eps or weight decay, or a variable that is not f32 on the
    /// CPU.
    pub fn new(vars: BTreeMap<String, Var>, cfg: &AdamConfig) -> Result<Self> {
        let betas = [cfg.beta1, cfg.beta2];
        if !betas.iter().all(|b| (0. ..1.).contains(b))
            || cfg.eps.is_nan()
            || cfg.eps < 0.
            || cfg.weight_decay.is_nan()
            || cfg.weight_decay < 0.
        {
            bail!(
                "adam: betas {betas:?} (0 to 1), eps {}, weight decay {} (0 or more)",
                cfg.eps,
                cfg.weight_decay
            );
        }
        let names = ["exp_avg", "exp_avg_sq"];
        let variables =
            Variables::new("adam", names, vars, cfg.exclude_norm_and_bias, cfg.missing)?;
        Ok(Self {
            variables,
            cfg: cfg.clone(),
        })
    }

    /// Sets the weight decay of the steps to come, for those who let it follow a schedule. It is no part
    /// of [`Adam::state`].
    ///
    /// # Errors
    /// A weight decay that is negative or not finite.
    pub fn set_weight_decay(&mut self, weight_decay: f64) -> Result<()> {
        if !(weight_decay.is_finite() && weight_decay >= 0.) {
            bail!("adam: weight decay {weight_decay} (0 or more)");
        }
        self.cfg.weight_decay = weight_decay;
        Ok(())
    }

    /// One step of every variable.
    ///
    /// # Errors
    /// A learning rate that is negative or not finite, a gradient of another shape, or none for a
    /// variable (unless [`MissingGradient::Skip`]). No variable has changed then.
    pub fn step(&mut self, gradients: &ParameterGradients, lr: f64) -> Result<()> {
        let level = simd::level();
        let AdamConfig {
            beta1,
            beta2,
            eps,
            weight_decay,
            ..
        } = self.cfg;
        let here = |piece: Piece<'_, 2>, steps: u64, decays: bool| {
            let Piece {
                values,
                moments: [m, v],
                gradient,
            } = piece;
            let keep = 1. - if decays { lr * weight_decay } else { 0. };
            // Differences from 1 are taken in f64: 1 - 0.999 in f32 is off by 1e-5.
            let rate = lr / (1. - beta1.powf(steps as f64));
            let root = (1. - beta2.powf(steps as f64)).sqrt();
            let beta = [beta1, beta2];
            let (beta, rest) = (beta.map(|b| b as f32), beta.map(|b| (1. - b) as f32));
            let [eps, keep, rate, root] = [eps, keep, rate, root].map(|v| v as f32);
            update(
                level, values, m, v, gradient, beta, rest, eps, keep, rate, root,
            );
        };
        self.variables
            .step(gradients, lr, here, |machine, table, steps| {
                let adam = kernels::Adam {
                    lr,
                    betas: [beta1, beta2],
                    eps,
                    weight_decay,
                    steps,
                };
                table.adam(machine, adam, None)
            })
    }

    /// Steps taken.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.variables.steps()
    }

    /// All that the optimiser carries: `{variable}.exp_avg`, `{variable}.exp_avg_sq`,
    /// `{variable}.step` and `step`.
    ///
    /// # Errors
    /// None in practice.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        self.variables.state()
    }

    /// Takes the state that [`Adam::state`] gave.
    ///
    /// # Errors
    /// A tensor that is missing, left over or of another shape; nothing changes then.
    pub fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        self.variables.load_state(state)
    }
}
