//! A frozen convolutional network on the CPU: a few images at a time, as long as they are in the cache.

use candle_core::{Result, Tensor};
use fgvr_nn::kernels::pool::{self, PoolShape};
use fgvr_nn::layers::{ActivationFunction, Finish, FrozenConv, FrozenPass};
use fgvr_nn::{Buffer, Features, Tape, images};

use super::Frozen;
use super::convolutional::{FrozenBlock, FrozenConvNet};
use super::host_map::{HostMap, in_cache, of_image, parts, room};

impl Frozen for FrozenConvNet<FrozenConv> {
    fn features(&self, tape: &mut Tape, images: &Tensor) -> Result<Features> {
        let map = self.forward(tape, images)?;
        Ok(Features {
            pooled: map.pooled()?,
            map: map.into_tensor(tape)?,
        })
    }

    fn embed(&self, tape: &mut Tape, images: &Tensor) -> Result<Tensor> {
        self.forward(tape, images)?.pooled()
    }
}

impl FrozenConvNet<FrozenConv> {
    fn forward(&self, tape: &mut Tape, images: &Tensor) -> Result<HostMap> {
        let mut x = self.enter(tape, images)?;
        for block in &self.blocks {
            x = block.apply(&x, self.activation)?;
        }
        let Some(head) = &self.head else {
            return Ok(x);
        };
        let head = head.pass(x.shape)?;
        let mut y = HostMap::scratch(head.output());
        head.run(&x.values, self.activation.into(), &mut y.values)?;
        Ok(y)
    }

    /// The stem, and the pooling after it while the stem's map is in the cache.
    fn enter(&self, tape: &mut Tape, images: &Tensor) -> Result<HostMap> {
        let shape = images::shape(images)?;
        let stem = self.stem.pass(shape)?;
        let pool = self.pool.as_ref().map(|cfg| PoolShape {
            input: stem.output(),
            kernel: cfg.kernel,
            stride: cfg.stride,
            padding: cfg.padding,
        });
        let mut maps = vec![shape, stem.output()];
        maps.extend(pool.map(|pool| pool.output()));
        let mut y = HostMap::scratch(maps[maps.len() - 1]);
        for part in parts(shape[0], in_cache(&maps)) {
            // (n, 3, H, W) -> (n, H, W, 3)
            let images = images.narrow(0, part.start, part.len())?;
            let images = tape.input(&images, false)?;
            let y = y.part_mut(&part);
            let Some(pool) = pool else {
                stem.run(images.data()?, self.activation.into(), y)?;
                continue;
            };
            let mut x = room(&stem, &part);
            stem.run(images.data()?, self.activation.into(), &mut x)?;
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

impl FrozenBlock<FrozenConv> {
    fn apply(&self, x: &HostMap, activation: ActivationFunction) -> Result<HostMap> {
        let mut shape = x.shape;
        let mut inner = Vec::with_capacity(self.inner.len());
        for conv in &self.inner {
            let pass = conv.pass(shape)?;
            shape = pass.output();
            inner.push(pass);
        }
        let last = self.last.pass(shape)?;
        let projection = match self.shortcut.projection() {
            Some(conv) => Some(conv.pass(x.shape)?),
            None => None,
        };
        let mut y = HostMap::scratch(last.output());
        let mut maps = vec![x.shape, y.shape];
        maps.extend(inner.iter().map(FrozenPass::output));
        for part in parts(x.shape[0], self.at_once(&maps)) {
            let x = x.part(&part);
            let mut branch: Option<Buffer> = None;
            for pass in &inner {
                let mut y = room(pass, &part);
                pass.run(branch.as_deref().unwrap_or(x), activation.into(), &mut y)?;
                branch = Some(y);
            }
            let mut projected = None;
            if let Some(pass) = &projection {
                let y = projected.insert(room(pass, &part));
                pass.run(x, Finish::Nothing, y)?;
            }
            let finish = self.shortcut.finish(projected.as_deref().unwrap_or(x));
            last.run(branch.as_deref().unwrap_or(x), finish, y.part_mut(&part))?;
        }
        Ok(y)
    }

    /// How many images go through the whole block before the next ones: as many as fit the cache with
    /// all their maps, which then go to memory only where the block begins and ends (and inside an inverted
    /// residual block they are six times as wide). But each part reads the weights again: where these are
    /// not far fewer than the values of the maps, all images go through one convolution after the other.
    fn at_once(&self, maps: &[[usize; 4]]) -> usize {
        let convs = self.inner.iter().chain([&self.last]);
        let convs = convs.chain(self.shortcut.projection());
        let weights: usize = convs.map(FrozenConv::weight_len).sum();
        let images = in_cache(maps);
        match 8 * weights <= images * of_image(maps) {
            true => images,
            false => usize::MAX,
        }
    }
}
