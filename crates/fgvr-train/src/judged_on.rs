//! The images that figures are of.

use std::sync::Arc;

use fgvr_data::{Dataset, Splits};
use serde::Serialize;

/// The split that figures are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum JudgedOn {
    /// Images that neither training nor any choice has seen.
    Test,
    /// Where there are no test images, or none with labels: images that training has not seen, and by
    /// which the best checkpoint is chosen.
    Validation,
}

impl JudgedOn {
    /// The split, and its images.
    pub(crate) fn choose(splits: &Splits) -> (Self, &Arc<dyn Dataset>) {
        let labelled = |set: &Arc<dyn Dataset>| set.label(0).is_some();
        match &splits.test {
            Some(test) if labelled(test) || !labelled(&splits.val) => (Self::Test, test),
            None if splits.val.is_empty() => (Self::Test, &splits.val),
            _ => (Self::Validation, &splits.val),
        }
    }
}

fgvr_nn::named!(JudgedOn, "As it stands before the word \"images\"." {
    Test = "test",
    Validation = "validation",
});
