//! What several seeds allow to be said of two arms.

use fgvr_eval::half_width;
use serde::Serialize;

/// Mean and spread of one figure over seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// How many values.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation (n - 1 below the line); absent for one value.
    pub sd: Option<f64>,
}

impl Spread {
    /// Of `values`; `None` without any.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        let sd = (values.len() > 1).then(|| (squares / (n - 1.)).sqrt());
        Some(Self {
            count: values.len(),
            mean,
            sd,
        })
    }
}

/// What a paired difference shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Above the control in every seed, on average by more than two standard deviations of the
    /// differences.
    Gain,
    /// Below the control likewise.
    Loss,
    /// Neither.
    NotShown,
    /// Fewer than three seeds have both.
    TooFewSeeds,
}

/// Differences between an arm and the control, seed by seed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Paired {
    /// Mean and spread of the differences.
    pub difference: Spread,
    /// Half the width of the 95 % interval of the mean difference by Student's t; absent for one
    /// seed.
    pub half_width: Option<f64>,
    /// What it shows.
    pub verdict: Verdict,
}

impl Paired {
    /// Of (arm, control) pairs, a seed each; `None` without any.
    #[must_use]
    pub fn of(pairs: &[(f64, f64)]) -> Option<Self> {
        let differences: Vec<f64> = pairs.iter().map(|(arm, control)| arm - control).collect();
        let difference = Spread::of(&differences)?;
        let half_width = half_width(&differences);
        let far = difference
            .sd
            .is_some_and(|sd| difference.mean.abs() > 2. * sd);
        let verdict = if difference.count < 3 {
            Verdict::TooFewSeeds
        } else if far && differences.iter().all(|d| *d > 0.) {
            Verdict::Gain
        } else if far && differences.iter().all(|d| *d < 0.) {
            Verdict::Loss
        } else {
            Verdict::NotShown
        };
        Some(Self {
            difference,
            half_width,
            verdict,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_the_sample_standard_deviation() {
        let spread = Spread::of(&[1., 2., 3.]).unwrap();
        assert_eq!((spread.mean, spread.sd), (2., Some(1.)));
        assert_eq!(Spread::of(&[4.]).unwrap().sd, None);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn a_gain_has_one_sign_and_two_standard_deviations() {
        let verdict = |pairs: &[(f64, f64)]| Paired::of(pairs).unwrap().verdict;
        assert_eq!(verdict(&[(2., 1.), (3.1, 2.), (3.9, 3.)]), Verdict::Gain);
        assert_eq!(verdict(&[(1., 2.), (2., 3.1), (3., 3.9)]), Verdict::Loss);
        // One sign, but too spread.
        assert_eq!(verdict(&[(2., 1.), (5., 2.), (3.1, 3.)]), Verdict::NotShown);
        // Far on average, not of one sign.
        assert_eq!(verdict(&[(2., 1.), (3., 2.), (2.9, 3.)]), Verdict::NotShown);
        assert_eq!(verdict(&[(2., 1.), (3., 2.)]), Verdict::TooFewSeeds);
    }

    #[test]
    fn the_interval_is_students() {
        let paired = Paired::of(&[(1., 0.), (2., 0.), (3., 0.)]).unwrap();
        let expected = 4.302_652_729_911_275 / 3f64.sqrt();
        assert!((paired.half_width.unwrap() - expected).abs() < 1e-6);
    }
}
