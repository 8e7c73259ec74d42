//! Values of a batch, on the host or on a device: what bases and add-ons are written in.

use candle_core::{Result, Tensor, bail};
use fgvr_nn::cuda::ops::pad::{Border, pad};
use fgvr_nn::cuda::ops::squared_error::mean_absolute_error;
use fgvr_nn::cuda::ops::unit_rows::unit_rows;
use fgvr_nn::cuda::ops::{elementwise, gather::gather_rows, layout};
use fgvr_nn::cuda::{Array, DType, ops};
use fgvr_nn::{Activation, Device, Encoder, FeatureMaps, Features, NormMode, Parameters, Tape};

use crate::bases::head::{SHORTEST, l2_normalise};
use crate::losses::info_nce::scalar;

/// Images, feature maps, or one vector an image.
#[derive(Clone, Debug)]
pub enum Values {
    /// (N, C, H, W) or (N, C), on candle's autograd if it is there.
    Host(Tensor),
    /// (N, H, W, C) or (N, 1, 1, C), in the device's type of maps.
    Device(Activation),
}

/// Vectors (N, C) of f32, without a way back.
#[derive(Clone, Debug)]
pub enum Rows {
    /// As a tensor.
    Host(Tensor),
    /// Whatever the device's type of maps.
    Device(DeviceRows),
}

/// [`Rows`] on a device.
#[derive(Clone)]
pub struct DeviceRows {
    pub(crate) device: Device,
    pub(crate) array: Array,
    /// (N, C)
    pub(crate) shape: [usize; 2],
}

impl std::fmt::Debug for DeviceRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeviceRows({:?} on {:?})", self.shape, self.device)
    }
}

impl From<&Tensor> for Values {
    fn from(tensor: &Tensor) -> Self {
        Self::Host(tensor.clone())
    }
}

impl Values {
    /// Where they are, if not on the host.
    #[must_use]
    pub fn device(&self) -> Option<&Device> {
        match self {
            Self::Host(_) => None,
            Self::Device(map) => map.device(),
        }
    }

    /// A tensor: as it is on the host, (N, C, H, W) of those on a device.
    ///
    /// # Errors
    /// What the device says.
    pub fn to_host(&self) -> Result<Tensor> {
        match self {
            Self::Host(tensor) => Ok(tensor.clone()),
            Self::Device(map) => map.to_tensor(),
        }
    }

    /// A map on `device`: as it is there, of images or feature maps (N, C, H, W) otherwise.
    ///
    /// # Errors
    /// A map on another device; what the device says.
    pub fn to_device(&self, device: &Device) -> Result<Activation> {
        match self {
            Self::Host(tensor) if tensor.rank() == 2 => {
                device.send(&tensor.unsqueeze(2)?.unsqueeze(3)?) // (N, C) -> (N, C, 1, 1)
            }
            Self::Host(tensor) => device.send(tensor),
            Self::Device(map) if map.device().is_some_and(|own| own.is(device)) => Ok(map.clone()),
            Self::Device(map) => bail!("expected values on {device:?}, found {map:?}"),
        }
    }

    /// N.
    pub(crate) fn len(&self) -> Result<usize> {
        match self {
            Self::Host(tensor) => tensor.dim(0),
            Self::Device(map) => Ok(map.shape()[0]),
        }
    }

    /// As they are in their place; a copy otherwise.
    pub(crate) fn placed(&self, device: Option<&Device>) -> Result<Self> {
        match device {
            Some(device) => self.to_device(device).map(Self::Device),
            None => self.to_host().map(Self::Host),
        }
    }

    /// Image i of the result is image `order[i]`.
    pub(crate) fn reordered(&self, order: &[u32]) -> Result<Self> {
        match self {
            Self::Host(tensor) => {
                let order = Tensor::from_slice(order, order.len(), tensor.device())?;
                tensor.index_select(&order, 0).map(Self::Host)
            }
            Self::Device(map) => {
                let (device, [n, h, w, c]) = (device_of(map)?, map.shape());
                let (array, rows) = (map.array()?, ops::Rows::new(n, h * w * c));
                let rows =
                    device.run(|m| gather_rows(m, array, &Array::from_u32(m, order)?, rows))?;
                Activation::new(device, [order.len(), h, w, c], rows).map(Self::Device)
            }
        }
    }

    /// `count` images from `start` on.
    pub(crate) fn narrow(&self, start: usize, count: usize) -> Result<Self> {
        match self {
            Self::Host(tensor) => tensor.narrow(0, start, count).map(Self::Host),
            Self::Device(map) if (start, count) == (0, map.shape()[0]) => Ok(self.clone()),
            Self::Device(_) => {
                let order: Vec<u32> = (start as u32..(start + count) as u32).collect();
                self.reordered(&order)
            }
        }
    }

    /// One as it is, two one under the other.
    pub(crate) fn stack(parts: &[Self]) -> Result<Self> {
        match parts {
            [one] => Ok(one.clone()),
            [Self::Device(first), Self::Device(second)] => {
                let device = device_of(first)?;
                let ([n, h, w, c], [more, ..]) = (first.shape(), second.shape());
                // A border of zeros below the one and above the other, and their sum.
                let below = |rows, top, bottom| Border {
                    inner: [1, rows, 1, h * w * c],
                    top,
                    left: 0,
                    bottom,
                    right: 0,
                };
                let (a, b) = (first.array()?, second.array()?);
                let sum = device.run(|m| {
                    let sum = pad(m, a, &below(n, 0, more))?;
                    elementwise::add_to(m, &sum, &pad(m, b, &below(more, n, 0))?)?;
                    Ok(sum)
                })?;
                Activation::new(device, [n + more, h, w, c], sum).map(Self::Device)
            }
            many => {
                let tensors = many.iter().map(Self::to_host).collect::<Result<Vec<_>>>()?;
                Tensor::cat(&tensors, 0).map(Self::Host)
            }
        }
    }

    /// `factor` times these.
    pub(crate) fn scaled(&self, factor: f64) -> Result<Self> {
        match self {
            Self::Host(tensor) => (tensor * factor).map(Self::Host),
            Self::Device(map) => {
                let (device, array) = (device_of(map)?, map.array()?);
                let scaled = device.run(|m| elementwise::scale(m, array, factor as f32))?;
                Activation::new(device, map.shape(), scaled).map(Self::Device)
            }
        }
    }

    pub(crate) fn zeros_like(&self) -> Result<Self> {
        match self {
            Self::Host(tensor) => tensor.zeros_like().map(Self::Host),
            Self::Device(_) => self.scaled(0.),
        }
    }

    /// The mean of |a - b|.
    pub(crate) fn distance(&self, other: &Self) -> Result<Scalar> {
        match (self, other) {
            (Self::Host(a), Self::Host(b)) => {
                scalar(&(a - b)?.abs()?.mean_all()?).map(Scalar::Host)
            }
            (Self::Device(a), Self::Device(b)) => {
                let (device, a, b) = (device_of(a)?, a.array()?, b.array()?);
                let mean = device.run(|m| mean_absolute_error(m, a, b))?;
                Ok(Scalar::Device(device.clone(), mean))
            }
            _ => bail!("distance: values in two places"),
        }
    }

    /// Vectors, each divided by its length, as [`l2_normalise`]; without a way back.
    pub(crate) fn unit(&self) -> Result<Rows> {
        match self {
            Self::Host(tensor) => l2_normalise(&tensor.detach()).map(Rows::Host),
            Self::Device(map) => {
                let (device, shape) = (device_of(map)?, vectors(map)?);
                let (array, rows) = (map.array()?, ops::Rows::new(shape[0], shape[1]));
                let array = device.run(|m| Ok(unit_rows(m, array, rows, SHORTEST)?.rows))?;
                Ok(Rows::on(device, array, shape))
            }
        }
    }

    /// Vectors without a way back.
    pub(crate) fn rows(&self) -> Result<Rows> {
        match self {
            Self::Host(tensor) => Ok(Rows::Host(tensor.detach())),
            Self::Device(map) => {
                let (device, shape) = (device_of(map)?, vectors(map)?);
                Ok(Rows::on(device, wide(device, map)?, shape))
            }
        }
    }

    /// Without a way back.
    pub(crate) fn detach(&self) -> Self {
        match self {
            Self::Host(tensor) => Self::Host(tensor.detach()),
            Self::Device(map) => Self::Device(map.clone()),
        }
    }
}

impl Rows {
    /// Rows of `shape` (N, C), f32, on `device`.
    pub(crate) fn on(device: &Device, array: Array, shape: [usize; 2]) -> Self {
        Self::Device(DeviceRows {
            device: device.clone(),
            array,
            shape,
        })
    }

    /// (N, C)
    pub(crate) fn shape(&self) -> Result<[usize; 2]> {
        match self {
            Self::Host(tensor) => tensor.dims2().map(Into::into),
            Self::Device(rows) => Ok(rows.shape),
        }
    }

    /// A tensor (N, C), once they are there.
    ///
    /// # Errors
    /// What the device says.
    pub fn to_host(&self) -> Result<Tensor> {
        match self {
            Self::Host(tensor) => Ok(tensor.clone()),
            Self::Device(DeviceRows {
                device,
                array,
                shape: [n, c],
            }) => Tensor::from_vec(device.values(array)?, (*n, *c), &candle_core::Device::Cpu),
        }
    }

    /// The same as a network takes them, in the type of maps.
    pub(crate) fn values(&self) -> Result<Values> {
        match self {
            Self::Host(tensor) => Ok(Values::Host(tensor.clone())),
            Self::Device(DeviceRows {
                device,
                array,
                shape: [n, c],
            }) => narrowed(device, array, [*n, 1, 1, *c]).map(Values::Device),
        }
    }
}

/// f32 on `device` as a map of `shape` in its type of maps.
pub(crate) fn narrowed(device: &Device, array: &Array, shape: [usize; 4]) -> Result<Activation> {
    let dtype = device.real().into();
    let array = match dtype {
        DType::F32 => array.clone(),
        _ => device.run(|m| layout::cast(m, array, dtype))?,
    };
    Activation::new(device, shape, array)
}

/// Features of an encoder without a way back: the last map and the pooled features.
pub(crate) fn features(
    encoder: &dyn Encoder,
    images: &Values,
    norm: NormMode,
) -> Result<(Values, Values)> {
    match images {
        Values::Host(images) => {
            let Features { map, pooled } = encoder.features(images, norm)?;
            Ok((Values::Host(map.detach()), Values::Host(pooled.detach())))
        }
        Values::Device(images) => {
            let mut tape = Tape::inference().on(images.device());
            let images = tape.constant(images)?;
            let FeatureMaps { map, pooled } = encoder.apply(&mut tape, &images, norm)?;
            Ok((Values::Device(map), Values::Device(pooled)))
        }
    }
}

/// Takes heads to `device`, or their values to the host, for what is to run there.
pub(crate) fn place<'a>(
    heads: impl IntoIterator<Item = &'a Parameters>,
    device: Option<&Device>,
) -> Result<()> {
    heads.into_iter().try_for_each(|head| match device {
        Some(device) if head.device().is_none() => head.to_device(device),
        Some(_) => Ok(()),
        None => head.to_host(),
    })
}

/// Where all of these live and `encoder` runs, if that is one device.
pub(crate) fn device_of_all<'a>(
    encoder: &dyn Encoder,
    networks: impl IntoIterator<Item = &'a Parameters>,
) -> Option<Device> {
    let device = encoder.device()?;
    let here = |network: &Parameters| network.device().is_some_and(|own| own.is(device));
    networks.into_iter().all(here).then(|| device.clone())
}

/// A number, once it is there.
pub(crate) enum Scalar {
    Host(f64),
    Device(Device, Array),
}

impl Scalar {
    pub(crate) fn value(&self) -> Result<f64> {
        match self {
            Self::Host(value) => Ok(*value),
            Self::Device(device, array) => {
                let values = device.values(array)?;
                Ok(values.first().map_or(f64::NAN, |value| f64::from(*value)))
            }
        }
    }
}

/// Where a map on a device is.
pub(crate) fn device_of(map: &Activation) -> Result<&Device> {
    match map.device() {
        Some(device) => Ok(device),
        None => bail!(
            "expected a map on a device, found {:?} on the host",
            map.shape()
        ),
    }
}

/// The values of a map as f32.
pub(crate) fn wide(device: &Device, map: &Activation) -> Result<Array> {
    let array = map.array()?;
    match array.dtype() {
        DType::F32 => Ok(array.clone()),
        _ => device.run(|m| layout::cast(m, array, DType::F32)),
    }
}

/// Rows and channels of a map of one place.
pub(crate) fn vectors(map: &Activation) -> Result<[usize; 2]> {
    match map.shape() {
        [n, 1, 1, c] => Ok([n, c]),
        shape => bail!("expected vectors (N, 1, 1, C), found {shape:?}"),
    }
}
