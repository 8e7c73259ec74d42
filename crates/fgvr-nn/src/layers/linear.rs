//! The fully connected layer.

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};
use candle_nn::{Init, ModuleT, VarBuilder};

use super::on_device;
use crate::kernels::conv::{self, ConvShape};
use crate::kernels::matmul::{Matrix, matmul};
use crate::kernels::rows;
use crate::tape::with_values;
use crate::{Activation, Buffer, Tape};

/// y = x Wᵀ + b; variables `weight` (O, I) and `bias` (O).
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
    c_in: usize,
    c_out: usize,
}

impl Linear {
    /// A layer whose weight and bias start uniform within 1/sqrt(I), as PyTorch.
    ///
    /// # Errors
    /// A size of zero, or a variable that `vb` cannot give.
    pub fn new(c_in: usize, c_out: usize, bias: bool, vb: VarBuilder) -> Result<Self> {
        let bound = 1. / (c_in.max(1) as f64).sqrt();
        let init = Init::Uniform {
            lo: -bound,
            up: bound,
        };
        Self::with_init(c_in, c_out, init, bias.then_some(init), vb)
    }

    /// A layer whose weight starts by `weight`, and whose bias, if it has one, by `bias`.
    ///
    /// # Errors
    /// A size of zero, or a variable that `vb` cannot give.
    pub fn with_init(
        c_in: usize,
        c_out: usize,
        weight: Init,
        bias: Option<Init>,
        vb: VarBuilder,
    ) -> Result<Self> {
        if c_in == 0 || c_out == 0 {
            bail!("linear: {c_in} to {c_out} channels: a size is zero");
        }
        let weight = vb.get_with_hints((c_out, c_in), "weight", weight)?;
        let bias = bias.map(|init| vb.get_with_hints(c_out, "bias", init));
        Self::from_tensors(weight, bias.transpose()?)
    }

    /// A layer over variables that have names of their own: `weight` (O, ..), of which all but the
    /// first dimension make up I, and `bias` (O).
    pub(super) fn from_tensors(weight: Tensor, bias: Option<Tensor>) -> Result<Self> {
        let c_out = weight.dim(0)?;
        let c_in = weight.elem_count() / c_out.max(1);
        Ok(Self {
            weight,
            bias,
            c_in,
            c_out,
        })
    }

    /// I, the channels of the input.
    #[must_use]
    pub fn c_in(&self) -> usize {
        self.c_in
    }

    /// O, the channels of the output.
    #[must_use]
    pub fn c_out(&self) -> usize {
        self.c_out
    }

    /// The weight (O, I).
    #[must_use]
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The bias (O).
    #[must_use]
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// The weight and, where there is one, the bias.
    #[must_use]
    pub fn variables(&self) -> Vec<Tensor> {
        let bias = self.bias.iter().cloned();
        std::iter::once(self.weight.clone()).chain(bias).collect()
    }

    /// The layer on the tape, at each place: (N, H, W, I) to (N, H, W, O).
    ///
    /// # Errors
    /// Another number of channels.
    pub fn apply(&self, tape: &mut Tape, x: &Activation) -> Result<Activation> {
        let (c_in, c_out) = (self.c_in, self.c_out);
        let [images, h, w, c] = x.shape;
        if c != c_in {
            bail!("linear: expected {c_in} channels, found {c}");
        }
        if let Some(device) = tape.device().cloned() {
            return on_device::linear(&device, tape, self, x);
        }
        // (N, H, W, I) -> (N*H*W, I)
        let n = images * h * w;
        let mut y = Buffer::scratch(n * c_out);
        let (shape, values) = (product(n, c_in, c_out), x.host()?);
        with_values(&self.weight, |weight| match &shape {
            Some(shape) => conv::forward(shape, values, weight, &mut y),
            // (rows, I) x (O, I)ᵀ -> (rows, O)
            None => matmul(
                Matrix::new(values, n, c_in),
                Matrix::new(weight, c_out, c_in).t(),
                &mut y,
            ),
        })?;
        if let Some(bias) = &self.bias {
            with_values(bias, |bias| rows::add_bias(&mut y, bias))?;
        }
        // (N*H*W, O) -> (N, H, W, O)
        let y = tape.map([images, h, w, c_out], y);
        let (id, input, wants_input) = (x.id, Arc::clone(x.host()?), tape.needs_gradient(x));
        let (weight, bias) = (self.weight.clone(), self.bias.clone());
        tape.push(&y, move |dy, gradients| {
            if let Some(bias) = &bias {
                let sums = rows::sum_rows(&dy, c_out);
                gradients.add_parameter(bias, sums.iter().map(|s| *s as f32).collect())?;
            }
            let matrix = Matrix::new(&dy, n, c_out);
            let mut dw = vec![0.; c_out * c_in];
            match &shape {
                Some(shape) => conv::grad_weight(shape, &input, &dy, &mut dw),
                // (rows, O)ᵀ x (rows, I) -> (O, I)
                None => matmul(matrix.t(), Matrix::new(&input, n, c_in), &mut dw),
            }
            gradients.add_parameter(&weight, dw)?;
            if wants_input {
                let mut dx = Buffer::scratch(n * c_in);
                with_values(&weight, |weight| match &shape {
                    Some(shape) => conv::grad_input(shape, &dy, weight, &mut dx),
                    // (rows, O) x (O, I) -> (rows, I)
                    None => matmul(matrix, Matrix::new(weight, c_out, c_in), &mut dx),
                })?;
                gradients.add(id, dx);
            }
            Ok(())
        });
        Ok(y)
    }
}

/// Rows from which the convolution's kernels are taken, which take half the time of the general product
/// over thousands of rows, but put the weights into their order first, which few rows would not repay.
const MANY_ROWS: usize = 256;

/// The layer over many rows as a convolution of one place each.
fn product(rows: usize, c_in: usize, c_out: usize) -> Option<ConvShape> {
    (rows >= MANY_ROWS).then_some(ConvShape {
        n: 1,
        h: rows,
        w: 1,
        c_in,
        c_out,
        kernel: 1,
        stride: 1,
        padding: 0.into(),
        dilation: 1,
        groups: 1,
    })
}

impl ModuleT for Linear {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Result<Tensor> {
        // candle 0.11.1 multiplies a batch of strided matrices by a broadcast weight wrongly; of a
        // contiguous input it makes one matrix.
        let linear = candle_nn::Linear::new(self.weight.flatten_from(1)?, self.bias.clone());
        linear.forward_t(&xs.contiguous()?, false)
    }
}
