//! Gradients of variables, wherever those live.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, TensorId};
use fgvr_cuda::ops::{elementwise, layout};
use fgvr_cuda::{Array, DType};

use crate::Device;

/// Gradients of variables: candle tensors for those on the CPU, which this derefs to, and arrays for those resident on
/// a device ([`Parameters::to_device`](crate::Parameters::to_device)).
#[derive(Default)]
pub struct ParameterGradients {
    host: GradStore,
    on_device: HashMap<TensorId, OnDevice>,
}

pub(crate) struct OnDevice {
    pub(crate) device: Device,
    /// f32, in the order of the variable's shape.
    pub(crate) values: Array,
}

impl ParameterGradients {
    /// Adds `gradient`, of f32 or bf16, to that of `parameter`; the first is moved in.
    pub(crate) fn add_array(
        &mut self,
        device: &Device,
        parameter: &Tensor,
        gradient: Array,
    ) -> Result<()> {
        let gradient = match gradient.dtype() {
            DType::F32 => gradient,
            _ => device.run(|m| layout::cast(m, &gradient, DType::F32))?,
        };
        let new = OnDevice {
            device: device.clone(),
            values: gradient,
        };
        self.add(parameter.id(), new)
    }

    fn add(&mut self, parameter: TensorId, new: OnDevice) -> Result<()> {
        let Some(sum) = self.on_device.get_mut(&parameter) else {
            self.on_device.insert(parameter, new);
            return Ok(());
        };
        // An array that somebody else holds too is left as it is.
        if sum.values.is_shared() {
            sum.values = (new.device).run(|m| elementwise::scale(m, &sum.values, 1.))?;
        }
        (new.device).run(|m| elementwise::add_to(m, &sum.values, &new.values))
    }

    /// The gradient of a variable that is resident on a device.
    pub(crate) fn on_device(&self, parameter: &Tensor) -> Option<&OnDevice> {
        self.on_device.get(&parameter.id())
    }

    /// The gradient of `parameter`, brought to the CPU if it is on a device.
    ///
    /// # Errors
    /// What the device says.
    pub fn tensor(&self, parameter: &Tensor) -> Result<Option<Tensor>> {
        match self.on_device(parameter) {
            Some(found) => {
                let values = found.device.values(&found.values)?;
                Tensor::from_vec(values, parameter.shape(), parameter.device()).map(Some)
            }
            None => Ok(self.host.get(parameter).cloned()),
        }
    }

    /// Adds the gradients of `other` to those here.
    ///
    /// # Errors
    /// Gradients of one variable whose shapes differ; what the device says.
    pub fn append(&mut self, other: Self) -> Result<()> {
        self.host.extend(other.host)?;
        let mut new = other.on_device.into_iter();
        new.try_for_each(|(parameter, new)| self.add(parameter, new))
    }

    /// Multiplies the gradients of `parameters` by `factor`.
    ///
    /// # Errors
    /// What the device says.
    pub fn scale<'a>(
        &mut self,
        parameters: impl IntoIterator<Item = &'a Tensor>,
        factor: f64,
    ) -> Result<()> {
        for parameter in parameters {
            if let Some(found) = self.on_device.get_mut(&parameter.id()) {
                let (values, factor) = (&found.values, factor as f32);
                found.values = found
                    .device
                    .run(|m| elementwise::scale(m, values, factor))?;
            }
            if let Some(gradient) = self.host.remove(parameter) {
                self.host.insert(parameter, (gradient * factor)?);
            }
        }
        Ok(())
    }
}

impl From<GradStore> for ParameterGradients {
    fn from(host: GradStore) -> Self {
        Self {
            host,
            on_device: HashMap::new(),
        }
    }
}

impl Deref for ParameterGradients {
    type Target = GradStore;

    fn deref(&self) -> &GradStore {
        &self.host
    }
}

impl DerefMut for ParameterGradients {
    fn deref_mut(&mut self) -> &mut GradStore {
        &mut self.host
    }
}
