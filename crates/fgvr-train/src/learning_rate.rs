//! The learning rate's course.

use std::f64::consts::PI;

use crate::config::OptimizerSettings;

/// Learning rate of the optimiser of encoder and heads at `step` (from 0) of `total`: linear warm-up over the first
/// `warm_up · total` steps, then half a cosine down to 0 (SGDR, arXiv:1608.03983, eq. 5, one cycle).
#[must_use]
pub fn learning_rate(settings: &OptimizerSettings, step: u64, total: u64) -> f64 {
    of_peak(settings.lr, settings.warm_up, step, total)
}

/// The learning rate at `step` (from 0) of `total`, of a course whose peak is `peak`.
pub(crate) fn of_peak(peak: f64, warm_up: f64, step: u64, total: u64) -> f64 {
    let warm_up = (warm_up * total as f64).ceil();
    let step = step as f64;
    if step < warm_up {
        return peak * (step + 1.) / warm_up;
    }
    let progress = (step - warm_up) / (total as f64 - warm_up).max(1.);
    peak * 0.5 * (1. + (PI * progress.min(1.)).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_to_the_peak_and_falls_to_zero() {
        let settings = OptimizerSettings {
            lr: 2.,
            warm_up: 0.1,
            ..OptimizerSettings::default()
        };
        let lr = |step| learning_rate(&settings, step, 100);
        assert_eq!(lr(0), 0.2);
        assert_eq!(lr(9), 2.);
        assert_eq!(lr(10), 2.);
        assert!((lr(55) - 1.).abs() < 1e-12);
        assert!(lr(99) > 0. && lr(99) < 0.01);
        assert!(lr(100) < 1e-12);
    }
}
