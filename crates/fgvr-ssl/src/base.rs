//! What a base objective owes to the add-ons that stand on it.

use std::collections::{BTreeMap, HashMap};

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var, bail};
use fgvr_nn::{Encoder, Features, ParameterGradients, Parameters, Tape};

use crate::on_device::BaseOnDevice;
use crate::{BaseKind, InfoNce, Views};

/// An encoder and the variables it was built over.
pub struct Network<E> {
    /// The trunk.
    pub encoder: E,
    /// Its variables, by the names it gave them.
    pub parameters: Parameters,
}

/// One query pass of the trunk.
pub struct Branch {
    /// Its features, which are leaves on candle's autograd.
    pub features: Features,
    /// The way back to the trunk's parameters.
    pub tape: Tape,
    /// Which of the images given was its input, as [`Views::get`] counts them.
    pub view: usize,
}

/// One forward pass of a base objective, up to its loss.
pub struct Pass {
    /// The query passes: one for MoCo v2, two for objectives that are symmetric in the views, and after
    /// them one for each local crop.
    pub branches: Vec<Branch>,
    /// Scalar, on candle's autograd down to the branches' leaves.
    pub loss: Tensor,
    /// What the loss compares, one (N, D) a branch, on candle's autograd down to its leaves: for
    /// [`Base::against`].
    pub queries: Vec<Tensor>,
    /// Projections of the first view (N, D), before a predictor where there is one, normalised, without
    /// a way back: where a collapse is seen.
    pub query: Tensor,
    /// What they are compared with, of the second view (N, D), normalised, without a way back.
    pub keys: Tensor,
    /// The key encoder's pooled features of the second view (N, C), not normalised.
    pub key_pooled: Tensor,
    /// The key encoder's last map of the second view (N, C, h, w), without a way back, of a base that sends
    /// one view alone through the query encoder.
    pub key_map: Option<Tensor>,
    /// Fraction of queries nearest to their own key.
    pub top1: f64,
    /// Mean similarity of a query and its key.
    pub positive: f64,
    /// Mean similarity of a query and a negative, where there are any.
    pub negative: Option<f64>,
}

/// What [`Base::between`] found.
pub struct Between {
    /// The loss, and how well each query finds its key.
    pub found: InfoNce,
    /// What the queries were compared with (N, D), without a way back.
    pub keys: Tensor,
}

/// A base objective: encoder, projection, and the loss L_C between two views.
///
/// A step is `real`, where wanted `generated`, the caller's optimiser step, then `after_step`. The first
/// two may be repeated with other images where gradients are accumulated over batches.
pub trait Base: Send {
    /// Which base this is.
    fn kind(&self) -> BaseKind;

    /// This base where its step stays on a device: one that has such a form, whose networks live there.
    fn on_device(&mut self) -> Option<&mut dyn BaseOnDevice> {
        None
    }

    /// L_C of augmented views of the same images. Running statistics are updated.
    ///
    /// # Errors
    /// Shapes that do not fit, and local crops for a base that is not trained on them.
    fn real(&mut self, views: Views<'_>, images: &[u32]) -> Result<Pass>;

    /// The same loss on a pair of generated images (N, 3, H, W). Running statistics stay as they are,
    /// and keys of generated images meet only their like.
    ///
    /// # Errors
    /// Shapes that do not fit, and a base that [`supports`](crate::supports) no generated pairs.
    fn generated(&mut self, pair: [&Tensor; 2], images: &[u32]) -> Result<Pass>;

    /// The loss of a pair of pooled features (N, C) by the base's own heads, on the graph of both; targets
    /// are constants. Running statistics stay as they are. `query` is the one that is to become like
    /// `key`; a base that is symmetric in the views adds the two the other way round.
    ///
    /// # Errors
    /// Shapes that do not fit, and a base that [`supports`](crate::supports) no generated pairs.
    fn between(&self, query: &Tensor, key: &Tensor, images: &[u32]) -> Result<Between>;

    /// Keeps the keys of [`Base::between`] for the pairs of later steps, where the base keeps any, once
    /// this step has been taken.
    ///
    /// # Errors
    /// Shapes that do not fit.
    fn keep_pair_keys(&mut self, _keys: &Tensor, _images: &[u32]) -> Result<()> {
        Ok(())
    }

    /// The loss of a real pass's queries against other images in place of its views, each made of the view
    /// it stands for: masked ones, for instance. They are seen by the network that makes the targets
    /// alone, leave no key and no running statistics. A scalar on the same graph as the pass's loss.
    ///
    /// # Errors
    /// Shapes that do not fit.
    fn against(&self, pass: &Pass, views: [&Tensor; 2], images: &[u32]) -> Result<Tensor>;

    /// What follows the optimiser's step: momentum encoder and queues. Not called for a step that the
    /// caller drops.
    ///
    /// # Errors
    /// No `real` pass since the last call, and keys that are not finite.
    fn after_step(&mut self) -> Result<()>;

    /// Forgets the passes since the last [`Base::after_step`]: for a step that is not taken.
    fn forget_step(&mut self);

    /// Features of `images` (N, 3, H, W) and ∂L_C/∂h at their pooled features (N, C), with running
    /// statistics and without changing anything: for looking at what the loss finds important. The
    /// positives are `others`, other views of the same images.
    ///
    /// # Errors
    /// Shapes that do not fit.
    fn gradient_at_pooled(
        &self,
        images: &Tensor,
        others: &Tensor,
        indices: &[u32],
    ) -> Result<(Features, Tensor)>;

    /// The online encoder, the one to keep.
    fn encoder(&self) -> &dyn Encoder;

    /// The encoder that makes the targets, where it is another one.
    fn target_encoder(&self) -> Option<&dyn Encoder>;

    /// The online encoder's variables, by the names it gave them.
    fn encoder_parameters(&self) -> &Parameters;

    /// What the optimiser steps: the encoder's variables under `encoder.`, the head's under `head.`.
    fn trainable(&self) -> BTreeMap<String, Var>;

    /// Those of [`Base::trainable`] that get no gradient at this step, on purpose. An optimiser of a
    /// base that withholds any must skip variables without gradient.
    fn withheld(&self) -> Vec<String> {
        Vec::new()
    }

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
    /// The branches that saw a whole view. Local crops, of another size, take no part in add-ons.
    pub(crate) fn global(&self) -> impl Iterator<Item = &Branch> {
        self.branches.iter().filter(|branch| branch.view < 2)
    }

    /// h: the pooled features of the global branches, one under the other (B*N, C), as constants.
    ///
    /// # Errors
    /// None in practice.
    pub fn pooled(&self) -> Result<Tensor> {
        stack(self.global().map(|b| b.features.pooled.detach()).collect())
    }

    /// The images that the global branches saw, in the order of [`Pass::pooled`]: (B*N, 3, H, W).
    ///
    /// # Errors
    /// Views of different shapes.
    pub fn seen(&self, views: Views<'_>) -> Result<Tensor> {
        let seen = self.global().map(|b| views.get(b.view).cloned());
        stack(seen.collect::<Result<_>>()?)
    }

    /// The gradient at [`Pass::pooled`], (B*N, C).
    ///
    /// # Errors
    /// A branch whose pooled features have no gradient: the loss does not depend on them.
    pub fn pooled_gradient(&self, leaves: &GradStore) -> Result<Tensor> {
        let gradients = self.global().map(|b| match leaves.get(&b.features.pooled) {
            Some(gradient) => Ok(gradient.clone()),
            None => bail!(
                "pooled gradient: the loss does not depend on the features of view {}",
                b.view
            ),
        });
        stack(gradients.collect::<Result<_>>()?)
    }

    /// The last maps of the global branches, one under the other (B*N, C, h, w), as constants.
    ///
    /// # Errors
    /// None in practice.
    pub fn map(&self) -> Result<Tensor> {
        stack(self.global().map(|b| b.features.map.detach()).collect())
    }

    /// Adds `gradient` (B*N, C) to that at [`Pass::pooled`].
    ///
    /// # Errors
    /// Another shape.
    pub fn add_pooled_gradient(&self, leaves: &mut GradStore, gradient: &Tensor) -> Result<()> {
        self.add_gradient(leaves, gradient, |features| &features.pooled)
    }

    /// Adds `gradient` (B*N, C, h, w) to that at [`Pass::map`].
    ///
    /// # Errors
    /// Another shape.
    pub fn add_map_gradient(&self, leaves: &mut GradStore, gradient: &Tensor) -> Result<()> {
        self.add_gradient(leaves, gradient, |features| &features.map)
    }

    fn add_gradient(
        &self,
        leaves: &mut GradStore,
        gradient: &Tensor,
        of: impl Fn(&Features) -> &Tensor,
    ) -> Result<()> {
        let rows = gradient.dim(0)?;
        let mut expected = 0;
        for branch in self.global() {
            let leaf = of(&branch.features);
            expected += leaf.dim(0)?;
            if gradient.dims()[1..] != leaf.dims()[1..] {
                bail!(
                    "add gradient: {:?}, expected rows of {:?}",
                    gradient.dims(),
                    &leaf.dims()[1..]
                );
            }
        }
        if rows != expected {
            bail!("add gradient: {rows} rows, expected {expected}");
        }
        let mut start = 0;
        for branch in self.global() {
            let leaf = of(&branch.features);
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
        gradients: &mut ParameterGradients,
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

/// The gradient of `loss` at `pooled`, which it is given as a leaf.
pub(crate) fn gradient_at(
    pooled: &Tensor,
    loss: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let leaf = Var::from_tensor(&pooled.detach())?;
    match loss(&leaf)?.backward()?.get(&leaf) {
        Some(gradient) => Ok(gradient.clone()),
        None => bail!("gradient at pooled: the loss does not depend on the features"),
    }
}

/// One tensor as it is, several one under the other.
fn stack(parts: Vec<Tensor>) -> Result<Tensor> {
    match parts.as_slice() {
        [one] => Ok(one.clone()),
        many => Tensor::cat(many, 0),
    }
}
