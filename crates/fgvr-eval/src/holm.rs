//! Several comparisons at once.

/// p-values adjusted by Holm's step-down method (Holm 1979): comparisons whose adjusted value is at most alpha hold together
/// with a chance of at most alpha that any of them is false. Values keep their places.
#[must_use]
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]).then(a.cmp(b)));
    let mut adjusted = vec![0.; p.len()];
    let mut least = 0f64;
    for (rank, at) in order.into_iter().enumerate() {
        // Never below that of a smaller value.
        least = least.max((p[at] * (p.len() - rank) as f64).min(1.));
        adjusted[at] = least;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_adjusted_as_statsmodels_does() {
        // statsmodels.stats.multitest.multipletests([0.04, 0.01, 0.03, 0.005, 0.6], method="holm")[1]
        let found = holm(&[0.04, 0.01, 0.03, 0.005, 0.6]);
        for (found, expected) in found.iter().zip([0.09, 0.04, 0.09, 0.025, 0.6]) {
            assert!((found - expected).abs() < 1e-12, "{found}, {expected}");
        }
        assert_eq!(holm(&[0.7, 0.8]), [1., 1.]);
        assert!(holm(&[]).is_empty());
    }
}
