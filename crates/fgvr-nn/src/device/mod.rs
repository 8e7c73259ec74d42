//! Where a tape's maps are, if that is not the CPU.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Error, Result, Tensor};
use fgvr_cuda::cache;
use fgvr_cuda::emulator::Emulator;
use fgvr_cuda::ops::layout::{self, Matrices};
use fgvr_cuda::{Array, DType, Machine, MemoryUse, Real};

use self::residents::Residents;
use crate::tape::with_values;

mod residents;

pub(crate) use self::residents::Residence;

/// A GPU, or its emulation, and the type that maps have on it.
///
/// Variables of a network that is trained are resident here ([`Parameters::to_device`](crate::Parameters::to_device)); others
/// stay candle tensors on the CPU, and a layer sends its own over when it runs. Parameters, statistics and sums are
/// f32 whatever the type of maps.
#[derive(Clone)]
pub struct Device {
    machine: Arc<dyn Machine + Send + Sync>,
    real: Real,
    name: Arc<str>,
    exhausted: Arc<Mutex<Option<Exhausted>>>,
    residents: Arc<Residents>,
}

/// What a device's memory was short of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted {
    /// Bytes asked for.
    pub wanted: usize,
    /// Bytes that were free.
    pub free: usize,
    /// Bytes of the device.
    pub total: usize,
}

/// What a GPU computes networks in. Variables, statistics and losses are f32 in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Precision {
    /// f32 throughout, as on the CPU.
    #[default]
    F32,
    /// Maps of f32; products round their factors to 10 bits of mantissa.
    Tf32,
    /// Maps of bf16, sums of f32.
    Bf16,
}

impl Precision {
    /// The type of maps.
    #[must_use]
    pub fn real(self) -> Real {
        match self {
            Self::F32 | Self::Tf32 => Real::F32,
            Self::Bf16 => Real::Bf16,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        })
    }
}

impl Device {
    /// Maps of `real` on `machine`, which people know by `name`.
    #[must_use]
    pub fn new(machine: Arc<dyn Machine + Send + Sync>, real: Real, name: &str) -> Self {
        Self {
            machine,
            real,
            name: name.into(),
            exhausted: Arc::default(),
            residents: Arc::default(),
        }
    }

    /// Whether both are handles to the same one.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.residents, &other.residents)
    }

    /// The GPU of this number, from 0.
    ///
    /// # Errors
    /// [`fgvr_cuda::Error::NoGpu`] if there is none, and what the driver says.
    #[cfg(feature = "cuda")]
    pub fn gpu(ordinal: usize, precision: Precision) -> fgvr_cuda::Result<Self> {
        let products = match precision {
            Precision::Tf32 => fgvr_cuda::gpu::Precision::Tf32,
            Precision::F32 | Precision::Bf16 => fgvr_cuda::gpu::Precision::Full,
        };
        let gpu = fgvr_cuda::gpu::Gpu::new(ordinal, products)?;
        let name = format!("{} ({}), {precision}", gpu.name(), gpu.target());
        Ok(Self::new(Arc::new(gpu), precision.real(), &name))
    }

    /// A stand-in for a GPU that runs its kernels on the CPU, slowly: for tests.
    ///
    /// # Errors
    /// No C++ compiler, or no folder to keep what it makes.
    pub fn emulator(precision: Precision) -> fgvr_cuda::Result<Self> {
        let emulator = Emulator::new(&cache::user_directory().join("emulator"))?;
        let name = format!("an emulated GPU, {precision}");
        Ok(Self::new(Arc::new(emulator), precision.real(), &name))
    }

    /// What people know it by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type of maps.
    #[must_use]
    pub fn real(&self) -> Real {
        self.real
    }

    /// How much of its memory is held.
    ///
    /// # Errors
    /// What the driver says.
    pub fn memory(&self) -> Result<MemoryUse> {
        self.run(|m| m.memory())
    }

    /// Counts the peak of [`Device::memory`] anew.
    pub fn reset_peak(&self) {
        self.machine.reset_peak();
    }

    /// Waits until all that was started is done.
    ///
    /// # Errors
    /// What went wrong in it.
    pub fn synchronise(&self) -> Result<()> {
        // A download waits.
        self.run(|m| Array::new(m, DType::U8, 1)?.to_u8(m))
            .map(drop)
    }

    /// What memory was short of since this was last asked, if it was: an error on its way through candle
    /// keeps its text alone.
    #[must_use]
    pub fn take_exhausted(&self) -> Option<Exhausted> {
        self.exhausted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// What `f` does on the machine.
    ///
    /// # Errors
    /// What `f` says; memory that was short is remembered for [`Device::take_exhausted`].
    pub fn run<T>(&self, f: impl FnOnce(&dyn Machine) -> fgvr_cuda::Result<T>) -> Result<T> {
        f(&*self.machine).map_err(|error| {
            if let fgvr_cuda::Error::OutOfMemory {
                wanted,
                free,
                total,
            } = error
            {
                let found = Exhausted {
                    wanted,
                    free,
                    total,
                };
                *self
                    .exhausted
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = Some(found);
            }
            Error::wrap(error)
        })
    }

    /// A variable's values, f32, in the order of its shape: where they are trained, or a copy of those on the CPU.
    pub(crate) fn parameter(&self, tensor: &Tensor) -> Result<Array> {
        match self.resident(tensor) {
            Some(values) => Ok(values),
            None => with_values(tensor, |values| self.run(|m| Array::from_f32(m, values)))?,
        }
    }

    /// A convolution's weight (O, I, k, k) as (O, k, k, I), in the type of maps.
    pub(crate) fn convolution_weight(&self, weight: &Tensor) -> Result<Array> {
        let (c_out, c_in, kernel, _) = weight.dims4()?;
        let shape = Matrices::of_weight([c_out, c_in, kernel]);
        self.prepared(weight, |values| {
            self.run(|m| layout::to_channels_last(m, values, shape, self.real))
        })
    }

    /// A depthwise convolution's weight (C, 1, k, k) as (k*k, C) of f32.
    pub(crate) fn depthwise_weight(&self, weight: &Tensor) -> Result<Array> {
        let (channels, _, kernel, _) = weight.dims4()?;
        let shape = Matrices::of_maps([1, channels, kernel, kernel]);
        self.prepared(weight, |values| {
            self.run(|m| layout::to_channels_last(m, values, shape, Real::F32))
        })
    }

    /// A matrix in the type of maps.
    pub(crate) fn matrix(&self, weight: &Tensor) -> Result<Array> {
        match self.real {
            Real::F32 => self.parameter(weight),
            Real::Bf16 => self.prepared(weight, |values| {
                self.run(|m| layout::cast(m, values, self.real.into()))
            }),
        }
    }

    /// Values of f32 or bf16, widened, once they are there.
    ///
    /// # Errors
    /// An array of another type; what the machine says.
    pub fn values(&self, array: &Array) -> Result<Vec<f32>> {
        self.run(|m| array.to_f32(m))
    }

    /// A map whose values are not specified.
    pub(crate) fn map(&self, len: usize) -> Result<Array> {
        self.run(|m| Array::new(m, self.real.into(), len))
    }

    /// Values (N, C, H, W) as a map of `shape` (N, H, W, C).
    pub(crate) fn upload_map(&self, values: &[f32], [n, h, w, c]: [usize; 4]) -> Result<Array> {
        self.run(|m| {
            let values = Array::from_f32(m, values)?;
            layout::to_channels_last(m, &values, Matrices::of_maps([n, c, h, w]), self.real)
        })
    }

    /// A map of `shape` (N, H, W, C) as values (N, C, H, W), once they are there.
    pub(crate) fn download_map(&self, map: &Array, [n, h, w, c]: [usize; 4]) -> Result<Vec<f32>> {
        let first =
            self.run(|m| layout::to_channels_first(m, map, Matrices::of_maps([n, c, h, w])))?;
        self.values(&first)
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({}, maps of {})", self.name, self.real.name())
    }
}
