//! The probe learns what is linear, whatever the scale, and chooses nothing on the test set.

#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests

use candle_core::{Device, Tensor};
use fgvr_eval::{
    Embeddings, Error, LbfgsConfig, ProbeConfig, ProbeReport, Scaling, SgdConfig, Solver,
    linear_probe,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const CLASSES: u32 = 6;

/// `n` rows of 10 dimensions about one centre for each class; dimension `d` times `scales[d % len]`,
/// plus `shift`. Labels are 10, 13, 16, ...
fn blobs(n: usize, noise: f32, scales: &[f32], shift: f32, seed: u64) -> Embeddings {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    for row in 0..n {
        let class = row as u32 % CLASSES;
        labels.push(10 + 3 * class);
        for d in 0..10 {
            let centre = ((class * 10 + d) as f32 * 2.4).sin();
            let off = noise * (rng.random::<f32>() - 0.5);
            values.push((centre + off) * scales[d as usize % scales.len()] + shift);
        }
    }
    Embeddings::new(
        Tensor::from_vec(values, (n, 10), &Device::Cpu).unwrap(),
        labels,
    )
    .unwrap()
}

fn default_probe(scales: &[f32], shift: f32) -> ProbeReport {
    let train = blobs(240, 1., scales, shift, 1);
    let test = blobs(120, 1., scales, shift, 2);
    linear_probe(&train, &test, &ProbeConfig::default()).unwrap()
}

#[test]
fn separable_classes_are_learnt_at_any_scale_of_the_features() {
    for (scales, shift) in [
        (&[1f32][..], 0.),
        (&[1e-12], 0.),
        (&[1e12], 0.),
        (&[1e-6, 1., 1e6], 0.),
        (&[1.], 1e3),
    ] {
        let report = default_probe(scales, shift);
        assert!(
            report.top1 > 0.97 && report.train_top1 > 0.97,
            "{scales:?}: {report:?}"
        );
        assert!(report.top5 >= report.top1);
        assert!(report.validation_top1.is_some_and(|top1| top1 > 0.9));
        assert_eq!((report.unseen, report.best_on_test), (0, None));
    }
}

#[test]
fn dimensions_that_are_constant_in_training_are_ignored() {
    let with_constant = |set: &Embeddings, value: f32| {
        let n = set.labels.len();
        let constant = Tensor::full(value, (n, 1), &Device::Cpu).unwrap();
        let features = Tensor::cat(&[&set.features, &constant], 1).unwrap();
        Embeddings::new(features, set.labels.clone()).unwrap()
    };
    let (train, test) = (blobs(240, 1.5, &[1.], 0., 1), blobs(120, 1.5, &[1.], 0., 2));
    let cfg = ProbeConfig::default();
    let plain = linear_probe(&train, &test, &cfg).unwrap();
    let padded = linear_probe(
        &with_constant(&train, 0.1),
        &with_constant(&test, 9e9),
        &cfg,
    )
    .unwrap();
    assert_eq!((plain.top1, plain.top5), (padded.top1, padded.top5));
}

#[test]
fn test_labels_do_not_influence_the_choice() {
    let (train, test) = (blobs(240, 4., &[1.], 0., 1), blobs(120, 4., &[1.], 0., 2));
    let mut wrong = test.clone();
    wrong.labels.rotate_left(1);
    let cfg = ProbeConfig::default();
    let a = linear_probe(&train, &test, &cfg).unwrap();
    let b = linear_probe(&train, &wrong, &cfg).unwrap();
    assert_eq!(
        (
            a.weight_decay,
            a.validation_top1,
            a.train_top1,
            a.iterations
        ),
        (
            b.weight_decay,
            b.validation_top1,
            b.train_top1,
            b.iterations
        )
    );
    assert!(b.top1 < a.top1);
}

#[test]
fn a_chosen_decay_is_on_offer_and_a_single_one_is_not_chosen() {
    let (train, test) = (blobs(240, 4., &[1.], 0., 1), blobs(120, 4., &[1.], 0., 2));
    let cfg = ProbeConfig::default();
    let report = linear_probe(&train, &test, &cfg).unwrap();
    assert!(cfg.weight_decays.contains(&report.weight_decay));
    let only = ProbeConfig {
        weight_decays: vec![0.5],
        ..cfg
    };
    let report = linear_probe(&train, &test, &only).unwrap();
    assert_eq!((report.weight_decay, report.validation_top1), (0.5, None));
    assert!(!report.weight_decay_at_edge);
}

#[test]
fn labels_at_random_give_chance_on_the_test_set() {
    let (mut train, test) = (blobs(600, 1.5, &[1.], 0., 1), blobs(600, 1.5, &[1.], 0., 2));
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    train
        .labels
        .iter_mut()
        .for_each(|label| *label = 10 + 3 * rng.random_range(0..CLASSES));
    let report = linear_probe(&train, &test, &ProbeConfig::default()).unwrap();
    assert!(report.top1 < 0.45, "{report:?}");
    assert!(report.train_top1 < 0.6, "{report:?}");
}

#[test]
fn the_same_seed_gives_the_same_report() {
    let (train, test) = (blobs(240, 4., &[1.], 0., 1), blobs(120, 4., &[1.], 0., 2));
    let sgd = SgdConfig {
        epochs: 5,
        batch: 32,
        ..SgdConfig::default()
    };
    for cfg in [
        ProbeConfig::default(),
        ProbeConfig {
            solver: Solver::Sgd(sgd),
            ..ProbeConfig::default()
        },
    ] {
        let report = || linear_probe(&train, &test, &cfg).unwrap();
        assert_eq!(report(), report());
    }
}

#[test]
fn the_papers_protocols_learn_too() {
    let (train, test) = (blobs(240, 1.5, &[1.], 0., 1), blobs(120, 1.5, &[1.], 0., 2));
    for cfg in [ProbeConfig::moco(), ProbeConfig::lodisc(64)] {
        let report = linear_probe(&train, &test, &cfg).unwrap();
        assert!(report.top1 > 0.9, "{report:?}");
        assert_eq!((report.iterations, report.converged), (100, None));
        assert!(report.best_on_test.is_some_and(|best| best >= report.top1));
    }
    assert_eq!(ProbeConfig::moco().scaling, Scaling::L2Normalise);
}

#[test]
fn unseen_classes_are_wrong_and_classes_count_alike_in_their_mean() {
    let train = blobs(240, 0.5, &[1.], 0., 1);
    let mut test = blobs(120, 0.5, &[1.], 0., 2);
    test.labels[0] = 999;
    let report = linear_probe(&train, &test, &ProbeConfig::default()).unwrap();
    assert_eq!((report.top1, report.unseen), (119. / 120., 1));
    assert_eq!(report.top5, 119. / 120.);
    assert!((report.mean_per_class - 6. / 7.).abs() < 1e-12); // six perfect classes, one hopeless
}

#[test]
fn few_rows_a_class_still_leave_something_to_choose_on() {
    let (train, test) = (blobs(12, 0.5, &[1.], 0., 1), blobs(60, 0.5, &[1.], 0., 2));
    let report = linear_probe(&train, &test, &ProbeConfig::default()).unwrap();
    assert!(
        report.validation_top1.is_some() && report.top1 > 0.9,
        "{report:?}"
    );
    let (train, cfg) = (blobs(6, 0.5, &[1.], 0., 1), ProbeConfig::default());
    let text = linear_probe(&train, &test, &cfg).unwrap_err().to_string();
    assert!(text.contains("each class has one training row"), "{text}");
    let only = ProbeConfig {
        weight_decays: vec![0.1],
        ..cfg
    };
    assert!(linear_probe(&train, &test, &only).unwrap().top1 > 0.9);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let train = blobs(60, 0.5, &[1.], 0., 1);
    let mut one = train.clone();
    one.labels.fill(4);
    let cfg = ProbeConfig::default();
    assert!(matches!(
        linear_probe(&one, &train, &cfg),
        Err(Error::OneClass {
            rows: 60,
            class: 4,
            ..
        })
    ));
    let narrow = Embeddings {
        features: train.features.narrow(1, 0, 4).unwrap(),
        labels: train.labels.clone(),
    };
    let text = linear_probe(&train, &narrow, &cfg).unwrap_err().to_string();
    assert!(text.contains("test is [60, 4], expected (N, 10)"), "{text}");
    let infinite = Embeddings {
        features: (&train.features / 0.).unwrap(),
        labels: train.labels.clone(),
    };
    let text = linear_probe(&train, &infinite, &cfg)
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("test is") && text.contains("at row 0, column 0"),
        "{text}"
    );

    let text = |cfg: ProbeConfig| linear_probe(&train, &train, &cfg).unwrap_err().to_string();
    let base = ProbeConfig::default;
    assert!(
        text(ProbeConfig {
            weight_decays: vec![],
            ..base()
        })
        .contains("weight_decays is empty")
    );
    assert!(
        text(ProbeConfig {
            weight_decays: vec![-1.],
            ..base()
        })
        .contains("weight_decays is -1")
    );
    assert!(
        text(ProbeConfig {
            val_fraction: 1.,
            ..base()
        })
        .contains("val_fraction is 1")
    );
    let solver = Solver::Lbfgs(LbfgsConfig {
        iterations: 0,
        ..LbfgsConfig::default()
    });
    assert!(text(ProbeConfig { solver, ..base() }).contains("iterations is 0"));
    let solver = Solver::Sgd(SgdConfig {
        momentum: 1.,
        ..SgdConfig::default()
    });
    assert!(text(ProbeConfig { solver, ..base() }).contains("momentum is 1"));
}
