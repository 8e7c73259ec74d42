//! What is safe for weights that are worth something already.

use super::{Layers, OptimizerKind, PretrainConfig};
use fgvr_ssl::TrunkNorm;

/// The rate of the presets for pretrained weights, with AdamW.
const SAFE_RATE: f64 = 2e-5;
/// Rates above these have been seen to take pretrained networks below their start, or nothing is known of them.
const HIGHEST: [(OptimizerKind, f64); 3] = [
    (OptimizerKind::Adamw, 1e-4),
    (OptimizerKind::Sgd, 1e-3),
    (OptimizerKind::Lars, 1e-3),
];

impl Layers {
    /// The preset of careful training that fits the network of the layers so far: those that weights have brought.
    #[must_use]
    pub fn careful_preset(&self) -> &'static str {
        let name = self.get("encoder.architecture").and_then(|v| v.as_str());
        careful(name.is_some_and(|name| name.starts_with("vit")))
    }
}

impl PretrainConfig {
    /// Whether training starts from pretrained weights rather than random ones.
    #[must_use]
    pub fn is_pretrained(&self) -> bool {
        !self.weights.source.is_empty()
    }

    /// What training starts from, for people.
    #[must_use]
    pub fn start(&self) -> String {
        match self.is_pretrained() {
            true => self.weights.source.clone(),
            false => "random weights".to_owned(),
        }
    }

    /// What in these settings is likely to spoil the pretrained weights they start from, a line each.
    #[must_use]
    pub fn start_warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.is_pretrained() {
            return warnings;
        }
        let o = &self.optimizer;
        let kind = o.kind.name();
        let highest = HIGHEST.iter().find(|(of, _)| *of == o.kind);
        if highest.is_some_and(|(_, highest)| o.lr > *highest) {
            let heads = match o.head_lr {
                Some(_) => "",
                None => ", optimizer.head_lr=1e-3 for the heads",
            };
            warnings.push(format!(
                "warning: optimizer.lr = {} with {kind} is a rate for random weights, and these are pretrained: they \
                 are likely to end below their start; {SAFE_RATE:e} with optimizer.kind=adamw is a safe one{heads} \
                 (--preset {})",
                o.lr,
                careful(self.encoder.architecture.is_vit())
            ));
        }
        if o.trunk_norm == TrunkNorm::Batch && !self.encoder.architecture.is_vit() {
            warnings.push(
                "warning: batch norm of pretrained weights takes the statistics of the batch, which changes features \
                 even at a rate of 0; optimizer.trunk_norm=running keeps theirs"
                    .to_owned(),
            );
        }
        warnings
    }
}

/// The preset of careful training.
fn careful(is_vit: bool) -> &'static str {
    match is_vit {
        true => "pretrained-vit",
        false => "pretrained",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(preset: &str, settings: &[&str]) -> PretrainConfig {
        let mut layers = Layers::default();
        layers.preset(preset).unwrap();
        for setting in settings {
            layers.set(setting).unwrap();
        }
        layers.resolve().unwrap()
    }

    #[test]
    fn rates_for_random_weights_are_warned_of_and_the_careful_presets_are_not() {
        let start = "weights.source=x.safetensors";
        for preset in ["pretrained", "pretrained-vit"] {
            let config = resolved(preset, &[start, "encoder.architecture=resnet18"]);
            let rate = config
                .start_warnings()
                .iter()
                .any(|w| w.contains("rate for"));
            assert!(!rate, "{preset}");
        }
        assert!(resolved("pretrained", &[start]).start_warnings().is_empty());
        assert!(resolved("photos", &[]).start_warnings().is_empty());
        let warnings = resolved("photos", &[start]).start_warnings();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        for words in [
            "optimizer.lr = 0.06 with sgd",
            "2e-5",
            "--preset pretrained",
        ] {
            assert!(warnings[0].contains(words), "{words}: {warnings:?}");
        }
        let raised = resolved("pretrained", &[start, "optimizer.lr=1e-3"]).start_warnings();
        assert!(
            raised[0].contains("adamw") && raised.len() == 1,
            "{raised:?}"
        );
        let kept = resolved("pretrained", &[start, "optimizer.trunk_norm=batch"]);
        assert!(kept.start_warnings()[0].contains("trunk_norm=running"));
    }

    #[test]
    fn a_preset_goes_under_what_is_there() {
        let mut layers = Layers::default();
        layers.set("optimizer.lr=0.5").unwrap();
        layers.preset_under("pretrained").unwrap();
        let config = layers.resolve().unwrap();
        assert_eq!(config.optimizer.lr, 0.5);
        assert_eq!(config.optimizer.head_lr, Some(1e-3));
    }
}
