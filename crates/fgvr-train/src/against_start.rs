//! Whether training took a pretrained network below what it was.

use std::fmt;

use serde::Serialize;

use crate::run_folder::{EXPORT, EXPORT_TRAINED};

/// What a trained network and its start are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ComparedBy {
    /// kNN from training to validation images.
    Knn,
    /// Without labels: how often the other view of a held-out image is found first among all of them.
    ViewsFound,
}

impl fmt::Display for ComparedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Knn => "kNN",
            Self::ViewsFound => "the share of views found first",
        })
    }
}

/// A trained network beside the pretrained one it started from, on images that training has not seen and that are no
/// test images.
#[derive(Clone, Debug, Serialize)]
pub struct AgainstStart {
    /// What is compared: a fraction in [0, 1].
    pub by: ComparedBy,
    /// That of the start.
    pub start: f64,
    /// That of the trained network.
    pub trained: f64,
    /// Images it is the figure of.
    pub images: usize,
    /// Whether the trained network has less than the start, by however little.
    pub is_below: bool,
    /// All of it in a line, for people.
    pub line: String,
}

impl AgainstStart {
    pub(crate) fn new(by: ComparedBy, [start, trained]: [f64; 2], images: usize) -> Self {
        let is_below = trained < start;
        let [of_start, of_trained] = [start, trained].map(|v| format!("{:.1}", 100. * v));
        let found = format!("{by} on {images} validation images is {of_trained} %");
        let line = match is_below {
            true => {
                format!("this run ended below its start: {found}, where the start has {of_start} %")
            }
            false => format!("not below its start: {found}, where the start has {of_start} %"),
        };
        Self {
            by,
            start,
            trained,
            images,
            is_below,
            line,
        }
    }

    /// Of a run that keeps both in folders of its own.
    pub(crate) fn of_run(by: ComparedBy, figures: [f64; 2], images: usize) -> Self {
        let mut of = Self::new(by, figures, images);
        if of.is_below {
            of.line +=
                &format!("; `{EXPORT}/` holds the start, `{EXPORT_TRAINED}/` what was trained");
        }
        of
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_by_one_image_is_below_and_level_is_not() {
        let of = |start, trained| AgainstStart::of_run(ComparedBy::Knn, [start, trained], 200);
        let below = of(0.5, 0.495);
        assert!(below.is_below);
        for words in [
            "below its start",
            "49.5 %",
            "50.0 %",
            "200",
            "export-trained/",
        ] {
            assert!(below.line.contains(words), "{words}: {}", below.line);
        }
        let level = of(0.5, 0.5);
        assert!(!level.is_below && level.line.starts_with("not below"));
    }
}
