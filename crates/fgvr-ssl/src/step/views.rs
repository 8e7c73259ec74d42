//! What a base is given to look at: two views of each image, and for some bases small crops of it.

use candle_core::{Result, Tensor, bail};
use fgvr_nn::{Activation, Device};

use crate::Values;

/// Augmented, normalised views of the same images.
#[derive(Clone, Copy, Debug)]
pub struct Views<'a> {
    /// Two views (N, 3, H, W).
    pub global: [&'a Tensor; 2],
    /// Smaller crops, each (N, 3, h, w), for bases trained with multi-crop; empty otherwise.
    pub local: &'a [Tensor],
    /// The global views where they were sent to a device already, (N, H, W, 3) each: what a base whose step is there
    /// takes, in place of sending them itself.
    pub sent: Option<&'a [Activation; 2]>,
}

impl<'a> Views<'a> {
    /// The view that [`crate::Branch::view`] counts: the two global ones, then the local ones.
    ///
    /// # Errors
    /// A number beyond the last view.
    pub fn get(&self, view: usize) -> Result<&'a Tensor> {
        match (self.global.get(view), view.checked_sub(2)) {
            (Some(global), _) => Ok(global),
            (None, Some(local)) if local < self.local.len() => Ok(&self.local[local]),
            _ => bail!("views: no view {view} of {}", 2 + self.local.len()),
        }
    }

    /// The two global views, for a base that has no use for others, on `device` or on the host.
    pub(crate) fn only_global(self, base: &str, device: Option<&Device>) -> Result<[Values; 2]> {
        match self.local.len() {
            0 => {}
            n => {
                bail!("{base}: found {n} local crops, expected none; only dino is trained on them")
            }
        }
        let [first, second] = self.global;
        match (device, self.sent) {
            (None, _) => Ok([first.into(), second.into()]),
            (Some(_), Some(sent)) => Ok(sent.clone().map(Values::Device)),
            (Some(device), None) => {
                let sent = [device.send(first)?, device.send(second)?];
                Ok(sent.map(Values::Device))
            }
        }
    }
}

impl<'a> From<[&'a Tensor; 2]> for Views<'a> {
    fn from(global: [&'a Tensor; 2]) -> Self {
        Self {
            global,
            local: &[],
            sent: None,
        }
    }
}
