//! An adaptation in a safetensors file: `weight` (C, C) and `mean` (C) in f32, and in the metadata the format's name and
//! version, the settings, and what it was fitted to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::str::FromStr;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::{AdaptConfig, AdaptError, Adaptation, Fitted};

const FORMAT: &str = "fgvr-adaptation";
const VERSION: &str = "1";
/// Before the name of what stands in [`Fitted::source`].
const SOURCE: &str = "source.";

impl Adaptation {
    /// Writes a safetensors file; one that is there is replaced once the new one is complete. The same adaptation gives
    /// the same bytes.
    ///
    /// # Errors
    /// [`AdaptError::Io`]; the file is then as it was.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), AdaptError> {
        let path = path.as_ref();
        let io = |source| AdaptError::Io {
            file: path.into(),
            source,
        };
        let Some(name) = path.file_name() else {
            return Err(io(std::io::Error::other("expected the name of a file")));
        };
        let mut beside = std::ffi::OsString::from(".");
        beside.push(name);
        beside.push(format!(".{}.partial", std::process::id()));
        let beside = path.with_file_name(beside);
        let write = || -> std::io::Result<()> {
            let mut file = fs::File::create(&beside)?;
            file.write_all(&self.to_bytes())?;
            file.sync_all()?;
            fs::rename(&beside, path)
        };
        write().map_err(|source| {
            // The first error is the one to report; the file may not even have been made.
            let _ = fs::remove_file(&beside);
            io(source)
        })
    }

    /// Reads what [`save`](Self::save) wrote. Everything is checked: format and version, every setting, shapes, types,
    /// and that all values are finite.
    ///
    /// # Errors
    /// [`AdaptError::Io`] where it cannot be read, [`AdaptError::File`] with what was found and expected where it is no
    /// adaptation, one of another version, or damaged.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, AdaptError> {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(|source| AdaptError::Io {
            file: path.into(),
            source,
        })?;
        Self::from_bytes(path, &bytes)
    }

    /// An adaptation from the contents of a file; `name` is for messages.
    ///
    /// # Errors
    /// [`AdaptError::File`] with what was found and expected where it is
    /// no adaptation, one of another version, or damaged.
    pub fn from_bytes(name: impl AsRef<Path>, bytes: &[u8]) -> Result<Self, AdaptError> {
        Self::parse(bytes).map_err(|Wrong { found, expected }| AdaptError::File {
            file: name.as_ref().into(),
            found,
            expected,
        })
    }

    /// What [`save`](Self::save) writes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut metadata = settings(&self.config, &self.fitted);
        for (name, value) in &self.fitted.source {
            metadata.insert(format!("{SOURCE}{name}"), value.clone());
        }
        let entries: Vec<String> = metadata
            .iter()
            .map(|(name, value)| format!("{}:{}", json(name), json(value)))
            .collect();
        let (c, mean) = (self.width, 4 * self.mean.len());
        let end = mean + 4 * self.weight.len();
        // Written here, as the library's own metadata has no fixed order.
        let mut header = format!(
            r#"{{"__metadata__":{{{}}},"mean":{{"dtype":"F32","shape":[{c}],"data_offsets":[0,{mean}]}},"weight":{{"dtype":"F32","shape":[{c},{c}],"data_offsets":[{mean},{end}]}}}}"#,
            entries.join(",")
        )
        .into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header);
        for value in self.mean.iter().chain(&self.weight) {
            bytes.extend(value.to_le_bytes());
        }
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<Self, Wrong> {
        let damaged = |error| wrong(format!("{error}"), "a safetensors file");
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let mut metadata: BTreeMap<String, String> = metadata.into_iter().collect();
        let mut take = |name: &str| metadata.remove(name);
        match take("format").as_deref() {
            Some(FORMAT) => {}
            None => return Err(wrong("no format in its metadata", FORMAT)),
            Some(format) => return Err(wrong(format!("the format {format:?}"), FORMAT)),
        }
        match take("version").as_deref() {
            Some(VERSION) => {}
            version => {
                let found = format!("version {:?}", version.unwrap_or_default());
                return Err(wrong(found, format!("version {VERSION:?}")));
            }
        }
        let (config, mut fitted) = read_settings(&mut take)?;
        for (name, value) in metadata {
            match name.strip_prefix(SOURCE) {
                Some(name) => fitted.source.insert(name.to_owned(), value),
                None => return Err(wrong(format!("an entry {name:?}"), "those of this version")),
            };
        }
        let tensors = SafeTensors::deserialize(bytes).map_err(damaged)?;
        let mut names = tensors.names();
        names.sort_unstable();
        if names != ["mean", "weight"] {
            return Err(wrong(format!("tensors {names:?}"), "mean and weight"));
        }
        let tensor = |name: &str| tensors.tensor(name).map_err(damaged);
        let mean = values("mean", &tensor("mean")?)?;
        let c = mean.len();
        let (mean_shape, weight) = (tensor("mean")?.shape().to_vec(), tensor("weight")?);
        if c == 0 || mean_shape != [c] || weight.shape() != [c, c] {
            let found = format!("mean {mean_shape:?} and weight {:?}", weight.shape());
            return Err(wrong(found, "shapes [C] and [C, C]"));
        }
        Ok(Self {
            width: c,
            weight: values("weight", &weight)?,
            mean,
            config,
            fitted,
        })
    }
}

/// What was found, and what was expected.
struct Wrong {
    found: String,
    expected: String,
}

fn wrong(found: impl Into<String>, expected: impl Into<String>) -> Wrong {
    Wrong {
        found: found.into(),
        expected: expected.into(),
    }
}

/// The metadata but for the source.
fn settings(cfg: &AdaptConfig, fitted: &Fitted) -> BTreeMap<String, String> {
    let mut entries = BTreeMap::new();
    let mut put = |name: &str, value: String| {
        entries.insert(name.to_owned(), value);
    };
    put("format", FORMAT.to_owned());
    put("version", VERSION.to_owned());
    put("kind", cfg.kind.to_string());
    put("ridge", cfg.ridge.to_string());
    put("neighbours", cfg.neighbours.to_string());
    put("neighbour_weight", cfg.neighbour_weight.to_string());
    put("seed", cfg.seed.to_string());
    put("images", fitted.images.to_string());
    put("view_images", fitted.view_images.to_string());
    put("views", fitted.views.to_string());
    put("rounding", fitted.rounding.to_string());
    if let Some(pairs) = fitted.pairs {
        put("pairs", pairs.to_string());
    }
    if let Some(rank) = fitted.rank {
        put("rank", rank.to_string());
    }
    if let Some(rank) = fitted.effective_rank {
        put("effective_rank", rank.to_string());
    }
    entries
}

/// The inverse of [`settings`].
fn read_settings(
    take: &mut impl FnMut(&str) -> Option<String>,
) -> Result<(AdaptConfig, Fitted), Wrong> {
    fn parsed<T: FromStr>(name: &str, text: &str) -> Result<T, Wrong> {
        let expected = "a value of this setting";
        text.parse()
            .map_err(|_| wrong(format!("{name} = {text:?}"), expected))
    }
    fn needed<T: FromStr>(name: &str, text: Option<String>) -> Result<T, Wrong> {
        let text = text.ok_or_else(|| wrong(format!("no {name}"), "all settings"))?;
        parsed(name, &text)
    }
    fn optional<T: FromStr>(name: &str, text: Option<String>) -> Result<Option<T>, Wrong> {
        text.map(|text| parsed(name, &text)).transpose()
    }
    let kind: String = needed("kind", take("kind"))?;
    let config = AdaptConfig {
        kind: kind
            .parse()
            .map_err(|error: AdaptError| wrong(error.to_string(), "a kind of this version"))?,
        ridge: needed("ridge", take("ridge"))?,
        neighbours: needed("neighbours", take("neighbours"))?,
        neighbour_weight: needed("neighbour_weight", take("neighbour_weight"))?,
        seed: needed("seed", take("seed"))?,
    };
    config
        .validate()
        .map_err(|error| wrong(error.to_string(), "settings in range"))?;
    let fitted = Fitted {
        images: needed("images", take("images"))?,
        view_images: needed("view_images", take("view_images"))?,
        views: needed("views", take("views"))?,
        pairs: optional("pairs", take("pairs"))?,
        rank: optional("rank", take("rank"))?,
        effective_rank: optional("effective_rank", take("effective_rank"))?,
        rounding: needed("rounding", take("rounding"))?,
        source: BTreeMap::new(),
    };
    Ok((config, fitted))
}

/// The values of an f32 tensor, all finite.
fn values(name: &str, tensor: &TensorView<'_>) -> Result<Vec<f32>, Wrong> {
    if tensor.dtype() != Dtype::F32 {
        return Err(wrong(format!("{name} of type {:?}", tensor.dtype()), "F32"));
    }
    let (bytes, _) = tensor.data().as_chunks::<4>();
    let values: Vec<f32> = bytes.iter().map(|b| f32::from_le_bytes(*b)).collect();
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(values),
        Some(at) => {
            let found = format!("{} at entry {at} of {name}", values[at]);
            Err(wrong(found, "finite values"))
        }
    }
}

/// A string of JSON.
fn json(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => {
                // Writing to a string does not fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
