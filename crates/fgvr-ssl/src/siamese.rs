//! What the bases share that are symmetric in the two views: trunk, projector and predictor for each
//! view, compared with the other view's target.

mod objective;
mod on_device;

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Result, Tensor, Var, bail};
use fgvr_nn::{Encoder, Features, NormMode, Parameters};
use rand::Rng;

pub use self::objective::{Average, Objective};
use crate::base::gradient_at;
use crate::on_device::BaseOnDevice;
use crate::shuffle::keyed_rng;
use crate::state::{check, counters, of_stores, take, trainable, under, words};
use crate::{
    Base, BaseKind, Between, Branch, InfoNce, Mlp, Negatives, Network, Pass, RunLength,
    RunningStatistics, Views, info_nce, l2_normalise, momentum_update,
};

/// Sets these draws apart from others of the same (seed, step).
const DROPOUT: u64 = 0x6472_6f70_6f75_7400;

/// A network that follows the online one, and its projector.
struct Target<E> {
    network: Network<E>,
    projector: Option<Mlp>,
    projector_parameters: Parameters,
}

/// A base that is symmetric in the two views; [`crate::SimSiam`], [`crate::Byol`] and [`crate::MoCoV3`].
///
/// From view i the online network makes h_i = f(x_i), z_i = p(h_i) and the prediction q_i = g(z_i); the
/// target is k_i = p_m(f_m(x_i)) of the averaged network, or z_i itself where there is none. Then
/// L_C = compare(q_1, k_2) + compare(q_2, k_1), and no gradient passes through k.
///
/// # Differs
/// Each view is a batch of its own for batch norm, in both networks. Running statistics of the target
/// network are its own or copied ([`RunningStatistics`]), as in [`crate::MoCoV2`].
pub struct Siamese<E, O> {
    objective: O,
    online: Network<E>,
    projector: Option<Mlp>,
    projector_parameters: Parameters,
    predictor: Mlp,
    predictor_parameters: Parameters,
    target: Option<Target<E>>,
    run: RunLength,
    seed: u64,
    step: u64,
    /// Whether a real pass is waiting for [`Base::after_step`].
    pending: bool,
}

/// Whether images are real or generated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Images {
    Real,
    Generated,
    /// Running statistics everywhere, nothing changes.
    Inspected,
}

impl<E: Encoder, O: Objective> Siamese<E, O> {
    /// `objective` over encoders that `network` makes, each over variables of its own: one where the
    /// online network is its own target, two otherwise, the second of which takes over the first one's
    /// values. `seed` decides the heads' initial values.
    ///
    /// # Errors
    /// What `network` returns, and encoders whose variables differ in name or shape.
    pub(crate) fn build(
        objective: O,
        network: &mut dyn FnMut() -> Result<Network<E>>,
        seed: u64,
        run: RunLength,
    ) -> Result<Self> {
        run.validate()?;
        let online = network()?;
        let width = online.encoder.width();
        let shape = objective.projector();
        let projector = |parameters: &Parameters| match shape.layers {
            0 => Ok(None),
            _ => {
                let vb = parameters.builder(DType::F32, &Device::Cpu);
                Mlp::new(width, &shape, vb.pp("projector")).map(Some)
            }
        };
        let (projector_parameters, predictor_parameters) =
            (Parameters::new(seed), Parameters::new(seed));
        let mut predictor = objective.predictor();
        let compared = match shape.layers {
            0 => {
                predictor.out = width;
                width
            }
            _ => shape.out,
        };
        let predictor = Mlp::new(
            compared,
            &predictor,
            (predictor_parameters.builder(DType::F32, &Device::Cpu)).pp("predictor"),
        )?;
        let online_projector = projector(&projector_parameters)?;
        let mut target = None;
        if objective.average().is_some() {
            let (network, own) = (network()?, Parameters::new(seed));
            let projector = projector(&own)?;
            // Also the check that names and shapes agree, in both directions.
            let copied = RunningStatistics::Copied;
            momentum_update(&online.parameters, &network.parameters, 0., copied)?;
            momentum_update(&projector_parameters, &own, 0., copied)?;
            target = Some(Target {
                network,
                projector,
                projector_parameters: own,
            });
        }
        Ok(Self {
            objective,
            online,
            projector: online_projector,
            projector_parameters,
            predictor,
            predictor_parameters,
            target,
            run,
            seed,
            step: 0,
            pending: false,
        })
    }

    /// The online network.
    #[must_use]
    pub fn online(&self) -> &Network<E> {
        &self.online
    }

    /// The network that makes the targets, where it is another one.
    #[must_use]
    pub fn target(&self) -> Option<&Network<E>> {
        self.target.as_ref().map(|target| &target.network)
    }

    /// m of the average after the step to come, all its updates in one; `None` without a target network.
    #[must_use]
    pub fn momentum(&self) -> Option<f64> {
        let average = self.objective.average()?;
        let Average {
            momentum, schedule, ..
        } = average;
        let m = schedule.at(momentum, self.step, self.run.steps);
        Some((1..average.updates).fold(m, |product, _| product * m))
    }

    /// What the predictor's last layer gets of each value of `view`: 0, or 1 over the share that is kept;
    /// drawn by (seed, step, view, image). `None` without dropout.
    fn kept(&self, view: usize, indices: &[u32], images: Images) -> Result<Option<Tensor>> {
        let rate = self.objective.predictor_dropout();
        let view = match images {
            Images::Real => view as u64,
            Images::Generated => 2 + view as u64,
            Images::Inspected => return Ok(None),
        };
        if rate == 0. {
            return Ok(None);
        }
        let hidden = self.objective.predictor().hidden;
        let (scale, bar) = ((1. / (1. - rate)) as f32, rate * 2f64.powi(32));
        let mut kept = Vec::with_capacity(indices.len() * hidden);
        for image in indices {
            let mut rng = keyed_rng([self.seed, self.step, DROPOUT + view, u64::from(*image)]);
            kept.extend((0..hidden).map(|_| match f64::from(rng.next_u32()) < bar {
                true => 0.,
                false => scale,
            }));
        }
        Tensor::from_vec(kept, (indices.len(), hidden), &Device::Cpu).map(Some)
    }

    fn norm(&self, images: Images) -> NormMode {
        match images {
            Images::Real => NormMode::Train,
            Images::Generated => NormMode::NoUpdate,
            Images::Inspected => NormMode::Eval,
        }
    }

    /// As [`Siamese::norm`], of a target network.
    fn target_norm(&self, images: Images) -> NormMode {
        let own = (self.objective.average())
            .is_some_and(|average| average.statistics == RunningStatistics::Own);
        match self.norm(images) {
            NormMode::Train if !own => NormMode::NoUpdate,
            norm => norm,
        }
    }

    /// Targets of images by the network that makes them, without a way back and without a trace.
    fn other_targets(&self, view: &Tensor, images: Images) -> Result<Tensor> {
        if let Some(target) = &self.target {
            return Ok(self.targets(target, view, images)?.1);
        }
        let norm = self.norm(images);
        let pooled = self.online.encoder.features(view, norm)?.pooled.detach();
        Ok(project(self.projector.as_ref(), &pooled, norm)?.detach())
    }

    /// Features and targets of one view by the averaged network, without a way back.
    fn targets(
        &self,
        target: &Target<E>,
        view: &Tensor,
        images: Images,
    ) -> Result<(Tensor, Tensor)> {
        let norm = self.target_norm(images);
        let pooled = target.network.encoder.features(view, norm)?.pooled.detach();
        let targets = project(target.projector.as_ref(), &pooled, norm)?.detach();
        Ok((pooled, targets))
    }

    fn pass(&self, views: [&Tensor; 2], indices: &[u32], images: Images) -> Result<Pass> {
        self.fetch_heads()?;
        let norm = self.norm(images);
        let mut branches = Vec::with_capacity(2);
        for (view, x) in views.into_iter().enumerate() {
            let (features, tape) = self.online.encoder.forward_train(x, norm)?;
            branches.push(Branch {
                features,
                tape,
                view,
            });
        }
        let projected = |branch: &Branch| {
            let pooled = &branch.features.pooled;
            project(self.projector.as_ref(), pooled, norm)
        };
        let z = [projected(&branches[0])?, projected(&branches[1])?];
        let predicted = |view: usize| {
            let kept = self.kept(view, indices, images)?;
            (self.predictor).forward_dropped(&z[view], norm, kept.as_ref())
        };
        let q = [predicted(0)?, predicted(1)?];
        let (key_pooled, k) = match &self.target {
            Some(target) => {
                let (_, first) = self.targets(target, views[0], images)?;
                let (pooled, second) = self.targets(target, views[1], images)?;
                (pooled, [first, second])
            }
            None => {
                let stop = |z: &Tensor| match self.objective.stops_gradient() {
                    true => z.detach(),
                    false => z.clone(),
                };
                let pooled = branches[1].features.pooled.detach();
                (pooled, [stop(&z[0]), stop(&z[1])])
            }
        };
        let first = self.objective.compare(&q[0], &k[1], indices)?;
        let second = self.objective.compare(&q[1], &k[0], indices)?;
        let found = first.plus(second)?;
        if images == Images::Real {
            self.return_heads()?;
        }
        Ok(Pass {
            branches,
            loss: found.loss,
            queries: q.into(),
            query: l2_normalise(&z[0].detach())?,
            keys: l2_normalise(&k[1].detach())?,
            key_pooled,
            key_map: None,
            top1: found.top1,
            positive: found.positive,
            negative: found.negative,
        })
    }

    /// The stores of variables and their prefixes; those that are trained first.
    fn stores(&self) -> Vec<(&'static str, &Parameters)> {
        let mut stores = vec![
            ("encoder", &self.online.parameters),
            ("head", &self.projector_parameters),
            ("head", &self.predictor_parameters),
        ];
        if let Some(target) = &self.target {
            stores.push(("target_encoder", &target.network.parameters));
            stores.push(("target_head", &target.projector_parameters));
        }
        stores
    }
}

/// z of the trunk's features: themselves without a projector.
fn project(projector: Option<&Mlp>, pooled: &Tensor, norm: NormMode) -> Result<Tensor> {
    match projector {
        Some(projector) => projector.forward(pooled, norm),
        None => Ok(pooled.clone()),
    }
}

/// -log-likelihood of its own key among the keys of a batch, and how well it is found: the reading of
/// similarity that the symmetric bases report, whether it is their loss or not. Rows are normalised.
pub(crate) fn in_batch(
    queries: &Tensor,
    keys: &Tensor,
    images: &[u32],
    temperature: f64,
) -> Result<InfoNce> {
    // A key of the query's own image, its own key too, is no negative.
    let negatives = (images.len() > 1).then_some(Negatives { keys, images });
    info_nce(queries, keys, images, negatives, temperature)
}

impl<E: Encoder + Send, O: Objective> Base for Siamese<E, O> {
    fn kind(&self) -> BaseKind {
        self.objective.kind()
    }

    fn on_device(&mut self) -> Option<&mut dyn BaseOnDevice> {
        self.form()?;
        Some(self)
    }

    fn real(&mut self, views: Views<'_>, images: &[u32]) -> Result<Pass> {
        let views = views.only_global(self.kind().name())?;
        let pass = self.pass(views, images, Images::Real)?;
        self.pending = true;
        Ok(pass)
    }

    fn generated(&mut self, pair: [&Tensor; 2], images: &[u32]) -> Result<Pass> {
        self.pass(pair, images, Images::Generated)
    }

    fn between(&self, query: &Tensor, key: &Tensor, images: &[u32]) -> Result<Between> {
        self.fetch_heads()?;
        let norm = self.norm(Images::Generated);
        let target = |pooled: &Tensor| -> Result<Tensor> {
            let projector = (self.target.as_ref()).map_or(&self.projector, |t| &t.projector);
            Ok(project(projector.as_ref(), &pooled.detach(), norm)?.detach())
        };
        let term = |view: usize, query: &Tensor, keys: &Tensor| {
            let z = project(self.projector.as_ref(), query, norm)?;
            let kept = self.kept(view, images, Images::Generated)?;
            let q = (self.predictor).forward_dropped(&z, norm, kept.as_ref())?;
            self.objective.compare(&q, keys, images)
        };
        let (queries, keys) = (target(query)?, target(key)?);
        let (first, second) = (term(0, query, &keys)?, term(1, key, &queries)?);
        Ok(Between {
            found: first.plus(second)?,
            keys: l2_normalise(&keys)?,
        })
    }

    fn against(&self, pass: &Pass, views: [&Tensor; 2], images: &[u32]) -> Result<Tensor> {
        let [first, second] = pass.queries.as_slice() else {
            bail!(
                "{}: {} queries, expected two",
                self.kind(),
                pass.queries.len()
            );
        };
        self.fetch_heads()?;
        let targets = |view| self.other_targets(view, Images::Generated);
        let loss = self
            .objective
            .compare(first, &targets(views[1])?, images)?
            .loss;
        loss + self
            .objective
            .compare(second, &targets(views[0])?, images)?
            .loss
    }

    fn after_step(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.pending) {
            bail!("after_step: no pass on real views since the last one");
        }
        if let (Some(m), Some(average), Some(target)) =
            (self.momentum(), self.objective.average(), &self.target)
        {
            let (network, statistics) = (&target.network, average.statistics);
            momentum_update(&self.online.parameters, &network.parameters, m, statistics)?;
            let own = &target.projector_parameters;
            momentum_update(&self.projector_parameters, own, m, statistics)?;
        }
        self.step += 1;
        Ok(())
    }

    fn forget_step(&mut self) {
        self.pending = false;
    }

    fn gradient_at_pooled(
        &self,
        images: &Tensor,
        others: &Tensor,
        indices: &[u32],
    ) -> Result<(Features, Tensor)> {
        self.fetch_heads()?;
        let features = self.online.encoder.features(images, NormMode::Eval)?;
        let targets = self.other_targets(others, Images::Inspected)?;
        let gradient = gradient_at(&features.pooled, |pooled| {
            let z = project(self.projector.as_ref(), pooled, NormMode::Eval)?;
            let q = self.predictor.forward(&z, NormMode::Eval)?;
            Ok(self.objective.compare(&q, &targets, indices)?.loss)
        })?;
        Ok((features, gradient))
    }

    fn encoder(&self) -> &dyn Encoder {
        &self.online.encoder
    }

    fn target_encoder(&self) -> Option<&dyn Encoder> {
        let target = self.target.as_ref()?;
        Some(&target.network.encoder)
    }

    fn encoder_parameters(&self) -> &Parameters {
        &self.online.parameters
    }

    fn trainable(&self) -> BTreeMap<String, Var> {
        let mut vars = trainable(&self.stores()[..3]);
        vars.retain(|name, _| match name.strip_prefix("encoder.") {
            Some(name) => self.objective.trains(name),
            None => true,
        });
        vars
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        of_stores(&self.stores(), [("step", words(&[self.step])?)])
    }

    fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        check(&self.state()?, state)?;
        let step = counters(take(state, "step", &[1])?)?[0];
        for (prefix, store) in self.stores() {
            store.set_all(&under(state, prefix))?;
        }
        self.step = step;
        self.pending = false;
        Ok(())
    }
}
