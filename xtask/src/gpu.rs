//! Whether this machine has a GPU that fgvr can use.

use std::process::Command;

/// Whether NVIDIA's driver is here and sees a GPU.
pub(crate) fn driver() -> bool {
    let answer = Command::new("nvidia-smi").arg("-L").output();
    answer.is_ok_and(|output| output.status.success() && output.stdout.starts_with(b"GPU "))
}
