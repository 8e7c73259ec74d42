//! What the labels of queries say of features, query by query, and the intervals of their means.

use fgvr_eval::{
    BootstrapConfig, Bootstrapped, Embeddings, KnnConfig, ProbeConfig, RetrievalConfig,
    class_bootstrap, cross_retrieval_ranks, knn_hits, linear_probe_hits,
};

use crate::Result;
use crate::compare_figure::CompareFigure;

/// What each query came to with one kind of features; a measure that was not asked for is empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    /// 1 where the nearest neighbours vote for the query's class, 0 elsewhere.
    knn: Vec<f64>,
    /// The average precision of the database for the query; none where the database has no image of its class.
    precision: Vec<Option<f64>>,
    /// 1 where the linear probe names the query's class, 0 elsewhere.
    probe: Vec<f64>,
}

/// Means over the queries, with intervals and the gain over the first row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Intervals {
    pub(crate) knn: Option<Bootstrapped>,
    pub(crate) map: Option<Bootstrapped>,
    pub(crate) probe: Option<Bootstrapped>,
}

impl Answers {
    /// The values by query of a measure: none where it was not asked for, or where a query has no answer.
    pub(crate) fn values(&self, figure: CompareFigure) -> Vec<Option<f64>> {
        match figure {
            CompareFigure::Knn => self.knn.iter().copied().map(Some).collect(),
            CompareFigure::Map => self.precision.clone(),
            CompareFigure::Linear => self.probe.iter().copied().map(Some).collect(),
        }
    }

    /// Average precision always, neighbours and probe where they are configured.
    ///
    /// # Errors
    /// Features that are not finite; a solver that fails.
    pub(crate) fn of(
        [database, queries]: [&Embeddings; 2],
        knn: Option<&KnnConfig>,
        linear: Option<&ProbeConfig>,
    ) -> Result<Self> {
        let ranked = cross_retrieval_ranks(database, queries, &RetrievalConfig::default())?;
        let precision = ranked
            .iter()
            .map(|found| found.map(|f| f.average_precision));
        let knn = knn.map(|config| knn_hits(database, queries, config));
        let linear = linear.map(|config| linear_probe_hits(database, queries, config));
        Ok(Self {
            knn: values(&knn.transpose()?.unwrap_or_default()),
            precision: precision.collect(),
            probe: values(
                &linear
                    .transpose()?
                    .map(|(_, hits)| hits)
                    .unwrap_or_default(),
            ),
        })
    }
}

fn values(hits: &[bool]) -> Vec<f64> {
    hits.iter().map(|hit| f64::from(u8::from(*hit))).collect()
}

/// The intervals of `rows`, all of the same queries of classes `labels`, over the same samples of classes. Gains are over the
/// first row that has the measure.
///
/// # Errors
/// A configuration out of range.
pub(crate) fn intervals(
    rows: &[Answers],
    labels: &[u32],
    config: &BootstrapConfig,
) -> Result<Vec<Intervals>> {
    let knn = measure(rows, labels, config, |row| {
        row.knn.iter().copied().map(Some)
    })?;
    let map = measure(rows, labels, config, |row| row.precision.iter().copied())?;
    let probe = measure(rows, labels, config, |row| {
        row.probe.iter().copied().map(Some)
    })?;
    let all = knn.into_iter().zip(map).zip(probe);
    Ok(all
        .map(|((knn, map), probe)| Intervals { knn, map, probe })
        .collect())
}

/// One measure of all rows: none for rows that lack it.
fn measure<'a, I: Iterator<Item = Option<f64>>>(
    rows: &'a [Answers],
    labels: &[u32],
    config: &BootstrapConfig,
    of: impl Fn(&'a Answers) -> I,
) -> Result<Vec<Option<Bootstrapped>>> {
    // Which queries have a value follows from the labels alone: the same in all rows.
    let values: Vec<Vec<f64>> = rows.iter().map(|row| of(row).flatten().collect()).collect();
    let first = rows.iter().find(|row| of(row).flatten().next().is_some());
    let asked: Vec<u32> = first.map_or_else(Vec::new, |row| {
        let asked = of(row).zip(labels).filter(|(value, _)| value.is_some());
        asked.map(|(_, label)| *label).collect()
    });
    let with: Vec<&[f64]> = values
        .iter()
        .filter(|values| !values.is_empty())
        .map(Vec::as_slice)
        .collect();
    let mut found = match with.is_empty() {
        true => Vec::new(),
        false => class_bootstrap(&with, &asked, config)?,
    }
    .into_iter();
    Ok(values
        .iter()
        .map(|values| match values.is_empty() {
            true => None,
            false => found.next(),
        })
        .collect())
}
