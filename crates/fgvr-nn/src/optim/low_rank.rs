//! Variables that change by a product of two small matrices.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device as Cpu, Result, Tensor, Var, bail};
use candle_nn::Init;

use crate::{Device, ParameterGradients, Parameters};

/// Variables that change by a matrix of low rank (LoRA, arXiv:2106.09685): W = W0 + (alpha / r) B A, with A (r, in) and B (out, r)
/// trained in place of W (out, in). A convolution's kernel counts as (out, in x height x width).
///
/// The network keeps computing with W itself, so that it needs to know nothing of this, and its speed afterwards is that of before:
/// from the gradient G of W follow those of the two, (alpha / r) G Aᵀ of B and (alpha / r) Bᵀ G of A. A starts uniform as PyTorch's
/// linear layers do, B at zero, so that W starts as W0.
///
/// # Differs
/// Gradients of whole matrices are computed, which a network with the two layers built in would not need: this saves the optimiser's
/// memory and what is free to change, not the backward pass.
pub struct LowRank {
    scale: f64,
    /// A and B of each, under its name.
    parameters: Parameters,
    changed: BTreeMap<String, Changed>,
}

struct Changed {
    var: Var,
    /// W0, in the shape of W.
    start: Tensor,
    a: Var,
    b: Var,
}

impl LowRank {
    /// Over `vars` of two dimensions or more, as they are now. Initial values of A depend on the seed and the name alone.
    ///
    /// # Errors
    /// A rank of 0, or one that some variable has not got; a variable of one dimension, or one that is not f32 on the CPU.
    pub fn new(vars: BTreeMap<String, Var>, rank: usize, alpha: f64, seed: u64) -> Result<Self> {
        let parameters = Parameters::new(seed);
        let vb = parameters.builder(DType::F32, &Cpu::Cpu);
        let mut changed = BTreeMap::new();
        for (name, var) in vars {
            let (rows, columns) = sides(&var);
            if var.rank() < 2 || rank == 0 || rank > rows.min(columns) {
                bail!(
                    "low rank: {name} is {:?}, expected a matrix of rank {rank} or more, and 1 at least",
                    var.dims()
                );
            }
            let bound = 1. / (columns as f64).sqrt();
            let uniform = Init::Uniform {
                lo: -bound,
                up: bound,
            };
            vb.get_with_hints((rank, columns), &format!("{name}.lora_a"), uniform)?;
            vb.get_with_hints((rows, rank), &format!("{name}.lora_b"), Init::Const(0.))?;
            let own = parameters.all();
            let (a, b) = (format!("{name}.lora_a"), format!("{name}.lora_b"));
            let new = Changed {
                start: var.as_tensor().copy()?,
                a: own[&a].clone(),
                b: own[&b].clone(),
                var,
            };
            changed.insert(name, new);
        }
        Ok(Self {
            scale: alpha / rank as f64,
            parameters,
            changed,
        })
    }

    /// A and B of each variable, for an optimiser: `NAME.lora_a` and `NAME.lora_b`.
    #[must_use]
    pub fn trainable(&self) -> BTreeMap<String, Var> {
        self.parameters.trainable()
    }

    /// Their gradients, from those of the variables.
    ///
    /// # Errors
    /// A variable without gradient; what a device says.
    pub fn gradients(&self, of: &ParameterGradients) -> Result<ParameterGradients> {
        let mut found = ParameterGradients::default();
        for (name, Changed { var, a, b, .. }) in &self.changed {
            let Some(gradient) = of.tensor(var)? else {
                bail!("low rank: {name} has no gradient");
            };
            // (out, in)
            let gradient = (gradient.reshape(sides(var))? * self.scale)?;
            found.insert(a, b.t()?.matmul(&gradient)?);
            found.insert(b, gradient.matmul(&a.t()?)?);
        }
        Ok(found)
    }

    /// Sets every variable to W0 + (alpha / r) B A, also where it is resident on `device`.
    ///
    /// # Errors
    /// What the device says.
    pub fn apply(&self, device: Option<&Device>) -> Result<()> {
        for Changed { var, start, a, b } in self.changed.values() {
            let change = (b.matmul(a)? * self.scale)?;
            var.set(&(start + change.reshape(var.dims())?)?)?;
            if let Some(device) = device {
                device.upload(var)?;
            }
        }
        Ok(())
    }

    /// What a resumed run needs: `NAME.start`, W0, beside A and B.
    ///
    /// # Errors
    /// None in practice.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let own = self.parameters.all().into_iter();
        let mut state: BTreeMap<_, _> = own
            .map(|(name, var)| Ok((name, var.as_tensor().copy()?)))
            .collect::<Result<_>>()?;
        for (name, Changed { start, .. }) in &self.changed {
            state.insert(format!("{name}.start"), start.clone());
        }
        Ok(state)
    }

    /// Takes over what [`LowRank::state`] gave; the variables themselves are set by whoever saved them.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape; nothing is changed then.
    pub fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        let starts = starts(self.changed.iter().map(|(name, c)| (name, &c.var)), state)?;
        self.parameters.set_all(state)?;
        for (changed, start) in self.changed.values_mut().zip(starts) {
            changed.start = start;
        }
        Ok(())
    }
}

/// `NAME.start` of each variable, in their order.
pub(super) fn starts<'a>(
    vars: impl Iterator<Item = (&'a String, &'a Var)>,
    state: &HashMap<String, Tensor>,
) -> Result<Vec<Tensor>> {
    let start = |(name, var): (&String, &Var)| match state.get(&format!("{name}.start")) {
        Some(start) if start.dims() == var.dims() => Ok(start.clone()),
        Some(start) => bail!(
            "{name}.start: expected shape {:?}, found {:?}",
            var.dims(),
            start.dims()
        ),
        None => bail!("{name}.start: not among the {} tensors given", state.len()),
    };
    vars.map(start).collect()
}

/// A variable as a matrix: its first dimension, and the product of the others.
fn sides(var: &Var) -> (usize, usize) {
    let rows = var.dims().first().copied().unwrap_or(1);
    (rows, var.elem_count() / rows.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::{Sgd, SgdConfig};

    fn variable(values: &[f32], shape: &[usize]) -> Var {
        Var::from_tensor(&Tensor::from_slice(values, shape, &Cpu::Cpu).unwrap()).unwrap()
    }

    fn low_rank() -> (Var, LowRank) {
        let values: Vec<f32> = (0..12).map(|i| (i as f32 * 0.7).sin()).collect();
        let var = variable(&values, &[3, 4, 1, 1]);
        let vars = BTreeMap::from([("blocks.0.conv_pw.weight".to_owned(), var.clone())]);
        (var, LowRank::new(vars, 2, 4., 7).unwrap())
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    /// The loss Σ c (W)^2 / 2 by W, whose gradient is c W.
    fn loss(var: &Var) -> f64 {
        let weight = |(i, v): (usize, &f32)| (1. + i as f64 * 0.3) * f64::from(*v).powi(2) / 2.;
        values(var).iter().enumerate().map(weight).sum()
    }

    fn gradients(var: &Var) -> ParameterGradients {
        let of: Vec<f32> = values(var)
            .iter()
            .enumerate()
            .map(|(i, v)| (1. + i as f32 * 0.3) * v)
            .collect();
        let mut gradients = ParameterGradients::default();
        gradients.insert(var, Tensor::from_vec(of, var.dims(), &Cpu::Cpu).unwrap());
        gradients
    }

    #[test]
    fn gradients_of_both_matrices_are_those_of_finite_differences() {
        let (var, low_rank) = low_rank();
        // Away from the start, where that of A would be zero.
        let b: Vec<f32> = (0..6).map(|i| (i as f32).cos()).collect();
        let own = low_rank.trainable();
        let b_name = "blocks.0.conv_pw.weight.lora_b";
        own[b_name]
            .set(&Tensor::from_vec(b, (3, 2), &Cpu::Cpu).unwrap())
            .unwrap();
        low_rank.apply(None).unwrap();
        let found = low_rank.gradients(&gradients(&var)).unwrap();
        for own in own.values() {
            let (at, of) = (values(own), values(found.get(own).unwrap()));
            for i in 0..at.len() {
                let loss_at = |step: f32| {
                    let mut moved = at.clone();
                    moved[i] += step;
                    own.set(&Tensor::from_vec(moved, own.dims(), &Cpu::Cpu).unwrap())
                        .unwrap();
                    low_rank.apply(None).unwrap();
                    loss(&var)
                };
                let expected = (loss_at(1e-2) - loss_at(-1e-2)) / 2e-2;
                assert!(
                    (f64::from(of[i]) - expected).abs() < 1e-3,
                    "{i}: {} {expected}",
                    of[i]
                );
                own.set(&Tensor::from_vec(at.clone(), own.dims(), &Cpu::Cpu).unwrap())
                    .unwrap();
            }
        }
    }

    #[test]
    fn the_start_stays_until_a_step_and_the_change_has_the_rank() {
        let (var, low_rank) = low_rank();
        let before = values(&var);
        low_rank.apply(None).unwrap();
        assert_eq!(values(&var), before);
        let mut sgd = Sgd::new(low_rank.trainable(), &SgdConfig::default()).unwrap();
        let first = loss(&var);
        for _ in 0..20 {
            let found = low_rank.gradients(&gradients(&var)).unwrap();
            sgd.step(&found, 0.02).unwrap();
            low_rank.apply(None).unwrap();
        }
        assert!(loss(&var) < 0.9 * first, "{} {first}", loss(&var));
        // Each 3 x 3 minor of a change of rank 2 is zero.
        let change: Vec<f64> = values(&var)
            .iter()
            .zip(&before)
            .map(|(v, b)| f64::from(v - b))
            .collect();
        let c = |row: usize, column: usize| change[row * 4 + column];
        let minor = c(0, 0) * (c(1, 1) * c(2, 2) - c(1, 2) * c(2, 1))
            - c(0, 1) * (c(1, 0) * c(2, 2) - c(1, 2) * c(2, 0))
            + c(0, 2) * (c(1, 0) * c(2, 1) - c(1, 1) * c(2, 0));
        assert!(
            minor.abs() < 1e-6 && change.iter().any(|v| v.abs() > 1e-2),
            "{minor}"
        );
    }

    #[test]
    fn a_state_brings_back_start_and_matrices() {
        let (var, mut low_rank) = low_rank();
        let state: HashMap<_, _> = low_rank.state().unwrap().into_iter().collect();
        let before = values(&var);
        let mut sgd = Sgd::new(low_rank.trainable(), &SgdConfig::default()).unwrap();
        let found = low_rank.gradients(&gradients(&var)).unwrap();
        sgd.step(&found, 0.1).unwrap();
        low_rank.apply(None).unwrap();
        assert_ne!(values(&var), before);
        low_rank.load_state(&state).unwrap();
        low_rank.apply(None).unwrap();
        assert_eq!(values(&var), before);
        let error = low_rank
            .load_state(&HashMap::new())
            .unwrap_err()
            .to_string();
        assert!(error.contains("conv_pw.weight.start"), "{error}");
    }

    #[test]
    fn what_has_no_such_rank_is_refused() {
        let vars = |var: Var| BTreeMap::from([("w".to_owned(), var)]);
        let refused = |var: Var, rank| LowRank::new(vars(var), rank, 1., 0).map(drop).unwrap_err();
        for (shape, rank) in [(&[4, 3][..], 4), (&[4, 3], 0), (&[12], 1)] {
            let error = refused(variable(&[0.; 12], shape), rank).to_string();
            assert!(error.contains("w is"), "{error}");
        }
    }
}
