//! A frozen convolutional network on a device: a batch through one convolution after the other, nothing recorded.

use candle_core::{Result, Tensor};
use fgvr_nn::layers::{ActivationFunction, DeviceConv, Finish, max_pool, mean_of_places};
use fgvr_nn::{Activation, Features, Tape, images};

use super::Frozen;
use super::convolutional::{FrozenBlock, FrozenConvNet};

impl Frozen for FrozenConvNet<DeviceConv> {
    fn features(&self, tape: &mut Tape, images: &Tensor) -> Result<Features> {
        let map = self.forward(tape, images)?;
        Ok(Features {
            pooled: mean_of_places(&map)?,
            map: map.to_tensor()?,
        })
    }

    fn embed(&self, tape: &mut Tape, images: &Tensor) -> Result<Tensor> {
        mean_of_places(&self.forward(tape, images)?)
    }
}

impl FrozenConvNet<DeviceConv> {
    fn forward(&self, tape: &mut Tape, images: &Tensor) -> Result<Activation> {
        let images = images::input(tape, images, false)?;
        let mut x = self.stem.apply(tape, &images, self.activation.into())?;
        if let Some(pool) = &self.pool {
            x = max_pool(tape, &x, pool)?;
        }
        for block in &self.blocks {
            x = block.apply(tape, &x, self.activation)?;
        }
        match &self.head {
            Some(head) => head.apply(tape, &x, self.activation.into()),
            None => Ok(x),
        }
    }
}

impl FrozenBlock<DeviceConv> {
    fn apply(
        &self,
        tape: &mut Tape,
        x: &Activation,
        activation: ActivationFunction,
    ) -> Result<Activation> {
        let mut branch = None;
        for conv in &self.inner {
            let y = conv.apply(tape, branch.as_ref().unwrap_or(x), activation.into())?;
            branch = Some(y);
        }
        let projected = match self.shortcut.projection() {
            Some(conv) => Some(conv.apply(tape, x, Finish::Nothing)?),
            None => None,
        };
        let finish = self.shortcut.finish(projected.as_ref().unwrap_or(x));
        self.last.apply(tape, branch.as_ref().unwrap_or(x), finish)
    }
}
