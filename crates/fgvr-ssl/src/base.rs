//! What a base objective owes to the add-ons that stand on it.

use std::collections::{BTreeMap, HashMap};

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var, bail};
use fgvr_nn::{Features, Tape};

/// One query pass of the trunk.
pub struct Branch {
    /// Its features, which are leaves on candle's autograd.
    pub features: Features,
    /// The way back to the trunk's parameters.
    pub tape: Tape,
    /// Which of the two images given was its input.
    pub view: usize,
}

/// One forward pass of a base objective, up to its loss.
pub struct Pass {
    /// The query passes: one for MoCo, two for objectives that are symmetric in the views.
    pub branches: Vec<Branch>,
    /// Scalar, on candle's autograd down to the branches' leaves.
    pub loss: Tensor,
    /// Projected queries (N, D), normalised, without a way back.
    pub query: Tensor,
    /// Projected keys (N, D), normalised, without a way back.
    pub keys: Tensor,
    /// The key encoder's pooled features (N, C), not normalised.
    pub key_pooled: Tensor,
    /// Fraction of queries nearest to their own key.
    pub top1: f64,
    /// Mean similarity of a query and its key.
    pub positive: f64,
    /// Mean similarity of a query and a negative, where there are any.
    pub negative: Option<f64>,
}

/// A base objective: encoder, projection, and the loss L_C between two views.
///
/// A step is `real`, where wanted `generated`, the caller's optimiser step, then `after_step`. The first
/// two may be repeated with other images where gradients are accumulated over batches.
pub trait Base {
    /// L_C of two augmented views (N, 3, H, W) of the same images. Running statistics are updated.
    ///
    /// # Errors
    /// Shapes that do not fit.
    fn real(&mut self, views: [&Tensor; 2], images: &[u32]) -> Result<Pass>;

    /// The same loss on a pair of generated images (N, 3, H, W). Running statistics stay as they are,
    /// and keys of generated images meet only their like.
    ///
    /// # Errors
    /// Shapes that do not fit.
    fn generated(&mut self, pair: [&Tensor; 2], images: &[u32]) -> Result<Pass>;

    /// What follows the optimiser's step: momentum encoder and queues. Not called for a step that the
    /// caller drops.
    ///
    /// # Errors
    /// No `real` pass since the last call, and keys that are not finite.
    fn after_step(&mut self) -> Result<()>;

    /// What the optimiser steps: the encoder's variables under `encoder.`, the head's under `head.`.
    fn trainable(&self) -> BTreeMap<String, Var>;

    /// A copy of everything that a resumed run needs, by name: the online network included.
    ///
    /// # Errors
    /// None in practice.
    fn state(&self) -> Result<BTreeMap<String, Tensor>>;

    /// Takes over what [`Base::state`] gave.
    ///
    /// # Errors
    /// Names or shapes that are not exactly those of [`Base::state`]; nothing is changed then.
    fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()>;
}

impl Pass {
    /// h: the pooled features of all branches, one under the other (B*N, C), as constants.
    ///
    /// # Errors
    /// None in practice.
    pub fn pooled(&self) -> Result<Tensor> {
        stack(
            self.branches
                .iter()
                .map(|b| b.features.pooled.detach())
                .collect(),
        )
    }

    /// The images that the branches saw, in the order of [`Pass::pooled`]: (B*N, 3, H, W).
    ///
    /// # Errors
    /// Views of different shapes.
    pub fn seen(&self, views: [&Tensor; 2]) -> Result<Tensor> {
        stack(
            self.branches
                .iter()
                .map(|b| views[b.view].clone())
                .collect(),
        )
    }

    /// The gradient at [`Pass::pooled`], (B*N, C).
    ///
    /// # Errors
    /// A branch whose pooled features have no gradient: the loss does not depend on them.
    pub fn pooled_gradient(&self, leaves: &GradStore) -> Result<Tensor> {
        let gradients = self
            .branches
            .iter()
            .map(|b| match leaves.get(&b.features.pooled) {
                Some(gradient) => Ok(gradient.clone()),
                None => bail!(
                    "pooled gradient: the loss does not depend on the features of view {}",
                    b.view
                ),
            });
        stack(gradients.collect::<Result<_>>()?)
    }

    /// Adds `gradient` (B*N, C) to that at [`Pass::pooled`].
    ///
    /// # Errors
    /// Another shape.
    pub fn add_pooled_gradient(&self, leaves: &mut GradStore, gradient: &Tensor) -> Result<()> {
        let (rows, _) = gradient.dims2()?;
        let mut expected = 0;
        for branch in &self.branches {
            expected += branch.features.pooled.dim(0)?;
        }
        if rows != expected {
            bail!("add pooled gradient: {rows} rows, expected {expected}");
        }
        let mut start = 0;
        for branch in &self.branches {
            let leaf = &branch.features.pooled;
            let n = leaf.dim(0)?;
            let part = gradient.narrow(0, start, n)?;
            start += n;
            let sum = match leaves.remove(leaf) {
                Some(before) => (before + part)?,
                None => part,
            };
            leaves.insert(leaf, sum);
        }
        Ok(())
    }

    /// Runs each trunk's tape once, and adds the gradients of all `trainable` variables, of trunk and
    /// head, to `gradients`. `leaves` is what candle's `backward` of the loss gave.
    ///
    /// # Errors
    /// A branch that received no gradient.
    pub fn backward(
        self,
        mut leaves: GradStore,
        trainable: &BTreeMap<String, Var>,
        gradients: &mut GradStore,
    ) -> Result<()> {
        for branch in self.branches {
            branch.tape.backward(&leaves, gradients)?;
        }
        // Only the variables: candle's store also holds gradients of constants such as the queue.
        for var in trainable.values() {
            if let Some(gradient) = leaves.remove(var) {
                let sum = match gradients.remove(var) {
                    Some(before) => (before + gradient)?,
                    None => gradient,
                };
                gradients.insert(var, sum);
            }
        }
        Ok(())
    }
}

/// One tensor as it is, several one under the other.
fn stack(parts: Vec<Tensor>) -> Result<Tensor> {
    match parts.as_slice() {
        [one] => Ok(one.clone()),
        many => Tensor::cat(many, 0),
    }
}
