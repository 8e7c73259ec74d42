//! SynthPair: pairs of images, generated from the original and the perturbed features, that the encoder
//! learns to tell apart no further than what discriminates.

mod decoded;
mod image_pair;
mod masked;
mod perceptual;
mod twin;

use std::collections::{BTreeMap, HashMap};

use candle_core::{Result, Tensor, bail};
use fgvr_nn::Decoder;
use fgvr_perturb::FeatureBank;

use self::decoded::{Decoded, reconstruct};
use self::image_pair::ImagePair;
pub(crate) use self::image_pair::swapped;
use self::masked::{Masked, mask};
use self::perceptual::perceptual;
use self::twin::twin;
use crate::info_nce::scalar;
use crate::on_device::{AddonOnDevice, BankThere, PairOnDevice, has_form};
use crate::state::{prefixed, under};
use crate::step::{StepInput, StepOutput};
use crate::{
    Addon, AddonKind, AtFeatures, Base, Further, PairOf, Space, SynthPairConfig, Variance,
    pair_weight,
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
    pub(crate) cfg: SynthPairConfig,
    /// Old, of a bank that is on a device.
    pub(crate) bank: FeatureBank,
    /// The bank where steps stay on a device.
    pub(crate) there: Option<BankThere>,
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
            bank: FeatureBank::new(cfg.bank_size, width, true)?,
            there: None,
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
            decoded: None,
            masked: Vec::new(),
            keys: Vec::new(),
            there: PairOnDevice::default(),
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
        if let Some(there) = &self.there {
            return there.fetch();
        }
        let mut copy = FeatureBank::new(self.bank.capacity(), self.bank.width(), true)?;
        copy.load_state(&self.bank.state()?.into_iter().collect())?;
        Ok(copy)
    }

    /// What a resumed run needs, by name.
    ///
    /// # Errors
    /// None in practice.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let state = match &self.there {
            Some(there) => there.fetch()?.state()?,
            None => self.bank.state()?,
        };
        Ok(prefixed([("bank", state)]))
    }

    /// Takes over what [`SynthPair::state`] gave.
    ///
    /// # Errors
    /// As [`FeatureBank::load_state`].
    pub fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        self.bank.load_state(&under(state, "bank"))?;
        // A step on a device takes it there again.
        self.there = None;
        Ok(())
    }

    /// The key encoder's features of real images into the bank, un-normalised.
    fn remember(&mut self, key_pooled: &Tensor, pooled: &Tensor) -> Result<()> {
        match self.cfg.variance {
            Variance::Bank => self.bank.push(key_pooled),
            Variance::Between => self.bank.push_pair(key_pooled, pooled),
        }
    }
}

/// A [`SynthPair`] and its decoder during one step.
pub struct SynthPairStep<'a> {
    pub(crate) method: &'a mut SynthPair,
    pub(crate) decoder: &'a dyn Decoder,
    pub(crate) there: PairOnDevice,
    decoded: Option<Decoded>,
    masked: Vec<Masked>,
    /// Keys that the base is to keep, of twins.
    keys: Vec<Tensor>,
}

impl Addon for SynthPairStep<'_> {
    fn kind(&self) -> AddonKind {
        AddonKind::SynthPair
    }

    fn is_active(&self) -> bool {
        self.method.cfg.alpha > 0. || self.method.cfg.nu > 0.
    }

    fn on_device(&mut self) -> Option<&mut dyn AddonOnDevice> {
        let (cfg, width) = (&self.method.cfg, self.method.bank.width());
        let decodes_there = !cfg.uses_decoder() || self.decoder.device().is_some();
        match has_form(cfg, width) && decodes_there {
            true => Some(self),
            false => None,
        }
    }

    fn at_features(&mut self, step: &mut AtFeatures<'_>) -> Result<()> {
        if let Some(there) = self.method.there.take() {
            self.method.bank = there.fetch()?;
        }
        let (method, input) = (&mut *self.method, step.input);
        let cfg = &method.cfg;
        let nu = pair_weight(cfg, input.step, input.total_steps);
        step.report.diagnostics.pair_weight = nu;

        // Importance from the gradient of L_C, variance from the bank: the mask M, and h̃.
        let has_pair = nu > 0. && step.finite && method.bank.len() >= cfg.bank_minimum;
        let branches = if has_pair {
            rows(step.pooled, input)?
        } else {
            0
        };
        let h = [step.pooled, step.gradient];
        let subject = match cfg.space {
            Space::Vector => step.pooled.clone(),
            Space::Map => step.pass.map()?,
        };
        let masked = |branch| mask(cfg, &method.bank, h, &subject, branch, input);
        let masked = (0..branches).map(masked);
        self.masked = masked.collect::<Result<Vec<_>>>()?;

        // d(h): L_R. Its gradient at h joins that of L_C.
        if cfg.uses_decoder() {
            let mut decoded = reconstruct(self.decoder, &subject, step.seen)?;
            if cfg.perceptual > 0. {
                let maps: Vec<_> = (step.pass.global()).map(|b| &b.features.map).collect();
                let (encoder, into) = (step.base.encoder(), &mut decoded.gradients);
                let weight = cfg.perceptual;
                let loss = perceptual(encoder, self.decoder, &subject, &maps, weight, into)?;
                step.report.figures.push(("loss_perceptual", loss));
            }
            if cfg.alpha > 0. && cfg.reconstruction_reaches_encoder {
                let gradient = (&decoded.at_features * cfg.alpha)?;
                match cfg.space {
                    Space::Vector => step.pass.add_pooled_gradient(step.leaves, &gradient)?,
                    Space::Map => step.pass.add_map_gradient(step.leaves, &gradient)?,
                }
            }
            let losses = &mut step.report.losses;
            losses.reconstruction = Some(decoded.loss);
            losses.total += cfg.alpha * decoded.loss;
            self.decoded = Some(decoded);
        }

        // The twin of the features: its gradient at h joins the others.
        if cfg.pair == PairOf::Features {
            self.keys = add_twins(step, &self.masked, nu)?;
        }

        // This step's masks have been drawn: the bank may move on.
        if step.finite {
            let pooled = step.pooled.narrow(0, 0, input.images.len())?;
            method.remember(&step.pass.key_pooled, &pooled)?;
        }
        if !method.bank.is_empty() {
            step.report.diagnostics.dead_fraction = Some(method.bank.dead()?);
        }
        Ok(())
    }

    fn further_passes(&mut self, step: &mut Further<'_>) -> Result<()> {
        for keys in std::mem::take(&mut self.keys) {
            step.base.keep_pair_keys(&keys, step.input.images)?;
        }
        let masked = std::mem::take(&mut self.masked);
        if let (Some(pictures), Some(first)) = (&mut step.report.pictures, masked.first()) {
            pictures.mask = Some(first.mask.clone());
        }
        let Some(decoded) = self.decoded.take() else {
            return Ok(());
        };
        if let Some(pictures) = &mut step.report.pictures {
            pictures.reconstruction = Some(decoded.images.narrow(0, 0, step.input.images.len())?);
        }
        if self.method.cfg.pair == PairOf::Images {
            let cfg = &self.method.cfg;
            add_image_pairs(cfg, self.decoder, &decoded.images, masked, step)?;
        }
        step.report.decoder_gradients = Some(decoded.gradients);
        Ok(())
    }
}

/// x̂ = d(h) as it is, x̃ = d(h̃), both without a way back to the decoder; of each branch. x̂ through f, x̃
/// through f_m (or the other way round): L_Cp, on a tape of its own.
fn add_image_pairs(
    cfg: &SynthPairConfig,
    decoder: &dyn Decoder,
    reconstruction: &Tensor,
    masked: Vec<Masked>,
    step: &mut Further<'_>,
) -> Result<()> {
    let input = step.input;
    let nu = step.report.diagnostics.pair_weight;
    let share = nu / masked.len().max(1) as f64;
    let n = input.images.len();
    let (mut pairs, mut passes) = (Vec::new(), Vec::new());
    for (branch, masked) in masked.into_iter().enumerate() {
        let pair = ImagePair::new(cfg, decoder, reconstruction, masked, branch, input)?;
        let generated = (step.base).generated([&pair.query, &pair.key], input.images)?;
        let shown = step.seen.narrow(0, branch * n, n)?;
        let diagnostics = pair.diagnostics(&shown, &generated)?;
        passes.push((scalar(&generated.loss)?, diagnostics));
        step.add_pass(share, generated)?;
        pairs.push(pair);
    }
    step.report.add_pair(nu, passes);
    if let (Some(pictures), Some(pair)) = (&mut step.report.pictures, pairs.into_iter().next()) {
        pictures.perturbed = Some(pair.perturbed);
        pictures.pair = Some([pair.query, pair.key]);
    }
    Ok(())
}

/// L_Cp of each branch's features and their perturbed copies; the keys they were compared with.
fn add_twins(step: &mut AtFeatures<'_>, masked: &[Masked], nu: f64) -> Result<Vec<Tensor>> {
    let share = nu / masked.len().max(1) as f64;
    let (mut passes, mut keys) = (Vec::new(), Vec::new());
    for (branch, masked) in step.pass.global().zip(masked) {
        let twin = twin(step.base, &branch.features.pooled, masked, step.input)?;
        let loss = twin.found.found.loss;
        passes.push((scalar(&loss)?, twin.diagnostics));
        step.leaves.extend((loss * share)?.backward()?)?;
        keys.push(twin.found.keys);
    }
    step.report.add_pair(nu, passes);
    Ok(keys)
}

/// How many branches' features stand one under the other in h (B*N, C).
fn rows(h: &Tensor, input: &StepInput<'_>) -> Result<usize> {
    match (h.dim(0)?, input.images.len()) {
        (rows, n) if n > 0 && rows.is_multiple_of(n) => Ok(rows / n),
        (rows, n) => bail!("synth pair: {rows} features of {n} images"),
    }
}
