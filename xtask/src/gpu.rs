//! Whether this machine has a GPU that fgvr can use.

use std::process::Command;

/// The version of NVIDIA's driver, where it tells.
pub(crate) fn driver_version() -> Option<String> {
    let query = ["--query-gpu=driver_version", "--format=csv,noheader"];
    let output = Command::new("nvidia-smi").args(query).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let version = text.lines().next()?.trim();
    (output.status.success() && !version.is_empty()).then(|| version.to_string())
}

/// Whether NVIDIA's driver is here and sees a GPU.
pub(crate) fn driver() -> bool {
    let answer = Command::new("nvidia-smi").arg("-L").output();
    answer.is_ok_and(|output| output.status.success() && output.stdout.starts_with(b"GPU "))
}
