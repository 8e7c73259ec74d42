//! SynthPair: pairs of images, generated from the original and the perturbed features, that the encoder
//! learns to tell apart no further than what discriminates.

use std::collections::{BTreeMap, HashMap};

use candle_core::backprop::GradStore;
use candle_core::{DType, Result, Tensor, bail};
use fgvr_gradcam::importance;
use fgvr_nn::{Decoder, NormMode};
use fgvr_perturb::{
    FeatureBank, MaskStats, RandomKey, non_discriminative_mask_with_stats, perturb,
};
use rand::Rng;

use crate::diagnostics::{Diagnostics, FeatureStatistics, PairDiagnostics};
use crate::info_nce::scalar;
use crate::shuffle::keyed_rng;
use crate::state::{prefixed, under};
use crate::step::{Losses, Pictures, StepInput, StepOutput};
use crate::{Addon, Base, Pass, SynthPairConfig, Variance, pair_weight, supports};

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

    /// One step, up to the gradients. The caller then steps the optimisers of the base and the decoder,
    /// and calls [`Base::after_step`].
    ///
    /// The pair waits until ν(t) > 0 and the bank holds its minimum. Where α = 0 and ν = 0 the decoder
    /// does not run, and the gradients are those of the base alone, bit for bit. A step whose L_C is not
    /// finite, or whose gradient at the features or key features are not, gets no pair and leaves the bank as
    /// it was; the losses and the gradient norm say so.
    ///
    /// # Errors
    /// Shapes that do not fit, a decoder whose tape returns no gradient of its input, and a base that does
    /// not support SynthPair, unless α = 0 and ν = 0.
    pub fn step(
        &mut self,
        base: &mut dyn Base,
        decoder: &dyn Decoder,
        input: StepInput<'_>,
    ) -> Result<StepOutput> {
        let cfg = &self.cfg;
        if let (true, Err(unsupported)) =
            (cfg.uses_decoder(), supports(base.kind(), Addon::SynthPair))
        {
            bail!("{unsupported}");
        }
        let nu = pair_weight(cfg, input.step, input.total_steps);
        let trainable = base.trainable();
        let mut gradients = GradStore::default();

        // 1. x1 through f, x2 through f_m: L_C.
        let real = base.real(input.views, input.images)?;
        let contrastive = scalar(&real.loss)?;
        let (x, h) = (real.seen(input.views)?, real.pooled()?);

        // 2. L_C back through the head, no further: ∂L_C/∂h.
        let mut leaves = real.loss.backward()?;
        let dh = real.pooled_gradient(&leaves)?;

        // 3. Importance from that very gradient, variance from the bank: the mask M, and h̃.
        // A loss can be finite on features that are not; then there is nothing to rank or to remember.
        let finite = contrastive.is_finite() && all_finite(&dh)? && all_finite(&real.key_pooled)?;
        let has_pair = nu > 0. && finite && self.bank.len() >= cfg.bank_minimum;
        let branches = if has_pair { rows(&h, &input)? } else { 0 };
        let masked = (0..branches).map(|branch| self.mask(&h, &dh, branch, &input));
        let masked = masked.collect::<Result<Vec<_>>>()?;

        // 4. d(h): L_R. Its gradient at h joins L_C's, then the trunk's tape runs once.
        let decodes = cfg.uses_decoder();
        let decoded = decodes.then(|| reconstruct(decoder, &h, &x)).transpose()?;
        let reaches = cfg.alpha > 0. && cfg.reconstruction_reaches_encoder;
        if let Some(decoded) = decoded.as_ref().filter(|_| reaches) {
            real.add_pooled_gradient(&mut leaves, &(&decoded.at_features * cfg.alpha)?)?;
        }
        let (seen, query) = (Seen::of(&real, &x, dh)?, real.query.clone());
        real.backward(leaves, &trainable, &mut gradients)?;

        // 5. x̂ = d(h) as it is, x̃ = d(h̃), both without a way back to the decoder; of each branch.
        // 6. x̂ through f, x̃ through f_m (or the other way round): L_Cp, on a tape of its own.
        let (mut pairs, mut passes) = (Vec::new(), Vec::new());
        if let Some(decoded) = &decoded {
            for (branch, masked) in masked.into_iter().enumerate() {
                let pair = self.pair(decoder, &decoded.images, masked, branch, &input)?;
                let generated = base.generated([&pair.query, &pair.key], input.images)?;
                let shown = x.narrow(0, branch * input.images.len(), input.images.len())?;
                passes.push((
                    scalar(&generated.loss)?,
                    pair.diagnostics(&shown, &generated)?,
                ));
                let leaves = (&generated.loss * (nu / branches as f64))?.backward()?;
                generated.backward(leaves, &trainable, &mut gradients)?;
                pairs.push(pair);
            }
        }
        let pair_pass = mean_of(passes);

        // 7. The bank; optimisers, moving average and queues are the caller's.
        if finite {
            self.remember(&seen)?;
        }

        let (pair_loss, pair_diagnostics) = pair_pass.unzip();
        let reconstruction = decoded.as_ref().map(|decoded| decoded.loss);
        Ok(StepOutput {
            gradients,
            losses: Losses::new(
                contrastive,
                (self.cfg.alpha, reconstruction),
                (nu, pair_loss),
            ),
            query,
            diagnostics: self.diagnostics(&seen, nu, pair_diagnostics)?,
            pictures: match input.pictures {
                true => Some(seen.pictures(decoded.as_ref(), pairs.into_iter().next())?),
                false => None,
            },
            decoder_gradients: decoded.map(|decoded| decoded.gradients),
        })
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
    fn remember(&mut self, seen: &Seen) -> Result<()> {
        match self.cfg.variance {
            Variance::Bank => self.bank.push(&seen.key_pooled),
            Variance::Between => self.bank.push_pair(&seen.key_pooled, &seen.pooled),
        }
    }

    fn diagnostics(
        &self,
        seen: &Seen,
        nu: f64,
        pair: Option<PairDiagnostics>,
    ) -> Result<Diagnostics> {
        Ok(Diagnostics {
            top1: seen.top1,
            positive: seen.positive,
            negative: seen.negative,
            features: FeatureStatistics::of(&seen.pooled)?,
            dead_fraction: match self.bank.is_empty() {
                true => None,
                false => Some(self.bank.dead()?),
            },
            pair_weight: nu,
            pair,
        })
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

/// Whether every value is finite; squares in f64 cannot overflow where f32 values do not.
fn all_finite(tensor: &Tensor) -> Result<bool> {
    let squares = tensor.to_dtype(DType::F64)?.sqr()?.sum_all()?;
    Ok(squares.to_scalar::<f64>()?.is_finite())
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

/// What remains of the real pass once its tapes have run; of the first branch where there are two.
struct Seen {
    x: Tensor,
    map: Tensor,
    pooled: Tensor,
    gradient: Tensor,
    key_pooled: Tensor,
    top1: f64,
    positive: f64,
    negative: Option<f64>,
}

impl Seen {
    fn of(pass: &Pass, x: &Tensor, gradient: Tensor) -> Result<Self> {
        let Some(branch) = pass.branches.first() else {
            bail!("synth pair: the base's pass has no query branch");
        };
        let pooled = branch.features.pooled.detach();
        Ok(Self {
            x: x.narrow(0, 0, pooled.dim(0)?)?,
            map: branch.features.map.detach(),
            gradient: gradient.narrow(0, 0, pooled.dim(0)?)?,
            pooled,
            key_pooled: pass.key_pooled.clone(),
            top1: pass.top1,
            positive: pass.positive,
            negative: pass.negative,
        })
    }

    fn pictures(self, decoded: Option<&Decoded>, pair: Option<Pair>) -> Result<Pictures> {
        let n = self.pooled.dim(0)?;
        let reconstruction = decoded.map(|decoded| decoded.images.narrow(0, 0, n));
        let mut pictures = Pictures {
            x: self.x,
            reconstruction: reconstruction.transpose()?,
            perturbed: None,
            pair: None,
            map: self.map,
            gradient: self.gradient,
            mask: None,
        };
        if let Some(pair) = pair {
            pictures.perturbed = Some(pair.perturbed);
            pictures.pair = Some([pair.query, pair.key]);
            pictures.mask = Some(pair.masked.mask);
        }
        Ok(pictures)
    }
}
