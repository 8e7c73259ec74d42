//! Batch norm over rows of channels, with a residual and an activation, and its gradients.
//!
//! Rows are the N*H*W places of a channels-last map, in `groups` equal runs with statistics of their own.

use super::ActivationFunction;
use super::columns::Tiling;
use super::rows::{Rows, THREADS, WARPS};
use crate::source::BATCH_NORM;
use crate::{Argument, Array, DType, Launch, Machine, Module, Real, Result};

/// A norm with its statistics: y = (x - mean) * scale + bias. Arrays of f32, (groups, channels) but for the
/// bias (channels).
pub struct Norm {
    /// What it runs over.
    pub rows: Rows,
    /// Whether the statistics are those of x, and so have gradients.
    pub of_batch: bool,
    /// Mean.
    pub mean: Array,
    /// Biased variance.
    pub variance: Array,
    /// 1 / sqrt(variance + eps).
    pub inverse: Array,
    /// `inverse` times the weight.
    pub scale: Array,
    /// What is added.
    pub bias: Array,
}

/// How what follows the norm masks its gradient.
#[derive(Clone, Copy)]
pub enum Mask<'a> {
    /// An activation of the norm's output, which is recomputed from x.
    Recompute(ActivationFunction),
    /// A ReLU after a residual: by its output.
    Output(&'a Array),
}

/// What norm's backward needs, and the gradients of its parameters.
pub struct Gradients {
    /// Gradient of the weight (channels).
    pub weight: Array,
    /// Gradient of the bias (channels).
    pub bias: Array,
    /// Mean of the gradient (groups, channels); 0 where the statistics are constants.
    pub mean: Array,
    /// Slope in x - mean (groups, channels); 0 where the statistics are constants.
    pub slope: Array,
}

fn module(x: &Array, op: &'static str) -> Result<Module> {
    Ok(Module {
        file: &BATCH_NORM,
        real: x.real(op, "x")?,
    })
}

/// What is added to the norm's output before the activation.
#[derive(Clone, Copy)]
pub enum Residual<'a> {
    /// Nothing.
    None,
    /// A map.
    Map(&'a Array),
    /// A map through a norm of its own.
    Normed(&'a Array, &'a Norm),
}

impl Norm {
    /// By the statistics of `x` (groups, rows, channels); `weight` and `bias` (channels) of f32.
    ///
    /// # Errors
    /// Operands of other lengths or types; what the machine says.
    pub fn of_batch(
        machine: &dyn Machine,
        x: &Array,
        rows: Rows,
        weight: &Array,
        bias: &Array,
        eps: f64,
    ) -> Result<Self> {
        const OP: &str = "batch norm statistics";
        let module = module(x, OP)?;
        x.expect(OP, "x", x.dtype(), rows.len())?;
        let tiling = Tiling::sums(rows, module);
        let partial = Array::new(machine, DType::F32, 3 * tiling.slabs * rows.of_groups())?;
        let operands = [Argument::Array(x), Argument::Array(&partial)];
        tiling.launch(
            machine,
            module,
            ["norm_moments", "norm_moments_any"],
            &operands,
            &[],
        )?;
        let norm = Self::unset(machine, rows, weight, bias, true)?;
        machine.launch(&Launch {
            module,
            kernel: "norm_statistics",
            grid: [rows.channels.div_ceil(WARPS) as u32, rows.groups as u32, 1],
            block: [THREADS as u32, 1, 1],
            shared: 0,
            arguments: &[
                Argument::Array(&partial),
                Argument::Array(weight),
                Argument::Array(&norm.mean),
                Argument::Array(&norm.variance),
                Argument::Array(&norm.inverse),
                Argument::Array(&norm.scale),
                Argument::I32(tiling.slabs as i32),
                Argument::I32(rows.channels as i32),
                Argument::F64(eps),
            ],
        })?;
        Ok(norm)
    }

    /// By `running` mean and variance (channels), which are constants, over one group.
    ///
    /// # Errors
    /// Operands of other lengths or types; what the machine says.
    pub fn constant(
        machine: &dyn Machine,
        rows: Rows,
        running: [&Array; 2],
        weight: &Array,
        bias: &Array,
        eps: f64,
    ) -> Result<Self> {
        const OP: &str = "batch norm by running statistics";
        let rows = rows.in_one_group();
        for (what, array) in ["running mean", "running variance"]
            .into_iter()
            .zip(running)
        {
            array.expect(OP, what, DType::F32, rows.channels)?;
        }
        let norm = Self {
            mean: running[0].clone(),
            variance: running[1].clone(),
            ..Self::unset(machine, rows, weight, bias, false)?
        };
        machine.launch(&Launch {
            module: Module {
                file: &BATCH_NORM,
                real: Real::F32,
            },
            kernel: "norm_constant",
            grid: [rows.channels.div_ceil(THREADS) as u32, 1, 1],
            block: [THREADS as u32, 1, 1],
            shared: 0,
            arguments: &[
                Argument::Array(&norm.variance),
                Argument::Array(weight),
                Argument::Array(&norm.inverse),
                Argument::Array(&norm.scale),
                Argument::I32(rows.channels as i32),
                Argument::F64(eps),
            ],
        })?;
        Ok(norm)
    }

    fn unset(
        machine: &dyn Machine,
        rows: Rows,
        weight: &Array,
        bias: &Array,
        of_batch: bool,
    ) -> Result<Self> {
        const OP: &str = "batch norm";
        weight.expect(OP, "weight", DType::F32, rows.channels)?;
        bias.expect(OP, "bias", DType::F32, rows.channels)?;
        let array = || Array::new(machine, DType::F32, rows.of_groups());
        Ok(Self {
            rows,
            of_batch,
            mean: array()?,
            variance: array()?,
            inverse: array()?,
            scale: array()?,
            bias: bias.clone(),
        })
    }

    /// running += momentum * (mean over groups - running), the variance without bias.
    ///
    /// # Errors
    /// Operands of other lengths or types; what the machine says.
    pub fn update_running(
        &self,
        machine: &dyn Machine,
        [mean, variance]: [&Array; 2],
        momentum: f32,
    ) -> Result<()> {
        const OP: &str = "batch norm running statistics";
        let Rows {
            groups,
            rows,
            channels,
        } = self.rows;
        mean.expect(OP, "running mean", DType::F32, channels)?;
        variance.expect(OP, "running variance", DType::F32, channels)?;
        let unbias = rows as f32 / (rows as f32 - 1.).max(1.);
        machine.launch(&Launch {
            module: Module {
                file: &BATCH_NORM,
                real: Real::F32,
            },
            kernel: "norm_running",
            grid: [channels.div_ceil(THREADS) as u32, 1, 1],
            block: [THREADS as u32, 1, 1],
            shared: 0,
            arguments: &[
                Argument::Array(&self.mean),
                Argument::Array(&self.variance),
                Argument::Array(mean),
                Argument::Array(variance),
                Argument::I32(groups as i32),
                Argument::I32(channels as i32),
                Argument::F32(momentum),
                Argument::F32(unbias),
            ],
        })
    }

    /// The activation of norm(x) (+ residual).
    ///
    /// # Errors
    /// Operands of other lengths or types; what the machine says.
    pub fn apply(
        &self,
        machine: &dyn Machine,
        x: &Array,
        residual: Residual<'_>,
        activation: ActivationFunction,
    ) -> Result<Array> {
        const OP: &str = "batch norm";
        let (module, rows) = (module(x, OP)?, self.rows);
        x.expect(OP, "x", x.dtype(), rows.len())?;
        let (added, other) = match residual {
            Residual::None => (None, None),
            Residual::Map(map) => (Some(map), None),
            Residual::Normed(map, norm) => (Some(map), Some(norm)),
        };
        if let Some(map) = added {
            map.expect(OP, "residual", x.dtype(), rows.len())?;
        }
        if let Some(norm) = other {
            norm.scale
                .expect(OP, "scale of the residual", DType::F32, rows.of_groups())?;
        }
        let y = Array::new(machine, x.dtype(), rows.len())?;
        let operands = [
            Argument::Array(x),
            Argument::Array(&self.mean),
            Argument::Array(&self.scale),
            Argument::Array(&self.bias),
            Argument::optional(added),
            Argument::optional(other.map(|norm| &norm.mean)),
            Argument::optional(other.map(|norm| &norm.scale)),
            Argument::optional(other.map(|norm| &norm.bias)),
            Argument::Array(&y),
        ];
        let kernels = ["norm_apply", "norm_apply_any"];
        Tiling::sums(rows, module).launch(
            machine,
            module,
            kernels,
            &operands,
            &[activation.flag()],
        )?;
        Ok(y)
    }

    /// The gradients of weight and bias, and what [`Norm::grad_input`] needs, from the gradient `dy` at the
    /// output. With `masked_into`, the masked gradient is kept there: what a residual receives.
    ///
    /// # Errors
    /// Operands of other lengths or types; what the machine says.
    pub fn gradients(
        &self,
        machine: &dyn Machine,
        dy: &Array,
        x: &Array,
        mask: Mask<'_>,
        masked_into: Option<&Array>,
    ) -> Result<Gradients> {
        const OP: &str = "batch norm gradients";
        let (module, rows) = (module(x, OP)?, self.rows);
        let output = match mask {
            Mask::Output(y) => Some(y),
            _ => None,
        };
        let maps = [
            ("x", Some(x)),
            ("dy", Some(dy)),
            ("output", output),
            ("masked dy", masked_into),
        ];
        for (what, map) in maps {
            if let Some(map) = map {
                map.expect(OP, what, x.dtype(), rows.len())?;
            }
        }
        let tiling = Tiling::sums(rows, module);
        let partial = Array::new(machine, DType::F32, 2 * tiling.slabs * rows.of_groups())?;
        let operands = [
            Argument::Array(dy),
            Argument::Array(x),
            Argument::Array(&self.mean),
            Argument::Array(&self.scale),
            Argument::Array(&self.bias),
            Argument::optional(output),
            Argument::optional(masked_into),
            Argument::Array(&partial),
        ];
        let kernels = ["norm_grad_sums", "norm_grad_sums_any"];
        tiling.launch(machine, module, kernels, &operands, &[mask.flag()])?;
        let array = |len| Array::new(machine, DType::F32, len);
        let made = Gradients {
            weight: array(rows.channels)?,
            bias: array(rows.channels)?,
            mean: array(rows.of_groups())?,
            slope: array(rows.of_groups())?,
        };
        machine.launch(&Launch {
            module,
            kernel: "norm_grad_finish",
            grid: [rows.channels.div_ceil(WARPS) as u32, 1, 1],
            block: [THREADS as u32, 1, 1],
            shared: 0,
            arguments: &[
                Argument::Array(&partial),
                Argument::Array(&self.inverse),
                Argument::Array(&self.scale),
                Argument::Array(&made.weight),
                Argument::Array(&made.bias),
                Argument::Array(&made.mean),
                Argument::Array(&made.slope),
                Argument::I32(rows.groups as i32),
                Argument::I32(tiling.slabs as i32),
                Argument::I32(rows.channels as i32),
                Argument::F64(rows.rows as f64),
                Argument::I32(i32::from(self.of_batch)),
            ],
        })?;
        Ok(made)
    }

    /// The gradient of x from that of the output of `activation`; a gradient that [`Norm::gradients`] has
    /// masked already is that of the identity.
    ///
    /// # Errors
    /// Operands of other lengths or types; what the machine says.
    pub fn grad_input(
        &self,
        machine: &dyn Machine,
        dy: &Array,
        x: &Array,
        of_norm: &Gradients,
        activation: ActivationFunction,
    ) -> Result<Array> {
        const OP: &str = "batch norm gradient of x";
        let (module, rows) = (module(x, OP)?, self.rows);
        for (what, array) in [("x", x), ("dy", dy)] {
            array.expect(OP, what, x.dtype(), rows.len())?;
        }
        let dx = Array::new(machine, x.dtype(), rows.len())?;
        let operands = [
            Argument::Array(dy),
            Argument::Array(x),
            Argument::Array(&self.mean),
            Argument::Array(&self.scale),
            Argument::Array(&self.bias),
            Argument::Array(&of_norm.mean),
            Argument::Array(&of_norm.slope),
            Argument::Array(&dx),
        ];
        let kernels = ["norm_grad_input", "norm_grad_input_any"];
        Tiling::sums(rows, module).launch(
            machine,
            module,
            kernels,
            &operands,
            &[activation.flag()],
        )?;
        Ok(dx)
    }
}

impl Mask<'_> {
    fn flag(self) -> i32 {
        match self {
            Self::Recompute(activation) => activation.flag(),
            Self::Output(_) => 3,
        }
    }
}
