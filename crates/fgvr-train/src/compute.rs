//! Where networks run.

use fgvr_nn::{Device, Precision};

use crate::{Error, Result};

/// The CPU, or a GPU beside it. Trunks, decoders and their variables, optimisers and moving averages are then on
/// the GPU; so are heads and losses of a step whose base has kernels for it ([`Trainer::step_device`]), and
/// otherwise those run on the CPU.
///
/// [`Trainer::step_device`]: crate::Trainer::step_device
#[derive(Clone, Debug)]
pub struct Compute {
    device: Option<Device>,
    reason: String,
}

impl Compute {
    /// The CPU.
    #[must_use]
    pub fn cpu() -> Self {
        Self {
            device: None,
            reason: "asked for".to_owned(),
        }
    }

    /// This device.
    #[must_use]
    pub fn on(device: Device) -> Self {
        Self {
            device: Some(device),
            reason: "asked for".to_owned(),
        }
    }

    /// What `name` says: `cpu`, `cuda`, `cuda:N`, `emulator` (a GPU's kernels on the CPU, slowly), or `auto`,
    /// which is the first GPU, or the CPU if there is none.
    ///
    /// # Errors
    /// Another name, a GPU that is not there, a driver that fails, a precision that the CPU does not have.
    pub fn choose(name: &str, precision: Precision) -> Result<Self> {
        let chosen = match name {
            "auto" => Self::auto(precision)?,
            "cpu" => Self::cpu(),
            "emulator" => {
                Self::on(Device::emulator(precision).map_err(|error| refused(name, &error))?)
            }
            "cuda" => Self::gpu(name, 0, precision)?,
            other => match other.strip_prefix("cuda:").map(str::parse) {
                Some(Ok(ordinal)) => Self::gpu(name, ordinal, precision)?,
                _ => {
                    return Err(refused(
                        name,
                        &"expected auto, cpu, cuda, cuda:N or emulator",
                    ));
                }
            },
        };
        chosen.check(precision)?;
        Ok(chosen)
    }

    /// That this computes in `precision`: the CPU knows f32 alone, and a device's maps have one type.
    ///
    /// # Errors
    /// It does not.
    pub fn check(&self, precision: Precision) -> Result<()> {
        let problem = match &self.device {
            None if precision != Precision::F32 => format!(
                "needs a GPU, and the CPU was chosen ({}); leave it out, or name a GPU by --device",
                self.reason
            ),
            Some(device) if device.real() != precision.real() => {
                format!("was asked for, and the trunk runs on {}", device.name())
            }
            _ => return Ok(()),
        };
        Err(Error::Config {
            key: format!("precision={precision}"),
            problem,
        })
    }

    /// The GPU, or its emulation, if it is not the CPU alone.
    #[must_use]
    pub fn device(&self) -> Option<&Device> {
        self.device.as_ref()
    }

    /// Its name, for people and records.
    #[must_use]
    pub fn name(&self) -> &str {
        self.device.as_ref().map_or("cpu", Device::name)
    }

    /// Why it was taken.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Which it is and why, for a log.
    #[must_use]
    pub fn line(&self) -> String {
        format!("trunk on {} ({})", self.name(), self.reason)
    }

    #[cfg(feature = "cuda")]
    fn auto(precision: Precision) -> Result<Self> {
        match Device::gpu(0, precision) {
            Ok(device) => Ok(Self {
                device: Some(device),
                reason: "the first GPU".to_owned(),
            }),
            // A GPU that is there and does not work is not passed over in silence.
            Err(fgvr_nn::cuda::Error::NoGpu(why)) => Ok(Self {
                device: None,
                reason: format!("no GPU: {why}"),
            }),
            Err(error) => Err(refused("auto", &error)),
        }
    }

    #[cfg(not(feature = "cuda"))]
    fn auto(_precision: Precision) -> Result<Self> {
        Ok(Self {
            device: None,
            reason: "this build has no CUDA".to_owned(),
        })
    }

    #[cfg(feature = "cuda")]
    fn gpu(name: &str, ordinal: usize, precision: Precision) -> Result<Self> {
        let device = Device::gpu(ordinal, precision).map_err(|error| refused(name, &error))?;
        Ok(Self::on(device))
    }

    #[cfg(not(feature = "cuda"))]
    fn gpu(name: &str, _ordinal: usize, _precision: Precision) -> Result<Self> {
        Err(refused(
            name,
            &"this build has no CUDA; build it with the feature cuda, or use --device cpu",
        ))
    }
}

fn refused(name: &str, problem: &dyn std::fmt::Display) -> Error {
    Error::Config {
        key: format!("--device {name}"),
        problem: problem.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_has_one_precision() {
        assert_eq!(
            Compute::choose("cpu", Precision::F32).unwrap().name(),
            "cpu"
        );
        assert!(Compute::cpu().check(Precision::F32).is_ok());
        assert!(Compute::cpu().check(Precision::Tf32).is_err());
        let error = Compute::choose("cpu", Precision::Bf16)
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("precision=bf16: needs a GPU"), "{error}");
    }

    #[test]
    fn a_device_that_is_none_is_refused() {
        for name in ["tpu", "cuda:", "cuda:x", ""] {
            let error = Compute::choose(name, Precision::F32)
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("expected auto, cpu, cuda, cuda:N or emulator"),
                "{error}"
            );
        }
    }
}
