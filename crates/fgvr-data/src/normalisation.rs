//! From pixel values in [0, 1] to what a network is fed, and back.

use candle_core::{Result, Tensor, bail};

use crate::Error;
use crate::augment::Planes;

/// Mean and standard deviation of each channel.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
pub struct Normalisation {
    /// Subtracted. By default ImageNet's.
    pub mean: [f32; 3],
    /// Divided by. By default ImageNet's.
    pub std: [f32; 3],
}

impl Default for Normalisation {
    /// [`Normalisation::imagenet`].
    fn default() -> Self {
        Self::imagenet()
    }
}

impl Normalisation {
    /// The values that ImageNet's pretrained networks were trained with.
    #[must_use]
    pub fn imagenet() -> Self {
        Self {
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        }
    }

    /// Mean 0 and standard deviation 1: values stay in [0, 1].
    #[must_use]
    pub fn none() -> Self {
        Self {
            mean: [0.; 3],
            std: [1.; 3],
        }
    }

    /// Checks the values.
    ///
    /// # Errors
    /// A mean that is not finite, or a standard deviation that is not above 0: [`Error::Setting`].
    pub fn validate(&self) -> std::result::Result<(), Error> {
        if !self.mean.iter().all(|m| m.is_finite()) {
            return Err(Error::Setting {
                setting: "normalisation.mean",
                found: format!("{:?}", self.mean),
                expected: "three finite numbers".to_owned(),
            });
        }
        if !self.std.iter().all(|s| s.is_finite() && *s > 0.) {
            return Err(Error::Setting {
                setting: "normalisation.std",
                found: format!("{:?}", self.std),
                expected: "three finite numbers above 0".to_owned(),
            });
        }
        Ok(())
    }

    /// `(x - mean) / std` of (3, H, W) or (N, 3, H, W).
    ///
    /// # Errors
    /// Another shape.
    pub fn apply(&self, images: &Tensor) -> Result<Tensor> {
        let (mean, std) = self.tensors(images)?;
        images.broadcast_sub(&mean)?.broadcast_div(&std)
    }

    /// `x * std + mean` of (3, H, W) or (N, 3, H, W).
    ///
    /// # Errors
    /// Another shape.
    pub fn undo(&self, images: &Tensor) -> Result<Tensor> {
        let (mean, std) = self.tensors(images)?;
        images.broadcast_mul(&std)?.broadcast_add(&mean)
    }

    fn tensors(&self, images: &Tensor) -> Result<(Tensor, Tensor)> {
        if !matches!(images.dims(), [3, _, _] | [_, 3, _, _]) {
            bail!(
                "normalisation: images are {:?}, expected [3, H, W] or [N, 3, H, W]",
                images.dims()
            );
        }
        let tensor = |values: &[f32; 3]| {
            Tensor::new(values, images.device())?
                .reshape((3, 1, 1))?
                .to_dtype(images.dtype())
        };
        Ok((tensor(&self.mean)?, tensor(&self.std)?))
    }

    pub(crate) fn apply_to_planes(&self, planes: &mut Planes) {
        for ((plane, mean), std) in planes
            .channels_mut()
            .into_iter()
            .zip(self.mean)
            .zip(self.std)
        {
            plane.iter_mut().for_each(|v| *v = (*v - mean) / std);
        }
    }

    pub(crate) fn undo_on_planes(&self, planes: &mut Planes) {
        for ((plane, mean), std) in planes
            .channels_mut()
            .into_iter()
            .zip(self.mean)
            .zip(self.std)
        {
            plane.iter_mut().for_each(|v| *v = *v * std + mean);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn undo_undoes_apply_with_and_without_a_batch() {
        let norm = Normalisation::imagenet();
        for dims in [vec![3, 2, 2], vec![2, 3, 2, 2]] {
            let count = dims.iter().product::<usize>();
            let x: Vec<f32> = (0..count).map(|i| i as f32 / count as f32).collect();
            let x = Tensor::from_vec(x, dims, &Device::Cpu).unwrap();
            let back = norm.undo(&norm.apply(&x).unwrap()).unwrap();
            let off = (back - &x).unwrap().abs().unwrap().flatten_all().unwrap();
            assert!(off.max(0).unwrap().to_scalar::<f32>().unwrap() < 1e-6);
        }
    }

    #[test]
    fn channels_last_is_an_error() {
        let x = Tensor::zeros((4, 4, 3), DType::F32, &Device::Cpu).unwrap();
        let message = Normalisation::imagenet().apply(&x).unwrap_err().to_string();
        assert!(
            message.contains("[4, 4, 3], expected [3, H, W]"),
            "{message}"
        );
    }

    #[test]
    fn a_standard_deviation_of_zero_is_refused() {
        let mut norm = Normalisation::none();
        norm.validate().unwrap();
        norm.std[1] = 0.;
        assert!(
            norm.validate()
                .unwrap_err()
                .to_string()
                .contains("normalisation.std")
        );
        norm.mean[0] = f32::NAN;
        assert!(
            norm.validate()
                .unwrap_err()
                .to_string()
                .contains("normalisation.mean")
        );
    }
}
