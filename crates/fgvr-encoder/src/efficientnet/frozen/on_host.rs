//! A frozen EfficientNet-Lite on the CPU: a few images at a time, as long as they are in the cache.

use candle_core::{Result, Tensor};
use fgvr_nn::layers::{Finish, FrozenConv, FrozenPass};
use fgvr_nn::{Buffer, Features, Tape};

use crate::frozen::values::{Values, in_cache, of_image, parts, room};
use fgvr_nn::images;

/// A frozen network on the CPU.
pub(in crate::efficientnet) struct OnHost {
    pub(in crate::efficientnet) stem: FrozenConv,
    pub(in crate::efficientnet) blocks: Vec<FrozenBlock>,
    pub(in crate::efficientnet) head: FrozenConv,
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
        let head = self.head.pass(x.shape)?;
        let mut y = Values::scratch(head.output());
        head.run(&x.values, Finish::Relu6, &mut y.values)?;
        Ok(y)
    }

    fn enter(&self, images: &Tensor) -> Result<Values> {
        let shape = images::shape(images)?;
        let stem = self.stem.pass(shape)?;
        let mut y = Values::scratch(stem.output());
        for part in parts(shape[0], in_cache(&[shape, stem.output()])) {
            // (n, 3, H, W) -> (n, H, W, 3)
            let images = images.narrow(0, part.start, part.len())?;
            let images = Tape::inference().input(&images, false)?;
            stem.run(images.data()?, Finish::Relu6, y.part_mut(&part))?;
        }
        Ok(y)
    }
}

/// As [`Block`](crate::efficientnet::block::Block).
pub(in crate::efficientnet) struct FrozenBlock {
    pub(in crate::efficientnet) inner: Vec<FrozenConv>,
    pub(in crate::efficientnet) project: FrozenConv,
    pub(in crate::efficientnet) skip: bool,
}

impl FrozenBlock {
    /// Images go through the whole block a few at a time: its inner maps are six times as wide as its ends, and go to
    /// memory only if they leave the cache.
    fn apply(&self, x: &Values) -> Result<Values> {
        let mut shape = x.shape;
        let mut inner = Vec::with_capacity(self.inner.len());
        for conv in &self.inner {
            let pass = conv.pass(shape)?;
            shape = pass.output();
            inner.push(pass);
        }
        let project = self.project.pass(shape)?;
        let mut y = Values::scratch(project.output());
        let mut maps = vec![x.shape, y.shape];
        maps.extend(inner.iter().map(FrozenPass::output));
        for part in parts(x.shape[0], self.at_once(&maps)) {
            let x = x.part(&part);
            let mut branch: Option<Buffer> = None;
            for pass in &inner {
                let mut y = room(pass, &part);
                pass.run(branch.as_deref().unwrap_or(x), Finish::Relu6, &mut y)?;
                branch = Some(y);
            }
            let finish = match self.skip {
                true => Finish::Add(x),
                false => Finish::Nothing,
            };
            project.run(branch.as_deref().unwrap_or(x), finish, y.part_mut(&part))?;
        }
        Ok(y)
    }

    /// As in a residual network: unless the weights, which each part reads again, are not far fewer than the values of
    /// the maps.
    fn at_once(&self, maps: &[[usize; 4]]) -> usize {
        let convs = self.inner.iter().chain([&self.project]);
        let weights: usize = convs.map(FrozenConv::weight_len).sum();
        let images = in_cache(maps);
        match 8 * weights <= images * of_image(maps) {
            true => images,
            false => usize::MAX,
        }
    }
}
