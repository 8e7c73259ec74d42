//! Where in an image to look: a screening map over the places of a feature map, and features pooled by it.

use candle_core::{Result, Tensor, bail};
use candle_nn::{ModuleT, VarBuilder};
use fgvr_nn::NormMode;
use fgvr_nn::layers::{BatchNorm, Linear};

use crate::bases::head::{l2_normalise, relu};

/// Keeps a map that is zero everywhere from being divided by zero.
pub(crate) const EPS: f64 = 1e-7;

/// How a screening map is brought to its range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum MapRange {
    /// (A − min A) / (1e-7 + max A − min A) over the places of each image.
    #[default]
    PerImage,
    /// (A − min A) / (1e-7 + max A) over all places of the whole batch, as released: what an image gets
    /// depends on the others of its batch.
    Batch,
    /// A / (1e-7 + max A) over the places of each image: nothing is taken away.
    NoMinimum,
}

/// The screening branch of LCR (arXiv:2303.01669): a 1x1 convolution from C to R channels without bias,
/// batch norm, ReLU, the maximum over the R channels, and a [`MapRange`].
#[derive(Clone, Debug)]
pub struct Screening {
    conv: Linear,
    norm: BatchNorm,
    training: MapRange,
    inference: MapRange,
}

impl Screening {
    /// A branch over maps of `width` channels through R = `channels`, with the range of its map while it is
    /// trained and afterwards. Its variables are `conv.weight` (R, C), `norm.weight` and `norm.bias`.
    ///
    /// # Errors
    /// A width of zero, or variables of other shapes in the builder.
    pub fn new(
        width: usize,
        channels: usize,
        [training, inference]: [MapRange; 2],
        vb: VarBuilder<'_>,
    ) -> Result<Self> {
        Ok(Self {
            conv: Linear::new(width, channels, false, vb.pp("conv"))?,
            norm: BatchNorm::new(channels, vb.pp("norm"))?,
            training,
            inference,
        })
    }

    /// A (N, h, w), all values at least 0, of a feature map (N, C, h, w), on candle's autograd.
    ///
    /// # Errors
    /// Another number of channels, or no place.
    pub fn map(&self, map: &Tensor, norm: NormMode) -> Result<Tensor> {
        let (n, c, h, w) = map.dims4()?;
        if n * h * w == 0 {
            bail!("screening: the map is {:?}, expected places", map.dims());
        }
        // (N, C, h, w) -> (N*h*w, C)
        let rows = map
            .permute((0, 2, 3, 1))?
            .contiguous()?
            .reshape((n * h * w, c))?;
        let rows = self
            .norm
            .forward(&self.conv.forward_t(&rows, true)?, norm)?; // (N*h*w, R)
        // The maximum of ReLUs is the ReLU of the maximum.
        let places = relu(&largest(&rows)?)?.reshape((n, h * w))?; // (N*h*w, 1) -> (N, h*w)
        let range = match norm {
            NormMode::Eval => self.inference,
            _ => self.training,
        };
        in_range(&places, range)?.reshape((n, h, w))
    }

    /// Features (N, C) of a feature map (N, C, h, w) for inference: the mean over places of F·A, of
    /// length 1; zero for an image whose A is zero everywhere.
    ///
    /// With [`MapRange::Batch`] the features of an image depend on the others that are given with it.
    ///
    /// # Errors
    /// As [`Screening::map`].
    pub fn pool(&self, map: &Tensor) -> Result<Tensor> {
        let (n, c, h, w) = map.dims4()?;
        let screen = self.map(map, NormMode::Eval)?.reshape((n, h * w, 1))?;
        // (N, C, h*w) x (N, h*w, 1) -> (N, C, 1)
        let flat = map.reshape((n, c, h * w))?.contiguous()?;
        let sums = flat.matmul(&screen.contiguous()?)?.squeeze(2)?;
        l2_normalise(&(sums / (h * w) as f64)?)
    }
}

/// The largest of each row of `rows` (N, P): (N, 1). Its gradient goes to one place, as that of PyTorch's
/// `max(dim)`; candle's own gives every place of a tie the whole of it.
pub(crate) fn largest(rows: &Tensor) -> Result<Tensor> {
    rows.gather(&rows.detach().argmax_keepdim(1)?, 1)
}

/// `places` (N, P), at least 0, in this range.
pub(crate) fn in_range(places: &Tensor, range: MapRange) -> Result<Tensor> {
    let smallest = |rows: &Tensor| rows.gather(&rows.detach().argmin_keepdim(1)?, 1);
    match range {
        MapRange::PerImage => {
            let least = smallest(places)?;
            let above = places.broadcast_sub(&least)?;
            above.broadcast_div(&((largest(places)? - least)? + EPS)?)
        }
        MapRange::Batch => {
            let all = places.reshape((1, places.elem_count()))?; // (N, P) -> (1, N*P)
            let above = all.broadcast_sub(&smallest(&all)?)?;
            let scaled = above.broadcast_div(&(largest(&all)? + EPS)?)?;
            scaled.reshape(places.dims())
        }
        MapRange::NoMinimum => places.broadcast_div(&(largest(places)? + EPS)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use fgvr_nn::Parameters;
    use fgvr_testkit::{GradCheck, assert_close, gradcheck_tensors, normal, uniform};

    const RANGES: [MapRange; 3] = [MapRange::PerImage, MapRange::Batch, MapRange::NoMinimum];

    fn screening(range: MapRange) -> (Screening, Parameters) {
        let parameters = Parameters::new(3);
        let vb = parameters.builder(DType::F32, &Device::Cpu);
        (Screening::new(5, 4, [range; 2], vb).unwrap(), parameters)
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn ranges_are_their_formulas() {
        let places = Tensor::new(&[[1f64, 2., 5.], [0., 4., 2.]], &Device::Cpu).unwrap();
        let ranged = |range| in_range(&places, range).unwrap();
        let expected: [[[f64; 3]; 2]; 3] = [
            [[0., 0.25, 1.], [0., 1., 0.5]],
            [[0.2, 0.4, 1.], [0., 0.8, 0.4]],
            [[0.2, 0.4, 1.], [0., 1., 0.5]],
        ];
        for (range, expected) in RANGES.into_iter().zip(expected) {
            let expected = Tensor::new(&expected, &Device::Cpu).unwrap();
            assert_close(&format!("{range:?}"), &ranged(range), &expected, 1e-6);
        }
        let silent = Tensor::zeros((2, 3), DType::F64, &Device::Cpu).unwrap();
        for range in RANGES {
            let zero = in_range(&silent, range).unwrap().to_vec2::<f64>().unwrap();
            assert_eq!(zero, [[0.; 3]; 2]);
        }
    }

    #[test]
    fn gradients_of_largest_and_ranges_are_those_of_finite_differences() {
        let places = [uniform(1, (3, 7), 0.1, 2.).to_dtype(DType::F64).unwrap()];
        let check = GradCheck::f64();
        gradcheck_tensors("largest", |x| largest(&x[0]), &places, &check);
        for range in RANGES {
            let name = format!("{range:?}");
            gradcheck_tensors(&name, |x| in_range(&x[0], range), &places, &check);
        }
    }

    #[test]
    fn the_gradient_at_the_map_is_that_of_finite_differences() {
        for range in RANGES {
            let screening = screening(range).0;
            let check = GradCheck {
                step: 2e-3,
                rel: 2e-2,
            };
            let map = normal(4, (2, 5, 3, 2));
            let of = |x: &[Tensor]| screening.map(&x[0], NormMode::NoUpdate);
            gradcheck_tensors(&format!("{range:?}"), of, &[map], &check);
        }
    }

    #[test]
    fn features_of_an_image_depend_on_its_batch_with_the_range_of_the_batch_alone() {
        let map = uniform(5, (4, 5, 3, 3), 0., 1.);
        for range in RANGES {
            let screening = screening(range).0;
            let together = screening.pool(&map).unwrap().narrow(0, 0, 1).unwrap();
            let alone = screening.pool(&map.narrow(0, 0, 1).unwrap()).unwrap();
            let far = values(&(&together - &alone).unwrap().abs().unwrap());
            let far = far.into_iter().fold(0., f32::max);
            assert_eq!(far > 1e-3, range == MapRange::Batch, "{range:?}: {far}");
        }
    }

    #[test]
    fn pooled_features_are_the_weighted_mean_of_length_one() {
        let screening = screening(MapRange::PerImage).0;
        let map = uniform(6, (2, 5, 3, 2), 0., 1.);
        let screen = screening.map(&map, NormMode::Eval).unwrap();
        let weighted = map.broadcast_mul(&screen.unsqueeze(1).unwrap()).unwrap();
        let mean = weighted.mean((2, 3)).unwrap();
        let expected = l2_normalise(&mean).unwrap();
        assert_close("pooled", &screening.pool(&map).unwrap(), &expected, 1e-6);
        let lengths = expected.sqr().unwrap().sum(1).unwrap();
        assert!(values(&lengths).iter().all(|l| (l - 1.).abs() < 1e-5));
    }

    #[test]
    fn running_statistics_follow_training_passes_alone() {
        let (screening, parameters) = screening(MapRange::PerImage);
        let map = normal(7, (2, 5, 3, 2));
        let running = || values(&parameters.buffers()["norm.running_mean"]);
        let start = running();
        screening.map(&map, NormMode::NoUpdate).unwrap();
        screening.pool(&map).unwrap();
        assert_eq!(running(), start);
        screening.map(&map, NormMode::Train).unwrap();
        assert_ne!(running(), start);
    }
}
