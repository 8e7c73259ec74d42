//! A frozen EfficientNet-Lite on a device: a batch through one convolution after the other, nothing recorded.

use candle_core::{Result, Tensor};
use fgvr_nn::layers::{DeviceConv, Finish, mean_of_places};
use fgvr_nn::{Device, Features, Map, Tape};

use fgvr_nn::images;

/// A frozen network on a device.
pub(in crate::efficientnet) struct OnDevice {
    pub(in crate::efficientnet) device: Device,
    pub(in crate::efficientnet) stem: DeviceConv,
    pub(in crate::efficientnet) blocks: Vec<BlockThere>,
    pub(in crate::efficientnet) head: DeviceConv,
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
        let mut x = self.stem.apply(&mut tape, &images, Finish::Relu6)?;
        for block in &self.blocks {
            x = block.apply(&mut tape, &x)?;
        }
        self.head.apply(&mut tape, &x, Finish::Relu6)
    }
}

/// As [`Block`](crate::efficientnet::block::Block).
pub(in crate::efficientnet) struct BlockThere {
    pub(in crate::efficientnet) inner: Vec<DeviceConv>,
    pub(in crate::efficientnet) project: DeviceConv,
    pub(in crate::efficientnet) skip: bool,
}

impl BlockThere {
    fn apply(&self, tape: &mut Tape, x: &Map) -> Result<Map> {
        let mut branch = None;
        for conv in &self.inner {
            let y = conv.apply(tape, branch.as_ref().unwrap_or(x), Finish::Relu6)?;
            branch = Some(y);
        }
        let finish = match self.skip {
            true => Finish::Add(x),
            false => Finish::Nothing,
        };
        self.project
            .apply(tape, branch.as_ref().unwrap_or(x), finish)
    }
}
