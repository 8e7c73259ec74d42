//! Multinomial logistic regression: loss and gradient.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::Error;
use crate::ranking::flat;

/// A linear classifier of D features into K classes.
#[derive(Clone)]
pub(crate) struct Classifier {
    /// (K, D), row by row.
    pub(crate) weight: Vec<f32>,
    /// (K).
    pub(crate) bias: Vec<f32>,
}

/// Value and gradient of the mean cross-entropy over some rows.
pub(crate) struct Gradient {
    pub(crate) loss: f64,
    /// (K, D).
    pub(crate) weight: Vec<f32>,
    /// (K).
    pub(crate) bias: Vec<f32>,
}

impl Classifier {
    pub(crate) fn zeros(classes: usize, width: usize) -> Self {
        Self {
            weight: vec![0.; classes * width],
            bias: vec![0.; classes],
        }
    }

    /// (N, K) logits of `features` (N, D).
    pub(crate) fn logits(&self, features: &Tensor) -> Result<Vec<f32>, Error> {
        let (classes, width) = (self.bias.len(), features.dim(1)?);
        let weight = Tensor::from_slice(&self.weight, (classes, width), &Device::Cpu)?;
        let bias = Tensor::from_slice(&self.bias, classes, &Device::Cpu)?;
        flat(&features.matmul(&weight.t()?)?.broadcast_add(&bias)?)
    }

    /// For the mean cross-entropy of `features` (N, D) with `targets` (N), each below K.
    pub(crate) fn gradient(&self, features: &Tensor, targets: &[usize]) -> Result<Gradient, Error> {
        let (n, classes) = (targets.len(), self.bias.len());
        let mut residual = self.logits(features)?;
        // Rows in parallel, sums in row order: the same bits for any number of threads.
        let losses: Vec<f64> = residual
            .par_chunks_mut(classes)
            .zip(targets)
            .map(|(row, target)| cross_entropy(row, *target, n))
            .collect();
        let mut bias = vec![0f64; classes];
        for row in residual.chunks_exact(classes) {
            bias.iter_mut()
                .zip(row)
                .for_each(|(sum, r)| *sum += f64::from(*r));
        }
        let residual = Tensor::from_vec(residual, (n, classes), &Device::Cpu)?;
        // (K, N) x (N, D) -> (K, D)
        let weight = flat(&residual.t()?.matmul(features)?)?;
        let loss = losses.iter().sum::<f64>() / n as f64;
        Ok(Gradient {
            loss,
            weight,
            bias: bias.into_iter().map(|b| b as f32).collect(),
        })
    }
}

/// The cross-entropy of a row of logits, which become the gradient at them, over `n`.
fn cross_entropy(row: &mut [f32], target: usize, n: usize) -> f64 {
    let top = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let at_target = f64::from(row[target]) - top;
    let sum: f64 = row
        .iter()
        .map(|logit| (f64::from(*logit) - top).exp())
        .sum();
    for (class, logit) in row.iter_mut().enumerate() {
        let probability = (f64::from(*logit) - top).exp() / sum;
        let hit = if class == target { 1. } else { 0. };
        *logit = ((probability - hit) / n as f64) as f32;
    }
    sum.ln() - at_target
}
