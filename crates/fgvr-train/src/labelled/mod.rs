//! Training with labels: a network under a linear classifier, by cross-entropy. Calibration and fine-tuning are made of it.

mod subset;

use std::sync::Arc;
use std::time::Instant;

use candle_core::{D, DType, Device, Tensor};
use candle_nn::{Linear, Module};
use fgvr_data::augment::{AugmentConfig, ViewKey, augment};
use fgvr_data::{Dataset, Image, Loader, LoaderConfig, Normalisation, Position, load_batch};
use fgvr_encoder::Backbone;
use fgvr_nn::{Encoder, NormMode, ParameterGradients, Parameters};

pub(crate) use self::subset::Subset;
use crate::embed::{all, explained};
use crate::finite::Finite;
use crate::view::Sight;
use crate::{Compute, Error, Observer, Result, StepRow};

/// A network with its variables, and the classifier on it with its own.
pub(crate) struct Classifying {
    pub(crate) encoder: Backbone,
    pub(crate) parameters: Parameters,
    classifier: Linear,
    head: Parameters,
}

impl Classifying {
    /// `encoder` under a classifier of `classes`, random by `seed`. The network goes to the device; the classifier stays on
    /// the CPU.
    pub(crate) fn new(
        (encoder, parameters): (Backbone, Parameters),
        classes: usize,
        seed: u64,
        compute: &Compute,
    ) -> Result<Self> {
        if let Some(device) = compute.device() {
            parameters.to_device(device)?;
        }
        let head = Parameters::new(seed);
        let vb = head.builder(DType::F32, &Device::Cpu);
        let classifier = candle_nn::linear(encoder.width(), classes, vb.pp("fc"))?;
        Ok(Self {
            encoder,
            parameters,
            classifier,
            head,
        })
    }

    /// The classifier's variables by name.
    pub(crate) fn of_head(&self) -> impl Iterator<Item = (String, candle_core::Var)> + use<> {
        let variables = self.head.trainable().into_iter();
        variables.map(|(name, var)| (format!("classifier {name}"), var))
    }

    /// `total` steps on what `loader` gives; `step` takes the gradients of each and says the rate that it took, and `after`
    /// hears of each step that is done.
    ///
    /// # Errors
    /// An image without a label or that cannot be read, and those of `step` and `after`.
    pub(crate) fn train(
        &self,
        mut loader: Loader,
        (norm, total): (NormMode, u64),
        mut step: impl FnMut(&ParameterGradients, u64) -> Result<f64>,
        mut after: impl FnMut(&Self, u64) -> Result<()>,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        observer.on_start(None, 0, total);
        for number in 0..total {
            let started = Instant::now();
            let batch = loader.next()?;
            let labels: Option<Vec<u32>> = batch.labels.iter().copied().collect();
            let labels = labels.ok_or_else(|| Error::config("source", "an image has no label"))?;
            let images = labels.len();
            let labels = Tensor::new(labels, &Device::Cpu)?;
            let (features, tape) = self.encoder.forward_train(&batch.views[0], norm)?;
            let logits = self.classifier.forward(&features.pooled)?;
            let loss = candle_nn::loss::cross_entropy(&logits, &labels)?;
            let leaves = loss.backward()?;
            let mut gradients = ParameterGradients::default();
            tape.backward(&leaves, &mut gradients)?;
            gradients.append(leaves.into())?;
            let lr = step(&gradients, number)?;
            observer.on_step(&StepRow {
                step: number + 1,
                epoch: batch.epoch,
                loss: f64::from(loss.to_scalar::<f32>()?),
                lr,
                images_per_second: images as f64 / started.elapsed().as_secs_f64(),
                ..StepRow::default()
            });
            after(self, number + 1)?;
        }
        Ok(())
    }

    /// For each readable image of `test` its number and whether the network names its class.
    ///
    /// # Errors
    /// Logits that are not finite; `remedy` says what to do about them.
    pub(crate) fn hits(
        &self,
        test: &Arc<dyn Dataset>,
        sight: &Sight,
        remedy: &'static str,
    ) -> Result<Vec<(usize, bool)>> {
        let encoder = self.encoder.freeze()?;
        let (mut hits, mut finite) = (Vec::with_capacity(test.len()), Finite::default());
        for indices in all(test).chunks(sight.batch.max(1)) {
            let loaded = load_batch(test.as_ref(), indices, &sight.view, &sight.normalisation)?;
            let Some(images) = loaded.images else {
                continue;
            };
            let features = explained(&encoder, &images, encoder.embed(&images))?;
            let logits = self.classifier.forward(&features)?;
            // The largest of what is no number would count as a guess.
            finite.look(&logits, |row| test.id(loaded.indices[row]))?;
            let guesses: Vec<u32> = logits.argmax(D::Minus1)?.to_vec1()?;
            let pairs = loaded.indices.into_iter().zip(guesses);
            hits.extend(pairs.map(|(index, guess)| (index, test.label(index) == Some(guess))));
        }
        finite.verdict(remedy)?;
        Ok(hits)
    }
}

/// How images are loaded to train on with labels: lightly cropped and mirrored.
pub(crate) struct LightViews {
    pub(crate) size: usize,
    pub(crate) normalisation: Normalisation,
    pub(crate) settings: LoaderConfig,
}

impl LightViews {
    /// The loader of `dataset`.
    ///
    /// # Errors
    /// Settings out of range.
    pub(crate) fn of(self, dataset: &Arc<dyn Dataset>) -> Result<Loader> {
        let Self {
            size,
            normalisation,
            settings,
        } = self;
        let light = AugmentConfig {
            crop_scale: [0.5, 1.],
            flip: 0.5,
            ..AugmentConfig::none()
        };
        let transform =
            move |image: &Image, key: ViewKey| augment(image, size, &light, &normalisation, key);
        let settings = LoaderConfig {
            views: 1,
            size,
            ..settings
        };
        let start = Position::default();
        Ok(Loader::new(
            Arc::clone(dataset),
            settings,
            Arc::new(transform),
            start,
        )?)
    }
}
