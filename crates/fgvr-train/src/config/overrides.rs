//! Settings in layers: preset, file, `--set`, each over the one before.

use std::path::Path;

use toml::{Table, Value};

use super::{PRESETS, PretrainConfig};
use crate::{Error, Result};

/// Layers of settings, each over the one before; [`Layers::resolve`] checks the result.
///
/// ```
/// use fgvr_train::config::Layers;
/// let mut layers = Layers::default();
/// layers.preset("demo")?;
/// layers.set("loader.batch=32")?;
/// assert_eq!(layers.resolve()?.loader.batch, 32);
/// # Ok::<(), fgvr_train::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Layers {
    table: Table,
    /// What was set last, for the text of an error that only shows when all is put together.
    origin: String,
    /// What to say where no layer gives the images' size, which weights do not know as one side.
    pub(super) no_size: Option<String>,
    /// What to say where no layer gives the architecture, which weights leave open.
    pub(super) no_architecture: Option<String>,
}

impl Layers {
    /// Adds a preset.
    ///
    /// # Errors
    /// An unknown name; the nearest one is named.
    pub fn preset(&mut self, name: &str) -> Result<()> {
        let Some((_, _, text)) = PRESETS.iter().find(|(known, ..)| *known == name) else {
            let names = PRESETS.iter().map(|(known, ..)| *known);
            return Err(Error::config(
                format!("preset {name}"),
                format!(
                    "there is no such preset{}; there are: {}",
                    did_you_mean(name, names.clone()),
                    names.collect::<Vec<_>>().join(", ")
                ),
            ));
        };
        self.add(text, &format!("preset {name}"))
    }

    /// Adds a preset under what is there already.
    ///
    /// # Errors
    /// An unknown name; the nearest one is named.
    pub fn preset_under(&mut self, name: &str) -> Result<()> {
        let above = std::mem::take(&mut self.table);
        let added = self.preset(name);
        self.put(above);
        added
    }

    /// Adds a TOML file.
    ///
    /// # Errors
    /// A file that cannot be read, is not TOML, or has an unknown key.
    pub fn file(&mut self, path: &Path) -> Result<()> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        self.add(&text, &path.display().to_string())
    }

    fn add(&mut self, text: &str, origin: &str) -> Result<()> {
        let table: Table = toml::from_str(text).map_err(|e: toml::de::Error| {
            let before = e.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(1, |before| 1 + before.matches('\n').count());
            Error::config(origin, format!("line {line}: {}", e.message()))
        })?;
        self.put(table);
        self.origin = origin.to_owned();
        self.check()
    }

    /// Adds one setting, `key.path=value`; the value is TOML, or else a string.
    ///
    /// # Errors
    /// No `=`, an unknown key (the nearest one is named), or a value of another type.
    pub fn set(&mut self, setting: &str) -> Result<()> {
        let Some((path, text)) = setting.split_once('=') else {
            return Err(Error::config(
                format!("--set {setting}"),
                "expected key.path=value, such as loader.batch=32",
            ));
        };
        let value = toml::from_str::<Table>(&format!("v = {text}"))
            .ok()
            .and_then(|mut table| table.remove("v"))
            .unwrap_or_else(|| Value::String(text.trim().to_owned()));
        self.set_value(path.trim(), value)
    }

    /// Adds one setting whose value is at hand.
    ///
    /// # Errors
    /// No `=`, an unknown key (the nearest one is named), or a value of another type.
    pub fn set_value(&mut self, path: &str, value: impl Into<Value>) -> Result<()> {
        let nested = path.rsplit('.').fold(value.into(), |value, key| {
            Value::Table(Table::from_iter([(key.to_owned(), value)]))
        });
        if let Value::Table(table) = nested {
            self.put(table);
        }
        self.origin = format!("--set {path}");
        self.check()
    }

    /// Puts a layer over what is there. Where a learning rate is given in both ways, the later one counts.
    fn put(&mut self, layer: Table) {
        let optimizer = layer.get("optimizer").and_then(Value::as_table);
        let gives = |key| optimizer.is_some_and(|table| table.contains_key(key));
        for (given, other) in [
            ("lr", "optimizer.lr_per_256"),
            ("lr_per_256", "optimizer.lr"),
        ] {
            if gives(given) {
                self.remove(other);
            }
        }
        merge(&mut self.table, layer);
    }

    /// Takes a setting out of all layers, so that its default counts.
    pub fn remove(&mut self, path: &str) {
        let (parents, key) = path.rsplit_once('.').unwrap_or(("", path));
        let parent = parents
            .split('.')
            .filter(|key| !key.is_empty())
            .try_fold(&mut self.table, |table, key| {
                table.get_mut(key)?.as_table_mut()
            });
        if let Some(table) = parent {
            table.remove(key);
        }
    }

    /// The value of a setting, if any layer gives it.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Value> {
        let (head, rest) = path.split_once('.').unwrap_or((path, ""));
        let first = self.table.get(head);
        rest.split('.')
            .filter(|key| !key.is_empty())
            .fold(first, |value, key| value?.get(key))
    }

    /// The settings, checked.
    ///
    /// # Errors
    /// An unknown key, a value of another type, or one out of range.
    pub fn resolve(&self) -> Result<PretrainConfig> {
        let mut config = self.sized()?;
        if let Some(rate) = config.optimizer.lr_per_256.take() {
            if self.get("optimizer.lr").is_some() {
                return Err(Error::config(
                    "optimizer.lr_per_256",
                    "optimizer.lr is given beside it; take one of them out",
                ));
            }
            let images = config.loader.batch * config.optimizer.accumulate;
            config.optimizer.lr = rate * images as f64 / 256.;
        }
        // What follows from the network, where nothing else was asked for.
        if config.encoder.architecture.is_vit() {
            config.encoder.image_size.get_or_insert(config.data.size);
        }
        let trunk = config.trunk();
        for (section, choices) in config.methods.each() {
            let is_chosen = |field: &str| self.get(&format!("{section}.{field}")).is_some();
            choices.default_for(trunk, &is_chosen);
        }
        config.validate()?;
        Ok(config)
    }

    /// The settings, unchecked but for a size of the images and an architecture.
    ///
    /// # Errors
    /// None is given, and weights ask for images that are not square, or leave open which network they are of.
    pub(super) fn sized(&self) -> Result<PretrainConfig> {
        for (key, problem) in [
            ("data.size", &self.no_size),
            ("encoder.architecture", &self.no_architecture),
        ] {
            if let Some(problem) = problem
                && self.get(key).is_none()
            {
                return Err(Error::config(key, problem.clone()));
            }
        }
        self.parse()
    }

    fn check(&self) -> Result<()> {
        self.parse().map(drop)
    }

    fn parse(&self) -> Result<PretrainConfig> {
        Value::Table(self.table.clone())
            .try_into()
            .map_err(|e: toml::de::Error| Error::config(&self.origin, explain(&e.to_string())))
    }
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// serde's text on one line, with the nearest name where it lists the possible ones.
fn explain(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut quoted = line.split('`').skip(1).step_by(2);
    match quoted.next() {
        Some(found) if line.starts_with("unknown") => {
            let hint = did_you_mean(found, quoted);
            if hint.is_empty() {
                line
            } else {
                format!("unknown {found}{hint} ({line})")
            }
        }
        _ => line,
    }
}

/// `; did you mean X?` for the nearest of `names`, or nothing where none is near.
pub(crate) fn did_you_mean<'a>(found: &str, names: impl Iterator<Item = &'a str>) -> String {
    names
        .map(|name| (strsim::jaro_winkler(found, name), name))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or_else(String::new, |(_, name)| format!("; did you mean {name}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let mut layers = Layers::default();
        let error = layers.set("loader.bach=3").unwrap_err().to_string();
        assert!(error.contains("did you mean batch?"), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }

    #[test]
    fn an_unknown_preset_names_the_nearest() {
        let error = Layers::default().preset("dem").unwrap_err().to_string();
        assert!(error.contains("did you mean demo?"), "{error}");
    }

    #[test]
    fn later_layers_win_and_earlier_ones_stay() {
        let mut layers = Layers::default();
        layers.set("optimizer.lr=0.5").unwrap();
        layers.set("optimizer.momentum=0.8").unwrap();
        layers.set("optimizer.lr=0.25").unwrap();
        let config = layers.resolve().unwrap();
        assert_eq!(
            (config.optimizer.lr, config.optimizer.momentum),
            (0.25, 0.8)
        );
        assert_eq!(
            layers.get("optimizer.lr").and_then(Value::as_float),
            Some(0.25)
        );
        assert_eq!(layers.get("optimizer.warm_up"), None);
    }

    #[test]
    fn every_preset_resolves() {
        for (name, ..) in PRESETS {
            let mut layers = Layers::default();
            layers.preset(name).unwrap();
            layers.resolve().unwrap();
        }
    }

    #[test]
    fn resolved_settings_survive_toml() {
        let mut layers = Layers::default();
        layers.preset("demo").unwrap();
        let config = layers.resolve().unwrap();
        let text = config.to_toml().unwrap();
        assert_eq!(toml::from_str::<PretrainConfig>(&text).unwrap(), config);
    }
}
