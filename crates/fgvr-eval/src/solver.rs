//! How a probe's classifier is found.

use crate::Error;
use crate::embeddings::Rows;
use crate::logistic::Classifier;

/// The method that fits the classifier.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Solver {
    /// All rows at once, from zeros; weight decay is `wd/2 * |W|^2` beside the mean cross-entropy.
    Lbfgs(LbfgsConfig),
    /// Batches of shuffled rows, from weights drawn from N(0, 0.01^2).
    Sgd(SgdConfig),
}

/// L-BFGS with a memory of ten steps and a backtracking line search.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
pub struct LbfgsConfig {
    /// Most iterations for each weight decay. By default 200.
    pub iterations: usize,
    /// Stop where no entry of the gradient is larger. By default 1e-5.
    pub tolerance: f64,
}

impl Default for LbfgsConfig {
    fn default() -> Self {
        Self {
            iterations: 200,
            tolerance: 1e-5,
        }
    }
}

/// SGD with PyTorch's momentum and weight decay.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
pub struct SgdConfig {
    /// Learning rate at the start. By default 0.1.
    pub lr: f64,
    /// Momentum, in [0, 1). By default 0.9.
    pub momentum: f64,
    /// Rows a batch; the last batch of an epoch may be smaller. By default 256.
    pub batch: usize,
    /// Passes over the training rows. By default 100.
    pub epochs: usize,
    /// How the learning rate falls. By default on a cosine.
    pub schedule: Schedule,
}

impl Default for SgdConfig {
    fn default() -> Self {
        Self {
            lr: 0.1,
            momentum: 0.9,
            batch: 256,
            epochs: 100,
            schedule: Schedule::Cosine,
        }
    }
}

/// The learning rate by epoch.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Schedule {
    /// Half a cosine from the start to zero.
    Cosine,
    /// Times `factor` from each of these epochs (0-based) on.
    Steps {
        /// Epochs at which it falls.
        epochs: Vec<usize>,
        /// What it is multiplied by.
        factor: f64,
    },
}

impl Schedule {
    pub(crate) fn factor(&self, epoch: usize, epochs: usize) -> f64 {
        match self {
            Self::Cosine => {
                let part = epoch as f64 / epochs as f64;
                0.5 * (1. + (std::f64::consts::PI * part).cos())
            }
            Self::Steps { epochs, factor } => {
                factor.powi(epochs.iter().filter(|at| **at <= epoch).count() as i32)
            }
        }
    }
}

impl Solver {
    pub(crate) fn check(&self, op: &'static str) -> Result<(), Error> {
        let config = |field, value: String, expected| {
            Err(Error::Config {
                op,
                field,
                value,
                expected,
            })
        };
        let positive = |value: f64| value.is_finite() && value > 0.;
        match self {
            Self::Lbfgs(c) if c.iterations == 0 => config("iterations", "0".into(), "at least 1"),
            Self::Lbfgs(c) if !positive(c.tolerance) => {
                config("tolerance", c.tolerance.to_string(), "a value above 0")
            }
            Self::Sgd(c) if !positive(c.lr) => config("lr", c.lr.to_string(), "a value above 0"),
            Self::Sgd(c) if !(0. ..1.).contains(&c.momentum) => {
                config("momentum", c.momentum.to_string(), "a value in [0, 1)")
            }
            Self::Sgd(c) if c.batch == 0 => config("batch", "0".into(), "at least 1"),
            Self::Sgd(c) if c.epochs == 0 => config("epochs", "0".into(), "at least 1"),
            _ => Ok(()),
        }
    }
}

/// Rows with classes 0..K, scaled.
pub(crate) struct Problem {
    pub(crate) rows: Rows,
    pub(crate) targets: Vec<usize>,
    pub(crate) classes: usize,
}

/// A fitted classifier.
pub(crate) struct Fitted {
    pub(crate) classifier: Classifier,
    pub(crate) iterations: usize,
    pub(crate) converged: Option<bool>,
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::HashMap;

    use candle_core::{DType, Device, Tensor};

    use super::*;

    /// `tests/golden/eval.py`.
    pub(crate) fn golden() -> HashMap<String, Tensor> {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/golden/eval.safetensors"
        );
        candle_core::safetensors::load(path, &Device::Cpu).unwrap()
    }

    pub(crate) fn problem(golden: &HashMap<String, Tensor>) -> Problem {
        let targets = golden["train_labels"].to_vec1::<i64>().unwrap();
        Problem {
            rows: Rows::of("test", "x", &golden["scaled"]).unwrap(),
            targets: targets.into_iter().map(|t| t as usize).collect(),
            classes: 7,
        }
    }

    pub(crate) fn assert_close(found: &[f32], expected: &Tensor, tolerance: f32) {
        let expected = expected
            .to_dtype(DType::F32)
            .unwrap()
            .flatten_all()
            .unwrap();
        let expected = expected.to_vec1::<f32>().unwrap();
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(&expected) {
            assert!((a - b).abs() < tolerance, "{a}, expected {b}");
        }
    }

    #[test]
    fn schedules_fall_where_they_say() {
        let steps = Schedule::Steps {
            epochs: vec![60, 80],
            factor: 0.1,
        };
        let at = |epoch| steps.factor(epoch, 100);
        assert_eq!((at(0), at(59), at(60), at(79)), (1., 1., 0.1, 0.1));
        assert!((at(80) - 0.01).abs() < 1e-15);
        assert_eq!(Schedule::Cosine.factor(0, 100), 1.);
        assert!((Schedule::Cosine.factor(50, 100) - 0.5).abs() < 1e-15);
    }
}
