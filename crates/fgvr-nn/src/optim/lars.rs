//! Layer-wise adaptive rates.

use std::collections::{BTreeMap, HashMap};

use candle_core::{Result, Tensor, Var, bail};

use fgvr_cuda::ops::optimizer as kernels;

use super::MissingGradient;
use super::variables::{Piece, Variables, Whole};
use crate::ParameterGradients;
use crate::kernels::simd::{self, simd_fn};

/// The constants of [`Lars`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default))]
pub struct LarsConfig {
    /// Length of a step, as a share of the variable's, before the learning rate. By default 1e-3.
    pub trust: f64,
    /// Share of the previous velocity that is kept. By default 0.9.
    pub momentum: f64,
    /// Multiple of the variable that is added to its gradient. By default 1e-6.
    pub weight_decay: f64,
    /// Leaves every variable with at most one dimension (norm weights, biases) without weight decay
    /// and without an adapted rate: it steps as in SGD. By default true.
    pub exclude_norm_and_bias: bool,
    /// What becomes of a variable without gradient. By default an error.
    pub missing: MissingGradient,
}

impl Default for LarsConfig {
    /// MoCo v3's and BYOL's trust of 1e-3 and momentum of 0.9, and MoCo v3's weight decay of 1e-6.
    fn default() -> Self {
        Self {
            trust: 1e-3,
            momentum: 0.9,
            weight_decay: 1e-6,
            exclude_norm_and_bias: true,
            missing: MissingGradient::Error,
        }
    }
}

/// LARS (arXiv:1708.03888), in the form that MoCo v3 (arXiv:2104.02057) and BYOL train with:
///
/// d = g + weight_decay p,  v = momentum v + q d,  p = p - lr v,
///
/// with q = trust |p| / |d| where both lengths are above 0, and 1 otherwise.
///
/// # Differs
/// From the paper's Algorithm 1: |d| takes the place of |g| + weight_decay |p|, and the velocity does
/// not contain the learning rate.
pub struct Lars {
    variables: Variables<1>,
    cfg: LarsConfig,
}

/// Partial sums of squares.
const LANES: usize = 8;

simd_fn! {
    // Sums of p² and of (g + decay p)², in f64: squares of small gradients are no floats.
    fn squares(p: &[f32], g: &[f32], decay: f32) -> [f64; 2] {
        let (mut of_p, mut of_d) = ([0f64; LANES], [0f64; LANES]);
        let ((p, p_rest), (g, g_rest)) = (p.as_chunks::<LANES>(), g.as_chunks::<LANES>());
        for (p, g) in p.iter().zip(g) {
            for j in 0..LANES {
                let (p, d) = (f64::from(p[j]), f64::from(g[j] + decay * p[j]));
                of_p[j] += p * p;
                of_d[j] += d * d;
            }
        }
        for (j, (p, g)) in p_rest.iter().zip(g_rest).enumerate() {
            let (p, d) = (f64::from(*p), f64::from(g + decay * p));
            of_p[j] += p * p;
            of_d[j] += d * d;
        }
        [of_p.iter().sum(), of_d.iter().sum()]
    }

    fn update(p: &mut [f32], v: &mut [f32], g: &[f32], lr: f32, momentum: f32, decay: f32, rate: f32) {
        for ((p, v), g) in p.iter_mut().zip(v).zip(g) {
            *v = momentum * *v + (g + decay * *p) * rate;
            *p -= lr * *v;
        }
    }
}

impl Lars {
    /// An optimiser of `vars` with velocities of zero.
    ///
    /// # Errors
    /// A trust that is not positive, a momentum outside 0..1, a negative weight decay, or a variable
    /// that is not f32 on the CPU.
    pub fn new(vars: BTreeMap<String, Var>, cfg: &LarsConfig) -> Result<Self> {
        let LarsConfig {
            trust,
            momentum,
            weight_decay,
            ..
        } = *cfg;
        let valid = (trust.is_finite() && trust > 0.)
            && (0. ..1.).contains(&momentum)
            && (weight_decay.is_finite() && weight_decay >= 0.);
        if !valid {
            bail!(
                "lars: trust {trust} (more than 0), momentum {momentum} (0 to 1), weight decay {weight_decay} (0 or more)"
            );
        }
        let exclude = cfg.exclude_norm_and_bias;
        let variables = Variables::new("lars", ["momentum"], vars, exclude, cfg.missing)?;
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
        let trust = self.cfg.trust;
        // A variable that is excluded from weight decay is excluded from the adaptation too.
        let measure = |values: &[f32], gradient: &[f32], adapts: bool| match adapts {
            true => squares(level, values, gradient, decay),
            false => [0.; 2],
        };
        let here = |piece: Piece<'_, 1>, of: Whole<2>| {
            let Piece {
                values,
                moments: [velocity],
                gradient,
            } = piece;
            let decay = if of.decays { decay } else { 0. };
            let rate = rate(trust, of.sums) as f32;
            let lr = lr as f32;
            update(level, values, velocity, gradient, lr, momentum, decay, rate);
        };
        self.variables
            .step_measured(gradients, lr, measure, here, |machine, table, _| {
                let lars = kernels::Lars {
                    lr,
                    trust,
                    momentum: self.cfg.momentum,
                    weight_decay: self.cfg.weight_decay,
                };
                table.lars(machine, lars, None)
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

    /// Takes the state that [`Lars::state`] gave.
    ///
    /// # Errors
    /// A tensor that is missing, left over or of another shape; nothing changes then.
    pub fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        self.variables.load_state(state)
    }
}

/// trust |p| / |d|, or 1 where either is zero; NaN stays NaN.
fn rate(trust: f64, [of_p, of_d]: [f64; 2]) -> f64 {
    if of_p == 0. || of_d == 0. {
        return 1.;
    }
    trust * (of_p / of_d).sqrt()
}
