//! The projection head: features to the space where the objective compares.

use candle_core::{Result, Tensor};
use candle_nn::{Linear, Module, VarBuilder, linear};
use fgvr_nn::layers;

use crate::Values;
use crate::bases::projection::Projection;

/// Rows shorter than this count as zero.
pub(crate) const SHORTEST: f64 = 1e-6;

/// Linear-ReLU-Linear, then L2 normalisation (MoCo v2, arXiv:2003.04297). Its variables are `0.weight`, `0.bias`,
/// `2.weight` and `2.bias` under the builder's prefix, as PyTorch's `Sequential` names them.
#[derive(Clone, Debug)]
pub struct ProjectionHead {
    first: Linear,
    last: Linear,
    /// The same variables, for a tape.
    on_tape: [layers::Linear; 2],
}

impl ProjectionHead {
    /// A head from C = `width` through `hidden` to D = `dim`.
    ///
    /// # Errors
    /// Variables of other shapes in the builder.
    pub fn new(width: usize, hidden: usize, dim: usize, vb: VarBuilder<'_>) -> Result<Self> {
        // A variable is created at its first use, so the layers for a tape find these.
        Ok(Self {
            first: linear(width, hidden, vb.pp("0"))?,
            last: linear(hidden, dim, vb.pp("2"))?,
            on_tape: [
                layers::Linear::new(width, hidden, true, vb.pp("0"))?,
                layers::Linear::new(hidden, dim, true, vb.pp("2"))?,
            ],
        })
    }

    /// Features through both layers, not normalised yet.
    pub(crate) fn project(&self, features: Projection) -> Result<Projection> {
        features.through(
            |x| self.last.forward(&relu(&self.first.forward(x)?)?),
            |tape, x| {
                let [first, last] = &self.on_tape;
                let x = first.apply(tape, x)?;
                let x = layers::relu(tape, &x)?;
                last.apply(tape, &x)
            },
        )
    }

    /// (N, C) -> (N, D), each row of length 1.
    ///
    /// # Errors
    /// A width that is not the head's.
    pub fn forward(&self, pooled: &Tensor) -> Result<Tensor> {
        let features = Projection::from(&Values::from(pooled), 0)?;
        l2_normalise(&self.project(features)?.values.to_host()?)
    }
}

/// max(x, 0), as PyTorch does it at the edges: NaN stays NaN, and no gradient passes at exactly 0.
/// candle's `relu` makes NaN 0, and the loss of a diverged trunk would look healthy.
pub(crate) fn relu(x: &Tensor) -> Result<Tensor> {
    x * x.gt(0f32)?.to_dtype(x.dtype())?
}

/// Rows of `x` (N, D) divided by their length.
///
/// # Differs
/// PyTorch's `normalize` divides by max(length, 1e-12), which multiplies the gradient of a zero row by
/// 1e12. Here a row shorter than 1e-6 becomes zero and receives no gradient.
///
/// # Errors
/// A tensor that is not of two dimensions.
pub fn l2_normalise(x: &Tensor) -> Result<Tensor> {
    let (_, _) = x.dims2()?;
    let squares = x.sqr()?.sum_keepdim(1)?; // (N, D) -> (N, 1)
    let long = squares.gt(SHORTEST * SHORTEST)?.to_dtype(x.dtype())?;
    // A short row divides by 1, not by its length, whose square root has no slope to use.
    let length = ((squares * &long)? + (1. - &long)?)?.sqrt()?;
    x.broadcast_mul(&long)?.broadcast_div(&length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Var};
    use fgvr_nn::Parameters;

    #[test]
    fn rows_have_length_one_and_a_zero_row_stays_zero_without_gradient() {
        let x = Var::new(&[[3f32, 4.], [0., 0.], [1e-8, 0.]], &Device::Cpu).unwrap();
        let y = l2_normalise(&x).unwrap();
        let rows = y.to_vec2::<f32>().unwrap();
        assert_eq!(rows[1..], [[0., 0.], [0., 0.]]);
        assert!((rows[0][0] - 0.6).abs() < 1e-6 && (rows[0][1] - 0.8).abs() < 1e-6);
        let weight = Tensor::new(&[[1f32, 0.], [1., 1.], [1., 1.]], &Device::Cpu).unwrap();
        let gradients = (y * weight).unwrap().sum_all().unwrap().backward().unwrap();
        let dx = gradients.get(&x).unwrap().to_vec2::<f32>().unwrap();
        // d(x0/|x|)/dx = (1 - 0.36)/5, -0.48/5
        assert!((dx[0][0] - 0.128).abs() < 1e-6 && (dx[0][1] + 0.096).abs() < 1e-6);
        assert_eq!(dx[1..], [[0., 0.], [0., 0.]]);
    }

    #[test]
    fn relu_passes_nan_on_and_has_no_gradient_at_zero() {
        let x = Var::new(&[f32::NAN, -2., 0., 3.], &Device::Cpu).unwrap();
        let y = relu(&x).unwrap();
        let values = y.to_vec1::<f32>().unwrap();
        assert!(values[0].is_nan());
        assert_eq!(values[1..], [0., 0., 3.]);
        let gradients = y.sum_all().unwrap().backward().unwrap();
        let dx = gradients.get(&x).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(dx[1..], [0., 0., 1.]);
    }

    #[test]
    fn features_that_are_nan_give_projections_that_are_nan() {
        let vb = Parameters::new(1).builder(DType::F32, &Device::Cpu);
        let head = ProjectionHead::new(3, 5, 4, vb).unwrap();
        let pooled = Tensor::new(&[[1f32, f32::NAN, 2.], [1., 0., 2.]], &Device::Cpu).unwrap();
        let rows = head.forward(&pooled).unwrap().to_vec2::<f32>().unwrap();
        assert!(rows[0].iter().all(|v| v.is_nan()), "{rows:?}");
        assert!(rows[1].iter().all(|v| v.is_finite()), "{rows:?}");
    }

    #[test]
    fn names_are_those_of_a_torch_sequential() {
        let parameters = Parameters::new(1);
        let vb = parameters.builder(DType::F32, &Device::Cpu);
        let head = ProjectionHead::new(6, 5, 4, vb.pp("head")).unwrap();
        let names: Vec<_> = parameters.all().into_keys().collect();
        assert_eq!(
            names,
            [
                "head.0.bias",
                "head.0.weight",
                "head.2.bias",
                "head.2.weight"
            ]
        );
        let wrong = Tensor::zeros((2, 7), DType::F32, &Device::Cpu).unwrap();
        assert!(head.forward(&wrong).is_err());
    }
}
