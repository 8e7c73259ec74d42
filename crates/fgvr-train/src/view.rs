//! What of an image a frozen network sees, in the words of weights and in those of data.

use fgvr_data::Normalisation;
use fgvr_data::augment::{EvaluationView, Fit, Interpolation};
use fgvr_encoder::weights::{self, Preprocessing, Resize};

use crate::config::PretrainConfig;

/// How evaluation looks at images.
#[derive(Clone, Debug)]
pub(crate) struct Sight {
    /// What of a photo, and how it is resized.
    pub(crate) view: EvaluationView,
    /// Images a forward pass.
    pub(crate) batch: usize,
    /// From pixel values to what the network is fed.
    pub(crate) normalisation: Normalisation,
}

impl Sight {
    /// As the settings say.
    #[must_use]
    pub(crate) fn of(config: &PretrainConfig) -> Self {
        Self {
            view: config.evaluation_view(),
            batch: config.evaluate.batch,
            normalisation: config.normalisation.clone(),
        }
    }
}

/// How `preprocessing` brings an image to a square of `size` pixels: the same part of it as at its own
/// size, rounded down as timm does.
#[must_use]
pub(crate) fn fit(preprocessing: &Preprocessing, size: usize) -> Fit {
    let [height, width] = preprocessing.size;
    match preprocessing.resize {
        Resize::Exact => Fit::Squash,
        Resize::ShorterSide(side) => Fit::Crop((size * side / height.min(width).max(1)).max(size)),
    }
}

/// How images are seen, in the words of weights.
#[must_use]
pub(crate) fn preprocessing(sight: &Sight) -> Preprocessing {
    let view = &sight.view;
    Preprocessing {
        size: [view.size; 2],
        resize: match view.fit {
            Fit::Crop(shorter) => Resize::ShorterSide(shorter.max(view.size)),
            Fit::Squash => Resize::Exact,
        },
        mean: sight.normalisation.mean,
        std: sight.normalisation.std,
        interpolation: match view.interpolation {
            Interpolation::Nearest => weights::Interpolation::Nearest,
            Interpolation::Bilinear => weights::Interpolation::Bilinear,
            Interpolation::Bicubic => weights::Interpolation::Bicubic,
            Interpolation::Box => weights::Interpolation::Box,
            Interpolation::Hamming => weights::Interpolation::Hamming,
            Interpolation::Lanczos => weights::Interpolation::Lanczos,
        },
    }
}
