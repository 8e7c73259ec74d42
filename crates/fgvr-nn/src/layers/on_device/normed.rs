//! A map whose norm has not been applied yet.

use std::sync::Arc;

use candle_core::Result;
use fgvr_cuda::Array;
use fgvr_cuda::ops::ActivationFunction;
use fgvr_cuda::ops::batch_norm::{Mask, Norm, Residual};

use crate::layers::Shortcut;
use crate::tape::NormedArray;
use crate::{Activation, Device, Tape};

/// The convolution's values on a device, and the norm that is still to be applied.
pub(in crate::layers) struct DeviceNormed {
    pub(in crate::layers) id: usize,
    pub(in crate::layers) shape: [usize; 4],
    pub(super) device: Device,
    pub(super) values: Array,
    pub(super) norm: Arc<Norm>,
}

impl DeviceNormed {
    pub(in crate::layers) fn activate(
        self,
        tape: &mut Tape,
        activation: ActivationFunction,
    ) -> Result<Activation> {
        let y = self
            .device
            .run(|m| self.norm.apply(m, &self.values, Residual::None, activation))?;
        let y = tape.map_on(&self.device, self.shape, y);
        tape.push_on(&y, move |dy, gradients| {
            let gradient = self.gradient(dy, activation)?;
            gradients.add_normed_array(self.id, gradient);
            Ok(())
        });
        Ok(y)
    }

    pub(in crate::layers) fn add(
        self,
        tape: &mut Tape,
        shortcut: &Activation,
    ) -> Result<Activation> {
        let residual = Residual::Map(shortcut.array()?);
        let y = self.device.run(|m| {
            self.norm
                .apply(m, &self.values, residual, ActivationFunction::Identity)
        })?;
        let y = tape.map_on(&self.device, self.shape, y);
        let shortcut = tape.needs_gradient(shortcut).then_some(shortcut.id);
        tape.push_on(&y, move |dy, gradients| {
            let gradient = self.gradient(dy.clone(), ActivationFunction::Identity)?;
            gradients.add_normed_array(self.id, gradient);
            match shortcut {
                None => Ok(()),
                Some(id) => gradients.add_array(id, dy),
            }
        });
        Ok(y)
    }

    pub(in crate::layers) fn add_relu(
        self,
        tape: &mut Tape,
        shortcut: Shortcut<'_>,
    ) -> Result<Activation> {
        let shortcut = match shortcut {
            Shortcut::Identity(map) => Err(map),
            Shortcut::Projection(normed) => Ok(normed.on_device()?),
        };
        let residual = match &shortcut {
            Err(map) => Residual::Map(map.array()?),
            Ok(other) => Residual::Normed(&other.values, &other.norm),
        };
        let y = self.device.run(|m| {
            self.norm
                .apply(m, &self.values, residual, ActivationFunction::Relu)
        })?;
        let output = y.clone();
        let y = tape.map_on(&self.device, self.shape, y);
        let shortcut = shortcut.map_err(|map| tape.needs_gradient(map).then_some(map.id));
        tape.push_on(&y, move |dy, gradients| {
            // What a ReLU lets through goes to both sides.
            let kept = self.device.map(dy.len())?;
            let mask = Mask::Output(&output);
            let of_norm = self
                .device
                .run(|m| self.norm.gradients(m, &dy, &self.values, mask, Some(&kept)))?;
            let gradient = NormedArray {
                values: kept.clone(),
                activation: ActivationFunction::Identity,
                of_norm,
            };
            gradients.add_normed_array(self.id, gradient);
            match shortcut {
                Err(None) => {}
                Err(Some(id)) => gradients.add_array(id, kept)?,
                Ok(normed) => {
                    let gradient = normed.gradient(kept, ActivationFunction::Identity)?;
                    gradients.add_normed_array(normed.id, gradient);
                }
            }
            Ok(())
        });
        Ok(y)
    }

    /// The gradient of the values after the norm and the activation, with what the norm's backward needs.
    pub(super) fn gradient(
        &self,
        values: Array,
        activation: ActivationFunction,
    ) -> Result<NormedArray> {
        let mask = Mask::Recompute(activation);
        let of_norm = self
            .device
            .run(|m| self.norm.gradients(m, &values, &self.values, mask, None))?;
        Ok(NormedArray {
            values,
            activation,
            of_norm,
        })
    }
}

impl std::fmt::Debug for DeviceNormed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Normed({:?} (N, H, W, C) on {:?})",
            self.shape, self.device
        )
    }
}
