//! What a base objective owes to the add-ons that stand on it.

use std::collections::{BTreeMap, HashMap};

use candle_core::{Result, Tensor, Var, bail};
use fgvr_nn::{Device, Encoder, Features, Parameters};

use crate::{AnyEncoder, BaseKind, Found, KeyQueue, Pass, Rows, Values, Views};

/// An encoder and the variables it was built over.
pub struct Network<E> {
    /// The trunk.
    pub encoder: E,
    /// Its variables, by the names it gave them.
    pub parameters: Parameters,
}

impl<E: Encoder + Send + 'static> Network<E> {
    /// The same network with its encoder boxed, so that encoders of all architectures have one type.
    #[must_use]
    pub fn any(self) -> Network<AnyEncoder> {
        Network {
            encoder: Box::new(self.encoder),
            parameters: self.parameters,
        }
    }
}

/// What [`Base::between`] found.
pub struct Between {
    /// The loss, and how well each query finds its key.
    pub found: Found,
    /// What the queries were compared with (N, D).
    pub keys: Rows,
}

/// A base objective: encoder, projection, and the loss L_C between two views.
///
/// A step is `real`, where wanted `generated`, the caller's optimiser step, then `after_step`. The first
/// two may be repeated with other images where gradients are accumulated over batches.
pub trait Base: Send {
    /// Which base this is.
    fn kind(&self) -> BaseKind;

    /// Where its heads and losses run, if not on the host: where its networks live, for a base whose losses there are
    /// kernels for. The trunk alone runs there otherwise, and its features come to the host.
    fn device(&self) -> Option<Device> {
        None
    }

    /// L_C of augmented views of the same images. Running statistics are updated.
    ///
    /// # Errors
    /// Shapes that do not fit, and local crops for a base that is not trained on them.
    fn real(&mut self, views: Views<'_>, images: &[u32]) -> Result<Pass>;

    /// The same loss on a pair of generated images. Running statistics stay as they are, and keys of generated images
    /// meet only their like.
    ///
    /// # Errors
    /// Shapes that do not fit, and a base that [`supports`](crate::supports) no generated pairs.
    fn generated(&mut self, pair: [&Values; 2], images: &[u32]) -> Result<Pass>;

    /// The loss of a pair of pooled features (N, C), which are where [`Base::device`] says, by the base's own heads, with
    /// its way back to both; targets are constants. Running statistics stay as they are. `query` is the one that is to
    /// become like `key`; a base that is symmetric in the views adds the two the other way round.
    ///
    /// # Errors
    /// Shapes that do not fit, and a base that [`supports`](crate::supports) no generated pairs.
    fn between(&self, query: &Values, key: &Values, images: &[u32]) -> Result<Between>;

    /// Keeps the keys of [`Base::between`] for the pairs of later steps, where the base keeps any, once
    /// this step has been taken.
    ///
    /// # Errors
    /// Shapes that do not fit.
    fn keep_pair_keys(&mut self, _keys: &Rows, _images: &[u32]) -> Result<()> {
        Ok(())
    }

    /// The loss of a real pass's queries against other images in place of its views, each made of the view
    /// it stands for: masked ones, for instance. They are seen by the network that makes the targets
    /// alone, leave no key and no running statistics. Its way back leads to the features of the pass.
    ///
    /// # Errors
    /// Shapes that do not fit.
    fn against(&self, pass: &Pass, views: [&Tensor; 2], images: &[u32]) -> Result<Found>;

    /// The keys of real images that its queries meet as negatives, of a base that keeps keys of earlier batches.
    fn negatives(&self) -> Option<&KeyQueue> {
        None
    }

    /// As [`Base::against`], of a base with [`Base::negatives`], with `held` in their place; and the keys of the other
    /// images. They enter no queue of the base.
    ///
    /// # Errors
    /// Shapes that do not fit, and a base that keeps no keys.
    fn against_held(
        &self,
        _pass: &Pass,
        _views: [&Tensor; 2],
        _images: &[u32],
        _held: &KeyQueue,
    ) -> Result<Between> {
        bail!("{} keeps no keys of earlier batches", self.kind())
    }

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
