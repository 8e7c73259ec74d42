//! Which protocols features are judged by beside the short table, and how.

use fgvr_eval::{KMeansConfig, ProbeConfig, Protocol, ProtocolConfig};
use serde::{Deserialize, Serialize};

use super::EvaluateSettings;

/// Protocols with intervals for each figure; `evaluate.knn` and `evaluate.linear` count here too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProtocolSettings {
    /// Which are run: `knn`, `linear`, `sgd`, `labels`, `cross-retrieval`, `retrieval`, `clusters`. By default none.
    pub run: Vec<Protocol>,
    /// Numbers of neighbours that validation images choose from.
    pub neighbours: Vec<usize>,
    /// The linear classifier by SGD.
    pub sgd: ProbeConfig,
    /// Shares of the training labels.
    pub fractions: Vec<f64>,
    /// How often what depends on a seed is repeated.
    pub seeds: u64,
    /// k-means.
    pub clusters: KMeansConfig,
}

impl Default for ProtocolSettings {
    fn default() -> Self {
        let ProtocolConfig {
            neighbours,
            sgd,
            fractions,
            seeds,
            clusters,
            ..
        } = ProtocolConfig::default();
        Self {
            run: Vec::new(),
            neighbours,
            sgd,
            fractions,
            seeds,
            clusters,
        }
    }
}

impl EvaluateSettings {
    /// How each protocol is run.
    pub(crate) fn protocol_config(&self) -> ProtocolConfig {
        let settings = &self.protocols;
        ProtocolConfig {
            knn: self.knn.clone(),
            linear: self.linear.clone(),
            neighbours: settings.neighbours.clone(),
            sgd: settings.sgd.clone(),
            fractions: settings.fractions.clone(),
            seeds: settings.seeds,
            clusters: settings.clusters.clone(),
            ..ProtocolConfig::default()
        }
    }
}
