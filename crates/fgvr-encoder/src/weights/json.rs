//! JSON whose keys must be unique.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use super::foreign;
use crate::Error;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

/// A JSON object as a map. A key that stands twice is an error: of two tensors with one name a
/// reader would take either.
pub(crate) struct Unique<T>(pub(crate) BTreeMap<String, T>);

impl<T> Default for Unique<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Unique<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Keys<T> {
            type Value = Unique<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut values = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, T>()? {
                    if values.contains_key(&key) {
                        return Err(A::Error::custom(format!("the key {key:?} stands twice")));
                    }
                    values.insert(key, value);
                }
                Ok(Unique(values))
            }
        }
        deserializer.deserialize_map(Keys(PhantomData))
    }
}

/// The value in `bytes`.
pub(crate) fn parse<'a, T: Deserialize<'a>>(file: &Path, bytes: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::Json {
        file: file.to_path_buf(),
        // What is no JSON at all is better called by its name.
        reason: foreign::not_json(bytes).unwrap_or_else(|| error.to_string()),
    })
}
