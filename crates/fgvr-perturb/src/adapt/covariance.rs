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
#[derive(Debug)]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapt::vectors::dot;

    #[test]
    fn a_random_basis_keeps_the_eigenvalues_and_turns_the_eigenvectors() {
        // `tests/golden/adaptation.py`
        let golden = fgvr_testkit::golden("adaptation.safetensors");
        let values = |name: &str| -> Vec<f64> {
            let tensor = golden.get(name);
            tensor.flatten_all().unwrap().to_vec1().unwrap()
        };
        let (within, expected) = (values("within"), values("within_eigenvalues"));
        let n = expected.len();
        let turned = in_random_basis(&within, n, 5).unwrap();
        let mut found = eigenvalues(turned.clone(), n).unwrap();
        found.sort_by(f64::total_cmp);
        fgvr_testkit::assert_close_values("eigenvalues", &found, &expected, 1e-12);
        let length = |m: &[f64]| dot(m, m).sqrt();
        let agreement = dot(&turned, &within) / (length(&turned) * length(&within));
        assert!(agreement < 0.8, "{agreement}");
    }

    #[test]
    fn the_spectrum_counts_directions() {
        // 3, 1 and a 0 in a turned basis of three.
        let matrix = [2., 1., 0., 1., 2., 0., 0., 0., 0.];
        let found = spectrum(&matrix, 3).unwrap();
        assert_eq!(found.rank, 2);
        let entropy = -(0.75f64 * 0.75f64.ln() + 0.25 * 0.25f64.ln());
        assert!((found.effective_rank - entropy.exp()).abs() < 1e-12);
        let all = spectrum(&[2., 0., 0., 2.], 2).unwrap();
        assert_eq!(all.rank, 2);
        assert!((all.effective_rank - 2.).abs() < 1e-12);
    }
}
