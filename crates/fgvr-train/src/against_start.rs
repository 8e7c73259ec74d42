//! Whether training took a pretrained network below what it was.

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

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

fgvr_nn::named!(ComparedBy, "In words." {
    Knn = "kNN",
    ViewsFound = "the share of views found first",
});

/// A trained network beside the pretrained one it started from, on images that training has not seen and that are no
/// test images. Files hold [`is_below`](Self::is_below) and [`line`](Self::line) too.
#[derive(Clone, Debug)]
pub struct AgainstStart {
    /// What is compared: a fraction in [0, 1].
    pub by: ComparedBy,
    /// That of the start.
    pub start: f64,
    /// That of the trained network.
    pub trained: f64,
    /// Images it is the figure of.
    pub images: usize,
    /// Whether a run has exported both, so that the line names the folders.
    exported: bool,
}

impl AgainstStart {
    pub(crate) fn new(by: ComparedBy, [start, trained]: [f64; 2], images: usize) -> Self {
        Self {
            by,
            start,
            trained,
            images,
            exported: false,
        }
    }

    /// The same for a run that exports both networks to folders of its own.
    pub(crate) fn exported(self) -> Self {
        Self {
            exported: true,
            ..self
        }
    }

    /// Whether the trained network has less than the start, by however little.
    #[must_use]
    pub fn is_below(&self) -> bool {
        self.trained < self.start
    }

    /// All of it in a line, for people.
    #[must_use]
    pub fn line(&self) -> String {
        let Self { by, images, .. } = self;
        let [start, trained] = [self.start, self.trained].map(|v| format!("{:.1}", 100. * v));
        let found = format!(
            "{by} on {images} validation images is {trained} %, where the start has {start} %"
        );
        match (self.is_below(), self.exported) {
            (false, _) => format!("not below its start: {found}"),
            (true, false) => format!("this run ended below its start: {found}"),
            (true, true) => format!(
                "this run ended below its start: {found}; `{EXPORT}/` holds the start, \
                 `{EXPORT_TRAINED}/` what was trained"
            ),
        }
    }
}

impl Serialize for AgainstStart {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("AgainstStart", 6)?;
        fields.serialize_field("by", &self.by)?;
        fields.serialize_field("start", &self.start)?;
        fields.serialize_field("trained", &self.trained)?;
        fields.serialize_field("images", &self.images)?;
        fields.serialize_field("is_below", &self.is_below())?;
        fields.serialize_field("line", &self.line())?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_by_one_image_is_below_and_level_is_not() {
        let of = |start, trained| AgainstStart::new(ComparedBy::Knn, [start, trained], 200);
        let below = of(0.5, 0.495);
        assert!(below.is_below());
        for words in ["below its start", "49.5 %", "50.0 %", "200"] {
            assert!(below.line().contains(words), "{words}: {}", below.line());
        }
        assert!(!below.line().contains("export"));
        assert!(below.exported().line().contains("`export-trained/` what"));
        let level = of(0.5, 0.5).exported();
        assert!(!level.is_below() && level.line().starts_with("not below"));
        assert!(!level.line().contains("export"));
    }

    #[test]
    fn a_file_holds_what_follows_from_the_figures_too() {
        let below = AgainstStart::new(ComparedBy::ViewsFound, [0.5, 0.25], 60).exported();
        let written = serde_json::to_value(&below).unwrap();
        let expected = serde_json::json!({
            "by": "views-found", "start": 0.5, "trained": 0.25, "images": 60, "is_below": true,
            "line": below.line(),
        });
        assert_eq!(written, expected);
    }
}
