//! Self-supervised objectives for look-alikes: MoCo v2, and pairs synthesised from perturbed features
//! (SynthPair).
//!
//! A base objective implements [`Base`] and is one file ([`MoCoV2`]); an add-on such as [`SynthPair`]
//! stands on any base. Trunk and decoder come in through fgvr-nn's `Encoder` and `Decoder`, so that this
//! crate knows no architecture. Heads and losses run on candle's autograd, trunks on fgvr-nn's tapes.

mod arm;
mod base;
mod config;
mod diagnostics;
mod head;
mod info_nce;
mod moco_v2;
mod momentum;
mod queue;
mod schedule;
mod shuffle;
mod state;
mod step;
mod synth_pair;

pub use arm::Arm;
pub use base::{Base, Branch, Pass};
pub use config::{SynthPairConfig, Variance};
pub use diagnostics::{Diagnostics, FeatureStatistics, PairDiagnostics};
pub use head::{ProjectionHead, l2_normalise};
pub use info_nce::{InfoNce, Negatives, info_nce};
pub use moco_v2::{MoCoConfig, MoCoV2, Network};
pub use momentum::{RunningStatistics, momentum_update};
pub use queue::KeyQueue;
pub use schedule::pair_weight;
pub use shuffle::Shuffle;
pub use step::{Losses, PairAugment, Pictures, StepInput, StepOutput};
pub use synth_pair::SynthPair;

/// The README's example, run as a test.
#[doc = include_str!("../README.md")]
#[cfg(doctest)]
pub struct ReadmeDoctests;
