//! LCR: a screening map that learns where the base's loss looks, in common over images.

mod config;
mod fit;
mod rationale;
mod screening;

use candle_core::{DType, Device, Result, Tensor, bail};
use fgvr_nn::{NormMode, Parameters};

use self::rationale::figures;
use crate::{Addon, AddonKind, AddonParts, AtFeatures, Base, MethodConfig};

pub use self::config::{CommonRationaleConfig, RationaleChoices, RationaleForm, RationaleViews};
pub use self::fit::RationaleFit;
pub use self::rationale::{FitSoftmax, Reduction, Route, TargetScale};
pub use self::screening::{MapRange, Screening};

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
}

impl Addon for CommonRationale {
    fn kind(&self) -> AddonKind {
        AddonKind::LCR
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
