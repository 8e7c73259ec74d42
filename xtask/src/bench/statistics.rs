//! Median and spread of repetitions.

/// The middle of a set of numbers and how far it spreads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Summary {
    pub(super) median: f64,
    /// Interquartile range: the third quartile less the first.
    pub(super) iqr: f64,
    /// How many numbers there were.
    pub(super) count: usize,
}

impl Summary {
    /// Of `values`; `None` where there are none, or one is not finite.
    pub(super) fn of(values: &[f64]) -> Option<Self> {
        if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let mut values = values.to_vec();
        values.sort_unstable_by(f64::total_cmp);
        Some(Self {
            median: quantile(&values, 0.5),
            iqr: quantile(&values, 0.75) - quantile(&values, 0.25),
            count: values.len(),
        })
    }

    /// A single number, without spread.
    pub(super) fn exactly(value: f64) -> Self {
        Self {
            median: value,
            iqr: 0.,
            count: 1,
        }
    }
}

/// The quantile of sorted values, linear between two of them (numpy's default).
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = share * (sorted.len() - 1) as f64;
    let below = at.floor() as usize;
    let above = at.ceil() as usize;
    sorted[below] + (sorted[above] - sorted[below]) * (at - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_those_of_numpy() {
        let summary = Summary::of(&[5., 1., 2., 4., 3., 10.]).unwrap();
        assert_eq!((summary.median, summary.count), (3.5, 6));
        assert!((summary.iqr - (4.75 - 2.25)).abs() < 1e-12);
        assert_eq!(Summary::of(&[7.]), Some(Summary::exactly(7.)));
        assert_eq!(Summary::of(&[1., 3.]).unwrap().iqr, 1.);
    }

    #[test]
    fn nothing_and_what_is_not_finite_have_no_summary() {
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(Summary::of(&[1., f64::NAN]), None);
    }
}
