//! One training step of a base and whatever stands on it, up to the gradients.

use candle_core::{DType, Result, Tensor, bail};

use fgvr_nn::{Device, Map, ParameterGradients};

use crate::diagnostics::{Diagnostics, FeatureStatistics, PairDiagnostics};
use crate::info_nce::scalar;
use crate::on_device;
use crate::{Addon, AtFeatures, Base, Further, Pass, Views, supports};

/// The pair's own augmentation: images (N, 3, H, W), and 0 for x̂ or 1 for x̃ of the first view, 2 or 3
/// of the second.
pub type PairAugment<'a> = dyn Fn(&Tensor, u64) -> Result<Tensor> + 'a;

/// The same of images (N, H, W, 3) on a device.
pub type PairAugmentThere<'a> = dyn Fn(&Device, &Map, u64) -> Result<Map> + 'a;

/// One batch, and where in the run it stands.
#[derive(Clone, Copy)]
pub struct StepInput<'a> {
    /// Augmented, normalised views.
    pub views: Views<'a>,
    /// The index of each image in its set.
    pub images: &'a [u32],
    /// From 0.
    pub step: u64,
    /// Steps of the whole run, which the schedule refers to.
    pub total_steps: u64,
    /// Seed of masks, noise and roles.
    pub seed: u64,
    /// The pair's own augmentation, used if the configuration asks for it.
    pub augment: &'a PairAugment<'a>,
    /// The global views where they are on a device already, (N, H, W, 3) each: what a step that stays there takes, in
    /// place of sending them itself.
    pub views_there: Option<&'a [Map; 2]>,
    /// The pair's own augmentation of images on a device, in place of `augment`.
    pub augment_there: Option<&'a PairAugmentThere<'a>>,
    /// Whether to return [`Pictures`].
    pub pictures: bool,
}

/// A loss term of an add-on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Term {
    /// Its name in records.
    pub name: &'static str,
    /// What it is multiplied by in the total.
    pub weight: f64,
    /// Its value.
    pub loss: f64,
}

impl Term {
    /// A term by its parts.
    #[must_use]
    pub fn new(name: &'static str, weight: f64, loss: f64) -> Self {
        Self { name, weight, loss }
    }
}

/// The losses of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Losses {
    /// L_C.
    pub contrastive: f64,
    /// L_R, where the decoder ran.
    pub reconstruction: Option<f64>,
    /// L_Cp, where there was a pair.
    pub pair: Option<f64>,
    /// The terms of other add-ons.
    pub terms: Vec<Term>,
    /// L_C + α L_R + ν(t) L_Cp, and the other terms by their weights.
    pub total: f64,
}

/// What pictures of a step are made from: tensors of the batch, without a way back; those of the
/// first query branch where a base has two.
#[derive(Clone, Debug)]
pub struct Pictures {
    /// The images that the queries were made of (N, 3, H, W), normalised.
    pub x: Tensor,
    /// x̂, the decoder's image of the features.
    pub reconstruction: Option<Tensor>,
    /// x̃, its image of the perturbed features.
    pub perturbed: Option<Tensor>,
    /// Query and key image as the networks saw them, in this order.
    pub pair: Option<[Tensor; 2]>,
    /// The last feature map (N, C, h, w).
    pub map: Tensor,
    /// ∂L_C/∂h at its pooled features (N, C); the map's own gradient is this over h*w at each place.
    pub gradient: Tensor,
    /// The mask (N, C).
    pub mask: Option<Tensor>,
    /// Where add-ons look (N, h, w), each under its name; values of at least 0.
    pub maps: Vec<(&'static str, Tensor)>,
}

/// What a step says of itself, while it is put together.
pub struct Report {
    /// The losses.
    pub losses: Losses,
    /// Numbers to log.
    pub diagnostics: Diagnostics,
    /// Figures of add-ons to log, by name.
    pub figures: Vec<(&'static str, f64)>,
    /// Only when asked for.
    pub pictures: Option<Pictures>,
    /// Gradients of the decoder's variables, for L_R; `None` in arms without a decoder.
    pub decoder_gradients: Option<ParameterGradients>,
}

impl Report {
    /// The pair loss of each branch, which counts `nu` times in the mean.
    pub(crate) fn add_pair(&mut self, nu: f64, passes: Vec<(f64, PairDiagnostics)>) {
        if let Some((loss, diagnostics)) = PairDiagnostics::mean_of(passes) {
            self.losses.pair = Some(loss);
            self.losses.total += nu * loss;
            self.diagnostics.pair = Some(diagnostics);
        }
    }

    /// Adds a term to the total.
    pub fn add(&mut self, term: Term) {
        self.losses.total += term.weight * term.loss;
        self.losses.terms.push(term);
    }

    fn of(pass: &Pass, contrastive: f64, seen: &Tensor, input: &StepInput<'_>) -> Result<Self> {
        let Some(branch) = pass.branches.first() else {
            bail!("step: the base's pass has no query branch");
        };
        let pooled = branch.features.pooled.detach();
        let n = pooled.dim(0)?;
        let pictures = match input.pictures {
            true => Some(Pictures {
                x: seen.narrow(0, 0, n)?,
                reconstruction: None,
                perturbed: None,
                pair: None,
                map: branch.features.map.detach(),
                gradient: pooled.zeros_like()?,
                mask: None,
                maps: Vec::new(),
            }),
            false => None,
        };
        Ok(Self {
            losses: Losses {
                contrastive,
                reconstruction: None,
                pair: None,
                terms: Vec::new(),
                total: contrastive,
            },
            diagnostics: Diagnostics {
                top1: pass.top1,
                positive: pass.positive,
                negative: pass.negative,
                features: FeatureStatistics::of(&pooled)?,
                dead_fraction: None,
                pair_weight: 0.,
                pair: None,
            },
            figures: Vec::new(),
            pictures,
            decoder_gradients: None,
        })
    }
}

/// What a step computed; the caller's optimisers do the rest.
pub struct StepOutput {
    /// Gradients of the variables of the base (encoder and head) and of the add-ons, for all terms.
    pub gradients: ParameterGradients,
    /// Gradients of the decoder's variables, for L_R; `None` in arms without a decoder.
    pub decoder_gradients: Option<ParameterGradients>,
    /// The losses.
    pub losses: Losses,
    /// Projections of the first view (N, D), as [`crate::Pass::query`].
    pub query: Tensor,
    /// Numbers to log.
    pub diagnostics: Diagnostics,
    /// Figures of add-ons to log, by name.
    pub figures: Vec<(&'static str, f64)>,
    /// Only when asked for.
    pub pictures: Option<Pictures>,
}

/// One step of `base` with `addons`, in their order, up to the gradients. The caller then steps the
/// optimisers, and calls `after_step` of base and add-ons.
///
/// Where networks live on a device, and the base and all active add-ons have a form for it ([`Base::on_device`]), the
/// step stays there, and its numbers come back at its end.
///
/// 1. The views through the trunk, L_C back through the head as far as the trunk's outputs.
/// 2. Each add-on adds losses of the features there ([`Addon::at_features`]).
/// 3. The sum of all gradients at the features goes through the trunk once.
/// 4. Each add-on runs passes of its own ([`Addon::further_passes`]).
///
/// # Errors
/// Shapes that do not fit, and an active add-on that does not stand on this base.
pub fn step(
    base: &mut dyn Base,
    addons: &mut [&mut dyn Addon],
    input: StepInput<'_>,
) -> Result<StepOutput> {
    let mut trainable = base.trainable();
    for addon in addons.iter() {
        if let (true, Err(unsupported)) = (addon.is_active(), supports(base.kind(), addon.kind())) {
            bail!("{unsupported}");
        }
        trainable.extend(addon.trainable());
    }
    if stays_on_device(base, addons)
        && let Some(there) = base.on_device()
    {
        return on_device::step(there, addons, input);
    }
    let mut gradients = ParameterGradients::default();

    let real = base.real(input.views, input.images)?;
    let contrastive = scalar(&real.loss)?;
    let (seen, pooled) = (real.seen(input.views)?, real.pooled()?);
    let mut leaves = real.loss.backward()?;
    let gradient = real.pooled_gradient(&leaves)?;
    // A loss can be finite on features that are not.
    let finite = contrastive.is_finite() && all_finite(&gradient)? && all_finite(&real.key_pooled)?;
    let mut report = Report::of(&real, contrastive, &seen, &input)?;
    if let Some(pictures) = &mut report.pictures {
        pictures.gradient = gradient.narrow(0, 0, pictures.x.dim(0)?)?;
    }
    for addon in addons.iter_mut() {
        addon.at_features(&mut AtFeatures {
            base: &*base,
            input: &input,
            pass: &real,
            seen: &seen,
            pooled: &pooled,
            gradient: &gradient,
            finite,
            leaves: &mut leaves,
            report: &mut report,
        })?;
    }
    let query = real.query.clone();
    real.backward(leaves, &trainable, &mut gradients)?;
    for addon in addons.iter_mut() {
        addon.further_passes(&mut Further {
            base: &mut *base,
            input: &input,
            seen: &seen,
            trainable: &trainable,
            gradients: &mut gradients,
            report: &mut report,
        })?;
    }
    Ok(StepOutput {
        gradients,
        decoder_gradients: report.decoder_gradients,
        losses: report.losses,
        query,
        diagnostics: report.diagnostics,
        figures: report.figures,
        pictures: report.pictures,
    })
}

/// Whether [`step`] stays on the device where the networks live: the base and all active add-ons have a form for it,
/// those of add-ons for one query branch alone.
pub fn stays_on_device(base: &mut dyn Base, addons: &mut [&mut dyn Addon]) -> bool {
    let Some(branches) = base.on_device().map(|base| base.branches()) else {
        return false;
    };
    addons
        .iter_mut()
        .all(|addon| !addon.is_active() || (branches == 1 && addon.on_device().is_some()))
}

/// Whether every value is finite; squares in f64 cannot overflow where f32 values do not.
fn all_finite(tensor: &Tensor) -> Result<bool> {
    let squares = tensor.to_dtype(DType::F64)?.sqr()?.sum_all()?;
    Ok(squares.to_scalar::<f64>()?.is_finite())
}
