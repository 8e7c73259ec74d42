//! What the second view of an image shows: `positives.*`.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Which image the second view of an image is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PositiveKind {
    /// The image itself.
    #[default]
    Views,
    /// A share of them of a neighbour: another training image that is among its nearest, and it among that one's, by features of
    /// the start, adapted as `adapt.*` says.
    Neighbours,
    /// As many pairs of images drawn at random: the control.
    Random,
}

fgvr_nn::named!(PositiveKind, "As in configuration files." {
    Views = "views",
    Neighbours = "neighbours",
    Random = "random",
});

/// What two views are of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PositivesSettings {
    /// Which images.
    pub kind: PositiveKind,
    /// Images are neighbours if each is among so many nearest of the other.
    pub k: usize,
    /// Share of the second views that are of another image, of images that have one.
    pub share: f64,
}

impl Default for PositivesSettings {
    fn default() -> Self {
        Self {
            kind: PositiveKind::Views,
            k: 5,
            share: 0.5,
        }
    }
}

impl PositivesSettings {
    /// What they say, for people; `None` where views are of the image itself.
    #[must_use]
    pub fn recipe(&self) -> Option<String> {
        let of = match self.kind {
            PositiveKind::Views => return None,
            PositiveKind::Neighbours => format!("mutual neighbours among {}", self.k),
            PositiveKind::Random => "images drawn at random".to_owned(),
        };
        Some(format!(
            "{:.0} % of second views of {of}",
            100. * self.share
        ))
    }

    pub(super) fn validate(&self) -> Result<()> {
        let wrong = |name: &str, found: String, expected: &str| {
            let problem = format!("expected {expected}, found {found}");
            Err(Error::config(format!("positives.{name}"), problem))
        };
        if self.k == 0 {
            return wrong("k", "0".to_owned(), "at least 1");
        }
        if !(0. ..=1.).contains(&self.share) {
            return wrong("share", self.share.to_string(), "a share in [0, 1]");
        }
        Ok(())
    }
}
