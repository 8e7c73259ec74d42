//! What flows back along a tape.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{Result, Tensor};
use fgvr_cuda::Array;
use fgvr_cuda::ops::elementwise;

use crate::kernels::activation::ActivationFunction;
use crate::kernels::norm::GradSums;
use crate::kernels::rows;
use crate::{Buffer, Device, ParameterGradients};

/// The gradient of a map that was normalised, and perhaps cut off by an activation, by its only reader.
pub(crate) struct NormedGradient {
    /// The gradient at the values after the norm and the activation.
    pub(crate) values: Arc<Buffer>,
    /// What followed whose mask is not in `values` yet.
    pub(crate) activation: ActivationFunction,
    /// For each group of images, the sums that the norm's backward needs, masked.
    pub(crate) sums: Vec<GradSums>,
}

/// As [`NormedGradient`], on a device.
pub(crate) struct NormedArray {
    /// The gradient at the values after the norm and the activation.
    pub(crate) values: Array,
    /// What followed whose mask is not in `values` yet.
    pub(crate) activation: ActivationFunction,
    /// Gradients of weight and bias, and what the norm's backward needs.
    pub(crate) of_norm: fgvr_cuda::ops::batch_norm::Gradients,
}

/// Gradients on their way back: of maps by id, and of parameters by variable.
pub struct Gradients<'a> {
    pub(super) maps: HashMap<usize, Arc<Buffer>>,
    pub(super) normed: HashMap<usize, NormedGradient>,
    pub(super) arrays: HashMap<usize, Array>,
    pub(super) normed_arrays: HashMap<usize, NormedArray>,
    pub(super) parameter_arrays: Vec<(Tensor, Array)>,
    pub(super) device: Option<Device>,
    pub(super) parameters: &'a mut ParameterGradients,
}

impl Gradients<'_> {
    /// Adds `gradient` to that of `map`; the first arrival is moved in.
    pub fn add(&mut self, map: usize, gradient: Buffer) {
        self.add_shared(map, Arc::new(gradient));
    }

    /// As [`Gradients::add`], for a gradient that somebody else still reads.
    pub(crate) fn add_shared(&mut self, map: usize, gradient: Arc<Buffer>) {
        match self.maps.get_mut(&map) {
            None => {
                self.maps.insert(map, gradient);
            }
            Some(sum) => {
                let sum: &mut Buffer = Arc::make_mut(sum);
                rows::add(sum, &gradient);
            }
        }
    }

    /// The gradient of `map` so far, to be given back with more in it.
    pub(crate) fn take(&mut self, map: usize) -> Option<Buffer> {
        self.maps.remove(&map).map(Arc::unwrap_or_clone)
    }

    /// Hands the gradient of a normed map to whoever made it.
    pub(crate) fn add_normed(&mut self, map: usize, gradient: NormedGradient) {
        self.normed.insert(map, gradient);
    }

    /// As [`Gradients::add`], on a device. An array that somebody else holds too is left as it is.
    pub(crate) fn add_array(&mut self, map: usize, gradient: Array) -> Result<()> {
        let sum = match (self.take_array(map)?, &self.device) {
            (Some(sum), Some(device)) => {
                device.run(|m| elementwise::add_to(m, &sum, &gradient))?;
                sum
            }
            _ => gradient,
        };
        self.arrays.insert(map, sum);
        Ok(())
    }

    /// As [`Gradients::take`], on a device: an array that nobody else holds.
    pub(crate) fn take_array(&mut self, map: usize) -> Result<Option<Array>> {
        match (self.arrays.remove(&map), &self.device) {
            (Some(sum), Some(device)) if sum.is_shared() => {
                device.run(|m| elementwise::scale(m, &sum, 1.)).map(Some)
            }
            (sum, _) => Ok(sum),
        }
    }

    /// As [`Gradients::add_normed`], on a device.
    pub(crate) fn add_normed_array(&mut self, map: usize, gradient: NormedArray) {
        self.normed_arrays.insert(map, gradient);
    }

    /// As [`Gradients::add_parameter`], of an array of f32 or bf16 on the tape's device. Where the parameter lives
    /// there it stays there; otherwise it is fetched when the tape has run, so that the device need not wait for the
    /// host in between.
    pub(crate) fn add_parameter_array(&mut self, parameter: &Tensor, gradient: Array) {
        self.parameter_arrays.push((parameter.clone(), gradient));
    }

    /// Fetches what [`Gradients::add_parameter_array`] took, in that order.
    pub(super) fn fetch_parameters(&mut self) -> Result<()> {
        let Some(device) = self.device.clone() else {
            return Ok(());
        };
        for (parameter, gradient) in std::mem::take(&mut self.parameter_arrays) {
            if device.resident(&parameter).is_some() {
                self.parameters.add_array(&device, &parameter, gradient)?;
                continue;
            }
            let values = device.values(&gradient)?;
            self.add_parameter(&parameter, values)?;
        }
        Ok(())
    }

    /// Adds `gradient`, laid out like `parameter`, to that of `parameter`.
    ///
    /// # Errors
    /// A gradient whose element count is not the parameter's.
    pub fn add_parameter(&mut self, parameter: &Tensor, gradient: Vec<f32>) -> Result<()> {
        if let Some(device) = &self.device
            && device.resident(parameter).is_some()
        {
            let gradient = device.run(|m| Array::from_f32(m, &gradient))?;
            return self.parameters.add_array(device, parameter, gradient);
        }
        let gradient = Tensor::from_vec(gradient, parameter.shape(), parameter.device())?;
        let sum = match self.parameters.remove(parameter) {
            Some(before) => (before + gradient)?,
            None => gradient,
        };
        self.parameters.insert(parameter, sum);
        Ok(())
    }
}
