//! Variables that are resident on a device while they are trained.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::{Result, Tensor, TensorId, Var};
use fgvr_cuda::Array;

use super::Device;
use crate::tape::with_values;

/// A variable on a device. The tensor on the CPU has its shape and its name, and values that may be old.
struct Resident {
    /// f32, in the order of its shape.
    values: Array,
    /// As a layer wants it, and the generation of values it was made from.
    prepared: Option<(u64, Array)>,
}

/// All variables that are resident on a device.
#[derive(Default)]
pub(super) struct Residents(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    of: HashMap<TensorId, Resident>,
    /// Counts the changes of any values.
    generation: u64,
}

impl Residents {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Device {
    /// The values of a variable that is resident here: the memory that is trained, not a copy.
    pub(crate) fn resident(&self, variable: &Tensor) -> Option<Array> {
        let residents = self.residents.lock();
        residents.of.get(&variable.id()).map(|r| r.values.clone())
    }

    /// Copies a variable's values from the host; a variable that is resident here already takes those values.
    pub(crate) fn upload(&self, variable: &Var) -> Result<()> {
        if let Some(values) = self.resident(variable) {
            with_values(variable, |new| self.run(|m| values.set(m, new)))??;
            self.values_changed();
            return Ok(());
        }
        let values = with_values(variable, |values| self.run(|m| Array::from_f32(m, values)))??;
        let resident = Resident {
            values,
            prepared: None,
        };
        self.residents.lock().of.insert(variable.id(), resident);
        Ok(())
    }

    /// Frees a variable's memory.
    pub(super) fn evict(&self, variable: TensorId) {
        self.residents.lock().of.remove(&variable);
    }

    /// Copies the values of a variable that is resident here back to the host; waits for the device.
    pub(crate) fn download(&self, variable: &Var) -> Result<()> {
        let Some(values) = self.resident(variable) else {
            return Ok(());
        };
        let values = Tensor::from_vec(self.values(&values)?, variable.dims(), variable.device())?;
        variable.set(&values)
    }

    /// Says that values of variables have changed: what was made from them is made anew.
    pub(crate) fn values_changed(&self) {
        self.residents.lock().generation += 1;
    }

    /// What `prepare` makes of a variable's values; kept until they change, if the variable is resident here.
    pub(super) fn prepared(
        &self,
        variable: &Tensor,
        prepare: impl FnOnce(&Array) -> Result<Array>,
    ) -> Result<Array> {
        let values = {
            let residents = self.residents.lock();
            match residents.of.get(&variable.id()) {
                Some(Resident {
                    prepared: Some((generation, made)),
                    ..
                }) if *generation == residents.generation => return Ok(made.clone()),
                Some(resident) => Some((residents.generation, resident.values.clone())),
                None => None,
            }
        };
        let Some((generation, values)) = values else {
            let sent = with_values(variable, |values| self.run(|m| Array::from_f32(m, values)))??;
            return prepare(&sent);
        };
        let made = prepare(&values)?;
        if let Some(resident) = self.residents.lock().of.get_mut(&variable.id()) {
            resident.prepared = Some((generation, made.clone()));
        }
        Ok(made)
    }
}

/// Variables that are resident on a device until this is dropped.
pub(crate) struct Residence {
    pub(crate) device: Device,
    pub(crate) variables: Vec<TensorId>,
}

impl Drop for Residence {
    fn drop(&mut self) {
        for variable in &self.variables {
            self.device.evict(*variable);
        }
    }
}

impl std::fmt::Debug for Residence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on {:?}", self.variables.len(), self.device)
    }
}
