//! The gate of image pairs: no pair loss before decoded images say what real ones do.

use std::collections::{BTreeMap, HashMap};

use candle_core::{Result, Tensor};

use super::{Space, SynthPairConfig};
use crate::step::state::{counters, take, words};

/// Under what it is saved.
const OPENED: &str = "gate.opened";

/// A gate that waits to be measured: see [`Addon::gate`](crate::Addon::gate).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairGate {
    /// The share at which it opens.
    pub share: f64,
    /// Steps between two measurements.
    pub every: u64,
    /// What the decoder takes.
    pub space: Space,
}

/// Whether the gate has opened, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gate {
    /// Steps that were done then.
    pub(super) opened: Option<u64>,
}

impl Gate {
    /// The gate of these choices while it is shut.
    pub(super) fn waiting(self, cfg: &SynthPairConfig) -> Option<PairGate> {
        (cfg.gate > 0. && cfg.nu > 0. && self.opened.is_none()).then_some(PairGate {
            share: cfg.gate,
            every: cfg.gate_every,
            space: cfg.space,
        })
    }

    /// What it is saved as: nothing where there is no gate.
    pub(super) fn state(self, cfg: &SynthPairConfig) -> Result<BTreeMap<String, Tensor>> {
        if cfg.gate == 0. {
            return Ok(BTreeMap::new());
        }
        let opened = self.opened.map_or([0, 0], |steps| [1, steps]);
        Ok(BTreeMap::from([(OPENED.to_owned(), words(&opened)?)]))
    }

    /// What [`Gate::state`] gave; shut where the state is of a run without a gate.
    pub(super) fn load(state: &HashMap<String, Tensor>) -> Result<Self> {
        if !state.contains_key(OPENED) {
            return Ok(Self::default());
        }
        let saved = counters(take(state, OPENED, &[2])?)?;
        Ok(Self {
            opened: (saved[0] > 0).then_some(saved[1]),
        })
    }
}
