//! What the optimisers share: variables with moments, found by name.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Result, Tensor, Var, bail};
use rayon::prelude::*;

use super::on_device::{self, DeviceVariable, Moments};
use fgvr_cuda::Machine;
use fgvr_cuda::ops::optimizer::Parameters as Table;

use crate::tape::with_values;
use crate::{Buffer, ParameterGradients};

/// What a step does with a variable that no gradient arrived for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum MissingGradient {
    /// The step fails with the variable's name and changes nothing: a cut graph must not pass as
    /// training.
    #[default]
    Error,
    /// The variable and its moments stay as they are, without weight decay.
    Skip,
}

/// Floats in one piece of parallel work.
const CHUNK: usize = 1 << 14;

/// The step counter of the whole optimiser, in its state.
const STEPS: &str = "step";

/// One variable with `M` moments.
struct Slot<const M: usize> {
    var: Var,
    decays: bool,
    /// Steps this variable took.
    steps: u64,
    moments: Moments<M>,
}

/// Pieces of a variable, its moments and its gradient that belong together.
pub(super) struct Piece<'a, const M: usize> {
    pub(super) values: &'a mut [f32],
    pub(super) moments: [&'a mut [f32]; M],
    pub(super) gradient: &'a [f32],
}

/// What the pieces of one variable share.
#[derive(Clone, Copy)]
pub(super) struct Whole<const S: usize> {
    /// Steps the variable took, with this one.
    pub(super) steps: u64,
    pub(super) decays: bool,
    /// Sums over the variable and its gradient.
    pub(super) sums: [f64; S],
}

/// Variables by name, with `M` moments each.
pub(super) struct Variables<const M: usize> {
    op: &'static str,
    names: [&'static str; M],
    missing: MissingGradient,
    steps: u64,
    slots: BTreeMap<String, Slot<M>>,
}

impl<const M: usize> Variables<M> {
    /// Variables with moments of zero. `exclude_vectors` takes weight decay from those with at most
    /// one dimension.
    pub(super) fn new(
        op: &'static str,
        names: [&'static str; M],
        vars: BTreeMap<String, Var>,
        exclude_vectors: bool,
        missing: MissingGradient,
    ) -> Result<Self> {
        let mut slots = BTreeMap::new();
        let mut seen = HashMap::new();
        for (name, var) in vars {
            if let Some(first) = seen.insert(var.id(), name.clone()) {
                bail!("{op}: {first} and {name} are one variable, which would step twice");
            }
            if var.dtype() != DType::F32 || !var.device().is_cpu() || !var.is_contiguous() {
                bail!(
                    "{op}: {name} is {:?} on {:?}, expected f32 on the CPU",
                    var.dtype(),
                    var.device()
                );
            }
            let decays = !(exclude_vectors && var.rank() <= 1);
            let moments = Moments::OnHost(std::array::from_fn(|_| Buffer::zeros(var.elem_count())));
            slots.insert(
                name,
                Slot {
                    var,
                    decays,
                    steps: 0,
                    moments,
                },
            );
        }
        Ok(Self {
            op,
            names,
            missing,
            steps: 0,
            slots,
        })
    }

    /// Steps taken.
    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    /// Runs `update(piece, steps of the variable with this one, whether it decays)` over all
    /// variables, and `on_device(machine, table, steps)` over those on a device. Nothing changes if a gradient is
    /// missing or has another shape.
    pub(super) fn step(
        &mut self,
        gradients: &ParameterGradients,
        lr: f64,
        update: impl Fn(Piece<'_, M>, u64, bool) + Sync,
        on_device: impl Fn(&dyn Machine, &Table, u64) -> fgvr_cuda::Result<()>,
    ) -> Result<()> {
        let update = |piece: Piece<'_, M>, of: Whole<0>| update(piece, of.steps, of.decays);
        self.step_measured(gradients, lr, |_, _, _| [], update, on_device)
    }

    /// As [`Variables::step`], with sums over each whole variable, of
    /// `measure(values, gradient, whether it decays)` of its pieces in their order.
    pub(super) fn step_measured<const S: usize>(
        &mut self,
        gradients: &ParameterGradients,
        lr: f64,
        measure: impl Fn(&[f32], &[f32], bool) -> [f64; S] + Sync,
        update: impl Fn(Piece<'_, M>, Whole<S>) + Sync,
        step_on_device: impl Fn(&dyn Machine, &Table, u64) -> fgvr_cuda::Result<()>,
    ) -> Result<()> {
        let op = self.op;
        if !(lr.is_finite() && lr >= 0.) {
            bail!("{op}: expected a learning rate of 0 or more, found {lr}");
        }
        let (mut work, mut resident) = (Vec::new(), Vec::new());
        for (name, slot) in &mut self.slots {
            if let Some(gradient) = gradients.on_device(&slot.var) {
                resident.push((slot, gradient));
                continue;
            }
            match gradients.get(&slot.var) {
                Some(gradient)
                    if gradient.dims() != slot.var.dims() || gradient.dtype() != DType::F32 =>
                {
                    bail!(
                        "{op}: gradient of {name} is {:?} {:?}, expected {:?} F32",
                        gradient.dims(),
                        gradient.dtype(),
                        slot.var.dims()
                    )
                }
                Some(gradient) => work.push((slot, gradient)),
                None if self.missing == MissingGradient::Skip => {}
                None => bail!("{op}: {name} has no gradient"),
            }
        }
        work.into_par_iter().try_for_each(|(slot, gradient)| {
            slot.steps += 1;
            let (steps, decays) = (slot.steps, slot.decays);
            let moments = slot.moments.on_host()?;
            with_values(gradient, |gradient| {
                with_values_mut(&slot.var, |values| {
                    let sums = match S {
                        0 => [0.; S],
                        _ => sums(values, gradient, |v, g| measure(v, g, decays)),
                    };
                    let of = Whole {
                        steps,
                        decays,
                        sums,
                    };
                    let pieces = pieces(values, moments, gradient);
                    pieces.into_par_iter().for_each(|piece| update(piece, of));
                })
            })?
        })?;
        let resident = resident.into_iter().map(|(slot, gradient)| {
            slot.steps += 1;
            DeviceVariable {
                var: &slot.var,
                gradient,
                moments: &mut slot.moments,
                decays: slot.decays,
                steps: slot.steps,
            }
        });
        on_device::step(op, resident.collect(), step_on_device)?;
        self.steps += 1;
        Ok(())
    }

    /// Moments and step counters by name: `{variable}.{moment}`, `{variable}.step`, and `step`.
    pub(super) fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state = BTreeMap::from([(STEPS.to_owned(), counter(self.steps)?)]);
        for (name, slot) in &self.slots {
            state.insert(format!("{name}.{STEPS}"), counter(slot.steps)?);
            for (i, moment) in self.names.iter().enumerate() {
                state.insert(
                    format!("{name}.{moment}"),
                    slot.moments.tensor(i, &slot.var)?,
                );
            }
        }
        Ok(state)
    }

    /// Takes the state that [`Variables::state`] gave.
    ///
    /// A tensor that is missing, left over, or of another shape is an error, and nothing changes.
    pub(super) fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        let op = self.op;
        let expected = self.state()?;
        if let Some(name) = state
            .keys()
            .filter(|name| !expected.contains_key(*name))
            .min()
        {
            bail!("{op}: state has {name}, which belongs to no variable here");
        }
        for (name, tensor) in &expected {
            match state.get(name) {
                None => bail!("{op}: state lacks {name}"),
                Some(given) if given.dims() != tensor.dims() || given.dtype() != tensor.dtype() => {
                    bail!(
                        "{op}: state's {name} is {:?} {:?}, expected {:?} {:?}",
                        given.dims(),
                        given.dtype(),
                        tensor.dims(),
                        tensor.dtype()
                    )
                }
                Some(_) => {}
            }
        }
        let count = |name: &str| match u64::try_from(state[name].to_scalar::<i64>()?) {
            Ok(count) => Ok(count),
            Err(_) => bail!("{op}: state's {name} is negative"),
        };
        let steps = count(STEPS)?;
        let per_variable = (self
            .slots
            .keys()
            .map(|name| count(&format!("{name}.{STEPS}"))))
        .collect::<Result<Vec<_>>>()?;
        for ((name, slot), steps) in self.slots.iter_mut().zip(per_variable) {
            for (i, moment) in self.names.iter().enumerate() {
                slot.moments.set(i, &state[&format!("{name}.{moment}")])?;
            }
            slot.steps = steps;
        }
        self.steps = steps;
        Ok(())
    }
}

fn counter(value: u64) -> Result<Tensor> {
    Tensor::new(value as i64, &Device::Cpu)
}

/// Sums of `measure` over the pieces of a variable and its gradient, added in their order.
fn sums<const S: usize>(
    values: &[f32],
    gradient: &[f32],
    measure: impl Fn(&[f32], &[f32]) -> [f64; S] + Sync,
) -> [f64; S] {
    let parts: Vec<[f64; S]> = values
        .par_chunks(CHUNK)
        .zip(gradient.par_chunks(CHUNK))
        .map(|(values, gradient)| measure(values, gradient))
        .collect();
    let add = |total: [f64; S], part: [f64; S]| std::array::from_fn(|i| total[i] + part[i]);
    parts.into_iter().fold([0.; S], add)
}

/// Cuts a variable, its moments and its gradient into pieces of one length.
fn pieces<'a, const M: usize>(
    values: &'a mut [f32],
    moments: [&'a mut [f32]; M],
    gradient: &'a [f32],
) -> Vec<Piece<'a, M>> {
    let mut moments = moments.map(|m| m.chunks_mut(CHUNK));
    let values = values.chunks_mut(CHUNK).zip(gradient.chunks(CHUNK));
    values
        .map(|(values, gradient)| Piece {
            values,
            moments: moments
                .each_mut()
                .map(|chunks| chunks.next().unwrap_or_default()),
            gradient,
        })
        .collect()
}

/// Runs `f` over the values of a variable, in place: `Var::set` would need a second tensor.
fn with_values_mut(var: &Var, f: impl FnOnce(&mut [f32])) -> Result<()> {
    var.inplace_op1(&InPlace(RefCell::new(Some(f))))
}

struct InPlace<F>(RefCell<Option<F>>);

impl<F: FnOnce(&mut [f32])> InplaceOp1 for InPlace<F> {
    fn name(&self) -> &'static str {
        "optimiser step"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        match (storage, layout.contiguous_offsets(), self.0.take()) {
            (CpuStorage::F32(values), Some((start, end)), Some(f)) => {
                f(&mut values[start..end]);
                Ok(())
            }
            _ => bail!("optimiser step: expected a contiguous f32 variable, found {layout:?}"),
        }
    }
}
