//! Steps of the optimisers over all parameters at once.
//!
//! [`Parameters`] is a table in the machine's memory, built once: it points to the values, gradients and
//! moments where they are, so these must stay there ([`Parameters::set_gradients`] names others). What changes from step to step, such as the learning
//! rate, is an argument of the launch: a step uploads nothing and waits for nothing.
//!
//! Formulas and their order are those of fgvr-nn's `optim`.
//!
//! # Differs
//! All parameters of a table count the same steps, where those of fgvr-nn count their own: what has a
//! gradient in some steps only belongs in another table.

use super::tensors::{Entry, Table, check};
use crate::source::OPTIMIZER;
use crate::{Argument, Array, DType, Error, Launch, Machine, Module, Real, Result};

const THREADS: u32 = 256;
const WARPS: usize = 8;
const MODULE: Module = Module {
    file: &OPTIMIZER,
    real: Real::F32,
};

/// One parameter: arrays of f32 of one length, and what is done with it.
#[derive(Clone)]
pub struct Parameter {
    /// What is trained.
    pub value: Array,
    /// Its gradient.
    pub gradient: Array,
    /// One for [`Sgd`] and [`Lars`] (the velocity), two for [`Adam`] (means of gradient and square); zero at
    /// the start.
    pub moments: Vec<Array>,
    /// Whether weight decay applies.
    pub decays: bool,
    /// Whether [`Lars`] adapts its rate; fgvr-nn adapts those that decay.
    pub adapts: bool,
}

/// All parameters of an optimiser, in the machine's memory.
pub struct Parameters {
    table: Table,
    moments: usize,
    /// Sums of chunks, two each.
    partial: Array,
    /// A rate for each tensor.
    rates: Array,
}

/// SGD with PyTorch's momentum: v = momentum v + (g + weight_decay p), p = p - lr v.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Learning rate.
    pub lr: f64,
    /// Share of the previous velocity that is kept.
    pub momentum: f64,
    /// Multiple of the value that is added to its gradient.
    pub weight_decay: f64,
}

/// AdamW in PyTorch's form, and without weight decay Adam.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Learning rate.
    pub lr: f64,
    /// Shares of the previous means of gradient and square that are kept.
    pub betas: [f64; 2],
    /// Added to the root of the mean square.
    pub eps: f64,
    /// Share of the value, times the learning rate, that a step takes away.
    pub weight_decay: f64,
    /// Steps taken with this one: 1 in the first.
    pub steps: u64,
}

/// LARS: d = g + weight_decay p, v = momentum v + q d, p = p - lr v, with q = trust |p| / |d| where both
/// lengths are above 0, and 1 otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lars {
    /// Learning rate.
    pub lr: f64,
    /// Length of a step, as a share of the value's, before the learning rate.
    pub trust: f64,
    /// Share of the previous velocity that is kept.
    pub momentum: f64,
    /// Multiple of the value that is added to its gradient.
    pub weight_decay: f64,
}

/// The norm of all gradients together, in the machine's memory.
pub struct GradientNorm {
    /// The norm, one f64.
    pub norm: Array,
    /// One f32 that gradients are to be multiplied by: max / (norm + 1e-6) where the norm is above max and
    /// finite, 1 otherwise.
    pub factor: Array,
}

impl Parameters {
    /// A table of `parameters`, which all have as many moments.
    ///
    /// # Errors
    /// Arrays of one parameter that differ in length or are not f32, numbers of moments that differ or are
    /// above 2, an array that is twice among those that a step writes; what the machine says.
    pub fn new(machine: &dyn Machine, parameters: &[Parameter]) -> Result<Self> {
        const OP: &str = "optimiser";
        let moments = parameters.first().map_or(0, |p| p.moments.len());
        let entry = |p: &Parameter| {
            if p.moments.len() != moments || moments > 2 {
                return Err(Error::Shape {
                    op: OP,
                    what: "moments",
                    expected: format!("{} for each parameter", moments.min(2)),
                    found: p.moments.len().to_string(),
                });
            }
            let own = [&p.value, &p.gradient].into_iter().chain(&p.moments);
            Ok(Entry {
                arrays: own.cloned().collect(),
                options: u32::from(p.decays) | u32::from(p.adapts) << 1,
            })
        };
        let entries = parameters.iter().map(entry).collect::<Result<_>>()?;
        // Gradients too: clipping may write them.
        let table = Table::new(machine, OP, entries, &[0, 1, 2, 3])?;
        Ok(Self {
            moments,
            partial: Array::new(machine, DType::F64, 2 * table.chunk_count)?,
            rates: Array::new(machine, DType::F32, table.tensor_count)?,
            table,
        })
    }

    /// Points to other arrays as the gradients, one for each parameter in their order. This uploads the
    /// table, some 56 bytes a parameter: for gradients that do not stay where they are.
    ///
    /// # Errors
    /// Another number of arrays, other lengths or types, an array that is there twice; the old ones stay then.
    pub fn set_gradients(&mut self, machine: &dyn Machine, gradients: &[Array]) -> Result<()> {
        self.table.replace(machine, 1, gradients)
    }

    /// One step of SGD. Gradients are multiplied by `factor`, one f32, where it is given.
    ///
    /// # Errors
    /// Constants out of range, parameters without a moment; what the machine says.
    pub fn sgd(&self, machine: &dyn Machine, sgd: Sgd, factor: Option<&Array>) -> Result<()> {
        const OP: &str = "sgd";
        self.check(OP, 1, sgd.lr, factor)?;
        check_share(OP, "momentum", sgd.momentum)?;
        check_positive(OP, "weight decay", sgd.weight_decay)?;
        let operands = [
            Argument::optional(factor),
            Argument::F32(sgd.lr as f32),
            Argument::F32(sgd.momentum as f32),
            Argument::F32(sgd.weight_decay as f32),
        ];
        self.table.launch(machine, MODULE, "sgd_step", &operands)
    }

    /// One step of AdamW. Gradients are multiplied by `factor`, one f32, where it is given.
    ///
    /// # Errors
    /// Constants out of range, parameters without two moments; what the machine says.
    pub fn adam(&self, machine: &dyn Machine, adam: Adam, factor: Option<&Array>) -> Result<()> {
        const OP: &str = "adam";
        self.check(OP, 2, adam.lr, factor)?;
        for beta in adam.betas {
            check_share(OP, "beta", beta)?;
        }
        check_positive(OP, "eps", adam.eps)?;
        check_positive(OP, "weight decay", adam.weight_decay)?;
        let steps = adam.steps as f64;
        check(OP, "steps", steps, adam.steps > 0, "1 or more")?;
        let [beta1, beta2] = adam.betas;
        // Differences from 1 are taken in f64: 1 - 0.999 in f32 is off by 1e-5.
        let numbers = [
            beta1,
            beta2,
            1. - beta1,
            1. - beta2,
            adam.eps,
            1. - adam.lr * adam.weight_decay,
            adam.lr / (1. - beta1.powf(steps)),
            (1. - beta2.powf(steps)).sqrt(),
        ];
        let mut operands = vec![Argument::optional(factor)];
        operands.extend(numbers.map(|v| Argument::F32(v as f32)));
        self.table.launch(machine, MODULE, "adam_step", &operands)
    }

    /// One step of LARS. Gradients are multiplied by `factor`, one f32, where it is given.
    ///
    /// # Errors
    /// Constants out of range, parameters without a moment; what the machine says.
    pub fn lars(&self, machine: &dyn Machine, lars: Lars, factor: Option<&Array>) -> Result<()> {
        const OP: &str = "lars";
        self.check(OP, 1, lars.lr, factor)?;
        check_share(OP, "momentum", lars.momentum)?;
        check_positive(OP, "weight decay", lars.weight_decay)?;
        let trusted = lars.trust.is_finite() && lars.trust > 0.;
        check(OP, "trust", lars.trust, trusted, "more than 0")?;
        if self.table.tensor_count == 0 {
            return Ok(());
        }
        let (factor, decay) = (
            Argument::optional(factor),
            Argument::F32(lars.weight_decay as f32),
        );
        let operands = [factor, Argument::Array(&self.partial), decay];
        self.table
            .launch(machine, MODULE, "lars_squares", &operands)?;
        machine.launch(&Launch {
            module: MODULE,
            kernel: "lars_rates",
            grid: [self.table.tensor_count.div_ceil(WARPS) as u32, 1, 1],
            block: [THREADS, 1, 1],
            shared: 0,
            arguments: &[
                self.table.tensors(),
                Argument::Array(&self.partial),
                Argument::Array(&self.rates),
                Argument::I32(self.table.tensor_count as i32),
                Argument::F64(lars.trust),
            ],
        })?;
        let operands = [
            factor,
            Argument::Array(&self.rates),
            Argument::F32(lars.lr as f32),
            Argument::F32(lars.momentum as f32),
            decay,
        ];
        self.table.launch(machine, MODULE, "lars_step", &operands)
    }

    /// The rate q of each parameter in the last step of LARS.
    #[must_use]
    pub fn lars_rates(&self) -> &Array {
        &self.rates
    }

    /// The norm of all gradients together. Its factor brings them to `max`: give it to the step, which then
    /// clips as it reads, or to [`Parameters::scale_gradients`].
    ///
    /// # Errors
    /// A maximum that is not positive; what the machine says.
    pub fn gradient_norm(&self, machine: &dyn Machine, max: Option<f64>) -> Result<GradientNorm> {
        const OP: &str = "gradient norm";
        let max = max.unwrap_or(f64::INFINITY);
        check(OP, "maximum", max, max > 0., "more than 0")?;
        let made = GradientNorm {
            norm: Array::new(machine, DType::F64, 1)?,
            factor: Array::new(machine, DType::F32, 1)?,
        };
        let partial = Argument::Array(&self.partial);
        self.table
            .launch(machine, MODULE, "gradient_squares", &[partial])?;
        machine.launch(&Launch {
            module: MODULE,
            kernel: "gradient_norm",
            grid: [1, 1, 1],
            block: [THREADS, 1, 1],
            shared: 0,
            arguments: &[
                partial,
                Argument::Array(&made.norm),
                Argument::Array(&made.factor),
                Argument::I32(self.table.chunk_count as i32),
                Argument::F64(max),
            ],
        })?;
        Ok(made)
    }

    /// Multiplies all gradients by `factor`, one f32.
    ///
    /// # Errors
    /// A factor that is not one f32; what the machine says.
    pub fn scale_gradients(&self, machine: &dyn Machine, factor: &Array) -> Result<()> {
        factor.expect("scale gradients", "factor", DType::F32, 1)?;
        let operands = [Argument::Array(factor)];
        self.table
            .launch(machine, MODULE, "gradient_scale", &operands)
    }

    fn check(
        &self,
        op: &'static str,
        moments: usize,
        lr: f64,
        factor: Option<&Array>,
    ) -> Result<()> {
        check_positive(op, "learning rate", lr)?;
        if let Some(factor) = factor {
            factor.expect(op, "factor", DType::F32, 1)?;
        }
        if self.table.tensor_count > 0 && self.moments != moments {
            return Err(Error::Shape {
                op,
                what: "moments",
                expected: format!("{moments} for each parameter"),
                found: self.moments.to_string(),
            });
        }
        Ok(())
    }
}

fn check_share(op: &'static str, what: &'static str, value: f64) -> Result<()> {
    let valid = (0. ..1.).contains(&value);
    check(op, what, value, valid, "0 or more and less than 1")
}

fn check_positive(op: &'static str, what: &'static str, value: f64) -> Result<()> {
    let valid = value.is_finite() && value >= 0.;
    check(op, what, value, valid, "a finite number, 0 or more")
}
