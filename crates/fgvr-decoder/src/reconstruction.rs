//! How close the images are: the loss, the peak signal-to-noise ratio, and the mean image as the
//! baseline that says nothing of the image.

use candle_core::{DType, Device, Result, Tensor, bail};

/// Mean over all images, channels and pixels of the squared difference, as a scalar on candle's
/// autograd. `target` is a constant: no gradient reaches it.
///
/// # Errors
/// Shapes that differ.
pub fn reconstruction_loss(images: &Tensor, target: &Tensor) -> Result<Tensor> {
    same_shape("reconstruction_loss", images, target)?;
    (images - target.detach())?.sqr()?.mean_all()
}

/// Peak signal-to-noise ratio in dB, 10·log10(range² / mean squared difference), over all values of
/// a batch; infinite where the two are equal.
///
/// Both tensors are de-normalised images, in [0, 1] with `range_of_values` 1 (or [0, 255] with 255).
///
/// # Design choice
/// The mean is over the whole batch, not a mean of each image's dB, so that it is
/// the reconstruction loss on another scale and one perfect image does not make it infinite.
///
/// # Errors
/// Shapes that differ, no values, or a range that is not positive.
pub fn psnr(images: &Tensor, target: &Tensor, range_of_values: f64) -> Result<f64> {
    same_shape("psnr", images, target)?;
    if range_of_values.is_nan() || range_of_values <= 0. {
        bail!("psnr: range of values is {range_of_values}, expected above 0");
    }
    // f32 sums over millions of pixels lose digits.
    let difference = (images.to_dtype(DType::F64)? - target.to_dtype(DType::F64)?)?;
    let mse = difference.sqr()?.mean_all()?.to_scalar::<f64>()?;
    Ok(10. * (range_of_values * range_of_values / mse).log10())
}

/// The mean over images, taken batch by batch: the best that a decoder can do which learns nothing
/// of the single image. A decoder is worth its cost above this image's PSNR.
#[derive(Clone, Debug, Default)]
pub struct MeanImage {
    /// f64 (C, H, W).
    sum: Option<Tensor>,
    count: usize,
}

impl MeanImage {
    /// A mean of no images yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the images of a batch (N, C, H, W).
    ///
    /// # Errors
    /// Images of another size than before.
    pub fn push(&mut self, images: &Tensor) -> Result<()> {
        let (n, c, h, w) = images.dims4()?;
        let batch = images
            .to_device(&Device::Cpu)?
            .to_dtype(DType::F64)?
            .sum(0)?;
        self.sum = Some(match &self.sum {
            None => batch,
            Some(sum) if sum.dims() == [c, h, w] => (sum + batch)?,
            Some(sum) => bail!(
                "mean image: images are {:?}, expected (N, {:?})",
                images.dims(),
                sum.dims()
            ),
        });
        self.count += n;
        Ok(())
    }

    /// Images seen.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The mean (C, H, W), f32.
    ///
    /// # Errors
    /// No image was pushed.
    pub fn image(&self) -> Result<Tensor> {
        match &self.sum {
            Some(sum) if self.count > 0 => (sum / self.count as f64)?.to_dtype(DType::F32),
            _ => bail!("mean image: no image was pushed"),
        }
    }

    /// [`psnr`] of the mean image against each of `images` (N, C, H, W).
    ///
    /// # Errors
    /// No image was pushed; images of another shape than the mean.
    pub fn psnr(&self, images: &Tensor, range_of_values: f64) -> Result<f64> {
        let mean = self.image()?.unsqueeze(0)?;
        match (images.dims(), mean.dims()) {
            ([_, image @ ..], [_, expected @ ..]) if image == expected => {}
            (found, expected) => bail!(
                "mean image: images are {found:?}, expected (N, {:?})",
                &expected[1..]
            ),
        }
        psnr(&mean.broadcast_as(images.shape())?, images, range_of_values)
    }
}

fn same_shape(op: &str, images: &Tensor, target: &Tensor) -> Result<()> {
    if images.dims() != target.dims() || images.elem_count() == 0 {
        bail!(
            "{op}: images are {:?}, expected the target's {:?}, not empty",
            images.dims(),
            target.dims()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Var;

    fn images(value: f32) -> Tensor {
        Tensor::full(value, (2, 3, 4, 4), &Device::Cpu).unwrap()
    }

    #[test]
    fn psnr_of_a_tenth_of_the_range_is_20_db() {
        let decibels = psnr(&images(0.5), &images(0.4), 1.).unwrap();
        assert!((decibels - 20.).abs() < 1e-5, "{decibels}");
        let decibels = psnr(&images(127.5), &images(102.), 255.).unwrap();
        assert!((decibels - 20.).abs() < 1e-5, "{decibels}");
        assert_eq!(psnr(&images(0.5), &images(0.5), 1.).unwrap(), f64::INFINITY);
    }

    #[test]
    fn shapes_that_differ_are_an_error_not_a_broadcast() {
        let one = Tensor::zeros((1, 3, 4, 4), DType::F32, &Device::Cpu).unwrap();
        let error = reconstruction_loss(&images(0.), &one)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("[2, 3, 4, 4], expected the target's [1, 3, 4, 4]"),
            "{error}"
        );
        assert!(psnr(&images(0.), &one, 1.).is_err());
        assert!(psnr(&images(0.), &images(0.), 0.).is_err());
        assert!(psnr(&images(0.), &images(0.), f64::NAN).is_err());
    }

    #[test]
    fn the_target_gets_no_gradient() {
        let (x, target) = (
            Var::from_tensor(&images(3.)).unwrap(),
            Var::from_tensor(&images(1.)).unwrap(),
        );
        let loss = reconstruction_loss(&x, &target).unwrap();
        assert_eq!(loss.to_scalar::<f32>().unwrap(), 4.);
        let gradients = loss.backward().unwrap();
        assert!(gradients.get(&target).is_none());
        let gradient = gradients
            .get(&x)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        assert!(
            gradient.iter().all(|g| (g - 4. / 96.).abs() < 1e-7),
            "{gradient:?}"
        );
    }

    #[test]
    fn the_mean_image_does_not_depend_on_the_batches() {
        let all = Tensor::arange(0f32, 96., &Device::Cpu)
            .unwrap()
            .reshape((4, 2, 3, 4))
            .unwrap();
        let mut mean = MeanImage::new();
        assert!(mean.image().is_err());
        mean.push(&all.narrow(0, 0, 3).unwrap()).unwrap();
        mean.push(&all.narrow(0, 3, 1).unwrap()).unwrap();
        assert_eq!(mean.count(), 4);
        let expected = all.mean(0).unwrap();
        let off = (mean.image().unwrap() - &expected).unwrap().abs().unwrap();
        assert_eq!(off.sum_all().unwrap().to_scalar::<f32>().unwrap(), 0.);
        // Deviations of -36, -12, 12, 36: a mean square of 720.
        let decibels = mean.psnr(&all, 255.).unwrap();
        assert!((decibels - 10. * (255f64 * 255. / 720.).log10()).abs() < 1e-9);
        let other = Tensor::zeros((1, 2, 4, 3), DType::F32, &Device::Cpu).unwrap();
        assert!(mean.push(&other).is_err() && mean.psnr(&other, 1.).is_err());
    }
}
