//! Named variables, seeded by name.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Result, Shape, Tensor, Var, bail};
use candle_nn::init::NormalOrUniform;
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::device::Residence;

/// The variables of a model by name: trainable ones, and buffers (batch norm's running statistics).
///
/// Initial values depend on the seed and on the variable's name alone, so that adding a layer
/// changes no other layer, and the order of construction does not matter. A clone is another handle
/// to the same variables.
///
/// ```
/// use candle_core::{DType, Device};
/// let parameters = fgvr_nn::Parameters::new(7);
/// let vb = parameters.builder(DType::F32, &Device::Cpu);
/// let head = candle_nn::linear(4, 2, vb.pp("head"))?;
/// assert_eq!(parameters.trainable().keys().collect::<Vec<_>>(), ["head.bias", "head.weight"]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Parameters {
    seed: u64,
    vars: Arc<Mutex<BTreeMap<String, Var>>>,
    /// Where they live, if not on the CPU.
    residence: Arc<Mutex<Option<Residence>>>,
}

impl Parameters {
    /// An empty store whose initial values come from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            vars: Arc::default(),
            residence: Arc::default(),
        }
    }

    /// A builder that creates each variable at its first use.
    #[must_use]
    pub fn builder(&self, dtype: DType, device: &Device) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), dtype, device.clone())
    }

    /// All variables by name, buffers included. The values here may be stale where variables are resident on a device:
    /// see [`Parameters::to_host`].
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, Var> {
        self.lock().clone()
    }

    /// The variables that an optimiser steps, by name.
    #[must_use]
    pub fn trainable(&self) -> BTreeMap<String, Var> {
        let mut vars = self.all();
        vars.retain(|name, _| !is_buffer(name));
        vars
    }

    /// The running statistics, by name.
    #[must_use]
    pub fn buffers(&self) -> BTreeMap<String, Var> {
        let mut vars = self.all();
        vars.retain(|name, _| is_buffer(name));
        vars
    }

    /// Sets every variable from `tensors`, paired by name.
    ///
    /// # Errors
    /// A name that is missing, or a shape that differs; nothing is set then.
    pub fn set_all(&self, tensors: &HashMap<String, Tensor>) -> Result<()> {
        let vars = self.lock();
        for (name, var) in vars.iter() {
            match tensors.get(name) {
                None => bail!("{name}: not among the {} tensors given", tensors.len()),
                Some(tensor) if tensor.dims() != var.dims() => bail!(
                    "{name}: expected shape {:?}, found {:?}",
                    var.dims(),
                    tensor.dims()
                ),
                Some(_) => {}
            }
        }
        for (name, var) in vars.iter() {
            var.set(&tensors[name].to_dtype(var.dtype())?)?;
        }
        if let Some(device) = self.device() {
            vars.values().try_for_each(|var| device.upload(var))?;
        }
        Ok(())
    }

    /// Copies all variables of this store to `device`, where they stay resident until the last handle to the store is
    /// dropped: layers on the device read them, and optimisers update them, without a copy. A second call overwrites
    /// them with the values on the host.
    ///
    /// # Errors
    /// Variables that are resident on another device; an error of the device.
    pub fn to_device(&self, device: &crate::Device) -> Result<()> {
        if let Some(before) = self.device()
            && !before.is(device)
        {
            bail!("variables are resident on {before:?}, and {device:?} was asked for");
        }
        let vars = self.all();
        vars.values().try_for_each(|var| device.upload(var))?;
        let variables = vars.values().map(|var| var.id()).collect();
        match &mut *self.residence() {
            Some(residence) => residence.variables = variables,
            none => {
                *none = Some(Residence {
                    device: device.clone(),
                    variables,
                });
            }
        }
        Ok(())
    }

    /// The device on which the variables are resident; `None` for the host.
    #[must_use]
    pub fn device(&self) -> Option<crate::Device> {
        let residence = self.residence();
        residence.as_ref().map(|residence| residence.device.clone())
    }

    /// Copies the values of variables that are resident on a device back to the host, as is needed before they are
    /// saved or read in any other way. Without a device it does nothing.
    ///
    /// # Errors
    /// An error of the device.
    pub fn to_host(&self) -> Result<()> {
        let Some(device) = self.device() else {
            return Ok(());
        };
        let vars = self.lock();
        vars.values().try_for_each(|var| device.download(var))
    }

    /// Sets every variable to a copy of the one of the same name in `other`.
    ///
    /// # Errors
    /// A name that is missing, or a shape that differs; nothing is set then.
    pub fn copy_from(&self, other: &Self) -> Result<()> {
        other.to_host()?;
        let tensors = other
            .all()
            .into_iter()
            .map(|(name, var)| Ok((name, var.as_tensor().copy()?)))
            .collect::<Result<HashMap<_, _>>>()?;
        self.set_all(&tensors)
    }

    fn residence(&self) -> MutexGuard<'_, Option<Residence>> {
        self.residence
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Var>> {
        self.vars.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_buffer(name: &str) -> bool {
    name.ends_with("running_mean") || name.ends_with("running_var")
}

impl SimpleBackend for Parameters {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        init: Init,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let mut vars = self.lock();
        if let Some(var) = vars.get(name) {
            if var.shape() != &shape {
                bail!("{name}: expected shape {shape:?}, found {:?}", var.shape());
            }
            return Ok(var.as_tensor().clone());
        }
        let values = initial_values(self.seed, name, &shape, init);
        let tensor = Tensor::from_vec(values, shape, device)?.to_dtype(dtype)?;
        let var = Var::from_tensor(&tensor)?;
        let tensor = var.as_tensor().clone();
        vars.insert(name.to_owned(), var);
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        match self.lock().get(name) {
            Some(var) => Ok(var.as_tensor().clone()),
            None => bail!("{name}: no such variable"),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.lock().contains_key(name)
    }
}

/// `shape.elem_count()` values drawn by `init`, from a generator keyed by (seed, name).
fn initial_values(seed: u64, name: &str, shape: &Shape, init: Init) -> Vec<f32> {
    let count = shape.elem_count();
    let mut rng = keyed_rng(seed, name);
    let normal = |mean: f64, stdev: f64, rng: &mut ChaCha8Rng| -> Vec<f32> {
        (0..count)
            .map(|_| {
                let z: f64 = StandardNormal.sample(rng);
                (mean + stdev * z) as f32
            })
            .collect()
    };
    let uniform = |lo: f64, up: f64, rng: &mut ChaCha8Rng| -> Vec<f32> {
        (0..count)
            .map(|_| (lo + (up - lo) * rng.random::<f64>()) as f32)
            .collect()
    };
    match init {
        Init::Const(value) => vec![value as f32; count],
        Init::Randn { mean, stdev } => normal(mean, stdev, &mut rng),
        Init::Uniform { lo, up } => uniform(lo, up, &mut rng),
        Init::Kaiming {
            dist,
            fan,
            non_linearity,
        } => {
            let stdev = non_linearity.gain() / (fan.for_shape(shape) as f64).sqrt();
            match dist {
                NormalOrUniform::Normal => normal(0., stdev, &mut rng),
                NormalOrUniform::Uniform => {
                    let bound = 3f64.sqrt() * stdev;
                    uniform(-bound, bound, &mut rng)
                }
            }
        }
    }
}

/// The name is folded into the 32-byte key by FNV-1a, whose value no release of Rust changes.
fn keyed_rng(seed: u64, name: &str) -> ChaCha8Rng {
    let hash = |offset: u64| {
        name.bytes().fold(offset, |h, byte| {
            (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    };
    let words = [
        seed,
        hash(0xcbf2_9ce4_8422_2325),
        hash(0x6c62_272e_07bb_0142),
        name.len() as u64,
    ];
    let mut key = [0u8; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(seed: u64, names: &[&str], name: &str) -> Vec<f32> {
        let parameters = Parameters::new(seed);
        let vb = parameters.builder(DType::F32, &Device::Cpu);
        for name in names {
            vb.get_with_hints((3, 5), name, candle_nn::init::DEFAULT_KAIMING_NORMAL)
                .unwrap();
        }
        let tensor = parameters.all()[name].as_tensor().clone();
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn values_depend_on_seed_and_name_alone() {
        let reference = weight(1, &["a", "b"], "b");
        assert_eq!(reference, weight(1, &["b", "c", "a"], "b"));
        assert_ne!(reference, weight(2, &["a", "b"], "b"));
        assert_ne!(reference, weight(1, &["a", "b"], "a"));
    }

    #[test]
    fn a_wrong_shape_sets_nothing() {
        let parameters = Parameters::new(0);
        let vb = parameters.builder(DType::F32, &Device::Cpu);
        vb.get_with_hints(2, "a", Init::Const(1.)).unwrap();
        vb.get_with_hints(2, "b", Init::Const(1.)).unwrap();
        let zeros = |n| Tensor::zeros(n, DType::F32, &Device::Cpu).unwrap();
        let given = HashMap::from([("a".to_owned(), zeros(2)), ("b".to_owned(), zeros(3))]);
        let error = parameters.set_all(&given).unwrap_err().to_string();
        assert!(
            error.contains("b: expected shape [2], found [3]"),
            "{error}"
        );
        assert_eq!(parameters.all()["a"].to_vec1::<f32>().unwrap(), [1., 1.]);
    }
}
