//! What follows from the settings.

use fgvr_data::augment::{AugmentConfig, EvaluationView, Fit};
use fgvr_encoder::Pooling;
use fgvr_ssl::{AddonConfig, BaseConfig, SynthPairConfig, TrainingSet, Trunk, TrunkNorm};

use super::PretrainConfig;
use crate::Result;

impl PretrainConfig {
    /// The choices of the base, for a training split of `images` images.
    ///
    /// # Errors
    /// A base that is not registered.
    pub fn base_config(&self, images: usize) -> Result<Box<dyn BaseConfig>> {
        Ok(self.fitted_base(images)?.0)
    }

    /// [`PretrainConfig::base_config`], and what is otherwise than asked for, a line each.
    pub(crate) fn fitted_base(&self, images: usize) -> Result<(Box<dyn BaseConfig>, Vec<String>)> {
        let mut base = self.methods.base(self.base)?;
        let lines = base.fit_to(TrainingSet {
            images,
            batch: self.loader.batch,
            seed: self.seed,
        });
        Ok((base, lines))
    }

    /// What is trained, for people: `byol, arm base, with lcr`.
    #[must_use]
    pub fn method(&self) -> String {
        let mut text = format!("{}, arm {}", self.base, self.arm);
        for (number, kind) in self.addons.iter().enumerate() {
            text += if number == 0 { ", with " } else { " and " };
            text += kind.name();
        }
        text
    }

    /// How it is trained, for people: `adamw at 2e-5, heads at 1e-3, weight decay 0.05, 64 images a step, batch norm by
    /// running statistics`.
    #[must_use]
    pub fn recipe(&self) -> String {
        let o = &self.optimizer;
        let mut text = format!("{} at {:e}", o.kind.name(), o.lr);
        if let Some(rate) = o.head_lr {
            text += &format!(", heads at {rate:e}");
        }
        if o.head_steps > 0 {
            text += &format!(", heads alone for {} steps", o.head_steps);
        }
        if o.layer_decay != 1. {
            text += &format!(", each layer at {} of the rate above it", o.layer_decay);
        }
        if !o.freeze.is_empty() {
            text += &format!(", {} frozen", o.freeze.join(", "));
        }
        if o.freeze_layers > 0 {
            text += &format!(", {} layers frozen", o.freeze_layers);
        }
        if o.low_rank > 0 {
            text += &format!(", LoRA of rank {}", o.low_rank);
        }
        if o.anchor > 0. {
            text += &format!(", drawn to the start with {}", o.anchor);
        }
        let images = self.loader.batch * o.accumulate;
        text += &format!(", weight decay {}, {images} images a step", o.weight_decay);
        if o.trunk_norm == TrunkNorm::Running {
            text += ", batch norm by running statistics";
        }
        if let [first, rest @ ..] = self.adapt.interpolate.as_slice() {
            let shares = rest
                .iter()
                .fold(first.to_string(), |text, share| format!("{text}, {share}"));
            text += &format!(", with adapt --train weights {shares} of the way tried too");
        }
        for said in [self.taught_by(), self.positives.recipe()]
            .into_iter()
            .flatten()
        {
            text += &format!(", {said}");
        }
        text
    }

    /// The choices of all that stands on the base, in the order in which it runs: SynthPair, of which the arm decides what
    /// is active, and what `addons` names.
    ///
    /// # Errors
    /// An add-on that is not registered.
    pub fn addon_configs(&self) -> Result<Vec<Box<dyn AddonConfig>>> {
        let pairs: Box<dyn AddonConfig> = Box::new(self.pairs());
        let others = self.addons.iter().map(|kind| self.methods.addon(*kind));
        std::iter::once(Ok(pairs)).chain(others).collect()
    }

    /// The choices of SynthPair, as the arm has them.
    #[must_use]
    pub fn pairs(&self) -> SynthPairConfig {
        let mut pairs = self.methods.get::<SynthPairConfig>();
        self.arm.apply(&mut pairs);
        pairs
    }

    /// Makes pairs begin at once and at their full weight, for a trial of a few steps, as soon as a batch is in the bank.
    ///
    /// # Errors
    /// None in practice.
    pub fn begin_pairs_at_once(&mut self) -> Result<()> {
        let batch = self.loader.batch;
        let pairs = self.methods.get_mut::<SynthPairConfig>()?;
        (pairs.warm_up, pairs.ramp) = (0., 0.);
        pairs.bank_minimum = pairs.bank_minimum.min(batch);
        Ok(())
    }

    /// Small crops given with each pair of views.
    #[must_use]
    pub fn local_crops(&self) -> usize {
        let base = self.methods.base(self.base);
        base.map_or(0, |base| base.local_crops())
    }

    /// Side of a small crop in pixels.
    #[must_use]
    pub fn crop_size(&self) -> usize {
        self.loader.crop_size.unwrap_or_else(|| {
            // Whole patches of a transformer.
            let step = match self.trunk() {
                Trunk::Vit => self.encoder.stride().unwrap_or(8).max(1),
                Trunk::ResNet => 8,
            };
            ((self.data.size * 96).div_ceil(224).div_ceil(step) * step).min(self.data.size)
        })
    }

    /// How a small crop is made.
    #[must_use]
    pub fn crop_augment(&self) -> AugmentConfig {
        self.augment_crops.clone().unwrap_or_else(|| AugmentConfig {
            crop_scale: [0.05, 0.4],
            ..self.augment.clone()
        })
    }

    /// The kind of trunk, on which published recipes depend.
    #[must_use]
    pub fn trunk(&self) -> Trunk {
        match self.encoder.architecture.is_vit() {
            true => Trunk::Vit,
            false => Trunk::ResNet,
        }
    }

    /// Whether pooled features are the mean of the last map over its places.
    #[must_use]
    pub fn pools_places(&self) -> bool {
        !self.encoder.architecture.is_vit() || self.encoder.pooling == Pooling::PatchMean
    }

    /// What evaluation sees of an image.
    #[must_use]
    pub fn evaluation_view(&self) -> EvaluationView {
        let cropped = EvaluationView::of_ratio(self.data.size, self.evaluate.resize_ratio);
        EvaluationView {
            fit: if self.evaluate.squash {
                Fit::Squash
            } else {
                cropped.fit
            },
            interpolation: self.evaluate.interpolation,
            ..cropped
        }
    }

    /// Optimiser steps of the whole run, given the images of the training split.
    #[must_use]
    pub fn total_steps(&self, images: usize) -> u64 {
        self.optimizer
            .steps
            .unwrap_or_else(|| self.optimizer.epochs * self.steps_per_epoch(images))
    }

    /// Optimiser steps a pass over the training split, at least one.
    #[must_use]
    pub fn steps_per_epoch(&self, images: usize) -> u64 {
        let batches = images / self.loader.batch.max(1);
        (batches / self.optimizer.accumulate.max(1)).max(1) as u64
    }
}
