//! The bases. A new one is a room of its own with a configuration that implements [`BaseConfig`], a line in
//! [`BaseKind`] and one in [`bases`]; of another crate it is the configuration alone.

pub(crate) mod base;
mod byol;
mod diet;
mod dino;
pub(crate) mod head;
pub(crate) mod kind;
pub(crate) mod mlp;
mod moco_v2;
mod moco_v3;
pub(crate) mod momentum;
pub(crate) mod projection;
pub(crate) mod recipe;
pub(crate) mod siamese;
mod simsiam;
mod trunk_norm;

use std::collections::HashMap;

use candle_core::{Result, Tensor, bail};
use fgvr_nn::Encoder;

use crate::{MethodConfig, RunLength};

pub use self::base::{Base, Between, Network};
pub use self::byol::{Byol, ByolConfig, ByolObjective};
pub use self::diet::{Diet, DietConfig, smoothed_cross_entropy};
pub use self::dino::{Dino, DinoConfig};
pub use self::head::{ProjectionHead, l2_normalise};
pub use self::kind::BaseKind;
pub use self::mlp::{ActivationFunction, Mlp, MlpConfig};
pub use self::moco_v2::{KeyQueue, MoCoConfig, MoCoV2};
pub use self::moco_v3::{MoCoV3, MoCoV3Config, MoCoV3Objective};
pub use self::momentum::{MomentumSchedule, RunningStatistics, momentum_update};
pub use self::recipe::{LearningRate, LocalCrops, Optimizer, Recipe, Trunk, ViewRecipe};
pub use self::siamese::{Average, Objective, Siamese};
pub use self::simsiam::{SimSiam, SimSiamConfig, SimSiamObjective};
pub use self::trunk_norm::{NormedBy, TrunkNorm};

/// An encoder of whatever architecture.
pub type AnyEncoder = Box<dyn Encoder + Send>;

/// What a base is built from.
pub struct Parts<'a, E = AnyEncoder> {
    /// Makes an encoder of the run's configuration over variables of its own. Called once for the online
    /// network, and once more by bases with a network that follows it.
    pub network: &'a mut dyn FnMut() -> Result<Network<E>>,
    /// Seed of the heads' initial values.
    pub seed: u64,
    /// How long the run is.
    pub run: RunLength,
}

/// The set that a base is trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainingSet {
    /// Its images.
    pub images: usize,
    /// Images a step.
    pub batch: usize,
    /// Seed of what the base draws while it is trained.
    pub seed: u64,
}

/// What an image of before is counted as now, in a set that changed; `None` for one that is gone.
pub type Renumber<'a> = dyn Fn(u32) -> Option<u32> + 'a;

/// The choices of a base, from which it is built.
pub trait BaseConfig: MethodConfig {
    /// Which base.
    fn kind(&self) -> BaseKind;

    /// The base.
    ///
    /// # Errors
    /// A configuration out of range, and encoders that do not fit each other.
    fn build(&self, parts: Parts<'_>) -> Result<Box<dyn Base>>;

    /// How it was published, on a trunk of this kind or the nearest one; `None` if it was not.
    fn recipe(&self, _trunk: Trunk) -> Option<Recipe> {
        None
    }

    /// Small crops that it is given with each pair of views.
    fn local_crops(&self) -> usize {
        0
    }

    /// Brings what depends on the set into line with it, and says what it is now where it was chosen otherwise, a line
    /// each.
    fn fit_to(&mut self, _set: TrainingSet) -> Vec<String> {
        Vec::new()
    }

    /// Makes queues and the like as long as those in a saved state, so that the state can be loaded whatever the set was.
    fn fit_to_state(&mut self, _state: &HashMap<String, Tensor>) {}

    /// Variables among [`Base::trainable`] that have a row for each training image; in a set that changed, an optimiser's
    /// arrays of them go the way of their rows in [`BaseConfig::renumber`].
    fn rows_of_images(&self) -> &'static [&'static str] {
        &[]
    }

    /// Brings a saved [`Base::state`] into line with a set that changed, and says what became of it, a line each.
    ///
    /// # Errors
    /// A state that is not of this base.
    fn renumber(
        &self,
        _state: &mut HashMap<String, Tensor>,
        _number: &Renumber<'_>,
    ) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

/// The choices of all bases of this crate, with their defaults.
#[must_use]
pub fn bases() -> Vec<Box<dyn BaseConfig>> {
    vec![
        Box::new(MoCoConfig::default()),
        Box::new(SimSiamConfig::default()),
        Box::new(ByolConfig::default()),
        Box::new(MoCoV3Config::default()),
        Box::new(DinoConfig::default()),
        Box::new(DietConfig::default()),
    ]
}

/// Refuses a size of zero.
pub(crate) fn sizes(base: &str, sizes: &[(&str, usize)]) -> Result<()> {
    match sizes.iter().find(|(_, size)| *size == 0) {
        Some((name, _)) => bail!("{base}: {name} is 0, expected at least 1"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_base_of_this_crate_has_its_choices() {
        let kinds: Vec<_> = bases().iter().map(|base| base.kind()).collect();
        assert_eq!(kinds, BaseKind::ALL);
        for base in bases() {
            base.validate().unwrap();
            let has_recipe = base.recipe(Trunk::ResNet).is_some();
            assert_eq!(has_recipe, base.kind() != BaseKind::DIET, "{}", base.kind());
        }
    }
}
