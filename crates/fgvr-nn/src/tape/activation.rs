//! What flows along a tape.

use std::sync::Arc;

use candle_core::Device::Cpu;
use candle_core::{Result, Tensor, bail};
use fgvr_cuda::Array;

use super::to_channels_first;
use crate::{Buffer, Device};

/// A channels-last activation (N, H, W, C) on a tape.
#[derive(Clone, Debug)]
pub struct Activation {
    pub(crate) id: usize,
    pub(crate) shape: [usize; 4],
    pub(super) values: Values,
}

/// Where a map's values are.
#[derive(Clone)]
pub(super) enum Values {
    Host(Arc<Buffer>),
    On(Device, Array),
}

impl std::fmt::Debug for Values {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host(buffer) => write!(f, "{buffer:?}"),
            Self::On(device, array) => write!(f, "{} values on {device:?}", array.len()),
        }
    }
}

impl Activation {
    /// (N, H, W, C).
    #[must_use]
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// The values, channels-last.
    ///
    /// # Errors
    /// A map that is not on the CPU.
    pub fn data(&self) -> Result<&[f32]> {
        Ok(self.host()?)
    }

    /// The values of a map on the CPU.
    pub(crate) fn host(&self) -> Result<&Arc<Buffer>> {
        match &self.values {
            Values::Host(buffer) => Ok(buffer),
            Values::On(..) => bail!(
                "a layer that runs on the CPU alone was given a map of {:?} (N, H, W, C) on a GPU",
                self.shape
            ),
        }
    }

    /// A map of `shape` (N, H, W, C) that is on no tape, of values on a device in its type of maps:
    /// [`Tape::constant`](super::Tape::constant) puts it on one.
    ///
    /// # Errors
    /// Another number or type of values.
    pub fn new(device: &Device, shape: [usize; 4], array: Array) -> Result<Self> {
        let expected = (shape.iter().product::<usize>(), device.real().into());
        if (array.len(), array.dtype()) != expected {
            bail!(
                "map: {} values of {:?}, expected {expected:?} for {shape:?} (N, H, W, C)",
                array.len(),
                array.dtype()
            );
        }
        Ok(Self {
            id: super::staged::OF_NO_TAPE,
            shape,
            values: Values::On(device.clone(), array),
        })
    }

    /// Where the values are, if not on the CPU.
    #[must_use]
    pub fn device(&self) -> Option<&Device> {
        match &self.values {
            Values::Host(_) => None,
            Values::On(device, _) => Some(device),
        }
    }

    /// The values of a map on a device, in its type of maps.
    ///
    /// # Errors
    /// A map on the CPU.
    pub fn array(&self) -> Result<&Array> {
        match &self.values {
            Values::On(_, array) => Ok(array),
            Values::Host(_) => bail!(
                "a layer on a GPU was given a map of {:?} (N, H, W, C) on the CPU",
                self.shape
            ),
        }
    }

    /// A candle tensor (N, C, H, W) with the same values.
    ///
    /// # Errors
    /// What a GPU says, if the map is on one.
    pub fn to_tensor(&self) -> Result<Tensor> {
        let [n, h, w, c] = self.shape;
        let values = match &self.values {
            Values::Host(buffer) => to_channels_first(buffer, self.shape),
            Values::On(device, array) => device.download_map(array, self.shape)?,
        };
        Tensor::from_vec(values, (n, c, h, w), &Cpu)
    }
}
