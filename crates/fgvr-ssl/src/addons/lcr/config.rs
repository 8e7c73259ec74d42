//! The choices of LCR, its forms, and their ranges.

use candle_core::{Result, bail};
use fgvr_gradcam::Sign;

use super::CommonRationale;
use super::rationale::{FitSoftmax, Reduction, Route, TargetScale};
use super::screening::MapRange;
use crate::{Addon, AddonConfig, AddonKind, AddonParts, MethodConfig, TrainedOn};

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

impl MethodConfig for CommonRationaleConfig {
    fn fits(&self, on: &TrainedOn<'_>) -> Result<()> {
        if !on.pools_places {
            bail!(
                "lcr: the gradient at the pooled features is shared out among the places of a map, and {} pools its class token; set encoder.pooling=patch-mean, take a ResNet, or take lcr out of addons",
                on.architecture
            );
        }
        if on.places() < 2 {
            bail!(
                "lcr: it chooses among places, and {} px (data.size) give a map of a single one; expected more than {}",
                on.side,
                on.stride
            );
        }
        Ok(())
    }

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
}

impl AddonConfig for CommonRationaleConfig {
    fn kind(&self) -> AddonKind {
        AddonKind::LCR
    }

    fn build(&self, parts: AddonParts<'_>) -> Result<Box<dyn Addon + Send>> {
        Ok(Box::new(CommonRationale::new(self, parts)?))
    }
}
