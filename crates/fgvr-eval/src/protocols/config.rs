//! Which protocols are run, and how.

use std::fmt;
use std::str::FromStr;

use crate::{BootstrapConfig, Error, KMeansConfig, KnnConfig, ProbeConfig, RetrievalConfig};

pub(super) const OP: &str = "protocols";

/// A way to judge features by labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
#[non_exhaustive]
pub enum Protocol {
    /// Vote of the nearest training rows: with the `k` of the configuration, and with one chosen on validation rows.
    Knn,
    /// Logistic regression by L-BFGS, the penalty chosen on validation rows.
    Linear,
    /// A linear classifier by SGD, as papers of this field train it.
    Sgd,
    /// [`Linear`](Self::Linear) with a share of the training labels of each class.
    Labels,
    /// Retrieval of training rows by test rows.
    CrossRetrieval,
    /// Retrieval among the test rows.
    Retrieval,
    /// k-means of the test rows, beside their classes.
    Clusters,
    /// Training of the whole network with labels, which takes more than its features: [`judge`](crate::judge()) does not run
    /// it, and it is not among [`ALL`](Self::ALL). Its figures are made by [`Measure::of_hits`](crate::Measure::of_hits).
    FineTune,
}

impl Protocol {
    /// All on features, in the order in which they are run.
    pub const ALL: [Self; 7] = [
        Self::Knn,
        Self::Linear,
        Self::Sgd,
        Self::Labels,
        Self::CrossRetrieval,
        Self::Retrieval,
        Self::Clusters,
    ];

    /// Its name on a command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Knn => "knn",
            Self::Linear => "linear",
            Self::Sgd => "sgd",
            Self::Labels => "labels",
            Self::CrossRetrieval => "cross-retrieval",
            Self::Retrieval => "retrieval",
            Self::Clusters => "clusters",
            Self::FineTune => "fine-tune",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Protocol {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let found = Self::ALL
            .into_iter()
            .find(|protocol| protocol.name() == name);
        found.ok_or_else(|| Error::Config {
            op: OP,
            field: "protocol",
            value: name.to_owned(),
            expected: "knn, linear, sgd, labels, cross-retrieval, retrieval or clusters",
        })
    }
}

/// How each protocol is run.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
pub struct ProtocolConfig {
    /// Nearest neighbours.
    pub knn: KnnConfig,
    /// Numbers of neighbours that validation rows choose from. By default 1, 2, 5, 10, 20, 50, 100 and 200.
    pub neighbours: Vec<usize>,
    /// Logistic regression, with all labels and with a share of them.
    pub linear: ProbeConfig,
    /// The classifier by SGD. By default [`ProbeConfig::moco`], which LCR's evaluation follows.
    pub sgd: ProbeConfig,
    /// Shares of the labels. By default 1, 5, 10 and 50 %.
    pub fractions: Vec<f64>,
    /// How often what depends on a seed is repeated: SGD, which labels are kept, the starts of k-means. By default 5.
    pub seeds: u64,
    /// Retrieval.
    pub retrieval: RetrievalConfig,
    /// k-means.
    pub clusters: KMeansConfig,
    /// Intervals over classes.
    pub bootstrap: BootstrapConfig,
}

impl Default for ProtocolConfig {
    fn default() -> Self {
        Self {
            knn: KnnConfig::default(),
            neighbours: vec![1, 2, 5, 10, 20, 50, 100, 200],
            linear: ProbeConfig::default(),
            sgd: ProbeConfig::moco(),
            fractions: vec![0.01, 0.05, 0.1, 0.5],
            seeds: 5,
            retrieval: RetrievalConfig::default(),
            clusters: KMeansConfig::default(),
            bootstrap: BootstrapConfig::default(),
        }
    }
}

impl ProtocolConfig {
    /// An error that names the first field out of range; those of the parts are found where they are used.
    pub(super) fn check(&self) -> Result<(), Error> {
        let config = |field, value: String, expected| {
            Err(Error::Config {
                op: OP,
                field,
                value,
                expected,
            })
        };
        if self.seeds == 0 {
            return config("seeds", "0".to_owned(), "at least 1");
        }
        if self.neighbours.is_empty() || self.neighbours.contains(&0) {
            let value = format!("{:?}", self.neighbours);
            return config("neighbours", value, "numbers of at least 1");
        }
        let share = |fraction: &f64| *fraction > 0. && *fraction <= 1.;
        if !self.fractions.iter().all(share) {
            let value = format!("{:?}", self.fractions);
            return config("fractions", value, "values in (0, 1]");
        }
        Ok(())
    }
}
