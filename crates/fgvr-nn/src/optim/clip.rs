//! Gradient clipping.

use std::collections::BTreeMap;

use candle_core::{Result, Var, bail};
use fgvr_cuda::Array;
use fgvr_cuda::ops::optimizer::{Parameter, Parameters};
use rayon::prelude::*;

use crate::tape::with_values;
use crate::{Device, ParameterGradients};

/// The Euclidean norm of the gradients of `vars` taken together; with `max`, gradients whose norm
/// is larger are scaled by max / (norm + 1e-6), as PyTorch's `clip_grad_norm_`.
///
/// Sums are f64, in the order of names, and of gradients on a device over all of them there. A variable without gradient counts as zero: whether that is
/// an error is the optimiser's to say. If the norm is not finite, the gradients stay as they are and
/// the norm is returned: the caller decides.
///
/// # Errors
/// A maximum that is not positive, or a gradient on the CPU that is not f32; what a device says.
pub fn clip_gradient_norm(
    vars: &BTreeMap<String, Var>,
    gradients: &mut ParameterGradients,
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
    let on_device = DeviceGradients::new(vars, gradients)?;
    let squares_on_device = on_device
        .as_ref()
        .map_or(Ok(0.), DeviceGradients::squares)?;
    let norm = (squares.iter().sum::<f64>() + squares_on_device).sqrt();
    let Some(max) = max else {
        return Ok(norm);
    };
    if max.is_nan() || max <= 0. {
        bail!("clip_gradient_norm: expected a positive maximum, found {max}");
    }
    if norm.is_finite() && norm > max {
        let factor = max / (norm + 1e-6);
        for (var, gradient) in found {
            gradients.insert(var, (gradient * factor)?);
        }
        if let Some(gradients) = on_device {
            gradients.scale(factor as f32)?;
        }
    }
    Ok(norm)
}

/// The gradients that are on a device, in the order of names.
struct DeviceGradients {
    device: Device,
    table: Parameters,
}

impl DeviceGradients {
    fn new(vars: &BTreeMap<String, Var>, gradients: &ParameterGradients) -> Result<Option<Self>> {
        let (mut device, mut parameters) = (None, Vec::new());
        for var in vars.values() {
            let Some(gradient) = gradients.on_device(var) else {
                continue;
            };
            let Some(value) = gradient.device.resident(var) else {
                bail!("clip_gradient_norm: a gradient is on a device, and its variable is not");
            };
            device = Some(gradient.device.clone());
            parameters.push(Parameter {
                value,
                gradient: gradient.values.clone(),
                moments: Vec::new(),
                decays: false,
                adapts: false,
            });
        }
        let Some(device) = device else {
            return Ok(None);
        };
        let table = device.run(|m| Parameters::new(m, &parameters))?;
        Ok(Some(Self { device, table }))
    }

    /// The sum of squares, once the device has computed it.
    fn squares(&self) -> Result<f64> {
        let norm = self.device.run(|m| {
            let found = self.table.gradient_norm(m, None)?;
            found.norm.to_f64(m)
        })?;
        Ok(norm.iter().map(|norm| norm * norm).sum())
    }

    fn scale(&self, factor: f32) -> Result<()> {
        self.device.run(|m| {
            let factor = Array::from_f32(m, &[factor])?;
            self.table.scale_gradients(m, &factor)
        })
    }
}
