//! What is done to a convolution's values on their way to memory.

use crate::kernels::activation::{ActivationFunction, ceiling};

/// y = activation(convolution + bias (+ residual)).
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'a> {
    /// Added at each place (O).
    pub bias: &'a [f32],
    /// Added to each value, (N, H', W', O).
    pub residual: Option<&'a [f32]>,
    /// Ends it.
    pub activation: ActivationFunction,
}

impl Epilogue<'_> {
    /// What values are cut off below and above at; not at NaN.
    pub(super) fn limits(&self) -> [f32; 2] {
        let floor = match self.activation {
            ActivationFunction::Identity => f32::NAN,
            ActivationFunction::Relu | ActivationFunction::Relu6 => 0.,
        };
        [floor, ceiling(self.activation)]
    }
}
