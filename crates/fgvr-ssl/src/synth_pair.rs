//! SynthPair: pairs of images, generated from the original and the perturbed features, that the encoder
//! learns to tell apart no further than what discriminates.

mod bank;
mod decoded;
mod image_pair;
mod masked;
mod masked_on_device;
mod outcome;
mod perceptual;
mod twin;

use std::collections::{BTreeMap, HashMap};

use candle_core::{Result, Tensor};
use fgvr_nn::Decoder;
use fgvr_perturb::FeatureBank;

use self::bank::PlacedBank;
use self::decoded::{Decoded, reconstruct};
use self::image_pair::ImagePair;
use self::masked::Masked;
use self::outcome::Outcome;
use self::perceptual::perceptual;
use self::twin::twin;
use crate::pass::FeatureOutput;
use crate::state::{prefixed, under};
use crate::step::{Report, StepInput, StepOutput};
use crate::{
    Addon, AddonKind, AtFeatures, Base, Further, PairOf, Rows, Space, SynthPairConfig, Values,
    Variance, pair_weight,
};

/// SynthPair (after arXiv:2407.14676) over any [`Base`] that [`supports`](crate::supports) it. See
/// [`SynthPairConfig`] for what is whose choice.
///
/// # Design choice
/// A base that is symmetric in the views has two query branches: both views are reconstructed, the
/// features of both are masked and perturbed, and L_Cp is the mean of the base's loss on the pair made
/// of each view. Each pair is a batch of its own. The bank holds what the targets are made of, of the
/// second view.
pub struct SynthPair {
    cfg: SynthPairConfig,
    bank: PlacedBank,
}

impl SynthPair {
    /// For features of C = `width` channels.
    ///
    /// # Errors
    /// A configuration out of range.
    pub fn new(cfg: &SynthPairConfig, width: usize) -> Result<Self> {
        cfg.validate()?;
        Ok(Self {
            cfg: cfg.clone(),
            bank: PlacedBank::new(cfg.bank_size, width)?,
        })
    }

    /// One step of `base` with these pairs and nothing else: [`crate::step`] with [`SynthPair::with`].
    ///
    /// # Errors
    /// As [`crate::step`], and a decoder whose tape returns no gradient of its input.
    pub fn step(
        &mut self,
        base: &mut dyn Base,
        decoder: &dyn Decoder,
        input: StepInput<'_>,
    ) -> Result<StepOutput> {
        crate::step(base, &mut [&mut self.with(decoder)], input)
    }

    /// These pairs and the decoder that makes them, as an add-on for one step.
    ///
    /// The pair waits until ν(t) > 0 and the bank holds its minimum. Where α = 0 and ν = 0 the decoder
    /// does not run, and the gradients are those of the base alone, bit for bit. A step whose L_C is not
    /// finite, or whose gradient at the features or key features are not, gets no pair and leaves the bank as
    /// it was; the losses and the gradient norm say so.
    pub fn with<'a>(&'a mut self, decoder: &'a dyn Decoder) -> SynthPairStep<'a> {
        SynthPairStep {
            method: self,
            decoder,
            nu: 0.,
            seen: Vec::new(),
            masked: Vec::new(),
            decoded: None,
            keys: Vec::new(),
            outcomes: Vec::new(),
            remembered: None,
            shown: None,
        }
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &SynthPairConfig {
        &self.cfg
    }

    /// A copy of the bank of past features.
    ///
    /// # Errors
    /// What a device says that it is on.
    pub fn bank(&self) -> Result<FeatureBank> {
        self.bank.to_host()
    }

    /// What a resumed run needs, by name.
    ///
    /// # Errors
    /// None in practice.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        Ok(prefixed([("bank", self.bank.to_host()?.state()?)]))
    }

    /// Takes over what [`SynthPair::state`] gave.
    ///
    /// # Errors
    /// As [`FeatureBank::load_state`].
    pub fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        let mut bank = FeatureBank::new(self.cfg.bank_size, self.bank.width(), true)?;
        bank.load_state(&under(state, "bank"))?;
        // A step on a device takes it there again.
        self.bank = PlacedBank::Host(bank);
        Ok(())
    }
}

impl std::fmt::Debug for SynthPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = match &self.bank {
            PlacedBank::Host(_) => "the CPU",
            PlacedBank::Device(_) => "a device",
        };
        write!(f, "SynthPair({:?}, bank on {place})", self.cfg)
    }
}

/// A [`SynthPair`] and its decoder during one step.
pub struct SynthPairStep<'a> {
    method: &'a mut SynthPair,
    decoder: &'a dyn Decoder,
    nu: f64,
    /// The images that each branch saw.
    seen: Vec<Values>,
    masked: Vec<Masked>,
    decoded: Option<Decoded>,
    /// Keys that the base is to keep, of twins.
    keys: Vec<Rows>,
    outcomes: Vec<Outcome>,
    /// The key features of real images, and the query's in a bank of pairs, for the bank.
    remembered: Option<(Rows, Option<Rows>)>,
    /// The first pair of images, for pictures.
    shown: Option<ImagePair>,
}

impl Addon for SynthPairStep<'_> {
    fn kind(&self) -> AddonKind {
        AddonKind::SynthPair
    }

    fn is_active(&self) -> bool {
        self.method.cfg.alpha > 0. || self.method.cfg.nu > 0.
    }

    fn runs_on_host(&self) -> bool {
        !PlacedBank::fits_device(self.method.bank.width()) || self.method.cfg.perceptual > 0.
    }

    fn at_features(&mut self, step: &mut AtFeatures<'_>) -> Result<()> {
        let (method, input) = (&mut *self.method, step.input);
        let cfg = &method.cfg;
        let nu = pair_weight(cfg, input.step, input.total_steps);
        self.nu = nu;
        let between = cfg.variance == Variance::Between;
        let fits = PlacedBank::fits_device(method.bank.width());
        method
            .bank
            .place(step.pass.device().filter(|_| fits), between)?;

        // Importance from the gradient of L_C, variance from the bank: the mask M, and h̃.
        let branches: Vec<_> = step.pass.global().collect();
        let subjects = branches
            .iter()
            .zip(step.pooled)
            .map(|(branch, h)| match cfg.space {
                Space::Vector => h.values(),
                Space::Map => Ok(branch.map()),
            });
        let subjects = subjects.collect::<Result<Vec<_>>>()?;
        if nu > 0. && method.bank.len() >= cfg.bank_minimum && step.is_finite()? {
            for (branch, subject) in subjects.iter().enumerate() {
                let h = [&step.pooled[branch], &step.gradient[branch]];
                let masked = Masked::new(cfg, &mut method.bank, h, subject, branch, input)?;
                self.masked.push(masked);
            }
        }

        // d(h): L_R. Its gradient at h joins that of L_C.
        if cfg.uses_decoder() {
            self.seen = branches
                .iter()
                .map(|branch| branch.images.clone())
                .collect();
            let subject = Values::stack(&subjects)?;
            let mut decoded = reconstruct(self.decoder, &subject, &Values::stack(&self.seen)?)?;
            if cfg.perceptual > 0. {
                let maps = branches.iter().map(|branch| branch.map().to_host());
                let maps = maps.collect::<Result<Vec<_>>>()?;
                let h = match cfg.space {
                    Space::Vector => subject.rows()?.to_host()?,
                    Space::Map => subject.to_host()?,
                };
                let (encoder, into) = (step.base.encoder(), &mut decoded.gradients);
                let loss = perceptual(encoder, self.decoder, &h, &maps, cfg.perceptual, into)?;
                step.report.figures.push(("loss_perceptual", loss));
            }
            if cfg.alpha > 0. && cfg.reconstruction_reaches_encoder {
                let gradient = decoded.at_features.scaled(cfg.alpha)?;
                let at = match cfg.space {
                    Space::Vector => FeatureOutput::Pooled,
                    Space::Map => FeatureOutput::Map,
                };
                let n = input.images.len();
                for (number, branch) in branches.iter().enumerate() {
                    let part = gradient.narrow(number * n, n)?;
                    step.gradients.add(branch, at, &part)?;
                }
            }
            self.decoded = Some(decoded);
        }

        // The twin of the features: its gradient at h joins the others.
        if cfg.pair == PairOf::Features {
            let share = nu / self.masked.len().max(1) as f64;
            for (branch, masked) in branches.iter().zip(&self.masked) {
                let mut twin = twin(step.base, branch, masked, input)?;
                twin.between.found.backward(share, step.gradients)?;
                self.keys.push(twin.between.keys);
                self.outcomes.push(twin.outcome);
            }
        }
        let pooled = between.then(|| step.pooled[0].clone());
        self.remembered = Some((step.pass.key_pooled.clone(), pooled));
        Ok(())
    }

    fn further_passes(&mut self, step: &mut Further<'_>) -> Result<()> {
        let input = step.input;
        for keys in std::mem::take(&mut self.keys) {
            step.base.keep_pair_keys(&keys, input.images)?;
        }
        let (cfg, Some(decoded)) = (&self.method.cfg, &self.decoded) else {
            return Ok(());
        };
        if cfg.pair == PairOf::Features {
            return Ok(());
        }
        // x̂ = d(h) as it is, x̃ = d(h̃), both without a way back to the decoder; of each branch. x̂ through f, x̃
        // through f_m (or the other way round): L_Cp, on a tape of its own.
        let share = self.nu / self.masked.len().max(1) as f64;
        let n = input.images.len();
        for (branch, (masked, seen)) in self.masked.iter().zip(&self.seen).enumerate() {
            let original = decoded.images.narrow(branch * n, n)?;
            let pair = ImagePair::new(cfg, self.decoder, original, masked, branch, input)?;
            let generated = (step.base).generated([&pair.query, &pair.key], input.images)?;
            self.outcomes.push(pair.outcome(seen, masked, &generated)?);
            step.add_pass(share, generated)?;
            if step.report.pictures.is_some() {
                self.shown.get_or_insert(pair);
            }
        }
        Ok(())
    }

    fn report(&mut self, report: &mut Report) -> Result<()> {
        report.diagnostics.pair_weight = self.nu;
        // This step's masks have been drawn: the bank may move on.
        if let (true, Some((keys, pooled))) = (report.finite, self.remembered.take()) {
            self.method.bank.push(&keys, pooled.as_ref())?;
        }
        if self.method.bank.len() > 0 {
            report.diagnostics.dead_fraction = Some(self.method.bank.dead()?);
        }
        let outcomes = self.outcomes.iter().map(Outcome::numbers);
        report.add_pair(self.nu, outcomes.collect::<Result<Vec<_>>>()?);
        if let (Some(pictures), Some(masked)) = (&mut report.pictures, self.masked.first()) {
            pictures.mask = Some(masked.mask.to_host()?);
        }
        if let (Some(pictures), Some(pair)) = (&mut report.pictures, &self.shown) {
            pictures.perturbed = Some(pair.perturbed.to_host()?);
            pictures.pair = Some([pair.query.to_host()?, pair.key.to_host()?]);
        }
        let Some(decoded) = self.decoded.take() else {
            return Ok(());
        };
        report.add_reconstruction(self.method.cfg.alpha, decoded.loss.value()?);
        if let Some(pictures) = &mut report.pictures {
            let n = pictures.x.dim(0)?;
            pictures.reconstruction = Some(decoded.images.narrow(0, n)?.to_host()?);
        }
        report.decoder_gradients = Some(decoded.gradients);
        Ok(())
    }
}
