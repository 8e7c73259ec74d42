//! An adaptation beside weights: which file holds it, and that the classifier layer is the one it says.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

use super::Weights;
use super::file::StoredFile;
use super::safetensors;
use super::setting::Setting;
use super::tensor::StoredType;
use crate::{Error, Pooling};

/// The longest file read: C = 8192 takes a quarter of it.
const MAX_BYTES: u64 = 1 << 30;

/// An affine transformation y = W (f - μ) of features, as it is saved.
///
/// The file is that of fgvr-perturb's `Adaptation`: safetensors with `weight`, W (C, C), and `mean`, μ (C), in f32, and
/// notes in the metadata that say how it was made, `kind` among them. Here it is a layer and its notes; what they mean
/// is fgvr-perturb's.
#[derive(Clone, Debug)]
pub struct AdaptationLayer {
    weight: Tensor,
    mean: Tensor,
    notes: BTreeMap<String, String>,
    bytes: Vec<u8>,
}

impl AdaptationLayer {
    /// What the file is called beside the weights that it belongs to.
    pub const FILE: &'static str = "adaptation.safetensors";

    /// Reads a saved adaptation; `bytes` are kept and written again as they are.
    ///
    /// # Errors
    /// [`Error::Adaptation`] where tensors are missing, too many, of another shape or type, or not finite; a file that
    /// is not safetensors.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, Error> {
        Self::named(Path::new(Self::FILE), bytes)
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be read; contents that are no adaptation.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let io = |source| Error::Io {
            file: path.to_path_buf(),
            source,
        };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(io)?;
        file.take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(io)?;
        if bytes.len() as u64 > MAX_BYTES {
            let found = format!("longer than {MAX_BYTES} bytes, expected an adaptation");
            return Err(problem(path, found));
        }
        Self::named(path, bytes)
    }

    fn named(path: &Path, bytes: Vec<u8>) -> Result<Self, Error> {
        let file = StoredFile::from_bytes(path, bytes.clone())?;
        let header = safetensors::read(&file)?;
        let names: Vec<&str> = header.tensors.keys().map(String::as_str).collect();
        let (Some(mean), Some(weight), 2) = (
            header.tensors.get("mean"),
            header.tensors.get("weight"),
            names.len(),
        ) else {
            return Err(problem(
                path,
                format!(
                    "expected the tensors mean and weight of an adaptation, found {}",
                    crate::text::shortened(&names.join(", "), 80)
                ),
            ));
        };
        let (shape, c) = (&weight.info.shape, mean.info.shape.first().copied());
        let square = matches!((c, shape.as_slice()), (Some(c), [rows, columns]) if c > 0 && *rows == c && *columns == c);
        if mean.info.shape.len() != 1 || !square {
            return Err(problem(
                path,
                format!(
                    "mean is {:?} and weight {shape:?}, expected [C] and [C, C]",
                    mean.info.shape
                ),
            ));
        }
        let values = |name: &str, placed: &safetensors::Placed| -> Result<Tensor, Error> {
            if placed.info.dtype != StoredType::F32 {
                let found = format!("{name} is {}, expected F32", placed.info.dtype);
                return Err(problem(path, found));
            }
            let count = placed.info.shape.iter().product::<usize>() * 4;
            let bytes = file.read_at(placed.start, count as u64)?;
            let (bytes, _) = bytes.as_chunks::<4>();
            let values: Vec<f32> = bytes.iter().map(|b| f32::from_le_bytes(*b)).collect();
            if !values.iter().all(|value| value.is_finite()) {
                return Err(Error::NotFinite {
                    file: path.to_path_buf(),
                    name: name.to_owned(),
                });
            }
            Tensor::from_vec(values, placed.info.shape.as_slice(), &Device::Cpu).map_err(|source| {
                Error::Tensor {
                    name: name.to_owned(),
                    source,
                }
            })
        };
        Ok(Self {
            weight: values("weight", weight)?,
            mean: values("mean", mean)?,
            notes: header.metadata,
            bytes,
        })
    }

    /// W (C, C), f32.
    #[must_use]
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// μ (C), f32.
    #[must_use]
    pub fn mean(&self) -> &Tensor {
        &self.mean
    }

    /// C.
    #[must_use]
    pub fn width(&self) -> usize {
        self.mean.elem_count()
    }

    /// How it was made: the file's metadata.
    #[must_use]
    pub fn notes(&self) -> &BTreeMap<String, String> {
        &self.notes
    }

    /// Which covariance it divides out, as its notes say.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.notes.get("kind").map_or("unknown", String::as_str)
    }

    /// The file, as it was read.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// (C, 2C): [W, 0], or [0, W] where the features are the `second` half of what a layer sees.
    pub(crate) fn beside_zeros(&self, second: bool) -> Result<Tensor, Error> {
        let both = || {
            let zeros = self.weight.zeros_like()?;
            match second {
                false => Tensor::cat(&[&self.weight, &zeros], 1),
                true => Tensor::cat(&[&zeros, &self.weight], 1),
            }
        };
        both().map_err(|source| Error::Tensor {
            name: "the adaptation".to_owned(),
            source,
        })
    }

    /// -W μ (C), f32 from sums in f64: the bias of a linear layer with weight W that takes features as they are.
    ///
    /// # Errors
    /// [`Error::Tensor`].
    pub fn bias(&self) -> Result<Tensor, Error> {
        let product = || {
            let rows = self.weight.to_vec2::<f32>()?;
            let mean = self.mean.to_vec1::<f32>()?;
            let dot = |row: &Vec<f32>| -> f64 {
                let pairs = row.iter().zip(&mean);
                pairs.map(|(w, m)| f64::from(*w) * f64::from(*m)).sum()
            };
            let bias: Vec<f32> = rows.iter().map(|row| -dot(row) as f32).collect();
            Tensor::new(bias, &Device::Cpu)
        };
        product().map_err(|source| Error::Tensor {
            name: "the bias of the adaptation".to_owned(),
            source,
        })
    }
}

impl fmt::Display for AdaptationLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} features", self.kind(), self.width())?;
        if let Some(images) = self.notes.get("images") {
            write!(f, ", fitted to {images} images")?;
        }
        Ok(())
    }
}

impl Weights {
    /// The adaptation that comes with these weights: `config.json` marks their classifier layer as one
    /// (`fgvr.adaptation`), and `adaptation.safetensors` beside it has W and μ. `None` without the mark, whatever the
    /// classifier's shape: then it is a head over classes, or none.
    ///
    /// # Errors
    /// [`Error::Adaptation`] for a mark that the files do not bear out: no such file, no such layer, another width than
    /// the network's, or a layer of other values than the file's; a file or a `config.json` that cannot be read.
    pub fn adaptation(&self) -> Result<Option<AdaptationLayer>, Error> {
        let Some(mark) = self.sidecar.stated()?.adaptation else {
            return Ok(None);
        };
        let config = self.sidecar.config_file();
        let Some(layer) = mark.get("layer").and_then(Setting::text) else {
            return Err(problem(
                &config,
                "fgvr.adaptation names no layer".to_owned(),
            ));
        };
        let beside = config.with_file_name(AdaptationLayer::FILE);
        if !beside.is_file() {
            return Err(problem(
                &config,
                format!(
                    "marks {layer} as an adaptation, and {} is not beside it; fetch or copy that file too",
                    AdaptationLayer::FILE
                ),
            ));
        }
        let adaptation = AdaptationLayer::open(&beside)?;
        if let Some(encoder) = self.encoder() {
            let width = encoder.out_channels()?;
            if width != adaptation.width() {
                return Err(problem(
                    &beside,
                    format!(
                        "is of {} features, and the network beside it has {width}",
                        adaptation.width()
                    ),
                ));
            }
        }
        self.check_layer(layer, &adaptation, &config)?;
        Ok(Some(adaptation))
    }

    /// Whether `config.json` marks the classifier as an adaptation, whatever the files hold.
    pub(crate) fn marks_adaptation(&self) -> bool {
        matches!(self.sidecar.stated(), Ok(stated) if stated.adaptation.is_some())
    }

    /// That the layer in the weights is W and -W μ.
    fn check_layer(
        &self,
        layer: &str,
        adaptation: &AdaptationLayer,
        config: &Path,
    ) -> Result<(), Error> {
        let c = adaptation.width();
        let (weight, bias) = (format!("{layer}.weight"), format!("{layer}.bias"));
        let shape = |name: &str| match self.tensors.get(name) {
            Some(info) => Ok(info.shape.as_slice()),
            None => Err(problem(
                config,
                format!("marks {layer} as an adaptation, and the weights have no tensor {name}"),
            )),
        };
        let expected = match shape(&weight)? {
            [rows, columns] if *rows == c && *columns == c => adaptation.weight.clone(),
            // transformers' DINOv2 has the class token and the mean of the patches there.
            [rows, columns] if *rows == c && *columns == 2 * c => {
                let pooling = self.encoder().map(|encoder| encoder.pooling);
                adaptation.beside_zeros(pooling == Some(Pooling::PatchMean))?
            }
            found => {
                return Err(problem(
                    &self.file_of(&weight),
                    format!(
                        "{weight} is {found:?}, expected [{c}, {c}], the W of the adaptation that config.json marks"
                    ),
                ));
            }
        };
        let found = shape(&bias)?;
        if found != [c] {
            return Err(problem(
                &self.file_of(&bias),
                format!("{bias} is {found:?}, expected [{c}]"),
            ));
        }
        let (stored, offset, wanted) = (self.read(&weight)?, self.read(&bias)?, adaptation.bias()?);
        let same = || {
            let values =
                |tensor: &Tensor| tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
            let layer = values(&stored)? == values(&expected)?;
            candle_core::Result::Ok(layer && values(&offset)? == values(&wanted)?)
        };
        match same() {
            Ok(true) => Ok(()),
            Ok(false) => Err(problem(
                &self.file_of(&weight),
                format!(
                    "{layer} is marked as an adaptation, and its values are not those of {}: the files do not belong \
                     together, or the layer was trained on or rounded",
                    AdaptationLayer::FILE
                ),
            )),
            Err(source) => Err(Error::Tensor {
                name: weight,
                source,
            }),
        }
    }
}

fn problem(file: &Path, problem: String) -> Error {
    Error::Adaptation {
        file: PathBuf::from(file),
        problem,
    }
}
