//! How each base was trained by those who published it, as data that the presets of `fgvr-train` are tested
//! against.

use crate::MomentumSchedule;

/// The kind of trunk, on which some recipes depend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trunk {
    /// Residual networks.
    ResNet,
    /// Vision transformers.
    Vit,
}

/// An optimiser and its constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimizer {
    /// Gradient descent with momentum.
    Sgd {
        /// Share of the previous velocity that is kept.
        momentum: f64,
    },
    /// Layer-wise adaptive rates.
    Lars {
        /// Share of the previous velocity that is kept.
        momentum: f64,
        /// Length of a step as a share of the variable's.
        trust: f64,
    },
    /// Adam with decoupled weight decay.
    AdamW {
        /// Shares of the previous means that are kept.
        betas: [f64; 2],
    },
}

/// The learning rate's height and course. After the warm-up it falls along a cosine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LearningRate {
    /// The rate at a batch of 256 images; that of a batch of B is this times B/256.
    pub per_256: f64,
    /// Epochs over which it rises linearly from 0.
    pub warm_up_epochs: u64,
    /// Prefixes of variables that keep the rate they start with.
    pub constant: &'static [&'static str],
}

/// What a view is made with, apart from what all published pairs share: jitter with probability 0.8,
/// greys with 0.2, flips with 0.5.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ViewRecipe {
    /// Smallest and largest share of the image's area.
    pub crop_scale: [f64; 2],
    /// Strengths of brightness, contrast, saturation, hue.
    pub jitter: [f64; 4],
    /// Probability of a blur.
    pub blur: f64,
    /// Probability of solarisation.
    pub solarise: f64,
}

/// Small crops beside the two views.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LocalCrops {
    /// How many.
    pub count: usize,
    /// Their side, where that of a view is 224.
    pub side_at_224: usize,
    /// How they are made.
    pub view: ViewRecipe,
}

/// A published way to train a base on ImageNet. The sizes of heads are in the base's configuration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recipe {
    /// Where it stands, and what else it sets.
    pub source: &'static str,
    /// The optimiser.
    pub optimizer: Optimizer,
    /// Its learning rate.
    pub learning_rate: LearningRate,
    /// Weight decay at the first step and at the last, along a cosine between.
    pub weight_decay: [f64; 2],
    /// Whether norms and biases decay, too; LARS neither decays nor adapts them otherwise.
    pub decays_norm_and_bias: bool,
    /// m of the target's moving average, and its course; `None` without a target network.
    pub momentum: Option<(f64, MomentumSchedule)>,
    /// Epochs of the run.
    pub epochs: u64,
    /// Images a step.
    pub batch: usize,
    /// The two views.
    pub views: [ViewRecipe; 2],
    /// Small crops, for bases that are trained on them.
    pub local_crops: Option<LocalCrops>,
}

impl Recipe {
    /// The learning rate of a batch of `batch` images: the recipe's times batch/256.
    #[must_use]
    pub fn learning_rate_of(&self, batch: usize) -> f64 {
        self.learning_rate.per_256 * batch as f64 / 256.
    }

    /// Weight decay at `step` (from 0) of `steps`.
    #[must_use]
    pub fn weight_decay_at(&self, step: u64, steps: u64) -> f64 {
        let [start, end] = self.weight_decay;
        let done = (step as f64 / steps as f64).min(1.);
        start + (end - start) * (1. - (std::f64::consts::PI * done).cos()) / 2.
    }
}

const MOCO_V2_VIEW: ViewRecipe = ViewRecipe {
    crop_scale: [0.2, 1.],
    jitter: [0.4, 0.4, 0.4, 0.1],
    blur: 0.5,
    solarise: 0.,
};

const BYOL_FIRST: ViewRecipe = ViewRecipe {
    crop_scale: [0.08, 1.],
    jitter: [0.4, 0.4, 0.2, 0.1],
    blur: 1.,
    solarise: 0.,
};

/// Both views of MoCo v2 (arXiv:2003.04297), which are SimSiam's, too.
pub(crate) const MOCO_V2_VIEWS: [ViewRecipe; 2] = [MOCO_V2_VIEW, MOCO_V2_VIEW];

/// The two views of BYOL (arXiv:2006.07733, appendix B), which are MoCo v3's, too.
pub(crate) const BYOL_VIEWS: [ViewRecipe; 2] = with_crops([0.08, 1.]);

/// The same with the larger crops of MoCo v3's released ResNet runs.
pub(crate) const MOCO_V3_RESNET_VIEWS: [ViewRecipe; 2] = with_crops([0.2, 1.]);

/// BYOL's views with other crops.
pub(crate) const fn with_crops(crop_scale: [f64; 2]) -> [ViewRecipe; 2] {
    let first = ViewRecipe {
        crop_scale,
        ..BYOL_FIRST
    };
    let second = ViewRecipe {
        blur: 0.1,
        solarise: 0.2,
        ..first
    };
    [first, second]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bases::bases;
    use crate::{BaseConfig as _, BaseKind, DinoConfig};

    #[test]
    fn the_rate_grows_with_the_batch_and_the_decay_along_a_cosine() {
        let dino = DinoConfig::default().recipe(Trunk::Vit).unwrap();
        assert!((dino.learning_rate_of(1024) - 2e-3).abs() < 1e-12);
        assert_eq!(
            [dino.weight_decay_at(0, 10), dino.weight_decay_at(10, 10)],
            [0.04, 0.4]
        );
        assert!((dino.weight_decay_at(5, 10) - 0.22).abs() < 1e-12);
    }

    #[test]
    fn every_base_but_diet_has_a_recipe_for_both_trunks() {
        for base in bases() {
            let kind = base.kind();
            if kind == BaseKind::DIET {
                continue;
            }
            for trunk in [Trunk::ResNet, Trunk::Vit] {
                let recipe = base.recipe(trunk).unwrap();
                assert!(
                    recipe.learning_rate.per_256 > 0. && recipe.epochs > 0,
                    "{kind}"
                );
                assert_eq!(
                    recipe.momentum.is_none(),
                    kind == BaseKind::SIMSIAM,
                    "{kind}"
                );
                assert_eq!(
                    recipe.local_crops.is_some(),
                    kind == BaseKind::DINO,
                    "{kind}"
                );
            }
        }
    }
}
