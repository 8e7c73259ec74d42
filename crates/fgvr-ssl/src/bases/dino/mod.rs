//! DINO: a student learns the teacher's distribution over prototypes, from views and small crops.

mod config;
mod head;
mod objective;

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Result, Tensor, Var, bail};
use fgvr_nn::{Encoder, Features, NormMode, Parameters};

use self::head::{DinoHead, PROTOTYPES};
use crate::bases::Parts;
use crate::bases::base::gradient_at;
use crate::bases::kind::NO_PROTOTYPES;
use crate::losses::compare::in_batch;
use crate::step::state::{check, counters, of_stores, take, trainable, under, words};
use crate::{
    Base, BaseKind, Between, Branch, Found, InfoNce, MethodConfig, Network, Pass, Rows, RunLength,
    RunningStatistics, Values, Views, momentum_update,
};

pub use self::config::DinoConfig;

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
/// No generated pairs: prototypes and their centre describe real images.
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
        BaseKind::DINO
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
