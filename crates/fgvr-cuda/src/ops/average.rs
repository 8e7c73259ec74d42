//! The moving average that makes a target network, over all its tensors at once.

use super::tensors::{Entry, Table, check};
use crate::source::AVERAGE;
use crate::{Argument, Array, Machine, Module, Real, Result};

/// A tensor of the target network and its counterpart, f32.
#[derive(Clone)]
pub struct Pair {
    /// Tensors of the network that follows.
    pub target: Array,
    /// Tensors of the network that is trained.
    pub online: Array,
    /// Whether the target takes the online values as they are, as running statistics may be.
    pub copied: bool,
}

/// All tensors of a target network, in the machine's memory: a table that is built once and points to them
/// where they are.
pub struct Averages {
    table: Table,
}

impl Averages {
    /// A table of `pairs`.
    ///
    /// # Errors
    /// Arrays of a pair that differ in length or are not f32, a target that is there twice; what the
    /// machine says.
    pub fn new(machine: &dyn Machine, pairs: &[Pair]) -> Result<Self> {
        let entry = |pair: &Pair| Entry {
            arrays: vec![pair.target.clone(), pair.online.clone()],
            options: u32::from(pair.copied),
        };
        let entries = pairs.iter().map(entry).collect();
        Ok(Self {
            table: Table::new(machine, "average", entries, &[0])?,
        })
    }

    /// target = momentum target + (1 - momentum) online (Eq. 2 of MoCo, arXiv:1911.05722), or online where a
    /// pair is copied.
    ///
    /// # Errors
    /// A momentum outside [0, 1]; what the machine says.
    pub fn update(&self, machine: &dyn Machine, momentum: f64) -> Result<()> {
        let valid = (0. ..=1.).contains(&momentum);
        check("average", "momentum", momentum, valid, "0 to 1")?;
        let module = Module {
            file: &AVERAGE,
            real: Real::F32,
        };
        let operands = [
            Argument::F32(momentum as f32),
            // Taken in f64: 1 - 0.996 in f32 is off by 1e-5.
            Argument::F32((1. - momentum) as f32),
        ];
        self.table.launch(machine, module, "average", &operands)
    }
}
