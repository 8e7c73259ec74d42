//! What the bank keeps, and what it says of it.

#![cfg(feature = "candle")]
#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use fgvr_perturb::FeatureBank;

/// Row `i` of a stream of features of 300 channels, every seventh of them silent.
fn row(i: usize) -> Vec<f32> {
    (0..300)
        .map(|c| match c % 7 {
            0 => 0.,
            _ => (((i * 300 + c) as f32 * 12.9898).sin() * 43.).fract().abs() + c as f32,
        })
        .collect()
}

fn rows(range: std::ops::Range<usize>) -> Tensor {
    let n = range.len();
    let values: Vec<f32> = range.flat_map(row).collect();
    Tensor::from_vec(values, (n, 300), &Device::Cpu).unwrap()
}

fn values(tensor: candle_core::Result<Tensor>) -> Vec<f32> {
    tensor.unwrap().to_vec1().unwrap()
}

fn bits(bank: &FeatureBank) -> Vec<u32> {
    [bank.variance(), bank.std(), bank.mean()]
        .into_iter()
        .flat_map(values)
        .map(f32::to_bits)
        .collect()
}

/// Mean and variance by the definition, in f64, of `rows`.
fn by_definition(rows: &[Vec<f64>]) -> (Vec<f64>, Vec<f64>) {
    let n = rows.len() as f64;
    let mean: Vec<f64> = (0..300)
        .map(|c| rows.iter().map(|r| r[c]).sum::<f64>() / n)
        .collect();
    let variance = (0..300)
        .map(|c| rows.iter().map(|r| (r[c] - mean[c]).powi(2)).sum::<f64>() / n)
        .collect();
    (mean, variance)
}

#[test]
fn statistics_are_those_of_the_last_rows() {
    let mut bank = FeatureBank::new(20, 300, true).unwrap();
    for start in (0..54).step_by(9) {
        bank.push(&rows(start..start + 9)).unwrap();
    }
    assert_eq!(bank.len(), 20);
    let last: Vec<Vec<f64>> = (34..54)
        .map(|i| row(i).into_iter().map(f64::from).collect())
        .collect();
    let (mean, variance) = by_definition(&last);
    let unit: Vec<Vec<f64>> = last
        .iter()
        .map(|row| {
            let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
            row.iter().map(|v| v / norm).collect()
        })
        .collect();
    let (_, unit_variance) = by_definition(&unit);
    let (found_mean, found_std) = (values(bank.mean()), values(bank.std()));
    let found_variance = values(bank.variance());
    for c in 0..300 {
        let close = |a: f32, b: f64| (f64::from(a) - b).abs() <= 1e-6 * b.abs();
        assert!(close(found_mean[c], mean[c]), "mean {c}");
        assert!(close(found_std[c], variance[c].sqrt()), "std {c}");
        assert!(close(found_variance[c], unit_variance[c]), "variance {c}");
    }
    assert_eq!(bank.dead().unwrap(), 43. / 300.);
}

#[test]
fn without_normalising_the_variance_is_the_square_of_the_std() {
    let mut bank = FeatureBank::new(20, 300, false).unwrap();
    bank.push(&rows(0..11)).unwrap();
    for (variance, std) in values(bank.variance()).into_iter().zip(values(bank.std())) {
        assert!((variance - std * std).abs() <= 1e-6 * variance);
    }
}

#[test]
fn more_rows_than_the_capacity_leave_the_last_ones() {
    let (mut at_once, mut one_by_one) = (
        FeatureBank::new(4, 300, true).unwrap(),
        FeatureBank::new(4, 300, true).unwrap(),
    );
    at_once.push(&rows(0..11)).unwrap();
    (0..11).for_each(|i| one_by_one.push(&rows(i..i + 1)).unwrap());
    assert_eq!(bits(&at_once), bits(&one_by_one));
}

#[test]
fn a_restored_bank_goes_on_with_the_same_bits() {
    for before in [0, 5, 8, 13] {
        let mut whole = FeatureBank::new(8, 300, true).unwrap();
        if before > 0 {
            whole.push(&rows(0..before)).unwrap();
            whole.variance().unwrap(); // asking must not change anything
        }
        let folder = tempfile_path(before);
        let state: HashMap<String, Tensor> = whole.state().unwrap().into_iter().collect();
        candle_core::safetensors::save(&state, &folder).unwrap();
        let state = candle_core::safetensors::load(&folder, &Device::Cpu).unwrap();
        std::fs::remove_file(&folder).unwrap();
        let mut resumed = FeatureBank::new(8, 300, true).unwrap();
        resumed.load_state(&state).unwrap();
        for step in 0..4 {
            let next = rows(100 + 3 * step..103 + 3 * step);
            whole.push(&next).unwrap();
            resumed.push(&next).unwrap();
            assert_eq!(bits(&whole), bits(&resumed), "{before} rows, step {step}");
        }
    }
}

fn tempfile_path(tag: usize) -> std::path::PathBuf {
    let name = format!("fgvr-perturb-bank-{}-{tag}.safetensors", std::process::id());
    std::env::temp_dir().join(name)
}

#[test]
fn a_state_that_does_not_fit_changes_nothing() {
    let mut bank = FeatureBank::new(8, 300, true).unwrap();
    bank.push(&rows(0..3)).unwrap();
    let before = bits(&bank);
    let position = |p: i64| Tensor::new(&[p], &Device::Cpu).unwrap();
    let mut refused = |position: Option<Tensor>, features: Tensor| {
        let mut state = HashMap::from([("features".to_owned(), features)]);
        state.extend(position.map(|p| ("position".to_owned(), p)));
        let text = bank.load_state(&state).unwrap_err().to_string();
        assert_eq!(bits(&bank), before);
        text
    };
    assert!(refused(None, rows(0..3)).contains("position is missing"));
    assert!(refused(Some(position(2)), rows(0..3)).contains("position 2 does not fit 3 of 8 rows"));
    assert!(refused(Some(position(-1)), rows(0..8)).contains("position -1"));
    assert!(refused(Some(position(0)), rows(0..9)).contains("9 rows, expected at most 8"));
    let narrow = rows(0..3).narrow(1, 0, 2).unwrap();
    assert!(refused(Some(position(3)), narrow).contains("features is [3, 2], expected [3, 300]"));
}

#[test]
fn between_is_the_covariance_of_the_views_over_the_squared_mean() {
    let mut bank = FeatureBank::new(8, 3, true).unwrap();
    let first = Tensor::new(&[[1f32, 1., 0.], [3., 2., 0.]], &Device::Cpu).unwrap();
    let second = Tensor::new(&[[2f32, 2., 0.], [4., 1., 0.]], &Device::Cpu).unwrap();
    bank.push_pair(&first, &second).unwrap();
    // Channel 0: covariance 1, mean 2.5. Channel 1: covariance -0.25, mean 1.5. Channel 2 is silent.
    let between = values(bank.between());
    for (found, expected) in between.iter().zip([1. / 6.25, -0.25 / 2.25, 0.]) {
        assert!((found - expected).abs() < 1e-6);
    }
    let mut resumed = FeatureBank::new(8, 3, true).unwrap();
    resumed
        .load_state(&bank.state().unwrap().into_iter().collect())
        .unwrap();
    assert_eq!(values(resumed.between()), between);
    assert!(
        bank.push(&first)
            .unwrap_err()
            .to_string()
            .contains("holds pairs")
    );
}

#[test]
fn bad_rows_are_named_and_not_stored() {
    assert!(FeatureBank::new(0, 3, true).is_err());
    let mut bank = FeatureBank::new(8, 3, true).unwrap();
    assert!(
        bank.variance()
            .unwrap_err()
            .to_string()
            .contains("variance: the bank is empty")
    );
    let nan = Tensor::new(&[[1f32, 2., 3.], [1., f32::NAN, 3.]], &Device::Cpu).unwrap();
    let text = bank.push(&nan).unwrap_err().to_string();
    assert!(text.contains("pooled is NaN at row 1, channel 1"), "{text}");
    let wide = Tensor::ones((2, 4), DType::F32, &Device::Cpu).unwrap();
    let text = bank.push(&wide).unwrap_err().to_string();
    assert!(text.contains("pooled is [2, 4], expected [2, 3]"), "{text}");
    assert!(bank.is_empty());
    bank.push(&wide.narrow(1, 0, 3).unwrap()).unwrap();
    assert!(bank.between().unwrap_err().to_string().contains("no pairs"));
    let ones = wide.narrow(1, 0, 3).unwrap();
    assert!(
        bank.push_pair(&ones, &ones)
            .unwrap_err()
            .to_string()
            .contains("single views")
    );
}

#[test]
fn a_row_of_zeros_has_no_direction_and_no_nan() {
    let mut bank = FeatureBank::new(8, 3, true).unwrap();
    bank.push(&Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap())
        .unwrap();
    assert_eq!(values(bank.variance()), [0.; 3]);
    assert_eq!(bank.dead().unwrap(), 1.);
}
