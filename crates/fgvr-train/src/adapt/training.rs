//! What careful training came to.

use std::path::PathBuf;

use serde::Serialize;

use super::{Gate, Interpolation};
use crate::AgainstStart;

/// What training came to, before the adaptation.
#[derive(Clone, Debug, Serialize)]
pub struct Training {
    /// The run folder.
    #[serde(serialize_with = "crate::path_text::serialize")]
    pub run: PathBuf,
    /// How it was trained, in words.
    pub recipe: String,
    /// Optimiser steps.
    pub steps: u64,
    /// Seconds of them in this process; 0 where they were done before.
    pub seconds: f64,
    /// What photos without labels say of the trained network beside the start: `plain` is the start's figure, `adapted`
    /// the trained network's.
    pub gate: Gate,
    /// Both by kNN of the photos that are held out; absent where these have no labels.
    pub against_start: Option<AgainstStart>,
    /// Where weights between the start and the trained network were tried: how far to go. All other figures of a trained network
    /// are of these weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interpolation: Option<Interpolation>,
    /// Whether the trained network is taken further, rather than the start.
    pub is_taken: bool,
}

impl Training {
    /// What it came to, in one line.
    #[must_use]
    pub fn answer(&self) -> String {
        let knn = match &self.against_start {
            Some(against) => {
                let side = if against.is_below() {
                    "below"
                } else {
                    "not below"
                };
                format!(
                    "; {side} its start by kNN of {} held-out photos, {:.1} % after {:.1} %",
                    against.images,
                    100. * against.trained,
                    100. * against.start
                )
            }
            None => String::new(),
        };
        let taken = match self.is_taken {
            true => "the trained network is taken",
            false => "the start is taken instead",
        };
        let way = self.interpolation.as_ref();
        let way = way.map_or_else(String::new, |way| format!("{}: ", way.line()));
        format!(
            "training: {way}{}: {}{knn}; {taken}",
            self.gate.answer, self.gate.reason
        )
    }
}
