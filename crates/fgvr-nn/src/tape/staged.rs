//! Maps that no layer of a tape made: images sent to a device ahead of their use, and maps of other tapes.

use candle_core::{Result, Tensor, bail};
use fgvr_cuda::Array;
use fgvr_cuda::ops::layout::{self, Matrices};

use super::activation::Values;
use super::{Activation, Tape, with_values};
use crate::Device;

/// Images on their way to a device; [`Device::receive`] makes a map of them. Their memory is given back if they
/// are dropped instead.
pub struct Staged {
    bytes: fgvr_cuda::Staged,
    /// (N, H, W, C)
    shape: [usize; 4],
}

impl Staged {
    /// (N, H, W, C) of the map.
    #[must_use]
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }
}

impl std::fmt::Debug for Staged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Staged({:?})", self.shape)
    }
}

impl Device {
    /// Starts sending images (N, C, H, W) to the device, beside what it computes, and does not wait until they
    /// are there; the tensor is read when this returns. For another thread than the one that computes: see
    /// [`Machine::stage`](fgvr_cuda::Machine::stage).
    ///
    /// # Errors
    /// A tensor that is not f32 on the CPU with four dimensions; what the device says.
    pub fn stage(&self, images: &Tensor) -> Result<Staged> {
        let &[n, c, h, w] = images.dims() else {
            bail!("stage: expected (N, C, H, W), found {:?}", images.dims());
        };
        let bytes = with_values(images, |values| self.run(|m| Array::stage_f32(m, values)))??;
        Ok(Staged {
            bytes,
            shape: [n, h, w, c],
        })
    }

    /// Images (N, C, H, W) as a map that is on no tape: [`Device::stage`] and [`Device::receive`] at once.
    ///
    /// # Errors
    /// A tensor that is not f32 on the CPU with four dimensions; what the device says.
    pub fn send(&self, images: &Tensor) -> Result<Activation> {
        let &[n, c, h, w] = images.dims() else {
            bail!("send: expected (N, C, H, W), found {:?}", images.dims());
        };
        let shape = [n, h, w, c];
        let array = with_values(images, |values| self.upload_map(values, shape))??;
        Ok(Activation {
            id: OF_NO_TAPE,
            shape,
            values: Values::On(self.clone(), array),
        })
    }

    /// The map of what was staged on this device, in the device's type of maps. It is on no tape: several may take it,
    /// by [`Tape::constant`].
    ///
    /// # Errors
    /// What was staged on another device; what this one says.
    pub fn receive(&self, staged: Staged) -> Result<Activation> {
        let Staged { bytes, shape } = staged;
        let [n, h, w, c] = shape;
        // (N, C, H, W) -> (N, H, W, C)
        let array = self.run(|m| {
            let values = Array::receive_f32(m, bytes)?;
            layout::to_channels_last(m, &values, Matrices::of_maps([n, c, h, w]), self.real())
        })?;
        Ok(Activation {
            id: OF_NO_TAPE,
            shape,
            values: Values::On(self.clone(), array),
        })
    }
}

/// Tapes count their maps from 1.
pub(super) const OF_NO_TAPE: usize = 0;

impl Tape {
    /// Puts a map of another tape, or of none, on this one as a constant: the same values, not copied, whose
    /// gradient is not asked for. What the other tape records of it is not touched.
    ///
    /// # Errors
    /// A map that is elsewhere than this tape's maps are.
    pub fn constant(&mut self, map: &Activation) -> Result<Activation> {
        let map = self.entered(map)?;
        self.make_constant(&map);
        Ok(map)
    }

    /// As [`Tape::constant`], as the input whose gradient [`Tape::backward_from`] returns.
    ///
    /// # Errors
    /// A map that is elsewhere than this tape's maps are.
    pub fn enter(&mut self, map: &Activation) -> Result<Activation> {
        let map = self.entered(map)?;
        let [n, h, w, c] = map.shape;
        self.input = Some((map.id, map.shape, vec![n, c, h, w]));
        Ok(map)
    }

    fn entered(&mut self, map: &Activation) -> Result<Activation> {
        let fits = match (map.device(), self.device()) {
            (None, None) => true,
            (Some(one), Some(other)) => one.is(other),
            _ => false,
        };
        if !fits {
            let place = |device: Option<&Device>| {
                device.map_or_else(|| "the CPU".to_owned(), |device| format!("{device:?}"))
            };
            bail!(
                "tape: expected a map on {}, found one on {}",
                place(self.device()),
                place(map.device())
            );
        }
        Ok(Activation {
            id: self.id(),
            ..map.clone()
        })
    }
}
