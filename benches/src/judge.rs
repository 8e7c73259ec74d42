//! Judging features: nearest neighbours, kNN and a logistic probe, on features by formula.

use std::hint::black_box;

use anyhow::{Context, Result, bail};
use fgvr_eval::{
    Embeddings, KnnConfig, LbfgsConfig, ProbeConfig, Scaling, Similarity, Solver, knn,
    linear_probe, slices,
};

use crate::case::Case;

/// How far the classes' centres are apart, in units of the noise's half width.
const APART: f32 = 0.25;
/// Weight decay of the probe.
const DECAY: f64 = 1e-3;

/// What is asked of which features.
pub(crate) enum Judge {
    /// The nearest other rows of each row.
    InSet {
        rows: Vec<f32>,
        width: usize,
        k: usize,
    },
    /// The nearest rows of a gallery.
    Gallery {
        queries: Vec<f32>,
        gallery: Vec<f32>,
        width: usize,
        k: usize,
    },
    /// The class by the votes of the nearest.
    Knn { train: Embeddings, test: Embeddings },
    /// Logistic regression with one penalty, from training to test rows.
    Probe { train: Embeddings, test: Embeddings },
}

impl Judge {
    /// `inside-12000x512-k200`, `gallery-1000000x384-q1000-k10`, `knn-6000x512-q2000-c100`, `probe-6000x512-q2000-c100`.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let parts: Vec<&str> = name.split('-').collect();
        let numbered = |prefix: char| {
            let found = parts
                .iter()
                .find_map(|part| part.strip_prefix(prefix)?.parse().ok());
            found.with_context(|| format!("`{name}` lacks {prefix} and a number"))
        };
        let size = parts.get(1).and_then(|size| {
            let (rows, width) = size.split_once('x')?;
            Some((rows.parse::<usize>().ok()?, width.parse::<usize>().ok()?))
        });
        let (rows, width) =
            size.with_context(|| format!("`{name}` lacks a size such as 6000x512"))?;
        let plain = |name: &str, rows: usize| -> Vec<f32> {
            let values = fgvr_testkit::formula::uniform_of(name, rows * width);
            values.into_iter().map(|value| value as f32).collect()
        };
        let labelled = |split: &str, rows: usize, classes: usize| -> Result<Embeddings> {
            let centres = plain("judge.centres", classes);
            let mut values = plain(&format!("judge.{split}"), rows);
            for (row, values) in values.chunks_exact_mut(width).enumerate() {
                let centre = &centres[row % classes * width..];
                values
                    .iter_mut()
                    .zip(centre)
                    .for_each(|(v, c)| *v += APART * c);
            }
            let labels = (0..rows).map(|row| (row % classes) as u32).collect();
            Ok(Embeddings::from_slice(&values, width, labels)?)
        };
        Ok(match parts.first().copied() {
            Some("inside") => Self::InSet {
                rows: plain("judge.train", rows),
                width,
                k: numbered('k')?,
            },
            Some("gallery") => Self::Gallery {
                queries: plain("judge.test", numbered('q')?),
                gallery: plain("judge.train", rows),
                width,
                k: numbered('k')?,
            },
            Some(which @ ("knn" | "probe")) => {
                let classes = numbered('c')?;
                let train = labelled("train", rows, classes)?;
                let test = labelled("test", numbered('q')?, classes)?;
                match which {
                    "knn" => Self::Knn { train, test },
                    _ => Self::Probe { train, test },
                }
            }
            _ => bail!("no case `judge/{name}`; it begins with inside, gallery, knn or probe"),
        })
    }
}

impl Case for Judge {
    fn images(&self) -> usize {
        match self {
            Self::InSet { rows, width, .. } => rows.len() / width,
            Self::Gallery { queries, width, .. } => queries.len() / width,
            Self::Knn { test, .. } | Self::Probe { test, .. } => test.labels.len(),
        }
    }

    /// Those of the products of all pairs.
    fn operations(&self) -> Option<f64> {
        match self {
            Self::InSet { rows, width, .. } => {
                Some(2. * rows.len() as f64 * (rows.len() / width) as f64)
            }
            Self::Gallery {
                queries,
                gallery,
                width,
                ..
            } => Some(2. * queries.len() as f64 * (gallery.len() / width) as f64),
            Self::Knn { .. } | Self::Probe { .. } => None,
        }
    }

    fn step(&mut self) -> Result<()> {
        match self {
            Self::InSet { rows, width, k } => {
                black_box(slices::nearest_in_set(
                    rows,
                    *width,
                    *k,
                    Similarity::Cosine,
                )?);
            }
            Self::Gallery {
                queries,
                gallery,
                width,
                k,
            } => {
                black_box(slices::nearest(
                    queries,
                    gallery,
                    *width,
                    *k,
                    Similarity::Cosine,
                )?);
            }
            Self::Knn { train, test } => {
                black_box(knn(train, test, &KnnConfig::default())?);
            }
            Self::Probe { train, test } => {
                let solver = Solver::Lbfgs(LbfgsConfig {
                    iterations: 1000,
                    tolerance: 1e-4,
                });
                let cfg = ProbeConfig {
                    scaling: Scaling::None,
                    weight_decays: vec![DECAY],
                    solver,
                    ..ProbeConfig::default()
                };
                black_box(linear_probe(train, test, &cfg)?);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_read_from_their_names_and_run() {
        for (name, images) in [
            ("inside-60x8-k5", 60),
            ("gallery-60x8-q7-k3", 7),
            ("knn-60x8-q20-c4", 20),
            ("probe-60x8-q20-c4", 20),
        ] {
            let mut case = Judge::new(name).unwrap();
            assert_eq!(case.images(), images);
            case.step().unwrap();
        }
        for wrong in [
            "",
            "inside",
            "inside-60-k5",
            "inside-60x8",
            "fly-60x8-k5",
            "knn-60x8-q20",
        ] {
            assert!(Judge::new(wrong).is_err(), "{wrong}");
        }
    }
}
