//! Pretrained weights: whatever wrote them, under whatever names, into the variables of a network.
//!
//! [`Weights::open`] reads what a [`Source`] holds without its values; [`load`] sets variables from
//! it and reports, by name, what was done. Which program named the tensors is found by looking at
//! them. No byte of a file is ever run as code.

mod adaptation;
mod allowed;
mod aside;
mod directory;
mod family;
mod file;
mod find;
mod fit;
mod foreign;
mod found;
mod json;
mod keys;
mod layout;
mod lite;
mod load;
mod named;
mod opened;
mod pickle;
mod positions;
mod preprocessing;
mod report;
mod safetensors;
mod setting;
mod shards;
mod sidecar;
mod sniff;
mod source;
mod stated;
mod summary;
mod tensor;
mod told;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

pub use adaptation::AdaptationLayer;
pub use file::FileInfo;
pub use fit::Mismatch;
pub use found::FoundArchitecture;
pub use load::{LoadOptions, load};
pub use preprocessing::{Interpolation, Preprocessing, Resize};
pub use report::{Ignored, LoadReport, Reshaped};
pub use shards::ShardIndex;
pub use source::Source;
pub use summary::{Group, Summary};
pub use tensor::{StoredType, TensorInfo};

use crate::hub::{HubReference, Progress, Silent};
use crate::{Architecture, EncoderConfig, Error, NetworkConfig};
use file::StoredFile;
use find::Trunk;
use opened::Opened;
use sidecar::Sidecar;
use told::Told;

/// A file and where its tensors lie in it.
struct Part {
    file: StoredFile,
    contents: Contents,
}

enum Contents {
    /// The byte that each tensor begins at.
    Safetensors(BTreeMap<String, u64>),
    Pickle(pickle::Archive, BTreeMap<String, pickle::View>),
}

/// An opened source of weights: what it holds, and its values on request.
///
/// ```no_run
/// use fgvr_encoder::weights::{Source, Weights};
/// let weights = Weights::open(&"resnet18.pth".parse::<Source>()?)?;
/// println!("{}", weights.summary());
/// # Ok::<(), fgvr_encoder::Error>(())
/// ```
pub struct Weights {
    origin: String,
    parts: Vec<Part>,
    tensors: BTreeMap<String, TensorInfo>,
    /// Which part holds which tensor.
    places: BTreeMap<String, usize>,
    metadata: BTreeMap<String, String>,
    sidecar: Sidecar,
    trunk: Option<Trunk>,
    architecture: Option<FoundArchitecture>,
    preprocessing: Preprocessing,
    preprocessing_from: String,
}

impl Weights {
    /// Opens `source`: a safetensors file, a file of `torch.save`, an index of shards, a directory,
    /// or a repository on the Hub.
    ///
    /// # Errors
    /// A file that cannot be read, is truncated, damaged or of another format; a directory without
    /// weights; what [`hub::snapshot`](crate::hub) gives; a Hub reference in a build without the
    /// feature `hub`.
    pub fn open(source: &Source) -> Result<Self, Error> {
        Self::open_with(source, &mut Silent)
    }

    /// Opens weights and tells `progress` how far a download is.
    ///
    /// # Errors
    /// A file that cannot be read, is truncated, damaged or of another format; a directory without weights; what
    /// [`hub::snapshot`](crate::hub) gives; a Hub reference in a build without the feature `hub`.
    pub fn open_with(source: &Source, progress: &mut dyn Progress) -> Result<Self, Error> {
        match source {
            Source::Path(path) => Self::open_path(path, source.to_string()),
            Source::Hub(reference) => Self::open_hub(reference, progress),
        }
    }

    #[cfg(feature = "hub")]
    fn open_hub(reference: &HubReference, progress: &mut dyn Progress) -> Result<Self, Error> {
        let snapshot = crate::hub::snapshot(reference, progress)?;
        // The commit, not the branch, says which weights these are.
        let found = HubReference {
            revision: Some(snapshot.revision),
            ..reference.clone()
        };
        let sidecar = match snapshot.weights.parent() {
            Some(folder) => Sidecar::read(folder)?,
            None => Sidecar::default(),
        };
        Self::open_weights(&snapshot.weights, Source::Hub(found).to_string(), sidecar)
    }

    #[cfg(not(feature = "hub"))]
    fn open_hub(reference: &HubReference, _progress: &mut dyn Progress) -> Result<Self, Error> {
        Err(Error::NoHub {
            reference: reference.to_string(),
        })
    }

    /// Opens a file or directory.
    ///
    /// # Errors
    /// A file that cannot be read, is truncated, damaged or of another format; a directory without weights.
    pub fn open_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open(&Source::Path(path.as_ref().to_path_buf()))
    }

    /// Bytes in memory that stand for one file, safetensors or of `torch.save`; `name` is for
    /// messages.
    ///
    /// # Errors
    /// Bytes that are truncated, damaged or of another format.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Self, Error> {
        let file = StoredFile::from_bytes(Path::new(name), bytes)?;
        let mut opened = Opened::default();
        opened.add(file, None)?;
        Self::new(name.to_owned(), opened, Sidecar::default())
    }

    fn open_path(path: &Path, origin: String) -> Result<Self, Error> {
        let (path, sidecar) = if path.is_dir() {
            (directory::choose(path)?, Sidecar::read(path)?)
        } else {
            let name = path.file_name().and_then(|name| name.to_str());
            let sidecar = match path.parent() {
                Some(parent) if name.is_some_and(directory::is_known) => Sidecar::read(parent)?,
                _ => Sidecar::default(),
            };
            (path.to_path_buf(), sidecar)
        };
        Self::open_weights(&path, origin, sidecar)
    }

    /// Opens a file of weights or an index of shards.
    fn open_weights(path: &Path, origin: String, sidecar: Sidecar) -> Result<Self, Error> {
        let mut opened = Opened::default();
        let text = path.to_string_lossy();
        if text.ends_with(".index.json") {
            opened.add_shards(path)?;
        } else {
            opened.add(StoredFile::open(path)?, None)?;
        }
        Self::new(origin, opened, sidecar)
    }

    fn new(origin: String, opened: Opened, sidecar: Sidecar) -> Result<Self, Error> {
        let Opened {
            parts,
            tensors,
            places,
            metadata,
        } = opened;
        let trunk = find::find(&tensors, None);
        let architecture = trunk
            .as_ref()
            .and_then(|trunk| FoundArchitecture::of(&trunk.shapes(&tensors)));
        // Names that fit by chance make no network.
        let trunk = trunk.filter(|_| architecture.is_some());
        let (preprocessing, preprocessing_from) =
            sidecar.preprocessing(trunk.as_ref(), architecture.as_ref())?;
        Ok(Self {
            origin,
            parts,
            tensors,
            places,
            metadata,
            sidecar,
            trunk,
            architecture,
            preprocessing,
            preprocessing_from,
        })
    }

    /// Names, shapes and types of all tensors, as the files have them; for a checkpoint with
    /// dictionaries in it the keys are joined by dots.
    #[must_use]
    pub fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.tensors
    }

    /// The files, with their lengths and hashes.
    pub fn files(&self) -> impl Iterator<Item = &FileInfo> {
        self.parts.iter().map(|part| &part.file.info)
    }

    /// The notes in safetensors headers.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The text of `config.json`, where it lies beside the weights.
    #[must_use]
    pub fn config(&self) -> Option<&str> {
        self.sidecar.config.as_ref().map(|text| text.text.as_str())
    }

    /// How images are made ready.
    #[must_use]
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// Where [`Weights::preprocessing`] is from: a file, or an assumption.
    #[must_use]
    pub fn preprocessing_from(&self) -> &str {
        &self.preprocessing_from
    }

    /// What to build for these weights, at the architecture's own image size, with the heads of attention, the
    /// epsilon and the pooling that the source tells of; `None` where it is no network of this crate, and where nothing tells which
    /// of several it is ([`Weights::encoder_as`]).
    #[must_use]
    pub fn encoder(&self) -> Option<EncoderConfig> {
        let trunk = self.trunk.as_ref()?;
        if let Some(FoundArchitecture::EfficientNetLite { scale }) = self.architecture {
            let stated = self.sidecar.stated().unwrap_or_default();
            let padding = lite::padding(&stated, trunk)?.value;
            return lite::architecture(scale, padding).map(EncoderConfig::from);
        }
        let shapes = trunk.shapes(&self.tensors);
        let stem = shapes.get("conv1.weight").and_then(|dims| dims.get(2));
        let found = self.architecture.as_ref()?;
        let published = found.encoder(stem.copied().unwrap_or(7))?;
        let NetworkConfig::Vit(plain) = published.network().ok()? else {
            return Some(published);
        };
        // What cannot be read here is an error when the weights are loaded.
        let stated = self.sidecar.stated().unwrap_or_default();
        let told = Told::of(self, &stated, trunk, found).unwrap_or_default();
        let heads = told.heads.map(|said| said.value);
        let norm_eps = told.norm_eps.map(|said| said.value);
        let pooling = told.pooling.map(|said| said.value);
        Some(EncoderConfig {
            pooling: pooling.unwrap_or_default(),
            heads: heads.filter(|heads| *heads != plain.heads),
            norm_eps: norm_eps.filter(|eps| *eps != plain.norm_eps),
            ..published
        })
    }

    /// [`Weights::encoder`] of weights that a person says are of the architecture `told`, if one does. An
    /// EfficientNet-Lite has the tensors of `tf_efficientnet_lite0` and of `efficientnet_lite0`, and computes other
    /// features as the one than as the other.
    ///
    /// # Errors
    /// [`Error::Untold`] where nothing tells which network it is; [`Error::Architecture`] where the tensors are not of
    /// the network that was told.
    pub fn encoder_as(&self, told: Option<Architecture>) -> Result<Option<EncoderConfig>, Error> {
        let encoder = self.encoder();
        let Some(told) = told else {
            return match (&self.architecture, encoder) {
                (Some(found @ FoundArchitecture::EfficientNetLite { scale }), None)
                    if !self.padding_is_told() =>
                {
                    Err(Error::Untold {
                        from: self.origin.clone(),
                        found: found.to_string(),
                        candidates: lite::candidates_in_words(*scale),
                    })
                }
                (_, encoder) => Ok(encoder),
            };
        };
        let candidates = match (&self.architecture, &encoder) {
            (Some(FoundArchitecture::EfficientNetLite { scale }), _) => lite::candidates(*scale),
            (_, Some(encoder)) => vec![encoder.architecture],
            _ => return Ok(None),
        };
        match (candidates.contains(&told), encoder) {
            (false, _) => Err(Error::Architecture {
                from: self.origin.clone(),
                expected: told.to_string(),
                found: candidates
                    .into_iter()
                    .map(Architecture::name)
                    .collect::<Vec<_>>()
                    .join(" or "),
            }),
            (true, Some(encoder)) if encoder.architecture == told => Ok(Some(encoder)),
            (true, _) => Ok(Some(EncoderConfig::from(told))),
        }
    }

    /// Whether a configuration or names of tensors say how an EfficientNet-Lite pads its borders.
    fn padding_is_told(&self) -> bool {
        let stated = self.sidecar.stated().unwrap_or_default();
        let mut trunk = self.trunk.iter();
        trunk.any(|trunk| lite::padding(&stated, trunk).is_some())
    }

    /// The source, as it was given.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The network, as names and shapes show it.
    #[must_use]
    pub fn architecture(&self) -> Option<&FoundArchitecture> {
        self.architecture.as_ref()
    }

    /// The network by its family's name, where names of tensors show that it is one that this crate does not have.
    #[must_use]
    pub fn other_family(&self) -> Option<&'static str> {
        match self.architecture {
            Some(_) => None,
            None => family::family(&self.tensors),
        }
    }

    /// The name that `config.json` gives the network: timm's `architecture`, or transformers'
    /// `model_type`.
    ///
    /// # Errors
    /// [`Error::Json`].
    pub fn stated_architecture(&self) -> Result<Option<String>, Error> {
        let stated = self.sidecar.stated()?;
        Ok(stated.architecture.or(stated.model_type))
    }

    /// Who named the tensors, and under which prefix; `None` where no trunk was found.
    #[must_use]
    pub fn layout(&self) -> Option<String> {
        self.trunk.as_ref().map(ToString::to_string)
    }

    /// The values of a tensor, in the type that the file has them in.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`], [`Error::DataType`] for a type that weights do not have, or a file
    /// that changed since it was opened.
    pub fn read(&self, name: &str) -> Result<Tensor, Error> {
        let (Some(info), Some(&place)) = (self.tensors.get(name), self.places.get(name)) else {
            return Err(Error::NoSuchTensor {
                from: self.origin.clone(),
                name: name.to_owned(),
            });
        };
        let Part { file, contents } = &self.parts[place];
        let Some(dtype) = info.dtype.candle() else {
            return Err(Error::DataType {
                file: file.info.path.clone(),
                name: name.to_owned(),
                expected: "f32, f16, bf16 or f64",
                found: info.dtype.to_string(),
            });
        };
        let bytes = match contents {
            Contents::Safetensors(starts) => {
                let count = tensor::count(&info.shape).unwrap_or(0) * info.dtype.size();
                file.read_at(starts[name], count as u64)?
            }
            Contents::Pickle(archive, views) => archive.values(file, &views[name])?,
        };
        Tensor::from_raw_buffer(&bytes, dtype, &info.shape, &Device::Cpu).map_err(|source| {
            Error::Tensor {
                name: name.to_owned(),
                source,
            }
        })
    }

    /// The file that holds `name`.
    fn file_of(&self, name: &str) -> PathBuf {
        match self.places.get(name) {
            Some(&place) => self.parts[place].file.info.path.clone(),
            None => PathBuf::from(&self.origin),
        }
    }
}
