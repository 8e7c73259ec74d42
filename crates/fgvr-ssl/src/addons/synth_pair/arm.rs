//! The arms of an experiment: the method and its controls.

use candle_core::Error;
use fgvr_perturb::{Control, MaskRule};

use crate::{PairOf, SynthPairConfig};

/// One arm of an equal-budget comparison. The claim of the method stands only if `full` beats both
/// `random-mask` and `recon-only` over several seeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Arm {
    /// The base objective alone.
    Base,
    /// Base and reconstruction, no pairs.
    ReconOnly,
    /// The method.
    #[default]
    Full,
    /// As many dimensions as the mask has, drawn at random.
    RandomMask,
    /// As many dimensions as the mask has, the most discriminative ones: should hurt.
    InvertedMask,
    /// All dimensions.
    AllMask,
    /// The variance criterion alone.
    VarianceOnly,
    /// The Grad-CAM criterion alone.
    CamOnly,
    /// Both images of the pair from the same features: the pair task without any perturbation.
    NoiseFree,
    /// Pairs without an augmentation of their own.
    UnaugmentedPair,
    /// Pairs of features instead of images, without a decoder: whether it is worth its cost.
    FeatureTwin,
}

fgvr_nn::named!(Arm, "Its name in configuration files and on the command line." {
    Base = "base",
    ReconOnly = "recon-only",
    Full = "full",
    RandomMask = "random-mask",
    InvertedMask = "inverted-mask",
    AllMask = "all-mask",
    VarianceOnly = "variance-only",
    CamOnly = "cam-only",
    NoiseFree = "noise-free",
    UnaugmentedPair = "unaugmented-pair",
    FeatureTwin = "feature-twin",
} else Error: |name: &str| {
    let known = Arm::ALL.map(Arm::name).join(", ");
    Error::msg(format!("arm: {name:?}, expected one of {known}"))
});

impl Arm {
    /// Sets the fields in which this arm differs from `full`; the others stay as they are.
    pub fn apply(self, cfg: &mut SynthPairConfig) {
        match self {
            Self::Base => (cfg.alpha, cfg.nu) = (0., 0.),
            Self::ReconOnly => cfg.nu = 0.,
            Self::Full => {}
            Self::RandomMask => cfg.mask.control = Control::Random,
            Self::InvertedMask => cfg.mask.control = Control::Inverted,
            Self::AllMask => cfg.mask.rule = MaskRule::All,
            Self::VarianceOnly => cfg.mask.rule = MaskRule::Variance,
            Self::CamOnly => cfg.mask.rule = MaskRule::Importance,
            // An empty mask, not noise of scale zero, which swap would ignore.
            Self::NoiseFree => cfg.mask.rule = MaskRule::None,
            Self::UnaugmentedPair => cfg.augment_pair = false,
            Self::FeatureTwin => (cfg.alpha, cfg.pair) = (0., PairOf::Features),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MethodConfig as _;

    #[test]
    fn every_arm_but_full_changes_the_configuration_in_its_own_way_and_keeps_it_valid() {
        let configs = Arm::ALL.map(|arm| {
            let mut cfg = SynthPairConfig::default();
            arm.apply(&mut cfg);
            cfg.validate().unwrap();
            cfg
        });
        for (i, a) in configs.iter().enumerate() {
            assert!(configs[..i].iter().all(|b| a != b), "{}", Arm::ALL[i]);
        }
        assert_eq!(configs[2], SynthPairConfig::default());
        for (arm, cfg) in Arm::ALL.into_iter().zip(&configs) {
            let decodes = !matches!(arm, Arm::Base | Arm::FeatureTwin);
            assert_eq!(cfg.uses_decoder(), decodes, "{arm}");
        }
    }

    #[test]
    fn names_are_read_back() {
        for arm in Arm::ALL {
            assert_eq!(arm.to_string().parse::<Arm>().unwrap(), arm);
        }
        let error = "ful".parse::<Arm>().unwrap_err().to_string();
        assert!(error.contains("random-mask"), "{error}");
    }
}
