//! The common rationale of LCR: the Grad-CAM target, and how a screening map is fitted to it.

use candle_core::{Result, Tensor, bail};
use candle_nn::ops::log_softmax;
use fgvr_gradcam::Sign;

use crate::addons::lcr::screening::{EPS, largest};
use crate::bases::head::relu;

/// How the Grad-CAM target is scaled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum TargetScale {
    /// G / (1e-7 + max G) over the places of each image.
    #[default]
    PerImage,
    /// As it is, as released. The gradient of a mean over the batch is small: such a target is nearly
    /// uniform under a softmax.
    Raw,
}

/// Over what the softmax of target and map runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum FitSoftmax {
    /// All places of an image, as in the released BYOL path.
    #[default]
    Flattened,
    /// Each row of places by itself, as in the released MoCo path: which row matters is not compared.
    Rows,
}

/// How divergences become one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Reduction {
    /// Their mean over the images of the batch.
    #[default]
    Mean,
    /// Their sum, as released: the weight then depends on the batch size.
    Sum,
}

/// Where the gradient of the fit goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Route {
    /// Into the screening branch, into F through A, and into F through G; the gradient factor of G is a
    /// constant. As released.
    #[default]
    Released,
    /// G is a constant: into the branch, and into F through A.
    ConstantTarget,
    /// G and F are constants: the branch learns to read the trunk, which learns nothing from it.
    ReadOut,
}

/// G (N, h, w) = ReLU(± Σ_c F_c ∂L_C/∂F_c) of a feature map F (N, C, h, w) that is pooled by its mean, and the
/// gradient ∂L_C/∂h (N, C) at its pooled features, a constant. On candle's autograd as far as F is.
///
/// The mean spreads the gradient evenly: ∂L_C/∂F = ∂L_C/∂h / (h·w) at each place, so that this is
/// Grad-CAM (arXiv:1610.02391).
///
/// # Errors
/// Shapes that do not agree.
pub(crate) fn target(
    map: &Tensor,
    gradient: &Tensor,
    sign: Sign,
    scale: TargetScale,
) -> Result<Tensor> {
    let (n, c, h, w) = map.dims4()?;
    if gradient.dims() != [n, c] {
        bail!(
            "rationale: the gradient is {:?}, expected [{n}, {c}]",
            gradient.dims()
        );
    }
    let sign = match sign {
        Sign::RaisesLoss => 1.,
        Sign::LowersLoss => -1.,
    };
    let weights = (gradient.detach() * (sign / (h * w) as f64))?.unsqueeze(1)?; // (N, 1, C)
    // (N, 1, C) x (N, C, h*w) -> (N, 1, h*w)
    let flat = map.reshape((n, c, h * w))?.contiguous()?;
    let cam = relu(&weights.contiguous()?.matmul(&flat)?.squeeze(1)?)?;
    let cam = match scale {
        TargetScale::PerImage => cam.broadcast_div(&(largest(&cam)? + EPS)?)?,
        TargetScale::Raw => cam,
    };
    cam.reshape((n, h, w))
}

/// KL(softmax(G/t) ‖ softmax(A/t)) of target G and map A (N, h, w), a scalar.
///
/// # Errors
/// Shapes that differ.
pub(crate) fn divergence(
    target: &Tensor,
    map: &Tensor,
    softmax: FitSoftmax,
    temperature: f64,
    reduction: Reduction,
) -> Result<Tensor> {
    let (n, h, w) = map.dims3()?;
    let rows = match softmax {
        FitSoftmax::Flattened => (n, h * w),
        FitSoftmax::Rows => (n * h, w),
    };
    // (N, h, w) -> (N, h*w) or (N*h, w)
    let log = |x: &Tensor| log_softmax(&(x.reshape(rows)? / temperature)?, 1);
    let (wanted, found) = (log(target)?, log(map)?);
    let sum = (wanted.exp()? * (wanted - found)?)?.sum_all()?;
    match reduction {
        Reduction::Mean => sum / n as f64,
        Reduction::Sum => Ok(sum),
    }
}

/// Mean entropy of the maps (N, h, w), each as a distribution over its places, as a share of the
/// uniform one's; and their mean correlation with the targets. Images whose map is zero or constant
/// are left out; `None` if all are.
pub(crate) fn figures(map: &Tensor, target: &Tensor) -> Result<[Option<f64>; 2]> {
    let rows = |x: &Tensor| x.detach().flatten_from(1)?.to_vec2::<f32>();
    let (mut entropies, mut correlations) = (Vec::new(), Vec::new());
    for (map, target) in rows(map)?.iter().zip(rows(target)?) {
        let sum: f64 = map.iter().map(|v| f64::from(*v)).sum();
        if sum > 0. && map.len() > 1 {
            let shares = map.iter().map(|v| f64::from(*v) / sum).filter(|p| *p > 0.);
            let entropy: f64 = shares.map(|p| -p * p.ln()).sum();
            entropies.push(entropy / (map.len() as f64).ln());
        }
        correlations.extend(correlation(map, &target));
    }
    let mean = |v: Vec<f64>| (!v.is_empty()).then(|| v.iter().sum::<f64>() / v.len() as f64);
    Ok([mean(entropies), mean(correlations)])
}

fn correlation(a: &[f32], b: &[f32]) -> Option<f64> {
    let centred = |x: &[f32]| -> Vec<f64> {
        let mean = x.iter().map(|v| f64::from(*v)).sum::<f64>() / x.len() as f64;
        x.iter().map(|v| f64::from(*v) - mean).collect()
    };
    let (a, b) = (centred(a), centred(b));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let length = (dot(&a, &a) * dot(&b, &b)).sqrt();
    (length > 0.).then(|| dot(&a, &b) / length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use fgvr_gradcam::grad_cam_signed;
    use fgvr_testkit::{GradCheck, assert_close, gradcheck_tensors, normal, uniform};

    const SIGNS: [Sign; 2] = [Sign::RaisesLoss, Sign::LowersLoss];
    const SCALES: [TargetScale; 2] = [TargetScale::PerImage, TargetScale::Raw];

    fn wide(tensor: Tensor) -> Tensor {
        tensor.to_dtype(DType::F64).unwrap()
    }

    #[test]
    fn the_target_is_grad_cam_and_both_signs_are_halves_of_the_map_without_relu() {
        let (map, gradient) = (uniform(1, (2, 5, 3, 4), 0., 1.), normal(2, (2, 5)));
        let at_map = gradient.reshape((2, 5, 1, 1)).unwrap();
        let at_map = (at_map.broadcast_as(map.shape()).unwrap() / 12.).unwrap();
        let raw = |sign| target(&map, &gradient, sign, TargetScale::Raw).unwrap();
        for sign in SIGNS {
            let cam = grad_cam_signed(&map, &at_map, sign).unwrap();
            assert_close(&format!("{sign:?}"), &raw(sign), &cam, 1e-5);
        }
        let whole = (&map * &at_map).unwrap().sum(1).unwrap();
        let halves = (raw(Sign::RaisesLoss) - raw(Sign::LowersLoss)).unwrap();
        assert_close("halves", &halves, &whole, 1e-5);
        let overlap = (raw(Sign::RaisesLoss) * raw(Sign::LowersLoss)).unwrap();
        let overlap = overlap.sum_all().unwrap().to_scalar::<f32>().unwrap();
        assert_eq!(overlap, 0.);
    }

    #[test]
    fn gradients_of_target_and_divergence_are_those_of_finite_differences() {
        let check = GradCheck::f64();
        let map = wide(uniform(3, (2, 5, 3, 2), 0., 1.));
        let gradient = wide(normal(4, (2, 5)));
        for (sign, scale) in SIGNS.into_iter().zip(SCALES) {
            let name = format!("{sign:?} {scale:?}");
            let of = |x: &[Tensor]| target(&x[0], &gradient, sign, scale);
            gradcheck_tensors(&name, of, std::slice::from_ref(&map), &check);
        }
        let maps = [5, 6].map(|seed| wide(uniform(seed, (2, 3, 4), 0., 1.)));
        for (softmax, reduction) in [
            (FitSoftmax::Flattened, Reduction::Mean),
            (FitSoftmax::Rows, Reduction::Sum),
        ] {
            let name = format!("{softmax:?} {reduction:?}");
            let of = |x: &[Tensor]| divergence(&x[0], &x[1], softmax, 0.4, reduction);
            gradcheck_tensors(&name, of, &maps, &check);
        }
    }

    #[test]
    fn a_map_that_is_its_target_has_no_divergence() {
        let map = uniform(7, (2, 3, 4), 0., 1.);
        for softmax in [FitSoftmax::Flattened, FitSoftmax::Rows] {
            let loss = divergence(&map, &map, softmax, 0.4, Reduction::Sum).unwrap();
            assert!(loss.to_scalar::<f32>().unwrap().abs() < 1e-6);
        }
    }

    #[test]
    fn entropy_is_one_of_a_uniform_map_and_correlation_one_of_a_scaled_target() {
        let flat = Tensor::ones((1, 2, 2), DType::F32, &Device::Cpu).unwrap();
        let point = Tensor::new(&[[[0f32, 0.], [3., 0.]]], &Device::Cpu).unwrap();
        let [entropy, correlation] = figures(&flat, &point).unwrap();
        assert!((entropy.unwrap() - 1.).abs() < 1e-9);
        assert_eq!(correlation, None);
        let [entropy, correlation] = figures(&point, &(&point * 0.5).unwrap()).unwrap();
        assert_eq!(entropy, Some(0.));
        assert!((correlation.unwrap() - 1.).abs() < 1e-9);
        let silent = point.zeros_like().unwrap();
        assert_eq!(figures(&silent, &point).unwrap(), [None, None]);
    }
}
