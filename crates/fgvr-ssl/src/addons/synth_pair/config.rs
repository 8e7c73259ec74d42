//! The choices of SynthPair.

use candle_core::{Result, bail};
use fgvr_gradcam::Importance;
use fgvr_perturb::{MaskConfig, NoiseConfig};

use super::{Along, SynthPair};
use crate::{
    Addon, AddonConfig, AddonKind, AddonParts, CurriculumConfig, MethodConfig, TrainedOn, Trunk,
};

/// Which variance of a channel counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Variance {
    /// Over the bank's features, each L2-normalised.
    #[default]
    Bank,
    /// Between images only: the covariance of the two views' features over the bank, in units of the
    /// channel's squared mean. Free of the channel's scale and of what augmentation changes.
    Between,
}

/// What the pair is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum PairOf {
    /// The decoder's images of h and of h̃, through the encoder again.
    #[default]
    Images,
    /// h and h̃ themselves: the base's heads bring p(h̃) close to p(h) ([`crate::Base::between`]). No
    /// decoder, no augmentation of the pair, no second pass of the trunk.
    Features,
}

/// What is perturbed and decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Space {
    /// The pooled features (N, C), as the paper's abstract has it.
    #[default]
    Vector,
    /// The last map (N, C, h, w), with the same mask of channels: the decoder sees where things are. Of
    /// trunks whose pooled features are the map's mean over places, since the mask is ranked on those.
    Map,
}

/// SynthPair's choices, each of which an ablation can turn.
///
/// # Design choice
/// The method section of the paper (arXiv:2407.14676) was not at hand. Its abstract fixes that low
/// variance and low Grad-CAM importance mark what does not discriminate, and that a decoder makes images
/// of the original and the perturbed feature vector; all values here are this project's.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default))]
pub struct SynthPairConfig {
    /// α: weight of the reconstruction loss in the encoder. The decoder's own gradient is that of L_R
    /// itself, whatever α is (and of λ times the perceptual loss).
    pub alpha: f64,
    /// ν: weight of the pair loss once the ramp is over.
    pub nu: f64,
    /// Fraction of all steps without a pair loss, in which the decoder warms up.
    pub warm_up: f64,
    /// Fraction of all steps over which the pair's weight then rises to ν.
    pub ramp: f64,
    /// Share of the kNN of real images that kNN of decoded ones must reach before the pair loss sets in; 0 is no gate. Until
    /// then ν(t) is 0, and from then on it rises over a ramp of its own, no faster than without a gate. Whoever trains
    /// measures the share, on validation images ([`Addon::gate`](crate::Addon::gate)).
    pub gate: f64,
    /// Steps between two measurements of the gate, while it is shut.
    pub gate_every: u64,
    /// Whether L_R's gradient reaches the encoder; otherwise the decoder learns from features held
    /// constant.
    pub reconstruction_reaches_encoder: bool,
    /// λ: weight, beside that of L_R, of the perceptual loss in the decoder: the mean squared difference of
    /// the encoder's last maps of the reconstruction and of the image. It trains the decoder alone, for
    /// images that say to the encoder what the originals do. 0 leaves it out; otherwise each step runs
    /// decoder and trunk once more, forth and back.
    pub perceptual: f64,
    /// Features kept for the variance.
    pub bank_size: usize,
    /// Features below which there is no mask, and so no pair loss.
    pub bank_minimum: usize,
    /// What is perturbed and decoded.
    pub space: Space,
    /// What the pair is made of.
    pub pair: PairOf,
    /// Whether the two generated images get their own augmentation each. Without it they share crop,
    /// colour and pose, and mean colour alone may solve the task.
    pub augment_pair: bool,
    /// Whether the roles of query and key are drawn at random each step.
    pub swap_roles: bool,
    /// How much a channel matters to the loss.
    pub importance: Importance,
    /// How much a channel varies.
    pub variance: Variance,
    /// Which channels count as non-discriminative.
    pub mask: MaskConfig,
    /// How the size of the mask changes in the course of the run.
    pub curriculum: CurriculumConfig,
    /// What noise is drawn along. Along anything but channels neither mask nor importance plays a part, `noise.scale` is in units
    /// of the nuisance, and of `noise` the scale and `non_negative` count alone.
    pub along: Along,
    /// How those are perturbed.
    pub noise: NoiseConfig,
}

impl Default for SynthPairConfig {
    fn default() -> Self {
        Self {
            alpha: 0.05,
            nu: 0.5,
            warm_up: 0.2,
            ramp: 0.05,
            gate: 0.,
            gate_every: 100,
            reconstruction_reaches_encoder: true,
            perceptual: 0.,
            bank_size: 4096,
            bank_minimum: 256,
            space: Space::Vector,
            pair: PairOf::Images,
            augment_pair: true,
            swap_roles: true,
            importance: Importance::GradientTimesFeature,
            variance: Variance::Bank,
            mask: MaskConfig::default(),
            curriculum: CurriculumConfig::default(),
            along: Along::Channels,
            noise: NoiseConfig::default(),
        }
    }
}

impl SynthPairConfig {
    /// Whether the bank holds two views of each image.
    #[must_use]
    pub fn keeps_pairs(&self) -> bool {
        self.variance == Variance::Between || self.along != Along::Channels
    }

    /// Whether any step needs the decoder.
    #[must_use]
    pub fn uses_decoder(&self) -> bool {
        self.alpha > 0. || (self.nu > 0. && self.pair == PairOf::Images)
    }
}

impl MethodConfig for SynthPairConfig {
    fn default_for(&mut self, trunk: Trunk, is_chosen: &dyn Fn(&str) -> bool) {
        // Features of a transformer have either sign.
        if trunk == Trunk::Vit && !is_chosen("noise.non_negative") {
            self.noise.non_negative = false;
        }
    }

    fn fits(&self, on: &TrainedOn<'_>) -> Result<()> {
        if self.space == Space::Map && !on.pools_places {
            bail!(
                "synth pair: space is map, and {} does not pool its map; set encoder.pooling=patch-mean or synthpair.space=vector",
                on.architecture
            );
        }
        Ok(())
    }

    fn validate(&self) -> Result<()> {
        for (name, weight) in [
            ("alpha", self.alpha),
            ("nu", self.nu),
            ("perceptual", self.perceptual),
            ("noise.scale", self.noise.scale),
        ] {
            if !(weight >= 0. && weight.is_finite()) {
                bail!("synth pair: {name} is {weight}, expected a number of at least 0");
            }
        }
        for (name, fraction) in [
            ("warm_up", self.warm_up),
            ("ramp", self.ramp),
            ("gate", self.gate),
            ("mask.rho_variance", self.mask.rho_variance),
            ("mask.rho_importance", self.mask.rho_importance),
        ] {
            if !(0. ..=1.).contains(&fraction) {
                bail!("synth pair: {name} is {fraction}, expected a number in [0, 1]");
            }
        }
        if self.gate_every == 0 {
            bail!("synth pair: gate_every is 0, expected at least 1");
        }
        if self.gate > 0. && self.pair == PairOf::Features {
            bail!(
                "synth pair: gate is {}, expected 0 with pair = features, which decodes no image",
                self.gate
            );
        }
        if self.pair == PairOf::Features && self.space == Space::Map {
            bail!(
                "synth pair: pair is features and space is map, but heads take pooled features; set space = vector or pair = images"
            );
        }
        if self.along != Along::Channels && self.space == Space::Map {
            bail!(
                "synth pair: along is not channels and space is map, but directions are those of pooled features; set space = vector"
            );
        }
        self.noise.validate()?;
        self.curriculum.validate(&self.mask)?;
        if self.bank_minimum < 2 || self.bank_size < self.bank_minimum {
            bail!(
                "synth pair: bank_minimum is {} and bank_size {}, expected 2 <= bank_minimum <= bank_size",
                self.bank_minimum,
                self.bank_size
            );
        }
        Ok(())
    }
}

impl AddonConfig for SynthPairConfig {
    fn kind(&self) -> AddonKind {
        AddonKind::SYNTH_PAIR
    }

    fn build(&self, parts: AddonParts<'_>) -> Result<Box<dyn Addon + Send>> {
        let decoder = parts.decoder.map(|make| make(self.space)).transpose()?;
        Ok(Box::new(SynthPair::new(self, parts.width, decoder)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_out_of_range_names_its_field() {
        let refused = |change: fn(&mut SynthPairConfig), field: &str| {
            let mut cfg = SynthPairConfig::default();
            cfg.validate().unwrap();
            change(&mut cfg);
            let error = cfg.validate().unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        };
        refused(|cfg| cfg.alpha = -0.1, "alpha");
        refused(|cfg| cfg.nu = f64::INFINITY, "nu");
        refused(|cfg| cfg.perceptual = -1., "perceptual");
        refused(|cfg| cfg.noise.scale = f64::NAN, "noise.scale");
        refused(|cfg| cfg.warm_up = 1.5, "warm_up");
        refused(|cfg| cfg.mask.rho_importance = -1., "rho_importance");
        refused(|cfg| cfg.bank_minimum = 5000, "bank_minimum");
        refused(|cfg| cfg.bank_minimum = 1, "bank_minimum");
        refused(|cfg| cfg.noise.min_change = -1., "min_change");
        let both = |cfg: &mut SynthPairConfig| {
            (cfg.pair, cfg.space) = (PairOf::Features, Space::Map);
        };
        refused(both, "space is map");
        refused(|cfg| cfg.gate = 1.5, "gate");
        refused(|cfg| cfg.gate_every = 0, "gate_every");
        let twin = |cfg: &mut SynthPairConfig| (cfg.gate, cfg.pair) = (0.7, PairOf::Features);
        refused(twin, "gate is 0.7");
    }
}
