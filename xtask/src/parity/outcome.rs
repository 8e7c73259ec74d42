//! The errors of one network at one size, and whether they are small enough.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::case::Case;

/// What no feature's error may exceed, nor a ViT's gradient: max|a - b| / max|b|.
pub(super) const MOST: f64 = 1e-4;
/// What the mean error of a residual network's gradient may not exceed. A ReLU that rounding turns over
/// costs some 1e-3, and ResNet-101 has several (PyTorch's own f32 is off from its f64 as much); a wrong
/// gradient costs about 1.
pub(super) const MOST_KINKED: f64 = 3e-2;

/// What is compared: the name in the file, and a heading.
pub(super) const OUTPUTS: [(&str, &str); 7] = [
    ("pooled", "pooled"),
    ("map", "map"),
    ("frozen.pooled", "frozen pooled"),
    ("frozen.map", "frozen map"),
    ("train.pooled", "training pooled"),
    ("train.map", "training map"),
    ("gradient", "gradient"),
];

/// max|a - b| / max|b|, and mean|a - b| / mean|b|.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Error {
    pub(super) max: f64,
    pub(super) mean: f64,
}

impl Error {
    fn read(value: &Value) -> Result<Self> {
        let number = |i: usize| {
            let number = value[i].as_f64();
            number.with_context(|| format!("expected two errors, found {value}"))
        };
        Ok(Self {
            max: number(0)?,
            mean: number(1)?,
        })
    }

    fn json(self) -> Value {
        json!([self.max, self.mean])
    }
}

/// The errors of one output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Errors {
    /// Ours against PyTorch's, both in f32.
    pub(super) torch: Error,
    /// Ours, and PyTorch's in f32, against PyTorch's in f64.
    pub(super) ours: Error,
    pub(super) theirs: Error,
}

/// What one case came to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outcome {
    pub(super) case: Case,
    /// In the order of [`OUTPUTS`].
    pub(super) outputs: Vec<Errors>,
    /// Features against torchvision's, and against transformers', where they have the network.
    pub(super) torchvision: Option<Error>,
    pub(super) transformers: Option<Error>,
}

impl Outcome {
    pub(super) fn read(case: Case, answer: &Value) -> Result<Self> {
        let outputs = OUTPUTS.iter().map(|(name, _)| {
            let errors = &answer["outputs"][name];
            Ok(Errors {
                torch: Error::read(&errors["torch"])?,
                ours: Error::read(&errors["ours"])?,
                theirs: Error::read(&errors["theirs"])?,
            })
        });
        let other = |name: &str| answer["others"].get(name).map(Error::read).transpose();
        Ok(Self {
            case,
            outputs: outputs.collect::<Result<_>>()?,
            torchvision: other("torchvision")?,
            transformers: other("transformers")?,
        })
    }

    pub(super) fn json(&self) -> Value {
        let outputs = OUTPUTS
            .iter()
            .zip(&self.outputs)
            .map(|((name, _), errors)| {
                let errors = json!({
                    "torch": errors.torch.json(),
                    "ours": errors.ours.json(),
                    "theirs": errors.theirs.json(),
                });
                ((*name).to_string(), errors)
            });
        let other = |error: Option<Error>| error.map(Error::json);
        json!({
            "network": self.case.network,
            "images": self.case.images,
            "outputs": outputs.collect::<serde_json::Map<_, _>>(),
            "torchvision": other(self.torchvision),
            "transformers": other(self.transformers),
        })
    }

    /// The worst feature and the gradient, in a few words.
    pub(super) fn summary(&self) -> String {
        let features = self.outputs.iter().zip(OUTPUTS);
        let features = features.filter(|(_, (name, _))| *name != "gradient");
        let worst = features
            .map(|(errors, _)| errors.torch.max)
            .fold(0., f64::max);
        let gradient = self.outputs.last().map_or(0., |errors| errors.torch.max);
        format!("features within {worst:.1e}, gradient within {gradient:.1e}")
    }

    /// What is too large, a line each.
    pub(super) fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        let mut check = |what: &str, found: f64, most: f64| {
            if found.is_nan() || found > most {
                let name = self.case.name();
                failures.push(format!(
                    "{name}: {what} is off by {found:.1e}, more than {most:.0e}"
                ));
            }
        };
        for ((name, heading), errors) in OUTPUTS.iter().zip(&self.outputs) {
            if *name == "gradient" && self.case.has_kinks() {
                check("the gradient's mean", errors.torch.mean, MOST_KINKED);
            } else {
                check(heading, errors.torch.max, MOST);
            }
        }
        for (name, error) in [
            ("pooled, against torchvision,", self.torchvision),
            ("features, against transformers,", self.transformers),
        ] {
            if let Some(error) = error {
                check(name, error.max, MOST);
            }
        }
        failures
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::parity::case;

    /// An outcome with these errors of features and of the gradient.
    pub(in crate::parity) fn outcome(only: &str, feature: f64, gradient: [f64; 2]) -> Outcome {
        let pair = |error: f64| json!([error, error / 2.]);
        let errors =
            |torch: Value| json!({ "torch": torch, "ours": pair(1e-7), "theirs": pair(2e-7) });
        let mut answer = json!({ "outputs": {}, "others": { "torchvision": pair(3e-7) } });
        for (name, _) in OUTPUTS {
            answer["outputs"][name] = errors(match name {
                "gradient" => json!(gradient),
                _ => pair(feature),
            });
        }
        let case = case::chosen(&[only.to_string()]).unwrap()[0];
        Outcome::read(case, &answer).unwrap()
    }

    #[test]
    fn features_have_one_limit_and_gradients_that_jump_another() {
        assert_eq!(outcome("resnet18", 1e-5, [0.1, 1e-3]).failures(), [""; 0]);
        assert_eq!(outcome("resnet18", 1e-5, [0.1, 0.04]).failures().len(), 1);
        assert_eq!(outcome("vit_tiny", 1e-5, [1e-5, 1e-5]).failures(), [""; 0]);
        let failures = outcome("vit_tiny", 1e-5, [2e-4, 1e-5]).failures();
        assert_eq!(
            failures,
            ["vit_tiny_patch16_224 2x224x224: gradient is off by 2.0e-4, more than 1e-4"]
        );
        assert_eq!(outcome("resnet18", 2e-4, [0., 0.]).failures().len(), 6);
    }

    #[test]
    fn an_answer_without_an_output_is_an_error() {
        let case = case::chosen(&[]).unwrap()[0];
        let error = Outcome::read(case, &json!({ "outputs": {} })).unwrap_err();
        assert!(error.to_string().contains("two errors"), "{error}");
    }
}
