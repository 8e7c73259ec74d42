//! One line of the metrics.

use std::collections::BTreeMap;

use serde::Serialize;

/// What `metrics.jsonl` says of a step; `null` where an arm has no such term.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StepRow {
    /// Optimiser steps done.
    pub step: u64,
    /// Passes over the set done or under way, from 0.
    pub epoch: u64,
    /// The total loss.
    pub loss: f64,
    /// The base's loss on real views.
    pub loss_contrastive: f64,
    /// Mean squared error of the reconstruction, in normalised pixels.
    pub loss_reconstruction: Option<f64>,
    /// The base's loss on generated pairs, or on pairs of features.
    pub loss_pair: Option<f64>,
    /// Weight of the pair loss.
    pub nu: f64,
    /// Learning rate of encoder and head.
    pub lr: f64,
    /// Images of the step over its seconds, waiting for data included.
    pub images_per_second: f64,
    /// Seconds the step waited for data.
    pub data_wait: f64,
    /// S.d. of the embeddings' dimensions times the square root of their number: 1 when directions
    /// are uniform, 0 when all are one.
    pub embedding_std: f64,
    /// Effective rank of the batch's embeddings; every 20 steps and at the last.
    pub effective_rank: Option<f64>,
    /// Gradient norm of encoder and head before clipping.
    pub gradient_norm: f64,
    /// Fraction of queries whose own key is the nearest.
    pub top1: f64,
    /// The same of the pair task.
    pub pair_top1: Option<f64>,
    /// |x̂ − x̃| / |x − x̂|; of pairs of features mean |h̃ − h| / mean |h|.
    pub pair_difference: Option<f64>,
    /// Mean cosine of the embeddings of x̂ and x̃ of one image.
    pub pair_same_cosine: Option<f64>,
    /// The same of different images.
    pub pair_other_cosine: Option<f64>,
    /// Fraction of dimensions that are perturbed.
    pub masked_fraction: Option<f64>,
    /// Fraction of dimensions that are zero over the whole bank.
    pub dead_fraction: Option<f64>,
    /// Fraction of dimensions that both criteria name.
    pub mask_overlap: Option<f64>,
    /// Nearest-neighbour accuracy on the validation split; at the epochs it is computed.
    pub val_knn: Option<f64>,
    /// Losses and figures of add-ons, by name.
    #[serde(flatten)]
    pub addons: BTreeMap<&'static str, f64>,
}

impl StepRow {
    /// The row as a JSON object; a figure that is not finite becomes `null`.
    ///
    /// # Errors
    /// None in practice.
    pub fn to_map(&self) -> crate::Result<fgvr_report::record::Row> {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::Object(map)) => Ok(map),
            Ok(_) => Ok(fgvr_report::record::Row::new()),
            Err(e) => Err(crate::Error::config("metrics", e.to_string())),
        }
    }
}
