//! Whether training took a pretrained network below what it was.

use std::fmt;

use fgvr_data::Splits;
use fgvr_encoder::FrozenBackbone;
use serde::Serialize;

use crate::adapt::fresh_views;
use crate::config::PretrainConfig;
use crate::data::lacking_classes;
use crate::embed::{Embedded, Sight, embed};
use crate::evaluate::all;
use crate::{Error, Observer, Result};

/// What a trained network and its start are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ComparedBy {
    /// kNN from training to validation images.
    Knn,
    /// Without labels: how often the other view of a held-out image is found first among all of them.
    ViewsFound,
}

impl fmt::Display for ComparedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Knn => "kNN",
            Self::ViewsFound => "the share of views found first",
        })
    }
}

/// A trained network beside the pretrained one it started from, on images that training has not seen and that are no
/// test images.
#[derive(Clone, Debug, Serialize)]
pub struct AgainstStart {
    /// What is compared: a fraction in [0, 1].
    pub by: ComparedBy,
    /// That of the start.
    pub start: f64,
    /// That of the trained network.
    pub trained: f64,
    /// Images it is the figure of.
    pub images: usize,
    /// Whether the trained network has less than the start, by however little.
    pub is_below: bool,
    /// All of it in a line, for people.
    pub line: String,
}

impl AgainstStart {
    pub(crate) fn new(by: ComparedBy, [start, trained]: [f64; 2], images: usize) -> Self {
        let is_below = trained < start;
        let [of_start, of_trained] = [start, trained].map(|v| format!("{:.1}", 100. * v));
        let found = format!("{by} on {images} validation images is {of_trained} %");
        let line = match is_below {
            true => {
                format!("this run ended below its start: {found}, where the start has {of_start} %")
            }
            false => format!("not below its start: {found}, where the start has {of_start} %"),
        };
        Self {
            by,
            start,
            trained,
            images,
            is_below,
            line,
        }
    }

    /// Of a run that keeps both in folders of its own.
    fn of_run(by: ComparedBy, figures: [f64; 2], images: usize) -> Self {
        let mut of = Self::new(by, figures, images);
        if of.is_below {
            of.line += &format!("; `{OF_BETTER}/` holds the start, `{OF_WORSE}/` what was trained");
        }
        of
    }
}

/// The folder of a run with the weights to use: its own, or the start's where it ended below.
pub(crate) const OF_BETTER: &str = "export";
/// The folder with a run's own weights, of one that ended below its start.
pub(crate) const OF_WORSE: &str = "export-trained";

/// The start and the trained network, each with its features of the training images, in this order.
pub(crate) type Both<'a> = [(&'a FrozenBackbone, Option<&'a Embedded>); 2];

/// Both by kNN on the validation images; `None` where these have no labels, or classes that nothing is trained on.
///
/// # Errors
/// Features that are not finite.
pub(crate) fn by_knn(
    config: &PretrainConfig,
    both: Both<'_>,
    splits: &Splits,
) -> Result<Option<AgainstStart>> {
    let val = &splits.val;
    let has_labels = !val.is_empty() && val.label(0).is_some();
    if !has_labels || !lacking_classes(&splits.train, val).is_empty() {
        return Ok(None);
    }
    let sight = Sight::of(config);
    let mut found = Vec::new();
    let mut images = 0;
    for (encoder, train) in both {
        let of_val = embed(encoder, val, &all(val), &sight)?;
        let (Some(train), Some(of_val)) = (train, of_val) else {
            return Ok(None);
        };
        let (Some(train), Some(of_val)) = (train.embeddings()?, of_val.embeddings()?) else {
            return Ok(None);
        };
        images = of_val.labels.len();
        let nearest = fgvr_eval::knn(&train, &of_val, &config.evaluate.knn);
        found.push(nearest.map_err(Error::from)?.top1);
    }
    match found.as_slice() {
        [start, trained] => Ok(Some(AgainstStart::of_run(
            ComparedBy::Knn,
            [*start, *trained],
            images,
        ))),
        _ => Ok(None),
    }
}

/// Both by how often the other view of a validation image is found first; `None` with fewer images than the gate of an
/// adaptation asks for.
///
/// # Errors
/// Features that are not finite.
pub(crate) fn by_views(
    config: &PretrainConfig,
    both: [&FrozenBackbone; 2],
    splits: &Splits,
    observer: &mut dyn Observer,
) -> Result<Option<AgainstStart>> {
    let settings = &config.adapt;
    if splits.val.len() < settings.held_out_min.max(2) {
        return Ok(None);
    }
    let sight = Sight::of(config);
    let mut images = 0;
    let mut found = both.into_iter().map(|encoder| -> Result<f64> {
        let seen = fresh_views(encoder, &sight, &splits.val, settings, observer)?;
        images = seen.photos();
        let [first, ..] = seen.measure(None, &seen.plain, settings.agreement)?;
        Ok(first.iter().sum::<f64>() / first.len().max(1) as f64)
    });
    let (Some(start), Some(trained)) = (found.next().transpose()?, found.next().transpose()?)
    else {
        return Ok(None);
    };
    drop(found);
    let by = ComparedBy::ViewsFound;
    Ok(Some(AgainstStart::of_run(by, [start, trained], images)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_by_one_image_is_below_and_level_is_not() {
        let of = |start, trained| AgainstStart::of_run(ComparedBy::Knn, [start, trained], 200);
        let below = of(0.5, 0.495);
        assert!(below.is_below);
        for words in [
            "below its start",
            "49.5 %",
            "50.0 %",
            "200",
            "export-trained/",
        ] {
            assert!(below.line.contains(words), "{words}: {}", below.line);
        }
        let level = of(0.5, 0.5);
        assert!(!level.is_below && level.line.starts_with("not below"));
    }
}
