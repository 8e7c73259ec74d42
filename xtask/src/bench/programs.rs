//! The two programs that are timed: how they are built and started.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::case::{Group, Mode};
use super::server::Server;
use crate::command::Cargo;

/// Keeps PyTorch's large blocks in its process from one step to the next.
const TUNED: [(&str, &str); 2] = [
    ("MALLOC_MMAP_THRESHOLD_", "4294967296"),
    ("MALLOC_TRIM_THRESHOLD_", "8589934592"),
];

/// Where the programs are, and how many threads they may use.
pub(super) struct Programs {
    pub(super) root: PathBuf,
    pub(super) ours: PathBuf,
    /// The interpreter with PyTorch, where that is measured too.
    pub(super) python: Option<PathBuf>,
    pub(super) threads: usize,
}

impl Programs {
    /// Ours, just started.
    pub(super) fn start_ours(&self) -> Result<Server> {
        let mut command = Command::new(&self.ours);
        let threads = self.threads.to_string();
        command
            .args(["--threads", &threads])
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
            .env("OMP_NUM_THREADS", &threads)
            .env("MKL_NUM_THREADS", &threads)
            .env("CUDA_VISIBLE_DEVICES", "")
            .env("PYTHONDONTWRITEBYTECODE", "1");
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

    fn log(&self, name: &str) -> PathBuf {
        self.root.join(format!("target/bench-logs/{name}.log"))
    }
}

/// Builds our program for release and says where it lies.
pub(super) fn build(root: &Path) -> Result<PathBuf> {
    let cargo = Cargo::new([
        "build",
        "--release",
        "-p",
        "fgvr-bench",
        "--message-format=json-render-diagnostics",
    ]);
    eprintln!("{cargo}");
    let output = cargo
        .command()
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run `{cargo}`"))?;
    if !output.status.success() {
        bail!("`{cargo}` failed; see above");
    }
    executable(&String::from_utf8_lossy(&output.stdout))
        .with_context(|| format!("`{cargo}` names no program"))
}

/// The program among cargo's messages.
fn executable(messages: &str) -> Option<PathBuf> {
    let mut messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    messages.find_map(|message| {
        let path = message["executable"].as_str()?;
        (message["target"]["name"] == "fgvr-bench").then(|| PathBuf::from(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_among_cargos_messages() {
        let messages = "{\"target\": {\"name\": \"x\"}, \"executable\": null}\nnoise\n\
            {\"target\": {\"name\": \"fgvr-bench\"}, \"executable\": \"a/fgvr-bench\"}\n\
            {\"reason\": \"build-finished\"}";
        assert_eq!(executable(messages), Some(PathBuf::from("a/fgvr-bench")));
        assert_eq!(executable("{}"), None);
    }
}
