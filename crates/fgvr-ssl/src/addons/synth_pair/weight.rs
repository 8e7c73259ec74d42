//! When the pair loss sets in.

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
    fn short_runs_round_to_whole_steps() {
        let cfg = SynthPairConfig::default();
        let weights: Vec<_> = (0..6).map(|step| pair_weight(&cfg, step, 7)).collect();
        assert_eq!(weights, [0., 0.5, 0.5, 0.5, 0.5, 0.5]);
    }
}
