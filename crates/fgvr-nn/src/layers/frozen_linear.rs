//! A fully connected layer for inference: weights in order once, on the caller's thread.

use candle_core::{Result, bail};

use super::Linear;
use crate::kernels::conv::PackedMatrix;
use crate::kernels::{gelu, rows, simd};
use crate::tape::with_values;

/// A [`Linear`] as it was when it was frozen. A snapshot: training the layer does not change it.
///
/// It runs on the caller's thread, for callers that cut their rows into parts themselves: some 100
/// rows at a time, so that what comes before and after is in the cache. The values of a row do not
/// depend on the rows beside it.
pub struct FrozenLinear {
    weight: PackedMatrix,
    bias: Vec<f32>,
}

/// What follows a frozen linear layer in the same pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinearFinish {
    /// The result replaces what was there.
    Replace,
    /// The result goes through GELU and replaces what was there.
    Gelu,
}

/// The weight (O, I) and the bias (O) of `layer`, with output channel o multiplied by `scale[o]` where there is one.
pub(super) fn fold(layer: &Linear, scale: Option<&[f32]>) -> Result<(Vec<f32>, Vec<f32>)> {
    let (c_in, c_out) = (layer.c_in(), layer.c_out());
    if let Some(scale) = scale
        && scale.len() != c_out
    {
        bail!("frozen_linear: {} scales for {c_out} channels", scale.len());
    }
    let scaled = |values: &[f32], of_channel: usize| -> Vec<f32> {
        let values = values.iter().enumerate();
        let scale = |i: usize| scale.map_or(1., |scale| scale[i / of_channel]);
        values.map(|(i, v)| v * scale(i)).collect()
    };
    let weight = with_values(layer.weight(), |weight| scaled(weight, c_in))?;
    let bias = match layer.bias() {
        Some(bias) => with_values(bias, |bias| scaled(bias, 1))?,
        None => vec![0.; c_out],
    };
    Ok((weight, bias))
}

impl FrozenLinear {
    /// `layer`, with output channel o multiplied by `scale[o]` where there is one.
    ///
    /// # Errors
    /// Variables that are not f32 on the CPU; a scale of another length.
    pub fn new(layer: &Linear, scale: Option<&[f32]>) -> Result<Self> {
        let (weight, bias) = fold(layer, scale)?;
        let (c_in, c_out) = (layer.c_in(), layer.c_out());
        let of_pair = |i: usize, o: usize| weight[o * c_in + i];
        Ok(Self {
            weight: PackedMatrix::new(simd::level(), [c_in, c_out], of_pair),
            bias,
        })
    }

    /// I, the channels of the input.
    #[must_use]
    pub fn c_in(&self) -> usize {
        self.weight.depth()
    }

    /// O, the channels of the output.
    #[must_use]
    pub fn c_out(&self) -> usize {
        self.weight.columns()
    }

    /// The rows of `x` (rows, I) into `y` (rows, O), and what follows.
    ///
    /// # Errors
    /// Lengths that are not of the same number of rows.
    pub fn run(&self, x: &[f32], finish: LinearFinish, y: &mut [f32]) -> Result<()> {
        let rows = x.len() / self.c_in();
        if (x.len(), y.len()) != (rows * self.c_in(), rows * self.c_out()) {
            bail!(
                "frozen_linear: {} values to {} with {} to {} channels",
                x.len(),
                y.len(),
                self.c_in(),
                self.c_out()
            );
        }
        self.weight.multiply(x, y);
        match finish {
            LinearFinish::Replace => rows::add_row(simd::level(), y, &self.bias),
            LinearFinish::Gelu => gelu::add_row_gelu(simd::level(), y, &self.bias),
        }
        Ok(())
    }

    /// `y` (rows, O) += the rows of `x` (rows, I) through the layer: the end of a residual branch.
    /// `scratch` is for whatever it likes, of the length of `y`.
    ///
    /// # Errors
    /// Lengths that are not of the same number of rows.
    pub fn run_add(&self, x: &[f32], scratch: &mut [f32], y: &mut [f32]) -> Result<()> {
        if scratch.len() != y.len() {
            bail!(
                "frozen_linear: scratch of {}, output of {}",
                scratch.len(),
                y.len()
            );
        }
        self.run(x, LinearFinish::Replace, scratch)?;
        rows::add_on_thread(y, scratch);
        Ok(())
    }
}
