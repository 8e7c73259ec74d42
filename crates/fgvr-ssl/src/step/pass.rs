//! A pass of a base objective, and what flows back from its losses to the features.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var, bail};
use fgvr_nn::cuda::ops::elementwise;
use fgvr_nn::{
    Activation, Device, Encoder, FeatureMaps, Features, NormMode, ParameterGradients, Tape,
};

use crate::losses::found::{Found, Numbers};
use crate::step::values::device_of;
use crate::{Rows, Values};

/// One query pass of the trunk.
pub struct Branch {
    made: Made,
    /// The way back to the trunk's parameters.
    tape: Tape,
    /// The images that it saw.
    pub images: Values,
    /// Which of the images given these were, as [`Views::get`](crate::Views::get) counts them.
    pub view: usize,
}

/// What the trunk made.
enum Made {
    /// Leaves on candle's autograd; the trunk may run on a device.
    Host(Features),
    Device {
        maps: Box<FeatureMaps>,
        /// Copies on the host, as leaves on candle's autograd, for who asks for them.
        leaves: OnceCell<Features>,
    },
}

/// One forward pass of a base objective, up to its loss.
pub struct Pass {
    /// The query passes: one for MoCo v2, two for objectives that are symmetric in the views, and after
    /// them one for each local crop.
    pub branches: Vec<Branch>,
    /// The loss, with its way back to the branches' features, and how well each query finds its key.
    pub found: Found,
    /// Projections of the first view (N, D), before a predictor where there is one, normalised: where a
    /// collapse is seen.
    pub query: Rows,
    /// What they are compared with, of the second view (N, D), normalised.
    pub keys: Rows,
    /// The key encoder's pooled features of the second view (N, C), not normalised.
    pub key_pooled: Rows,
    /// The key encoder's last map of the second view (N, C, h, w), without a way back, of a base that sends
    /// one view alone through the query encoder.
    pub key_map: Option<Values>,
}

/// Which of a trunk's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureOutput {
    /// The pooled features.
    Pooled,
    /// The last map.
    Map,
}

/// Gradients of losses at the features of a pass, and at the variables of what stands between the two.
#[derive(Default)]
pub struct FeatureGradients {
    /// Those of candle's leaves: features on the host, variables.
    pub(crate) leaves: GradStore,
    /// Those at features on a device, by view.
    arrived: Vec<(usize, FeatureOutput, Activation)>,
    /// Those of variables, from tapes.
    pub(crate) parameters: ParameterGradients,
}

impl FeatureGradients {
    pub(crate) fn arrive(&mut self, view: usize, at: FeatureOutput, gradient: Activation) {
        self.arrived.push((view, at, gradient));
    }

    /// Multiplies all of them by `factor`; `trainable` names the variables of tapes.
    ///
    /// # Errors
    /// What a device says.
    pub(crate) fn scale(&mut self, trainable: &BTreeMap<String, Var>, factor: f64) -> Result<()> {
        let ids: Vec<_> = self.leaves.get_ids().copied().collect();
        for id in ids {
            if let Some(gradient) = self.leaves.get_id(id) {
                let scaled = (gradient * factor)?;
                self.leaves.insert_id(id, scaled);
            }
        }
        for (_, _, gradient) in &mut self.arrived {
            let (device, shape) = (device_of(gradient)?, gradient.shape());
            let values = gradient.array()?;
            let scaled = device.run(|m| elementwise::scale(m, values, factor as f32))?;
            *gradient = Activation::new(device, shape, scaled)?;
        }
        let variables = trainable.values().map(Var::as_tensor);
        self.parameters.scale(variables, factor)
    }

    /// Adds a gradient at an output of `branch`.
    ///
    /// # Errors
    /// Another shape; what a device says.
    pub fn add(&mut self, branch: &Branch, at: FeatureOutput, gradient: &Values) -> Result<()> {
        let features = match &branch.made {
            Made::Host(features) => features,
            Made::Device { maps, .. } => {
                let device = device_of(&maps.pooled)?;
                self.arrive(branch.view, at, gradient.to_device(device)?);
                return Ok(());
            }
        };
        let leaf = match at {
            FeatureOutput::Pooled => &features.pooled,
            FeatureOutput::Map => &features.map,
        };
        let gradient = gradient.to_host()?;
        if gradient.dims() != leaf.dims() {
            bail!(
                "add gradient: {:?}, expected {:?}",
                gradient.dims(),
                leaf.dims()
            );
        }
        let sum = match self.leaves.remove(leaf) {
            Some(before) => (before + gradient)?,
            None => gradient,
        };
        self.leaves.insert(leaf, sum);
        Ok(())
    }
}

impl From<GradStore> for FeatureGradients {
    fn from(leaves: GradStore) -> Self {
        Self {
            leaves,
            ..Self::default()
        }
    }
}

impl Branch {
    /// A query pass of `encoder`, which runs where the images are; from images on the host on a device too, if it lives
    /// there.
    ///
    /// # Errors
    /// Shapes that do not fit the network.
    pub fn forward(
        encoder: &dyn Encoder,
        images: &Values,
        norm: NormMode,
        view: usize,
    ) -> Result<Self> {
        let (made, tape) = match images {
            Values::Host(x) => {
                let (features, tape) = encoder.forward_train(x, norm)?;
                (Made::Host(features), tape)
            }
            Values::Device(x) => {
                let mut tape = Tape::recording().on(x.device());
                let seen = tape.constant(x)?;
                let maps = Box::new(encoder.apply(&mut tape, &seen, norm)?);
                let leaves = OnceCell::new();
                (Made::Device { maps, leaves }, tape)
            }
        };
        Ok(Self {
            made,
            tape,
            images: images.clone(),
            view,
        })
    }

    /// Its features, on the host, as leaves on candle's autograd: for losses that candle differentiates. From a device
    /// they are copied when this is first asked for.
    ///
    /// # Errors
    /// What the device says.
    pub fn leaves(&self) -> Result<&Features> {
        let (maps, leaves) = match &self.made {
            Made::Host(features) => return Ok(features),
            Made::Device { maps, leaves } => (maps, leaves),
        };
        if let Some(made) = leaves.get() {
            return Ok(made);
        }
        let leaf = |tensor: Tensor| Var::from_tensor(&tensor).map(Var::into_inner);
        let made = Features {
            map: leaf(maps.map.to_tensor()?)?,
            pooled: leaf(maps.pooled.to_tensor()?.flatten_from(1)?)?, // (N, C, 1, 1) -> (N, C)
        };
        Ok(leaves.get_or_init(|| made))
    }

    /// Its pooled features (N, C), with their way back.
    #[must_use]
    pub fn pooled(&self) -> Values {
        match &self.made {
            Made::Host(features) => Values::Host(features.pooled.clone()),
            Made::Device { maps, .. } => Values::Device(maps.pooled.clone()),
        }
    }

    /// Its last map (N, C, h, w), as a constant.
    #[must_use]
    pub fn map(&self) -> Values {
        match &self.made {
            Made::Host(features) => Values::Host(features.map.detach()),
            Made::Device { maps, .. } => Values::Device(maps.map.clone()),
        }
    }

    fn backward(
        self,
        gradients: &mut FeatureGradients,
        parameters: &mut ParameterGradients,
    ) -> Result<()> {
        let (maps, leaves) = match self.made {
            Made::Host(_) => {
                self.tape.backward(&gradients.leaves, parameters)?;
                return Ok(());
            }
            Made::Device { maps, leaves } => (maps, leaves.into_inner()),
        };
        let own = |(view, _, _): &mut (usize, FeatureOutput, Activation)| *view == self.view;
        let mut arrived: Vec<(FeatureOutput, Activation)> = (gradients.arrived.extract_if(.., own))
            .map(|(_, at, gradient)| (at, gradient))
            .collect();
        if let Some((features, device)) = leaves.as_ref().zip(maps.pooled.device()) {
            for (at, leaf) in [
                (FeatureOutput::Pooled, &features.pooled),
                (FeatureOutput::Map, &features.map),
            ] {
                if let Some(gradient) = gradients.leaves.remove(leaf) {
                    arrived.push((at, Values::Host(gradient).to_device(device)?));
                }
            }
        }
        if arrived.is_empty() {
            bail!(
                "backward: the loss does not depend on the features of view {}",
                self.view
            );
        }
        let at_maps = arrived.iter().map(|(at, gradient)| match at {
            FeatureOutput::Pooled => (&maps.pooled, gradient),
            FeatureOutput::Map => (&maps.map, gradient),
        });
        self.tape
            .backward_from(&at_maps.collect::<Vec<_>>(), parameters)?;
        Ok(())
    }
}

impl Pass {
    /// Where features and losses are, if not on the host.
    #[must_use]
    pub fn device(&self) -> Option<&Device> {
        match &self.branches.first()?.made {
            Made::Host(_) => None,
            Made::Device { maps, .. } => maps.pooled.device(),
        }
    }

    /// The loss and how well queries find their keys, once they are there.
    ///
    /// # Errors
    /// What a device says.
    pub fn numbers(&self) -> Result<Numbers> {
        self.found.numbers()
    }

    /// The branches that saw a whole view. Local crops, of another size, take no part in add-ons.
    pub fn global(&self) -> impl Iterator<Item = &Branch> {
        self.branches.iter().filter(|branch| branch.view < 2)
    }

    /// h: the pooled features of each global branch, as constants.
    ///
    /// # Errors
    /// What a device says.
    pub fn pooled(&self) -> Result<Vec<Rows>> {
        self.global().map(|branch| branch.pooled().rows()).collect()
    }

    /// The gradient at [`Pass::pooled`].
    ///
    /// # Errors
    /// A branch whose pooled features have no gradient: the loss does not depend on them.
    pub fn pooled_gradient(&self, gradients: &FeatureGradients) -> Result<Vec<Rows>> {
        let of = |branch: &Branch| {
            let found = match &branch.made {
                Made::Host(features) => gradients
                    .leaves
                    .get(&features.pooled)
                    .cloned()
                    .map(Values::Host),
                Made::Device { .. } => {
                    let arrived = gradients.arrived.iter();
                    let own = arrived.filter(|(view, at, _)| {
                        (*view, *at) == (branch.view, FeatureOutput::Pooled)
                    });
                    sum(own.map(|(_, _, gradient)| gradient))?.map(Values::Device)
                }
            };
            match found {
                Some(gradient) => gradient.rows(),
                None => bail!(
                    "pooled gradient: the loss does not depend on the features of view {}",
                    branch.view
                ),
            }
        };
        self.global().map(of).collect()
    }

    /// Runs each trunk's tape once, and adds the gradients of all `trainable` variables, of trunk and
    /// head, to `parameters`.
    ///
    /// # Errors
    /// A branch that received no gradient.
    pub fn backward(
        self,
        mut gradients: FeatureGradients,
        trainable: &BTreeMap<String, Var>,
        parameters: &mut ParameterGradients,
    ) -> Result<()> {
        for branch in self.branches {
            branch.backward(&mut gradients, parameters)?;
        }
        // Only the variables: candle's store also holds gradients of constants such as the queue.
        for var in trainable.values() {
            if let Some(gradient) = gradients.leaves.remove(var) {
                let sum = match parameters.remove(var) {
                    Some(before) => (before + gradient)?,
                    None => gradient,
                };
                parameters.insert(var, sum);
            }
        }
        parameters.append(gradients.parameters)
    }
}

/// The sum of maps on a device.
fn sum<'a>(mut maps: impl Iterator<Item = &'a Activation>) -> Result<Option<Activation>> {
    let Some(first) = maps.next() else {
        return Ok(None);
    };
    let add = |sum: Activation, map: &Activation| {
        let (device, shape) = (device_of(map)?, map.shape());
        let (one, other) = (sum.array()?, map.array()?);
        let sum = device.run(|m| {
            let sum = elementwise::scale(m, one, 1.)?;
            elementwise::add_to(m, &sum, other)?;
            Ok(sum)
        })?;
        Activation::new(device, shape, sum)
    };
    maps.try_fold(first.clone(), add).map(Some)
}
