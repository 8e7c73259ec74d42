//! Self-supervised objectives for look-alikes: MoCo v2, SimSiam, BYOL, MoCo v3, DINO and DIET, and add-ons over
//! them: pairs synthesised from perturbed features (SynthPair), the common rationale (LCR), local
//! discrimination (LoDisc), patch match and pretext tasks.
//!
//! A base objective implements [`Base`] and is one room and one line of the registry ([`BaseKind`]); an
//! add-on such as [`SynthPair`] stands on every base that [`supports`] it. Trunk and decoder come in
//! through fgvr-nn's `Encoder` and `Decoder`, so that this crate knows no architecture. Bases and add-ons are written
//! over [`Values`], which are on the host, where heads and losses are differentiated by candle's autograd, or on a GPU,
//! where kernels do it. Trunks run on fgvr-nn's tapes in both places.

mod addons;
mod bases;
mod losses;
mod method;
mod residual;
mod step;

pub use addons::{
    Addon, AddonConfig, AddonKind, AddonParts, Along, Arm, AtFeatures, CommonRationale,
    CommonRationaleConfig, Course, CurriculumConfig, DecoderNetwork, Distil, DistilConfig,
    DistilForm, FitSoftmax, Further, LODISC_RECIPE, LoDisc, LoDiscConfig, LocalNegatives,
    MakeDecoder, MapRange, OwnOptimizer, PairGate, PairOf, PatchMatch, PatchMatchConfig, Pretext,
    PretextConfig, PretextTask, RationaleChoices, RationaleFit, RationaleForm, RationaleViews,
    Reduction, Regions, Route, Screening, Space, SynthPair, SynthPairConfig, TargetScale,
    Unsupported, Variance, addons, attention_product, feature_loss, gated_pair_weight, mask_at,
    masked, pair_weight, pivotal_count, pivotal_mask, random_mask, similarity_loss, supports,
};
pub use bases::{
    ActivationFunction, AnyEncoder, Average, Base, BaseConfig, BaseKind, Between, Byol, ByolConfig,
    ByolObjective, Diet, DietConfig, Dino, DinoConfig, KeyQueue, LearningRate, LocalCrops, Mlp,
    MlpConfig, MoCoConfig, MoCoV2, MoCoV3, MoCoV3Config, MoCoV3Objective, MomentumSchedule,
    Network, NormedBy, Objective, Optimizer, Parts, ProjectionHead, Recipe, Renumber,
    RunningStatistics, Siamese, SimSiam, SimSiamConfig, SimSiamObjective, TrainingSet, Trunk,
    TrunkNorm, ViewRecipe, bases, l2_normalise, momentum_update, smoothed_cross_entropy,
};
pub use losses::{Comparison, DeviceFound, Found, InfoNce, Negatives, Numbers, info_nce};
pub use method::{MethodConfig, TrainedOn};
pub use residual::{CachedViews, ResidualHead, ResidualHeadConfig};
pub use step::{
    Branch, Column, DeviceRows, Diagnostics, FeatureGradients, FeatureOutput, FeatureStatistics,
    Losses, PairAugment, PairAugmentOnDevice, Pass, Pictures, Report, Rows, RunLength, Shows,
    Shuffle, StepInput, StepOutput, Term, Values, Views, state, step,
};

/// The README's example, run as a test.
#[doc = include_str!("../README.md")]
#[cfg(doctest)]
pub struct ReadmeDoctests;
