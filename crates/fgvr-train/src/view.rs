//! How images are made ready, in the words of weights and in those of data.

use fgvr_data::Normalisation;
use fgvr_data::augment::{EvaluationView, Fit, Interpolation};
use fgvr_encoder::weights::{self, Preprocessing, Resize};

use crate::config::PretrainConfig;
use crate::{Error, Result};

/// What evaluation sees of an image under someone's preprocessing, at another size if asked.
///
/// # Errors
/// A filter or a rectangle that evaluation does not have.
pub(crate) fn view(
    preprocessing: &Preprocessing,
    size: Option<usize>,
) -> Result<(EvaluationView, Normalisation)> {
    let [height, width] = preprocessing.size;
    let unknown = |what: String| {
        Err(Error::config(
            "preprocessing",
            format!(
                "the weights ask for {what}; set data.size and evaluate.interpolation yourself"
            ),
        ))
    };
    if height != width {
        return unknown(format!(
            "images of {height} x {width} px, and squares are known here"
        ));
    }
    let interpolation = match preprocessing.interpolation {
        weights::Interpolation::Bilinear => Interpolation::Bilinear,
        weights::Interpolation::Bicubic => Interpolation::Bicubic,
        other => {
            return unknown(format!(
                "{other} interpolation, and bilinear and bicubic are known"
            ));
        }
    };
    let size = size.unwrap_or(height);
    let fit = match preprocessing.resize {
        Resize::Exact => Fit::Squash,
        // At another size, the same part of the image.
        Resize::ShorterSide(side) => Fit::Crop((size * side / height).max(size)),
    };
    let view = EvaluationView {
        size,
        fit,
        interpolation,
    };
    let normalisation = Normalisation {
        mean: preprocessing.mean,
        std: preprocessing.std,
    };
    Ok((view, normalisation))
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
            Interpolation::Bilinear => weights::Interpolation::Bilinear,
            Interpolation::Bicubic => weights::Interpolation::Bicubic,
        },
    }
}
