//! Masks as tensors.

use candle_core::{Result, Tensor, bail};

use super::values::{expect_dims, rows_and_channels, values};
use crate::mask::{of_values, overlap};
use crate::values::{expect_images, finite};
use crate::{MaskConfig, MaskStats, RandomKey};

/// The mask (N, C), 1 where a dimension does not discriminate and 0 elsewhere, f32 on the device of
/// `importance`, or of `variance` where there is none.
///
/// `variance` (C) comes from a [`crate::FeatureBank`], `importance` (N, C) from the gradient of the
/// loss; `images` are the N images' indices in their data set. `importance` may be `None` where the rule does not
/// rank by it ([`MaskRule::needs_importance`](crate::MaskRule::needs_importance)).
///
/// Exactly `floor(rho_variance * C)` dimensions count as of low variance, and in each row exactly
/// `floor(rho_importance * C)` as of low importance (the product is rounded up if it misses a whole
/// number by less than 1e-9). Equal values are ordered by a hash of (seed, step, image, channel), never
/// by their index.
///
/// [`slices::non_discriminative_mask`](crate::slices::non_discriminative_mask) is the same on plain values.
///
/// # Errors
/// Shapes that differ, values that are not finite, a rho outside [0, 1], and a rule that needs an importance where
/// there is none.
pub fn non_discriminative_mask<'a>(
    variance: &Tensor,
    importance: impl Into<Option<&'a Tensor>>,
    cfg: &MaskConfig,
    key: RandomKey,
    images: &[u32],
) -> Result<Tensor> {
    Ok(non_discriminative_mask_with_stats(variance, importance, cfg, key, images)?.0)
}

/// The mask of [`non_discriminative_mask`], and its statistics.
///
/// # Errors
/// Shapes that differ, values that are not finite, a rho outside [0, 1], and a rule that needs an importance where
/// there is none.
pub fn non_discriminative_mask_with_stats<'a>(
    variance: &Tensor,
    importance: impl Into<Option<&'a Tensor>>,
    cfg: &MaskConfig,
    key: RandomKey,
    images: &[u32],
) -> Result<(Tensor, MaskStats)> {
    const OP: &str = "non_discriminative_mask";
    let importance = importance.into();
    let (n, c) = match (importance, variance.dims()) {
        (Some(importance), _) => rows_and_channels(OP, "importance", importance)?,
        (None, &[c]) if c > 0 && !images.is_empty() => (images.len(), c),
        (None, dims) => bail!(
            "{OP}: variance is {dims:?} with {} images, expected (C) with C above 0 and at least one",
            images.len()
        ),
    };
    expect_dims(OP, "variance", variance, &[c])?;
    expect_images(OP, images, n)?;
    let ranked = importance.map(values).transpose()?;
    let (mask, stats) = of_values(&values(variance)?, ranked.as_deref(), cfg, key, images)?;
    let mask: Vec<f32> = mask.into_iter().map(|m| if m { 1. } else { 0. }).collect();
    let device = importance.unwrap_or(variance).device();
    Ok((Tensor::from_vec(mask, (n, c), device)?, stats))
}

/// Agreement |both| / |either| of two masks of equal shape, such as those of two steps; 0 if both are
/// empty.
///
/// # Errors
/// Shapes that differ, and values that are not finite.
pub fn mask_overlap(a: &Tensor, b: &Tensor) -> Result<f64> {
    const OP: &str = "mask_overlap";
    expect_dims(OP, "b", b, a.dims())?;
    let width = a.dims().last().copied().unwrap_or(1).max(1);
    let (a, b) = (values(a)?, values(b)?);
    for (name, values) in [("a", &a), ("b", &b)] {
        finite(OP, name, values, width, 1)?;
    }
    let marked = a.iter().zip(&b).map(|(a, b)| (*a != 0., *b != 0.));
    Ok(overlap(marked))
}
