//! Self-supervised objectives for look-alikes: MoCo v2, SimSiam, BYOL, MoCo v3 and DINO, and add-ons over
//! them: pairs synthesised from perturbed features (SynthPair), the common rationale (LCR), local
//! discrimination (LoDisc), patch match and pretext tasks.
//!
//! A base objective implements [`Base`] and is one file and one line of the registry ([`BaseKind`]); an
//! add-on such as [`SynthPair`] stands on every base that [`supports`] it. Trunk and decoder come in
//! through fgvr-nn's `Encoder` and `Decoder`, so that this crate knows no architecture. On the CPU heads and
//! losses run on candle's autograd, trunks on fgvr-nn's tapes. Where networks live on a GPU, bases and add-ons
//! that have a form for it keep the whole step there ([`BaseOnDevice`], [`AddonOnDevice`]); otherwise heads and
//! losses run on the CPU.

mod addon;
mod addons;
mod arm;
mod base;
mod byol;
mod combination;
mod common_rationale;
mod config;
mod curriculum;
mod diagnostics;
mod dino;
mod dino_head;
mod head;
mod info_nce;
mod lodisc;
mod mlp;
mod moco_v2;
mod moco_v3;
mod momentum;
mod on_device;
mod patch_match;
mod pivotal;
mod pretext;
mod queue;
mod rationale;
mod recipe;
mod registry;
mod schedule;
mod screening;
mod shuffle;
mod siamese;
mod simsiam;
mod state;
mod step;
mod synth_pair;
mod trunk_norm;
mod views;

pub use addon::{Addon, AtFeatures, Further};
pub use addons::{AddonConfig, AddonKind, AddonParts, AddonSettings};
pub use arm::Arm;
pub use base::{Base, Between, Branch, Network, Pass};
pub use byol::{Byol, ByolConfig, ByolObjective};
pub use combination::{Unsupported, supports};
pub use common_rationale::{
    CommonRationale, CommonRationaleConfig, RationaleChoices, RationaleFit, RationaleForm,
    RationaleViews,
};
pub use config::{PairOf, Space, SynthPairConfig, Variance};
pub use curriculum::{Course, CurriculumConfig, mask_at};
pub use diagnostics::{Diagnostics, FeatureStatistics, PairDiagnostics};
pub use dino::{Dino, DinoConfig};
pub use head::{ProjectionHead, l2_normalise};
pub use info_nce::{InfoNce, Negatives, info_nce};
pub use lodisc::{LODISC_RECIPE, LoDisc, LoDiscConfig, Regions};
pub use mlp::{Activation, Mlp, MlpConfig};
pub use moco_v2::{MoCoConfig, MoCoV2};
pub use moco_v3::{MoCoV3, MoCoV3Config, MoCoV3Objective};
pub use momentum::{MomentumSchedule, RunningStatistics, momentum_update};
pub use on_device::{
    AddonOnDevice, AtFeaturesOnDevice, BaseOnDevice, BranchOnDevice, Comparison, FurtherOnDevice,
    PassOnDevice,
};
pub use patch_match::{PatchMatch, PatchMatchConfig};
pub use pivotal::{attention_product, masked, pivotal_count, pivotal_mask, random_mask};
pub use pretext::{Pretext, PretextConfig, PretextTask};
pub use queue::KeyQueue;
pub use rationale::{FitSoftmax, Reduction, Route, TargetScale};
pub use recipe::{LearningRate, LocalCrops, Optimizer, Recipe, Trunk, ViewRecipe};
pub use registry::{BaseConfig, BaseKind, BaseSettings, Parts};
pub use schedule::{RunLength, pair_weight};
pub use screening::{MapRange, Screening};
pub use shuffle::Shuffle;
pub use siamese::{Average, Objective, Siamese};
pub use simsiam::{SimSiam, SimSiamConfig, SimSiamObjective};
pub use step::{
    Losses, PairAugment, PairAugmentThere, Pictures, Report, StepInput, StepOutput, Term,
    stays_on_device, step,
};
pub use synth_pair::{SynthPair, SynthPairStep};
pub use trunk_norm::{NormedBy, TrunkNorm};
pub use views::Views;

/// The README's example, run as a test.
#[doc = include_str!("../README.md")]
#[cfg(doctest)]
pub struct ReadmeDoctests;
