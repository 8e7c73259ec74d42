//! When the pair loss sets in, and whether it does.

use crate::SynthPairConfig;

/// ν(t): the pair loss's weight at `step` (from 0) of `total`. Zero for the first `warm_up` of all steps,
/// then linear; full from the last step of the `ramp` on. The warm-up ends on a whole step.
#[must_use]
pub fn pair_weight(cfg: &SynthPairConfig, step: u64, total: u64) -> f64 {
    let start = (cfg.warm_up * total as f64).round();
    let ramp = (cfg.ramp * total as f64).round().max(1.);
    let risen = (step as f64 + 1. - start) / ramp;
    cfg.nu * risen.clamp(0., 1.)
}

/// [`pair_weight`] behind a gate that opened after `opened` steps: zero while it is shut; then no more than a ramp from
/// there on.
#[must_use]
pub fn gated_pair_weight(cfg: &SynthPairConfig, step: u64, total: u64, opened: Option<u64>) -> f64 {
    let weight = pair_weight(cfg, step, total);
    match opened {
        _ if cfg.gate == 0. => weight,
        None => 0.,
        Some(opened) => {
            let ramp = (cfg.ramp * total as f64).round().max(1.);
            let risen = (step as f64 + 1. - opened as f64) / ramp;
            weight.min(cfg.nu * risen.clamp(0., 1.))
        }
    }
}

impl SynthPairConfig {
    /// Why a run of `steps` steps, each of `batches` batches of `images` images, makes no pair, though ν is above 0;
    /// `None` if it makes one.
    #[must_use]
    pub fn no_pair(&self, images: usize, batches: usize, steps: u64) -> Option<String> {
        // The bank holds a batch more after each; the first step that begins or goes on with its minimum.
        let filled = (self.bank_minimum.div_ceil(images.max(1)) / batches.max(1)) as u64;
        let weighs = (0..steps).find(|step| pair_weight(self, *step, steps) > 0.);
        let why = match weighs {
            _ if self.nu == 0. => return None,
            Some(first) if first.max(filled) < steps => return None,
            None => format!(
                "the warm-up takes all of them; lower synthpair.warm_up ({})",
                self.warm_up
            ),
            Some(_) => format!(
                "the bank holds its minimum of {} features after {filled} steps; lower synthpair.bank_minimum, or \
                 train for longer",
                self.bank_minimum
            ),
        };
        Some(format!(
            "synthpair: {steps} steps of {} images make no pair: {why}",
            images * batches
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_then_linear_then_full() {
        let cfg = SynthPairConfig::default();
        let weight = |step| pair_weight(&cfg, step, 1000);
        assert_eq!([weight(0), weight(199)], [0., 0.]);
        assert_eq!([weight(200), weight(224), weight(248)], [0.01, 0.25, 0.49]);
        assert_eq!([weight(249), weight(250), weight(999)], [0.5, 0.5, 0.5]);
        let full = (0..1000).filter(|step| weight(*step) == 0.5).count();
        assert_eq!(full, 751);
    }

    #[test]
    fn without_warm_up_and_ramp_the_weight_is_full_from_the_start() {
        let cfg = SynthPairConfig {
            warm_up: 0.,
            ramp: 0.,
            ..SynthPairConfig::default()
        };
        assert_eq!(pair_weight(&cfg, 0, 10), 0.5);
    }

    #[test]
    fn a_run_without_a_pair_says_why() {
        let cfg = SynthPairConfig::default();
        // 256 features are there after the fourth step of 64 images.
        assert_eq!(cfg.no_pair(64, 1, 5), None);
        assert_eq!(cfg.no_pair(64, 8, 1), None);
        let why = cfg.no_pair(64, 1, 4).unwrap();
        assert!(
            why.contains("minimum of 256 features after 4 steps"),
            "{why}"
        );
        let cfg = SynthPairConfig { warm_up: 1., ..cfg };
        let why = cfg.no_pair(64, 1, 100).unwrap();
        assert!(why.contains("synthpair.warm_up (1)"), "{why}");
        let cfg = SynthPairConfig { nu: 0., ..cfg };
        assert_eq!(cfg.no_pair(64, 1, 1), None);
    }

    #[test]
    fn behind_a_gate_the_weight_is_zero_and_then_rises_over_a_ramp() {
        let cfg = SynthPairConfig {
            gate: 0.7,
            ..SynthPairConfig::default()
        };
        let weight = |step, opened| gated_pair_weight(&cfg, step, 1000, opened);
        assert_eq!([weight(300, None), weight(999, None)], [0., 0.]);
        let late = [500, 524, 549, 900].map(|step| weight(step, Some(500)));
        assert_eq!(late, [0.01, 0.25, 0.5, 0.5]);
        // Opened in the warm-up, it changes nothing.
        for step in [0, 199, 224, 999] {
            assert_eq!(weight(step, Some(100)), pair_weight(&cfg, step, 1000));
        }
        let without = SynthPairConfig::default();
        assert_eq!(gated_pair_weight(&without, 999, 1000, None), 0.5);
    }

    #[test]
    fn short_runs_round_to_whole_steps() {
        let cfg = SynthPairConfig::default();
        let weights: Vec<_> = (0..6).map(|step| pair_weight(&cfg, step, 7)).collect();
        assert_eq!(weights, [0., 0.5, 0.5, 0.5, 0.5, 0.5]);
    }
}
