//! The values of a `config.json`, as far as they can be compared with a network.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Keys kept of an object. Real configurations have less than a hundred; this bounds the memory that a
/// hostile one takes.
const MOST_KEYS: usize = 512;

/// The value of a key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Setting {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    Numbers(Vec<f64>),
    Texts(Vec<String>),
    /// `{}` or `[]`.
    Empty,
    /// Anything nested.
    Other,
}

impl Setting {
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// A whole number that is not negative.
    pub(crate) fn count(&self) -> Option<usize> {
        let number = self.number()?;
        let whole = number >= 0. && number <= f64::from(u32::MAX) && number.fract() == 0.;
        whole.then_some(number as usize)
    }

    /// A list of numbers, or one number as often as a list would have it.
    pub(crate) fn counts(&self, length: usize) -> Option<Vec<usize>> {
        match self {
            Self::Numbers(numbers) => numbers.iter().map(|n| Self::Number(*n).count()).collect(),
            one => one.count().map(|count| vec![count; length]),
        }
    }

    /// Whether this is how a configuration says "not used".
    pub(crate) fn is_off(&self) -> bool {
        match self {
            Self::Null | Self::Empty | Self::Bool(false) => true,
            Self::Text(text) => text.is_empty(),
            _ => false,
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            // 1e-12 rather than twelve zeros
            Self::Number(value) if *value != 0. && value.abs() < 1e-3 => write!(f, "{value:e}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Text(value) => write!(f, "{value:?}"),
            Self::Numbers(values) => write!(f, "{values:?}"),
            Self::Texts(values) => write!(f, "{values:?}"),
            Self::Empty => f.write_str("empty"),
            Self::Other => f.write_str("an object"),
        }
    }
}

impl<'de> Deserialize<'de> for Setting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Setting;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Setting, E> {
                Ok(Setting::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Setting, E> {
                Ok(Setting::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Setting, E> {
                Ok(Setting::Number(value as f64))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Setting, E> {
                Ok(Setting::Number(value as f64))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Setting, E> {
                Ok(Setting::Number(value))
            }

            fn visit_str<E>(self, value: &str) -> Result<Setting, E> {
                Ok(Setting::Text(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Setting, A::Error> {
                let (mut numbers, mut texts, mut others) = (Vec::new(), Vec::new(), false);
                while let Some(value) = list.next_element::<Setting>()? {
                    match value {
                        _ if others || numbers.len() + texts.len() >= MOST_KEYS => others = true,
                        Setting::Number(number) => numbers.push(number),
                        Setting::Text(text) => texts.push(text),
                        _ => others = true,
                    }
                }
                Ok(match (numbers.is_empty(), texts.is_empty()) {
                    _ if others => Setting::Other,
                    (true, true) => Setting::Empty,
                    (false, true) => Setting::Numbers(numbers),
                    (true, false) => Setting::Texts(texts),
                    (false, false) => Setting::Other,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Setting, A::Error> {
                let mut empty = true;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    empty = false;
                }
                Ok(if empty {
                    Setting::Empty
                } else {
                    Setting::Other
                })
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// The values of an object by key; of one that is too large, the first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings(pub(crate) BTreeMap<String, Setting>);

impl Settings {
    /// Adds a value.
    ///
    /// # Errors
    /// A key that stands twice: of two values a reader would take either.
    pub(crate) fn add<E: serde::de::Error>(
        &mut self,
        key: String,
        value: Setting,
    ) -> Result<(), E> {
        if self.0.contains_key(&key) {
            return Err(E::custom(format!("the key {key:?} stands twice")));
        }
        if self.0.len() < MOST_KEYS {
            self.0.insert(key, value);
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Settings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Settings, A::Error> {
                let mut settings = Settings::default();
                while let Some((key, value)) = map.next_entry::<String, Setting>()? {
                    settings.add::<A::Error>(key, value)?;
                }
                Ok(settings)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A whole `config.json`: its own keys, and the objects in it that say how a network is built.
#[derive(Clone, Debug, Default)]
pub(crate) struct Document {
    pub(crate) own: Settings,
    /// What timm's `create_model` is called with.
    pub(crate) model_args: Option<Settings>,
    /// What timm knows of the weights.
    pub(crate) pretrained_cfg: Option<Settings>,
    /// What an export of this crate says of its encoder.
    pub(crate) encoder: Option<Settings>,
    /// What it says of an adaptation.
    pub(crate) adaptation: Option<Settings>,
}

/// The part of a configuration that only this crate writes.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Own {
    encoder: Option<Settings>,
    adaptation: Option<Settings>,
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Document;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
                let mut found = Document::default();
                let twice = |key: &str| A::Error::custom(format!("the key {key:?} stands twice"));
                while let Some(key) = map.next_key::<String>()? {
                    let part = match key.as_str() {
                        "model_args" => &mut found.model_args,
                        "pretrained_cfg" => &mut found.pretrained_cfg,
                        "fgvr" => {
                            if found.encoder.is_some() {
                                return Err(twice(&key));
                            }
                            let own: Option<Own> = map.next_value()?;
                            let own = own.unwrap_or_default();
                            found.encoder = Some(own.encoder.unwrap_or_default());
                            found.adaptation = own.adaptation;
                            continue;
                        }
                        _ => {
                            let value = map.next_value()?;
                            found.own.add::<A::Error>(key, value)?;
                            continue;
                        }
                    };
                    if part.is_some() {
                        return Err(twice(&key));
                    }
                    *part = Some(map.next_value::<Option<Settings>>()?.unwrap_or_default());
                }
                Ok(found)
            }
        }
        deserializer.deserialize_map(Object)
    }
}
