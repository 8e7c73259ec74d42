//! Fine-tuning as a protocol of evaluation.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How a network is fine-tuned with labels to judge what it starts from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FineTuneSettings {
    /// Shares of the training labels of each class, in (0, 1]; none switches fine-tuning off.
    pub fractions: Vec<f64>,
    /// Passes over the training images that have labels.
    pub epochs: u64,
    /// Steps at least, where a share has few images.
    pub least_steps: u64,
    /// Images a step.
    pub batch: usize,
    /// AdamW's peak rate of the network.
    pub lr: f64,
    /// That of the classifier, which starts from random weights.
    pub head_lr: f64,
    /// Weight decay; norms and biases have none.
    pub weight_decay: f64,
    /// How often it is repeated: other labels in the share, another classifier, another order.
    pub seeds: u64,
    /// Also judge after each tenth of the steps and tell the best: a choice by test images, for comparison with papers that
    /// report it.
    pub best_on_test: bool,
}

impl Default for FineTuneSettings {
    fn default() -> Self {
        Self {
            fractions: Vec::new(),
            epochs: 10,
            least_steps: 200,
            batch: 32,
            lr: 1e-4,
            head_lr: 1e-3,
            weight_decay: 0.05,
            seeds: 3,
            best_on_test: false,
        }
    }
}

impl FineTuneSettings {
    /// An error that names the first setting out of range.
    pub(crate) fn check(&self) -> Result<()> {
        let wrong = |name: &str, found: String, expected: &str| {
            let problem = format!("expected {expected}, found {found}");
            Err(Error::config(format!("evaluate.fine_tune.{name}"), problem))
        };
        let share = |fraction: &&f64| !(**fraction > 0. && **fraction <= 1.);
        if let Some(fraction) = self.fractions.iter().find(share) {
            return wrong("fractions", fraction.to_string(), "shares in (0, 1]");
        }
        for (name, value) in [
            ("epochs", self.epochs),
            ("batch", self.batch as u64),
            ("seeds", self.seeds),
        ] {
            if value == 0 {
                return wrong(name, "0".to_owned(), "at least 1");
            }
        }
        for (name, value) in [
            ("lr", self.lr),
            ("head_lr", self.head_lr),
            ("weight_decay", self.weight_decay),
        ] {
            if !(value.is_finite() && value >= 0.) {
                return wrong(name, value.to_string(), "a number of at least 0");
            }
        }
        Ok(())
    }
}
