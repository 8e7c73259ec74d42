//! What an adaptation is asked for.

use fgvr_eval::{KnnConfig, ProbeConfig};

use crate::config::{AdaptSettings, Layers, Use};
use crate::{Error, Result};

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
    /// Whether what was embedded stays in `work` when all is done, so that another adaptation of the same features embeds
    /// nothing.
    pub keep: bool,
    /// Whether the table is made where there are labels. Without it only the gate is asked.
    pub judge: bool,
    /// Whether the validation split is held out, rather than a share of the training photos: for networks that were
    /// trained on those.
    pub apart: bool,
}

impl Default for AdaptOptions {
    fn default() -> Self {
        Self {
            settings: AdaptSettings::default(),
            knn: KnnConfig::default(),
            linear: ProbeConfig::default(),
            work: None,
            keep: false,
            judge: true,
            apart: false,
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
            // It is for weights that do not show it: the embedder reads it.
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
    use fgvr_data::augment::Interpolation;
    use fgvr_perturb::AdaptKind;

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
