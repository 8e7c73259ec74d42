//! What the bases share that are symmetric in the two views: trunk, projector and predictor for each
//! view, compared with the other view's target.

mod objective;

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Result, Tensor, Var, bail};
use fgvr_nn::{Encoder, Features, NormMode, Parameters};
use rand::Rng;

pub use self::objective::{Average, Objective};
use crate::bases::Parts;
use crate::bases::base::gradient_at;
use crate::bases::projection::Projection;
use crate::step::shuffle::keyed_rng;
use crate::step::state::{check, counters, of_stores, take, trainable, under, words};
use crate::step::values::{device_of_all, features, place};
use crate::{
    Base, BaseKind, Between, Branch, Found, Mlp, Network, Pass, RunLength, RunningStatistics,
    Values, Views, momentum_update,
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
    /// `objective` over encoders of `parts`: one where the online network is its own target, two otherwise, the second of
    /// which takes over the first one's values.
    ///
    /// # Errors
    /// What `parts` returns, and encoders whose variables differ in name or shape.
    pub fn build(objective: O, parts: Parts<'_, E>) -> Result<Self> {
        let Parts { network, seed, run } = parts;
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

    /// Targets of images by the network that makes them, and its pooled features, without a way back.
    fn targets(&self, view: &Values, images: Images) -> Result<(Values, Values)> {
        let (encoder, projector, norm) = match &self.target {
            Some(target) => (
                &target.network.encoder,
                target.projector.as_ref(),
                self.target_norm(images),
            ),
            None => (
                &self.online.encoder,
                self.projector.as_ref(),
                self.norm(images),
            ),
        };
        let (_, pooled) = features(encoder, view, norm)?;
        let targets = project(projector, Projection::constant(&pooled)?, norm)?;
        Ok((pooled, targets.values.detach()))
    }

    /// The prediction from z, of the images that view `view` saw.
    fn predict(
        &self,
        z: Projection,
        view: usize,
        indices: &[u32],
        images: Images,
    ) -> Result<Projection> {
        let kept = self.kept(view, indices, images)?;
        (self.predictor).project(z, self.norm(images), kept.as_ref())
    }

    fn pass(&self, views: [&Values; 2], indices: &[u32], images: Images) -> Result<Pass> {
        let norm = self.norm(images);
        let branch = |view: usize| Branch::forward(&self.online.encoder, views[view], norm, view);
        let branches = [branch(0)?, branch(1)?];
        let z = |branch| project(self.projector.as_ref(), Projection::of(branch)?, norm);
        let z = [z(&branches[0])?, z(&branches[1])?];
        let of_views = [z[0].values.clone(), z[1].values.clone()];
        let query = z[0].unit()?;
        let [first, second] = z;
        let q = [
            self.predict(first, 0, indices, images)?,
            self.predict(second, 1, indices, images)?,
        ];
        let (key_pooled, k) = match &self.target {
            Some(_) => {
                let (_, first) = self.targets(views[0], images)?;
                let (pooled, second) = self.targets(views[1], images)?;
                (pooled, [first, second])
            }
            None => {
                let k = match self.objective.stops_gradient() {
                    true => of_views.map(|z| z.detach()),
                    false => of_views,
                };
                (branches[1].pooled().detach(), k)
            }
        };
        let comparison = self.objective.comparison();
        let [first, second] = q;
        let first = comparison.compare(first, &k[1], indices)?;
        let second = comparison.compare(second, &k[0], indices)?;
        Ok(Pass {
            branches: branches.into(),
            found: first.plus(second)?,
            query,
            keys: k[1].unit()?,
            key_pooled: key_pooled.rows()?,
            key_map: None,
        })
    }

    /// The stores of projectors and predictor.
    fn heads(&self) -> impl Iterator<Item = &Parameters> {
        let of_target = self.target.as_ref().map(|t| &t.projector_parameters);
        [&self.projector_parameters, &self.predictor_parameters]
            .into_iter()
            .chain(of_target)
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
fn project(projector: Option<&Mlp>, pooled: Projection, norm: NormMode) -> Result<Projection> {
    match projector {
        Some(projector) => projector.project(pooled, norm, None),
        None => Ok(pooled),
    }
}

impl<E: Encoder + Send, O: Objective> Base for Siamese<E, O> {
    fn kind(&self) -> BaseKind {
        self.objective.kind()
    }

    fn device(&self) -> Option<fgvr_nn::Device> {
        // Dropout, and a gradient through the targets, are candle's alone.
        let on_host = self.objective.predictor_dropout() > 0. || !self.objective.stops_gradient();
        let target = self.target.as_ref().map(|t| &t.network.parameters);
        let networks = std::iter::once(&self.online.parameters).chain(target);
        device_of_all(&self.online.encoder, networks).filter(|_| !on_host)
    }

    fn real(&mut self, views: Views<'_>, images: &[u32]) -> Result<Pass> {
        let device = self.device();
        place(self.heads(), device.as_ref())?;
        let [first, second] = views.only_global(self.kind().name(), device.as_ref())?;
        let pass = self.pass([&first, &second], images, Images::Real)?;
        self.pending = true;
        Ok(pass)
    }

    fn generated(&mut self, pair: [&Values; 2], images: &[u32]) -> Result<Pass> {
        let device = self.device();
        place(self.heads(), device.as_ref())?;
        let [query, key] = pair.map(|images| images.placed(device.as_ref()));
        self.pass([&query?, &key?], images, Images::Generated)
    }

    fn between(&self, query: &Values, key: &Values, images: &[u32]) -> Result<Between> {
        let norm = self.norm(Images::Generated);
        let target = |pooled: &Values| -> Result<Values> {
            let projector = (self.target.as_ref()).map_or(&self.projector, |t| &t.projector);
            let targets = project(projector.as_ref(), Projection::constant(pooled)?, norm)?;
            Ok(targets.values.detach())
        };
        let term = |view: usize, query: &Values, keys: &Values| {
            let z = project(
                self.projector.as_ref(),
                Projection::from(query, view)?,
                norm,
            )?;
            let q = self.predict(z, view, images, Images::Generated)?;
            self.objective.comparison().compare(q, keys, images)
        };
        let (queries, keys) = (target(query)?, target(key)?);
        let (first, second) = (term(0, query, &keys)?, term(1, key, &queries)?);
        Ok(Between {
            found: first.plus(second)?,
            keys: keys.unit()?,
        })
    }

    fn against(&self, pass: &Pass, views: [&Tensor; 2], images: &[u32]) -> Result<Found> {
        let [first, second] = pass.branches.as_slice() else {
            bail!(
                "{}: {} queries, expected two",
                self.kind(),
                pass.branches.len()
            );
        };
        let term = |branch: &Branch, view: &Tensor| {
            // The heads say the same as in the pass itself, and leave no running statistics.
            let norm = NormMode::NoUpdate;
            let z = project(self.projector.as_ref(), Projection::of(branch)?, norm)?;
            let kept = self.kept(branch.view, images, Images::Real)?;
            let q = self.predictor.project(z, norm, kept.as_ref())?;
            let view = Values::from(view).placed(pass.device())?;
            let (_, targets) = self.targets(&view, Images::Generated)?;
            self.objective.comparison().compare(q, &targets, images)
        };
        term(first, views[1])?.plus(term(second, views[0])?)
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
        place(self.heads(), None)?;
        let features = self.online.encoder.features(images, NormMode::Eval)?;
        let (_, targets) = self.targets(&Values::from(others), Images::Inspected)?;
        let gradient = gradient_at(&features.pooled, |pooled| {
            let pooled = Projection::from(&Values::from(pooled), 0)?;
            let z = project(self.projector.as_ref(), pooled, NormMode::Eval)?;
            let q = self.predictor.project(z, NormMode::Eval, None)?;
            let found = self.objective.comparison().compare(q, &targets, indices)?;
            found.tensor().cloned()
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
