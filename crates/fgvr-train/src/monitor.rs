//! Alarms: a run that stopped learning says so while it can still be stopped.

use crate::config::{MonitorSettings, Policy};
use crate::{Error, Result};

/// What an alarm looks at after a step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vitals {
    /// The total loss.
    pub loss: f64,
    /// Norm of the gradient of encoder and head, before clipping.
    pub gradient_norm: f64,
    /// S.d. of the embeddings' dimensions times the square root of their number.
    pub embedding_std: f64,
    /// Effective rank of the batch's embeddings, where it was computed.
    pub effective_rank: Option<f64>,
    /// Top-1 of the pair task, where it ran.
    pub pair_top1: Option<f64>,
    /// |x̂ − x̃| / |x − x̂|, where the pair task ran.
    pub pair_difference: Option<f64>,
}

/// Raises alarms by policy; a warning is given again only after the condition was gone.
#[derive(Debug)]
pub struct Monitor {
    settings: MonitorSettings,
    /// Which alarms are on, by index below.
    ringing: [bool; 5],
    /// Mean pair top-1 over recent steps: one batch says little.
    pair_top1: Option<f64>,
}

impl Monitor {
    /// A monitor with these limits.
    #[must_use]
    pub fn new(settings: &MonitorSettings) -> Self {
        Self {
            settings: settings.clone(),
            ringing: [false; 5],
            pair_top1: None,
        }
    }

    /// Texts of the alarms that a step newly raises with policy `warn`.
    ///
    /// # Errors
    /// An alarm whose policy is `stop`.
    pub fn check(&mut self, step: u64, vitals: &Vitals) -> Result<Vec<String>> {
        let s = self.settings.clone();
        if let Some(top1) = vitals.pair_top1 {
            let before = self.pair_top1.unwrap_or(top1);
            self.pair_top1 = Some(0.98 * before + 0.02 * top1);
        }
        let finite = vitals.loss.is_finite() && vitals.gradient_norm.is_finite();
        let not_finite = (!finite).then(|| {
            format!(
                "loss {} or gradient norm {} is not finite; lower optimizer.lr, or set optimizer.clip",
                vitals.loss, vitals.gradient_norm
            )
        });
        let low_std = (vitals.embedding_std < s.min_embedding_std).then(|| {
            format!(
                "embedding s.d. {:.3} is below {}: the features collapse; lower optimizer.lr, or raise moco.queue where there is one",
                vitals.embedding_std, s.min_embedding_std
            )
        });
        let low_rank = vitals.effective_rank.filter(|rank| *rank < s.min_effective_rank).map(|rank| {
            format!(
                "effective rank {rank:.1} is below {}: the features collapse; lower optimizer.lr, or raise moco.queue where there is one",
                s.min_effective_rank
            )
        });
        let idle_top1 = self.pair_top1.filter(|top1| *top1 > 0.99).map(|top1| {
            format!("pair top-1 {top1:.3} is above 0.99: the pairs teach nothing; raise synthpair.noise.scale or synthpair.mask.rho_variance")
        });
        let idle_difference = vitals.pair_difference.filter(|d| *d < 0.01).map(|d| {
            format!("the two images of a pair differ by {d:.4} of the reconstruction error: the pairs teach nothing; raise synthpair.noise.scale")
        });
        let steep = (vitals.gradient_norm > s.max_gradient_norm).then(|| {
            format!(
                "gradient norm {:.3e} is above {:.0e}; lower optimizer.lr, or set optimizer.clip",
                vitals.gradient_norm, s.max_gradient_norm
            )
        });
        let alarms = [
            (s.not_finite, not_finite),
            (s.collapse, low_std),
            // A step without a figure leaves the alarm as it was.
            (
                s.collapse,
                if vitals.effective_rank.is_none() && self.ringing[2] {
                    Some(String::new())
                } else {
                    low_rank
                },
            ),
            (s.idle_pair, idle_top1.or(idle_difference)),
            (s.gradient, steep),
        ];
        let mut warnings = Vec::new();
        for (ringing, (policy, alarm)) in self.ringing.iter_mut().zip(alarms) {
            match (policy, &alarm) {
                (Policy::Stop, Some(problem)) => {
                    return Err(Error::Alarm {
                        step,
                        problem: problem.clone(),
                    });
                }
                (Policy::Warn, Some(problem)) if !*ringing => warnings.push(problem.clone()),
                _ => {}
            }
            *ringing = alarm.is_some();
        }
        Ok(warnings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy() -> Vitals {
        Vitals {
            loss: 1.,
            gradient_norm: 1.,
            embedding_std: 0.9,
            effective_rank: Some(20.),
            pair_top1: Some(0.5),
            pair_difference: Some(0.3),
        }
    }

    #[test]
    fn a_healthy_step_raises_nothing() {
        let mut monitor = Monitor::new(&MonitorSettings::default());
        assert!(monitor.check(1, &healthy()).unwrap().is_empty());
    }

    #[test]
    fn nan_stops_and_names_the_step() {
        let mut monitor = Monitor::new(&MonitorSettings::default());
        let sick = Vitals {
            loss: f64::NAN,
            ..healthy()
        };
        let error = monitor.check(7, &sick).unwrap_err().to_string();
        assert!(error.starts_with("step 7: loss NaN"), "{error}");
    }

    #[test]
    fn collapse_warns_once_until_it_is_gone() {
        let mut monitor = Monitor::new(&MonitorSettings::default());
        let collapsed = Vitals {
            embedding_std: 0.01,
            ..healthy()
        };
        assert_eq!(monitor.check(1, &collapsed).unwrap().len(), 1);
        assert_eq!(monitor.check(2, &collapsed).unwrap().len(), 0);
        assert_eq!(monitor.check(3, &healthy()).unwrap().len(), 0);
        assert_eq!(monitor.check(4, &collapsed).unwrap().len(), 1);
    }

    #[test]
    fn an_idle_pair_task_is_reported() {
        let mut monitor = Monitor::new(&MonitorSettings::default());
        let idle = Vitals {
            pair_difference: Some(0.001),
            ..healthy()
        };
        let warnings = monitor.check(1, &idle).unwrap();
        assert!(warnings[0].contains("teach nothing"), "{warnings:?}");
    }
}
