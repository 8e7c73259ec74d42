//! One training step of a base and whatever stands on it, up to the gradients.

use std::cell::OnceCell;

use candle_core::{DType, Result, Tensor, bail};
use fgvr_nn::cuda::Array;
use fgvr_nn::cuda::ops::finite::all_finite;
use fgvr_nn::{Device, Map, ParameterGradients};

use crate::diagnostics::{Diagnostics, FeatureStatistics};
use crate::found::Numbers;
use crate::{
    Addon, AtFeatures, Base, FeatureGradients, Found, Further, Pass, Rows, Views, supports,
};

/// The pair's own augmentation: images (N, 3, H, W), and 0 for x̂ or 1 for x̃ of the first view, 2 or 3
/// of the second.
pub type PairAugment<'a> = dyn Fn(&Tensor, u64) -> Result<Tensor> + 'a;

/// The same of images (N, H, W, 3) on a device.
pub type PairAugmentOnDevice<'a> = dyn Fn(&Device, &Map, u64) -> Result<Map> + 'a;

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
}

/// The name of the base's own term.
pub(crate) const BASE: &str = "loss_base";

/// A term of the loss.
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
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Losses {
    /// L_C of the base, `loss_base`, and the terms of the add-ons in the order in which they were found.
    pub terms: Vec<Term>,
    /// The sum of the terms by their weights.
    pub total: f64,
}

impl Losses {
    /// The loss of the term called `name`, where there was one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        let term = self.terms.iter().find(|term| term.name == name);
        term.map(|term| term.loss)
    }

    /// L_C.
    #[must_use]
    pub fn base(&self) -> f64 {
        self.get(BASE).unwrap_or_default()
    }
}

/// What pictures of a step are made from: tensors of the batch, without a way back; those of the
/// first query branch where a base has two.
#[derive(Clone, Debug)]
pub struct Pictures {
    /// The images that the queries were made of (N, 3, H, W), normalised.
    pub x: Tensor,
    /// The last feature map (N, C, h, w).
    pub map: Tensor,
    /// ∂L_C/∂h at its pooled features (N, C); the map's own gradient is this over h*w at each place.
    pub gradient: Tensor,
    /// Where add-ons look (N, h, w), each under its name; values of at least 0.
    pub maps: Vec<(&'static str, Tensor)>,
    /// Which channels add-ons chose (N, C), each under its name.
    pub masks: Vec<(&'static str, Tensor)>,
    /// Images that add-ons made (N, 3, H, W), normalised, each under its name.
    pub images: Vec<(&'static str, Tensor)>,
    /// Sheets of those images, each under its name.
    pub sheets: Vec<(&'static str, &'static [Column])>,
}

/// A column of a sheet of pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// What stands above it.
    pub caption: &'static str,
    /// What it shows.
    pub shows: Shows,
}

/// What a column shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// The first view.
    View,
    /// The images of this name in [`Pictures::images`].
    Images(&'static str),
    /// Twice the difference of these two, around grey.
    Difference([&'static str; 2]),
}

impl Pictures {
    /// The images called `name`, where an add-on made them.
    #[must_use]
    pub fn images(&self, name: &str) -> Option<&Tensor> {
        let mut images = self.images.iter();
        Some(&images.find(|(known, _)| *known == name)?.1)
    }

    /// The mask called `name`, where an add-on chose channels.
    #[must_use]
    pub fn mask(&self, name: &str) -> Option<&Tensor> {
        let mut masks = self.masks.iter();
        Some(&masks.find(|(known, _)| *known == name)?.1)
    }
}

/// What a step says of itself, while it is put together.
pub struct Report {
    /// Whether L_C, its gradient and the features are finite, once that is known: in [`Addon::report`].
    pub finite: bool,
    /// The terms of the loss. The base's comes first, once the others are at hand.
    pub terms: Vec<Term>,
    /// Figures of add-ons to log, by name.
    pub figures: Vec<(&'static str, f64)>,
    /// Only when asked for.
    pub pictures: Option<Pictures>,
}

impl Report {
    /// Adds a term.
    pub fn add(&mut self, term: Term) {
        self.terms.push(term);
    }

    /// Of a pass whose numbers are still to come.
    fn of(pass: &Pass, gradient: &[Rows], pictures: bool) -> Result<Self> {
        let (Some(branch), Some(gradient)) = (pass.branches.first(), gradient.first()) else {
            bail!("step: the base's pass has no query branch");
        };
        let pictures = match pictures {
            true => Some(Pictures {
                x: branch.images.to_host()?,
                map: branch.map().to_host()?,
                gradient: gradient.to_host()?,
                maps: Vec::new(),
                masks: Vec::new(),
                images: Vec::new(),
                sheets: Vec::new(),
            }),
            false => None,
        };
        Ok(Self {
            finite: false,
            terms: Vec::new(),
            figures: Vec::new(),
            pictures,
        })
    }
}

/// Whether what a step's add-ons work with is finite.
pub(crate) struct Finite {
    found: Found,
    /// h, its gradient, the key features.
    rows: Vec<Rows>,
    answer: OnceCell<bool>,
    /// What a device says, which has been asked already.
    flag: Option<(Device, Array)>,
}

impl Finite {
    fn new(pass: &Pass, rows: [&[Rows]; 2]) -> Result<Self> {
        let mut rows = rows.concat();
        rows.push(pass.key_pooled.clone());
        let arrays = rows.iter().filter_map(|rows| match rows {
            Rows::Host(_) => None,
            Rows::Device(rows) => Some(&rows.array),
        });
        let arrays: Vec<_> = arrays.collect();
        let flag = match pass.device() {
            None => None,
            Some(device) => Some((device.clone(), device.run(|m| all_finite(m, &arrays))?)),
        };
        Ok(Self {
            found: pass.found.measured(),
            rows,
            answer: OnceCell::new(),
            flag,
        })
    }

    pub(crate) fn get(&self) -> Result<bool> {
        if let Some(answer) = self.answer.get() {
            return Ok(*answer);
        }
        // A loss can be finite on features that are not.
        let mut finite = self.found.numbers()?.loss.is_finite();
        if let Some((device, flag)) = &self.flag {
            finite &= device.run(|m| flag.to_u32(m))? == [1];
        }
        for rows in &self.rows {
            if let Rows::Host(rows) = rows {
                // Squares in f64 cannot overflow where f32 values do not.
                let squares = rows.to_dtype(DType::F64)?.sqr()?.sum_all()?;
                finite &= squares.to_scalar::<f64>()?.is_finite();
            }
        }
        Ok(*self.answer.get_or_init(|| finite))
    }
}

/// What a step computed; the caller's optimisers do the rest.
pub struct StepOutput {
    /// Gradients of the variables of the base (encoder and head) and of the add-ons, for all terms, and of those
    /// that [optimisers of add-ons' own](Addon::own_optimizer) step.
    pub gradients: ParameterGradients,
    /// The losses.
    pub losses: Losses,
    /// Projections of the first view (N, D), as [`crate::Pass::query`].
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
    report.terms.insert(0, Term::new(BASE, 1., loss));
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
