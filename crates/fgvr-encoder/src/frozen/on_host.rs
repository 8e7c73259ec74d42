//! A frozen residual network on the CPU: a few images at a time, as long as they are in the cache.

use candle_core::{Result, Tensor};
use fgvr_nn::kernels::pool::{self, PoolShape};
use fgvr_nn::layers::{Finish, FrozenConv, FrozenPass, PoolConfig};
use fgvr_nn::{Buffer, Features, Tape};

use super::values::{Values, in_cache, of_image, parts, room};
use fgvr_nn::images;

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
            map: map.into_tensor()?,
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
