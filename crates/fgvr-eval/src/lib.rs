#![doc = include_str!("../README.md")]

mod best;
mod bootstrap;
mod cross;
mod effective_rank;
mod embeddings;
mod error;
mod hash;
mod hypersphere;
mod k_means;
mod knn;
mod lbfgs;
mod logistic;
mod nearest;
mod pairs;
mod part_hit;
mod partition;
mod probe;
mod probe_config;
mod product;
mod ranking;
mod retrieval;
mod scaling;
mod selection;
mod sgd;
pub mod slices;
mod solver;

pub use bootstrap::{BootstrapConfig, Bootstrapped, Interval, class_bootstrap};
/// The release of candle whose tensors the functions take.
pub use candle_core;
pub use cross::{cross_retrieval, cross_retrieval_ranks};
pub use effective_rank::effective_rank;
pub use embeddings::{Embeddings, label_fraction};
pub use error::Error;
pub use hypersphere::{alignment, embedding_std, uniformity};
pub use k_means::{Clusters, KMeansConfig, k_means};
pub use knn::{KnnConfig, KnnPrediction, KnnReport, Neighbour, knn, knn_hits, knn_predictions};
pub use nearest::{Nearest, Similarity, nearest, nearest_in_set};
pub use pairs::{neighbour_agreement, pair_ranks};
pub use part_hit::{PartHit, part_hit};
pub use partition::{PartitionAgreement, partition_agreement};
pub use probe::{ProbeReport, linear_probe, linear_probe_hits};
pub use probe_config::ProbeConfig;
pub use retrieval::{Ranked, RetrievalConfig, RetrievalReport, retrieval, retrieval_ranks};
pub use scaling::Scaling;
pub use solver::{LbfgsConfig, Schedule, SgdConfig, Solver};
