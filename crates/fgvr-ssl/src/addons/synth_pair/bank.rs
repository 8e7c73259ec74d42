//! The bank of past features, on the host or on a device.

use std::collections::HashMap;

use candle_core::{Result, Tensor};
use fgvr_nn::Device;
use fgvr_nn::cuda::Array;
use fgvr_nn::cuda::ops::bank::{Bank, Statistics};
use fgvr_perturb::FeatureBank;

use crate::Rows;
use crate::step::values::DeviceRows;

/// What a block of the device's kernels ranks at once.
const CHANNELS: usize = 2048;

/// A [`FeatureBank`] in either place.
pub(super) enum PlacedBank {
    Host(FeatureBank),
    Device(Box<DeviceBank>),
}

/// A bank on a device, and what varies in it.
pub(super) struct DeviceBank {
    pub(super) device: Device,
    pub(super) bank: Bank,
    capacity: usize,
    pub(super) width: usize,
    statistics: Option<Statistics>,
}

impl PlacedBank {
    /// An empty one, on the host.
    pub(super) fn new(capacity: usize, width: usize) -> Result<Self> {
        FeatureBank::new(capacity, width, true).map(Self::Host)
    }

    /// Whether vectors of this width can be masked on a device.
    pub(super) fn fits_device(width: usize) -> bool {
        width <= CHANNELS
    }

    pub(super) fn width(&self) -> usize {
        match self {
            Self::Host(bank) => bank.width(),
            Self::Device(bank) => bank.width,
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Host(bank) => bank.len(),
            Self::Device(bank) => bank.len(),
        }
    }

    /// Takes it to `device`, or to the host; with `pairs`, one that holds two views of each image.
    pub(super) fn place(&mut self, device: Option<&Device>, pairs: bool) -> Result<()> {
        let placed = match (&*self, device) {
            (Self::Host(bank), Some(device)) => {
                Self::Device(Box::new(DeviceBank::new(device, bank, pairs)?))
            }
            (Self::Device(bank), None) => Self::Host(bank.to_host()?),
            _ => return Ok(()),
        };
        *self = placed;
        Ok(())
    }

    /// Stores features of real images (N, C), un-normalised; `seconds` in a bank of pairs.
    pub(super) fn push(&mut self, rows: &Rows, seconds: Option<&Rows>) -> Result<()> {
        match (self, rows, seconds) {
            (Self::Device(bank), Rows::Device(DeviceRows { array, .. }), None) => {
                bank.push(array, None)
            }
            (Self::Device(bank), Rows::Device(rows), Some(Rows::Device(seconds))) => {
                bank.push(&rows.array, Some(&seconds.array))
            }
            (Self::Host(bank), rows, None) => bank.push(&rows.to_host()?),
            (Self::Host(bank), rows, Some(seconds)) => {
                bank.push_pair(&rows.to_host()?, &seconds.to_host()?)
            }
            _ => candle_core::bail!(
                "feature bank: it is on a device, and the features are on the host"
            ),
        }
    }

    /// The fraction of channels that are zero throughout, once it is there.
    pub(super) fn dead(&mut self) -> Result<f64> {
        match self {
            Self::Host(bank) => bank.dead(),
            Self::Device(bank) => bank.dead(),
        }
    }

    /// Features of the two views of each image (M, C), of a bank of pairs, on the host.
    pub(super) fn views(&self) -> Result<[Tensor; 2]> {
        let state = match self {
            Self::Host(bank) => bank.state()?,
            Self::Device(bank) => bank.to_host()?.state()?,
        };
        match (state.get("features"), state.get("second_features")) {
            (Some(first), Some(second)) => Ok([first.clone(), second.clone()]),
            _ => candle_core::bail!("feature bank: it holds no second views"),
        }
    }

    /// A copy on the host.
    pub(super) fn to_host(&self) -> Result<FeatureBank> {
        match self {
            Self::Host(bank) => {
                let mut copy = FeatureBank::new(bank.capacity(), bank.width(), true)?;
                copy.load_state(&bank.state()?.into_iter().collect())?;
                Ok(copy)
            }
            Self::Device(bank) => bank.to_host(),
        }
    }
}

impl DeviceBank {
    /// A copy of `bank` on `device`; with `pairs`, of one that holds two views of each image.
    fn new(device: &Device, bank: &FeatureBank, pairs: bool) -> Result<Self> {
        let (capacity, width) = (bank.capacity(), bank.width());
        let mut copy = device.run(|m| Bank::new(m, capacity, width, pairs))?;
        let state = bank.state()?;
        let rows = |name: &str| match state.get(name) {
            Some(rows) => rows.flatten_all()?.to_vec1::<f32>().map(Some),
            None => Ok(None),
        };
        if let Some(first) = rows("features")? {
            let second = rows("second_features")?;
            let position = state["position"].to_vec1::<i64>()?[0] as usize;
            device.run(|m| {
                let first = Array::from_f32(m, &first)?;
                let second = second.map(|rows| Array::from_f32(m, &rows)).transpose()?;
                copy.restore(m, &first, second.as_ref(), position)
            })?;
        }
        Ok(Self {
            device: device.clone(),
            bank: copy,
            capacity,
            width,
            statistics: None,
        })
    }

    /// A copy on the CPU.
    pub(super) fn to_host(&self) -> Result<FeatureBank> {
        let mut copy = FeatureBank::new(self.capacity, self.width, true)?;
        let shape = (self.bank.len(), self.width);
        let rows = |rows: &Array| {
            let mut rows = self.device.values(rows)?;
            rows.truncate(shape.0 * shape.1);
            Tensor::from_vec(rows, shape, &candle_core::Device::Cpu)
        };
        let position = Tensor::new(&[self.bank.position() as i64], &candle_core::Device::Cpu)?;
        let mut state = HashMap::from([("position".to_owned(), position)]);
        if !self.bank.is_empty() {
            state.insert("features".to_owned(), rows(self.bank.rows())?);
            if let Some(seconds) = self.bank.seconds() {
                state.insert("second_features".to_owned(), rows(seconds)?);
            }
        }
        copy.load_state(&state)?;
        Ok(copy)
    }

    fn len(&self) -> usize {
        self.bank.len()
    }

    /// Stores features of real images (N, C); `seconds` in a bank of pairs.
    fn push(&mut self, rows: &Array, seconds: Option<&Array>) -> Result<()> {
        self.statistics = None;
        self.device.run(|m| self.bank.push(m, rows, seconds))
    }

    /// The fraction of channels that are zero throughout, once it is there.
    fn dead(&mut self) -> Result<f64> {
        let device = self.device.clone();
        let dead = device.values(&self.statistics()?.dead)?;
        Ok(dead.iter().map(|v| f64::from(*v)).sum::<f64>() / dead.len().max(1) as f64)
    }

    pub(super) fn statistics(&mut self) -> Result<&Statistics> {
        let made = match self.statistics.take() {
            Some(made) => made,
            None => self.device.run(|m| self.bank.statistics(m, true))?,
        };
        Ok(self.statistics.insert(made))
    }
}
