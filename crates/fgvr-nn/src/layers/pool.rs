//! Max, average and global pooling.

use candle_core::{Result, bail};

use super::on_device;
use super::unary::unary;
use crate::kernels::pool::{self, PoolShape};
use crate::{Activation, Buffer, Tape};

/// The windows of a pooling.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default))]
pub struct PoolConfig {
    /// Side of the window, at most 16. By default 3.
    pub kernel: usize,
    /// Distance between windows. By default 2.
    pub stride: usize,
    /// Places added around the input, at most half of the kernel. By default 1.
    pub padding: usize,
}

impl Default for PoolConfig {
    /// The 3 x 3 windows at stride 2 of ResNet's stem.
    fn default() -> Self {
        Self {
            kernel: 3,
            stride: 2,
            padding: 1,
        }
    }
}

impl PoolConfig {
    fn shape(&self, op: &str, input: [usize; 4]) -> Result<PoolShape> {
        let Self {
            kernel,
            stride,
            padding,
        } = *self;
        if !(1..=16).contains(&kernel) || stride == 0 || padding > kernel / 2 {
            bail!(
                "{op}: kernel {kernel} (1 to 16), stride {stride} (1 or more), padding {padding} (at most half the kernel)"
            );
        }
        let [_, h, w, _] = input;
        if h == 0 || w == 0 || h.min(w) + 2 * padding < kernel {
            bail!(
                "{op}: an input of {h} x {w} with padding {padding} is smaller than the kernel of {kernel}"
            );
        }
        Ok(PoolShape {
            input,
            kernel,
            stride,
            padding,
        })
    }
}

/// The largest value of each window; the gradient goes to the first of equal ones, as PyTorch.
///
/// # Errors
/// Windows that [`PoolConfig`] does not allow, or an input smaller than one.
pub fn max_pool(tape: &mut Tape, x: &Activation, cfg: &PoolConfig) -> Result<Activation> {
    let shape = cfg.shape("max_pool", x.shape)?;
    if let Some(device) = tape.device().cloned() {
        return on_device::max_pool(&device, tape, x, &shape);
    }
    let len = shape.output().iter().product();
    let (mut y, mut taps) = (Buffer::scratch(len), vec![0u8; len]);
    pool::max(&shape, x.host()?, &mut y, &mut taps);
    unary(tape, x, shape.output(), y, move |dy, dx| {
        pool::max_grad(&shape, dy, &taps, dx)
    })
}

/// The mean of each window; padding counts as zeros (PyTorch's `count_include_pad=True`).
///
/// # Errors
/// Windows that [`PoolConfig`] does not allow, or an input smaller than one.
pub fn avg_pool(tape: &mut Tape, x: &Activation, cfg: &PoolConfig) -> Result<Activation> {
    let shape = cfg.shape("avg_pool", x.shape)?;
    if let Some(device) = tape.device().cloned() {
        return on_device::avg_pool(&device, tape, x, &shape);
    }
    let mut y = Buffer::scratch(shape.output().iter().product());
    pool::average(&shape, x.host()?, &mut y);
    unary(tape, x, shape.output(), y, move |dy, dx| {
        pool::average_grad(&shape, dy, dx)
    })
}

/// The mean over all places, (N, H, W, C) to (N, 1, 1, C).
///
/// # Errors
/// A map without places.
pub fn global_mean(tape: &mut Tape, x: &Activation) -> Result<Activation> {
    let [n, h, w, c] = x.shape;
    let places = h * w;
    if places == 0 {
        bail!("global_mean: a map of {h} x {w} has no places");
    }
    if let Some(device) = tape.device().cloned() {
        return on_device::global_mean(&device, tape, x);
    }
    let mut y = Buffer::scratch(n * c);
    pool::global_mean(x.host()?, places, c, &mut y);
    unary(tape, x, [n, 1, 1, c], y, move |dy, dx| {
        pool::global_mean_grad(dy, places, c, dx)
    })
}
