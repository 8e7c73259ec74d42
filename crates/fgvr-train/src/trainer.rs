//! Networks, objective and optimisers of a run, and one step of them.

mod state;
#[cfg(test)]
mod tests;

use candle_core::{Tensor, Var};
use fgvr_data::Batch;
use fgvr_data::augment::{pair_augment, pair_draws};
use fgvr_encoder::weights::{LoadReport, Weights};
use fgvr_encoder::{Backbone, FrozenBackbone, Positions};
use fgvr_eval::{effective_rank, embedding_std};
use fgvr_nn::optim::{Adam, clip_gradient_norm};
use fgvr_nn::{Activation, Decoder, Encoder, ParameterGradients, Parameters};
use fgvr_perturb::FeatureBank;
use fgvr_ssl::{Addon, Base, PairGate, Pictures, RunLength, StepInput, Views};

use crate::augment_on_device::augment_on_device;
use crate::config::PretrainConfig;
use crate::learning_rate::learning_rate;
use crate::loader::enough_images;
use crate::objective::{Objective, bank};
use crate::optimizer::TrunkOptimizer;
use crate::start::load_start;
use crate::{Compute, Error, Result, StagedViews, StepRow};

/// Steps between two effective ranks: an eigenvalue problem each.
const RANK_EVERY: u64 = 20;

/// A transformer's position embedding, among the variables of a base.
const POSITIONS: &str = "encoder.pos_embed";

/// Everything a step changes.
pub struct Trainer {
    config: PretrainConfig,
    images: usize,
    step: u64,
    total: u64,
    encoder_parameters: Parameters,
    /// Over the same variables as the base's online encoder.
    encoder: Backbone,
    base: Box<dyn Base>,
    addons: Vec<Box<dyn Addon + Send>>,
    optimizer: TrunkOptimizer,
    /// Optimisers of add-ons' own, each beside its add-on's number.
    own_optimizers: Vec<(usize, Adam)>,
}

impl Trainer {
    /// Networks of random weights for a training split of `images` images; what the settings say of
    /// pretrained weights is for [`Trainer::from_weights`].
    ///
    /// # Errors
    /// Settings that do not fit together, or fewer images than a batch.
    pub fn new(config: &PretrainConfig, images: usize, compute: &Compute) -> Result<Self> {
        Ok(Self::build(config, images, (compute, None), |_| Ok(()))?.0)
    }

    /// As [`Trainer::new`], taught by the features `teacher`, a row for each training image.
    pub(crate) fn taught(
        config: &PretrainConfig,
        images: usize,
        teacher: Option<&Tensor>,
        compute: &Compute,
    ) -> Result<Self> {
        Ok(Self::build(config, images, (compute, teacher), |_| Ok(()))?.0)
    }

    /// Networks of random weights but for the encoder, whose variables are set from `weights`.
    ///
    /// # Errors
    /// Settings that do not fit together, or fewer images than a batch; weights that do not fit the encoder.
    pub fn from_weights(
        config: &PretrainConfig,
        images: usize,
        weights: &Weights,
        compute: &Compute,
    ) -> Result<(Self, LoadReport)> {
        Self::taught_from(config, images, weights, (compute, None))
    }

    /// As [`Trainer::from_weights`], taught by the features of a teacher, a row for each training image.
    pub(crate) fn taught_from(
        config: &PretrainConfig,
        images: usize,
        weights: &Weights,
        how: (&Compute, Option<&Tensor>),
    ) -> Result<(Self, LoadReport)> {
        Self::build(config, images, how, |parameters| {
            load_start(config, parameters, weights)
        })
    }

    /// The trainer, and what `start` gave for the encoder's variables.
    fn build<R>(
        config: &PretrainConfig,
        images: usize,
        (compute, teacher): (&Compute, Option<&Tensor>),
        start: impl FnOnce(&Parameters) -> Result<R>,
    ) -> Result<(Self, R)> {
        enough_images(config, images)?;
        let run = RunLength {
            steps: config.total_steps(images),
            steps_per_epoch: config.steps_per_epoch(images),
        };
        let of_base = config.base_config(images)?;
        let (objective, started) =
            Objective::new(config, of_base.as_ref(), run, (compute, teacher), start)?;
        let Objective {
            encoder,
            encoder_parameters,
            base,
            addons,
        } = objective;
        let mut trained = base.trainable();
        if config.encoder.positions == Positions::Sincos {
            // A fixed table.
            trained.retain(|name, _| name != POSITIONS);
        }
        trained.extend(addons.iter().flat_map(|addon| addon.trainable()));
        let recipe = of_base.recipe(config.trunk());
        let constant = recipe.map_or(&[][..], |recipe| recipe.learning_rate.constant);
        // A base that withholds some variables at some steps; all others must get a gradient.
        let skips = !base.withheld().is_empty();
        let device = encoder_parameters.device();
        let how = (constant, skips);
        let optimizer = TrunkOptimizer::new(trained, &config.optimizer, how, config.seed, device)?;
        let own = addons.iter().enumerate().filter_map(|(number, addon)| {
            let own = addon.own_optimizer()?;
            let adam = Adam::new(own.parameters.trainable(), &own.adam);
            Some(adam.map(|adam| (number, adam)))
        });
        let own_optimizers = own.collect::<candle_core::Result<Vec<_>>>()?;
        let trainer = Self {
            images,
            step: 0,
            total: config.total_steps(images),
            optimizer,
            own_optimizers,
            encoder,
            encoder_parameters,
            addons,
            base,
            config: config.clone(),
        };
        Ok((trainer, started))
    }

    /// Optimiser steps done.
    #[must_use]
    pub fn step_count(&self) -> u64 {
        self.step
    }

    /// Optimiser steps of the whole run.
    #[must_use]
    pub fn total_steps(&self) -> u64 {
        self.total
    }

    /// Images of the training split.
    #[must_use]
    pub fn images(&self) -> usize {
        self.images
    }

    /// The online encoder.
    #[must_use]
    pub fn encoder(&self) -> &Backbone {
        &self.encoder
    }

    /// A snapshot of the online encoder, to embed images with.
    ///
    /// # Errors
    /// What a device says.
    pub fn freeze(&self) -> Result<FrozenBackbone> {
        self.encoder_parameters.to_host()?;
        Ok(self.encoder.freeze()?)
    }

    /// The online encoder's variables, with timm's names.
    #[must_use]
    pub fn encoder_parameters(&self) -> &Parameters {
        &self.encoder_parameters
    }

    /// The base objective.
    #[must_use]
    pub fn base(&self) -> &dyn Base {
        self.base.as_ref()
    }

    /// A copy of the bank of past features, of a run with an add-on that keeps one.
    ///
    /// # Errors
    /// What a device says.
    pub fn bank(&self) -> Result<Option<FeatureBank>> {
        bank(&self.addons)
    }

    /// What stands on the base.
    #[must_use]
    pub fn addons(&self) -> &[Box<dyn Addon + Send>] {
        &self.addons
    }

    /// The gate of an add-on that waits to be measured, and the decoder that it is about.
    pub(crate) fn gate(&self) -> Option<(PairGate, &dyn Decoder)> {
        let mut addons = self.addons.iter();
        addons.find_map(|addon| Some((addon.gate()?, addon.decoder()?)))
    }

    /// What was measured for it; whether that opens it.
    pub(crate) fn measured(&mut self, share: f64) -> bool {
        let (mut addons, step) = (self.addons.iter_mut(), self.step);
        let waiting = addons.find(|addon| addon.gate().is_some());
        waiting.is_some_and(|addon| addon.measured(share, step))
    }

    /// All of encoder and head whose gradients the optimiser reads.
    fn trainable(&self) -> std::collections::BTreeMap<String, Var> {
        let mut trainable = self.base.trainable();
        trainable.extend(self.addons.iter().flat_map(|addon| addon.trainable()));
        trainable.retain(|name, _| !self.optimizer.is_frozen(name));
        trainable
    }

    /// Variables of encoder, head and whatever has an optimiser of its own, in values.
    #[must_use]
    pub fn parameter_counts(&self) -> Vec<(&'static str, usize)> {
        let count = |vars: std::collections::BTreeMap<String, Var>| {
            vars.values().map(|v| v.elem_count()).sum::<usize>()
        };
        let mut head = self.trainable();
        head.retain(|name, _| !name.starts_with("encoder."));
        let (encoder, head) = (self.optimizer.trunk_values(), count(head));
        let own = self.addons.iter().filter_map(|addon| addon.own_optimizer());
        let own = own.map(|own| (own.files[0], count(own.parameters.trainable())));
        let ours = [("encoder", encoder), ("head", head)];
        ours.into_iter().chain(own).collect()
    }

    /// One optimiser step over `batches` (more than one where gradients are accumulated).
    /// With `pictures`, those of the last batch come back too.
    ///
    /// Where the loss or the gradient is not finite, no weight, average or queue is changed; the row
    /// says so, and what follows is the caller's choice.
    ///
    /// # Errors
    /// A tensor operation that fails.
    pub fn step(
        &mut self,
        batches: &[Batch],
        pictures: bool,
    ) -> Result<(StepRow, Option<Pictures>)> {
        let staged = batches.iter().map(|_| None).collect();
        self.step_staged(batches, staged, pictures)
    }

    /// One optimiser step over `batches`; `staged` holds for each what was sent ahead to the device, if anything was.
    ///
    /// # Errors
    /// A tensor operation that fails.
    pub fn step_staged(
        &mut self,
        batches: &[Batch],
        staged: Vec<Option<StagedViews>>,
        pictures: bool,
    ) -> Result<(StepRow, Option<Pictures>)> {
        let lr = learning_rate(&self.config.optimizer, self.step, self.total);
        let mut gradients = ParameterGradients::default();
        let mut row = StepRow::default();
        for addon in &self.addons {
            row.named
                .extend(addon.records().iter().map(|name| (*name, None)));
        }
        let mut last = None;
        let share = 1. / batches.len() as f64;
        let staged = staged.into_iter().chain(std::iter::repeat_with(|| None));
        for (i, (batch, staged)) in batches.iter().zip(staged).enumerate() {
            let output = self.pass(batch, staged, pictures && i + 1 == batches.len())?;
            gradients.append(output.gradients)?;
            row.loss += share * output.losses.total;
            row.top1 += share * output.diagnostics.top1;
            let terms = output.losses.terms.iter();
            let terms = terms.map(|term| (term.name, term.loss));
            for (name, value) in terms.chain(output.figures) {
                row.add(name, share * value);
            }
            last = Some((output.query, output.pictures));
        }
        let trainable = self.trainable();
        if batches.len() > 1 {
            gradients.scale(trainable.values().map(Var::as_tensor), share)?;
            for own in self.addons.iter().filter_map(|addon| addon.own_optimizer()) {
                let vars = own.parameters.trainable();
                gradients.scale(vars.values().map(Var::as_tensor), share)?;
            }
        }
        let clip = Some(self.config.optimizer.clip).filter(|c| *c > 0.);
        row.gradient_norm = clip_gradient_norm(&trainable, &mut gradients, clip)?;
        let finite = row.loss.is_finite() && row.gradient_norm.is_finite();
        if finite {
            self.optimizer.step(&gradients, self.step, self.total)?;
            for (number, adam) in &mut self.own_optimizers {
                let own = self.addons[*number].own_optimizer();
                if let Some(own) = own.filter(|own| own.is_trained) {
                    adam.step(&gradients, own.learning_rate)?;
                }
            }
            self.base.after_step()?;
            for addon in &mut self.addons {
                addon.after_step()?;
            }
        } else {
            self.base.forget_step();
        }
        self.step += 1;
        row.step = self.step;
        row.lr = lr;
        let Some((query, pictures)) = last else {
            return Err(Error::Tensor(candle_core::Error::Msg(
                "a step needs a batch".into(),
            )));
        };
        if !finite {
            row.embedding_std = f64::NAN;
            return Ok((row, pictures));
        }
        row.embedding_std = embedding_std(&query)? * (query.dim(1)? as f64).sqrt();
        if self.step.is_multiple_of(RANK_EVERY) || self.step == self.total {
            row.effective_rank = Some(effective_rank(&query)?);
        }
        Ok((row, pictures))
    }

    /// Where the base's heads and losses run, if not on the CPU; add-ons may run there: see
    /// [`Trainer::addons_on_host`].
    #[must_use]
    pub fn step_device(&self) -> Option<fgvr_nn::Device> {
        self.base.device()
    }

    /// The active add-ons whose losses run on the CPU in any case.
    #[must_use]
    pub fn addons_on_host(&self) -> Vec<fgvr_ssl::AddonKind> {
        let on_host = self.addons.iter();
        let on_host = on_host.filter(|addon| addon.is_active() && addon.runs_on_host());
        on_host.map(|addon| addon.kind()).collect()
    }

    fn pass(
        &mut self,
        batch: &Batch,
        staged: Option<StagedViews>,
        pictures: bool,
    ) -> Result<fgvr_ssl::StepOutput> {
        let (seed, step) = (self.config.seed, self.step);
        let sent = match (staged, Encoder::device(&self.encoder)) {
            (Some(staged), Some(device)) => staged.receive(device)?,
            _ => None,
        };
        let on_device = |device: &fgvr_nn::Device, images: &Activation, view: u64| {
            let cfg = &self.config.pair_augment;
            let draws = pair_draws(cfg, seed, step, view, &batch.indices);
            augment_on_device(device, images, &draws, &self.config.normalisation)
        };
        let augment = |images: &Tensor, view: u64| {
            pair_augment(
                images,
                &self.config.pair_augment,
                &self.config.normalisation,
                seed,
                step,
                view,
                &batch.indices,
            )
        };
        let input = StepInput {
            base_weight: self.config.base_weight,
            views: Views {
                global: [&batch.views[0], &batch.views[1]],
                local: &batch.crops,
                sent: sent.as_ref(),
            },
            images: &batch.indices,
            step,
            total_steps: self.total,
            seed,
            augment: &augment,
            augment_on_device: Some(&on_device),
            pictures,
        };
        let addons = self.addons.iter_mut();
        let mut addons: Vec<_> = addons
            .map(|addon| -> &mut dyn Addon { addon.as_mut() })
            .collect();
        Ok(fgvr_ssl::step(self.base.as_mut(), &mut addons, input)?)
    }
}
