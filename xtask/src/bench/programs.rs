//! The two programs that are timed: how they are built and started.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::case::{Group, Mode};
use super::target::Target;
use crate::command::executable;
use crate::server::Server;

/// Keeps PyTorch's large blocks in its process from one step to the next.
const TUNED: [(&str, &str); 2] = [
    ("MALLOC_MMAP_THRESHOLD_", "4294967296"),
    ("MALLOC_TRIM_THRESHOLD_", "8589934592"),
];

/// Where the programs are, and how many threads they may use.
pub(crate) struct Programs {
    pub(crate) root: PathBuf,
    pub(crate) ours: PathBuf,
    /// The interpreter with PyTorch, where that is measured too.
    pub(crate) python: Option<PathBuf>,
    pub(crate) threads: usize,
    pub(crate) target: Target,
}

impl Programs {
    /// Ours, just started.
    pub(crate) fn start_ours(&self) -> Result<Server> {
        let mut command = Command::new(&self.ours);
        let threads = self.threads.to_string();
        command
            .args(["--threads", &threads])
            .args(self.target.ours())
            .env("RAYON_NUM_THREADS", &threads);
        for (name, _) in TUNED {
            command.env_remove(name);
        }
        Server::start(command, &self.log("fgvr")).context("the program fgvr-bench")
    }

    /// PyTorch in one of its modes, just started.
    pub(super) fn start_torch(&self, group: Group, mode: &Mode) -> Result<Server> {
        let python = self.python.as_ref().context("PyTorch was not asked for")?;
        let mut command = Command::new(python);
        let threads = self.threads.to_string();
        command
            .arg(self.root.join("benches/torch/server.py"))
            .args(["--mode", mode.script, "--threads", &threads])
            .args(self.target.torch())
            .env("OMP_NUM_THREADS", &threads)
            .env("MKL_NUM_THREADS", &threads)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        if !self.target.is_gpu() {
            command.env("CUDA_VISIBLE_DEVICES", "");
        }
        for (name, value) in TUNED {
            if mode.tuned {
                command.env(name, value);
            } else {
                command.env_remove(name);
            }
        }
        let log = self.log(&format!("torch-{}-{}", group.name(), mode.name));
        Server::start(command, &log)
    }

    /// Where a program that is started as `name` complains.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.root.join(format!("target/bench-logs/{name}.log"))
    }
}

/// Builds our program for release, with CUDA for a GPU, and says where it lies.
pub(crate) fn build(root: &Path, target: Target) -> Result<PathBuf> {
    let features: &[&str] = match target.is_gpu() {
        true => &["--features", "cuda"],
        false => &[],
    };
    let which = ["--release", "-p", "fgvr-bench"];
    executable(root, &[&which[..], features].concat(), "fgvr-bench")
}
