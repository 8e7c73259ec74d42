//! Settings of an adaptation: `adapt.*`.

use fgvr_data::augment::{AugmentConfig, Interpolation, JitterStrength, moco_v2};
use fgvr_eval::{BootstrapConfig, KnnConfig, ProbeConfig};
use fgvr_perturb::{AdaptConfig, AdaptKind};
use serde::{Deserialize, Serialize};

use super::Measure;
use crate::config::{Layers, Use};
use crate::{Error, Result};

/// How an adaptation is fitted and tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdaptSettings {
    /// Which covariance is divided out.
    pub kind: AdaptKind,
    /// This share of the mean variance of a channel is added to each variance.
    pub ridge: f64,
    /// Photos are mutual neighbours if each is among so many nearest of the other.
    pub neighbours: usize,
    /// Weight of the neighbours' covariance beside that of the views.
    pub neighbour_weight: f64,
    /// Decides which photos are held out, and draws views, bootstraps and the control's basis.
    pub seed: u64,
    /// Augmented views of each photo that the adaptation is fitted to.
    pub views: usize,
    /// Share of the training photos that the adaptation is tried on and not fitted to.
    pub held_out: f64,
    /// Photos that are held out at least, where that leaves as many to fit to; with fewer the answer is that nothing can
    /// be told.
    pub held_out_min: usize,
    /// Photos that are held out at most: each is compared with all others.
    pub held_out_max: usize,
    /// The measure that decides whether the gate opens.
    pub gate: Measure,
    /// Nearest photos that two halves of a held-out photo are to agree on.
    pub agreement: usize,
    /// Samples of a bootstrap.
    pub draws: usize,
    /// How a view is made.
    pub augment: ViewAugment,
}

impl Default for AdaptSettings {
    fn default() -> Self {
        let adaptation = AdaptConfig::default();
        Self {
            kind: adaptation.kind,
            ridge: adaptation.ridge,
            neighbours: adaptation.neighbours,
            neighbour_weight: adaptation.neighbour_weight,
            seed: adaptation.seed,
            views: 4,
            held_out: 0.1,
            held_out_min: 50,
            held_out_max: 2000,
            gate: Measure::default(),
            agreement: 10,
            draws: 2000,
            augment: ViewAugment::default(),
        }
    }
}

/// How the views are made that an adaptation is fitted to: no blur, no solarisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ViewAugment {
    /// Smallest and largest share of the photo's area that a view shows.
    pub crop_scale: [f64; 2],
    /// Smallest and largest ratio of width to height of that part.
    pub crop_ratio: [f64; 2],
    /// How the part is resized.
    pub interpolation: Interpolation,
    /// Probability of exchanging left and right.
    pub flip: f64,
    /// Probability of colour jitter.
    pub jitter: f64,
    /// How far colour jitter may go.
    pub jitter_strength: JitterStrength,
    /// Probability of leaving colour out.
    pub grayscale: f64,
}

impl Default for ViewAugment {
    fn default() -> Self {
        let usual = moco_v2();
        Self {
            crop_scale: usual.crop_scale,
            crop_ratio: usual.crop_ratio,
            interpolation: Interpolation::Bicubic,
            flip: usual.flip,
            jitter: usual.jitter,
            jitter_strength: usual.jitter_strength,
            grayscale: usual.grayscale,
        }
    }
}

impl ViewAugment {
    /// The same for what makes views.
    #[must_use]
    pub fn config(&self) -> AugmentConfig {
        AugmentConfig {
            crop_scale: self.crop_scale,
            crop_ratio: self.crop_ratio,
            flip: self.flip,
            jitter: self.jitter,
            jitter_strength: self.jitter_strength.clone(),
            grayscale: self.grayscale,
            blur: 0.,
            solarise: 0.,
            ..moco_v2()
        }
    }
}

impl AdaptSettings {
    /// What is fitted.
    #[must_use]
    pub fn config(&self) -> AdaptConfig {
        AdaptConfig {
            kind: self.kind,
            ridge: self.ridge,
            neighbours: self.neighbours,
            neighbour_weight: self.neighbour_weight,
            seed: self.seed,
        }
    }

    /// How intervals are made.
    #[must_use]
    pub fn bootstrap(&self) -> BootstrapConfig {
        BootstrapConfig {
            draws: self.draws,
            seed: self.seed,
            ..BootstrapConfig::default()
        }
    }

    /// Checks every range.
    ///
    /// # Errors
    /// The first setting out of range, with the range.
    pub fn validate(&self) -> Result<()> {
        self.config().validate().map_err(|error| {
            let text = error.to_string();
            let (field, problem) = text.split_once(" is ").unwrap_or(("", &text));
            Error::config(format!("adapt.{field}"), format!("found {problem}"))
        })?;
        if self.views < 2 {
            return Err(Error::config(
                "adapt.views",
                format!(
                    "expected at least 2, since what two views of a photo differ by is what is divided out, found {}",
                    self.views
                ),
            ));
        }
        if !(0. ..=0.5).contains(&self.held_out) {
            return Err(Error::config(
                "adapt.held_out",
                format!("expected 0 to 0.5, found {}", self.held_out),
            ));
        }
        for (key, value) in [
            ("adapt.held_out_max", self.held_out_max),
            ("adapt.agreement", self.agreement),
            ("adapt.draws", self.draws),
        ] {
            if value == 0 {
                return Err(Error::config(key, "expected at least 1, found 0"));
            }
        }
        self.augment.config().validate().map_err(|error| {
            let text = error.to_string();
            let (name, problem) = text.split_once(" is ").unwrap_or(("augment", &text));
            let name = name.strip_prefix("augment.").unwrap_or(name);
            Error::config(format!("adapt.augment.{name}"), format!("found {problem}"))
        })
    }
}

/// What [`adapt`](super::adapt()) is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct AdaptOptions {
    /// How the adaptation is fitted and tried.
    pub settings: AdaptSettings,
    /// How neighbours vote in the table.
    pub knn: KnnConfig,
    /// The table's linear probe.
    pub linear: ProbeConfig,
    /// A folder in which what was embedded is kept until all is done, so that a run that was stopped goes on where it was;
    /// with none it begins anew.
    pub work: Option<std::path::PathBuf>,
    /// Whether the table is made where there are labels. Without it only the gate is asked.
    pub judge: bool,
}

impl Default for AdaptOptions {
    fn default() -> Self {
        Self {
            settings: AdaptSettings::default(),
            knn: KnnConfig::default(),
            linear: ProbeConfig::default(),
            work: None,
            judge: true,
        }
    }
}

impl AdaptOptions {
    /// Those of `settings`, each `key.path=value`, that say how an adaptation is fitted and judged (`adapt.*`,
    /// `evaluate.knn.*`, `evaluate.linear.*`), and the others, which say how photos are found and seen: they are for
    /// [`Embedder`](crate::Embedder).
    ///
    /// # Errors
    /// A setting that is unknown, out of range, or has no effect on adapting.
    pub fn split(settings: &[String]) -> Result<(Self, Vec<String>)> {
        let mut layers = Layers::default();
        let mut others = Vec::new();
        for setting in settings {
            let path = setting.split('=').next().unwrap_or_default().trim();
            // Of weights that do not show it: the embedder takes it from there.
            if path == "encoder.architecture" {
                others.push(setting.clone());
                continue;
            }
            layers.set_for(Use::Adapt, setting)?;
            let ours = ["adapt", "evaluate.knn", "evaluate.linear"];
            let below = |ours: &&str| {
                path.strip_prefix(*ours)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            if !ours.iter().any(below) {
                others.push(setting.clone());
            }
        }
        let config = layers.resolve_frozen()?;
        config.adapt.validate()?;
        let options = Self {
            settings: config.adapt,
            knn: config.evaluate.knn,
            linear: config.evaluate.linear,
            ..Self::default()
        };
        Ok((options, others))
    }

    /// The settings of a TOML file, each as `key.path=value`.
    ///
    /// # Errors
    /// A file that cannot be read or is no TOML.
    pub fn of_file(path: &std::path::Path) -> Result<Vec<String>> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let table: toml::Table = toml::from_str(&text).map_err(|error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(1, |before| 1 + before.matches('\n').count());
            let problem = format!("line {line}: {}", error.message());
            Error::config(path.display().to_string(), problem)
        })?;
        let mut settings = Vec::new();
        leaves("", &table, &mut settings);
        Ok(settings)
    }
}

/// Every value of `table` as `path=value`.
fn leaves(path: &str, table: &toml::Table, settings: &mut Vec<String>) {
    for (key, value) in table {
        let path = match path {
            "" => key.clone(),
            path => format!("{path}.{key}"),
        };
        match value {
            toml::Value::Table(table) => leaves(&path, table, settings),
            value => settings.push(format!("{path}={value}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_told_apart_and_those_without_effect_refused() {
        let of = |settings: &[&str]| {
            let settings: Vec<String> = settings.iter().map(|s| (*s).to_owned()).collect();
            AdaptOptions::split(&settings)
        };
        let (options, others) = of(&[
            "adapt.ridge=0.1",
            "data.size=96",
            "adapt.augment.grayscale=0",
            "evaluate.knn.k=5",
            "evaluate.squash=true",
            "adapt.kind=nuisance",
        ])
        .unwrap();
        assert_eq!(others, ["data.size=96", "evaluate.squash=true"]);
        assert_eq!((options.settings.ridge, options.knn.k), (0.1, 5));
        assert_eq!(options.settings.kind, AdaptKind::Nuisance);
        // One setting of a section leaves the others at their defaults.
        assert_eq!(
            options.settings.augment.interpolation,
            Interpolation::Bicubic
        );
        assert_eq!(options.settings.augment.config().blur, 0.);
        let said = |setting: &str| of(&[setting]).unwrap_err().to_string();
        for (setting, words) in [
            ("adapt.views=1", "adapt.views: expected at least 2"),
            ("adapt.ridge=-1", "adapt.ridge: found -1"),
            ("adapt.held_out=0.9", "adapt.held_out: expected 0 to 0.5"),
            ("adapt.draws=0", "adapt.draws"),
            ("adapt.augment.flip=2", "adapt.augment.flip"),
            ("adapt.rigde=1", "did you mean ridge?"),
            ("optimizer.lr=1", "adapt.ridge"),
        ] {
            let text = said(setting);
            assert!(text.contains(words), "{setting}: {text}");
        }
    }

    #[test]
    fn a_file_is_read_value_by_value() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        std::fs::write(
            &path,
            "[adapt]\nviews = 2\n[adapt.augment]\ncrop_scale = [0.3, 1]\n",
        )
        .unwrap();
        let settings = AdaptOptions::of_file(&path).unwrap();
        let (options, _) = AdaptOptions::split(&settings).unwrap();
        assert_eq!(options.settings.views, 2);
        assert_eq!(options.settings.augment.crop_scale, [0.3, 1.]);
        std::fs::write(&path, "[adapt]\nviews = \n").unwrap();
        let error = AdaptOptions::of_file(&path).unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }
}
