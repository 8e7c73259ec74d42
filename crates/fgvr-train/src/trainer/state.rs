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
        add("decoder", values(&self.decoder_parameters)?);
        add("objective", self.base.state()?);
        add("synthpair", self.synthpair.state()?);
        for addon in &self.addons {
            add(addon.kind().section(), addon.state()?);
        }
        for (file, tensors) in self.optimizer.state()? {
            add(&file, tensors);
        }
        add("adam", self.adam.state()?);
        Ok(state)
    }

    /// Takes up where `state` was saved, after `step` steps.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape: the state is of another architecture.
    pub fn load_state(&mut self, step: u64, tensors: &HashMap<String, Tensor>) -> Result<()> {
        let part = |prefix: &str| under(tensors, prefix);
        self.decoder_parameters.set_all(&part("decoder"))?;
        self.base.load_state(&part("objective"))?;
        self.synthpair.load_state(&part("synthpair"))?;
        for addon in &mut self.addons {
            addon.load_state(&part(addon.kind().section()))?;
        }
        self.adam.load_state(&part("adam"))?;
        self.optimizer.load_state(part)?;
        self.step = step;
        Ok(())
    }
}
