//! The training images that are taken for two of one kind: what `positives.*` asks for.

use std::collections::HashMap;
use std::fs;

use fgvr_data::{Companions, Dataset, Splits, companions_of, shuffled_pairs};
use fgvr_encoder::FrozenBackbone;

use crate::adapt::neighbour_pairs;
use crate::config::{PositiveKind, PretrainConfig};
use crate::{Error, Observer, Result, RunFolder};

/// The pairs in a run folder, by the names of the images.
const NAME: &str = "positives.csv";

/// Pairs of training images, ascending.
pub(crate) struct Positives {
    pairs: Vec<(u32, u32)>,
}

impl Positives {
    /// The pairs that `config` asks for, told by `encoder`, the network that training starts from, which is made only where it is asked; `None` where views are of
    /// the image itself. Labels choose nothing.
    ///
    /// # Errors
    /// Features that are not finite or all equal; [`Error::Stopped`] where the observer asked for it.
    pub(crate) fn find(
        config: &PretrainConfig,
        splits: &Splits,
        encoder: impl FnOnce() -> Result<FrozenBackbone>,
        observer: &mut dyn Observer,
    ) -> Result<Option<Self>> {
        if config.positives.kind == PositiveKind::Views {
            return Ok(None);
        }
        let pairs = neighbour_pairs(config, splits, &encoder()?, observer)?;
        if pairs.is_empty() {
            let problem = format!(
                "no two of {} training images are among each other's {} nearest; raise it",
                splits.train.len(),
                config.positives.k
            );
            return Err(Error::config("positives.k", problem));
        }
        let pairs = match config.positives.kind {
            PositiveKind::Random => shuffled_pairs(&pairs, splits.train.len(), config.seed),
            PositiveKind::Views | PositiveKind::Neighbours => pairs,
        };
        Ok(Some(Self { pairs }))
    }

    /// The pairs that an earlier part of the run wrote, of those images that are still there.
    ///
    /// # Errors
    /// A file that is missing or damaged.
    pub(crate) fn read(
        run: &RunFolder,
        config: &PretrainConfig,
        train: &dyn Dataset,
    ) -> Result<Option<Self>> {
        if config.positives.kind == PositiveKind::Views {
            return Ok(None);
        }
        let path = run.join(NAME);
        let text = fs::read(&path).map_err(Error::io(&path))?;
        let numbers: HashMap<String, u32> =
            (0..train.len()).map(|i| (train.id(i), i as u32)).collect();
        let mut pairs = Vec::new();
        for row in csv::Reader::from_reader(text.as_slice()).records() {
            let row = row.map_err(|e| Error::run(&path, e.to_string()))?;
            let [Some(a), Some(b)] = [0, 1].map(|at| row.get(at)) else {
                return Err(Error::run(
                    &path,
                    format!("expected two names, found {row:?}"),
                ));
            };
            if let (Some(a), Some(b)) = (numbers.get(a), numbers.get(b)) {
                pairs.push((*a.min(b), *a.max(b)));
            }
        }
        pairs.sort_unstable();
        Ok(Some(Self { pairs }))
    }

    /// Writes the pairs into the run folder.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(crate) fn keep(&self, run: &RunFolder, train: &dyn Dataset) -> Result<()> {
        let mut table = csv::Writer::from_writer(Vec::new());
        let wrong = |e: &dyn std::fmt::Display| Error::run(run.path(), format!("{NAME}: {e}"));
        table
            .write_record(["image", "other"])
            .map_err(|e| wrong(&e))?;
        for (a, b) in &self.pairs {
            let names = [*a, *b].map(|i| train.id(i as usize));
            table.write_record(names).map_err(|e| wrong(&e))?;
        }
        let table = table.into_inner().map_err(|e| wrong(&e))?;
        run.write(NAME, &table)
    }

    /// What was found, in a line; where there are labels, also how many pairs are of one class.
    pub(crate) fn line(&self, train: &dyn Dataset) -> String {
        let mut paired: Vec<u32> = self.pairs.iter().flat_map(|(a, b)| [*a, *b]).collect();
        paired.sort_unstable();
        paired.dedup();
        let mut line = format!(
            "positives: {} pairs; {} of {} training images are in one",
            self.pairs.len(),
            paired.len(),
            train.len()
        );
        let label = |i: &u32| train.label(*i as usize);
        let labels: Vec<_> = self
            .pairs
            .iter()
            .map(|(a, b)| (label(a), label(b)))
            .collect();
        if labels.iter().all(|(a, b)| a.is_some() && b.is_some()) {
            let same = labels.iter().filter(|(a, b)| a == b).count();
            line += &format!(
                "; {:.1} % of the pairs are of one class, which no choice depends on",
                100. * same as f64 / labels.len().max(1) as f64
            );
        }
        line
    }

    /// For a loader.
    ///
    /// # Errors
    /// None in practice.
    pub(crate) fn companions(&self, config: &PretrainConfig, images: usize) -> Result<Companions> {
        let share = config.positives.share;
        Ok(companions_of(&self.pairs, images, share, config.seed)?)
    }
}
