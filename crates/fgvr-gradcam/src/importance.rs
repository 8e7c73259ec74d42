//! How much each pooled channel matters to a loss.

use candle_core::{Result, Tensor, bail};

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

/// Importance (N, C), all values >= 0, of `pooled` (N, C) for a loss whose gradient at `pooled` is
/// `grad` (N, C).
///
/// `mean` (C) is the mean feature over a bank; [`Importance::Centred`] needs it, the others ignore it.
/// The result carries no gradient.
///
/// # Errors
/// Shapes that differ, and [`Importance::Centred`] without a mean.
pub fn importance(
    pooled: &Tensor,
    grad: &Tensor,
    kind: Importance,
    mean: Option<&Tensor>,
) -> Result<Tensor> {
    let Ok((n, c)) = pooled.dims2() else {
        bail!("importance: pooled is {:?}, expected (N, C)", pooled.dims());
    };
    if grad.dims() != [n, c] {
        bail!(
            "importance: grad is {:?}, expected {:?}",
            grad.dims(),
            [n, c]
        );
    }
    let (pooled, grad) = (pooled.detach(), grad.detach().to_dtype(pooled.dtype())?);
    match kind {
        Importance::GradientTimesFeature => (pooled * grad)?.abs(),
        Importance::Centred => {
            let Some(mean) = mean else {
                bail!("importance: the centred kind needs the mean feature of a bank");
            };
            if mean.dims() != [c] {
                bail!("importance: mean is {:?}, expected {:?}", mean.dims(), [c]);
            }
            let mean = mean.detach().to_dtype(pooled.dtype())?;
            (pooled.broadcast_sub(&mean)? * grad)?.abs()
        }
        Importance::Gradient => grad.abs(),
        // Not `relu`, which would make NaN 0.
        Importance::Evidence => (pooled * grad)?.neg()?.maximum(0f32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn values(kind: Importance, mean: Option<&Tensor>) -> Vec<Vec<f32>> {
        let pooled = Tensor::new(&[[2f32, 0., 1.], [0., 4., 3.]], &Device::Cpu).unwrap();
        let grad = Tensor::new(&[[-0.5f32, 2., 3.], [1., 0.25, -1.]], &Device::Cpu).unwrap();
        importance(&pooled, &grad, kind, mean)
            .unwrap()
            .to_vec2()
            .unwrap()
    }

    #[test]
    fn each_kind_is_its_formula() {
        let mean = Tensor::new(&[1f32, 1., 2.], &Device::Cpu).unwrap();
        assert_eq!(
            values(Importance::GradientTimesFeature, None),
            [[1., 0., 3.], [0., 1., 3.]]
        );
        assert_eq!(
            values(Importance::Centred, Some(&mean)),
            [[0.5, 2., 3.], [1., 0.75, 1.]]
        );
        assert_eq!(
            values(Importance::Gradient, None),
            [[0.5, 2., 3.], [1., 0.25, 1.]]
        );
        assert_eq!(
            values(Importance::Evidence, None),
            [[1., 0., 0.], [0., 0., 3.]]
        );
    }

    #[test]
    fn no_kind_hides_nan() {
        let mean = Tensor::new(&[1f32], &Device::Cpu).unwrap();
        let nan = Tensor::new(&[[f32::NAN]], &Device::Cpu).unwrap();
        for kind in [
            Importance::GradientTimesFeature,
            Importance::Centred,
            Importance::Gradient,
            Importance::Evidence,
        ] {
            let found = importance(&nan, &nan, kind, Some(&mean)).unwrap();
            let found = found.to_vec2::<f32>().unwrap();
            assert!(found[0][0].is_nan(), "{kind:?}");
        }
    }

    #[test]
    fn wrong_shapes_and_a_missing_mean_are_named() {
        let pooled = Tensor::new(&[[2f32, 0., 1.]], &Device::Cpu).unwrap();
        let message = |grad: &Tensor, kind, mean| {
            importance(&pooled, grad, kind, mean)
                .unwrap_err()
                .to_string()
        };
        let short = Tensor::new(&[[2f32, 0.]], &Device::Cpu).unwrap();
        let text = message(&short, Importance::Gradient, None);
        assert!(text.contains("grad is [1, 2], expected [1, 3]"), "{text}");
        let text = message(&pooled, Importance::Centred, None);
        assert!(text.contains("needs the mean"), "{text}");
        let text = message(&pooled, Importance::Centred, Some(&short));
        assert!(text.contains("mean is [1, 2], expected [3]"), "{text}");
        let text = importance(
            &short.flatten_all().unwrap(),
            &short,
            Importance::Gradient,
            None,
        )
        .unwrap_err()
        .to_string();
        assert!(text.contains("pooled is [2]"), "{text}");
    }
}
