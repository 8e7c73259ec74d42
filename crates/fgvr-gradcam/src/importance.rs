//! How much each pooled channel matters to a loss.

use crate::Error;
use crate::real::Real;

/// What counts as the importance of channel `c` of image `i`, from the pooled feature `h` and the
/// gradient `g = dL/dh`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Importance {
    /// `|h_c * g_c|`.
    ///
    /// # Design choice
    /// The magnitude, because below a bias-free ReLU head with a normalised output the signed
    /// contributions cancel exactly (`sum_c h_c g_c = 0`, Euler): the lowest signed value would be
    /// what helps the loss most.
    #[default]
    GradientTimesFeature,
    /// `|(h_c - mean_c) * g_c|`, with the mean over a bank of features. Unlike the plain form it is
    /// not zero where a channel is silent: an absent part can be important.
    Centred,
    /// `|g_c|`.
    Gradient,
    /// `max(0, -h_c * g_c)`: evidence that lowers the loss.
    Evidence,
}

/// Importance of rows of as many channels as `mean` has, where the kind needs it; lengths are the caller's care.
pub(crate) fn of_values<T: Real>(
    pooled: &[T],
    grad: &[T],
    kind: Importance,
    mean: Option<&[T]>,
) -> Result<Vec<T>, Error> {
    let pairs = pooled.iter().zip(grad).map(|(h, g)| (*h, *g));
    Ok(match kind {
        Importance::GradientTimesFeature => pairs.map(|(h, g)| (h * g).magnitude()).collect(),
        Importance::Centred => {
            let mean = mean.ok_or(Error::Mean)?;
            let centred = pairs.zip(mean.iter().cycle());
            centred
                .map(|((h, g), mean)| ((h - *mean) * g).magnitude())
                .collect()
        }
        Importance::Gradient => pairs.map(|(_, g)| g.magnitude()).collect(),
        Importance::Evidence => pairs.map(|(h, g)| (-(h * g)).rectified()).collect(),
    })
}
