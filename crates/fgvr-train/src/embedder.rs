//! A frozen encoder with all that embedding photos needs, from a run or from anyone's weights.

use std::path::Path;

use candle_core::{DType, Device};
use fgvr_encoder::weights::{LoadOptions, LoadReport, Weights, load};
use fgvr_encoder::{Backbone, EncoderConfig, FrozenBackbone};
use fgvr_nn::Parameters;

use crate::checkpoint::{self, Which};
use crate::embed::Sight;
use crate::start::advised;
use crate::view::view;
use crate::{Compute, Error, PretrainConfig, Result, RunFolder};

/// Images a forward pass.
const BATCH: usize = 32;

/// An encoder that no longer changes, and the view of a photo that it takes.
pub struct Embedder {
    pub(crate) encoder: FrozenBackbone,
    pub(crate) sight: Sight,
    /// Where the weights come from, in words.
    origin: String,
}

impl Embedder {
    /// The encoder of a run's checkpoint, wherever and in whatever precision it was trained.
    ///
    /// # Errors
    /// A run without that checkpoint, or one that is damaged.
    pub fn from_run(run: &RunFolder, which: Which, compute: &Compute) -> Result<Self> {
        let config = run.config()?;
        let (step, parameters) = encoder_of(run, &config, which)?;
        let encoder = Backbone::new(
            &config.encoder,
            parameters.builder(DType::F32, &Device::Cpu),
        )?;
        let encoder = encoder.on(compute.device().cloned());
        Ok(Self {
            encoder: encoder.freeze()?,
            sight: Sight::of(&config),
            origin: format!("{}, step {step}", run.path().display()),
        })
    }

    /// The encoder that `weights` hold, of the architecture that they are of, with the preprocessing
    /// that comes with them. `size` asks for another side of the images in pixels; `allow_mismatch` names what may
    /// say that the weights are of another network.
    ///
    /// # Errors
    /// Weights whose architecture cannot be told, or that do not fit it.
    pub fn from_weights(
        weights: &Weights,
        size: Option<usize>,
        allow_mismatch: &[String],
        compute: &Compute,
    ) -> Result<(Self, LoadReport)> {
        let mut config = architecture(weights)?;
        let (view, normalisation) = view(weights.preprocessing(), size)?;
        if config.architecture.is_vit() {
            config.image_size = Some(view.size);
        }
        let parameters = Parameters::new(0);
        let encoder = Backbone::new(&config, parameters.builder(DType::F32, &Device::Cpu))?
            .on(compute.device().cloned());
        let options = LoadOptions {
            allow_mismatch: allow_mismatch.to_vec(),
            encoder: Some(config),
            ..LoadOptions::default()
        };
        let report = load(&parameters, weights, &options)
            .map_err(|error| advised(error, |_| "--allow-mismatch NAME for each".to_owned()))?;
        let embedder = Self {
            encoder: encoder.freeze()?,
            sight: Sight {
                view,
                batch: BATCH,
                normalisation,
            },
            origin: report.from.clone(),
        };
        Ok((embedder, report))
    }

    /// This embedder, with `batch` images a forward pass: features do not depend on it, memory and time do.
    ///
    /// # Errors
    /// A batch of 0.
    pub fn with_batch(mut self, batch: usize) -> Result<Self> {
        self.sight.batch = at_least_one(batch)?;
        Ok(self)
    }

    /// Where the weights come from, in words.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Where the encoder runs, for people and records.
    #[must_use]
    pub fn device(&self) -> &str {
        self.encoder.device().map_or("cpu", fgvr_nn::Device::name)
    }

    /// C, the length of an embedding.
    #[must_use]
    pub fn width(&self) -> usize {
        self.encoder.width()
    }
}

/// That a forward pass has an image.
///
/// # Errors
/// It has none.
pub(crate) fn at_least_one(batch: usize) -> Result<usize> {
    match batch {
        0 => Err(Error::config("--batch", "expected at least 1, found 0")),
        batch => Ok(batch),
    }
}

/// The architecture that weights are of, found by their tensors.
///
/// # Errors
/// It is none of ours.
pub(crate) fn architecture(weights: &Weights) -> Result<EncoderConfig> {
    weights.encoder().ok_or_else(|| {
        let found = match (weights.architecture(), weights.other_family()) {
            (Some(found), _) => format!("holds {found}, a network that fgvr does not have"),
            (None, Some(family)) => format!("holds {family}, a network that fgvr does not have"),
            (None, None) => "holds no network that is known here".to_owned(),
        };
        Error::config(
            weights.origin(),
            format!(
                "{found}; `fgvr weights inspect` shows its tensors, docs/weights.md the networks"
            ),
        )
    })
}

/// The encoder's variables as a checkpoint of a run has them, and its step.
///
/// # Errors
/// As [`Embedder::from_run`].
pub(crate) fn encoder_of(
    run: &RunFolder,
    config: &PretrainConfig,
    which: Which,
) -> Result<(u64, Parameters)> {
    let (manifest, tensors) = checkpoint::load_which(run, which)?;
    let parameters = Parameters::new(config.seed);
    Backbone::new(
        &config.encoder,
        parameters.builder(DType::F32, &Device::Cpu),
    )?;
    let names = tensors.into_iter().filter_map(|(name, tensor)| {
        Some((name.strip_prefix("objective.encoder.")?.to_owned(), tensor))
    });
    parameters
        .set_all(&names.collect())
        .map_err(|e| unfit(run.path(), &e))?;
    Ok((manifest.step, parameters))
}

fn unfit(run: &Path, error: &candle_core::Error) -> Error {
    let text = error.to_string();
    let problem = text.lines().next().unwrap_or_default();
    Error::checkpoint(
        &run.join("checkpoints"),
        format!("does not fit the settings in config.toml ({problem}); was the file changed?"),
    )
}
