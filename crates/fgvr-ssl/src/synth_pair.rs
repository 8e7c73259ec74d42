//! SynthPair: pairs of images, generated from the original and the perturbed features, that the encoder
//! learns to tell apart no further than what discriminates.

use std::collections::{BTreeMap, HashMap};

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, bail};
use fgvr_gradcam::importance;
use fgvr_nn::{Decoder, NormMode};
use fgvr_perturb::{
    FeatureBank, MaskStats, RandomKey, non_discriminative_mask_with_stats, perturb,
};
use rand::Rng;

use crate::diagnostics::PairDiagnostics;
use crate::info_nce::scalar;
use crate::shuffle::keyed_rng;
use crate::state::{prefixed, under};
use crate::step::{StepInput, StepOutput};
use crate::{
    Addon, AddonKind, AtFeatures, Base, Further, Pass, SynthPairConfig, Variance, pair_weight,
};

/// Sets the draw of the pair's roles apart from other draws of the same (seed, step).
const ROLES: u64 = 0x726f_6c65;

/// Sets the draws for the second branch apart from those for the first.
const BRANCH: u64 = 0x6272_616e_6368;

/// SynthPair (after arXiv:2407.14676) over any [`Base`] that [`supports`](crate::supports) it. See
/// [`SynthPairConfig`] for what is whose choice.
///
/// # Design choice
/// A base that is symmetric in the views has two query branches: both views are reconstructed, the
/// features of both are masked and perturbed, and L_Cp is the mean of the base's loss on the pair made
/// of each view. Each pair is a batch of its own. The bank holds what the targets are made of, of the
/// second view.
#[derive(Debug)]
pub struct SynthPair {
    cfg: SynthPairConfig,
    bank: FeatureBank,
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
        }
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &SynthPairConfig {
        &self.cfg
    }

    /// The bank of past features.
    #[must_use]
    pub fn bank(&self) -> &FeatureBank {
        &self.bank
    }

    /// What a resumed run needs, by name.
    ///
    /// # Errors
    /// None in practice.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        Ok(prefixed([("bank", self.bank.state()?)]))
    }

    /// Takes over what [`SynthPair::state`] gave.
    ///
    /// # Errors
    /// As [`FeatureBank::load_state`].
    pub fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        self.bank.load_state(&under(state, "bank"))
    }

    /// M and h̃ of one branch's features, among those of all in h and ∂L_C/∂h (B*N, C).
    fn mask(
        &self,
        h: &Tensor,
        dh: &Tensor,
        branch: usize,
        input: &StepInput<'_>,
    ) -> Result<Masked> {
        let n = input.images.len();
        let (h, dh) = (h.narrow(0, branch * n, n)?, dh.narrow(0, branch * n, n)?);
        let key = RandomKey {
            seed: input.seed ^ (branch as u64 * BRANCH),
            step: input.step,
        };
        let importance = importance(&h, &dh, self.cfg.importance, Some(&self.bank.mean()?))?;
        let variance = match self.cfg.variance {
            Variance::Bank => self.bank.variance()?,
            Variance::Between => self.bank.between()?,
        };
        let (mask, stats) = non_discriminative_mask_with_stats(
            &variance,
            &importance,
            &self.cfg.mask,
            key,
            input.images,
        )?;
        let scale = self.bank.std()?;
        let features = perturb(&h, &mask, &scale, &self.cfg.noise, key, input.images)?;
        Ok(Masked {
            mask,
            stats,
            features,
        })
    }

    /// x̂ and x̃, each with its own augmentation, and who is the query.
    fn pair(
        &self,
        decoder: &dyn Decoder,
        reconstruction: &Tensor,
        masked: Masked,
        branch: usize,
        input: &StepInput<'_>,
    ) -> Result<Pair> {
        let n = input.images.len();
        let original = reconstruction.narrow(0, branch * n, n)?;
        let perturbed = decoder
            .generate(&masked.features, NormMode::NoUpdate)?
            .detach();
        let seen = match self.cfg.augment_pair {
            true => [
                (input.augment)(&original, 2 * branch as u64)?,
                (input.augment)(&perturbed, 2 * branch as u64 + 1)?,
            ],
            false => [original.clone(), perturbed.clone()],
        };
        let swapped = self.cfg.swap_roles
            && keyed_rng([input.seed, input.step, ROLES, branch as u64]).next_u32() % 2 == 1;
        let [first, second] = seen;
        let (query, key) = if swapped {
            (second, first)
        } else {
            (first, second)
        };
        Ok(Pair {
            masked,
            original,
            perturbed,
            query,
            key,
        })
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
    method: &'a mut SynthPair,
    decoder: &'a dyn Decoder,
    decoded: Option<Decoded>,
    masked: Vec<Masked>,
}

impl Addon for SynthPairStep<'_> {
    fn kind(&self) -> AddonKind {
        AddonKind::SynthPair
    }

    fn is_active(&self) -> bool {
        self.method.cfg.uses_decoder()
    }

    fn at_features(&mut self, step: &mut AtFeatures<'_>) -> Result<()> {
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
        let masked =
            (0..branches).map(|branch| method.mask(step.pooled, step.gradient, branch, input));
        self.masked = masked.collect::<Result<Vec<_>>>()?;

        // d(h): L_R. Its gradient at h joins that of L_C.
        if cfg.uses_decoder() {
            let decoded = reconstruct(self.decoder, step.pooled, step.seen)?;
            if cfg.alpha > 0. && cfg.reconstruction_reaches_encoder {
                let gradient = (&decoded.at_features * cfg.alpha)?;
                step.pass.add_pooled_gradient(step.leaves, &gradient)?;
            }
            let losses = &mut step.report.losses;
            losses.reconstruction = Some(decoded.loss);
            losses.total += cfg.alpha * decoded.loss;
            self.decoded = Some(decoded);
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
        let Some(decoded) = self.decoded.take() else {
            return Ok(());
        };
        let (method, input) = (&*self.method, step.input);
        let nu = step.report.diagnostics.pair_weight;
        let masked = std::mem::take(&mut self.masked);
        let share = nu / masked.len().max(1) as f64;
        let n = input.images.len();

        // x̂ = d(h) as it is, x̃ = d(h̃), both without a way back to the decoder; of each branch.
        // x̂ through f, x̃ through f_m (or the other way round): L_Cp, on a tape of its own.
        let (mut pairs, mut passes) = (Vec::new(), Vec::new());
        for (branch, masked) in masked.into_iter().enumerate() {
            let pair = method.pair(self.decoder, &decoded.images, masked, branch, input)?;
            let generated = (step.base).generated([&pair.query, &pair.key], input.images)?;
            let shown = step.seen.narrow(0, branch * n, n)?;
            let diagnostics = pair.diagnostics(&shown, &generated)?;
            passes.push((scalar(&generated.loss)?, diagnostics));
            step.add_pass(share, generated)?;
            pairs.push(pair);
        }
        if let Some((loss, diagnostics)) = mean_of(passes) {
            let losses = &mut step.report.losses;
            losses.pair = Some(loss);
            losses.total += nu * loss;
            step.report.diagnostics.pair = Some(diagnostics);
        }
        if let Some(pictures) = &mut step.report.pictures {
            pictures.reconstruction = Some(decoded.images.narrow(0, 0, n)?);
            if let Some(pair) = pairs.into_iter().next() {
                pictures.perturbed = Some(pair.perturbed);
                pictures.pair = Some([pair.query, pair.key]);
                pictures.mask = Some(pair.masked.mask);
            }
        }
        step.report.decoder_gradients = Some(decoded.gradients);
        Ok(())
    }
}

/// The decoder's images of h, and where their error leads.
struct Decoded {
    images: Tensor,
    loss: f64,
    /// ∂L_R/∂h (B*N, C).
    at_features: Tensor,
    gradients: GradStore,
}

/// The mask, and the features it perturbs.
struct Masked {
    mask: Tensor,
    stats: MaskStats,
    features: Tensor,
}

/// The generated images, before and after their own augmentation.
struct Pair {
    masked: Masked,
    original: Tensor,
    perturbed: Tensor,
    query: Tensor,
    key: Tensor,
}

impl Pair {
    fn diagnostics(&self, x: &Tensor, pass: &Pass) -> Result<PairDiagnostics> {
        let images = [&self.original, &self.perturbed];
        PairDiagnostics::of(self.masked.stats, x, images, pass)
    }
}

/// How many branches' features stand one under the other in h (B*N, C).
fn rows(h: &Tensor, input: &StepInput<'_>) -> Result<usize> {
    match (h.dim(0)?, input.images.len()) {
        (rows, n) if n > 0 && rows.is_multiple_of(n) => Ok(rows / n),
        (rows, n) => bail!("synth pair: {rows} features of {n} images"),
    }
}

/// Loss and diagnostics over the pairs of all branches.
fn mean_of(passes: Vec<(f64, PairDiagnostics)>) -> Option<(f64, PairDiagnostics)> {
    let share = 1. / passes.len() as f64;
    let mut sum: Option<(f64, PairDiagnostics)> = None;
    for (loss, of) in passes {
        let (loss, of) = (loss * share, of.scaled(share));
        sum = Some(match sum {
            None => (loss, of),
            Some((before, all)) => (before + loss, all.plus(&of)),
        });
    }
    sum
}

/// L_R = mean over pixels and views of (d(h) - x)^2, back to the decoder's variables and to h.
fn reconstruct(decoder: &dyn Decoder, h: &Tensor, x: &Tensor) -> Result<Decoded> {
    let (images, tape) = decoder.forward_train(h, NormMode::Train)?;
    if images.dims() != x.dims() {
        bail!(
            "synth pair: the decoder made {:?}, expected {:?}",
            images.dims(),
            x.dims()
        );
    }
    let loss = (images.as_tensor() - x)?.sqr()?.mean_all()?;
    let leaves = loss.backward()?;
    let mut gradients = GradStore::default();
    let Some(at_features) = tape.backward(&leaves, &mut gradients)? else {
        bail!("synth pair: the decoder's tape returned no gradient of its input");
    };
    Ok(Decoded {
        images: images.as_tensor().detach(),
        loss: scalar(&loss)?,
        at_features,
        gradients,
    })
}
