//! Self-supervised objectives for look-alikes: MoCo v2, SimSiam, BYOL, MoCo v3 and DINO, and add-ons over
//! them: pairs synthesised from perturbed features (SynthPair), the common rationale (LCR), local
//! discrimination (LoDisc), patch match and pretext tasks.
//!
//! A base objective implements [`Base`] and is one file and one line of the registry ([`BaseKind`]); an
//! add-on such as [`SynthPair`] stands on every base that [`supports`] it. Trunk and decoder come in
//! through fgvr-nn's `Encoder` and `Decoder`, so that this crate knows no architecture. Bases and add-ons are written
//! over [`Values`], which are on the host, where heads and losses are differentiated by candle's autograd, or on a GPU,
//! where kernels do it. Trunks run on fgvr-nn's tapes in both places.

mod addon;
mod addons;
mod arm;
mod base;
mod byol;
mod combination;
mod common_rationale;
mod compare;
mod config;
mod contrast;
mod curriculum;
mod diagnostics;
mod dino;
mod dino_head;
mod found;
mod head;
mod info_nce;
mod lodisc;
mod mlp;
mod moco_v2;
mod moco_v3;
mod momentum;
mod pass;
mod patch_match;
mod pivotal;
mod pretext;
mod projection;
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
mod values;
mod views;

pub use addon::{Addon, AtFeatures, Further, OwnOptimizer};
pub use addons::{AddonConfig, AddonKind, AddonParts, AddonSettings, DecoderNetwork, MakeDecoder};
pub use arm::Arm;
pub use base::{Base, Between, Network};
pub use byol::{Byol, ByolConfig, ByolObjective};
pub use combination::{Unsupported, supports};
pub use common_rationale::{
    CommonRationale, CommonRationaleConfig, RationaleChoices, RationaleFit, RationaleForm,
    RationaleViews,
};
pub use compare::Comparison;
pub use config::{PairOf, Space, SynthPairConfig, Variance};
pub use curriculum::{Course, CurriculumConfig, mask_at};
pub use diagnostics::{Diagnostics, FeatureStatistics};
pub use dino::{Dino, DinoConfig};
pub use found::{DeviceFound, Found, Numbers};
pub use head::{ProjectionHead, l2_normalise};
pub use info_nce::{InfoNce, Negatives, info_nce};
pub use lodisc::{LODISC_RECIPE, LoDisc, LoDiscConfig, Regions};
pub use mlp::{Activation, Mlp, MlpConfig};
pub use moco_v2::{MoCoConfig, MoCoV2};
pub use moco_v3::{MoCoV3, MoCoV3Config, MoCoV3Objective};
pub use momentum::{MomentumSchedule, RunningStatistics, momentum_update};
pub use pass::{Branch, FeatureGradients, FeatureOutput, Pass};
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
    Column, Losses, PairAugment, PairAugmentOnDevice, Pictures, Report, Shows, StepInput,
    StepOutput, Term, step,
};
pub use synth_pair::SynthPair;
pub use trunk_norm::{NormedBy, TrunkNorm};
pub use values::{DeviceRows, Rows, Values};
pub use views::Views;

/// The README's example, run as a test.
#[doc = include_str!("../README.md")]
#[cfg(doctest)]
pub struct ReadmeDoctests;
