//! How much is masked in the course of a run.

use candle_core::{Result, bail};
use fgvr_perturb::MaskConfig;

use crate::SynthPairConfig;

/// The course from the first share of the configured mask to the whole of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Course {
    /// The configured mask throughout.
    #[default]
    Constant,
    /// In equal parts a step.
    Linear,
    /// Half a cosine: slow at both ends.
    Cosine,
}

/// A curriculum on the size of the mask: both ρ are multiplied by `start` at the first step after
/// SynthPair's warm-up, by 1 at the last step of the run, and by what `course` says between them:
/// `start + (1 - start)·t`, or `start + (1 - start)·(1 - cos πt)/2`, t from 0 to 1. It depends on the step
/// alone.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default))]
pub struct CurriculumConfig {
    /// The course.
    pub course: Course,
    /// Share of the configured ρ at the start: below 1 the mask grows, above 1 it shrinks.
    pub start: f64,
}

impl Default for CurriculumConfig {
    fn default() -> Self {
        Self {
            course: Course::Constant,
            start: 0.2,
        }
    }
}

impl CurriculumConfig {
    /// Checks that no share of the dimensions is outside [0, 1] at any step.
    ///
    /// # Errors
    /// The field, what was expected and what was found.
    pub(crate) fn validate(&self, mask: &MaskConfig) -> Result<()> {
        let rho = mask.rho_variance.max(mask.rho_importance);
        if !(self.start >= 0. && self.start.is_finite()) {
            bail!(
                "synth pair: curriculum.start is {}, expected a number of at least 0",
                self.start
            );
        }
        if self.course != Course::Constant && self.start * rho > 1. {
            bail!(
                "synth pair: curriculum.start is {}, expected at most {} for masks of {rho}; lower it, or mask.rho_variance and mask.rho_importance",
                self.start,
                1. / rho
            );
        }
        Ok(())
    }
}

/// What is masked at `step` (from 0) of `total`.
#[must_use]
pub fn mask_at(cfg: &SynthPairConfig, step: u64, total: u64) -> MaskConfig {
    let first = (cfg.warm_up * total as f64).round();
    let length = (total as f64 - 1. - first).max(1.);
    let t = ((step as f64 - first) / length).clamp(0., 1.);
    let risen = match cfg.curriculum.course {
        Course::Constant => return cfg.mask.clone(),
        Course::Linear => t,
        Course::Cosine => (1. - (std::f64::consts::PI * t).cos()) / 2.,
    };
    let start = cfg.curriculum.start;
    // The ends exactly, whatever the rounding between them.
    let factor = if risen == 1. {
        1.
    } else {
        start + (1. - start) * risen
    };
    MaskConfig {
        rho_variance: cfg.mask.rho_variance * factor,
        rho_importance: cfg.mask.rho_importance * factor,
        ..cfg.mask.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MethodConfig as _;

    fn curriculum(course: Course, start: f64) -> SynthPairConfig {
        SynthPairConfig {
            warm_up: 0.2,
            curriculum: CurriculumConfig { course, start },
            ..SynthPairConfig::default()
        }
    }

    #[test]
    fn the_mask_grows_or_shrinks_from_the_warm_up_to_the_last_step() {
        // 101 steps: the warm-up ends before step 20, and step 60 is the middle.
        let rho = |cfg: &SynthPairConfig, step| {
            let mask = mask_at(cfg, step, 101);
            assert_eq!(mask.rho_variance, mask.rho_importance);
            mask.rho_variance
        };
        for course in [Course::Linear, Course::Cosine] {
            let cfg = curriculum(course, 0.2);
            let at = [0, 20, 60, 100].map(|step| rho(&cfg, step));
            assert_eq!([at[0], at[1], at[3]], [0.05, 0.05, 0.25], "{course:?}");
            assert!((at[2] - 0.15).abs() < 1e-12, "{course:?}: {at:?}");
            let shrinking = curriculum(course, 3.);
            let at = [20, 60, 100].map(|step| rho(&shrinking, step));
            assert!(at[0] == 0.75 && at[2] == 0.25 && (at[1] - 0.5).abs() < 1e-12);
        }
        let quarter = |course| rho(&curriculum(course, 0.2), 40);
        assert!((quarter(Course::Linear) - 0.1).abs() < 1e-12);
        assert!(quarter(Course::Cosine) < 0.09);
        let constant = curriculum(Course::Constant, 0.2);
        assert_eq!(mask_at(&constant, 20, 101), constant.mask);
    }

    #[test]
    fn a_run_that_is_all_warm_up_ends_at_the_start() {
        let mut cfg = curriculum(Course::Linear, 0.2);
        cfg.warm_up = 1.;
        assert_eq!(mask_at(&cfg, 9, 10).rho_variance, 0.05);
    }

    #[test]
    fn a_mask_of_more_than_everything_is_refused() {
        let error = |course, start| {
            let refused = curriculum(course, start).validate();
            refused.unwrap_err().to_string()
        };
        assert!(error(Course::Linear, 5.).contains("curriculum.start is 5, expected at most 4"));
        assert!(error(Course::Constant, f64::NAN).contains("curriculum.start is NaN"));
        curriculum(Course::Constant, 5.).validate().unwrap();
    }
}
