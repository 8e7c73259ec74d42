//! The Hub's client against a Hub on the loopback interface.

#![allow(clippy::unwrap_used)]

mod cache;
mod fetch;
mod hostile;
mod publish;
mod trouble;

use std::path::{Path, PathBuf};
use std::time::Duration;

use fgvr_encoder::HubReference;
use fgvr_encoder::hub::{HubConfig, HubError, Silent, Snapshot, snapshot_with};
use fgvr_testkit::LoopbackHub;

/// The repository of most tests.
const MODEL: &str = "owner/name";

/// A Hub with a model, and a cache of its own.
struct Scene {
    hub: LoopbackHub,
    folder: tempfile::TempDir,
    config: HubConfig,
}

impl Scene {
    /// `model.safetensors` of 100 000 bytes, `config.json`, and files that nobody asks for.
    fn model() -> Self {
        Self::of([
            ("model.safetensors", weights(1)),
            ("config.json", b"{\"architecture\": \"resnet18\"}".to_vec()),
            ("README.md", b"# A model\n".to_vec()),
            ("extra/notes.txt", b"notes".to_vec()),
        ])
    }

    fn of<N: Into<String>, C: Into<Vec<u8>>>(files: impl IntoIterator<Item = (N, C)>) -> Self {
        let hub = LoopbackHub::start(MODEL, files);
        let folder = tempfile::tempdir().unwrap();
        let mut config = HubConfig::new(hub.endpoint(), folder.path().join("hub"));
        config.timeout = Duration::from_secs(20);
        config.retries = 2;
        config.backoff = Duration::from_millis(1);
        Self {
            hub,
            folder,
            config,
        }
    }

    fn fetch(&self, reference: &str) -> Result<Snapshot, HubError> {
        let reference: HubReference = reference.parse().unwrap();
        snapshot_with(&self.config, &reference, &mut Silent)
    }

    /// The text of the error that fetching the model ends in.
    fn error(&self) -> String {
        self.fetch(MODEL).unwrap_err().to_string()
    }

    fn repository(&self) -> PathBuf {
        self.config.cache.join("models--owner--name")
    }

    /// The files of the cache that look whole: all but locks and those named incomplete.
    fn whole(&self) -> Vec<PathBuf> {
        let mut whole = files(self.folder.path());
        whole.retain(|path| {
            let text = path.to_str().unwrap();
            !text.contains("/.locks/") && !text.ends_with(".incomplete")
        });
        whole
    }
}

/// Bytes that differ from place to place and from seed to seed.
fn weights(seed: u64) -> Vec<u8> {
    let values = fgvr_testkit::uniform_values(seed, 25_000, -1., 1.);
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// Every file and link below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

fn names(snapshot: &Snapshot) -> Vec<&str> {
    snapshot
        .files
        .iter()
        .map(|file| file.name.as_str())
        .collect()
}

#[track_caller]
fn assert_says(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
}
