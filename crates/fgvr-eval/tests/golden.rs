//! Against PyTorch and NumPy (`tests/golden/eval.py`).

#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use fgvr_eval::{
    Embeddings, KnnConfig, RetrievalConfig, alignment, effective_rank, embedding_std, knn,
    retrieval, uniformity,
};

struct Golden(HashMap<String, Tensor>);

impl Golden {
    fn load() -> Self {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/golden/eval.safetensors"
        );
        Self(candle_core::safetensors::load(path, &Device::Cpu).unwrap())
    }

    fn set(&self, features: &str, labels: &str) -> Embeddings {
        let labels = self.0[labels].to_vec1::<i64>().unwrap();
        let labels = labels.into_iter().map(|label| label as u32).collect();
        Embeddings::new(self.0[features].clone(), labels).unwrap()
    }

    fn assert_close(&self, name: &str, found: f64, tolerance: f64) {
        let expected = self.0[name].to_vec1::<f64>().unwrap()[0];
        assert!(
            (found - expected).abs() <= tolerance,
            "{name}: {found}, expected {expected}"
        );
    }
}

#[test]
fn knn_votes_as_by_definition() {
    let golden = Golden::load();
    let train = golden.set("train", "train_labels");
    let test = golden.set("test", "test_labels");
    let report = knn(&train, &test, &KnnConfig::default()).unwrap();
    golden.assert_close("knn_top1", report.top1, 1e-12);
    golden.assert_close("knn_top5", report.top5, 1e-12);
}

#[test]
fn retrieval_with_many_ties_is_as_by_a_stable_sort() {
    let golden = Golden::load();
    let items = golden.set("items", "item_labels");
    let report = retrieval(&items, &RetrievalConfig { normalise: false }).unwrap();
    assert_eq!((report.queries, report.left_out), (119, 1));
    golden.assert_close("rank1", report.rank1, 1e-12);
    golden.assert_close("rank5", report.rank5, 1e-12);
    golden.assert_close("map", report.map, 1e-12);
    golden.assert_close("map_at_r", report.map_at_r, 1e-12);
}

#[test]
fn measures_of_spread_are_as_by_definition() {
    let golden = Golden::load();
    let (train, test) = (&golden.0["train"], &golden.0["test"]);
    golden.assert_close("effective_rank_tall", effective_rank(train).unwrap(), 1e-6);
    let wide = train.narrow(0, 0, 10).unwrap();
    golden.assert_close("effective_rank_wide", effective_rank(&wide).unwrap(), 1e-6);
    golden.assert_close("embedding_std", embedding_std(train).unwrap(), 1e-6);
    let pairs = train.narrow(0, 0, 100).unwrap();
    golden.assert_close("alignment", alignment(&pairs, test, 2.).unwrap(), 1e-6);
    golden.assert_close("uniformity", uniformity(train, 2.).unwrap(), 1e-6);
}
