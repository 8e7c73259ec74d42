//! Where both programs compute, and in what.

use std::fmt;

use anyhow::{Context, Result, bail};

use super::case::Group;
use crate::nearest::nearest;

/// The CPU, a GPU, or the emulation of one: there PyTorch takes the CPU, in a GPU's modes, and the figures
/// only show that all works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Device {
    #[default]
    Cpu,
    Cuda(usize),
    Emulator,
}

impl Device {
    fn parse(name: &str) -> Result<Self> {
        Ok(match name {
            "cpu" => Self::Cpu,
            "cuda" => Self::Cuda(0),
            "emulator" => Self::Emulator,
            other => match other.strip_prefix("cuda:").map(str::parse) {
                Some(Ok(ordinal)) => Self::Cuda(ordinal),
                _ => bail!("--device {other}: expected cpu, cuda, cuda:N or emulator"),
            },
        })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(0) => f.write_str("cuda"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
            Self::Emulator => f.write_str("emulator"),
        }
    }
}

/// What a device computes in; the CPU computes in f32.
const PRECISIONS: [&str; 3] = ["f32", "tf32", "bf16"];

/// A device with its precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) device: Device,
    precision: &'static str,
}

impl Target {
    /// The CPU.
    pub(crate) const CPU: Self = Self {
        device: Device::Cpu,
        precision: PRECISIONS[0],
    };

    /// What `--device` and `--precision` say.
    pub(super) fn parse(device: Option<&str>, precision: Option<&str>) -> Result<Self> {
        let device = device.map_or(Ok(Device::Cpu), Device::parse)?;
        let on_device = device != Device::Cpu;
        let name = precision.unwrap_or(if on_device { "bf16" } else { "f32" });
        let found = PRECISIONS.into_iter().find(|known| *known == name);
        let precision = found.with_context(|| {
            let hint = nearest(name, PRECISIONS)
                .map_or(String::new(), |near| format!(" (did you mean `{near}`?)"));
            format!("--precision {name}: expected f32, tf32 or bf16{hint}")
        })?;
        if !on_device && precision != "f32" {
            bail!("--precision {precision}: the CPU computes in f32 alone; name a GPU by --device");
        }
        Ok(Self { device, precision })
    }

    /// Whether it is another one than the CPU.
    pub(super) fn is_device(self) -> bool {
        self.device != Device::Cpu
    }

    pub(super) fn is_gpu(self) -> bool {
        matches!(self.device, Device::Cuda(_))
    }

    /// The groups that can be measured there.
    pub(super) fn groups(self) -> &'static [Group] {
        match self.is_device() {
            true => &[Group::Train, Group::Embed, Group::Memory],
            false => &Group::ALL,
        }
    }

    /// What our program is told beside the number of threads.
    pub(super) fn ours(self) -> Vec<String> {
        self.arguments(self.device.to_string())
    }

    /// What PyTorch's is told.
    pub(super) fn torch(self) -> Vec<String> {
        self.arguments(match self.device {
            Device::Cuda(ordinal) => format!("cuda:{ordinal}"),
            Device::Cpu | Device::Emulator => "cpu".to_string(),
        })
    }

    fn arguments(self, device: String) -> Vec<String> {
        if !self.is_device() {
            return Vec::new();
        }
        let precision = self.precision.to_string();
        vec!["--device".into(), device, "--precision".into(), precision]
    }

    /// The options that ask for it; empty for the CPU.
    pub(super) fn options(self) -> String {
        match self.is_device() {
            true => format!(" --device {} --precision {}", self.device, self.precision),
            false => String::new(),
        }
    }

    /// The name of a group's markers on the page.
    pub(super) fn section(self, group: Group) -> String {
        match self.is_device() {
            true => format!("cuda-{}", group.name()),
            false => group.name().to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_computes_in_bf16_unless_told_otherwise() {
        let gpu = Target::parse(Some("cuda:1"), None).unwrap();
        assert_eq!(
            gpu.ours(),
            ["--device", "cuda:1", "--precision", "bf16"].map(String::from)
        );
        assert_eq!(gpu.ours(), gpu.torch());
        assert_eq!(gpu.section(Group::Train), "cuda-train");
        let emulator = Target::parse(Some("emulator"), Some("tf32")).unwrap();
        assert_eq!(
            emulator.torch(),
            ["--device", "cpu", "--precision", "tf32"].map(String::from)
        );
        assert!(emulator.is_device() && !emulator.is_gpu());
    }

    #[test]
    fn the_cpu_is_told_nothing() {
        for device in [None, Some("cpu")] {
            let cpu = Target::parse(device, None).unwrap();
            assert_eq!(cpu, Target::CPU);
            assert!(cpu.ours().is_empty() && cpu.torch().is_empty());
            assert_eq!((cpu.options().as_str(), cpu.groups().len()), ("", 6));
        }
    }

    #[test]
    fn what_there_is_not_is_refused() {
        let refused = |device, precision| {
            let error = Target::parse(Some(device), precision).unwrap_err();
            error.to_string()
        };
        assert!(refused("cpu", Some("bf16")).contains("the CPU computes in f32 alone"));
        assert!(refused("cuda", Some("bf61")).contains("did you mean `bf16`?"));
        for device in ["tpu", "cuda:", "cuda:x", "auto"] {
            assert!(refused(device, None).contains("expected cpu, cuda, cuda:N or emulator"));
        }
    }
}
