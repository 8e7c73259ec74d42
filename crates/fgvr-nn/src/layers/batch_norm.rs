//! Batch norm (arXiv:1502.03167), with what may follow it fused.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp3, Device, Layout, Result, Shape, Tensor, Var, bail};
use candle_nn::{Init, ModuleT, VarBuilder};

use fgvr_cuda::Array;
use fgvr_cuda::ops::Rows;
use fgvr_cuda::ops::batch_norm::Norm;

use super::normalisation::{Mask, Normalisation};
use super::{contiguous, on_device};
use crate::kernels::activation::ActivationFunction;
use crate::kernels::norm::{self, Moments};
use crate::tape::{to_channels_first, to_channels_last, with_values};
use crate::{Activation, Buffer, NormMode, Tape};

/// The constants of a [`BatchNorm`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default))]
pub struct BatchNormConfig {
    /// Added to the variance. By default 1e-5.
    pub eps: f64,
    /// Share of the batch's statistics in the new running ones. By default 0.1.
    pub momentum: f64,
    /// Initial weight; 0 for the last norm of a residual block that starts as the identity. By default 1.
    pub initial_weight: f64,
    /// Whether there are weight and bias at all. By default true.
    pub affine: bool,
}

impl Default for BatchNormConfig {
    fn default() -> Self {
        Self {
            eps: 1e-5,
            momentum: 0.1,
            initial_weight: 1.,
            affine: true,
        }
    }
}

/// What follows the norm in the same pass: y = norm(x) (+ residual) (then ReLU).
#[derive(Clone, Copy, Debug, Default)]
pub struct After<'a> {
    /// Whether a ReLU follows.
    pub relu: bool,
    /// A map of the same shape that is added before the ReLU.
    pub residual: Option<&'a Activation>,
}

impl After<'_> {
    /// Nothing follows.
    pub const NOTHING: Self = Self {
        relu: false,
        residual: None,
    };
    /// A ReLU follows.
    pub const RELU: Self = Self {
        relu: true,
        residual: None,
    };
}

impl After<'_> {
    pub(super) fn activation(self) -> ActivationFunction {
        match self.relu {
            true => ActivationFunction::Relu,
            false => ActivationFunction::Identity,
        }
    }
}

impl<'a> After<'a> {
    /// `residual` is added, then a ReLU follows: the end of a residual block.
    #[must_use]
    pub fn add_relu(residual: &'a Activation) -> Self {
        Self {
            relu: true,
            residual: Some(residual),
        }
    }
}

/// Batch norm over all places of a channel; variables `weight`, `bias`, and the buffers
/// `running_mean`, `running_var` (unbiased variance), all (C).
///
/// # Differs
/// PyTorch's counter `num_batches_tracked` is not kept: the momentum is constant.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    running_mean: Var,
    running_var: Var,
    channels: usize,
    cfg: BatchNormConfig,
}

/// Which statistics of a batch a norm takes.
pub(super) struct Statistics {
    /// Groups of images with statistics of their own.
    pub(super) groups: usize,
    /// Values per channel of a group.
    pub(super) count: usize,
    /// Whether the running statistics follow.
    update: bool,
}

impl BatchNorm {
    /// A norm over `channels` with PyTorch's constants.
    ///
    /// # Errors
    /// No channels, or a variable that `vb` cannot give.
    pub fn new(channels: usize, vb: VarBuilder) -> Result<Self> {
        Self::with_config(channels, &BatchNormConfig::default(), vb)
    }

    /// A norm over `channels`.
    ///
    /// If `vb` hands out plain tensors instead of variables, the running statistics are updated in
    /// copies of them.
    ///
    /// # Errors
    /// No channels, or a variable that `vb` cannot give.
    pub fn with_config(channels: usize, cfg: &BatchNormConfig, vb: VarBuilder) -> Result<Self> {
        if channels == 0 {
            bail!("batch_norm: expected 1 or more channels, found 0");
        }
        let get = |name: &str, value: f64| vb.get_with_hints(channels, name, Init::Const(value));
        let constant = |value: f32| Tensor::full(value, channels, &Device::Cpu);
        let (weight, bias) = match cfg.affine {
            true => (get("weight", cfg.initial_weight)?, get("bias", 0.)?),
            false => (constant(1.)?, constant(0.)?),
        };
        Ok(Self {
            weight,
            bias,
            running_mean: Var::from_tensor(&get("running_mean", 0.)?)?,
            running_var: Var::from_tensor(&get("running_var", 1.)?)?,
            channels,
            cfg: cfg.clone(),
        })
    }

    /// The running mean (C).
    #[must_use]
    pub fn running_mean(&self) -> &Var {
        &self.running_mean
    }

    /// The running variance (C), unbiased.
    #[must_use]
    pub fn running_var(&self) -> &Var {
        &self.running_var
    }

    /// The norm on the tape, and what follows it.
    ///
    /// # Errors
    /// Another number of channels, a residual of another shape, batch statistics of a single value
    /// per channel, or a batch that does not divide into the groups of [`NormMode::Split`].
    pub fn apply(
        &self,
        tape: &mut Tape,
        x: &Activation,
        mode: NormMode,
        after: After<'_>,
    ) -> Result<Activation> {
        let After { relu, residual } = after;
        if let Some(residual) = residual
            && residual.shape != x.shape
        {
            bail!(
                "batch_norm: residual is {:?}, expected {:?} (N, H, W, C)",
                residual.shape,
                x.shape
            );
        }
        if let Some(device) = tape.device().cloned() {
            return on_device::batch_norm(&device, tape, self, x, mode, after);
        }
        let norm = self.normalisation(x.host()?, x.shape, mode)?;
        let mut y = Buffer::scratch(x.host()?.len());
        let added = residual.map(Activation::host).transpose()?;
        norm.forward(x.host()?, added.map(|r| &***r), after.activation(), &mut y);
        let y = tape.map(x.shape, y);

        let (id, input, output) = (x.id, Arc::clone(x.host()?), Arc::clone(y.host()?));
        let residual = residual.map(|r| r.id);
        let parameters = self.parameters();
        tape.push(&y, move |mut dy, gradients| {
            let mask = match (relu, residual) {
                (true, Some(_)) => Mask::Output(&output),
                (true, None) => Mask::Recompute(ActivationFunction::Relu),
                (false, _) => Mask::Recompute(ActivationFunction::Identity),
            };
            let of_parameters = match residual {
                None => {
                    let of_parameters = norm.backward(&mut dy, &input, mask, None);
                    gradients.add(id, dy);
                    of_parameters
                }
                Some(residual) => {
                    let mut dx = Buffer::scratch(input.len());
                    let of_parameters = norm.backward(&mut dy, &input, mask, Some(&mut dx));
                    gradients.add(id, dx);
                    gradients.add(residual, dy);
                    of_parameters
                }
            };
            if let Some((weight, bias)) = &parameters {
                gradients.add_parameter(weight, of_parameters.weight)?;
                gradients.add_parameter(bias, of_parameters.bias)?;
            }
            Ok(())
        });
        Ok(y)
    }

    /// The norm on candle's autograd, of maps (N, C, H, W) or vectors (N, C).
    ///
    /// # Errors
    /// Another number of channels, a residual of another shape, batch statistics of a single value per channel, or a
    /// batch that does not divide into the groups of [`NormMode::Split`].
    pub fn forward(&self, xs: &Tensor, mode: NormMode) -> Result<Tensor> {
        let shape = match *xs.dims() {
            [n, c, h, w] => [n, h, w, c],
            [n, c] => [n, 1, 1, c],
            _ => bail!(
                "batch_norm: expected (N, C, H, W) or (N, C), found {:?}",
                xs.dims()
            ),
        };
        let xs = xs.contiguous()?;
        let values = with_values(&xs, |values| to_channels_last(values, shape))?;
        let norm = self.normalisation(&values, shape, mode)?;
        xs.apply_op3(&self.weight, &self.bias, NormOp { norm, shape })
    }

    /// The statistics that `mode` asks for, the running ones updated if it says so.
    fn normalisation(&self, x: &[f32], shape: [usize; 4], mode: NormMode) -> Result<Normalisation> {
        let c = shape[3];
        let Some(statistics) = self.statistics(shape, mode)? else {
            return self.eval();
        };
        let groups = x.chunks(statistics.count * c);
        let moments: Vec<Moments> = groups.map(|x| norm::moments(x, c)).collect();
        self.with_statistics(&statistics, &moments)
    }

    /// Which statistics `mode` asks for over a map of `shape`; none if the running ones do.
    pub(super) fn statistics(
        &self,
        shape: [usize; 4],
        mode: NormMode,
    ) -> Result<Option<Statistics>> {
        let [n, h, w, c] = shape;
        if c != self.channels {
            bail!("batch_norm: expected {} channels, found {c}", self.channels);
        }
        let (groups, update) = match mode {
            NormMode::Train => (1, true),
            NormMode::NoUpdate => (1, false),
            NormMode::Split { groups, update } => (split(n, groups)?, update),
            NormMode::Eval => return Ok(None),
        };
        let count = n / groups * h * w;
        if count < 2 {
            bail!(
                "batch_norm: batch statistics need 2 or more values per channel, found {count} in {n} x {h} x {w}"
            );
        }
        Ok(Some(Statistics {
            groups,
            count,
            update,
        }))
    }

    /// The norm by the statistics of each group; updates the running ones if asked to.
    pub(super) fn with_statistics(
        &self,
        statistics: &Statistics,
        moments: &[Moments],
    ) -> Result<Normalisation> {
        if statistics.update {
            self.update_running(moments, statistics.count)?;
        }
        self.with_parameters(moments, true)
    }

    /// The norm by the running statistics.
    pub(super) fn eval(&self) -> Result<Normalisation> {
        self.with_parameters(&[self.running()?], false)
    }

    /// The norm by the running statistics as y = x * scale + shift: scale and shift (C).
    pub(super) fn scale_and_shift(&self) -> Result<(Vec<f64>, Vec<f64>)> {
        let Moments { mean, variance } = self.running()?;
        let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
        let (weight, bias) = (
            with_values(&self.weight, wide)?,
            with_values(&self.bias, wide)?,
        );
        let std = variance.iter().map(|v| (v + self.cfg.eps).sqrt());
        let scale: Vec<f64> = weight.iter().zip(std).map(|(w, std)| w / std).collect();
        let shift = (bias.iter().zip(&mean).zip(&scale))
            .map(|((bias, mean), scale)| bias - mean * scale)
            .collect();
        Ok((scale, shift))
    }

    /// The norm of `x` (N, H, W, C) on a device, the running statistics updated if `mode` says so.
    pub(super) fn on_device(
        &self,
        device: &crate::Device,
        x: &Array,
        shape: [usize; 4],
        mode: NormMode,
    ) -> Result<Norm> {
        let (weight, bias) = (
            device.parameter(&self.weight)?,
            device.parameter(&self.bias)?,
        );
        let [n, h, w, channels] = shape;
        let Some(statistics) = self.statistics(shape, mode)? else {
            let mean = device.parameter(&self.running_mean)?;
            let variance = device.parameter(&self.running_var)?;
            let rows = Rows::new(n * h * w, channels);
            let running = [&mean, &variance];
            return device.run(|m| Norm::constant(m, rows, running, &weight, &bias, self.cfg.eps));
        };
        let rows = Rows {
            groups: statistics.groups,
            rows: statistics.count,
            channels,
        };
        let norm = device.run(|m| Norm::of_batch(m, x, rows, &weight, &bias, self.cfg.eps))?;
        if statistics.update {
            self.follow(device, &norm, statistics.count)?;
        }
        Ok(norm)
    }

    /// The running statistics after those of `norm`: where they live, or on the CPU.
    fn follow(&self, device: &crate::Device, norm: &Norm, count: usize) -> Result<()> {
        let running = (
            device.resident(&self.running_mean),
            device.resident(&self.running_var),
        );
        if let (Some(mean), Some(variance)) = running {
            let momentum = self.cfg.momentum as f32;
            return device.run(|m| norm.update_running(m, [&mean, &variance], momentum));
        }
        let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
        let (mean, variance) = (device.values(&norm.mean)?, device.values(&norm.variance)?);
        let groups = (mean.chunks(self.channels)).zip(variance.chunks(self.channels));
        let moments: Vec<Moments> = groups
            .map(|(mean, variance)| Moments {
                mean: wide(mean),
                variance: wide(variance),
            })
            .collect();
        self.update_running(&moments, count)
    }

    /// Weight and bias, if they are variables.
    pub(super) fn parameters(&self) -> Option<(Tensor, Tensor)> {
        self.cfg
            .affine
            .then(|| (self.weight.clone(), self.bias.clone()))
    }

    fn with_parameters(&self, moments: &[Moments], of_batch: bool) -> Result<Normalisation> {
        let eps = self.cfg.eps;
        with_values(&self.weight, |weight| {
            with_values(&self.bias, |bias| {
                Normalisation::new(moments, of_batch, eps, weight, bias)
            })
        })?
    }

    fn running(&self) -> Result<Moments> {
        let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect();
        Ok(Moments {
            mean: with_values(&self.running_mean, wide)?,
            variance: with_values(&self.running_var, wide)?,
        })
    }

    /// running += momentum (mean over groups - running), the variance unbiased.
    fn update_running(&self, groups: &[Moments], count: usize) -> Result<()> {
        let running = self.running()?;
        let unbiased = count as f64 / (count - 1) as f64;
        let blend = |before: &[f64], of: &dyn Fn(&Moments) -> &[f64], factor: f64| -> Vec<f32> {
            let blended = before.iter().enumerate().map(|(c, before)| {
                let sum: f64 = groups.iter().map(|g| of(g)[c]).sum();
                let now = factor * sum / groups.len() as f64;
                ((1. - self.cfg.momentum) * before + self.cfg.momentum * now) as f32
            });
            blended.collect()
        };
        let mean = blend(&running.mean, &|m| &m.mean, 1.);
        let variance = blend(&running.variance, &|m| &m.variance, unbiased);
        self.running_mean
            .set(&Tensor::from_vec(mean, self.channels, &Device::Cpu)?)?;
        self.running_var
            .set(&Tensor::from_vec(variance, self.channels, &Device::Cpu)?)
    }
}

/// The number of groups that a batch of `n` is split into: `asked`, or, if that leaves fewer than
/// two images a group, the largest number that does not.
fn split(n: usize, asked: usize) -> Result<usize> {
    if asked == 0 {
        bail!("batch_norm: a batch cannot be split into 0 groups");
    }
    if n < 2 * asked {
        let fewer = (1..=n / 2).rev().find(|groups| n.is_multiple_of(*groups));
        return Ok(fewer.unwrap_or(1));
    }
    if !n.is_multiple_of(asked) {
        bail!("batch_norm: {n} images do not divide into {asked} groups");
    }
    Ok(asked)
}

impl ModuleT for BatchNorm {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        self.forward(
            xs,
            if train {
                NormMode::Train
            } else {
                NormMode::Eval
            },
        )
    }
}

/// The norm on candle's autograd: inputs x, weight and bias, with statistics taken beforehand.
struct NormOp {
    norm: Normalisation,
    shape: [usize; 4],
}

impl CustomOp3 for NormOp {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = to_channels_last(contiguous(x, layout)?, self.shape);
        let mut y = Buffer::scratch(x.len());
        self.norm
            .forward(&x, None, ActivationFunction::Identity, &mut y);
        Ok((
            CpuStorage::F32(to_channels_first(&y, self.shape)),
            layout.shape().clone(),
        ))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let mut dy = with_values(dy, |dy| to_channels_last(dy, self.shape))?;
        let input = with_values(x, |x| to_channels_last(x, self.shape))?;
        let gradients = self.norm.backward(
            &mut dy,
            &input,
            Mask::Recompute(ActivationFunction::Identity),
            None,
        );
        let like =
            |values, tensor: &Tensor| Tensor::from_vec(values, tensor.shape(), tensor.device());
        let dx = like(to_channels_first(&dy, self.shape), x)?;
        Ok((
            Some(dx),
            Some(like(gradients.weight, weight)?),
            Some(like(gradients.bias, bias)?),
        ))
    }
}
