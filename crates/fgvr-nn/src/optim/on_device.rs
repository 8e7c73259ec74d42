//! What optimisers do with variables that are resident on a device.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor, Var, bail};
use fgvr_cuda::ops::optimizer::{Parameter, Parameters};
use fgvr_cuda::{Array, Machine};

use crate::parameter_gradients::OnDevice;
use crate::tape::with_values;
use crate::{Buffer, Device};

/// The moments of a variable, where its gradient was when it last took a step.
pub(super) enum Moments<const M: usize> {
    OnHost([Buffer; M]),
    OnDevice(Device, [Array; M]),
}

impl<const M: usize> Moments<M> {
    /// Moves to where the variable is resident.
    pub(super) fn follow(&mut self, device: &Device) -> Result<()> {
        if let Self::OnHost(moments) = self {
            let sent = moments
                .iter()
                .map(|values| device.run(|m| Array::from_f32(m, values)));
            let sent: Vec<Array> = sent.collect::<Result<_>>()?;
            if let Ok(sent) = sent.try_into() {
                *self = Self::OnDevice(device.clone(), sent);
            }
        }
        Ok(())
    }

    /// The values on the host, copied back where they are on a device.
    pub(super) fn on_host(&mut self) -> Result<[&mut [f32]; M]> {
        if let Self::OnDevice(device, moments) = self {
            let device = device.clone();
            let back = moments.iter().map(|values| device.values(values));
            let back: Vec<Vec<f32>> = back.collect::<Result<_>>()?;
            *self = Self::OnHost(std::array::from_fn(|i| Buffer::from_slice(&back[i])));
        }
        match self {
            Self::OnHost(moments) => Ok(moments.each_mut().map(|moment| &mut **moment)),
            Self::OnDevice(..) => bail!("optimiser: moments did not come back"),
        }
    }

    /// Moment `index` as a tensor like `var`.
    pub(super) fn tensor(&self, index: usize, var: &Var) -> Result<Tensor> {
        match self {
            Self::OnHost(moments) => Tensor::from_slice(&moments[index], var.dims(), var.device()),
            Self::OnDevice(device, moments) => {
                Tensor::from_vec(device.values(&moments[index])?, var.dims(), var.device())
            }
        }
    }

    /// Overwrites moment `index`.
    pub(super) fn set(&mut self, index: usize, values: &Tensor) -> Result<()> {
        with_values(values, |values| match self {
            Self::OnHost(moments) => {
                moments[index].copy_from_slice(values);
                Ok(())
            }
            Self::OnDevice(device, moments) => device.run(|m| moments[index].set(m, values)),
        })?
    }
}

/// A variable that is resident on a device, and what a step needs of it.
pub(super) struct DeviceVariable<'a, const M: usize> {
    pub(super) var: &'a Var,
    pub(super) gradient: &'a OnDevice,
    pub(super) moments: &'a mut Moments<M>,
    pub(super) decays: bool,
    /// Steps the variable took, with this one.
    pub(super) steps: u64,
}

/// Runs `step(machine, table, steps)` once for all variables that took as many steps, which on most runs is all.
pub(super) fn step<const M: usize>(
    op: &str,
    variables: Vec<DeviceVariable<'_, M>>,
    step: impl Fn(&dyn Machine, &Parameters, u64) -> fgvr_cuda::Result<()>,
) -> Result<()> {
    let Some(device) = variables
        .first()
        .map(|variable| variable.gradient.device.clone())
    else {
        return Ok(());
    };
    let mut by_steps: BTreeMap<u64, Vec<Parameter>> = BTreeMap::new();
    for variable in variables {
        variable.moments.follow(&device)?;
        let (Some(value), Moments::OnDevice(_, moments)) =
            (device.resident(variable.var), &*variable.moments)
        else {
            bail!("{op}: a variable's gradient is on {device:?}, and the variable is not");
        };
        by_steps.entry(variable.steps).or_default().push(Parameter {
            value,
            gradient: variable.gradient.values.clone(),
            moments: moments.to_vec(),
            decays: variable.decays,
            adapts: variable.decays,
        });
    }
    for (steps, parameters) in by_steps {
        device.run(|m| step(m, &Parameters::new(m, &parameters)?, steps))?;
    }
    device.values_changed();
    Ok(())
}
