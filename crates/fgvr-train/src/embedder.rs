//! A frozen encoder with all that embedding photos needs, from a run or from anyone's weights.

mod of_start;
mod seen;

use candle_core::{DType, Device, Tensor};
use fgvr_data::DataConfig;
use fgvr_encoder::weights::{LoadOptions, LoadReport, Preprocessing, Weights, load};
use fgvr_encoder::{Architecture, Backbone, EncoderConfig, FrozenBackbone};
use fgvr_nn::Parameters;
use fgvr_perturb::Adaptation;

use self::seen::{Seen, seen, seen_to_judge, told_architecture};
use crate::adaptation::adaptation_of;
use crate::checkpoint::{self, Saved, Which, under};
use crate::config::Use;
use crate::embed::explained;
use crate::finite;
use crate::interpolate::interpolated;
use crate::view::{Sight, preprocessing};
use crate::weights_source::{advised, architecture};
use crate::{Compute, Error, PretrainConfig, Result, RunFolder};

/// An encoder that no longer changes, and the view of a photo that it takes.
pub struct Embedder {
    pub(crate) encoder: FrozenBackbone,
    pub(crate) sight: Sight,
    /// How photos are found, read and split.
    pub(crate) data: DataConfig,
    /// What the encoder was built from, and its variables: for exports.
    pub(crate) config: EncoderConfig,
    pub(crate) parameters: Parameters,
    /// Optimiser steps of the run that it is from.
    pub(crate) step: Option<u64>,
    /// Features come out transformed by this.
    adaptation: Option<Adaptation>,
    /// Where the weights come from, in words.
    origin: String,
    /// What to do where its features are not finite.
    pub(crate) not_finite: &'static str,
}

impl Embedder {
    /// The encoder of a run's checkpoint, wherever and in whatever precision it was trained.
    ///
    /// # Errors
    /// A run without that checkpoint, or one that is damaged.
    pub fn from_run(run: &RunFolder, which: Which, compute: &Compute) -> Result<Self> {
        Self::from_run_with(run, which, &[], compute)
    }

    /// The encoder of a run's checkpoint, with `settings` over those of the run, each `key.path=value`. At another
    /// size a transformer's position embeddings are resampled, as for weights.
    ///
    /// # Errors
    /// A run without that checkpoint, or one that is damaged; a setting that is unknown or has no effect on
    /// embedding.
    pub fn from_run_with(
        run: &RunFolder,
        which: Which,
        settings: &[String],
        compute: &Compute,
    ) -> Result<Self> {
        let trained = run.config()?;
        let config = run.config_for(Use::Embed, settings)?;
        let (step, mut parameters) = encoder_of(run, &trained, which)?;
        let mut network = trained.encoder.clone();
        network.pooling = config.encoder.pooling;
        network.validate()?;
        if network.architecture.is_vit() && config.data.size != trained.data.size {
            network.image_size = Some(config.data.size);
            parameters = at_another_size(&parameters, &network, run)?;
        }
        let encoder = Backbone::new(&network, parameters.builder(DType::F32, &Device::Cpu))?;
        let encoder = encoder.on(compute.device().cloned());
        Ok(Self {
            encoder: encoder.freeze()?,
            sight: Sight::of(&config),
            data: config.data,
            config: network,
            parameters,
            step: Some(step),
            adaptation: None,
            origin: format!("{}, step {step}", run.path().display()),
            not_finite: finite::OF_A_RUN,
        })
    }

    /// The encoder that `weights` hold, of the architecture that they are of, with the preprocessing
    /// that comes with them, and with the adaptation, if there is one. `size` asks for another side of the images in pixels; `allow_mismatch` names what may
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
        let size = size.map(|size| format!("data.size={size}"));
        Self::from_weights_with(weights, &Vec::from_iter(size), allow_mismatch, compute)
    }

    /// The encoder that `weights` hold, with `settings` over what the weights bring, each `key.path=value`;
    /// `encoder.architecture` says what they are of, where they do not.
    ///
    /// # Errors
    /// Weights whose architecture cannot be told, or that do not fit it; a setting that is unknown or has no effect
    /// on embedding.
    pub fn from_weights_with(
        weights: &Weights,
        settings: &[String],
        allow_mismatch: &[String],
        compute: &Compute,
    ) -> Result<(Self, LoadReport)> {
        // Before the network is built: reading it costs little.
        let adaptation = adaptation_of(weights)?;
        let (embedder, report) =
            Self::plain_from_weights_with(weights, settings, allow_mismatch, compute)?;
        let Some(adaptation) = adaptation else {
            return Ok((embedder, report));
        };
        fitted_to(weights, &embedder)?;
        Ok((embedder.with_adaptation(adaptation)?, report))
    }

    /// The encoder that `weights` hold, without the adaptation that may come with them, which is not even
    /// looked at.
    ///
    /// # Errors
    /// Weights whose architecture cannot be told, or that do not fit it; a setting that is unknown or has no effect
    /// on embedding.
    pub fn plain_from_weights_with(
        weights: &Weights,
        settings: &[String],
        allow_mismatch: &[String],
        compute: &Compute,
    ) -> Result<(Self, LoadReport)> {
        let (told, settings) = told_architecture(settings)?;
        let seen = seen(weights.preprocessing(), &settings)?;
        Self::of_weights(weights, told, seen, allow_mismatch, compute)
    }

    /// The encoder that `weights` hold, for photos that are split to be judged, with the settings to judge by.
    ///
    /// # Errors
    /// Weights whose architecture cannot be told, or that do not fit it; a setting that is unknown or has no effect
    /// on embedding.
    pub(crate) fn to_judge(
        weights: &Weights,
        settings: &[String],
        allow_mismatch: &[String],
        compute: &Compute,
    ) -> Result<(Self, PretrainConfig, LoadReport)> {
        let (told, settings) = told_architecture(settings)?;
        let seen = seen_to_judge(weights.preprocessing(), &settings)?;
        let config = seen.config.clone();
        let (embedder, report) = Self::of_weights(weights, told, seen, allow_mismatch, compute)?;
        Ok((embedder, config, report))
    }

    fn of_weights(
        weights: &Weights,
        told: Option<Architecture>,
        seen: Seen,
        allow_mismatch: &[String],
        compute: &Compute,
    ) -> Result<(Self, LoadReport)> {
        let mut config = architecture(weights, told)?;
        config.pooling = seen.pooling.unwrap_or(config.pooling);
        config.validate()?;
        let (sight, data) = (seen.sight, seen.config.data);
        if config.architecture.is_vit() {
            config.image_size = Some(sight.view.size);
        }
        let parameters = Parameters::new(0);
        let encoder = Backbone::new(&config, parameters.builder(DType::F32, &Device::Cpu))?
            .on(compute.device().cloned());
        let options = LoadOptions {
            allow_mismatch: allow_mismatch.to_vec(),
            encoder: Some(config.clone()),
            ..LoadOptions::default()
        };
        let report = load(&parameters, weights, &options)
            .map_err(|error| advised(error, |_| "--allow-mismatch NAME for each".to_owned()))?;
        let embedder = Self {
            encoder: encoder.freeze()?,
            sight,
            data,
            config,
            parameters,
            step: None,
            adaptation: None,
            origin: report.from.clone(),
            not_finite: finite::OF_WEIGHTS,
        };
        Ok((embedder, report))
    }

    /// This network with weights between those of `start`, from which it was trained, and its own: `share` of these, 0 to 1, and
    /// the rest of the start's. No adaptation comes along.
    ///
    /// # Errors
    /// A start that is another network; what a device says.
    pub(crate) fn between(&self, start: &Self, share: f64) -> Result<Self> {
        let parameters = Parameters::new(0);
        let builder = parameters.builder(DType::F32, &Device::Cpu);
        let encoder = Backbone::new(&self.config, builder)?.on(self.encoder.device().cloned());
        parameters.set_all(&interpolated([&start.parameters, &self.parameters], share)?)?;
        Ok(Self {
            encoder: encoder.freeze()?,
            sight: self.sight.clone(),
            data: self.data.clone(),
            config: self.config.clone(),
            parameters,
            step: self.step,
            adaptation: None,
            origin: format!("{}, {share} of the way from the start", self.origin),
            not_finite: self.not_finite,
        })
    }

    /// The network with its weights once more, to train, and its variables.
    ///
    /// # Errors
    /// None in practice.
    pub(crate) fn fresh(&self, compute: &Compute) -> Result<(Backbone, Parameters)> {
        let parameters = Parameters::new(0);
        let builder = parameters.builder(DType::F32, &Device::Cpu);
        let encoder = Backbone::new(&self.config, builder)?.on(compute.device().cloned());
        parameters.copy_from(&self.parameters)?;
        Ok((encoder, parameters))
    }

    /// This embedder, with `batch` images a forward pass: features do not depend on it, memory and time do.
    ///
    /// # Errors
    /// A batch of 0.
    pub fn with_batch(mut self, batch: usize) -> Result<Self> {
        self.sight.batch = at_least_one(batch)?;
        Ok(self)
    }

    /// This embedder, whose features come out transformed by `adaptation`, in place of any other.
    ///
    /// # Errors
    /// An adaptation of another width than the features.
    pub fn with_adaptation(mut self, adaptation: Adaptation) -> Result<Self> {
        if adaptation.width() != self.width() {
            return Err(Error::config(
                "adaptation",
                format!(
                    "is of {} features, and {} gives {}; use one that was fitted to this network",
                    adaptation.width(),
                    self.origin,
                    self.width()
                ),
            ));
        }
        self.adaptation = Some(adaptation);
        Ok(self)
    }

    /// This embedder without an adaptation: the encoder's features as they are.
    #[must_use]
    pub fn plain(mut self) -> Self {
        self.adaptation = None;
        self
    }

    /// What transforms the features, if anything does.
    #[must_use]
    pub fn adaptation(&self) -> Option<&Adaptation> {
        self.adaptation.as_ref()
    }

    /// What the encoder was built from.
    #[must_use]
    pub fn encoder_config(&self) -> &EncoderConfig {
        &self.config
    }

    /// What of a photo the encoder sees, and how: that of the weights or the run, with all that was set.
    #[must_use]
    pub fn preprocessing(&self) -> Preprocessing {
        preprocessing(&self.sight)
    }

    /// Where the weights come from, in words.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The features (N, C) of `images`, as an embedding file has them. Where some are not finite, those of the batch are
    /// left as the encoder gave them, for whoever looks at them.
    pub(crate) fn embed(&self, images: &Tensor) -> Result<Tensor> {
        let features = explained(&self.encoder, images, self.encoder.embed(images))?;
        let Some(adaptation) = &self.adaptation else {
            return Ok(features);
        };
        let values = features.flatten_all()?.to_vec1::<f32>()?;
        if !values.iter().all(|value| value.is_finite()) {
            return Ok(features);
        }
        let adapted = adaptation.apply(&values)?;
        Ok(Tensor::from_vec(adapted, features.dims(), &Device::Cpu)?)
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

/// That `embedder` pools what the adaptation of `weights` was fitted to.
///
/// # Errors
/// It pools something else.
pub(crate) fn fitted_to(weights: &Weights, embedder: &Embedder) -> Result<()> {
    let own = weights.encoder().map(|encoder| encoder.pooling);
    match own {
        Some(own) if own != embedder.config.pooling => Err(Error::config(
            "encoder.pooling",
            format!(
                "is {:?}, and the adaptation that comes with these weights is of {:?}; --plain leaves it off",
                embedder.config.pooling.name(),
                own.name()
            ),
        )),
        _ => Ok(()),
    }
}

/// The variables of a transformer, `trained`, in `network`, which differs in the size of its images.
fn at_another_size(
    trained: &Parameters,
    network: &EncoderConfig,
    run: &RunFolder,
) -> Result<Parameters> {
    let variables = trained.all().into_iter();
    let tensors = variables.map(|(name, variable)| (name, variable.as_tensor().clone()));
    let stored = safetensors::serialize(tensors, None).map_err(std::io::Error::other);
    let stored = stored.map_err(Error::io(run.path()))?;
    let weights = Weights::from_bytes(&run.path().display().to_string(), stored)?;
    let parameters = Parameters::new(0);
    Backbone::new(network, parameters.builder(DType::F32, &Device::Cpu))?;
    load(&parameters, &weights, &LoadOptions::default())?;
    Ok(parameters)
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

/// The encoder's variables as a checkpoint of a run has them, and its step.
///
/// # Errors
/// A run without that checkpoint, or one that is damaged.
pub(crate) fn encoder_of(
    run: &RunFolder,
    config: &PretrainConfig,
    which: Which,
) -> Result<(u64, Parameters)> {
    let saved = checkpoint::load_which(run, which)?;
    let parameters = encoder_parameters(run, config, &saved)?;
    Ok((saved.manifest.step, parameters))
}

/// The encoder's variables as a checkpoint has them.
///
/// # Errors
/// They do not fit the settings.
pub(crate) fn encoder_parameters(
    run: &RunFolder,
    config: &PretrainConfig,
    saved: &Saved,
) -> Result<Parameters> {
    let parameters = Parameters::new(config.seed);
    Backbone::new(
        &config.encoder,
        parameters.builder(DType::F32, &Device::Cpu),
    )?;
    parameters
        .set_all(&under(&saved.tensors, "objective.encoder"))
        .map_err(|error| saved.unfit(run, config, error))?;
    Ok(parameters)
}
