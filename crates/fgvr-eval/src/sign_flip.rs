//! A paired test that takes classes for what is independent.

use rand::RngExt as _;
use rayon::prelude::*;

use crate::Error;
use crate::hash::rng;
use crate::retrieval::items_of_classes;

const OP: &str = "class_sign_flip";

/// With so many classes or fewer all signs are tried.
const EXACT: usize = 16;

/// How the test is made.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
pub struct SignFlipConfig {
    /// Signs drawn, where there are more than 16 classes. By default 20,000.
    pub draws: usize,
    /// Seed of the signs. By default 0.
    pub seed: u64,
}

impl Default for SignFlipConfig {
    fn default() -> Self {
        Self {
            draws: 20_000,
            seed: 0,
        }
    }
}

/// The p-value, two-sided, of differences between two sides on the same queries: how often their mean is as far from 0 as it is,
/// if which side is which were tossed anew for each class (Fisher's randomisation test on the sums of classes).
///
/// Queries of a class are right or wrong together, so whole classes are tossed. Under the null hypothesis the sum of a
/// class is as likely to have one sign as the other; nothing else is assumed of it. With 16 classes or fewer all signs are
/// tried, otherwise they are drawn, and the value is (hits + 1) / (draws + 1), never 0. The number of threads changes no
/// bit.
///
/// # Errors
/// No query, differences or labels of different lengths, values that are not finite, no draw.
pub fn class_sign_flip(
    differences: &[f64],
    labels: &[u32],
    cfg: &SignFlipConfig,
) -> Result<f64, Error> {
    if cfg.draws == 0 {
        return Err(Error::Config {
            op: OP,
            field: "draws",
            value: "0".to_owned(),
            expected: "at least 1",
        });
    }
    if differences.len() != labels.len() {
        return Err(Error::Labels {
            op: OP,
            name: "differences",
            rows: differences.len(),
            labels: labels.len(),
        });
    }
    if differences.is_empty() {
        let reason = "no differences to test".to_owned();
        return Err(Error::Nothing { op: OP, reason });
    }
    if let Some(column) = differences.iter().position(|value| !value.is_finite()) {
        return Err(Error::NotFinite {
            op: OP,
            name: "differences",
            row: 0,
            column,
            value: differences[column] as f32,
        });
    }
    let sums: Vec<f64> = items_of_classes(labels)
        .into_values()
        .map(|queries| queries.into_iter().map(|query| differences[query]).sum())
        .collect();
    let found = sums.iter().sum::<f64>().abs();
    // Sums in another order may differ in their last bits.
    let far = found - 1e-9 * sums.iter().map(|sum| sum.abs()).sum::<f64>();
    let is_far = |sign: &dyn Fn(usize) -> bool| {
        let flipped = sums.iter().enumerate();
        let flipped = flipped.map(|(class, sum)| if sign(class) { *sum } else { -sum });
        flipped.sum::<f64>().abs() >= far
    };
    if sums.len() <= EXACT {
        let all = 1u32 << sums.len();
        let hits = (0..all).filter(|signs| is_far(&|class| signs >> class & 1 == 1));
        return Ok(hits.count() as f64 / f64::from(all));
    }
    let hits = (0..cfg.draws).into_par_iter().filter(|draw| {
        let mut rng = rng([cfg.seed, *draw as u64, 1, 0]);
        let signs: Vec<bool> = sums.iter().map(|_| rng.random()).collect();
        is_far(&|class| signs[class])
    });
    Ok((hits.count() + 1) as f64 / (cfg.draws + 1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_is_scipys_where_all_signs_are_tried() {
        // scipy.stats.permutation_test((sums,), np.mean, permutation_type="samples", n_resamples=np.inf)
        let test = |differences: &[f64], labels: &[u32]| {
            class_sign_flip(differences, labels, &SignFlipConfig::default()).unwrap()
        };
        let sums = [1.2, -0.3, 0.8, 0.5, 0.1, 0.9, -0.2, 0.4];
        assert!((test(&sums, &[0, 1, 2, 3, 4, 5, 6, 7]) - SCIPY).abs() < 1e-6);
        // Halves of a class count together.
        let halves: Vec<f64> = sums.iter().flat_map(|sum| [sum / 2.; 2]).collect();
        let labels: Vec<u32> = (0..16).map(|query| query / 2).collect();
        assert!((test(&halves, &labels) - SCIPY).abs() < 1e-6);
        assert_eq!(test(&[0., 0., 0.], &[1, 2, 3]), 1.);
        // A single class says nothing.
        assert_eq!(test(&[1.; 50], &[4; 50]), 1.);
    }

    /// Of the eight sums above.
    const SCIPY: f64 = 0.078_125;

    #[test]
    fn drawn_signs_come_close_to_all_signs_and_are_never_sure() {
        let sums: Vec<f64> = (0..20).map(|i| f64::from(i % 7) - 2.).collect();
        let labels: Vec<u32> = (0..20).collect();
        let cfg = SignFlipConfig::default();
        let found = class_sign_flip(&sums, &labels, &cfg).unwrap();
        // By all 2^20 signs, in Python.
        assert!((found - ALL_SIGNS).abs() < 0.01, "{found}");
        assert_eq!(found, class_sign_flip(&sums, &labels, &cfg).unwrap());
        let sure = class_sign_flip(&[1.; 60], &(0..60).collect::<Vec<_>>(), &cfg).unwrap();
        assert_eq!(sure, 1. / 20_001.);
    }

    const ALL_SIGNS: f64 = 0.089_630_126_953_125;

    #[test]
    fn what_cannot_be_tested_is_refused() {
        let cfg = SignFlipConfig::default();
        assert!(class_sign_flip(&[], &[], &cfg).is_err());
        assert!(class_sign_flip(&[1.], &[1, 2], &cfg).is_err());
        assert!(class_sign_flip(&[f64::NAN], &[1], &cfg).is_err());
        let none = SignFlipConfig { draws: 0, ..cfg };
        assert!(class_sign_flip(&[1.], &[1], &none).is_err());
    }
}
