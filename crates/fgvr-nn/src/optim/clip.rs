//! Gradient clipping.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{Result, Var, bail};
use rayon::prelude::*;

use crate::tape::with_values;

/// The Euclidean norm of the gradients of `vars` taken together; with `max`, gradients whose norm
/// is larger are scaled by max / (norm + 1e-6), as PyTorch's `clip_grad_norm_`.
///
/// Sums are f64, in the order of names. A variable without gradient counts as zero: whether that is
/// an error is the optimiser's to say. If the norm is not finite, the gradients stay as they are and
/// the norm is returned: the caller decides.
///
/// # Errors
/// A maximum that is not positive, or a gradient that is not f32 on the CPU.
pub fn clip_gradient_norm(
    vars: &BTreeMap<String, Var>,
    gradients: &mut GradStore,
    max: Option<f64>,
) -> Result<f64> {
    let found: Vec<_> = vars
        .values()
        .filter_map(|var| Some((var, gradients.get(var)?.clone())))
        .collect();
    let squares: Vec<f64> = found
        .par_iter()
        .map(|(_, gradient)| {
            with_values(gradient, |g| {
                g.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>()
            })
        })
        .collect::<Result<_>>()?;
    let norm = squares.iter().sum::<f64>().sqrt();
    let Some(max) = max else {
        return Ok(norm);
    };
    if max.is_nan() || max <= 0. {
        bail!("clip_gradient_norm: expected a positive maximum, found {max}");
    }
    if norm.is_finite() && norm > max {
        for (var, gradient) in found {
            gradients.insert(var, (gradient * (max / (norm + 1e-6)))?);
        }
    }
    Ok(norm)
}
