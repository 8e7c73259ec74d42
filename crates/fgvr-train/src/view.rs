//! How images are made ready, in the words of weights and in those of data.

use fgvr_data::augment::{Fit, Interpolation};
use fgvr_encoder::weights::{self, Preprocessing, Resize};

use crate::embed::Sight;

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
