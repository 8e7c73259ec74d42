//! DINO as the paper has it: what the teacher says of a view, and what the students are to say of the others.

use candle_core::{Result, Tensor};
use candle_nn::ops::{log_softmax, softmax};
use fgvr_nn::{Encoder, NormMode};

use super::Dino;
use super::head::Scores;
use crate::RunningStatistics;

impl<E: Encoder> Dino<E> {
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

    pub(super) fn prototypes_are_frozen(&self) -> bool {
        self.run.epoch(self.step) < self.cfg.frozen_prototypes_epochs
    }

    /// The teacher's pooled features and scores of a view, without a way back.
    pub(super) fn teach(&self, view: &Tensor, norm: NormMode) -> Result<(Tensor, Scores)> {
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
    pub(super) fn sharpened(&self, logits: &Tensor) -> Result<Tensor> {
        let centred = logits.broadcast_sub(&self.centre)?;
        softmax(&(centred / self.teacher_temperature())?, 1)
    }

    /// Mean over rows of -P_t·log P_s.
    pub(super) fn cross_entropy(&self, taught: &Tensor, logits: &Tensor) -> Result<Tensor> {
        let log = log_softmax(&(logits / self.cfg.student_temperature)?, 1)?;
        (taught * log)?.sum(1)?.mean_all()?.neg()
    }

    /// L of P_t of the two views and the students' logits of all.
    pub(super) fn between(&self, taught: &[Tensor; 2], students: &[Tensor]) -> Result<Tensor> {
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
}
