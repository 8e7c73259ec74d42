//! Grad-CAM over places.

use candle_core::{DType, Device, Result, Tensor, Var, WithDType, bail};

use super::values;
use crate::Sign;
use crate::grad_cam::of_values;
use crate::real::Real;

/// Grad-CAM (N, h, w), all values >= 0, of a feature map (N, C, h, w) and the gradient of a scalar at
/// it, (N, C, h, w): `ReLU(sum_c a_c F_c)` with `a_c = mean_places grad_c`.
///
/// Eq. 1 and 2 of Grad-CAM (arXiv:1610.02391). No minus sign: with the gradient of a loss, the map
/// shows what raises the loss; see [`grad_cam_signed`].
///
/// f32 and f64 are kept, other types become f32. It is computed on the host; the result is on the device of `map` and
/// carries no gradient. [`slices::grad_cam`](crate::slices::grad_cam) is the same on plain values.
///
/// # Errors
/// A map that is not (N, C, h, w) with at least one place, or a gradient of another shape.
pub fn grad_cam(map: &Tensor, grad: &Tensor) -> Result<Tensor> {
    grad_cam_signed(map, grad, Sign::RaisesLoss)
}

/// The Grad-CAM map of what lowers or raises the loss, whichever `sign` says.
///
/// # Errors
/// A map that is not (N, C, h, w) with at least one place, or a gradient of another shape.
pub fn grad_cam_signed(map: &Tensor, grad: &Tensor, sign: Sign) -> Result<Tensor> {
    let Ok((n, c, h, w)) = map.dims4() else {
        bail!("grad_cam: map is {:?}, expected (N, C, h, w)", map.dims());
    };
    if grad.dims() != map.dims() {
        bail!(
            "grad_cam: grad is {:?}, expected {:?}",
            grad.dims(),
            map.dims()
        );
    }
    match map.dtype() {
        DType::F64 => on_host::<f64>(map, grad, [n, c, h, w], sign),
        _ => on_host::<f32>(map, grad, [n, c, h, w], sign),
    }
}

fn on_host<T: Real + WithDType>(
    map: &Tensor,
    grad: &Tensor,
    shape: [usize; 4],
    sign: Sign,
) -> Result<Tensor> {
    let [n, _, h, w] = shape;
    let found = of_values(&values::<T>(map)?, &values::<T>(grad)?, shape, sign);
    Tensor::from_vec(found?, (n, h, w), &Device::Cpu)?.to_device(map.device())
}

/// Grad-CAM (N, h, w) of any model's feature map (N, C, h, w) for any scalar: `loss` gets the map as
/// a leaf variable, so that it may be given whole or computed under a graph of the caller's.
///
/// The gradient stops at the map. For the places that lower the loss, return its negative.
///
/// # Errors
/// What `loss` returns, a loss that is not one number, one that does not depend on the map, and those
/// of [`grad_cam`].
pub fn grad_cam_of(map: &Tensor, loss: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let leaf = Var::from_tensor(&map.detach())?;
    let loss = loss(leaf.as_tensor())?;
    if loss.elem_count() != 1 {
        bail!("grad_cam_of: loss is {:?}, expected a scalar", loss.dims());
    }
    let gradients = loss.sum_all()?.backward()?;
    match gradients.get(leaf.as_tensor()) {
        Some(grad) => grad_cam(leaf.as_tensor(), grad),
        None => bail!("grad_cam_of: the loss does not depend on the map"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> Tensor {
        // Two channels over 1x2 places.
        Tensor::new(&[[[[1f32, 2.]], [[3., 0.]]]], &Device::Cpu).unwrap()
    }

    #[test]
    fn grad_cam_is_the_rectified_weighted_sum() {
        let grad = Tensor::new(&[[[[1f32, 3.]], [[-1., -1.]]]], &Device::Cpu).unwrap();
        // a = (2, -1): 2*1 - 3 = -1 -> 0, and 2*2 - 0 = 4.
        let cam = grad_cam(&map(), &grad).unwrap();
        assert_eq!(cam.to_vec3::<f32>().unwrap(), [[[0., 4.]]]);
        let cam = grad_cam_signed(&map(), &grad, Sign::LowersLoss).unwrap();
        assert_eq!(cam.to_vec3::<f32>().unwrap(), [[[1., 0.]]]);
    }

    #[test]
    fn grad_cam_of_zero_gradient_is_zero() {
        let zero = map().zeros_like().unwrap();
        for sign in [Sign::RaisesLoss, Sign::LowersLoss] {
            let cam = grad_cam_signed(&map(), &zero, sign).unwrap();
            assert_eq!(cam.to_vec3::<f32>().unwrap(), [[[0., 0.]]]);
        }
        let cam = grad_cam_of(&map(), |map| (map * &zero)?.sum_all()).unwrap();
        assert_eq!(cam.to_vec3::<f32>().unwrap(), [[[0., 0.]]]);
    }

    #[test]
    fn nan_in_the_map_shows() {
        let map = Tensor::new(&[[[[1f32, f32::NAN]], [[3., 0.]]]], &Device::Cpu).unwrap();
        let cam = grad_cam(&map, &map.ones_like().unwrap()).unwrap();
        let cam = cam.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(cam[0] == 4. && cam[1].is_nan(), "{cam:?}");
    }

    #[test]
    fn grad_cam_of_runs_the_closure_on_a_leaf() {
        // L = sum of F^2 over channel 1: dL/dF_1 = 2 F_1 = (6, 0), a = (0, 3), cam = (9, 0).
        let cam = grad_cam_of(&map(), |map| map.narrow(1, 1, 1)?.sqr()?.sum_all()).unwrap();
        assert_eq!(cam.to_vec3::<f32>().unwrap(), [[[9., 0.]]]);
    }

    #[test]
    fn wrong_shapes_are_named() {
        let grad = Tensor::zeros((1, 2, 2, 1), DType::F32, &Device::Cpu).unwrap();
        let text = grad_cam(&map(), &grad).unwrap_err().to_string();
        assert!(
            text.contains("grad is [1, 2, 2, 1], expected [1, 2, 1, 2]"),
            "{text}"
        );
        let flat = map().flatten_all().unwrap();
        let text = grad_cam(&flat, &flat).unwrap_err().to_string();
        assert!(text.contains("map is [4], expected (N, C, h, w)"), "{text}");
        let empty = Tensor::zeros((0, 2, 2, 1), DType::F32, &Device::Cpu).unwrap();
        let text = grad_cam(&empty, &empty).unwrap_err().to_string();
        assert!(text.contains("no empty dimension"), "{text}");
    }

    #[test]
    fn a_loss_that_is_no_scalar_or_ignores_the_map_is_an_error() {
        let text = grad_cam_of(&map(), |map| map.sqr())
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("loss is [1, 2, 1, 2], expected a scalar"),
            "{text}"
        );
        let other = Var::new(1f32, &Device::Cpu).unwrap();
        let text = grad_cam_of(&map(), |_| other.sqr())
            .unwrap_err()
            .to_string();
        assert!(text.contains("does not depend on the map"), "{text}");
    }
}
