//! LCR: a screening map that learns where the base's loss looks, in common over images.

use candle_core::{DType, Device, Result, Tensor, bail};
use fgvr_gradcam::Sign;
use fgvr_nn::{NormMode, Parameters};

use crate::addons::{AddonConfig, AddonParts};
use crate::rationale::{FitSoftmax, Reduction, Route, TargetScale, divergence, figures, target};
use crate::screening::{MapRange, Screening};
use crate::{Addon, AddonKind, AtFeatures, Base};

/// Which form of LCR: what each choice is that is not made by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum RationaleForm {
    /// Every quantity on a scale of its own image.
    #[default]
    Corrected,
    /// As the released code has it over MoCo.
    ReleasedMoco,
    /// As the released code has it over BYOL.
    ReleasedByol,
}

/// Which of the base's query branches the map is fitted on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum RationaleViews {
    /// All that saw a whole view, each as a batch of its own; the loss is the mean over them.
    #[default]
    All,
    /// The first, as released.
    First,
}

/// Choices of [`CommonRationale`]. Those that are absent follow from [`CommonRationaleConfig::form`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default))]
pub struct CommonRationaleConfig {
    /// The form.
    pub form: RationaleForm,
    /// R, the channels of the screening branch.
    pub channels: usize,
    /// ν, the weight of the fit.
    pub weight: Option<f64>,
    /// Which branches of the base.
    pub views: Option<RationaleViews>,
    /// Which half of Grad-CAM is the target.
    pub sign: Option<Sign>,
    /// How the target is scaled.
    pub target: Option<TargetScale>,
    /// The range of the map while it is fitted.
    pub range: Option<MapRange>,
    /// The range of the map at inference.
    pub inference_range: Option<MapRange>,
    /// Over what the softmax runs.
    pub softmax: Option<FitSoftmax>,
    /// t, which both sides are divided by before the softmax.
    pub temperature: Option<f64>,
    /// How divergences become one number.
    pub reduction: Option<Reduction>,
    /// Where the gradient of the fit goes.
    pub route: Option<Route>,
}

impl Default for CommonRationaleConfig {
    fn default() -> Self {
        Self {
            form: RationaleForm::Corrected,
            channels: 32,
            weight: None,
            views: None,
            sign: None,
            target: None,
            range: None,
            inference_range: None,
            softmax: None,
            temperature: None,
            reduction: None,
            route: None,
        }
    }
}

/// All choices of the fit, made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RationaleChoices {
    /// ν.
    pub weight: f64,
    /// Which branches of the base.
    pub views: RationaleViews,
    /// Which half of Grad-CAM.
    pub sign: Sign,
    /// How the target is scaled.
    pub target: TargetScale,
    /// The range of the map while it is fitted.
    pub range: MapRange,
    /// The range of the map at inference.
    pub inference_range: MapRange,
    /// Over what the softmax runs.
    pub softmax: FitSoftmax,
    /// t.
    pub temperature: f64,
    /// How divergences become one number.
    pub reduction: Reduction,
    /// Where the gradient goes.
    pub route: Route,
}

impl RationaleForm {
    /// The choices of this form.
    #[must_use]
    pub fn choices(self) -> RationaleChoices {
        let released = RationaleChoices {
            weight: 0.01,
            views: RationaleViews::First,
            sign: Sign::RaisesLoss,
            target: TargetScale::Raw,
            range: MapRange::Batch,
            inference_range: MapRange::Batch,
            softmax: FitSoftmax::Rows,
            temperature: 1.,
            reduction: Reduction::Sum,
            route: Route::Released,
        };
        match self {
            Self::ReleasedMoco => released,
            Self::ReleasedByol => RationaleChoices {
                softmax: FitSoftmax::Flattened,
                temperature: 0.4,
                ..released
            },
            Self::Corrected => RationaleChoices {
                // The sum's 0.01 would be 1.28 of a mean at the released batch of 128, but the target is no
                // longer small: chosen on validation images (docs/results.md).
                weight: 0.1,
                views: RationaleViews::All,
                sign: Sign::LowersLoss,
                target: TargetScale::PerImage,
                range: MapRange::PerImage,
                inference_range: MapRange::PerImage,
                softmax: FitSoftmax::Flattened,
                temperature: 0.4,
                reduction: Reduction::Mean,
                route: Route::Released,
            },
        }
    }
}

impl CommonRationaleConfig {
    /// The choices of the form, and those made here instead.
    #[must_use]
    pub fn choices(&self) -> RationaleChoices {
        let form = self.form.choices();
        RationaleChoices {
            weight: self.weight.unwrap_or(form.weight),
            views: self.views.unwrap_or(form.views),
            sign: self.sign.unwrap_or(form.sign),
            target: self.target.unwrap_or(form.target),
            range: self.range.unwrap_or(form.range),
            inference_range: self.inference_range.unwrap_or(form.inference_range),
            softmax: self.softmax.unwrap_or(form.softmax),
            temperature: self.temperature.unwrap_or(form.temperature),
            reduction: self.reduction.unwrap_or(form.reduction),
            route: self.route.unwrap_or(form.route),
        }
    }
}

impl AddonConfig for CommonRationaleConfig {
    fn validate(&self) -> Result<()> {
        let RationaleChoices {
            weight,
            temperature,
            ..
        } = self.choices();
        if !(weight >= 0. && weight.is_finite()) {
            bail!("lcr: weight is {weight}, expected a number of at least 0");
        }
        if !(temperature > 0. && temperature.is_finite()) {
            bail!("lcr: temperature is {temperature}, expected a number above 0");
        }
        if self.channels == 0 {
            bail!("lcr: channels is 0, expected 1 or more");
        }
        Ok(())
    }

    fn build(&self, parts: AddonParts<'_>) -> Result<Box<dyn Addon + Send>> {
        Ok(Box::new(CommonRationale::new(self, parts)?))
    }
}

/// LCR, learning the common rationale (arXiv:2303.01669): a branch of little capacity is fitted to the
/// Grad-CAM of the base's own loss, and weighs places at inference.
///
/// ```text
/// A = range(max_r ReLU(BN(conv1x1(F)))_r)                     the screening map (N, h, w), `Screening`
/// G = ReLU(± Σ_c F_c ∂L_C/∂F_c)                               Grad-CAM of the base's loss
/// L = L_C + ν KL(softmax(G/t) ‖ softmax(A/t))
/// feature = normalise(mean over places of F·A)                at inference, `Screening::pool`
/// ```
///
/// The form is that of the released code, the paper's own equations not being at hand.
///
/// # Differs
/// The released code ([`RationaleForm::ReleasedMoco`], [`RationaleForm::ReleasedByol`]) scales the map over
/// the whole batch, so that the features of an image depend on the images beside it; leaves the target in
/// the scale of a batch mean's gradient, where its softmax is almost uniform; sums over the batch; and in
/// the MoCo path compares each row of places by itself. By default each is corrected: target and map in the
/// range of their own image, a softmax over all places at t = 0.4, the mean over images with a weight
/// of its own, and all branches of a symmetric base instead of the first.
///
/// # Design choice
/// The default target is what *lowers* the loss: the evidence that two views are of one image, as Grad-CAM
/// shows evidence for a class. The released code takes the gradient of the loss without a minus sign, and
/// so what raises it. Below a head that ignores the length of h both halves have the same sum
/// (Σ_c h_c ∂L_C/∂h_c = 0), and neither is a rescaled form of the other.
#[derive(Debug)]
pub struct CommonRationale {
    choices: RationaleChoices,
    screening: Screening,
    parameters: Parameters,
}

/// A fit of the screening map to its target.
#[derive(Clone, Debug)]
pub struct RationaleFit {
    /// The divergence, a scalar on candle's autograd.
    pub loss: Tensor,
    /// A (N, h, w).
    pub rationale: Tensor,
    /// G (N, h, w).
    pub target: Tensor,
}

impl CommonRationale {
    /// With these choices.
    ///
    /// # Errors
    /// A configuration out of range.
    pub fn new(cfg: &CommonRationaleConfig, parts: AddonParts<'_>) -> Result<Self> {
        cfg.validate()?;
        let choices = cfg.choices();
        let parameters = Parameters::new(parts.seed);
        let vb = parameters.builder(DType::F32, &Device::Cpu).pp("lcr");
        let ranges = [choices.range, choices.inference_range];
        Ok(Self {
            screening: Screening::new(parts.width, cfg.channels, ranges, vb)?,
            choices,
            parameters,
        })
    }

    /// Fits the screening map of a feature map (N, C, h, w) to the Grad-CAM of a loss whose gradient at
    /// the pooled features is `gradient` (N, C).
    ///
    /// # Errors
    /// Shapes that do not agree, and a map of a single place, where there is nothing to choose.
    pub fn fit(&self, map: &Tensor, gradient: &Tensor, norm: NormMode) -> Result<RationaleFit> {
        let c = &self.choices;
        let (_, _, h, w) = map.dims4()?;
        if h * w < 2 {
            bail!("lcr: the map has {h} x {w} places, expected two or more: take larger images");
        }
        let map = match c.route {
            Route::ReadOut => map.detach(),
            Route::Released | Route::ConstantTarget => map.clone(),
        };
        let rationale = self.screening.map(&map, norm)?;
        let target = match c.route {
            Route::Released => target(&map, gradient, c.sign, c.target)?,
            Route::ConstantTarget | Route::ReadOut => {
                target(&map.detach(), gradient, c.sign, c.target)?
            }
        };
        let loss = divergence(&target, &rationale, c.softmax, c.temperature, c.reduction)?;
        Ok(RationaleFit {
            loss,
            rationale: rationale.detach(),
            target: target.detach(),
        })
    }
}

impl Addon for CommonRationale {
    fn kind(&self) -> AddonKind {
        AddonKind::CommonRationale
    }

    fn is_active(&self) -> bool {
        self.choices.weight > 0.
    }

    fn at_features(&mut self, step: &mut AtFeatures<'_>) -> Result<()> {
        if !self.is_active() {
            return Ok(());
        }
        // What is not finite is to show in the loss, and to leave no trace in the running statistics.
        let norm = match step.is_finite()? {
            true => NormMode::Train,
            false => NormMode::NoUpdate,
        };
        let branches = match self.choices.views {
            RationaleViews::All => usize::MAX,
            RationaleViews::First => 1,
        };
        let mut fits = Vec::new();
        for (branch, gradient) in step.pass.global().zip(step.gradient).take(branches) {
            let map = &branch.leaves()?.map;
            fits.push(self.fit(map, &gradient.to_host()?, norm)?);
        }
        let Some(first) = fits.first() else {
            bail!("lcr: the base's pass has no branch that saw a whole view");
        };
        let names = ["lcr_entropy", "lcr_correlation"];
        let found = figures(&first.rationale, &first.target)?;
        let found = names.into_iter().zip(found);
        let found = found.filter_map(|(name, value)| Some((name, value?)));
        step.report.figures.extend(found);
        if let Some(pictures) = &mut step.report.pictures {
            let maps = [("rationale", &first.rationale), ("target", &first.target)];
            pictures
                .maps
                .extend(maps.map(|(name, map)| (name, map.clone())));
        }
        let losses: Vec<_> = fits.into_iter().map(|fit| fit.loss).collect();
        let loss = Tensor::stack(&losses, 0)?.mean_all()?;
        step.add_loss("loss_lcr", self.choices.weight, &loss)
    }

    fn parameters(&self) -> Option<&Parameters> {
        Some(&self.parameters)
    }

    fn map(
        &self,
        base: &dyn Base,
        images: &Tensor,
        _: &Tensor,
        _: &[u32],
    ) -> Result<Option<Tensor>> {
        let features = base.encoder().features(images, NormMode::Eval)?;
        Ok(Some(self.screening.map(&features.map, NormMode::Eval)?))
    }

    fn screening(&self) -> Option<&Screening> {
        Some(&self.screening)
    }
}
