//! All figures of some features by one set of rules: nothing is chosen on the test rows, and each figure has its error.

mod config;
mod measure;

use std::time::Instant;

pub use config::{Protocol, ProtocolConfig};
pub use measure::Measure;

use crate::embeddings::held_out_of;
use crate::{
    Embeddings, Error, KMeansConfig, KnnConfig, PartitionAgreement, ProbeConfig, Ranked,
    RetrievalReport, choose_neighbours, class_jackknife, cross_retrieval_ranks, k_means, knn_hits,
    label_fraction, linear_probe_hits, linear_probe_validated, partition_agreement,
    retrieval_ranks,
};

/// Features of the images that are learned from, chosen by and judged on.
#[derive(Clone, Copy, Debug)]
pub struct JudgeSets<'a> {
    /// What neighbours and classifiers learn from.
    pub train: &'a Embeddings,
    /// What choices are made by. Without it a share of `train` is held out for each choice, and a choice that this does not
    /// allow is an error.
    pub validation: Option<&'a Embeddings>,
    /// What is judged; it chooses nothing.
    pub test: &'a Embeddings,
}

/// The figures of some features.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Judged {
    /// The figures, protocol by protocol.
    pub measures: Vec<Measure>,
    /// Figures that the sets do not allow, each with the reason.
    pub left_out: Vec<String>,
    /// Seconds that each protocol took.
    pub seconds: Vec<(Protocol, f64)>,
}

/// Runs `protocols` on `sets`; `begun` hears of each as it begins.
///
/// # Errors
/// What [`Embeddings::new`] refuses, sets of different widths, a configuration out of range, an SGD that diverges. A figure
/// that the sets do not allow, such as a probe on one class, is left out with its reason and is no error.
pub fn judge(
    sets: JudgeSets<'_>,
    protocols: &[Protocol],
    cfg: &ProtocolConfig,
    mut begun: impl FnMut(Protocol),
) -> Result<Judged, Error> {
    cfg.check()?;
    let mut judged = Judged::default();
    for protocol in Protocol::ALL.into_iter().filter(|p| protocols.contains(p)) {
        begun(protocol);
        let start = Instant::now();
        let run = Run {
            sets,
            cfg,
            protocol,
            judged: &mut judged,
        };
        run.run()?;
        judged
            .seconds
            .push((protocol, start.elapsed().as_secs_f64()));
    }
    Ok(judged)
}

/// A figure's name and how it is found in what was counted.
type Figure<'a, T> = (&'a str, &'a (dyn Fn(&T) -> f64 + Sync));

/// One protocol on its way.
struct Run<'a> {
    sets: JudgeSets<'a>,
    cfg: &'a ProtocolConfig,
    protocol: Protocol,
    judged: &'a mut Judged,
}

impl Run<'_> {
    fn run(mut self) -> Result<(), Error> {
        match self.protocol {
            Protocol::Knn => self.knn(),
            Protocol::Linear => self.linear(),
            Protocol::Sgd => self.sgd(),
            Protocol::Labels => self.labels(),
            Protocol::CrossRetrieval => self.cross_retrieval(),
            Protocol::Retrieval => self.retrieval(),
            Protocol::Clusters => self.clusters(),
            // Not among those that are run.
            Protocol::FineTune => Ok(()),
        }
    }

    /// Keeps a figure, or the reason why there is none.
    fn keep(&mut self, name: &str, found: Result<Measure, Error>) -> Result<(), Error> {
        match found {
            Ok(measure) => self.judged.measures.push(measure),
            Err(reason @ (Error::OneClass { .. } | Error::Nothing { .. })) => {
                self.judged.left_out.push(format!("{name}: {reason}"));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn measure(&self, name: &str, by_seed: &[Vec<Option<f64>>]) -> Result<Measure, Error> {
        let labels = &self.sets.test.labels;
        Measure::of_queries(self.protocol, name, by_seed, labels, &self.cfg.bootstrap)
    }

    fn knn(&mut self) -> Result<(), Error> {
        let JudgeSets { train, test, .. } = self.sets;
        let given = self.cfg.knn.clone();
        let name = format!("kNN, k = {}", given.k);
        let found =
            knn_hits(train, test, &given).and_then(|hits| self.measure(&name, &[values(&hits)]));
        self.keep(&name, found)?;
        let mut name = "kNN, k chosen on validation".to_owned();
        let found = self.chosen_neighbours(&given).and_then(|chosen| {
            name = format!("kNN, k = {} chosen on validation", chosen.k);
            let hits = knn_hits(train, test, &chosen)?;
            self.measure(&name, &[values(&hits)])
        });
        self.keep(&name.clone(), found)
    }

    fn chosen_neighbours(&self, given: &KnnConfig) -> Result<KnnConfig, Error> {
        let JudgeSets {
            train, validation, ..
        } = self.sets;
        let held_out;
        let (kept, held_out) = match validation {
            Some(validation) => (train, validation),
            None => {
                let ProbeConfig {
                    val_fraction, seed, ..
                } = self.cfg.linear;
                held_out = held_out_of(train, val_fraction, seed)?;
                (&held_out[0], &held_out[1])
            }
        };
        let found = choose_neighbours(kept, held_out, &self.cfg.neighbours, given)?;
        Ok(found.config)
    }

    fn linear(&mut self) -> Result<(), Error> {
        let name = "linear probe";
        // With validation rows nothing depends on a seed; without, which rows are held out for the choice does.
        let seeds = match self.sets.validation {
            Some(_) => 1,
            None => self.cfg.seeds,
        };
        let found = self.probes(self.sets, name, seeds, &self.cfg.linear, |_| {
            Ok(self.sets.train.clone())
        });
        self.keep(name, found)
    }

    fn sgd(&mut self) -> Result<(), Error> {
        let name = "linear probe, SGD";
        let found = self.probes(self.sets, name, self.cfg.seeds, &self.cfg.sgd, |_| {
            Ok(self.sets.train.clone())
        });
        self.keep(name, found)
    }

    /// With a share of the labels. Where no validation rows are given, some training rows are held out for the choice of the
    /// penalty, since a few labels leave none to hold out, and the share is drawn from the others.
    fn labels(&mut self) -> Result<(), Error> {
        let JudgeSets {
            train, validation, ..
        } = self.sets;
        let ProbeConfig {
            val_fraction, seed, ..
        } = self.cfg.linear;
        let held_out;
        let (kept, validation) = match validation {
            Some(validation) => (train, validation),
            None => match held_out_of(train, val_fraction, seed) {
                Ok(parts) => {
                    held_out = parts;
                    (&held_out[0], &held_out[1])
                }
                Err(reason) => return self.keep("linear probe, a share of labels", Err(reason)),
            },
        };
        let more = train.labels.len() as f64 / kept.labels.len() as f64;
        for fraction in self.cfg.fractions.clone() {
            let part = |seed| label_fraction(kept, (fraction * more).min(1.), seed);
            let rows = part(0)?.labels.len();
            let name = format!(
                "linear probe, {} % of labels ({rows})",
                number(100. * fraction)
            );
            let sets = JudgeSets {
                validation: Some(validation),
                ..self.sets
            };
            let found = self.probes(sets, &name, self.cfg.seeds, &self.cfg.linear, part);
            self.keep(&name, found)?;
        }
        Ok(())
    }

    /// Probes of what `train` gives for each seed.
    fn probes(
        &self,
        sets: JudgeSets<'_>,
        name: &str,
        seeds: u64,
        cfg: &ProbeConfig,
        train: impl Fn(u64) -> Result<Embeddings, Error>,
    ) -> Result<Measure, Error> {
        let (mut by_seed, mut best) = (Vec::new(), Vec::new());
        for seed in 0..seeds {
            let seed = cfg.seed.wrapping_add(seed);
            let cfg = ProbeConfig {
                seed,
                ..cfg.clone()
            };
            let probed = probe(sets, &train(seed)?, &cfg)?;
            by_seed.push(probed.hits);
            best.extend(probed.best_on_test);
        }
        let mut measure = self.measure(name, &by_seed)?;
        if !best.is_empty() {
            measure.best_on_test = Some(best.iter().sum::<f64>() / best.len() as f64);
        }
        Ok(measure)
    }

    fn cross_retrieval(&mut self) -> Result<(), Error> {
        let JudgeSets { train, test, .. } = self.sets;
        let ranks = cross_retrieval_ranks(train, test, &self.cfg.retrieval)?;
        self.ranked("train to test", &ranks)
    }

    fn retrieval(&mut self) -> Result<(), Error> {
        let ranks = retrieval_ranks(self.sets.test, &self.cfg.retrieval)?;
        self.ranked("inside test", &ranks)
    }

    fn ranked(&mut self, where_: &str, ranks: &[Option<Ranked>]) -> Result<(), Error> {
        let within = |limit: usize| move |found: &Ranked| f64::from(u8::from(found.first <= limit));
        let figures: [Figure<'_, Ranked>; 6] = [
            ("rank-1", &within(1)),
            ("rank-5", &within(5)),
            ("rank-10", &within(10)),
            ("mAP", &|found| found.average_precision),
            ("MAP@R", &|found| found.at_r),
            ("R-precision", &|found| found.r_precision),
        ];
        if let Err(reason) = RetrievalReport::of(ranks) {
            self.judged
                .left_out
                .push(format!("retrieval {where_}: {reason}"));
            return Ok(());
        }
        for (name, figure) in figures {
            let values = ranks
                .iter()
                .map(|found| found.as_ref().map(figure))
                .collect();
            let name = format!("{name}, {where_}");
            let found = self.measure(&name, &[values]);
            self.keep(&name, found)?;
        }
        Ok(())
    }

    fn clusters(&mut self) -> Result<(), Error> {
        let test = self.sets.test;
        let figures: [Figure<'_, PartitionAgreement>; 3] = [
            ("NMI", &|found| found.nmi),
            ("ARI", &|found| found.ari),
            ("purity", &|found| found.purity),
        ];
        let mut groups = Vec::new();
        for seed in 0..self.cfg.seeds {
            let cfg = KMeansConfig {
                seed: self.cfg.clusters.seed.wrapping_add(seed),
                ..self.cfg.clusters.clone()
            };
            groups.push(k_means(test, &cfg)?.assignment);
        }
        for (name, figure) in figures {
            let of = |rows: &[usize], group: &[u32]| {
                let part = |of: &[u32]| rows.iter().map(|row| of[*row]).collect::<Vec<u32>>();
                Ok::<f64, Error>(figure(&partition_agreement(
                    &part(group),
                    &part(&test.labels),
                )?))
            };
            let all: Vec<usize> = (0..test.labels.len()).collect();
            let seeds: Result<Vec<f64>, Error> =
                groups.iter().map(|group| of(&all, group)).collect();
            let over_classes = class_jackknife(&test.labels, &self.cfg.bootstrap, |rows| {
                let figures: Result<Vec<f64>, Error> =
                    groups.iter().map(|group| of(rows, group)).collect();
                figures.map(|figures| figures.iter().sum::<f64>() / figures.len() as f64)
            })?;
            let name = format!("{name}, k-means of test");
            let measure = Measure::of_seeds(self.protocol, name, seeds?, over_classes);
            self.judged.measures.push(measure);
        }
        Ok(())
    }
}

/// What one classifier came to.
struct Probed {
    hits: Vec<Option<f64>>,
    best_on_test: Option<f64>,
}

/// Top-1 of each test row with a classifier of `train`.
fn probe(sets: JudgeSets<'_>, train: &Embeddings, cfg: &ProbeConfig) -> Result<Probed, Error> {
    let (report, hits) = match sets.validation {
        Some(validation) => linear_probe_validated(train, validation, sets.test, cfg)?,
        None => linear_probe_hits(train, sets.test, cfg)?,
    };
    Ok(Probed {
        hits: values(&hits),
        best_on_test: report.best_on_test,
    })
}

fn values(hits: &[bool]) -> Vec<Option<f64>> {
    let value = |hit: &bool| Some(f64::from(u8::from(*hit)));
    hits.iter().map(value).collect()
}

/// A percentage without digits that say nothing: 0.1, 1, 50.
fn number(percent: f64) -> String {
    format!("{}", (percent * 1e6).round() / 1e6)
}

#[cfg(test)]
mod tests;
