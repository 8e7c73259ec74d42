//! Views for evaluation against timm's and torchvision's through PIL, from the photograph's file on
//! (tests/golden/preprocess.py).

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use fgvr_data::augment::{EvaluationView, Interpolation};
use fgvr_data::{Image, Normalisation, decode};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn golden() -> HashMap<String, Tensor> {
    let path = folder().join("preprocess.safetensors");
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn photo(kind: &str) -> Image {
    let name = match kind {
        "wide" => "preprocess_wide.jpg",
        _ => "preprocess_tall.png",
    };
    decode(&folder().join(name), 1 << 20).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    let tensor = tensor.to_dtype(DType::F32).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Mean and largest of |a - b|.
fn off(a: &[f32], b: &[f32]) -> (f32, f32) {
    assert_eq!(a.len(), b.len());
    let off = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    let (sum, most) = off.fold((0., 0f32), |(sum, most), v| (sum + v, most.max(v)));
    (sum / a.len() as f32, most)
}

fn view(case: &str) -> (Image, EvaluationView) {
    let [kind, interpolation, size, crop_pct] =
        case.splitn(4, '.').collect::<Vec<_>>().try_into().unwrap();
    let interpolation = match interpolation {
        "bicubic" => Interpolation::Bicubic,
        _ => Interpolation::Bilinear,
    };
    let (size, crop_pct) = (size.parse().unwrap(), crop_pct.parse().unwrap());
    let view = EvaluationView::of_crop_pct(size, crop_pct, interpolation).unwrap();
    (photo(kind), view)
}

#[test]
fn views_are_timms_and_torchvisions_within_a_grey_level_on_average() {
    let mut seen = 0;
    for (case, expected) in golden() {
        if case == "normalised" {
            continue;
        }
        let (image, view) = view(&case);
        let found = view.apply(&image, &Normalisation::none());
        let found: Vec<f32> = found.iter().map(|v| v * 255.).collect();
        let (mean, most) = off(&found, &values(&expected));
        println!("{case}: {mean:.3} grey levels on average, {most:.2} at most");
        assert!(mean < 1., "{case}: {mean} grey levels on average");
        // A PNG has the same pixels on both sides. Left is that PIL rounds after each direction, and
        // cuts off there too what a cubic overshoots.
        if case.starts_with("tall") {
            let limit = if case.contains("bicubic") { 8. } else { 1.5 };
            assert!(mean < 0.4 && most < limit, "{case}: {mean}, at most {most}");
        }
        seen += 1;
    }
    assert_eq!(seen, 10);
}

#[test]
fn the_wrong_interpolation_is_further_away() {
    let golden = golden();
    let case = "tall.bicubic.64.0.9";
    let (image, right) = view(case);
    let wrong = EvaluationView {
        interpolation: Interpolation::Bilinear,
        ..right
    };
    let error = |view: EvaluationView| {
        let found = view.apply(&image, &Normalisation::none());
        let found: Vec<f32> = found.iter().map(|v| v * 255.).collect();
        off(&found, &values(&golden[case])).0
    };
    assert!(error(wrong) > 4. * error(right));
}

#[test]
fn the_normalised_view_is_timms() {
    let (image, view) = view("wide.bilinear.64.0.875");
    let found = view.apply(&image, &Normalisation::imagenet());
    let (mean, _) = off(&found, &values(&golden()["normalised"]));
    // A grey level is 1/255 divided by a standard deviation of about 0.225.
    assert!(mean < 1. / 255. / 0.225, "{mean}");
}
