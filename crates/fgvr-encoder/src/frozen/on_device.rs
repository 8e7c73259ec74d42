//! A frozen residual network on a device: a batch through one convolution after the other, nothing recorded.

use candle_core::{Result, Tensor};
use fgvr_nn::layers::{DeviceConv, Finish, PoolConfig, max_pool, mean_of_places};
use fgvr_nn::{Device, Features, Map, Tape};

use fgvr_nn::images;

/// A frozen network on a device.
pub(crate) struct OnDevice {
    pub(crate) device: Device,
    pub(crate) stem: DeviceConv,
    pub(crate) pool: Option<PoolConfig>,
    pub(crate) blocks: Vec<BlockThere>,
}

impl OnDevice {
    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    pub(super) fn features(&self, images: &Tensor) -> Result<Features> {
        let map = self.forward(images)?;
        Ok(Features {
            pooled: mean_of_places(&map)?,
            map: map.to_tensor()?,
        })
    }

    pub(super) fn embed(&self, images: &Tensor) -> Result<Tensor> {
        mean_of_places(&self.forward(images)?)
    }

    fn forward(&self, images: &Tensor) -> Result<Map> {
        let mut tape = Tape::inference().on(Some(&self.device));
        let images = images::input(&mut tape, images, false)?;
        let mut x = self.stem.apply(&mut tape, &images, Finish::Relu)?;
        if let Some(pool) = &self.pool {
            x = max_pool(&mut tape, &x, pool)?;
        }
        for block in &self.blocks {
            x = block.apply(&mut tape, &x)?;
        }
        Ok(x)
    }
}

/// As [`Block`](crate::block::Block).
pub(crate) struct BlockThere {
    pub(crate) inner: Vec<DeviceConv>,
    pub(crate) last: DeviceConv,
    pub(crate) downsample: Option<DeviceConv>,
}

impl BlockThere {
    fn apply(&self, tape: &mut Tape, x: &Map) -> Result<Map> {
        let mut branch = None;
        for conv in &self.inner {
            let y = conv.apply(tape, branch.as_ref().unwrap_or(x), Finish::Relu)?;
            branch = Some(y);
        }
        let projected = match &self.downsample {
            Some(conv) => Some(conv.apply(tape, x, Finish::Nothing)?),
            None => None,
        };
        let shortcut = projected.as_ref().unwrap_or(x);
        let branch = branch.as_ref().unwrap_or(x);
        self.last.apply(tape, branch, Finish::AddRelu(shortcut))
    }
}
