//! What distillation learns from: `teacher.*`.

use fgvr_ssl::{AddonKind, Arm};
use serde::{Deserialize, Serialize};

use super::PretrainConfig;
use crate::{Error, Result};

/// The source that names the run's own start.
const START: &str = "start";

/// The network whose features of the training images the add-on `distil` learns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TeacherSettings {
    /// A file, a folder, or `hf:owner/name[@revision][:file]`, of any architecture, with the adaptation that comes with it;
    /// `start` for the weights that the run itself starts from, which keeps its features near those.
    pub source: String,
    /// Side in pixels of the images that it sees; what it was trained for, where not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
}

impl PretrainConfig {
    /// The weights of the teacher; `None` without one.
    #[must_use]
    pub fn teacher_source(&self) -> Option<&str> {
        match self.teacher.source.as_str() {
            "" => None,
            START => Some(&self.weights.source),
            source => Some(source),
        }
    }

    /// Whether a teacher's features are learnt.
    #[must_use]
    pub fn is_taught(&self) -> bool {
        self.addons.contains(&AddonKind::DISTIL)
    }

    /// What of a teacher is in the loss, for people.
    #[must_use]
    pub fn taught_by(&self) -> Option<String> {
        self.is_taught().then(|| {
            let alone = match self.base_weight == 0. {
                true => " alone",
                false => "",
            };
            format!("taught{alone} by {}", self.teacher.source)
        })
    }

    pub(super) fn validate_teacher(&self) -> Result<()> {
        let wrong = |key: &str, problem: &str| Err(Error::config(key, problem));
        if !(self.base_weight >= 0. && self.base_weight.is_finite()) {
            let problem = format!(
                "expected a number of at least 0, found {}",
                self.base_weight
            );
            return wrong("base_weight", &problem);
        }
        if self.base_weight == 0. && !(self.is_taught() && self.arm == Arm::Base) {
            return wrong(
                "base_weight",
                "0 leaves the teacher's loss alone: it needs addons=[\"distil\"] and arm=base",
            );
        }
        match (self.is_taught(), self.teacher.source.is_empty()) {
            (false, false) => wrong(
                "teacher.source",
                "is learnt from by the add-on distil alone; set addons=[\"distil\"] too",
            ),
            (true, false) if self.teacher_source() == Some("") => wrong(
                "teacher.source",
                "start is for runs from pretrained weights, and weights.source is empty",
            ),
            _ => Ok(()),
        }
    }
}
