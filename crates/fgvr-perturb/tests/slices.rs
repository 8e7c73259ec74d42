//! Plain values: the same bits as tensors, and what only they can get wrong.

#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests

use fgvr_perturb::slices::{FeatureBank, mask_overlap, non_discriminative_mask, perturb};
use fgvr_perturb::{Error, MaskConfig, MaskRule, Noise, NoiseConfig, RandomKey};

const N: usize = 4;
const C: usize = 12;
const KEY: RandomKey = RandomKey { seed: 5, step: 2 };
const IMAGES: [u32; N] = [9, 3, 40, 7];

/// Values in [0, 1) that look random.
fn pattern(count: usize, phase: f32) -> Vec<f32> {
    (0..count)
        .map(|i| ((i as f32 + 1.) * 12.9898 + phase).sin().abs() * 437.5 % 1.)
        .collect()
}

#[test]
fn a_rule_that_does_not_rank_by_importance_needs_none() {
    let (variance, importance) = (pattern(C, 0.3), pattern(N * C, 1.7));
    for rule in [
        MaskRule::Union,
        MaskRule::Intersection,
        MaskRule::Variance,
        MaskRule::Importance,
        MaskRule::All,
        MaskRule::None,
    ] {
        let cfg = MaskConfig {
            rule,
            ..MaskConfig::default()
        };
        let of = |importance| non_discriminative_mask(&variance, importance, &cfg, KEY, &IMAGES);
        match rule.needs_importance() {
            true => assert_eq!(of(None), Err(Error::NoImportance { rule })),
            false => assert_eq!(of(None), of(Some(&importance)), "{rule:?}"),
        }
        assert!(of(Some(&importance)).is_ok());
    }
}

#[test]
fn what_is_not_masked_keeps_its_bits() {
    let (variance, features) = (pattern(C, 0.3), pattern(N * C, 2.9));
    let cfg = MaskConfig {
        rule: MaskRule::Variance,
        ..MaskConfig::default()
    };
    let mask = non_discriminative_mask(&variance, None, &cfg, KEY, &IMAGES).unwrap();
    assert_eq!(mask.iter().filter(|m| **m).count(), N * 3);
    let moved = perturb(
        &features,
        &mask,
        &variance,
        &NoiseConfig::default(),
        KEY,
        &IMAGES,
    );
    let moved = moved.unwrap();
    for ((before, after), masked) in features.iter().zip(&moved).zip(&mask) {
        assert!(*masked || before.to_bits() == after.to_bits());
    }
    assert_ne!(features, moved);
    assert_eq!(mask_overlap(&mask, &mask), Ok(1.));
    assert_eq!(mask_overlap(&mask, &[false; N * C]), Ok(0.));
}

#[test]
fn lengths_that_do_not_fit_and_values_that_are_not_finite_are_named() {
    let (variance, importance) = (pattern(C, 0.3), pattern(N * C, 1.7));
    let cfg = MaskConfig::default();
    let text = |variance: &[f32], importance: &[f32], images: &[u32]| {
        non_discriminative_mask(variance, Some(importance), &cfg, KEY, images)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        text(&variance, &importance[1..], &IMAGES),
        "non_discriminative_mask: importance has 47 values, expected 4 images x 12 channels"
    );
    assert!(text(&[], &importance, &IMAGES).contains("variance has 0 values"));
    assert!(text(&variance, &[], &[]).contains("images has 0 values"));
    let mut holed = importance.clone();
    holed[C + 2] = f32::NAN;
    assert!(text(&variance, &holed, &IMAGES).contains("importance is NaN at row 1, channel 2"));

    let mask = vec![true; N * C];
    let noise = NoiseConfig::default();
    let text = |features: &[f32], mask: &[bool], scale: &[f32], noise: &NoiseConfig| {
        perturb(features, mask, scale, noise, KEY, &IMAGES)
            .unwrap_err()
            .to_string()
    };
    assert!(text(&importance[1..], &mask, &variance, &noise).contains("features has 47 values"));
    assert!(text(&importance, &mask[1..], &variance, &noise).contains("mask has 47 values"));
    // A map of two places: the second channel of the first image.
    let mut map = pattern(N * C * 2, 0.);
    map[3] = f32::INFINITY;
    assert!(text(&map, &mask, &variance, &noise).contains("features is inf at row 0, channel 1"));
    let mut negative = variance.clone();
    negative[5] = -1.;
    assert!(text(&importance, &mask, &negative, &noise).contains("scale is -1 at channel 5"));
    let wild = NoiseConfig {
        scale: f64::NAN,
        ..noise.clone()
    };
    assert!(text(&importance, &mask, &variance, &wild).contains("configured scale is NaN"));
    let swap = NoiseConfig {
        kind: Noise::Swap,
        ..noise
    };
    let alone = perturb(&importance[..C], &mask[..C], &variance, &swap, KEY, &[1]);
    assert_eq!(alone, Err(Error::OneImage { rows: 1 }));
}

#[test]
fn a_bank_is_restored_from_its_values() {
    let rows = pattern(7 * C, 0.5);
    let mut bank = FeatureBank::new(5, C, true).unwrap();
    bank.push(&rows).unwrap();
    let mut other = FeatureBank::new(5, C, true).unwrap();
    let state = (bank.rows().to_vec(), bank.seconds().to_vec());
    other
        .restore(state.0.clone(), state.1, bank.position())
        .unwrap();
    assert_eq!(other.variance(), bank.variance());
    assert_eq!(other.std(), bank.std());
    let refused = other.restore(state.0, Vec::new(), 5).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "feature bank restore: position 5 does not fit 5 of 5 rows"
    );
    assert!(other.push(&rows[1..]).is_err() && other.push(&[]).is_err());
    assert!(other.push_pair(&rows[..C], &rows[..C]).is_err());
    assert!(FeatureBank::new(0, C, true).is_err());
}

#[cfg(feature = "candle")]
mod as_tensors {
    use candle_core::{Device, Tensor};
    use fgvr_perturb::Control;

    use super::*;

    fn tensor(values: &[f32], shape: &[usize]) -> Tensor {
        Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
    }

    fn flat(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn statistics_masks_and_noise_have_the_same_bits() {
        let rows = pattern(9 * C, 0.5);
        let mut bank = FeatureBank::new(6, C, true).unwrap();
        let mut of_tensors = fgvr_perturb::FeatureBank::new(6, C, true).unwrap();
        for rows in rows.chunks(3 * C) {
            bank.push_pair(rows, &rows.iter().map(|v| v * 0.9).collect::<Vec<_>>())
                .unwrap();
            let first = tensor(rows, &[3, C]);
            let second = rows.iter().map(|v| v * 0.9).collect::<Vec<_>>();
            of_tensors
                .push_pair(&first, &tensor(&second, &[3, C]))
                .unwrap();
        }
        assert_eq!(
            bank.variance().unwrap(),
            flat(&of_tensors.variance().unwrap())
        );
        assert_eq!(bank.mean().unwrap(), flat(&of_tensors.mean().unwrap()));
        assert_eq!(
            bank.between().unwrap(),
            flat(&of_tensors.between().unwrap())
        );
        assert_eq!(bank.dead().unwrap(), of_tensors.dead().unwrap());

        let (variance, scale) = (bank.variance().unwrap(), bank.std().unwrap());
        let (importance, map) = (pattern(N * C, 1.7), pattern(N * C * 6, 2.9));
        for control in [Control::None, Control::Random, Control::Inverted] {
            for per_sample in [true, false] {
                let cfg = MaskConfig {
                    control,
                    per_sample,
                    ..MaskConfig::default()
                };
                let mask =
                    non_discriminative_mask(&variance, Some(&importance), &cfg, KEY, &IMAGES)
                        .unwrap();
                let of_tensors = fgvr_perturb::non_discriminative_mask(
                    &tensor(&variance, &[C]),
                    &tensor(&importance, &[N, C]),
                    &cfg,
                    KEY,
                    &IMAGES,
                )
                .unwrap();
                let marks: Vec<f32> = mask.iter().map(|m| f32::from(u8::from(*m))).collect();
                assert_eq!(marks, flat(&of_tensors));
                for kind in [Noise::Gaussian, Noise::Swap] {
                    let noise = NoiseConfig {
                        kind,
                        ..NoiseConfig::default()
                    };
                    let moved = perturb(&map, &mask, &scale, &noise, KEY, &IMAGES).unwrap();
                    let of_tensors = fgvr_perturb::perturb(
                        &tensor(&map, &[N, C, 2, 3]),
                        &of_tensors,
                        &tensor(&scale, &[C]),
                        &noise,
                        KEY,
                        &IMAGES,
                    );
                    assert_eq!(moved, flat(&of_tensors.unwrap()));
                }
            }
        }
    }

    #[test]
    fn a_mask_by_variance_alone_is_on_the_variances_device() {
        let variance = tensor(&pattern(C, 0.3), &[C]);
        let cfg = MaskConfig {
            rule: MaskRule::Variance,
            ..MaskConfig::default()
        };
        let mask = fgvr_perturb::non_discriminative_mask(&variance, None, &cfg, KEY, &IMAGES);
        assert_eq!(mask.unwrap().dims(), [N, C]);
        let union = MaskConfig::default();
        let text = fgvr_perturb::non_discriminative_mask(&variance, None, &union, KEY, &IMAGES)
            .unwrap_err()
            .to_string();
        assert!(text.contains("ranks by importance"), "{text}");
    }
}
