//! What a `config.json` says of the network, whoever wrote it.

use std::collections::BTreeMap;
use std::path::Path;

use super::json;
use super::setting::{Document, Setting, Settings};
use crate::Error;

/// What a configuration says of a network.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stated {
    /// timm's name of the network.
    pub(crate) architecture: Option<String>,
    /// transformers' name of the family.
    pub(crate) model_type: Option<String>,
    /// transformers' classes.
    pub(crate) classes: Vec<String>,
    /// All other values by the path of their key, such as `model_args.num_heads`.
    pub(crate) settings: BTreeMap<String, Setting>,
    /// What an export of this crate says of its encoder.
    pub(crate) own: Option<BTreeMap<String, Setting>>,
    /// What it says of the classifier layer, where that is an adaptation.
    pub(crate) adaptation: Option<BTreeMap<String, Setting>>,
}

impl Stated {
    /// Reads the text of a configuration.
    ///
    /// # Errors
    /// [`Error::Json`]: no JSON, or a name that is no text.
    pub(crate) fn parse(file: &Path, text: &str) -> Result<Self, Error> {
        let document: Document = json::parse(file, text.as_bytes())?;
        let mut settings = document.own.0;
        let name = |settings: &mut BTreeMap<String, Setting>, key: &str| match settings.remove(key)
        {
            None | Some(Setting::Null) => Ok(None),
            Some(Setting::Text(text)) => Ok(Some(text)),
            Some(other) => Err(Error::Json {
                file: file.to_path_buf(),
                reason: format!("{key} is {other}, expected a name"),
            }),
        };
        let architecture = name(&mut settings, "architecture")?;
        let model_type = name(&mut settings, "model_type")?;
        let mut pretrained = document.pretrained_cfg.unwrap_or_default().0;
        let earlier = name(&mut pretrained, "architecture")?;
        let classes = match settings.remove("architectures") {
            Some(Setting::Texts(classes)) => classes,
            Some(Setting::Text(class)) => vec![class],
            _ => Vec::new(),
        };
        let Settings(arguments) = document.model_args.unwrap_or_default();
        let arguments = arguments.into_iter();
        settings.extend(arguments.map(|(key, value)| (format!("model_args.{key}"), value)));
        Ok(Self {
            architecture: architecture.or(earlier),
            model_type,
            classes,
            settings,
            own: document.encoder.map(|settings| settings.0),
            adaptation: document.adaptation.map(|settings| settings.0),
        })
    }

    /// The value of the first of `keys` that there is, at the top or as an argument of timm's, and its path.
    pub(crate) fn find(&self, keys: &[&str]) -> Option<(String, &Setting)> {
        keys.iter().find_map(|key| {
            let paths = [(*key).to_owned(), format!("model_args.{key}")];
            paths.into_iter().find_map(|path| {
                let value = self.settings.get(&path)?;
                (*value != Setting::Null).then_some((path, value))
            })
        })
    }

    /// The same in what this crate says of its own exports.
    pub(crate) fn own(&self, key: &str) -> Option<&Setting> {
        self.own
            .as_ref()?
            .get(key)
            .filter(|value| **value != Setting::Null)
    }
}
