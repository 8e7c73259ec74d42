//! What a trainer saves and takes up.

use std::collections::HashMap;

use candle_core::Tensor;
use fgvr_nn::Parameters;

use super::Trainer;
use crate::Result;
use crate::checkpoint::{State, under};

impl Trainer {
    /// All that a resumed run needs to go on with the same bits.
    ///
    /// # Errors
    /// None in practice.
    pub fn state(&self) -> Result<State> {
        let mut state = State::new();
        let mut add = |prefix: &str, tensors: std::collections::BTreeMap<String, Tensor>| {
            for (name, tensor) in tensors {
                state.insert(format!("{prefix}.{name}"), tensor);
            }
        };
        let values = |parameters: &Parameters| {
            parameters.to_host()?;
            let vars = parameters.all().into_iter();
            let values = vars.map(|(name, var)| (name, var.as_tensor().clone()));
            candle_core::Result::Ok(values.collect())
        };
        add("objective", self.base.state()?);
        for addon in &self.addons {
            add(addon.kind().section(), addon.state()?);
        }
        for (file, tensors) in self.optimizer.state()? {
            add(&file, tensors);
        }
        for (number, adam) in &self.own_optimizers {
            if let Some(own) = self.addons[*number].own_optimizer() {
                let [variables, moments] = own.files;
                add(variables, values(own.parameters)?);
                add(moments, adam.state()?);
            }
        }
        Ok(state)
    }

    /// Takes up where `state` was saved, after `step` steps.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape: the state is of another architecture.
    pub fn load_state(&mut self, step: u64, tensors: &HashMap<String, Tensor>) -> Result<()> {
        let part = |prefix: &str| under(tensors, prefix);
        self.base.load_state(&part("objective"))?;
        for addon in &mut self.addons {
            addon.load_state(&part(addon.kind().section()))?;
        }
        for (number, adam) in &mut self.own_optimizers {
            if let Some(own) = self.addons[*number].own_optimizer() {
                let [variables, moments] = own.files;
                own.parameters.set_all(&part(variables))?;
                adam.load_state(&part(moments))?;
            }
        }
        self.optimizer.load_state(part)?;
        self.step = step;
        Ok(())
    }
}
