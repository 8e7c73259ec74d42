//! The same on plain values, for features that are no candle tensors: of burn, tch, ndarray, or read from a file.
//!
//! Values stand row by row, the last dimension first to change, as ndarray's standard layout and NumPy's default order
//! have them. A mask is `true` where a dimension does not discriminate. The functions on tensors compute with these and
//! give the same bits.
//!
//! ```
//! use fgvr_perturb::slices::{FeatureBank, non_discriminative_mask, perturb};
//! use fgvr_perturb::{MaskConfig, MaskRule, NoiseConfig, RandomKey};
//!
//! let features = [0.9, 0.1, 0.5, 0.2, 0.1, 0.1, 0.4, 0.8, 0.5, 0.2, 0.6, 0.1]; // (N, C) = (3, 4)
//! let mut bank = FeatureBank::new(4096, 4, true)?;
//! bank.push(&features)?;
//!
//! // By variance alone; the other rules take an importance (N, C) as well.
//! let cfg = MaskConfig { rule: MaskRule::Variance, ..MaskConfig::default() };
//! let (key, images) = (RandomKey { seed: 1, step: 0 }, [17, 4, 230]);
//! let mask = non_discriminative_mask(&bank.variance()?, None, &cfg, key, &images)?;
//! let moved = perturb(&features, &mask, &bank.std()?, &NoiseConfig::default(), key, &images)?;
//! for ((before, after), masked) in features.iter().zip(&moved).zip(&mask) {
//!     assert!(*masked || before == after);
//! }
//! # Ok::<(), fgvr_perturb::Error>(())
//! ```

mod bank;

use crate::values::widened;
use crate::{Error, MaskConfig, MaskStats, NoiseConfig, RandomKey, mask as masks};

pub use bank::FeatureBank;

/// The mask (N, C) of N `images`, their indices in their data set; see
/// [`non_discriminative_mask`](crate::non_discriminative_mask()).
///
/// `variance` (C) is a [`FeatureBank`]'s, `importance` (N, C) comes from the gradient of a loss. It may be `None` where
/// the rule does not rank by it ([`MaskRule::needs_importance`](crate::MaskRule::needs_importance)).
///
/// # Errors
/// Lengths that do not fit, values that are not finite, a share outside [0, 1], and a rule that needs an importance
/// where there is none.
pub fn non_discriminative_mask(
    variance: &[f32],
    importance: Option<&[f32]>,
    cfg: &MaskConfig,
    key: RandomKey,
    images: &[u32],
) -> Result<Vec<bool>, Error> {
    Ok(non_discriminative_mask_with_stats(variance, importance, cfg, key, images)?.0)
}

/// The mask of [`non_discriminative_mask`], and its statistics.
///
/// # Errors
/// Lengths that do not fit, values that are not finite, a share outside [0, 1], and a rule that needs an importance
/// where there is none.
pub fn non_discriminative_mask_with_stats(
    variance: &[f32],
    importance: Option<&[f32]>,
    cfg: &MaskConfig,
    key: RandomKey,
    images: &[u32],
) -> Result<(Vec<bool>, MaskStats), Error> {
    const OP: &str = "non_discriminative_mask";
    let (n, c) = (images.len(), variance.len());
    at_least_one(OP, "variance", c)?;
    at_least_one(OP, "images", n)?;
    if let Some(importance) = importance {
        expect(OP, "importance", importance.len(), n, c)?;
    }
    let importance = importance.map(widened);
    masks::of_values(&widened(variance), importance.as_deref(), cfg, key, images)
}

/// Agreement |both| / |either| of two masks of equal shape, such as those of two steps; 0 if both are empty.
///
/// # Errors
/// Lengths that differ.
pub fn mask_overlap(a: &[bool], b: &[bool]) -> Result<f64, Error> {
    if a.len() != b.len() {
        return Err(Error::Length {
            op: "mask_overlap",
            name: "b",
            found: b.len(),
            expected: format!("{}, as a", a.len()),
        });
    }
    Ok(masks::overlap(a.iter().copied().zip(b.iter().copied())))
}

/// Perturbed features, as many as there are `features`; see [`perturb`](crate::perturb()).
///
/// `features` are (N, C), or a map (N, C, h, w), of N `images` and as many channels as `scale` (C) has, the standard
/// deviations of the un-normalised features ([`FeatureBank::std`]). `mask` is (N, C).
///
/// # Errors
/// Lengths that do not fit, values that are not finite, a negative scale, settings out of range, and
/// [`Noise::Swap`](crate::Noise::Swap) where the batch has no second image.
pub fn perturb(
    features: &[f32],
    mask: &[bool],
    scale: &[f32],
    cfg: &NoiseConfig,
    key: RandomKey,
    images: &[u32],
) -> Result<Vec<f32>, Error> {
    const OP: &str = "perturb";
    let (n, c) = (images.len(), scale.len());
    at_least_one(OP, "scale", c)?;
    at_least_one(OP, "images", n)?;
    expect(OP, "mask", mask.len(), n, c)?;
    if features.is_empty() || !features.len().is_multiple_of(mask.len()) {
        return Err(Error::Length {
            op: OP,
            name: "features",
            found: features.len(),
            expected: format!("{n} images x {c} channels, or a multiple of it for maps"),
        });
    }
    let shape = [n, c, features.len() / mask.len()];
    let out = crate::perturb::of_values(
        widened(features),
        shape,
        mask,
        &widened(scale),
        cfg,
        key,
        images,
    )?;
    Ok(out.into_iter().map(|value| value as f32).collect())
}

fn at_least_one(op: &'static str, name: &'static str, found: usize) -> Result<(), Error> {
    if found > 0 {
        return Ok(());
    }
    Err(Error::Length {
        op,
        name,
        found,
        expected: "at least 1".to_owned(),
    })
}

/// An error unless `found` values are `n` rows of `c` channels.
fn expect(
    op: &'static str,
    name: &'static str,
    found: usize,
    n: usize,
    c: usize,
) -> Result<(), Error> {
    if n.checked_mul(c) == Some(found) {
        return Ok(());
    }
    Err(Error::Length {
        op,
        name,
        found,
        expected: format!("{n} images x {c} channels"),
    })
}
