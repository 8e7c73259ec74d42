//! Exact counts, chance by key only, and untouched dimensions.

#![cfg(feature = "candle")]
#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests

use candle_core::{DType, Device, Tensor};
use fgvr_perturb::{
    Control, MaskConfig, MaskRule, Noise, NoiseConfig, RandomKey, mask_overlap,
    non_discriminative_mask, non_discriminative_mask_with_stats, perturb,
};

const N: usize = 6;
const C: usize = 50;
const KEY: RandomKey = RandomKey { seed: 3, step: 11 };
const IMAGES: [u32; N] = [40, 7, 12, 3, 99, 8];

const RULES: [MaskRule; 6] = [
    MaskRule::Union,
    MaskRule::Intersection,
    MaskRule::Variance,
    MaskRule::Importance,
    MaskRule::All,
    MaskRule::None,
];

/// Values in [0, 1) that look random.
fn pattern(count: usize, phase: f32) -> Vec<f32> {
    (0..count)
        .map(|i| ((i as f32 + 1.) * 12.9898 + phase).sin().abs() * 437.5 % 1.)
        .collect()
}

fn variance() -> Tensor {
    Tensor::from_vec(pattern(C, 0.3), C, &Device::Cpu).unwrap()
}

fn importance() -> Tensor {
    Tensor::from_vec(pattern(N * C, 1.7), (N, C), &Device::Cpu).unwrap()
}

fn pooled() -> Tensor {
    // A third of the entries are zero, as after a ReLU.
    let values = pattern(N * C, 2.9)
        .into_iter()
        .map(|v| (v - 0.33).max(0.))
        .collect();
    Tensor::from_vec(values, (N, C), &Device::Cpu).unwrap()
}

fn mask(cfg: &MaskConfig) -> Vec<Vec<f32>> {
    let mask = non_discriminative_mask(&variance(), &importance(), cfg, KEY, &IMAGES).unwrap();
    mask.to_vec2().unwrap()
}

fn count(row: &[f32]) -> usize {
    assert!(row.iter().all(|m| *m == 0. || *m == 1.));
    row.iter().filter(|m| **m == 1.).count()
}

/// The `k` lowest of `values`, which are all different.
fn lowest(values: &[f32], k: usize) -> Vec<f32> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    values
        .iter()
        .map(|v| if *v < sorted[k] { 1. } else { 0. })
        .collect()
}

#[test]
fn each_rule_takes_the_exact_lowest_ranks() {
    let cfg = MaskConfig {
        rho_variance: 0.3,
        rho_importance: 0.25, // 12.5 of 50: twelve
        ..MaskConfig::default()
    };
    let low_variance = lowest(&variance().to_vec1::<f32>().unwrap(), 15);
    for (i, row) in importance().to_vec2::<f32>().unwrap().iter().enumerate() {
        let low_importance = lowest(row, 12);
        for rule in RULES {
            let found = &mask(&MaskConfig {
                rule,
                ..cfg.clone()
            })[i];
            let expected: Vec<f32> = (0..C)
                .map(|c| match rule {
                    MaskRule::Union => low_variance[c].max(low_importance[c]),
                    MaskRule::Intersection => low_variance[c].min(low_importance[c]),
                    MaskRule::Variance => low_variance[c],
                    MaskRule::Importance => low_importance[c],
                    MaskRule::All => 1.,
                    MaskRule::None => 0.,
                })
                .collect();
            assert_eq!(found, &expected, "{rule:?}, image {i}");
        }
    }
}

#[test]
fn counts_are_floors_for_any_rho() {
    let hundred = Tensor::from_vec(pattern(100, 0.), (1, 100), &Device::Cpu).unwrap();
    for percent in 0..=100 {
        let cfg = MaskConfig {
            rho_importance: f64::from(percent) / 100., // 0.29 * 100 is 28.999999999999996
            rule: MaskRule::Importance,
            ..MaskConfig::default()
        };
        let variance = hundred.get(0).unwrap();
        let mask = non_discriminative_mask(&variance, &hundred, &cfg, KEY, &[5]).unwrap();
        assert_eq!(count(&mask.to_vec2().unwrap()[0]), percent as usize);
    }
}

#[test]
fn equal_values_are_not_taken_by_index() {
    let zeros = Tensor::zeros((N, C), DType::F32, &Device::Cpu).unwrap();
    let flat = zeros.get(0).unwrap();
    let masks = |rule, key| {
        let cfg = MaskConfig {
            rule,
            ..MaskConfig::default()
        };
        let mask = non_discriminative_mask(&flat, &zeros, &cfg, key, &IMAGES).unwrap();
        mask.to_vec2::<f32>().unwrap()
    };
    let by_importance = masks(MaskRule::Importance, KEY);
    for row in &by_importance {
        assert_eq!(count(row), 12);
        let first: Vec<f32> = (0..C).map(|c| if c < 12 { 1. } else { 0. }).collect();
        let last: Vec<f32> = (0..C).map(|c| if c >= C - 12 { 1. } else { 0. }).collect();
        assert!(*row != first && *row != last);
    }
    assert_ne!(by_importance[0], by_importance[1]);
    let by_variance = masks(MaskRule::Variance, KEY);
    assert!(by_variance.iter().all(|row| row == &by_variance[0]));
    let later = RandomKey { step: 12, ..KEY };
    assert_ne!(by_variance[0], masks(MaskRule::Variance, later)[0]);
    // Over many steps every channel is taken about as often: 12 of 50 in each of 500.
    let mut taken = [0; C];
    for step in 0..500 {
        let row = &masks(MaskRule::Variance, RandomKey { step, ..KEY })[0];
        row.iter()
            .zip(&mut taken)
            .for_each(|(m, t)| *t += *m as usize);
    }
    assert!(taken.iter().all(|t| (70..=170).contains(t)), "{taken:?}");
}

#[test]
fn minus_zero_is_no_lower_than_zero() {
    let mut signs = vec![0f32; C];
    signs[..12].fill(-0.);
    let signs = Tensor::from_vec(signs, (1, C), &Device::Cpu).unwrap();
    let cfg = MaskConfig {
        rule: MaskRule::Importance,
        ..MaskConfig::default()
    };
    let zeros = signs.abs().unwrap();
    let of = |importance: &Tensor| {
        let mask = non_discriminative_mask(&zeros.get(0).unwrap(), importance, &cfg, KEY, &[1]);
        mask.unwrap().to_vec2::<f32>().unwrap()
    };
    assert_eq!(of(&signs), of(&zeros));
}

#[test]
fn controls_have_the_masks_size_image_by_image() {
    for rule in RULES {
        for per_sample in [true, false] {
            let cfg = |control| MaskConfig {
                rule,
                control,
                per_sample,
                ..MaskConfig::default()
            };
            let sizes = |control| {
                mask(&cfg(control))
                    .iter()
                    .map(|r| count(r))
                    .collect::<Vec<_>>()
            };
            assert_eq!(sizes(Control::Random), sizes(Control::None), "{rule:?}");
            assert_eq!(sizes(Control::Inverted), sizes(Control::None), "{rule:?}");
        }
    }
}

#[test]
fn the_inverted_mask_shares_nothing_with_the_mask() {
    for rule in [
        MaskRule::Union,
        MaskRule::Intersection,
        MaskRule::Variance,
        MaskRule::Importance,
    ] {
        let cfg = |control| MaskConfig {
            rule,
            control,
            ..MaskConfig::default()
        };
        let (plain, inverted) = (mask(&cfg(Control::None)), mask(&cfg(Control::Inverted)));
        for (a, b) in plain.iter().flatten().zip(inverted.iter().flatten()) {
            assert!(a * b == 0., "{rule:?}");
        }
    }
    // By one criterion, it is the highest ranks.
    let cfg = MaskConfig {
        rule: MaskRule::Variance,
        control: Control::Inverted,
        ..MaskConfig::default()
    };
    let negated: Vec<f32> = variance().neg().unwrap().to_vec1().unwrap();
    assert_eq!(mask(&cfg)[0], lowest(&negated, 12));
}

#[test]
fn random_masks_differ_between_images_and_steps() {
    let cfg = MaskConfig {
        control: Control::Random,
        ..MaskConfig::default()
    };
    let rows = mask(&cfg);
    assert_ne!(rows[0], rows[1]);
    let later = RandomKey { step: 12, ..KEY };
    let later = non_discriminative_mask(&variance(), &importance(), &cfg, later, &IMAGES).unwrap();
    assert_ne!(rows, later.to_vec2::<f32>().unwrap());
}

#[test]
fn the_batch_mean_gives_every_image_the_same_mask() {
    let cfg = MaskConfig {
        per_sample: false,
        ..MaskConfig::default()
    };
    let rows = mask(&cfg);
    assert!(rows.iter().all(|row| row == &rows[0]));
}

#[test]
fn stats_count_what_the_mask_holds() {
    let variance = Tensor::new(&[0f32, 1., 2., 3., 4., 5., 6., 7.], &Device::Cpu).unwrap();
    let importance = Tensor::new(&[[0f32, 9., 1., 8., 7., 6., 5., 4.]], &Device::Cpu).unwrap();
    let cfg = MaskConfig::default(); // two by variance: 0, 1; two by importance: 0, 2
    let (_, stats) =
        non_discriminative_mask_with_stats(&variance, &importance, &cfg, KEY, &[1]).unwrap();
    assert_eq!(stats.fraction, 3. / 8.);
    assert_eq!(stats.overlap, 1. / 3.);
    assert_eq!(stats.constant, 1. / 3.);
    let none = MaskConfig {
        rule: MaskRule::None,
        ..cfg
    };
    let (_, stats) =
        non_discriminative_mask_with_stats(&variance, &importance, &none, KEY, &[1]).unwrap();
    assert_eq!((stats.fraction, stats.constant), (0., 0.));
    let a = Tensor::new(&[[1f32, 1., 0., 0.]], &Device::Cpu).unwrap();
    let b = Tensor::new(&[[0f32, 1., 1., 0.]], &Device::Cpu).unwrap();
    assert_eq!(mask_overlap(&a, &b).unwrap(), 1. / 3.);
}

#[test]
fn unmasked_entries_keep_every_bit_and_masked_ones_move() {
    let cfg = MaskConfig::default();
    let mask = non_discriminative_mask(&variance(), &importance(), &cfg, KEY, &IMAGES).unwrap();
    for kind in [Noise::Gaussian, Noise::Swap] {
        for dtype in [DType::F32, DType::F64, DType::BF16] {
            let noise = NoiseConfig {
                kind,
                ..NoiseConfig::default()
            };
            let h = pooled().to_dtype(dtype).unwrap();
            let out = perturb(&h, &mask, &variance(), &noise, KEY, &IMAGES).unwrap();
            assert_eq!(out.dtype(), dtype);
            let flat = |t: &Tensor| -> Vec<f64> {
                let t = t.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
                t.to_vec1().unwrap()
            };
            let (before, after, mask) = (flat(&h), flat(&out), flat(&mask));
            assert!(after.iter().all(|v| *v >= 0.));
            let mut moved = 0;
            for ((a, b), m) in before.iter().zip(&after).zip(&mask) {
                if *m == 0. {
                    assert_eq!(a.to_bits(), b.to_bits());
                } else {
                    moved += usize::from(a != b);
                }
            }
            assert!(moved > 50, "{moved}");
        }
    }
}

#[test]
fn noise_has_the_floored_scale() {
    // Features so high that nothing is clamped; a median scale of 2 lifts the first channel's 0.
    let c = 3;
    let h = Tensor::full(1e3f32, (1, c), &Device::Cpu).unwrap();
    let mask = h.ones_like().unwrap();
    let scale = Tensor::new(&[0f32, 2., 6.], &Device::Cpu).unwrap();
    let spread = |cfg: &NoiseConfig| {
        let mut square = [0f64; 3];
        for step in 0..2000 {
            let key = RandomKey { seed: 1, step };
            let out = perturb(&h, &mask, &scale, cfg, key, &[4]).unwrap();
            let out = out.to_vec2::<f32>().unwrap();
            square
                .iter_mut()
                .zip(&out[0])
                .for_each(|(s, v)| *s += f64::from(v - 1e3).powi(2));
        }
        square.map(|s| (s / 2000.).sqrt())
    };
    let cfg = NoiseConfig {
        scale: 0.5,
        ..NoiseConfig::default()
    };
    for (found, expected) in spread(&cfg).iter().zip([1., 1., 3.]) {
        assert!(
            (found / expected - 1.).abs() < 0.06,
            "{found}, expected {expected}"
        );
    }
    let cfg = NoiseConfig {
        floor_at_median: false,
        ..cfg
    };
    assert_eq!(spread(&cfg)[0], 0.);
}

#[test]
fn swapped_entries_come_from_one_other_image() {
    let noise = NoiseConfig {
        kind: Noise::Swap,
        ..NoiseConfig::default()
    };
    let all = pooled().ones_like().unwrap();
    let out = perturb(&pooled(), &all, &variance(), &noise, KEY, &IMAGES).unwrap();
    let (before, after) = (
        pooled().to_vec2::<f32>().unwrap(),
        out.to_vec2::<f32>().unwrap(),
    );
    for (i, row) in after.iter().enumerate() {
        let from = before.iter().position(|other| other == row);
        assert!(from.is_some_and(|from| from != i));
    }
}

#[test]
fn a_permuted_batch_gives_permuted_results() {
    let order = [4u32, 2, 0, 5, 1, 3];
    let order_tensor = Tensor::new(&order, &Device::Cpu).unwrap();
    let permute = |t: &Tensor| t.index_select(&order_tensor, 0).unwrap();
    let images = order.map(|i| IMAGES[i as usize]);
    for control in [Control::None, Control::Random, Control::Inverted] {
        for per_sample in [true, false] {
            let cfg = MaskConfig {
                control,
                per_sample,
                ..MaskConfig::default()
            };
            let a =
                non_discriminative_mask(&variance(), &importance(), &cfg, KEY, &IMAGES).unwrap();
            let permuted = permute(&importance());
            let b = non_discriminative_mask(&variance(), &permuted, &cfg, KEY, &images).unwrap();
            assert_eq!(
                permute(&a).to_vec2::<f32>().unwrap(),
                b.to_vec2::<f32>().unwrap()
            );
            for kind in [Noise::Gaussian, Noise::Swap] {
                let noise = NoiseConfig {
                    kind,
                    ..NoiseConfig::default()
                };
                let x = perturb(&pooled(), &a, &variance(), &noise, KEY, &IMAGES).unwrap();
                let y =
                    perturb(&permute(&pooled()), &b, &variance(), &noise, KEY, &images).unwrap();
                assert_eq!(
                    permute(&x).to_vec2::<f32>().unwrap(),
                    y.to_vec2::<f32>().unwrap()
                );
            }
        }
    }
}

#[test]
fn noise_does_not_depend_on_the_mask() {
    let all = pooled().ones_like().unwrap();
    let some = Tensor::from_vec(
        (0..N * C)
            .map(|i| (i % 3 == 0) as u32 as f32)
            .collect::<Vec<_>>(),
        (N, C),
        &Device::Cpu,
    )
    .unwrap();
    let noise = NoiseConfig::default();
    let out = |mask| {
        let out = perturb(&pooled(), mask, &variance(), &noise, KEY, &IMAGES).unwrap();
        out.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    for (i, (a, b)) in out(&all).iter().zip(out(&some)).enumerate() {
        assert!(i % 3 != 0 || *a == b);
    }
}

#[test]
fn bad_input_is_named() {
    let cfg = MaskConfig::default();
    let text = |variance: &Tensor, importance: &Tensor, cfg: &MaskConfig, images: &[u32]| {
        let mask = non_discriminative_mask(variance, importance, cfg, KEY, images);
        mask.unwrap_err().to_string()
    };
    let found = text(&importance(), &importance(), &cfg, &IMAGES);
    assert!(
        found.contains("variance is [6, 50], expected [50]"),
        "{found}"
    );
    let found = text(&variance(), &variance(), &cfg, &IMAGES);
    assert!(
        found.contains("importance is [50], expected (N, C)"),
        "{found}"
    );
    let found = text(&variance(), &importance(), &cfg, &IMAGES[1..]);
    assert!(
        found.contains("images has 5 indices, expected 6"),
        "{found}"
    );
    let wild = MaskConfig {
        rho_variance: f64::NAN,
        ..cfg.clone()
    };
    let found = text(&variance(), &importance(), &wild, &IMAGES);
    assert!(found.contains("rho_variance is NaN"), "{found}");
    let nan = (importance() / 0.).unwrap().affine(0., 1.).unwrap();
    let found = text(&variance(), &nan, &cfg, &IMAGES);
    assert!(
        found.contains("importance is NaN at row 0, channel 0"),
        "{found}"
    );

    let text = |mask: &Tensor, scale: &Tensor, noise: &NoiseConfig, images: &[u32]| {
        let n = images.len();
        let h = pooled().narrow(0, 0, n).unwrap();
        let mask = mask.narrow(0, 0, n).unwrap();
        perturb(&h, &mask, scale, noise, KEY, images)
            .unwrap_err()
            .to_string()
    };
    let all = pooled().ones_like().unwrap();
    let noise = NoiseConfig::default();
    let found = text(&(&all * 0.5).unwrap(), &variance(), &noise, &IMAGES);
    assert!(found.contains("mask holds 0.5"), "{found}");
    let found = text(&all, &variance().neg().unwrap(), &noise, &IMAGES);
    assert!(
        found.contains("at channel 0, expected a value >= 0"),
        "{found}"
    );
    let negative = NoiseConfig {
        scale: -1.,
        ..noise.clone()
    };
    let found = text(&all, &variance(), &negative, &IMAGES);
    assert!(found.contains("configured scale is -1"), "{found}");
    let swap = NoiseConfig {
        kind: Noise::Swap,
        ..noise
    };
    let found = text(&all, &variance(), &swap, &[3, 3]);
    assert!(found.contains("found 2 of one image"), "{found}");
}

#[test]
fn every_masked_dimension_moves_by_the_least_change() {
    let all = Tensor::ones((N, C), DType::F64, &Device::Cpu).unwrap();
    let scale = Tensor::full(0.05f64, C, &Device::Cpu).unwrap();
    // Zeros among them, which noise downwards cannot move.
    let features = (pooled().to_dtype(DType::F64).unwrap() - 0.5).unwrap();
    let features = features.relu().unwrap();
    let changes = |min_change: f64| -> Vec<f64> {
        let noise = NoiseConfig {
            scale: 2.,
            min_change,
            ..NoiseConfig::default()
        };
        let out = perturb(&features, &all, &scale, &noise, KEY, &IMAGES).unwrap();
        let out: Vec<f64> = out.flatten_all().unwrap().to_vec1().unwrap();
        assert!(out.iter().all(|v| *v >= 0.));
        let before: Vec<f64> = features.flatten_all().unwrap().to_vec1().unwrap();
        out.iter().zip(before).map(|(a, b)| a - b).collect()
    };
    let (free, held) = (changes(0.), changes(0.4));
    assert!(free.contains(&0.));
    assert!(held.iter().all(|change| change.abs() > 0.04 * (1. - 1e-5)));
    // Draws that are large enough stay as they are.
    for (free, held) in free.iter().zip(&held) {
        assert!(free.abs() < 0.04 || free == held, "{free} {held}");
    }
    // Both directions are left.
    assert!(held.iter().any(|change| *change < -0.03));
}

#[test]
fn a_map_moves_by_one_draw_a_channel() {
    let map = Tensor::from_vec(pattern(N * C * 6, 0.9), (N, C, 2, 3), &Device::Cpu).unwrap();
    let map = (map + 100.).unwrap(); // nothing reaches zero
    let vector = map.mean((2, 3)).unwrap();
    let half: Vec<f32> = (0..N * C).map(|i| (i % 2) as f32).collect();
    let half = Tensor::from_vec(half, (N, C), &Device::Cpu).unwrap();
    for kind in [Noise::Gaussian, Noise::Swap] {
        let noise = NoiseConfig {
            kind,
            ..NoiseConfig::default()
        };
        let of = |x: &Tensor| perturb(x, &half, &variance(), &noise, KEY, &IMAGES).unwrap();
        let (moved, pooled) = (of(&map), of(&vector));
        assert_eq!(moved.dims(), [N, C, 2, 3]);
        let off = (moved.mean((2, 3)).unwrap() - pooled).unwrap().abs();
        let off = off.unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(off < 1e-4, "{kind:?}: {off}");
        let rows = |x: &Tensor| x.get(0).unwrap().flatten_from(1).unwrap().to_vec2::<f32>();
        let (after, before) = (rows(&moved).unwrap(), rows(&map).unwrap());
        assert_eq!(after[0], before[0]);
        assert_ne!(after[1], before[1]);
    }
}

#[test]
fn a_least_change_of_swapped_values_is_refused() {
    let noise = NoiseConfig {
        kind: Noise::Swap,
        min_change: 0.5,
        ..NoiseConfig::default()
    };
    let error = noise.validate().unwrap_err().to_string();
    assert!(error.contains("set kind = gaussian"), "{error}");
}
