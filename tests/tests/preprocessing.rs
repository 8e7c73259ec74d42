//! What weights report of preprocessing is what data applies.

#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests

use candle_core::{DType, Device, Tensor};
use fgvr_data::augment::{EvaluationView, Fit, Interpolation};
use fgvr_data::{Normalisation, load_photo, write_png};
use fgvr_encoder::weights::{Interpolation as OfWeights, Preprocessing, Resize};

fn view(preprocessing: &Preprocessing) -> EvaluationView {
    let shorter = match preprocessing.resize {
        Resize::ShorterSide(side) => Some(side),
        Resize::Exact => None,
    };
    let by = preprocessing.interpolation.to_string();
    EvaluationView::of_preprocessing(preprocessing.size, shorter, &by).unwrap()
}

#[test]
fn every_preprocessing_that_weights_may_report_makes_a_view() {
    let found = view(&Preprocessing::timm_vit());
    assert_eq!((found.size, found.fit), (224, Fit::Crop(248)));
    assert_eq!(found.interpolation, Interpolation::Bicubic);
    for by in [
        OfWeights::Nearest,
        OfWeights::Bilinear,
        OfWeights::Bicubic,
        OfWeights::Box,
        OfWeights::Hamming,
        OfWeights::Lanczos,
    ] {
        let squashed = Preprocessing {
            resize: Resize::Exact,
            interpolation: by,
            ..Preprocessing::imagenet()
        };
        assert_eq!(view(&squashed).fit, Fit::Squash);
    }
}

#[test]
fn a_photo_comes_out_as_a_network_wants_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("photo.png");
    let white = Tensor::ones((3, 300, 260), DType::F32, &Device::Cpu).unwrap();
    write_png(&path, &white).unwrap();
    let preprocessing = Preprocessing::timm_vit();
    let norm = Normalisation {
        mean: preprocessing.mean,
        std: preprocessing.std,
    };
    let image = load_photo(&path, &view(&preprocessing), &norm).unwrap();
    assert_eq!(image.dims(), [1, 3, 224, 224]);
    // White is 1, less one half, over one half.
    let off = (image - 1.).unwrap().abs().unwrap().max_all().unwrap();
    assert!(off.to_scalar::<f32>().unwrap() < 1e-5);
}
