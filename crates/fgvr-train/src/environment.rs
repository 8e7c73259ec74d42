//! `env.json`: what a run ran on.

use serde::Serialize;

use crate::DataRecord;
use crate::path_text::path_text;

/// The program, the machine, and what the bits of a run depend on.
#[derive(Clone, Debug, Serialize)]
pub struct Environment {
    /// Version of fgvr.
    pub version: &'static str,
    /// Operating system and architecture.
    pub platform: String,
    /// Name of the processor, where the system tells.
    pub processor: Option<String>,
    /// Cores of the machine.
    pub cores: usize,
    /// Threads the run used.
    pub threads: usize,
    /// Instruction set of the kernels; bits may differ between two of them.
    pub simd: String,
    /// Where the tensors lived.
    pub device: String,
    /// The command line.
    pub command: Vec<String>,
    /// Seconds since 1970 at the start.
    pub started: u64,
    /// What a run is trained on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<DataRecord>,
}

impl Environment {
    /// The environment of this process.
    #[must_use]
    pub fn here(device: &str) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            processor: processor(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            threads: rayon::current_num_threads(),
            simd: simd(),
            device: device.to_owned(),
            command: std::env::args_os().map(path_text).collect(),
            started: std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |d| d.as_secs()),
            data: None,
        }
    }
}

/// The instruction set the kernels use, in lower case.
#[must_use]
pub(crate) fn simd() -> String {
    format!("{:?}", fgvr_nn::kernels::simd::level()).to_lowercase()
}

fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Peak resident memory of this process in bytes, where the system tells.
#[must_use]
pub fn peak_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|l| l.starts_with("VmHWM"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}
