//! What tells one symmetric base from another.

use crate::{BaseKind, Comparison, MlpConfig, MomentumSchedule, RunningStatistics};

/// How a target network follows the online one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Average {
    /// m at the start.
    pub momentum: f64,
    /// Its course.
    pub schedule: MomentumSchedule,
    /// The target's running statistics.
    pub statistics: RunningStatistics,
    /// How often the average is taken after a step: n times m are once m^n.
    pub updates: u32,
}

/// What tells one symmetric base from another.
pub trait Objective: Send {
    /// Which base this is.
    fn kind(&self) -> BaseKind;

    /// The shape of the projector. No layers: there is none, and what is compared has the trunk's width,
    /// whatever width projector and predictor are given.
    fn projector(&self) -> MlpConfig;

    /// The shape of the predictor, which the online network alone has.
    fn predictor(&self) -> MlpConfig;

    /// Share of the values in front of the predictor's last layer that are dropped in training.
    fn predictor_dropout(&self) -> f64 {
        0.
    }

    /// How the target follows; `None` where the online network is its own target.
    fn average(&self) -> Option<Average>;

    /// Whether no gradient passes through the targets. Always so where there is a target network.
    fn stops_gradient(&self) -> bool {
        true
    }

    /// Whether the optimiser steps the encoder's variable of this name.
    fn trains(&self, _encoder_variable: &str) -> bool {
        true
    }

    /// One of the loss's two terms, of predictions of one view and targets of the other. The loss is the sum of both
    /// terms.
    fn comparison(&self) -> Comparison;
}
