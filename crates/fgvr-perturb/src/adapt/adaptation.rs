//! The transformation and what is known about it.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use super::{AdaptConfig, AdaptError, check};

/// Rows that are transformed at once.
const BLOCK: usize = 1024;

/// An affine transformation y = W (f - μ) of features, and how it was made.
///
/// W and μ are f32, here as in a file: what was fitted and what is loaded again give the same bits.
#[derive(Clone, Debug, PartialEq)]
pub struct Adaptation {
    pub(super) width: usize,
    /// (C, C)
    pub(super) weight: Vec<f32>,
    /// (C)
    pub(super) mean: Vec<f32>,
    pub(super) config: AdaptConfig,
    pub(super) fitted: Fitted,
}

/// What an adaptation was fitted to, and what turned out.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Fitted {
    /// Images seen plainly: μ is their mean.
    pub images: usize,
    /// Images with augmented views; 0 for a kind that needs none.
    pub view_images: usize,
    /// Augmented views over all images; 0 for a kind that needs none.
    pub views: usize,
    /// Pairs of mutual neighbours; `None` for a kind that searches none.
    pub pairs: Option<usize>,
    /// Directions in which views of an image vary at all, at most C: eigenvalues of Σ_w above C times f64's rounding of
    /// the largest. `None` for a kind that does not use Σ_w.
    pub rank: Option<usize>,
    /// The exponential of the entropy of the eigenvalues of Σ_w (Roy and Vetterli 2007, of shares of variance): C
    /// where views vary evenly in all directions, 1 where they do so along one. `None` as above.
    pub effective_rank: Option<f64>,
    /// What f32 took away: the largest difference between an entry of W in f64 and in f32, over the largest entry. At
    /// most 2^-24, about 6e-8.
    pub rounding: f64,
    /// Whatever else should be known, such as the data set and the network, by name.
    pub source: BTreeMap<String, String>,
}

impl Adaptation {
    /// Rounds W (C, C) and μ (C) to f32.
    pub(super) fn rounded(
        weight: &[f64],
        mean: &[f64],
        config: &AdaptConfig,
        mut fitted: Fitted,
    ) -> Result<Self, AdaptError> {
        let round = |values: &[f64]| values.iter().map(|value| *value as f32).collect();
        let rounded: Vec<f32> = round(weight);
        if rounded.iter().any(|value| !value.is_finite()) {
            return Err(AdaptError::NoVariance {
                op: "fit",
                what: "the features vary by so little that W exceeds f32".to_owned(),
                expected: "features of a larger scale",
            });
        }
        let largest = weight.iter().fold(0f64, |top, v| top.max(v.abs()));
        let error = weight.iter().zip(&rounded);
        let error = error.fold(0f64, |top, (a, b)| top.max((a - f64::from(*b)).abs()));
        fitted.rounding = error / largest;
        Ok(Self {
            width: mean.len(),
            weight: rounded,
            mean: round(mean),
            config: config.clone(),
            fitted,
        })
    }

    /// The transformed `features` (N, C), (N, C). To be compared by cosine.
    ///
    /// Differences and products are in f32, as in a network that has this transformation as its last layer.
    ///
    /// # Errors
    /// A length that is no multiple of C, and values that are not finite.
    pub fn apply(&self, features: &[f32]) -> Result<Vec<f32>, AdaptError> {
        let width = self.width;
        check::finite_rows("apply", "features", features, width)?;
        let weight = Tensor::from_slice(&self.weight, (width, width), &Device::Cpu)?.t()?;
        let mut out = Vec::with_capacity(features.len());
        for rows in features.chunks(BLOCK * width) {
            let centred: Vec<f32> = rows
                .chunks_exact(width)
                .flat_map(|row| row.iter().zip(&self.mean).map(|(f, m)| f - m))
                .collect();
            let centred = Tensor::from_vec(centred, (rows.len() / width, width), &Device::Cpu)?;
            // (rows, C) x (C, C)
            out.extend(centred.matmul(&weight)?.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(out)
    }

    /// This transformation and then the matrix `after` (C, C), row-major, as one: y = M W (f - μ). What is known of it stays, and
    /// `after` is no part of [`Adaptation::config`]: a remark by [`Adaptation::with_source`] says what it was.
    ///
    /// # Errors
    /// A matrix of another size or with values that are not finite.
    pub fn followed_by(&self, after: &[f32]) -> Result<Self, AdaptError> {
        let width = self.width;
        check::finite_rows("followed_by", "after", after, width)?;
        if after.len() != width * width {
            return Err(AdaptError::Length {
                op: "followed_by",
                name: "after",
                found: after.len(),
                expected: format!("{width} x {width} values"),
            });
        }
        let f64s = |values: &[f32]| -> Vec<f64> { values.iter().map(|v| f64::from(*v)).collect() };
        let of = |values: &[f32]| Tensor::from_vec(f64s(values), (width, width), &Device::Cpu);
        // (C, C) x (C, C)
        let weight = of(after)?.matmul(&of(&self.weight)?)?;
        let weight = weight.flatten_all()?.to_vec1::<f64>()?;
        Self::rounded(
            &weight,
            &f64s(&self.mean),
            &self.config,
            self.fitted.clone(),
        )
    }

    /// C.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// W (C, C), row-major: the weight of a linear layer.
    #[must_use]
    pub fn weight(&self) -> &[f32] {
        &self.weight
    }

    /// μ (C).
    #[must_use]
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// -W μ (C): the bias of a linear layer with the weight W that takes features as they are.
    #[must_use]
    pub fn bias(&self) -> Vec<f32> {
        let mean = || self.mean.iter().map(|m| f64::from(*m));
        let rows = self.weight.chunks_exact(self.width);
        let product =
            rows.map(|row| -> f64 { row.iter().zip(mean()).map(|(w, m)| f64::from(*w) * m).sum() });
        product.map(|sum| -sum as f32).collect()
    }

    /// The settings it was made with.
    #[must_use]
    pub fn config(&self) -> &AdaptConfig {
        &self.config
    }

    /// What it was fitted to.
    #[must_use]
    pub fn fitted(&self) -> &Fitted {
        &self.fitted
    }

    /// Whether views of an image vary in fewer directions than there are channels, so that the ridge alone decides about
    /// the others: a warning. Either there are few images, or the features lie in a subspace by themselves: those behind a
    /// layer norm always lack one direction. [`Fitted::rank`] tells by how much.
    #[must_use]
    pub fn rank_deficient(&self) -> bool {
        self.fitted.rank.is_some_and(|rank| rank < self.width)
    }

    /// The same with a remark, such as the data set or the network, under a name in [`Fitted::source`]. It is saved
    /// along.
    #[must_use]
    pub fn with_source(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.fitted.source.insert(name.into(), value.into());
        self
    }
}
