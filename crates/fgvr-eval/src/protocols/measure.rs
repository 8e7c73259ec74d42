//! A figure with what is known of its error.

use crate::{BootstrapConfig, Error, Interval, Protocol, class_bootstrap, half_width};

/// One figure of one protocol. Accuracies and precisions are fractions in [0, 1].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Measure {
    /// The protocol.
    pub protocol: Protocol,
    /// What is measured and how: `kNN, k = 5 (chosen on validation)`, `mAP, train to test`.
    pub name: String,
    /// The figure: over seeds, their mean.
    pub value: f64,
    /// The figure of each seed; one where nothing depends on a seed.
    pub seeds: Vec<f64>,
    /// Half the width of the 95 % interval of the mean over seeds, by Student's t: what another choice of seeds may change.
    pub over_seeds: Option<f64>,
    /// An interval over the classes of the test rows, by drawing them with replacement (for k-means by leaving out each): what
    /// other classes of the same kind may change.
    pub over_classes: Option<Interval>,
    /// The best accuracy on the test rows over epochs, as released scripts of this field report it. This is **selection
    /// on the test set**, for comparison with papers that do so; never a result.
    #[cfg_attr(
        feature = "serde",
        serde(skip_serializing_if = "Option::is_none", default)
    )]
    pub best_on_test: Option<f64>,
}

impl Measure {
    /// The mean of values by query, for each seed; none where a query has no answer. Intervals are over the classes `labels`
    /// of those queries that have one.
    pub(super) fn of_queries(
        protocol: Protocol,
        name: impl Into<String>,
        by_seed: &[Vec<Option<f64>>],
        labels: &[u32],
        cfg: &BootstrapConfig,
    ) -> Result<Self, Error> {
        let mut asked = Vec::new();
        let mut means = Vec::new();
        for (query, label) in labels.iter().enumerate() {
            let answers: Option<Vec<f64>> = by_seed.iter().map(|seed| seed[query]).collect();
            if let Some(answers) = answers {
                means.push(answers.iter().sum::<f64>() / answers.len() as f64);
                asked.push(*label);
            }
        }
        let interval = class_bootstrap(&[&means], &asked, cfg)?[0].value;
        let seeds = by_seed.iter().map(|answers| {
            let answers: Vec<f64> = answers.iter().flatten().copied().collect();
            answers.iter().sum::<f64>() / answers.len() as f64
        });
        Ok(Self::of_seeds(
            protocol,
            name,
            seeds.collect(),
            Some(interval),
        ))
    }

    /// The accuracy of classifiers of several seeds, one at least, from whether each names the class of each query, whose classes
    /// are `labels`.
    ///
    /// # Errors
    /// No seed, no query, hits and labels of different lengths, a configuration out of range.
    pub fn of_hits(
        protocol: Protocol,
        name: &str,
        by_seed: &[Vec<bool>],
        labels: &[u32],
        cfg: &BootstrapConfig,
    ) -> Result<Self, Error> {
        let op = "of_hits";
        if by_seed.is_empty() {
            let reason = "no seed".to_owned();
            return Err(Error::Nothing { op, reason });
        }
        if let Some(hits) = by_seed.iter().find(|hits| hits.len() != labels.len()) {
            return Err(Error::Labels {
                op,
                name: "hits",
                rows: hits.len(),
                labels: labels.len(),
            });
        }
        let value = |hit: &bool| Some(f64::from(u8::from(*hit)));
        let by_seed: Vec<Vec<Option<f64>>> = by_seed
            .iter()
            .map(|hits| hits.iter().map(value).collect())
            .collect();
        Self::of_queries(protocol, name, &by_seed, labels, cfg)
    }

    /// The mean over seeds, at least one.
    pub(super) fn of_seeds(
        protocol: Protocol,
        name: impl Into<String>,
        seeds: Vec<f64>,
        over_classes: Option<Interval>,
    ) -> Self {
        Self {
            protocol,
            name: name.into(),
            value: seeds.iter().sum::<f64>() / seeds.len() as f64,
            over_seeds: half_width(&seeds),
            seeds,
            over_classes,
            best_on_test: None,
        }
    }
}
