//! Whether weights are of the network that they are loaded into, as far as names, shapes and `config.json` say.
//!
//! Much of what a network computes leaves no trace in the shapes of its tensors: the heads of attention, an
//! activation, a blur before a stride. What is known to make another network of the same tensors stops a load.

mod names;

use std::collections::{BTreeMap, BTreeSet};

use super::Weights;
use super::allowed::Allowed;
use super::find::Trunk;
use super::found::FoundArchitecture;
use super::keys::{self, Built, Verdict};
use super::lite;
use super::setting::Setting;
use super::stated::Stated;
use super::told::{Said, Told};
use crate::efficientnet::Padding;
use crate::vit::Pooling;
use crate::{EncoderConfig, Error, NetworkConfig, Stem};

/// The largest epsilon of which the network's own, 1e-6, differs in the last digits of features alone.
const SMALL_EPS: f64 = 1e-6;

/// Something that weights say of their network, and that the network they are loaded into is not.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Mismatch {
    /// The names by which it can be allowed: a key of `config.json`, or tensors.
    pub names: Vec<String>,
    /// What was found, and what was expected.
    pub what: String,
}

/// What was compared, and what came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fit {
    pub(crate) mismatches: Vec<Mismatch>,
    pub(crate) notes: Vec<String>,
    /// Keys of `config.json` that are not known here.
    pub(crate) not_looked_at: Vec<String>,
}

impl Fit {
    /// Compares what `weights` say beyond shapes with `found`, the network that their tensors go into, built as
    /// `encoder` says, where that is known. `unused` are the tensors of the trunk that have no place in it.
    ///
    /// # Errors
    /// A `config.json` that cannot be read; an encoder configuration without a network.
    pub(crate) fn new(
        weights: &Weights,
        trunk: &Trunk,
        (found, shapes): (&FoundArchitecture, &BTreeMap<String, Vec<usize>>),
        encoder: Option<&EncoderConfig>,
        unused: &[String],
    ) -> Result<Self, Error> {
        let stated = weights.sidecar.stated()?;
        let mut fit = Self::default();
        fit.compare_names(&stated, found);
        let network = encoder.map(EncoderConfig::network).transpose()?;
        fit.compare_keys(&stated, found, shapes, network.as_ref());
        let told = Told::of(weights, &stated, trunk, found)?;
        fit.compare_told(&told, found, network.as_ref());
        fit.compare_padding(lite::padding(&stated, trunk), found, network.as_ref());
        fit.compare_stem(&stated, found, shapes, network.as_ref());
        fit.compare_tensors(trunk, unused);
        Ok(fit)
    }

    fn differs(&mut self, name: impl Into<String>, what: String) {
        self.mismatches.push(Mismatch {
            names: vec![name.into()],
            what,
        });
    }

    /// All other keys of the configuration.
    fn compare_keys(
        &mut self,
        stated: &Stated,
        found: &FoundArchitecture,
        shapes: &BTreeMap<String, Vec<usize>>,
        network: Option<&NetworkConfig>,
    ) {
        let inside = shapes
            .get("blocks.0.mlp.fc1.weight")
            .and_then(|dims| dims.first());
        let built = Built {
            found,
            inside: inside.copied(),
            pooling: match network {
                Some(NetworkConfig::Vit(config)) => config.pooling,
                _ => Pooling::default(),
            },
            lite: match network {
                Some(NetworkConfig::EfficientNet(config)) => Some(config),
                _ => None,
            },
        };
        for (path, value) in &stated.settings {
            let key = path.rsplit('.').next().unwrap_or(path);
            match keys::judge(key, value, &built) {
                Verdict::Fits => {}
                Verdict::Differs(expected) => {
                    self.differs(
                        path,
                        format!("config.json: {path} is {value}, expected {expected}"),
                    );
                }
                Verdict::Unknown => self.not_looked_at.push(path.clone()),
            }
        }
    }

    /// Heads and epsilon.
    fn compare_told(
        &mut self,
        told: &Told,
        found: &FoundArchitecture,
        network: Option<&NetworkConfig>,
    ) {
        let &FoundArchitecture::Vit { width, .. } = found else {
            return;
        };
        let built = match network {
            Some(NetworkConfig::Vit(config)) => Some(config),
            _ => None,
        };
        // Where nobody described the network, the published number is assumed, if there is one.
        let heads = built.map(|config| config.heads);
        let heads = heads.or_else(|| (width.is_multiple_of(64)).then_some(width / 64));
        match (&told.heads, heads) {
            (Some(said), Some(heads)) if said.value != heads => {
                let what = format!("the network has {heads} heads of attention, and {} by {}", said.value, said.by);
                let mut names = vec![said.name.clone()];
                names.extend((said.name != "heads").then(|| "heads".to_owned()));
                self.mismatches.push(Mismatch { names, what });
            }
            (Some(said), Some(heads)) if heads * 64 != width => {
                let note = format!("{heads} heads of attention, by {}", said.by);
                self.notes.push(note);
            }
            (None, Some(heads)) => self.notes.push(format!(
                "{heads} heads of attention, {} channels each, are assumed: nothing beside the tensors says how many",
                width / heads.max(1)
            )),
            _ => {}
        }
        let Some(said) = &told.norm_eps else {
            return;
        };
        let eps = built.map_or(SMALL_EPS, |config| config.norm_eps);
        if said.value == eps {
            return;
        }
        if said.value <= SMALL_EPS && eps <= SMALL_EPS {
            self.notes.push(format!(
                "{} is {:e} in the configuration and {eps:e} here",
                said.name, said.value
            ));
        } else {
            let what = format!(
                "the network's norms have an epsilon of {eps:e}, and of {:e} by {}",
                said.value, said.by
            );
            let names = vec![said.name.clone(), "norm_eps".to_owned()];
            self.mismatches.push(Mismatch { names, what });
        }
    }

    /// How an EfficientNet-Lite pads its borders, and the epsilon that goes with it.
    fn compare_padding(
        &mut self,
        told: Option<Said<Padding>>,
        found: &FoundArchitecture,
        network: Option<&NetworkConfig>,
    ) {
        let FoundArchitecture::EfficientNetLite { scale } = found else {
            return;
        };
        let built = match network {
            Some(NetworkConfig::EfficientNet(config)) => Some(config),
            _ => None,
        };
        let in_words = |padding| match padding {
            Padding::Same => "TensorFlow's",
            Padding::Symmetric => "the same on all sides",
        };
        match (told, built) {
            (Some(said), Some(config)) if said.value != config.padding => {
                let what = format!(
                    "the network's padding is {}, and {} by {}",
                    in_words(config.padding),
                    in_words(said.value),
                    said.by
                );
                self.differs(said.name, what);
            }
            (None, Some(config)) => self.notes.push(format!(
                "padding ({}) and epsilon ({:e}) are as they were asked for: nothing beside the tensors says which",
                in_words(config.padding),
                config.norm_eps
            )),
            (None, None) => self.notes.push(format!(
                "nothing beside the tensors says whether it is {}: to load them, set encoder.architecture",
                lite::candidates_in_words(*scale).join(" or ")
            )),
            (Some(_), _) => {}
        }
    }

    /// A stem of 3x3 has a stride of 1 in networks for CIFAR's images, and of 2 here.
    fn compare_stem(
        &mut self,
        stated: &Stated,
        found: &FoundArchitecture,
        shapes: &BTreeMap<String, Vec<usize>>,
        network: Option<&NetworkConfig>,
    ) {
        if let (Some(name), Some(NetworkConfig::ResNet(config))) =
            (stated.own("stem").and_then(Setting::text), network)
            && name != config.stem.name()
        {
            let what = format!(
                "config.json: fgvr.encoder.stem is {name:?}, expected {:?}",
                config.stem.name()
            );
            self.differs("fgvr.encoder.stem", what);
        }
        let small =
            matches!(network, Some(NetworkConfig::ResNet(config)) if config.stem == Stem::Small);
        let three = shapes
            .get("conv1.weight")
            .is_some_and(|dims| dims.ends_with(&[3, 3]));
        if small
            && three
            && stated.own.is_none()
            && matches!(found, FoundArchitecture::ResNet { .. })
        {
            self.differs(
                "stem",
                "conv1 is 3x3, and nothing says with which stride: here it is 2, without a max-pool, and in networks \
                 for images of 32 px it is 1"
                    .to_owned(),
            );
        }
    }

    /// Tensors of the trunk that have no place in the network.
    fn compare_tensors(&mut self, trunk: &Trunk, unused: &[String]) {
        if unused.is_empty() {
            return;
        }
        let shown: Vec<&str> = unused.iter().take(2).map(String::as_str).collect();
        let more = match unused.len() - shown.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let what = match unused {
            [one] => format!("the tensor {one} of its trunk has no place in the network"),
            _ => format!(
                "{} tensors of its trunk have no place in the network: {}{more}",
                unused.len(),
                shown.join(", ")
            ),
        };
        // The modules that they belong to, as one would name them.
        let mut names: BTreeSet<String> = BTreeSet::new();
        for name in unused {
            let short = name.strip_prefix(trunk.prefix.as_str()).unwrap_or(name);
            names.insert(match short.split_once('.') {
                Some((module, _)) => format!("{module}.*"),
                None => short.to_owned(),
            });
        }
        self.mismatches.push(Mismatch {
            names: names.into_iter().collect(),
            what,
        });
    }

    /// This, without what is allowed.
    ///
    /// # Errors
    /// [`Error::AllowMismatch`] for a name that is neither a tensor nor a key.
    pub(crate) fn allowing(
        mut self,
        patterns: &[String],
        weights: &Weights,
        trunk: &Trunk,
    ) -> Result<Self, Error> {
        let allowed = Allowed::new(patterns);
        let stated = weights.sidecar.stated()?;
        let short = |name: &'_ str| {
            name.strip_prefix(trunk.prefix.as_str())
                .unwrap_or(name)
                .to_owned()
        };
        let mut known: BTreeSet<String> = BTreeSet::new();
        known.extend(
            weights
                .tensors
                .keys()
                .flat_map(|name| [name.clone(), short(name)]),
        );
        known.extend(stated.settings.keys().cloned());
        known.extend(
            [
                "architecture",
                "architectures",
                "model_type",
                "heads",
                "norm_eps",
                "stem",
            ]
            .map(str::to_owned),
        );
        known.extend(
            ["architecture", "stem", "heads", "norm_eps"].map(|key| format!("fgvr.encoder.{key}")),
        );
        known.extend(["num_attention_heads", "layer_norm_eps"].map(str::to_owned));
        if let Some(pattern) = allowed.idle(known.iter().map(String::as_str)) {
            return Err(Error::AllowMismatch {
                pattern: pattern.to_owned(),
            });
        }
        self.mismatches.retain(|mismatch| {
            let key = |name: &String| allowed.covers(name) || allowed.covers(last(name));
            !mismatch.names.iter().any(key)
        });
        Ok(self)
    }
}

/// A key without the path before it.
fn last(path: &str) -> &str {
    path.strip_prefix("model_args.").unwrap_or(path)
}
