//! A map whose norm has not been applied yet: what reads it applies it on the way, so that the
//! normalised values need not be written and read again.

use std::sync::Arc;

use candle_core::{Result, bail};

use super::normalisation::Normalisation;
use super::on_device::DeviceNormed;
use crate::kernels::activation::ActivationFunction;
use crate::kernels::norm::{self, GradSums};
use crate::tape::NormedGradient;
use crate::{Activation, Buffer, Tape};

/// The output of a [`ConvNorm`](super::ConvNorm), (N, H, W, C): the convolution's values, and the norm
/// that is still to be applied. Whoever takes it does that; there is one such reader.
#[derive(Debug)]
#[must_use = "nothing is normalised until something reads it"]
pub struct Normed(pub(super) NormedStorage);

/// Its values, on the CPU or on a device.
#[derive(Debug)]
pub(super) enum NormedStorage {
    Host(HostNormed),
    Device(DeviceNormed),
}

/// On the CPU.
#[derive(Debug)]
pub(super) struct HostNormed {
    pub(super) id: usize,
    pub(super) shape: [usize; 4],
    pub(super) values: Arc<Buffer>,
    pub(super) norm: Arc<Normalisation>,
}

/// What a [`ConvNorm`](super::ConvNorm) reads.
#[derive(Debug)]
pub enum ConvInput<'a> {
    /// A map as it is.
    Map(&'a Activation),
    /// A normed map, rectified.
    Relu(Normed),
    /// A normed map, cut off below 0 and above 6.
    Relu6(Normed),
}

impl<'a> From<&'a Activation> for ConvInput<'a> {
    fn from(map: &'a Activation) -> Self {
        Self::Map(map)
    }
}

impl ConvInput<'_> {
    /// (N, H, W, C).
    pub(super) fn shape(&self) -> [usize; 4] {
        match self {
            Self::Map(map) => map.shape,
            Self::Relu(normed) | Self::Relu6(normed) => normed.shape(),
        }
    }
}

/// What is added at the end of a residual block.
#[derive(Debug)]
pub enum Shortcut<'a> {
    /// The block's input.
    Identity(&'a Activation),
    /// The block's input through a convolution and a norm.
    Projection(Normed),
}

impl Normed {
    /// (N, H, W, C).
    #[must_use]
    pub fn shape(&self) -> [usize; 4] {
        match &self.0 {
            NormedStorage::Host(normed) => normed.shape,
            NormedStorage::Device(normed) => normed.shape,
        }
    }

    /// y = norm(x), then `activation`.
    ///
    /// # Errors
    /// None in practice.
    pub fn activate(self, tape: &mut Tape, activation: ActivationFunction) -> Result<Activation> {
        match self.0 {
            NormedStorage::Host(normed) => normed.activate(tape, activation),
            NormedStorage::Device(normed) => normed.activate(tape, activation),
        }
    }

    /// y = norm(x) + shortcut: the end of an inverted residual block, which has no activation there.
    ///
    /// # Errors
    /// A shortcut of another shape, or from elsewhere.
    pub fn add(self, tape: &mut Tape, shortcut: &Activation) -> Result<Activation> {
        if shortcut.shape != self.shape() {
            bail!(
                "add: shortcut is {:?}, expected {:?} (N, H, W, C)",
                shortcut.shape,
                self.shape()
            );
        }
        match self.0 {
            NormedStorage::Host(normed) => normed.add(tape, shortcut),
            NormedStorage::Device(normed) => normed.add(tape, shortcut),
        }
    }

    /// y = relu(norm(x) + shortcut): the end of a residual block.
    ///
    /// # Errors
    /// A shortcut of another shape, or from elsewhere.
    pub fn add_relu(self, tape: &mut Tape, shortcut: Shortcut<'_>) -> Result<Activation> {
        let shape = match &shortcut {
            Shortcut::Identity(map) => map.shape,
            Shortcut::Projection(normed) => normed.shape(),
        };
        if shape != self.shape() {
            bail!(
                "add_relu: shortcut is {shape:?}, expected {:?} (N, H, W, C)",
                self.shape()
            );
        }
        match self.0 {
            NormedStorage::Host(normed) => normed.add_relu(tape, shortcut),
            NormedStorage::Device(normed) => normed.add_relu(tape, shortcut),
        }
    }

    pub(super) fn on_host(self) -> Result<HostNormed> {
        match self.0 {
            NormedStorage::Host(normed) => Ok(normed),
            NormedStorage::Device(_) => bail!("a layer on the CPU was given a norm on a GPU"),
        }
    }

    pub(super) fn on_device(self) -> Result<DeviceNormed> {
        match self.0 {
            NormedStorage::Device(normed) => Ok(normed),
            NormedStorage::Host(_) => bail!("a layer on a GPU was given a norm on the CPU"),
        }
    }
}

impl HostNormed {
    fn activate(self, tape: &mut Tape, activation: ActivationFunction) -> Result<Activation> {
        let mut y = Buffer::scratch(self.values.len());
        self.norm.forward(&self.values, None, activation, &mut y);
        let y = tape.map(self.shape, y);
        tape.push(&y, move |dy, gradients| {
            let gradient = self.gradient(Arc::new(dy), activation);
            gradients.add_normed(self.id, gradient);
            Ok(())
        });
        Ok(y)
    }

    fn add(self, tape: &mut Tape, shortcut: &Activation) -> Result<Activation> {
        let mut y = Buffer::scratch(self.values.len());
        let added = shortcut.host()?;
        (self.norm).forward(
            &self.values,
            Some(added),
            ActivationFunction::Identity,
            &mut y,
        );
        let y = tape.map(self.shape, y);
        let shortcut = tape.needs_gradient(shortcut).then_some(shortcut.id);
        tape.push(&y, move |dy, gradients| {
            let dy = Arc::new(dy);
            let gradient = self.gradient(Arc::clone(&dy), ActivationFunction::Identity);
            gradients.add_normed(self.id, gradient);
            if let Some(id) = shortcut {
                gradients.add_shared(id, dy);
            }
            Ok(())
        });
        Ok(y)
    }

    fn add_relu(self, tape: &mut Tape, shortcut: Shortcut<'_>) -> Result<Activation> {
        let shortcut = match shortcut {
            Shortcut::Identity(map) => Err(map),
            Shortcut::Projection(normed) => Ok(normed.on_host()?),
        };
        let mut y = Buffer::scratch(self.values.len());
        match &shortcut {
            Err(map) => {
                let added = map.host()?;
                self.norm
                    .forward(&self.values, Some(added), ActivationFunction::Relu, &mut y);
            }
            Ok(other) => {
                self.norm
                    .forward_two_relu(&self.values, &other.norm, &other.values, &mut y)?;
            }
        }
        let y = tape.map(self.shape, y);
        let output = Arc::clone(y.host()?);
        let shortcut = shortcut.map_err(|map| tape.needs_gradient(map).then_some(map.id));
        tape.push(&y, move |mut dy, gradients| {
            let sums = self.mask(&mut dy, &output);
            let dy = Arc::new(dy);
            gradients.add_normed(
                self.id,
                NormedGradient {
                    values: Arc::clone(&dy),
                    activation: ActivationFunction::Identity,
                    sums,
                },
            );
            match shortcut {
                Err(None) => {}
                Err(Some(id)) => gradients.add_shared(id, dy),
                Ok(normed) => {
                    let gradient = normed.gradient(dy, ActivationFunction::Identity);
                    gradients.add_normed(normed.id, gradient);
                }
            }
            Ok(())
        });
        Ok(y)
    }

    /// The gradient of the values after the norm and the activation, with its sums.
    fn gradient(&self, values: Arc<Buffer>, activation: ActivationFunction) -> NormedGradient {
        let sums = (0..self.norm.groups())
            .map(|i| {
                let range = self.norm.range(i, values.len());
                let x = &self.values[range.clone()];
                norm::grad_sums(&values[range], x, self.norm.affine(i), activation)
            })
            .collect();
        NormedGradient {
            values,
            activation,
            sums,
        }
    }

    /// Masks `dy` where the output `y` is 0; the sums of what is left.
    fn mask(&self, dy: &mut [f32], y: &[f32]) -> Vec<GradSums> {
        (0..self.norm.groups())
            .map(|i| {
                let range = self.norm.range(i, y.len());
                let (x, y) = (&self.values[range.clone()], &y[range.clone()]);
                norm::grad_sums_masking(&mut dy[range], x, self.norm.affine(i), y)
            })
            .collect()
    }
}
