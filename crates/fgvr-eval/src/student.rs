//! Student's t: the error of a mean of few values.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// The quantile of Student's t that a two-sided interval of this `level`, in (0, 1), reaches to; infinite without a degree of
/// freedom.
#[must_use]
pub fn student_t(freedom: usize, level: f64) -> f64 {
    match StudentsT::new(0., 1., freedom as f64) {
        Ok(distribution) if level > 0. && level < 1. => distribution.inverse_cdf((1. + level) / 2.),
        _ => f64::INFINITY,
    }
}

/// Half the width of the 95 % interval of the mean of `values`, by Student's t; none for fewer than two.
#[must_use]
pub fn half_width(values: &[f64]) -> Option<f64> {
    let n = values.len() as f64;
    if values.len() < 2 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let deviation = (squares / (n - 1.)).sqrt();
    Some(student_t(values.len() - 1, 0.95) * deviation / n.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_scipys() {
        // scipy.stats.t.ppf(0.975, n) and (0.95, n)
        for (freedom, level, expected) in [
            (1, 0.95, 12.706_204_736_432_095),
            (2, 0.95, 4.302_652_729_911_275),
            (4, 0.95, 2.776_445_105_197_793),
            (60, 0.95, 2.000_297_821_058_262),
            (9, 0.9, 1.833_112_932_653_634_5),
        ] {
            let found = student_t(freedom, level);
            assert!((found - expected).abs() < 1e-6, "{freedom}: {found}");
        }
        assert_eq!(student_t(0, 0.95), f64::INFINITY);
    }

    #[test]
    fn the_interval_of_a_mean_of_three() {
        let found = half_width(&[1., 2., 3.]).unwrap();
        assert!((found - 4.302_652_729_911_275 / 3f64.sqrt()).abs() < 1e-6);
        assert_eq!((half_width(&[1.]), half_width(&[2., 2.])), (None, Some(0.)));
    }
}
