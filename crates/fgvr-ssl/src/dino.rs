//! DINO: a student learns the teacher's distribution over prototypes, from views and small crops.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Result, Tensor, Var, bail};
use candle_nn::ops::{log_softmax, softmax};
use fgvr_nn::{Encoder, Features, NormMode, Parameters};

use crate::base::gradient_at;
use crate::combination::NO_PROTOTYPES;
use crate::compare::in_batch;
use crate::dino_head::{DinoHead, PROTOTYPES, Scores};
use crate::momentum::{check_momentum, check_temperature};
use crate::recipe::{LearningRate, LocalCrops, Optimizer, Recipe, Trunk, ViewRecipe, with_crops};
use crate::registry::{BaseConfig, Parts, sizes};
use crate::state::{check, counters, of_stores, take, trainable, under, words};
use crate::{
    Base, BaseKind, Between, Branch, Found, InfoNce, MomentumSchedule, Network, Pass, Rows,
    RunLength, RunningStatistics, Values, Views, momentum_update,
};

/// Choices of [`Dino`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default))]
pub struct DinoConfig {
    /// K, the number of prototypes: 65,536 in the paper, fewer here for sets of a few thousand images.
    pub prototypes: usize,
    /// Width between the head's layers.
    pub hidden: usize,
    /// Width of what is compared with the prototypes.
    pub bottleneck: usize,
    /// Whether batch norm follows the head's hidden layers.
    pub head_norm: bool,
    /// τ_s, the student's temperature.
    pub student_temperature: f64,
    /// τ_t, the teacher's temperature once warm.
    pub teacher_temperature: f64,
    /// The teacher's temperature in the first epoch.
    pub teacher_temperature_start: f64,
    /// Epochs over which it goes linearly from there to `teacher_temperature`.
    pub teacher_temperature_epochs: u64,
    /// Share of the centre that is kept at each step.
    pub centre_momentum: f64,
    /// m of the teacher's moving average at the start.
    pub momentum: f64,
    /// Its course.
    pub momentum_schedule: MomentumSchedule,
    /// The teacher's running statistics.
    pub running_statistics: RunningStatistics,
    /// Epochs in which the prototypes stay as they are.
    pub frozen_prototypes_epochs: u64,
    /// Small crops given with each pair of views.
    pub local_crops: usize,
}

impl Default for DinoConfig {
    fn default() -> Self {
        Self {
            prototypes: 4096,
            hidden: 2048,
            bottleneck: 256,
            head_norm: false,
            student_temperature: 0.1,
            teacher_temperature: 0.04,
            teacher_temperature_start: 0.04,
            teacher_temperature_epochs: 0,
            centre_momentum: 0.9,
            momentum: 0.996,
            momentum_schedule: MomentumSchedule::Cosine,
            running_statistics: RunningStatistics::Own,
            frozen_prototypes_epochs: 1,
            local_crops: 8,
        }
    }
}

/// DINO (arXiv:2104.14294) as a [`Base`]. The student s sees the two views and all small crops, the
/// teacher t, its moving average, the two views:
///
/// P_t(x) = softmax((t(x) - c)/τ_t),  P_s(x) = softmax(s(x)/τ_s),
/// L = mean over views x of the two, and views or crops x' other than x, of -P_t(x)·log P_s(x')
///
/// (Eq. 3.) After the step the centre becomes c ← m_c c + (1 - m_c) mean t(x) (Eq. 4); a low τ_t
/// sharpens what the centre flattens. In the first epoch the prototypes get no gradient.
///
/// # Differs
/// Each view and crop is a batch of its own for batch norm; the released code joins those of one size. A
/// transformer has no batch norm.
///
/// # Design choice
/// No generated pairs: see [`crate::supports`].
pub struct Dino<E> {
    cfg: DinoConfig,
    student: Network<E>,
    head: DinoHead,
    head_parameters: Parameters,
    teacher: Network<E>,
    teacher_head: DinoHead,
    teacher_head_parameters: Parameters,
    /// c (1, K).
    centre: Tensor,
    run: RunLength,
    step: u64,
    /// Mean teacher logits (1, K) of the passes of this step.
    pending: Vec<Tensor>,
}

impl<E: Encoder> Dino<E> {
    /// DINO over two encoders of `parts`.
    ///
    /// # Errors
    /// A configuration out of range, what `parts` returns, and encoders whose variables differ in name
    /// or shape.
    pub fn new(cfg: &DinoConfig, parts: Parts<'_, E>) -> Result<Self> {
        cfg.validate()?;
        parts.run.validate()?;
        let (student, teacher) = ((parts.network)()?, (parts.network)()?);
        let head_parameters = Parameters::new(parts.seed);
        let teacher_head_parameters = Parameters::new(parts.seed);
        let width = student.encoder.width();
        let head = DinoHead::new(width, cfg, &head_parameters)?;
        let teacher_head = DinoHead::new(width, cfg, &teacher_head_parameters)?;
        // Also the check that names and shapes agree, in both directions.
        let copied = RunningStatistics::Copied;
        momentum_update(&student.parameters, &teacher.parameters, 0., copied)?;
        momentum_update(&head_parameters, &teacher_head_parameters, 0., copied)?;
        Ok(Self {
            student,
            head,
            head_parameters,
            teacher,
            teacher_head,
            teacher_head_parameters,
            centre: Tensor::zeros((1, cfg.prototypes), DType::F32, &Device::Cpu)?,
            run: parts.run,
            step: 0,
            pending: Vec::new(),
            cfg: cfg.clone(),
        })
    }

    /// The student.
    #[must_use]
    pub fn student(&self) -> &Network<E> {
        &self.student
    }

    /// c (1, K).
    #[must_use]
    pub fn centre(&self) -> &Tensor {
        &self.centre
    }

    /// τ_t of the step to come.
    #[must_use]
    pub fn teacher_temperature(&self) -> f64 {
        let (start, end) = (
            self.cfg.teacher_temperature_start,
            self.cfg.teacher_temperature,
        );
        let (epoch, epochs) = (
            self.run.epoch(self.step),
            self.cfg.teacher_temperature_epochs,
        );
        match epoch < epochs {
            true if epochs > 1 => start + (end - start) * epoch as f64 / (epochs - 1) as f64,
            true => start,
            false => end,
        }
    }

    fn prototypes_are_frozen(&self) -> bool {
        self.run.epoch(self.step) < self.cfg.frozen_prototypes_epochs
    }

    /// The teacher's pooled features and scores of a view, without a way back.
    fn teach(&self, view: &Tensor, norm: NormMode) -> Result<(Tensor, Scores)> {
        let norm = match norm {
            NormMode::Train if self.cfg.running_statistics == RunningStatistics::Copied => {
                NormMode::NoUpdate
            }
            norm => norm,
        };
        let pooled = self.teacher.encoder.features(view, norm)?.pooled.detach();
        let scores = self.teacher_head.forward(&pooled, norm, true)?;
        let scores = Scores {
            bottleneck: scores.bottleneck.detach(),
            logits: scores.logits.detach(),
        };
        Ok((pooled, scores))
    }

    /// P_t (N, K) of the teacher's logits.
    fn sharpened(&self, logits: &Tensor) -> Result<Tensor> {
        let centred = logits.broadcast_sub(&self.centre)?;
        softmax(&(centred / self.teacher_temperature())?, 1)
    }

    /// Mean over rows of -P_t·log P_s.
    fn cross_entropy(&self, taught: &Tensor, logits: &Tensor) -> Result<Tensor> {
        let log = log_softmax(&(logits / self.cfg.student_temperature)?, 1)?;
        (taught * log)?.sum(1)?.mean_all()?.neg()
    }

    /// L of P_t of the two views and the students' logits of all.
    fn between(&self, taught: &[Tensor; 2], students: &[Tensor]) -> Result<Tensor> {
        let mut terms = Vec::new();
        for (view, logits) in students.iter().enumerate() {
            for (teacher, taught) in taught.iter().enumerate() {
                // A view teaches nothing about itself.
                if teacher != view {
                    terms.push(self.cross_entropy(taught, logits)?);
                }
            }
        }
        Tensor::stack(&terms, 0)?.mean_all()
    }

    /// The stores of variables and their prefixes; those that are trained first.
    fn stores(&self) -> [(&'static str, &Parameters); 4] {
        [
            ("encoder", &self.student.parameters),
            ("head", &self.head_parameters),
            ("teacher_encoder", &self.teacher.parameters),
            ("teacher_head", &self.teacher_head_parameters),
        ]
    }
}

impl<E: Encoder + Send> Base for Dino<E> {
    fn kind(&self) -> BaseKind {
        BaseKind::Dino
    }

    fn real(&mut self, views: Views<'_>, images: &[u32]) -> Result<Pass> {
        let (found, wanted) = (views.local.len(), self.cfg.local_crops);
        if found != wanted {
            bail!(
                "dino: found {found} local crops, expected {wanted}; make as many, or set dino.local_crops to {found}"
            );
        }
        let (_, first) = self.teach(views.global[0], NormMode::Train)?;
        let (key_pooled, second) = self.teach(views.global[1], NormMode::Train)?;
        let taught = [
            self.sharpened(&first.logits)?,
            self.sharpened(&second.logits)?,
        ];

        let frozen = self.prototypes_are_frozen();
        let mut branches = Vec::with_capacity(2 + found);
        let (mut queries, mut query) = (Vec::with_capacity(2 + found), None);
        for view in 0..2 + found {
            let x = Values::from(views.get(view)?);
            let branch = Branch::forward(&self.student.encoder, &x, NormMode::Train, view)?;
            let pooled = &branch.leaves()?.pooled;
            let scores = self.head.forward(pooled, NormMode::Train, frozen)?;
            query.get_or_insert(scores.bottleneck.detach());
            queries.push(scores.logits);
            branches.push(branch);
        }
        let loss = self.between(&taught, &queries)?;
        let Some(query) = query else {
            bail!("dino: no view");
        };
        let similar = in_batch(&query, &second.bottleneck, images, 1.)?;
        let logits = Tensor::cat(&[&first.logits, &second.logits], 0)?; // 2 x (N, K) -> (2N, K)
        self.pending.push(logits.mean_keepdim(0)?);
        Ok(Pass {
            branches,
            found: Found::Host(InfoNce { loss, ..similar }),
            query: Rows::Host(query),
            keys: Rows::Host(second.bottleneck),
            key_pooled: Rows::Host(key_pooled),
            key_map: None,
        })
    }

    fn generated(&mut self, _: [&Values; 2], _: &[u32]) -> Result<Pass> {
        bail!("dino has no loss on generated images: {NO_PROTOTYPES}")
    }

    fn between(&self, _: &Values, _: &Values, _: &[u32]) -> Result<Between> {
        bail!("dino has no loss on perturbed features: {NO_PROTOTYPES}")
    }

    fn against(&self, pass: &Pass, views: [&Tensor; 2], images: &[u32]) -> Result<Found> {
        let [first, second] = views.map(|view| self.teach(view, NormMode::NoUpdate));
        let (first, (_, second)) = (first?.1, second?);
        let taught = [
            self.sharpened(&first.logits)?,
            self.sharpened(&second.logits)?,
        ];
        // The head says the same as in the pass itself, and leaves no running statistics.
        let frozen = self.prototypes_are_frozen();
        let scores = |branch: &Branch| {
            let pooled = &branch.leaves()?.pooled;
            self.head.forward(pooled, NormMode::NoUpdate, frozen)
        };
        let scores = pass.branches.iter().map(scores);
        let scores = scores.collect::<Result<Vec<_>>>()?;
        let Some(query) = scores.first() else {
            bail!("dino: no view");
        };
        let similar = in_batch(&query.bottleneck.detach(), &second.bottleneck, images, 1.)?;
        let queries: Vec<_> = scores.into_iter().map(|scores| scores.logits).collect();
        let loss = self.between(&taught, &queries)?;
        Ok(Found::Host(InfoNce { loss, ..similar }))
    }

    fn after_step(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            bail!("after_step: no pass on real views since the last one");
        }
        // Batches of one size each: the mean of their means is that of all rows.
        let mean = Tensor::cat(&pending, 0)?.mean_keepdim(0)?;
        let kept = self.cfg.centre_momentum;
        let centre = ((&self.centre * kept)? + (mean * (1. - kept))?)?;
        let total = centre.abs()?.sum_all()?.to_scalar::<f32>()?;
        if !total.is_finite() {
            bail!("dino: the centre is not finite: the teacher's output is not");
        }
        self.centre = centre;
        let start = self.cfg.momentum;
        let m = (self.cfg.momentum_schedule).at(start, self.step, self.run.steps);
        let statistics = self.cfg.running_statistics;
        let (student, teacher) = (&self.student.parameters, &self.teacher.parameters);
        momentum_update(student, teacher, m, statistics)?;
        let (head, teacher_head) = (&self.head_parameters, &self.teacher_head_parameters);
        momentum_update(head, teacher_head, m, statistics)?;
        self.step += 1;
        Ok(())
    }

    fn forget_step(&mut self) {
        self.pending.clear();
    }

    fn gradient_at_pooled(
        &self,
        images: &Tensor,
        others: &Tensor,
        _: &[u32],
    ) -> Result<(Features, Tensor)> {
        let features = self.student.encoder.features(images, NormMode::Eval)?;
        let (_, scores) = self.teach(others, NormMode::Eval)?;
        let taught = self.sharpened(&scores.logits)?;
        let gradient = gradient_at(&features.pooled, |pooled| {
            let scores = self.head.forward(pooled, NormMode::Eval, true)?;
            self.cross_entropy(&taught, &scores.logits)
        })?;
        Ok((features, gradient))
    }

    fn encoder(&self) -> &dyn Encoder {
        &self.student.encoder
    }

    fn target_encoder(&self) -> Option<&dyn Encoder> {
        Some(&self.teacher.encoder)
    }

    fn encoder_parameters(&self) -> &Parameters {
        &self.student.parameters
    }

    fn trainable(&self) -> BTreeMap<String, Var> {
        trainable(&self.stores()[..2])
    }

    fn withheld(&self) -> Vec<String> {
        match self.prototypes_are_frozen() {
            true => vec![format!("head.{PROTOTYPES}")],
            false => Vec::new(),
        }
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let extra = [
            ("step", words(&[self.step])?),
            ("centre", self.centre.copy()?),
        ];
        of_stores(&self.stores(), extra)
    }

    fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        check(&self.state()?, state)?;
        let step = counters(take(state, "step", &[1])?)?[0];
        let centre = take(state, "centre", self.centre.dims())?;
        let centre = centre.to_dtype(DType::F32)?;
        for (prefix, store) in self.stores() {
            store.set_all(&under(state, prefix))?;
        }
        (self.centre, self.step) = (centre, step);
        self.forget_step();
        Ok(())
    }
}

impl BaseConfig for DinoConfig {
    fn validate(&self) -> Result<()> {
        sizes(
            "dino",
            &[
                ("prototypes", self.prototypes),
                ("hidden", self.hidden),
                ("bottleneck", self.bottleneck),
            ],
        )?;
        for (name, temperature) in [
            ("student_temperature", self.student_temperature),
            ("teacher_temperature", self.teacher_temperature),
            ("teacher_temperature_start", self.teacher_temperature_start),
        ] {
            check_temperature("dino", name, temperature)?;
        }
        if !(0. ..1.).contains(&self.centre_momentum) {
            bail!(
                "dino: centre_momentum is {}, expected 0 or more and less than 1; at 1 there is no centring, try 0.9",
                self.centre_momentum
            );
        }
        check_momentum("dino", self.momentum)
    }

    fn build<E: Encoder + Send + 'static>(&self, parts: Parts<'_, E>) -> Result<Box<dyn Base>> {
        Ok(Box::new(Dino::new(self, parts)?))
    }

    fn recipe(trunk: Trunk) -> Recipe {
        let crops = |crop_scale| LocalCrops {
            count: 8,
            side_at_224: 96,
            view: ViewRecipe {
                blur: 0.5,
                ..with_crops(crop_scale)[0]
            },
        };
        let vit = Recipe {
            source: "arXiv:2104.14294 and the defaults of the released main_dino.py: ViT-S/16, 100 epochs; dino.prototypes = 65536, gradients of each variable clipped to a norm of 3",
            optimizer: Optimizer::AdamW {
                betas: [0.9, 0.999],
            },
            learning_rate: LearningRate {
                per_256: 5e-4,
                warm_up_epochs: 10,
                constant: &[],
            },
            weight_decay: [0.04, 0.4],
            decays_norm_and_bias: false,
            momentum: Some((0.996, MomentumSchedule::Cosine)),
            epochs: 100,
            batch: 512,
            views: with_crops([0.4, 1.]),
            local_crops: Some(crops([0.05, 0.4])),
        };
        match trunk {
            Trunk::Vit => vit,
            Trunk::ResNet => Recipe {
                source: "the released README of DINO: ResNet-50, 100 epochs, SGD; dino.prototypes = 65536, gradients of each variable clipped to a norm of 3",
                optimizer: Optimizer::Sgd { momentum: 0.9 },
                weight_decay: [1e-4, 1e-4],
                views: with_crops([0.14, 1.]),
                local_crops: Some(crops([0.05, 0.14])),
                ..vit
            },
        }
    }
}
