//! The choices of DIET and their ranges.

use std::collections::HashMap;

use candle_core::{Result, Tensor, bail};

use super::Diet;
use super::classes::{CLASSES, renumbered};
use crate::bases::momentum::check_temperature;
use crate::bases::{BaseConfig, Parts, Renumber, TrainingSet};
use crate::{Base, BaseKind, MethodConfig};

/// Choices of [`Diet`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default))]
pub struct DietConfig {
    /// ε, the share of the target that is spread over all classes: 0.8 in the paper.
    pub label_smoothing: f64,
    /// Whether features and the classifier's rows are compared by cosine, each divided by its length, rather than by
    /// their product.
    ///
    /// # Design choice
    /// Off, as in the paper. By cosine the length of a feature says nothing, and `temperature` should be about 0.1.
    pub cosine: bool,
    /// What similarities are divided by: 1 in the paper.
    pub temperature: f64,
    /// M, the images of the training set: [`BaseConfig::fit_to`] puts them here.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub images: usize,
    /// Seed of the classifier's rows: [`BaseConfig::fit_to`] puts it here.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub seed: u64,
}

impl Default for DietConfig {
    fn default() -> Self {
        Self {
            label_smoothing: 0.8,
            cosine: false,
            temperature: 1.,
            images: 0,
            seed: 0,
        }
    }
}

impl MethodConfig for DietConfig {
    fn validate(&self) -> Result<()> {
        if !(0. ..1.).contains(&self.label_smoothing) {
            bail!(
                "diet: label_smoothing is {}, expected 0 or more and less than 1; at 1 all images have the same target, try 0.8",
                self.label_smoothing
            );
        }
        check_temperature("diet", "temperature", self.temperature)
    }
}

impl BaseConfig for DietConfig {
    fn kind(&self) -> BaseKind {
        BaseKind::DIET
    }

    fn build(&self, parts: Parts<'_>) -> Result<Box<dyn Base>> {
        Ok(Box::new(Diet::new(self, parts)?))
    }

    fn fit_to(&mut self, set: TrainingSet) -> Vec<String> {
        (self.images, self.seed) = (set.images, set.seed);
        Vec::new()
    }

    fn fit_to_state(&mut self, state: &HashMap<String, Tensor>) {
        let weight = state.get(&format!("head.{CLASSES}"));
        if let Some(images) = weight.and_then(|weight| weight.dim(0).ok()) {
            self.images = images;
        }
    }

    fn rows_of_images(&self) -> &'static [&'static str] {
        &["head.classes.weight"]
    }

    fn renumber(
        &self,
        state: &mut HashMap<String, Tensor>,
        number: &Renumber<'_>,
    ) -> Result<Vec<String>> {
        let name = format!("head.{CLASSES}");
        // A checkpoint of another base; that it does not fit is said when it is loaded.
        let Some(before) = state.get(&name) else {
            return Ok(Vec::new());
        };
        let had = before.dim(0)?;
        let (now, kept) = renumbered(before, self.images, self.seed, number)?;
        state.insert(name, now);
        Ok(vec![format!(
            "diet: goes on with {kept} of {had} classes, those of photos that are still trained on; {} begin anew",
            self.images - kept.min(self.images)
        )])
    }
}
