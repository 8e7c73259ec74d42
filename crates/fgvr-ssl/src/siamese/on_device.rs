//! The symmetric bases where their networks live on a device.

use candle_core::{Result, bail};
use fgvr_nn::cuda::Array;
use fgvr_nn::cuda::ops::Rows;
use fgvr_nn::cuda::ops::unit_rows::unit_rows;
use fgvr_nn::{Device, Encoder, FeatureMaps, Map, NormMode, ParameterGradients, Parameters, Tape};

use super::{Images, Objective, Siamese};
use crate::head::SHORTEST;
use crate::on_device::{BaseOnDevice, BranchOnDevice, PassOnDevice, compare, vectors};
use crate::{Comparison, Mlp};

/// A view on its way through the online network.
struct Query {
    tape: Tape,
    features: FeatureMaps,
    /// The tape of projector and predictor.
    of_heads: Tape,
    z: Map,
    q: Map,
}

impl Query {
    fn back(self, at_q: &Map, gradients: &mut ParameterGradients) -> Result<BranchOnDevice> {
        let at_pooled = (self.of_heads).backward_from(&[(&self.q, at_q)], gradients)?;
        let Some(at_pooled) = at_pooled else {
            bail!("the heads' tape returned no gradient at the features");
        };
        Ok(BranchOnDevice {
            tape: self.tape,
            features: self.features,
            at_pooled,
        })
    }
}

impl<E: Encoder, O: Objective> Siamese<E, O> {
    /// Where the networks live, if all do and on one device.
    fn place(&self) -> Option<Device> {
        let online = self.online.parameters.device()?;
        let here = |parameters: &Parameters| parameters.device().is_some_and(|d| d.is(&online));
        let target_too = (self.target.as_ref()).is_none_or(|t| here(&t.network.parameters));
        let runs_there = self.online.encoder.device()?.is(&online);
        (target_too && runs_there).then_some(online)
    }

    /// Where a step of this base can stay, and how its loss is made there.
    pub(super) fn form(&self) -> Option<(Device, Comparison)> {
        let comparison = self.objective.compare_there()?;
        let drops = self.objective.predictor_dropout() > 0.;
        match self.objective.stops_gradient() && !drops {
            true => Some((self.place()?, comparison)),
            false => None,
        }
    }

    /// The stores of projectors and predictor.
    fn heads(&self) -> impl Iterator<Item = &Parameters> {
        let of_target = self.target.as_ref().map(|t| &t.projector_parameters);
        [&self.projector_parameters, &self.predictor_parameters]
            .into_iter()
            .chain(of_target)
    }

    /// Brings heads that live on a device back, for losses on the CPU.
    pub(super) fn fetch_heads(&self) -> Result<()> {
        self.heads().try_for_each(Parameters::fetch)
    }

    /// Takes to the device again, for heads that live there, what a pass on the CPU changed: running statistics.
    pub(super) fn return_heads(&self) -> Result<()> {
        self.heads().try_for_each(|head| match head.device() {
            Some(device) => head.live_on(&device),
            None => Ok(()),
        })
    }

    /// Takes the heads to where the networks live.
    fn settle(&self) -> Result<(Device, Comparison)> {
        let Some((device, comparison)) = self.form() else {
            bail!("{}: expected networks on a device", self.objective.kind());
        };
        for head in self.heads() {
            if head.device().is_none() {
                head.live_on(&device)?;
            }
        }
        Ok((device, comparison))
    }

    fn query_there(&self, device: &Device, view: &Map, norm: NormMode) -> Result<Query> {
        let mut tape = Tape::recording().on(Some(device));
        let seen = tape.constant(view)?;
        let features = self.online.encoder.apply(&mut tape, &seen, norm)?;
        let mut of_heads = Tape::recording().on(Some(device));
        let h = of_heads.enter(&features.pooled)?;
        let z = project(self.projector.as_ref(), &mut of_heads, h, norm)?;
        let q = self.predictor.apply(&mut of_heads, &z, norm)?;
        Ok(Query {
            tape,
            features,
            of_heads,
            z,
            q,
        })
    }

    /// As [`Siamese::targets`] of both views, and the features of the second; of a network of their own or the online
    /// one's projections.
    fn targets_there(
        &self,
        device: &Device,
        views: [&Map; 2],
        queries: [&Query; 2],
        images: Images,
    ) -> Result<([Map; 2], Map)> {
        let Some(target) = &self.target else {
            let targets = queries.map(|query| query.z.clone());
            return Ok((targets, queries[1].features.pooled.clone()));
        };
        let norm = self.target_norm(images);
        let of = |view: &Map| {
            let mut tape = Tape::inference().on(Some(device));
            let seen = tape.constant(view)?;
            let pooled = target.network.encoder.apply(&mut tape, &seen, norm)?.pooled;
            let k = project(target.projector.as_ref(), &mut tape, pooled.clone(), norm)?;
            Result::Ok((k, pooled))
        };
        let ((first, _), (second, pooled)) = (of(views[0])?, of(views[1])?);
        Ok(([first, second], pooled))
    }

    /// As [`Siamese::pass`] of real images, back to the features.
    fn pass_there(
        &self,
        views: [&Map; 2],
        indices: &[u32],
        gradients: &mut ParameterGradients,
    ) -> Result<PassOnDevice> {
        let (device, comparison) = self.settle()?;
        let images = Images::Real;
        let norm = self.norm(images);
        let query = |view| self.query_there(&device, view, norm);
        let (first, second) = (query(views[0])?, query(views[1])?);
        let queries = [&first, &second];
        let (targets, key_pooled) = self.targets_there(&device, views, queries, images)?;
        let images = device.run(|m| Array::from_u32(m, indices))?;
        let term = |query: &Query, target: &Map| {
            let compared = [&query.q, target];
            compare(&device, comparison, compared, &images, 1.)
        };
        let (of_first, at_first) = term(&first, &targets[1])?;
        let (of_second, at_second) = term(&second, &targets[0])?;
        let ([n, d], z) = (vectors(&first.z)?, first.z.array()?);
        let query = device.run(|m| Ok(unit_rows(m, z, Rows::new(n, d), SHORTEST)?.rows))?;
        Ok(PassOnDevice {
            first: first.back(&at_first, gradients)?,
            second: Some(second.back(&at_second, gradients)?),
            found: of_first.plus(of_second, query),
            key_pooled,
        })
    }
}

/// z of the trunk's features: themselves without a projector.
fn project(projector: Option<&Mlp>, tape: &mut Tape, pooled: Map, norm: NormMode) -> Result<Map> {
    match projector {
        Some(projector) => projector.apply(tape, &pooled, norm),
        None => Ok(pooled),
    }
}

impl<E: Encoder + Send, O: Objective> BaseOnDevice for Siamese<E, O> {
    fn device(&self) -> Result<Device> {
        Ok(self.settle()?.0)
    }

    fn branches(&self) -> usize {
        2
    }

    fn real_there(
        &mut self,
        views: [&Map; 2],
        images: &[u32],
        gradients: &mut ParameterGradients,
    ) -> Result<PassOnDevice> {
        let pass = self.pass_there(views, images, gradients)?;
        self.pending = true;
        Ok(pass)
    }
}
