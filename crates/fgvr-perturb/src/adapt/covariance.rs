//! The covariance that each kind of adaptation divides out.

use candle_core::{Device, Tensor};

use super::eigen::{Eigen, eigen, eigenvalues};
use super::symmetric_sum::{BLOCK, SymmetricSum};
use super::vectors::trace;
use super::{AdaptError, random_orthogonal};

/// `covariance` (C, C) over its trace.
pub(super) fn of_trace_one(mut covariance: Vec<f64>, width: usize) -> Vec<f64> {
    let trace = trace(&covariance, width);
    covariance.iter_mut().for_each(|value| *value /= trace);
    covariance
}

/// Q Σ Q^T with a random orthogonal Q.
pub(super) fn in_random_basis(
    covariance: &[f64],
    width: usize,
    seed: u64,
) -> Result<Vec<f64>, AdaptError> {
    let shape = (width, width);
    let basis = Tensor::from_vec(random_orthogonal(width, seed)?, shape, &Device::Cpu)?;
    let covariance = Tensor::from_slice(covariance, shape, &Device::Cpu)?;
    let turned = basis.matmul(&covariance)?.matmul(&basis.t()?)?;
    Ok(turned.flatten_all()?.to_vec1()?)
}

/// total - within, with negative eigenvalues set to 0.
pub(super) fn between(total: &[f64], within: &[f64], width: usize) -> Result<Vec<f64>, AdaptError> {
    let difference = total.iter().zip(within).map(|(t, w)| t - w).collect();
    let Eigen {
        values,
        mut vectors,
    } = eigen(difference, width)?;
    // The sum over eigenvectors u of value * u u^T.
    let mut sum = SymmetricSum::new(width);
    for (vector, value) in vectors.chunks_exact_mut(width).zip(values) {
        let root = value.max(0.).sqrt();
        vector.iter_mut().for_each(|entry| *entry *= root);
    }
    for rows in vectors.chunks(BLOCK * width) {
        sum.add(rows)?;
    }
    Ok(sum.dense(1.))
}

/// How many directions a covariance has.
pub(super) struct Spectrum {
    /// Eigenvalues above C times f64's rounding of the largest.
    pub(super) rank: usize,
    /// The exponential of the entropy of the eigenvalues' shares.
    pub(super) effective_rank: f64,
}

/// The spectrum of a covariance (C, C) that is not 0.
pub(super) fn spectrum(covariance: &[f64], width: usize) -> Result<Spectrum, AdaptError> {
    let values = eigenvalues(of_trace_one(covariance.to_vec(), width), width)?;
    let largest = values.iter().copied().fold(0., f64::max);
    let least = width as f64 * f64::EPSILON * largest;
    let entropy: f64 = values
        .iter()
        .filter(|share| **share > 0.)
        .map(|share| -share * share.ln())
        .sum();
    Ok(Spectrum {
        rank: values.iter().filter(|value| **value > least).count(),
        effective_rank: entropy.exp(),
    })
}
