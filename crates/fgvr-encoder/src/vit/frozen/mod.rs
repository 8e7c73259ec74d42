//! A vision transformer for inference: weights in order once, layer scale folded into them.

use candle_core::Result;

use super::Vit;
use crate::FrozenBackbone;

mod block;
mod on_device;
mod on_host;

use on_device::OnDevice;
use on_host::OnHost;

impl Vit {
    /// The network as it is now, made ready to embed many images where it runs: see [`FrozenBackbone`]. Its variables
    /// are read as the CPU has them.
    ///
    /// # Errors
    /// Variables that are not f32 on the CPU; what a GPU says, if the network is on one.
    pub fn freeze(&self) -> Result<FrozenBackbone> {
        FrozenBackbone::new(
            self.config.out_channels(),
            self.device.as_ref(),
            || OnHost::new(self),
            |device| OnDevice::new(self, device),
        )
    }
}

/// The class and register tokens, (prefix, C).
fn prefix(vit: &Vit) -> Result<Vec<f32>> {
    let mut prefix = Vec::new();
    for tokens in [Some(&vit.class), vit.registers.as_ref()]
        .into_iter()
        .flatten()
    {
        prefix.extend(tokens.flatten_all()?.to_vec1::<f32>()?);
    }
    Ok(prefix)
}
