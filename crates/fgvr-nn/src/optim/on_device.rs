//! What optimisers do with variables that live on a device.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor, Var, bail};
use fgvr_cuda::ops::optimizer::{Parameter, Parameters};
use fgvr_cuda::{Array, Machine};

use crate::parameter_gradients::OnDevice;
use crate::tape::with_values;
use crate::{Buffer, Device};

/// The moments of a variable, where its gradient was when it last took a step.
pub(super) enum Moments<const M: usize> {
    Here([Buffer; M]),
    There(Device, [Array; M]),
}

impl<const M: usize> Moments<M> {
    /// Goes where the variable lives.
    pub(super) fn follow(&mut self, device: &Device) -> Result<()> {
        if let Self::Here(moments) = self {
            let sent = moments
                .iter()
                .map(|values| device.run(|m| Array::from_f32(m, values)));
            let sent: Vec<Array> = sent.collect::<Result<_>>()?;
            if let Ok(sent) = sent.try_into() {
                *self = Self::There(device.clone(), sent);
            }
        }
        Ok(())
    }

    /// The values on the CPU; brought back where they are not.
    pub(super) fn here(&mut self) -> Result<[&mut [f32]; M]> {
        if let Self::There(device, moments) = self {
            let device = device.clone();
            let back = moments.iter().map(|values| device.values(values));
            let back: Vec<Vec<f32>> = back.collect::<Result<_>>()?;
            *self = Self::Here(std::array::from_fn(|i| Buffer::from_slice(&back[i])));
        }
        match self {
            Self::Here(moments) => Ok(moments.each_mut().map(|moment| &mut **moment)),
            Self::There(..) => bail!("optimiser: moments did not come back"),
        }
    }

    /// Moment `index` as a tensor like `var`.
    pub(super) fn tensor(&self, index: usize, var: &Var) -> Result<Tensor> {
        match self {
            Self::Here(moments) => Tensor::from_slice(&moments[index], var.dims(), var.device()),
            Self::There(device, moments) => {
                Tensor::from_vec(device.values(&moments[index])?, var.dims(), var.device())
            }
        }
    }

    /// Overwrites moment `index`.
    pub(super) fn set(&mut self, index: usize, values: &Tensor) -> Result<()> {
        with_values(values, |values| match self {
            Self::Here(moments) => {
                moments[index].copy_from_slice(values);
                Ok(())
            }
            Self::There(device, moments) => device.run(|m| moments[index].set(m, values)),
        })?
    }
}

/// A variable that lives on a device, and what a step needs of it.
pub(super) struct There<'a, const M: usize> {
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
    variables: Vec<There<'_, M>>,
    step: impl Fn(&dyn Machine, &Parameters, u64) -> fgvr_cuda::Result<()>,
) -> Result<()> {
    let Some(device) = variables.first().map(|there| there.gradient.device.clone()) else {
        return Ok(());
    };
    let mut by_steps: BTreeMap<u64, Vec<Parameter>> = BTreeMap::new();
    for there in variables {
        there.moments.follow(&device)?;
        let (Some(value), Moments::There(_, moments)) =
            (device.resident(there.var), &*there.moments)
        else {
            bail!("{op}: a variable's gradient is on {device:?}, and the variable is not");
        };
        by_steps.entry(there.steps).or_default().push(Parameter {
            value,
            gradient: there.gradient.values.clone(),
            moments: moments.to_vec(),
            decays: there.decays,
            adapts: there.decays,
        });
    }
    for (steps, parameters) in by_steps {
        device.run(|m| step(m, &Parameters::new(m, &parameters)?, steps))?;
    }
    device.values_changed();
    Ok(())
}
