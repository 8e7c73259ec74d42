//! Barlow Twins as a base of one's own: choices, loss, and what the training engine asks of a base.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Result, Tensor, Var, bail};
use fgvr_nn::{Encoder, Features, NormMode, Parameters};
use fgvr_ssl::{
    ActivationFunction, AnyEncoder, Base, BaseConfig, BaseKind, Between, Branch, Found, InfoNce,
    MethodConfig, Mlp, MlpConfig, Network, Parts, Pass, Rows, Values, Views, l2_normalise, state,
};
use serde::{Deserialize, Serialize};

/// Its name, and its section of the settings.
pub(crate) const BARLOW_TWINS: BaseKind = BaseKind::new("barlow-twins", "barlow_twins");

/// Its choices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BarlowTwinsConfig {
    /// D, the width of the projector's layers and of its output.
    pub(crate) dim: usize,
    /// λ, the weight of what two dimensions have in common.
    pub(crate) lambda: f64,
}

impl Default for BarlowTwinsConfig {
    fn default() -> Self {
        Self {
            dim: 512,
            lambda: 5e-3,
        }
    }
}

impl MethodConfig for BarlowTwinsConfig {
    fn validate(&self) -> Result<()> {
        if self.dim < 2 {
            bail!("barlow-twins: dim is {}, expected at least 2", self.dim);
        }
        if !(self.lambda >= 0. && self.lambda.is_finite()) {
            bail!(
                "barlow-twins: lambda is {}, expected a number of at least 0",
                self.lambda
            );
        }
        Ok(())
    }
}

impl BaseConfig for BarlowTwinsConfig {
    fn kind(&self) -> BaseKind {
        BARLOW_TWINS
    }

    fn build(&self, parts: Parts<'_>) -> Result<Box<dyn Base>> {
        let network = (parts.network)()?;
        let head = Parameters::new(parts.seed);
        let shape = MlpConfig {
            layers: 3,
            hidden: self.dim,
            out: self.dim,
            norm: true,
            last_norm: false,
            bias: [false, false],
            activation: ActivationFunction::Relu,
        };
        let vb = head.builder(DType::F32, &Device::Cpu).pp("projector");
        Ok(Box::new(BarlowTwins {
            projector: Mlp::new(network.encoder.width(), &shape, vb)?,
            lambda: self.lambda,
            network,
            head,
            passed: false,
        }))
    }
}

/// Barlow Twins (arXiv:2103.03230), with C the correlations over the batch between the dimensions of the two views'
/// projections:
///
/// L = ( Σ_i (1 - C_ii)² + λ Σ_i Σ_{j≠i} C_ij² ) / D
///
/// # Differs
/// The mean over the D dimensions, so that the rate does not depend on their number.
pub(crate) struct BarlowTwins {
    network: Network<AnyEncoder>,
    projector: Mlp,
    head: Parameters,
    lambda: f64,
    /// Whether a pass on real views waits for [`Base::after_step`].
    passed: bool,
}

impl BarlowTwins {
    /// The loss of projections (N, D) of two views of the same images.
    fn loss(&self, one: &Tensor, other: &Tensor) -> Result<Found> {
        let (n, d) = one.dims2()?;
        // (D, N) x (N, D) -> (D, D)
        let correlations = (standardised(one)?.t()?.matmul(&standardised(other)?)? / n as f64)?;
        let identity = Tensor::eye(d, DType::F32, &Device::Cpu)?;
        let weight = ((&identity * (1. - self.lambda))? + self.lambda)?;
        let loss = ((correlations - identity)?.sqr()? * weight)?.sum_all()?;
        // How well one view finds the other, for the log.
        let likeness = l2_normalise(&one.detach())?.matmul(&l2_normalise(&other.detach())?.t()?)?;
        let (rows, mut hits, mut own) = (likeness.to_vec2::<f32>()?, 0, 0.);
        for (i, row) in rows.iter().enumerate() {
            hits += usize::from(row.iter().all(|value| *value <= row[i]));
            own += f64::from(row[i]);
        }
        Ok(Found::Host(InfoNce {
            loss: (loss / d as f64)?,
            top1: hits as f64 / n as f64,
            positive: own / n as f64,
            negative: None,
        }))
    }

    fn pass(&self, views: [&Tensor; 2], norm: NormMode) -> Result<Pass> {
        let branch = |view: usize| {
            let images = Values::from(views[view]);
            Branch::forward(&self.network.encoder, &images, norm, view)
        };
        let branches = [branch(0)?, branch(1)?];
        let z = |branch: &Branch| self.projector.forward(&branch.leaves()?.pooled, norm);
        let z = [z(&branches[0])?, z(&branches[1])?];
        let unit = |z: &Tensor| Ok::<_, candle_core::Error>(Rows::Host(l2_normalise(&z.detach())?));
        Ok(Pass {
            found: self.loss(&z[0], &z[1])?,
            query: unit(&z[0])?,
            keys: unit(&z[1])?,
            key_pooled: Rows::Host(branches[1].leaves()?.pooled.detach()),
            key_map: None,
            branches: branches.into(),
        })
    }

    fn stores(&self) -> [(&'static str, &Parameters); 2] {
        [("encoder", &self.network.parameters), ("head", &self.head)]
    }
}

/// Of mean 0 and variance 1 over the batch (N, D).
fn standardised(z: &Tensor) -> Result<Tensor> {
    let centred = z.broadcast_sub(&z.mean_keepdim(0)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(0)? + 1e-5)?.sqrt()?;
    centred.broadcast_div(&deviation)
}

impl Base for BarlowTwins {
    fn kind(&self) -> BaseKind {
        BARLOW_TWINS
    }

    fn real(&mut self, views: Views<'_>, _: &[u32]) -> Result<Pass> {
        let pass = self.pass(views.global, NormMode::Train)?;
        self.passed = true;
        Ok(pass)
    }

    fn generated(&mut self, pair: [&Values; 2], _: &[u32]) -> Result<Pass> {
        let [one, other] = [pair[0].to_host()?, pair[1].to_host()?];
        self.pass([&one, &other], NormMode::NoUpdate)
    }

    fn between(&self, query: &Values, key: &Values, _: &[u32]) -> Result<Between> {
        let z = |pooled: &Values| {
            self.projector
                .forward(&pooled.to_host()?, NormMode::NoUpdate)
        };
        let (query, key) = (z(query)?, z(key)?);
        Ok(Between {
            found: self.loss(&query, &key)?,
            keys: Rows::Host(l2_normalise(&key.detach())?),
        })
    }

    fn against(&self, pass: &Pass, views: [&Tensor; 2], _: &[u32]) -> Result<Found> {
        let [first, second] = pass.branches.as_slice() else {
            bail!("{BARLOW_TWINS}: expected two branches");
        };
        let norm = NormMode::NoUpdate;
        let term = |branch: &Branch, view: &Tensor| {
            let z = self.projector.forward(&branch.leaves()?.pooled, norm)?;
            let other = self.network.encoder.features(view, norm)?.pooled;
            self.loss(&z, &self.projector.forward(&other, norm)?.detach())
        };
        match (term(first, views[1])?, term(second, views[0])?) {
            (Found::Host(one), Found::Host(other)) => Ok(Found::Host(InfoNce {
                loss: ((one.loss + other.loss)? / 2.)?,
                top1: (one.top1 + other.top1) / 2.,
                positive: (one.positive + other.positive) / 2.,
                negative: None,
            })),
            _ => bail!("{BARLOW_TWINS}: its losses are on the host"),
        }
    }

    fn after_step(&mut self) -> Result<()> {
        match std::mem::take(&mut self.passed) {
            true => Ok(()),
            false => bail!("after_step: no pass on real views since the last one"),
        }
    }

    fn forget_step(&mut self) {
        self.passed = false;
    }

    fn gradient_at_pooled(
        &self,
        images: &Tensor,
        others: &Tensor,
        _: &[u32],
    ) -> Result<(Features, Tensor)> {
        let norm = NormMode::Eval;
        let features = self.network.encoder.features(images, norm)?;
        let other = self.network.encoder.features(others, norm)?.pooled;
        let other = self.projector.forward(&other, norm)?.detach();
        let pooled = Var::from_tensor(&features.pooled.detach())?;
        let found = self.loss(&self.projector.forward(&pooled, norm)?, &other)?;
        match found.tensor()?.backward()?.get(&pooled) {
            Some(gradient) => Ok((features, gradient.clone())),
            None => bail!("{BARLOW_TWINS}: the loss does not depend on the features"),
        }
    }

    fn encoder(&self) -> &dyn Encoder {
        &self.network.encoder
    }

    fn target_encoder(&self) -> Option<&dyn Encoder> {
        None
    }

    fn encoder_parameters(&self) -> &Parameters {
        &self.network.parameters
    }

    fn trainable(&self) -> BTreeMap<String, Var> {
        state::trainable(&self.stores())
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        state::of_stores(&self.stores(), [])
    }

    fn load_state(&mut self, saved: &HashMap<String, Tensor>) -> Result<()> {
        state::check(&self.state()?, saved)?;
        for (prefix, store) in self.stores() {
            store.set_all(&state::under(saved, prefix))?;
        }
        self.passed = false;
        Ok(())
    }
}
