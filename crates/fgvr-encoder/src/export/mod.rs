//! Weights for other programs: a directory that timm, torchvision and transformers load.

mod adapted;
mod timm;
mod transformers;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use fgvr_nn::Parameters;
use serde_json::{Value, json};

use crate::weights::{AdaptationLayer, Interpolation, Preprocessing, Resize};
use crate::{EncoderConfig, Error, NetworkConfig, Overwrite};

/// Whose names the tensors get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Format {
    /// timm's, which for residual networks are torchvision's too.
    #[default]
    Timm,
    /// transformers': `ResNetModel`, `ViTModel`, `Dinov2Model`, `Dinov2WithRegistersModel`.
    Transformers,
}

fgvr_nn::named!(Format, "Its name on a command line." {
    Timm = "timm",
    Transformers = "transformers",
} else Error: |found: &str| Error::Export {
    problem: format!("format is {found:?}, expected timm or transformers"),
});

/// The contents of an export directory.
///
/// ```no_run
/// use candle_core::{DType, Device};
/// use fgvr_encoder::export::{Export, Format};
/// use fgvr_encoder::weights::Preprocessing;
/// use fgvr_encoder::{Architecture, Backbone, EncoderConfig, Overwrite};
/// use fgvr_nn::Parameters;
///
/// let config = EncoderConfig::from(Architecture::ResNet18);
/// let parameters = Parameters::new(0);
/// let encoder = Backbone::new(&config, parameters.builder(DType::F32, &Device::Cpu))?;
/// let view = Preprocessing::imagenet();
/// let export = Export::new(Format::Timm, &config, &parameters, &view)?;
/// // timm.create_model("local-dir:my-model", pretrained=True)
/// export.save("my-model", "# My model\n", Overwrite::Never)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Export {
    format: Format,
    tensors: BTreeMap<String, Tensor>,
    config: Value,
    preprocessor: Value,
    obstacle: Option<String>,
    network: NetworkConfig,
    /// C of the features.
    width: usize,
    adaptation: Option<AdaptationLayer>,
}

impl Export {
    /// The values of `parameters`, a trunk built from `encoder` and fed as `view` says, in `format`.
    ///
    /// # Errors
    /// [`Error::Export`] where transformers has no such network; what [`EncoderConfig::network`]
    /// refuses. Where timm has none, the tensors still come under timm's names, and
    /// [`Export::obstacle`] says what differs.
    pub fn new(
        format: Format,
        encoder: &EncoderConfig,
        parameters: &Parameters,
        view: &Preprocessing,
    ) -> Result<Self, Error> {
        let values = with_counters(parameters)?;
        let network = encoder.network()?;
        let (tensors, mut config, obstacle) = match format {
            Format::Timm => {
                let (config, obstacle) = timm::config(encoder, &network, view);
                (values, config, obstacle)
            }
            Format::Transformers => {
                let config = transformers::config(&network)?;
                (transformers::tensors(&network, values)?, config, None)
            }
        };
        // What fgvr itself needs to build the network again; others pass over it.
        config["fgvr"] = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "encoder": describe(encoder),
        });
        Ok(Self {
            format,
            tensors,
            config,
            preprocessor: preprocessor(view),
            obstacle,
            network,
            width: encoder.out_channels()?,
            adaptation: None,
        })
    }

    /// Why timm cannot build the network by itself, if so.
    #[must_use]
    pub fn obstacle(&self) -> Option<&str> {
        self.obstacle.as_deref()
    }

    /// The tensors by name, as they will be written.
    #[must_use]
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// `config.json`.
    #[must_use]
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// Writes `model.safetensors`, `config.json`, `preprocessor_config.json`, and `card` as
    /// `README.md`; with an adaptation also [`AdaptationLayer::FILE`]. The directory is written aside and renamed, so that it is there whole or not at
    /// all. The same values give the same bytes.
    ///
    /// # Errors
    /// [`Error::Exists`] for a directory that is there, unless it may be replaced; [`Error::Io`].
    pub fn save(
        &self,
        directory: impl AsRef<Path>,
        card: &str,
        overwrite: Overwrite,
    ) -> Result<(), Error> {
        let directory = directory.as_ref();
        let there = directory.symlink_metadata().is_ok();
        if overwrite == Overwrite::Never && there {
            return Err(Error::Exists {
                file: directory.into(),
            });
        }
        if let Some(parent) = directory.parent().filter(|p| !p.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(io(parent))?;
        }
        let (aside, old) = (beside(directory, "partial"), beside(directory, "old"));
        for left in [&aside, &old] {
            remove(left)?;
        }
        let written = self.write(&aside, card).and_then(|()| {
            // A directory that is not empty cannot be renamed over.
            if there {
                fs::rename(directory, &old).map_err(io(directory))?;
            }
            fs::rename(&aside, directory).map_err(io(directory))
        });
        match &written {
            Ok(()) => remove(&old)?,
            Err(_) => {
                // The first error is the one to report; what stood there stands again.
                if there && directory.symlink_metadata().is_err() {
                    let _ = fs::rename(&old, directory);
                }
                let _ = fs::remove_dir_all(&aside);
            }
        }
        written
    }

    fn write(&self, directory: &Path, card: &str) -> Result<(), Error> {
        fs::create_dir(directory).map_err(io(directory))?;
        // One key only: the header's metadata has no order of its own. transformers asks for it.
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let model = directory.join("model.safetensors");
        let bytes = safetensors::serialize(&self.tensors, Some(metadata)).map_err(|error| {
            Error::Format {
                file: model.clone(),
                format: "safetensors",
                reason: error.to_string(),
            }
        })?;
        write_synced(&model, &bytes)?;
        for (name, value) in [
            ("config.json", &self.config),
            ("preprocessor_config.json", &self.preprocessor),
        ] {
            write_synced(&directory.join(name), format!("{value:#}\n").as_bytes())?;
        }
        if let Some(adaptation) = &self.adaptation {
            write_synced(&directory.join(AdaptationLayer::FILE), adaptation.bytes())?;
        }
        write_synced(&directory.join("README.md"), card.as_bytes())
    }

    /// Whose names the tensors have.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }
}

/// The settings of `encoder` under their names in a settings file.
fn describe(encoder: &EncoderConfig) -> Value {
    let mut table = json!({ "architecture": encoder.architecture.name() });
    match encoder.network() {
        Ok(NetworkConfig::Vit(vit)) => {
            table["patch_size"] = json!(vit.patch_size);
            table["image_size"] = json!(vit.image_size);
            table["heads"] = json!(vit.heads);
            table["norm_eps"] = json!(vit.norm_eps);
            table["positions"] = json!(vit.positions.name());
            table["pooling"] = json!(vit.pooling.name());
        }
        // Its name says all.
        Ok(NetworkConfig::EfficientNet(_)) => {}
        _ => {
            table["width"] = json!(encoder.width);
            table["stem"] = json!(encoder.stem.name());
        }
    }
    table
}

/// transformers' image processor that does the same as our evaluation.
fn preprocessor(view: &Preprocessing) -> Value {
    let [height, width] = view.size;
    let exact = json!({ "height": height, "width": width });
    let (kind, size, crop) = match view.resize {
        Resize::ShorterSide(side) => ("BitImageProcessor", json!({ "shortest_edge": side }), true),
        Resize::Exact => ("ViTImageProcessor", exact.clone(), false),
    };
    let mut config = json!({
        "image_processor_type": kind,
        "do_convert_rgb": true,
        "do_resize": true,
        "size": size,
        "resample": filter(view.interpolation),
        "do_rescale": true,
        "rescale_factor": 1. / 255.,
        "do_normalize": true,
        "image_mean": decimals(&view.mean),
        "image_std": decimals(&view.std),
    });
    if crop {
        config["do_center_crop"] = json!(true);
        config["crop_size"] = exact;
    }
    config
}

/// Pillow's number of a filter.
fn filter(interpolation: Interpolation) -> u8 {
    match interpolation {
        Interpolation::Nearest => 0,
        Interpolation::Lanczos => 1,
        Interpolation::Bilinear => 2,
        Interpolation::Bicubic => 3,
        Interpolation::Box => 4,
        Interpolation::Hamming => 5,
    }
}

/// f32 values as the decimals a person wrote: 0.485 rather than 0.48500001430511475.
fn decimals(values: &[f32; 3]) -> Vec<f64> {
    let parse = |v: &f32| v.to_string().parse().unwrap_or_else(|_| f64::from(*v));
    values.iter().map(parse).collect()
}

/// A name of its own in the same folder, so that a rename stays within one file system.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.{suffix}", std::process::id()));
    path.with_file_name(name)
}

fn remove(directory: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(directory)(error)),
        _ => Ok(()),
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut file = fs::File::create(path).map_err(io(path))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(io(path))
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let file = path.to_owned();
    move |source| Error::Io { file, source }
}

/// The variables, and the number of batches that every batch norm counts in PyTorch and nobody here.
fn with_counters(parameters: &Parameters) -> Result<BTreeMap<String, Tensor>, Error> {
    let mut tensors = BTreeMap::new();
    parameters.to_host().map_err(|source| Error::Tensor {
        name: "the encoder".to_owned(),
        source,
    })?;
    for (name, var) in parameters.all() {
        let wrap = |source| Error::Tensor {
            name: name.clone(),
            source,
        };
        if var.dtype() != DType::F32 {
            let file = PathBuf::from("export");
            return Err(Error::data_type(file, &name, "f32", var.dtype()));
        }
        if let Some(norm) = name.strip_suffix(".running_mean") {
            let zero = Tensor::zeros((), DType::I64, &Device::Cpu).map_err(wrap)?;
            tensors.insert(format!("{norm}.num_batches_tracked"), zero);
        }
        let tensor = var.as_tensor().contiguous().map_err(wrap)?;
        tensors.insert(name.clone(), tensor);
    }
    Ok(tensors)
}
