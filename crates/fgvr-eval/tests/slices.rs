//! Plain values: the figures of tensors, and lengths that do not fit.

#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests

use candle_core::{Device, Tensor};
use fgvr_eval::{Embeddings, Error, KnnConfig, knn, knn_hits, knn_predictions, slices};

const N: usize = 30;
const D: usize = 5;

/// Values in [-1, 1) that look random.
fn pattern(count: usize, phase: f32) -> Vec<f32> {
    (0..count)
        .map(|i| ((i as f32 + 1.) * 12.9898 + phase).sin() * 437.5 % 1.)
        .collect()
}

fn tensor(values: &[f32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
}

fn labels() -> Vec<u32> {
    (0..N as u32).map(|i| i % 3 * 7).collect()
}

#[test]
fn figures_are_those_of_tensors() {
    let (x, y, z) = (
        pattern(N * D, 0.),
        pattern(N * D, 1.),
        pattern(2 * N * D, 2.),
    );
    let (a, b, c) = (
        tensor(&x, &[N, D]),
        tensor(&y, &[N, D]),
        tensor(&z, &[2 * N, D]),
    );
    assert_eq!(
        slices::pair_ranks(&x, &y, D).unwrap(),
        fgvr_eval::pair_ranks(&a, &b).unwrap()
    );
    assert_eq!(
        slices::neighbour_agreement(&x, &y, &z, D, 4).unwrap(),
        fgvr_eval::neighbour_agreement(&a, &b, &c, 4).unwrap()
    );
    assert_eq!(
        slices::effective_rank(&x, D).unwrap(),
        fgvr_eval::effective_rank(&a).unwrap()
    );
    assert_eq!(
        slices::embedding_std(&x, D).unwrap(),
        fgvr_eval::embedding_std(&a).unwrap()
    );
    assert_eq!(
        slices::alignment(&x, &y, D, 2.).unwrap(),
        fgvr_eval::alignment(&a, &b, 2.).unwrap()
    );
    assert_eq!(
        slices::uniformity(&x, D, 2.).unwrap(),
        fgvr_eval::uniformity(&a, 2.).unwrap()
    );
    let of_slice = Embeddings::from_slice(&x, D, labels()).unwrap();
    let of_tensor = Embeddings::new(a, labels()).unwrap();
    let cfg = KnnConfig::default();
    assert_eq!(
        knn(&of_slice, &of_slice, &cfg).unwrap(),
        knn(&of_tensor, &of_tensor, &cfg).unwrap()
    );
    assert_eq!(
        slices::knn_predictions(&of_slice, &y, &cfg).unwrap(),
        knn_predictions(&of_tensor, &b, &cfg).unwrap()
    );

    let map: Vec<f32> = pattern(2 * 3 * 2 * 2, 3.).iter().map(|v| v.abs()).collect();
    let parts: Vec<f32> = (0..2 * 4 * 4)
        .map(|i| f32::from(u8::from(i % 3 == 0)))
        .collect();
    let mask = [true, false, true, false, true, false];
    let marks = mask.map(|m| f32::from(u8::from(m)));
    assert_eq!(
        slices::part_hit(&map, [2, 3, 2, 2], &mask, &parts, (4, 4)).unwrap(),
        fgvr_eval::part_hit(
            &tensor(&map, &[2, 3, 2, 2]),
            &tensor(&marks, &[2, 3]),
            &tensor(&parts, &[2, 4, 4])
        )
        .unwrap()
    );
    assert!(matches!(
        slices::part_hit(&map, [2, 3, 2, 2], &mask[1..], &parts, (4, 4)),
        Err(Error::Length { name: "mask", .. })
    ));
}

#[test]
fn predictions_are_what_the_report_counts() {
    let train = Embeddings::from_slice(&pattern(N * D, 0.), D, labels()).unwrap();
    let queries = pattern(N * D, 1.);
    let cfg = KnnConfig {
        k: 7,
        ..KnnConfig::default()
    };
    let found = slices::knn_predictions(&train, &queries, &cfg).unwrap();
    let test = Embeddings::from_slice(&queries, D, labels()).unwrap();
    let hits: Vec<bool> = found
        .iter()
        .zip(labels())
        .map(|(prediction, label)| prediction.class == label)
        .collect();
    assert_eq!(hits, knn_hits(&train, &test, &cfg).unwrap());
    for prediction in &found {
        assert_eq!(prediction.neighbours.len(), 7);
        let nearest_first = prediction.neighbours.windows(2);
        assert!(
            nearest_first
                .into_iter()
                .all(|w| w[0].similarity >= w[1].similarity)
        );
        let votes = |class: Option<u32>| -> f64 {
            let of_class = prediction
                .neighbours
                .iter()
                .filter(|n| class.is_none_or(|class| n.label == class));
            of_class.map(|n| n.vote).sum()
        };
        assert!((votes(None) - 1.).abs() < 1e-12);
        assert!((votes(Some(prediction.class)) - prediction.vote).abs() < 1e-12);
        for neighbour in &prediction.neighbours {
            assert_eq!(neighbour.label, labels()[neighbour.row]);
        }
    }
    // A training row finds itself first.
    let own = knn_predictions(&train, &train.features, &cfg).unwrap();
    for (row, prediction) in own.iter().enumerate() {
        assert_eq!(prediction.neighbours[0].row, row);
    }
}

#[test]
fn lengths_that_do_not_fit_are_named() {
    let text = Embeddings::from_slice(&[1.; 7], 3, vec![0; 2])
        .unwrap_err()
        .to_string();
    assert_eq!(
        text,
        "embeddings: features has 7 values, expected rows of 3 numbers, at least one of one number"
    );
    assert!(Embeddings::from_slice(&[1.; 6], 0, vec![0; 2]).is_err());
    assert!(Embeddings::from_slice(&[1.; 6], 3, vec![0; 3]).is_err());
    let text = slices::pair_ranks(&[1.; 6], &[1.; 9], 3)
        .unwrap_err()
        .to_string();
    assert_eq!(text, "pair_ranks: gallery is [3, 3], expected (2, 3)");
    let text = slices::effective_rank(&[1., 2., f32::NAN, 4.], 2)
        .unwrap_err()
        .to_string();
    assert_eq!(text, "effective_rank: embeddings is NaN at row 1, column 0");
    let train = Embeddings::from_slice(&[1.; 6], 3, vec![0, 1]).unwrap();
    let text = slices::knn_predictions(&train, &[1.; 4], &KnnConfig::default())
        .unwrap_err()
        .to_string();
    assert!(text.contains("knn: queries has 4 values"), "{text}");
}
