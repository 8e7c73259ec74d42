//! One training step of a base and whatever stands on it, up to the gradients.

pub(crate) mod diagnostics;
mod finite;
pub(crate) mod pass;
mod report;
mod run_length;
pub(crate) mod shuffle;
pub mod state;
pub(crate) mod values;
pub(crate) mod views;

use candle_core::{Result, Tensor, bail};
use fgvr_nn::{Activation, Device, ParameterGradients};

use self::report::BASE;
use crate::losses::found::Numbers;
use crate::{Addon, AtFeatures, Base, Further, supports};

pub use self::diagnostics::{Diagnostics, FeatureStatistics};
pub(crate) use self::finite::Finite;
pub use self::pass::{Branch, FeatureGradients, FeatureOutput, Pass};
pub use self::report::{Column, Losses, Pictures, Report, Shows, Term};
pub use self::run_length::RunLength;
pub use self::shuffle::Shuffle;
pub use self::values::{DeviceRows, Rows, Values};
pub use self::views::Views;

/// The pair's own augmentation: images (N, 3, H, W), and 0 for x̂ or 1 for x̃ of the first view, 2 or 3
/// of the second.
pub type PairAugment<'a> = dyn Fn(&Tensor, u64) -> Result<Tensor> + 'a;

/// The same of images (N, H, W, 3) on a device.
pub type PairAugmentOnDevice<'a> = dyn Fn(&Device, &Activation, u64) -> Result<Activation> + 'a;

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
    /// The pair's own augmentation of images on a device; without it they come to the host for `augment`.
    pub augment_on_device: Option<&'a PairAugmentOnDevice<'a>>,
    /// Whether to return [`Pictures`].
    pub pictures: bool,
    /// Weight of the base's own loss beside those of add-ons.
    pub base_weight: f64,
}

fn unchanged(images: &Tensor, _: u64) -> Result<Tensor> {
    Ok(images.clone())
}

impl<'a> StepInput<'a> {
    /// Views of `images`, at `step` of `total_steps`; with seed 0, pairs without an augmentation of their own, and no
    /// pictures.
    #[must_use]
    pub fn new(
        views: impl Into<Views<'a>>,
        images: &'a [u32],
        step: u64,
        total_steps: u64,
    ) -> Self {
        Self {
            views: views.into(),
            images,
            step,
            total_steps,
            seed: 0,
            augment: &unchanged,
            augment_on_device: None,
            pictures: false,
            base_weight: 1.,
        }
    }

    /// With this seed.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// With this augmentation of pairs.
    #[must_use]
    pub fn augment(self, augment: &'a PairAugment<'a>) -> Self {
        Self { augment, ..self }
    }

    /// With pictures.
    #[must_use]
    pub fn pictures(self) -> Self {
        Self {
            pictures: true,
            ..self
        }
    }
}

/// What a step computed; the caller's optimisers do the rest.
pub struct StepOutput {
    /// Gradients of the variables of the base (encoder and head) and of the add-ons, for all terms, and of those
    /// that [optimisers of add-ons' own](Addon::own_optimizer) step.
    pub gradients: ParameterGradients,
    /// The losses.
    pub losses: Losses,
    /// Projections of the first view (N, D).
    pub query: Tensor,
    /// Numbers of the base to log.
    pub diagnostics: Diagnostics,
    /// Figures of add-ons to log, by name.
    pub figures: Vec<(&'static str, f64)>,
    /// Only when asked for.
    pub pictures: Option<Pictures>,
}

/// One step of `base` with `addons`, in their order, up to the gradients. The caller then steps the
/// optimisers, and calls `after_step` of base and add-ons.
///
/// It runs where the base does ([`Base::device`]), but for add-ons that [run on the host](Addon::runs_on_host).
/// On a device everything is started before its numbers are waited for, unless an add-on asks whether they are finite.
///
/// 1. The views through the trunk, L_C back through the head as far as the trunk's outputs.
/// 2. Each add-on adds losses of the features there ([`Addon::at_features`]).
/// 3. The sum of all gradients at the features goes through the trunk once.
/// 4. Each add-on runs passes of its own ([`Addon::further_passes`]).
/// 5. The report is put together ([`Addon::report`]).
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
    let mut gradients = ParameterGradients::default();

    let mut real = base.real(input.views, input.images)?;
    let mut at_features = FeatureGradients::default();
    real.found.backward(1., &mut at_features)?;
    let (pooled, gradient) = (real.pooled()?, real.pooled_gradient(&at_features)?);
    if input.base_weight != 1. {
        // Not the loss: candle leaves out what is multiplied by 0, and nothing would arrive.
        at_features.scale(&trainable, input.base_weight)?;
    }
    let finite = Finite::new(&real, [&pooled, &gradient])?;
    let mut report = Report::of(&real, &gradient, input.pictures)?;
    for addon in addons.iter_mut() {
        addon.at_features(&mut AtFeatures {
            base: &*base,
            input: &input,
            pass: &real,
            pooled: &pooled,
            gradient: &gradient,
            finite: &finite,
            gradients: &mut at_features,
            report: &mut report,
        })?;
    }
    let query = real.query.clone();
    real.backward(at_features, &trainable, &mut gradients)?;
    for addon in addons.iter_mut() {
        addon.further_passes(&mut Further {
            base: &mut *base,
            input: &input,
            trainable: &trainable,
            gradients: &mut gradients,
            report: &mut report,
        })?;
    }

    // From here on a device is waited for.
    let features = FeatureStatistics::of(&pooled[0].to_host()?)?;
    report.finite = finite.get()?;
    let Numbers {
        loss,
        top1,
        positive,
        negative,
    } = finite.found.numbers()?;
    report
        .terms
        .insert(0, Term::new(BASE, input.base_weight, loss));
    for addon in addons.iter_mut() {
        addon.report(&mut report)?;
    }
    let weighted = report.terms.iter().map(|term| term.weight * term.loss);
    Ok(StepOutput {
        gradients,
        losses: Losses {
            total: weighted.sum(),
            terms: report.terms,
        },
        query: query.to_host()?,
        diagnostics: Diagnostics {
            top1,
            positive,
            negative,
            features,
        },
        figures: report.figures,
        pictures: report.pictures,
    })
}
