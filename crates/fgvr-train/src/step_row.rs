//! One line of the metrics.

use std::collections::BTreeMap;

use serde::Serialize;

/// What `metrics.jsonl` says of a step.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StepRow {
    /// Optimiser steps done.
    pub step: u64,
    /// Passes over the set done or under way, from 0.
    pub epoch: u64,
    /// The total loss.
    pub loss: f64,
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
    /// Nearest-neighbour accuracy on the validation split; at the epochs it is computed.
    pub val_knn: Option<f64>,
    /// The terms of the loss, the base's as `loss_base`, and the figures of add-ons, by name; `null` where this step
    /// had none.
    #[serde(flatten)]
    pub named: BTreeMap<&'static str, Option<f64>>,
}

/// The base's term, and its name in records of earlier versions, which is written beside it.
const BASE: [&str; 2] = ["loss_base", "loss_contrastive"];

impl StepRow {
    /// A term of the loss or a figure of an add-on, where this step had it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        self.named.get(name).copied().flatten()
    }

    /// The terms of the loss by name without `loss_`, the base's first.
    pub fn losses(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let terms = self.named.iter().filter_map(|(name, value)| {
            let name = name.strip_prefix("loss_")?;
            Some((name, (*value)?))
        });
        let (base, others): (Vec<_>, Vec<_>) = terms.partition(|(name, _)| *name == "base");
        base.into_iter().chain(others)
    }

    /// Adds `value` to what stands under `name`.
    pub(crate) fn add(&mut self, name: &'static str, value: f64) {
        let sum = self.named.entry(name).or_default();
        *sum = Some(sum.unwrap_or(0.) + value);
    }

    /// The row as a JSON object; a figure that is not finite becomes `null`.
    ///
    /// # Errors
    /// None in practice.
    pub fn to_map(&self) -> crate::Result<fgvr_report::record::Row> {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::Object(mut map)) => {
                if let Some(loss) = map.get(BASE[0]).cloned() {
                    map.insert(BASE[1].to_owned(), loss);
                }
                Ok(map)
            }
            Ok(_) => Ok(fgvr_report::record::Row::new()),
            Err(e) => Err(crate::Error::config("metrics", e.to_string())),
        }
    }
}
