//! Maps of a frozen convolutional network on the CPU, and how many images of them fit the cache.

use std::ops::Range;

use candle_core::{Device, Result, Tensor};
use fgvr_nn::kernels::pool;
use fgvr_nn::layers::FrozenPass;
use fgvr_nn::{Buffer, Tape};

/// Floats of the maps that are worked on at once: 6 MiB of a third-level cache.
const AT_ONCE: usize = 3 << 19;

/// A map (N, H, W, C).
pub(super) struct HostMap {
    pub(super) shape: [usize; 4],
    pub(super) values: Buffer,
}

impl HostMap {
    pub(super) fn scratch(shape: [usize; 4]) -> Self {
        Self {
            shape,
            values: Buffer::scratch(shape.iter().product()),
        }
    }

    fn range(&self, images: &Range<usize>) -> Range<usize> {
        let of_image = self.values.len() / self.shape[0];
        images.start * of_image..images.end * of_image
    }

    pub(super) fn part(&self, images: &Range<usize>) -> &[f32] {
        &self.values[self.range(images)]
    }

    pub(super) fn part_mut(&mut self, images: &Range<usize>) -> &mut [f32] {
        let range = self.range(images);
        &mut self.values[range]
    }

    /// As a tensor (N, C, H, W).
    pub(super) fn into_tensor(self, tape: &mut Tape) -> Result<Tensor> {
        // (N, h, w, C) -> (N, C, h, w)
        tape.map(self.shape, self.values).to_tensor()
    }

    /// The mean over places, (N, C).
    pub(super) fn pooled(&self) -> Result<Tensor> {
        let [n, h, w, c] = self.shape;
        let mut pooled = vec![0.; n * c];
        pool::global_mean(&self.values, h * w, c, &mut pooled);
        Tensor::from_vec(pooled, (n, c), &Device::Cpu)
    }
}

/// Room for the output of `pass` for some images.
pub(super) fn room(pass: &FrozenPass<'_>, images: &Range<usize>) -> Buffer {
    Buffer::scratch(images.len() * of_image(&[pass.output()]))
}

/// HostMap of one image in all of `maps`.
pub(super) fn of_image(maps: &[[usize; 4]]) -> usize {
    maps.iter().map(|[_, h, w, c]| h * w * c).sum()
}

/// How many images fit the third-level cache with all of `maps`, at least one.
pub(super) fn in_cache(maps: &[[usize; 4]]) -> usize {
    (AT_ONCE / of_image(maps)).max(1)
}

/// `n` images in as few even parts of at most `most` as possible.
pub(super) fn parts(n: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    let parts = n.div_ceil(most);
    (0..parts).map(move |part| n * part / parts..n * (part + 1) / parts)
}
