//! The fully connected layer.

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};
use candle_nn::{Init, ModuleT, VarBuilder};

use crate::kernels::matmul::{Matrix, matmul};
use crate::kernels::rows;
use crate::tape::with_values;
use crate::{Buffer, Map, Tape};

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
        if c_in == 0 || c_out == 0 {
            bail!("linear: {c_in} to {c_out} channels: a size is zero");
        }
        let bound = 1. / (c_in as f64).sqrt();
        let init = Init::Uniform {
            lo: -bound,
            up: bound,
        };
        let weight = vb.get_with_hints((c_out, c_in), "weight", init)?;
        let bias = match bias {
            true => Some(vb.get_with_hints(c_out, "bias", init)?),
            false => None,
        };
        Ok(Self {
            weight,
            bias,
            c_in,
            c_out,
        })
    }

    /// A layer over variables that have names of their own: `weight` (O, I) and `bias` (O).
    pub(super) fn from_tensors(weight: Tensor, bias: Option<Tensor>) -> Result<Self> {
        let (c_out, c_in) = weight.dims2()?;
        Ok(Self {
            weight,
            bias,
            c_in,
            c_out,
        })
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

    /// The layer on the tape, on a map of one place: (N, 1, 1, I) to (N, 1, 1, O).
    ///
    /// # Errors
    /// A map of more than one place, or of another number of channels.
    pub fn apply(&self, tape: &mut Tape, x: &Map) -> Result<Map> {
        let (c_in, c_out) = (self.c_in, self.c_out);
        let [n, h, w, c] = x.shape;
        if (h, w, c) != (1, 1, c_in) {
            bail!("linear: expected one place of {c_in} channels, found {h} x {w} of {c}");
        }
        let mut y = Buffer::scratch(n * c_out);
        with_values(&self.weight, |weight| {
            // (N, I) x (O, I)ᵀ -> (N, O)
            matmul(
                Matrix::new(&x.data, n, c_in),
                Matrix::new(weight, c_out, c_in).t(),
                &mut y,
            );
        })?;
        if let Some(bias) = &self.bias {
            with_values(bias, |bias| rows::add_bias(&mut y, bias))?;
        }
        let y = tape.map([n, 1, 1, c_out], y);
        let (id, input, wants_input) = (x.id, Arc::clone(&x.data), tape.needs_gradient(x));
        let (weight, bias) = (self.weight.clone(), self.bias.clone());
        tape.push(&y, move |dy, gradients| {
            if let Some(bias) = &bias {
                let sums = rows::sum_rows(&dy, c_out);
                gradients.add_parameter(bias, sums.iter().map(|s| *s as f32).collect())?;
            }
            let dy = Matrix::new(&dy, n, c_out);
            let mut dw = vec![0.; c_out * c_in];
            // (N, O)ᵀ x (N, I) -> (O, I)
            matmul(dy.t(), Matrix::new(&input, n, c_in), &mut dw);
            gradients.add_parameter(&weight, dw)?;
            if wants_input {
                let mut dx = Buffer::scratch(n * c_in);
                // (N, O) x (O, I) -> (N, I)
                with_values(&weight, |weight| {
                    matmul(dy, Matrix::new(weight, c_out, c_in), &mut dx)
                })?;
                gradients.add(id, dx);
            }
            Ok(())
        });
        Ok(y)
    }
}

impl ModuleT for Linear {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Result<Tensor> {
        // candle 0.11.1 multiplies a batch of strided matrices by a broadcast weight wrongly; of a
        // contiguous input it makes one matrix.
        let linear = candle_nn::Linear::new(self.weight.clone(), self.bias.clone());
        linear.forward_t(&xs.contiguous()?, false)
    }
}
