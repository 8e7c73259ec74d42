//! Against scikit-learn (`tests/golden/clustering.py`).

#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use fgvr_eval::{
    Embeddings, KMeansConfig, RetrievalConfig, k_means, partition_agreement, retrieval,
};

fn golden() -> HashMap<String, Tensor> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/golden/clustering.safetensors"
    );
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn labels(tensor: &Tensor) -> Vec<u32> {
    let labels = tensor.to_vec1::<i64>().unwrap().into_iter();
    labels.map(|label| label as u32).collect()
}

fn ungrouped(features: &Tensor) -> Embeddings {
    Embeddings::new(features.clone(), vec![0; features.dim(0).unwrap()]).unwrap()
}

#[test]
fn agreement_of_partitions_is_scikit_learns() {
    let golden = golden();
    let mut compared = 0;
    for (name, scores) in &golden {
        let Some(case) = name.strip_suffix(".scores") else {
            continue;
        };
        let of = |part: &str| labels(&golden[&format!("{case}.{part}")]);
        let found = partition_agreement(&of("clusters"), &of("classes")).unwrap();
        let expected = scores.to_vec1::<f64>().unwrap();
        for (found, expected) in [found.nmi, found.ari, found.purity].iter().zip(&expected) {
            assert!(
                (found - expected).abs() < 1e-9,
                "{case}: {found}, expected {expected}"
            );
        }
        compared += 1;
    }
    assert_eq!(compared, 11);
}

#[test]
fn k_means_finds_what_scikit_learn_finds_in_a_hundred_starts() {
    let golden = golden();
    let cfg = KMeansConfig {
        clusters: Some(6),
        normalise: false,
        tolerance: 0.,
        ..KMeansConfig::default()
    };
    let found = k_means(&ungrouped(&golden["features"]), &cfg).unwrap();
    let expected = golden["inertia"].to_vec1::<f64>().unwrap()[0];
    assert!(
        (found.inertia / expected - 1.).abs() < 1e-5,
        "{} and {expected}",
        found.inertia
    );
    let agreement = partition_agreement(&found.assignment, &labels(&golden["assignment"])).unwrap();
    assert_eq!(agreement.ari, 1., "{agreement:?}");
}

#[test]
fn r_precision_and_rank_10_are_those_of_a_whole_sort() {
    let golden = golden();
    let labels = labels(&golden["random.classes"]);
    let features = golden["features"].narrow(0, 45, labels.len()).unwrap();
    let set = Embeddings::new(features.clone(), labels.clone()).unwrap();
    let found = retrieval(&set, &RetrievalConfig { normalise: false }).unwrap();
    let scores = features.matmul(&features.t().unwrap()).unwrap();
    let (mut precision, mut ten) = (0., 0.);
    for (query, scores) in scores.to_vec2::<f32>().unwrap().iter().enumerate() {
        let mut others: Vec<usize> = (0..labels.len()).filter(|item| *item != query).collect();
        others.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
        let is_own = |item: &&usize| labels[**item] == labels[query];
        let class = others.iter().filter(is_own).count();
        precision += others[..class].iter().filter(is_own).count() as f64 / class as f64;
        ten += f64::from(
            others[..10]
                .iter()
                .any(|item| labels[*item] == labels[query]),
        );
    }
    let n = labels.len() as f64;
    assert!(
        (found.r_precision - precision / n).abs() < 1e-12,
        "{found:?}"
    );
    assert!((found.rank10 - ten / n).abs() < 1e-12, "{found:?}");
}

#[test]
fn the_seed_decides_whatever_the_number_of_threads() {
    let set = ungrouped(&golden()["features"]);
    let run = |threads: usize, seed: u64| {
        let cfg = KMeansConfig {
            clusters: Some(9),
            starts: 2,
            seed,
            ..KMeansConfig::default()
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(|| k_means(&set, &cfg).unwrap())
    };
    assert_eq!(run(1, 3), run(4, 3));
    assert_ne!(run(1, 3), run(1, 4));
}

#[test]
fn there_may_be_fewer_different_rows_than_clusters() {
    let features = Tensor::new(&[[1f32, 0.], [1., 0.], [1., 0.], [0., 1.]], &Device::Cpu).unwrap();
    let cfg = KMeansConfig {
        clusters: Some(4),
        ..KMeansConfig::default()
    };
    let found = k_means(&ungrouped(&features), &cfg).unwrap();
    assert!(found.inertia < 1e-12, "{found:?}");
    assert_ne!(found.assignment[0], found.assignment[3]);
}

#[test]
fn clusters_are_as_many_as_classes_where_nobody_says_and_never_more_than_rows() {
    let features = Tensor::new(&[[1f32, 0.], [0.9, 0.1], [0., 1.]], &Device::Cpu).unwrap();
    let set = Embeddings::new(features, vec![4, 4, 2]).unwrap();
    let found = k_means(&set, &KMeansConfig::default()).unwrap();
    let agreement = partition_agreement(&found.assignment, &set.labels).unwrap();
    assert_eq!((agreement.clusters, agreement.purity), (2, 1.));
    for clusters in [0, 4] {
        let cfg = KMeansConfig {
            clusters: Some(clusters),
            ..KMeansConfig::default()
        };
        let error = k_means(&set, &cfg).unwrap_err().to_string();
        assert!(error.contains("clusters"), "{error}");
    }
}
