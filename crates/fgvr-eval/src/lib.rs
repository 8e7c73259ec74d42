//! Linear probe, kNN and retrieval on anyone's embeddings.
//!
//! Bring (N, D) features and one label for each: no image code, no network, no trunk. Every result is
//! the same for any number of threads, ties are settled by index, and nothing is ever chosen on the
//! test set.
//!
//! Accuracies and precisions are fractions in [0, 1].

mod bootstrap;
mod cross;
mod effective_rank;
mod embeddings;
mod error;
mod hash;
mod hypersphere;
mod knn;
mod lbfgs;
mod logistic;
mod pairs;
mod part_hit;
mod probe;
mod probe_config;
mod ranking;
mod retrieval;
mod scaling;
mod selection;
mod sgd;
mod solver;

pub use bootstrap::{BootstrapConfig, Bootstrapped, Interval, class_bootstrap};
pub use cross::{CrossReport, cross_map};
pub use effective_rank::effective_rank;
pub use embeddings::{Embeddings, label_fraction};
pub use error::Error;
pub use hypersphere::{alignment, embedding_std, uniformity};
pub use knn::{KnnConfig, KnnReport, knn, knn_hits};
pub use pairs::{neighbour_agreement, pair_ranks};
pub use part_hit::{PartHit, part_hit};
pub use probe::{ProbeReport, linear_probe, linear_probe_hits};
pub use probe_config::ProbeConfig;
pub use retrieval::{RetrievalConfig, RetrievalReport, retrieval};
pub use scaling::Scaling;
pub use solver::{LbfgsConfig, Schedule, SgdConfig, Solver};

/// The README's example, run as a test.
#[doc = include_str!("../README.md")]
#[cfg(doctest)]
pub struct ReadmeDoctests;
