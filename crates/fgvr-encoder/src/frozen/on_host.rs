//! A frozen residual network on the CPU: a few images at a time, as long as they are in the cache.

use std::ops::Range;

use candle_core::{Device, Result, Tensor};
use fgvr_nn::kernels::pool::{self, PoolShape};
use fgvr_nn::layers::{Finish, FrozenConv, FrozenPass, PoolConfig};
use fgvr_nn::{Buffer, Features, Tape};

use crate::images;

/// Floats of the maps that are worked on at once: 6 MiB of a third-level cache.
const AT_ONCE: usize = 3 << 19;

/// A frozen network on the CPU.
pub(crate) struct OnHost {
    pub(crate) stem: FrozenConv,
    pub(crate) pool: Option<PoolConfig>,
    pub(crate) blocks: Vec<FrozenBlock>,
}

impl OnHost {
    pub(super) fn features(&self, images: &Tensor) -> Result<Features> {
        let map = self.forward(images)?;
        Ok(Features {
            pooled: map.pooled()?,
            // (N, h, w, C) -> (N, C, h, w)
            map: Tape::inference().map(map.shape, map.values).to_tensor()?,
        })
    }

    pub(super) fn embed(&self, images: &Tensor) -> Result<Tensor> {
        self.forward(images)?.pooled()
    }

    fn forward(&self, images: &Tensor) -> Result<Values> {
        let mut x = self.enter(images)?;
        for block in &self.blocks {
            x = block.apply(&x)?;
        }
        Ok(x)
    }

    /// The stem, and the pooling after it while the stem's map is in the cache.
    fn enter(&self, images: &Tensor) -> Result<Values> {
        let shape = images::shape(images)?;
        let stem = self.stem.pass(shape)?;
        let pool = self.pool.as_ref().map(|cfg| PoolShape {
            input: stem.output(),
            kernel: cfg.kernel,
            stride: cfg.stride,
            padding: cfg.padding,
        });
        let mut y = Values::scratch(pool.map_or(stem.output(), |pool| pool.output()));
        let at_once = in_cache(&[shape, stem.output(), y.shape]);
        for part in parts(shape[0], at_once) {
            // (n, 3, H, W) -> (n, H, W, 3)
            let images = images.narrow(0, part.start, part.len())?;
            let images = Tape::inference().input(&images, false)?;
            let y = y.part_mut(&part);
            let Some(pool) = pool else {
                stem.run(images.data()?, Finish::Relu, y)?;
                continue;
            };
            let mut x = room(&stem, &part);
            stem.run(images.data()?, Finish::Relu, &mut x)?;
            let [_, h, w, c] = pool.input;
            let pool = PoolShape {
                input: [part.len(), h, w, c],
                ..pool
            };
            pool::max(&pool, &x, y, &mut vec![0; y.len()]);
        }
        Ok(y)
    }
}

/// As [`Block`](crate::block::Block).
pub(crate) struct FrozenBlock {
    pub(crate) inner: Vec<FrozenConv>,
    pub(crate) last: FrozenConv,
    pub(crate) downsample: Option<FrozenConv>,
}

impl FrozenBlock {
    fn apply(&self, x: &Values) -> Result<Values> {
        let mut shape = x.shape;
        let mut inner = Vec::with_capacity(self.inner.len());
        for conv in &self.inner {
            let pass = conv.pass(shape)?;
            shape = pass.output();
            inner.push(pass);
        }
        let last = self.last.pass(shape)?;
        let downsample = match &self.downsample {
            Some(conv) => Some(conv.pass(x.shape)?),
            None => None,
        };
        let mut y = Values::scratch(last.output());
        let mut maps = vec![x.shape, y.shape];
        maps.extend(inner.iter().map(FrozenPass::output));
        for part in parts(x.shape[0], self.at_once(&maps)) {
            let x = x.part(&part);
            let mut branch: Option<Buffer> = None;
            for pass in &inner {
                let mut y = room(pass, &part);
                pass.run(branch.as_deref().unwrap_or(x), Finish::Relu, &mut y)?;
                branch = Some(y);
            }
            let mut shortcut = None;
            if let Some(pass) = &downsample {
                let y = shortcut.insert(room(pass, &part));
                pass.run(x, Finish::Nothing, y)?;
            }
            let finish = Finish::AddRelu(shortcut.as_deref().unwrap_or(x));
            last.run(branch.as_deref().unwrap_or(x), finish, y.part_mut(&part))?;
        }
        Ok(y)
    }

    /// How many images go through the whole block before the next ones: as many as fit the cache with
    /// all their maps, which then go to memory only where the block begins and ends. But each part
    /// reads the weights again: where these are not far fewer than the values of the maps, all images
    /// go through one convolution after the other.
    fn at_once(&self, maps: &[[usize; 4]]) -> usize {
        let convs = self.inner.iter().chain([&self.last]);
        let weights: usize = (convs.chain(&self.downsample).map(FrozenConv::weight_len)).sum();
        let images = in_cache(maps);
        match 8 * weights <= images * of_image(maps) {
            true => images,
            false => usize::MAX,
        }
    }
}

/// A map (N, H, W, C).
struct Values {
    shape: [usize; 4],
    values: Buffer,
}

impl Values {
    fn scratch(shape: [usize; 4]) -> Self {
        Self {
            shape,
            values: Buffer::scratch(shape.iter().product()),
        }
    }

    fn range(&self, images: &Range<usize>) -> Range<usize> {
        let of_image = self.values.len() / self.shape[0];
        images.start * of_image..images.end * of_image
    }

    fn part(&self, images: &Range<usize>) -> &[f32] {
        &self.values[self.range(images)]
    }

    fn part_mut(&mut self, images: &Range<usize>) -> &mut [f32] {
        let range = self.range(images);
        &mut self.values[range]
    }

    /// The mean over places, (N, C).
    fn pooled(&self) -> Result<Tensor> {
        let [n, h, w, c] = self.shape;
        let mut pooled = vec![0.; n * c];
        pool::global_mean(&self.values, h * w, c, &mut pooled);
        Tensor::from_vec(pooled, (n, c), &Device::Cpu)
    }
}

/// Room for the output of `pass` for some images.
fn room(pass: &FrozenPass<'_>, images: &Range<usize>) -> Buffer {
    Buffer::scratch(images.len() * of_image(&[pass.output()]))
}

/// Values of one image in all of `maps`.
fn of_image(maps: &[[usize; 4]]) -> usize {
    maps.iter().map(|[_, h, w, c]| h * w * c).sum()
}

/// How many images fit the third-level cache with all of `maps`, at least one.
fn in_cache(maps: &[[usize; 4]]) -> usize {
    (AT_ONCE / of_image(maps)).max(1)
}

/// `n` images in as few even parts of at most `most` as possible.
fn parts(n: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    let parts = n.div_ceil(most);
    (0..parts).map(move |part| n * part / parts..n * (part + 1) / parts)
}
