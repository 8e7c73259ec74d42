//! How much each pooled channel matters to a loss.

use candle_core::{DType, Device, Result, Tensor, WithDType, bail};

use super::values;
use crate::Importance;
use crate::importance::of_values;
use crate::real::Real;

/// Importance (N, C), all values >= 0, of `pooled` (N, C) for a loss whose gradient at `pooled` is
/// `grad` (N, C).
///
/// `mean` (C) is the mean feature over a bank; [`Importance::Centred`] needs it, the others ignore it.
/// The result has the type and device of `pooled` and carries no gradient. It is computed on the host, f64 in
/// f64 and all other types in f32. [`slices::importance`](crate::slices::importance) is the same on plain values.
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
    // The others do not look at it.
    let mean = mean.filter(|_| kind == Importance::Centred);
    if let Some(mean) = mean.filter(|mean| mean.dims() != [c]) {
        bail!("importance: mean is {:?}, expected {:?}", mean.dims(), [c]);
    }
    match pooled.dtype() {
        DType::F64 => on_host::<f64>(pooled, grad, kind, mean),
        _ => on_host::<f32>(pooled, grad, kind, mean),
    }
}

fn on_host<T: Real + WithDType>(
    pooled: &Tensor,
    grad: &Tensor,
    kind: Importance,
    mean: Option<&Tensor>,
) -> Result<Tensor> {
    // In the type of `pooled` first, as a gradient of that type would be.
    let in_its_type = |tensor: &Tensor| values::<T>(&tensor.to_dtype(pooled.dtype())?);
    let mean = mean.map(in_its_type).transpose()?;
    let found = of_values(
        &in_its_type(pooled)?,
        &in_its_type(grad)?,
        kind,
        mean.as_deref(),
    );
    Tensor::from_vec(found?, pooled.shape(), &Device::Cpu)?
        .to_dtype(pooled.dtype())?
        .to_device(pooled.device())
}

#[cfg(test)]
mod tests {
    use super::*;

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
