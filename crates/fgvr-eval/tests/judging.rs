//! Against FAISS, scikit-learn and pytorch-metric-learning on random and awkward sets (`tests/golden/judging.py`).

#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use fgvr_eval::{
    Embeddings, KnnConfig, LbfgsConfig, ProbeConfig, RetrievalConfig, RetrievalReport, Similarity,
    Solver, cross_retrieval, knn_hits, linear_probe_hits, nearest, nearest_in_set, retrieval,
};

const CASES: [&str; 6] = ["random", "duplicates", "ties", "zeros", "lone", "one_class"];

struct Golden(HashMap<String, Tensor>);

impl Golden {
    fn load() -> Self {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/golden/judging.safetensors"
        );
        Self(candle_core::safetensors::load(path, &Device::Cpu).unwrap())
    }

    /// Training and test rows of a case.
    fn sets(&self, case: &str) -> [Embeddings; 2] {
        [("train", "labels"), ("test", "wanted")].map(|(rows, labels)| {
            let labels = self.0[&format!("{case}.{labels}")]
                .to_vec1::<i64>()
                .unwrap();
            let labels = labels.into_iter().map(|label| label as u32).collect();
            Embeddings::new(self.0[&format!("{case}.{rows}")].clone(), labels).unwrap()
        })
    }

    fn values(&self, name: &str) -> Vec<f64> {
        let tensor = self.0[name].to_dtype(DType::F64).unwrap();
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }
}

fn assert_close(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= 1e-6, "{what}, {at}: {a}, expected {b}");
    }
}

fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

#[test]
fn similarities_of_the_nearest_are_those_of_faiss() {
    let golden = Golden::load();
    for case in CASES {
        let [train, test] = golden.sets(case);
        let found = nearest(&test.features, &train.features, 7, Similarity::Cosine).unwrap();
        let expected = golden.values(&format!("{case}.faiss"));
        assert_close(&widened(&found.similarities), &expected, case);
        // Of equal similarities the first rows are taken, in their order.
        for query in 0..test.labels.len() {
            let all: Vec<(usize, f32)> = found.of(query).collect();
            let ordered = |pair: &[(usize, f32)]| pair[0].1 > pair[1].1 || pair[0].0 < pair[1].0;
            assert!(all.windows(2).all(ordered), "{case}: {all:?}");
        }
    }
}

#[test]
fn inside_a_set_each_row_is_left_out_of_its_own_neighbours() {
    let golden = Golden::load();
    for case in CASES {
        let [_, test] = golden.sets(case);
        let n = test.labels.len();
        let found = nearest_in_set(&test.features, 7, Similarity::Cosine).unwrap();
        let whole = nearest(&test.features, &test.features, n, Similarity::Cosine).unwrap();
        let with_itself = golden.values(&format!("{case}.faiss_inside"));
        for query in 0..n {
            let expected: Vec<_> = whole
                .of(query)
                .filter(|(row, _)| *row != query)
                .take(7)
                .collect();
            assert_eq!(
                found.of(query).collect::<Vec<_>>(),
                expected,
                "{case}, {query}"
            );
            // FAISS has the row itself among the best, unless its rows are zeros.
            let mut faiss = with_itself[query * 8..][..8].to_vec();
            let own = whole.of(query).find(|(row, _)| *row == query).unwrap().1;
            let at = faiss
                .iter()
                .position(|s| (s - f64::from(own)).abs() < 1e-6)
                .unwrap();
            faiss.remove(at);
            let similarities: Vec<f64> = expected.iter().map(|(_, s)| f64::from(*s)).collect();
            assert_close(&similarities, &faiss, case);
        }
    }
}

#[test]
fn retrieval_is_that_of_pytorch_metric_learning() {
    let golden = Golden::load();
    let figures = |r: &RetrievalReport| [r.map, r.map_at_r, r.r_precision, r.rank1];
    for case in CASES {
        let [train, test] = golden.sets(case);
        let cfg = RetrievalConfig::default();
        let inside = retrieval(&test, &cfg).unwrap();
        assert_close(
            &figures(&inside),
            &golden.values(&format!("{case}.retrieval")),
            case,
        );
        let cross = cross_retrieval(&train, &test, &cfg).unwrap();
        assert_close(
            &figures(&cross),
            &golden.values(&format!("{case}.cross")),
            case,
        );
        assert!(cross.rank1 <= cross.rank5 && cross.rank5 <= cross.rank10);
        if case == "lone" {
            // 200, 201 and 100 are alone in the test set; the training set has 100.
            assert_eq!((inside.left_out, cross.left_out), (3, 2));
        }
    }
}

#[test]
fn votes_of_neighbours_are_those_of_scikit_learn() {
    let golden = Golden::load();
    let mut compared = 0;
    for case in CASES {
        let [train, test] = golden.sets(case);
        for k in [1, 5, 20] {
            let name = format!("{case}.knn{k}");
            if !golden.0.contains_key(&name) {
                continue;
            }
            let cfg = KnnConfig {
                k,
                ..KnnConfig::default()
            };
            let hits = knn_hits(&train, &test, &cfg).unwrap();
            let hits: Vec<f64> = hits
                .into_iter()
                .map(|hit| f64::from(u8::from(hit)))
                .collect();
            assert_close(&hits, &golden.values(&name), &name);
            compared += 1;
        }
    }
    assert_eq!(compared, 15);
}

#[test]
fn logistic_regression_names_the_classes_that_scikit_learn_names() {
    let golden = Golden::load();
    let mut compared = 0;
    for case in CASES {
        let [train, test] = golden.sets(case);
        for decay in [1e-3, 1e-1] {
            let name = format!("{case}.probe{decay}");
            if !golden.0.contains_key(&name) {
                continue;
            }
            let cfg = ProbeConfig {
                weight_decays: vec![decay],
                solver: Solver::Lbfgs(LbfgsConfig {
                    iterations: 2000,
                    tolerance: 1e-6,
                }),
                ..ProbeConfig::default()
            };
            let (_, hits) = linear_probe_hits(&train, &test, &cfg).unwrap();
            let hits: Vec<f64> = hits
                .into_iter()
                .map(|hit| f64::from(u8::from(hit)))
                .collect();
            assert_close(&hits, &golden.values(&name), &name);
            compared += 1;
        }
    }
    assert_eq!(compared, 10);
}
