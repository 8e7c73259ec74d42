//! The covariance of views within images, and that of images, from a stream of features.

use super::scatter::Scatter;
use super::symmetric_sum::OuterProducts;
use super::{AdaptError, check};

/// Gathers the nuisance covariance Σ_w of augmented views, and mean μ and total covariance of plain features.
///
/// Σ_w is the mean over images of the unbiased covariance of an image's views; the total covariance is unbiased,
/// too. Features of C channels come as f32, row by row, in as many calls as one likes; all sums are f64.
/// Memory is of order C^2, however many images there are. What is to be held out is simply not added.
///
/// # Bits
/// Rows are added in blocks of 512 in the order in which they come. So the bits depend on the rows and their
/// order, not on how the stream is cut into calls, and not on the number of threads. [`merge`](Self::merge) ends
/// a block early and adds up in another order: the result is that of the whole stream to about 1e-12, not to the
/// bit. Parts that are merged in a fixed order, as [`merge_in_order`](Self::merge_in_order) does, give the same
/// bits whoever computed them and whenever each was done.
#[derive(Clone, Debug)]
pub struct NuisanceCovariance {
    pub(super) width: usize,
    pub(super) images: usize,
    pub(super) views: usize,
    pub(super) within: OuterProducts,
    pub(super) plain: Scatter,
}

impl NuisanceCovariance {
    /// An empty accumulator for features of `width` channels, C.
    ///
    /// # Errors
    /// A width of 0.
    pub fn new(width: usize) -> Result<Self, AdaptError> {
        if width == 0 {
            return Err(check::no_width());
        }
        Ok(Self {
            width,
            images: 0,
            views: 0,
            within: OuterProducts::new(width),
            plain: Scatter::new(width),
        })
    }

    /// Adds features (N, V, C) of V augmented views of each of N images, the views of an image side by side. V may
    /// differ between calls; each image counts the same.
    ///
    /// # Errors
    /// Fewer than two views, a length that is no multiple of V C, and values that are not finite, which are
    /// counted; nothing is added then.
    pub fn add_views(&mut self, views: &[f32], views_per_image: usize) -> Result<(), AdaptError> {
        const OP: &str = "add_views";
        let (width, v) = (self.width, views_per_image);
        if v < 2 {
            return Err(AdaptError::Views { found: v });
        }
        let image = v.checked_mul(width);
        if views.is_empty() || !image.is_some_and(|image| views.len().is_multiple_of(image)) {
            return Err(AdaptError::Length {
                op: OP,
                name: "views",
                found: views.len(),
                expected: format!("a multiple of {v} views x {width} channels, above 0"),
            });
        }
        check::finite(OP, "views", views, width, |row| {
            format!("image {}, view {}", row / v, row % v)
        })?;
        for image in views.chunks_exact(v * width) {
            self.add_image(image, v)?;
        }
        Ok(())
    }

    /// The views (V, C) of one image become V - 1 rows, the sum of whose outer products is their covariance:
    /// Helmert's contrasts, each view against the sum of those before it.
    fn add_image(&mut self, views: &[f32], v: usize) -> Result<(), AdaptError> {
        let mut before: Vec<f64> = views[..self.width].iter().map(|v| f64::from(*v)).collect();
        for (at, view) in views.chunks_exact(self.width).enumerate().skip(1) {
            let at = at as f64;
            let norm = (at * (at + 1.) * (v - 1) as f64).sqrt();
            let contrast = before.iter().zip(view);
            let contrast = contrast.map(|(sum, view)| (sum - at * f64::from(*view)) / norm);
            self.within.push(contrast)?;
            for (sum, value) in before.iter_mut().zip(view) {
                *sum += f64::from(*value);
            }
        }
        self.images += 1;
        self.views += v;
        Ok(())
    }

    /// Adds features (N, C) of N images seen plainly, through the transform of evaluation.
    ///
    /// # Errors
    /// A length that is no multiple of C, and values that are not finite, which are counted; nothing is added then.
    pub fn add_plain(&mut self, features: &[f32]) -> Result<(), AdaptError> {
        check::finite_rows("add_plain", "features", features, self.width)?;
        Ok(self.plain.push(features)?)
    }

    /// Adds all that `other` gathered from other images.
    ///
    /// # Errors
    /// Another width.
    pub fn merge(&mut self, other: Self) -> Result<(), AdaptError> {
        if other.width != self.width {
            return Err(AdaptError::Width {
                found: other.width,
                expected: self.width,
            });
        }
        self.images += other.images;
        self.views += other.views;
        self.within.merge(other.within)?;
        Ok(self.plain.merge(other.plain)?)
    }

    /// All `parts` as one: neighbours are merged, then the results of that, until one is left. The tree depends on the
    /// number of parts alone.
    ///
    /// # Errors
    /// No part at all, and parts of different widths.
    pub fn merge_in_order(parts: impl IntoIterator<Item = Self>) -> Result<Self, AdaptError> {
        let mut parts: Vec<Self> = parts.into_iter().collect();
        while parts.len() > 1 {
            let mut merged = Vec::with_capacity(parts.len().div_ceil(2));
            let mut rest = parts.into_iter();
            while let Some(mut part) = rest.next() {
                if let Some(next) = rest.next() {
                    part.merge(next)?;
                }
                merged.push(part);
            }
            parts = merged;
        }
        parts.pop().ok_or(AdaptError::Empty {
            op: "merge_in_order",
            name: "parts",
        })
    }

    /// C.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// The number of images with augmented views.
    #[must_use]
    pub fn images(&self) -> usize {
        self.images
    }

    /// The number of augmented views over all images.
    #[must_use]
    pub fn views(&self) -> usize {
        self.views
    }

    /// The number of images with plain features.
    #[must_use]
    pub fn plain_images(&self) -> usize {
        self.plain.count()
    }

    /// Σ_w (C, C), row-major and symmetric to the bit.
    ///
    /// # Errors
    /// Fewer than two images with views.
    pub fn within(&self) -> Result<Vec<f64>, AdaptError> {
        at_least_two("within", "augmented views", self.images)?;
        Ok(self.within.dense(1. / self.images as f64)?)
    }

    /// μ (C) and the unbiased covariance (C, C) of the plain features, the latter row-major and symmetric to the
    /// bit.
    ///
    /// # Errors
    /// Fewer than two images with plain features.
    pub fn mean_and_total(&self) -> Result<(Vec<f64>, Vec<f64>), AdaptError> {
        let n = self.plain_images();
        at_least_two("mean_and_total", "plain features", n)?;
        let whole = self.plain.whole()?;
        Ok((whole.mean().to_vec(), whole.dense((n - 1) as f64)))
    }
}

/// An error where there are not two images to fit to.
pub(super) fn at_least_two(
    op: &'static str,
    what: &'static str,
    found: usize,
) -> Result<(), AdaptError> {
    match found < 2 {
        true => Err(AdaptError::Images { op, what, found }),
        false => Ok(()),
    }
}
