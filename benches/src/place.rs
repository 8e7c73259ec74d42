//! Where cases run, and what the program was started with.

use anyhow::{Context, Result, bail};
use fgvr_nn::Precision;
use fgvr_train::Compute;

const USAGE: &str = "usage: fgvr-bench --threads N [--device cpu|cuda|cuda:N|emulator] [--precision f32|tf32|bf16]; \
     `cargo xtask bench` calls it so";

/// The arguments of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) threads: usize,
    pub(crate) device: String,
    pub(crate) precision: Precision,
}

impl Arguments {
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut threads = None;
        let mut parsed = Self {
            threads: 0,
            device: "cpu".to_owned(),
            precision: Precision::F32,
        };
        while let Some(name) = args.next() {
            let value = args.next().context(USAGE)?;
            match name.as_str() {
                "--threads" => threads = value.parse().ok(),
                "--device" => parsed.device = value,
                "--precision" => parsed.precision = precision(&value)?,
                _ => bail!(USAGE),
            }
        }
        parsed.threads = threads.filter(|threads| *threads > 0).context(USAGE)?;
        Ok(parsed)
    }
}

fn precision(name: &str) -> Result<Precision> {
    let all = [Precision::F32, Precision::Tf32, Precision::Bf16];
    let found = all.into_iter().find(|known| known.to_string() == name);
    found.with_context(|| format!("--precision {name}; {USAGE}"))
}

/// The CPU or a device, and what is computed in.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) compute: Compute,
    pub(crate) precision: Precision,
}

impl Place {
    #[cfg(test)]
    pub(crate) fn cpu() -> Self {
        Self {
            compute: Compute::cpu(),
            precision: Precision::F32,
        }
    }

    pub(crate) fn choose(device: &str, precision: Precision) -> Result<Self> {
        Ok(Self {
            compute: Compute::choose(device, precision)?,
            precision,
        })
    }

    /// Waits until a device has done all that it was given.
    pub(crate) fn wait(&self) -> Result<()> {
        if let Some(device) = self.compute.device() {
            device.synchronise()?;
        }
        Ok(())
    }

    /// Refuses `what` on a device.
    pub(crate) fn only_cpu(&self, what: &str) -> Result<()> {
        if let Some(device) = self.compute.device() {
            bail!("{what} runs on the CPU alone, not on {}", device.name());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &str) -> Result<Arguments> {
        Arguments::parse(args.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn threads_are_asked_for_and_the_rest_has_defaults() {
        let plain = parse("--threads 2").unwrap();
        assert_eq!((plain.threads, plain.device.as_str()), (2, "cpu"));
        let device = parse("--threads 3 --device cuda:1 --precision bf16").unwrap();
        assert_eq!(device.device, "cuda:1");
        assert_eq!(device.precision, Precision::Bf16);
        for wrong in [
            "",
            "--threads",
            "--threads 0",
            "2",
            "--threads 2 --precision f16",
        ] {
            let error = parse(wrong).unwrap_err().to_string();
            assert!(error.contains("usage"), "{error}");
        }
    }

    #[test]
    fn a_precision_that_the_cpu_has_not_is_refused() {
        let error = Place::choose("cpu", Precision::Bf16)
            .unwrap_err()
            .to_string();
        assert!(error.contains("needs a GPU"), "{error}");
    }
}
