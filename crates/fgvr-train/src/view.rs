//! How images are made ready, in the words of weights and in those of data.

use fgvr_data::augment::{Fit, Interpolation};
use fgvr_encoder::weights::{self, Preprocessing, Resize};

use crate::config::PretrainConfig;

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

/// How the images of a run are seen, as an export says it.
#[must_use]
pub(crate) fn preprocessing(config: &PretrainConfig) -> Preprocessing {
    let view = config.evaluation_view();
    Preprocessing {
        size: [view.size; 2],
        resize: match view.fit {
            Fit::Crop(shorter) => Resize::ShorterSide(shorter.max(view.size)),
            Fit::Squash => Resize::Exact,
        },
        mean: config.normalisation.mean,
        std: config.normalisation.std,
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
