//! Settings that count for a network that no longer changes: how photos are found and seen, what it pools, and how its
//! features are judged. They can be set over what a run or weights bring.

use toml::{Table, Value};

use super::{Layers, PretrainConfig};
use crate::{Error, Result};

/// What a network that no longer changes is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Features of photos in a file.
    Embed,
    /// Figures of its features.
    Evaluate,
    /// An adaptation of its features.
    Adapt,
}

/// Settings of `evaluate` that count for embedding: how a photo is seen.
const VIEW: [&str; 4] = ["batch", "interpolation", "resize_ratio", "squash"];

/// Settings of `evaluate` that count for the table of an adaptation.
const JUDGED: [&str; 2] = ["knn", "linear"];

impl Layers {
    /// Adds one setting of those that count for `purpose`.
    ///
    /// # Errors
    /// No `=`, an unknown key (the nearest one is named), or a value of another type; a setting that has no effect
    /// there: those that have are named.
    pub fn set_for(&mut self, purpose: Use, setting: &str) -> Result<()> {
        let Some((path, _)) = setting.split_once('=') else {
            return self.set(setting); // which says what is missing
        };
        let path = path.trim();
        let (section, rest) = path.split_once('.').unwrap_or((path, ""));
        let first = rest.split('.').next().unwrap_or_default();
        let counts = !rest.is_empty()
            && match (section, purpose) {
                ("data", Use::Evaluate) => rest != "size",
                ("encoder", Use::Embed | Use::Adapt) => rest == "pooling",
                ("data", Use::Embed | Use::Adapt)
                | ("normalisation", _)
                | ("evaluate", Use::Evaluate)
                | ("adapt", Use::Adapt) => true,
                ("evaluate", Use::Embed) => {
                    VIEW.contains(&first) || !evaluate().contains_key(first)
                }
                ("evaluate", Use::Adapt) => {
                    VIEW.contains(&first)
                        || JUDGED.contains(&first)
                        || !evaluate().contains_key(first)
                }
                _ => false,
            };
        if counts {
            return self.set(setting);
        }
        let (doing, why) = match purpose {
            Use::Evaluate if path == "data.size" => (
                "evaluating",
                "the run's networks are made for its own; `fgvr embed` takes it",
            ),
            Use::Evaluate => ("evaluating", "it has no effect there"),
            Use::Embed => ("embedding", "it has no effect there"),
            Use::Adapt => ("adapting", "it has no effect there"),
        };
        Err(Error::config(
            format!("--set {path}"),
            format!(
                "cannot be set for {doing}: {why}; what can be set is {}",
                names(purpose).join(", ")
            ),
        ))
    }

    /// The settings, of which those are checked that count for a network that no longer changes.
    ///
    /// # Errors
    /// An unknown key, a value of another type, or one out of range.
    pub fn resolve_frozen(&self) -> Result<PretrainConfig> {
        let config = self.sized()?;
        config.validate_view()?;
        Ok(config)
    }
}

/// The settings that count for `purpose`, by name.
fn names(purpose: Use) -> Vec<String> {
    let mut names = Vec::new();
    let config = Table::try_from(PretrainConfig::default()).unwrap_or_default();
    for section in ["data", "normalisation", "evaluate", "adapt"] {
        let keys = config.get(section).and_then(Value::as_table);
        for (key, value) in keys.into_iter().flatten() {
            let counts = match (section, purpose) {
                ("adapt", purpose) => purpose == Use::Adapt,
                ("evaluate", Use::Embed) => VIEW.contains(&key.as_str()),
                ("evaluate", Use::Adapt) => {
                    VIEW.contains(&key.as_str()) || JUDGED.contains(&key.as_str())
                }
                ("data", Use::Evaluate) => key != "size",
                _ => true,
            };
            if counts {
                let more = if value.is_table() { ".*" } else { "" };
                names.push(format!("{section}.{key}{more}"));
            }
        }
    }
    if purpose != Use::Evaluate {
        names.push("encoder.pooling".to_owned());
    }
    names
}

/// All settings of `evaluate`.
fn evaluate() -> Table {
    let settings = super::EvaluateSettings::default();
    Table::try_from(settings).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(purpose: Use, setting: &str) -> String {
        let error = Layers::default().set_for(purpose, setting);
        error.expect_err(setting).to_string()
    }

    #[test]
    fn what_has_no_effect_is_refused_with_a_list_of_what_has() {
        for setting in ["loader.batch=4", "evaluate.knn.k=3", "arm=base", "data=3"] {
            let text = said(Use::Embed, setting);
            for name in [
                "data.size",
                "data.max_pixels",
                "evaluate.squash",
                "normalisation.std",
            ] {
                assert!(text.contains(name), "{setting}: {text}");
            }
            assert!(!text.contains("evaluate.knn.*"), "{text}");
        }
        let text = said(Use::Evaluate, "data.size=64");
        assert!(
            text.contains("fgvr embed") && text.contains("evaluate.knn.*"),
            "{text}"
        );
        assert!(said(Use::Evaluate, "optimizer.lr=1").contains("data.labels"));
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        assert!(said(Use::Embed, "data.siez=64").contains("did you mean size?"));
        assert!(said(Use::Embed, "evaluate.interpolaton=box").contains("interpolation?"));
        assert!(said(Use::Embed, "data.size=large").contains("data.size"));
    }

    #[test]
    fn each_name_listed_can_be_set() {
        let defaults = Table::try_from(PretrainConfig::default()).unwrap();
        for purpose in [Use::Embed, Use::Evaluate, Use::Adapt] {
            for name in names(purpose) {
                let path = name.trim_end_matches(".*");
                let (section, key) = path.split_once('.').unwrap();
                let mut layers = Layers::default();
                let value = &defaults[section][key];
                if !value.is_table() {
                    layers.set_for(purpose, &format!("{path}={value}")).unwrap();
                    layers.resolve_frozen().unwrap();
                }
            }
        }
    }
}
