//! Runs the program `fgvr` on tiny data.
#![allow(dead_code, unreachable_pub, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use candle_core::{Device, Tensor};
use fgvr_train::PretrainConfig;
use fgvr_train::config::Layers;

/// Settings of a run that takes seconds: four species, a narrow net, generated pairs from the start.
pub const TINY: &str = r#"
[data]
size = 32
[data.lookalikes]
families = 2
species_per_family = 2
train_images = 96
val_images = 16
test_images = 32
[loader]
batch = 16
[encoder]
architecture = "resnet10"
width = 4
stem = "small"
[decoder]
hidden = 16
channels = 16
[moco]
hidden = 16
dim = 8
queue = 32
pair_queue = 32
[synthpair]
bank_size = 64
bank_minimum = 16
warm_up = 0.1
ramp = 0.1
[optimizer]
steps = 20
[monitor]
pictures = 4
[checkpoint]
every = 5
[evaluate]
part_images = 16
"#;

/// A folder that goes with the test, holding `tiny.toml`.
pub struct Place {
    pub folder: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("tiny.toml"), TINY).expect("tiny.toml");
        Self { folder }
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `fgvr` in this folder.
    pub fn fgvr(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fgvr"));
        command.current_dir(self.folder.path()).args(args);
        command
    }

    /// The JSON file `name`.
    pub fn json(&self, name: &str) -> serde_json::Value {
        let bytes = std::fs::read(self.join(name)).expect("a file");
        serde_json::from_slice(&bytes).expect("JSON")
    }

    /// The settings of `tiny.toml` with some more, for runs through the library.
    pub fn config(&self, settings: &[&str]) -> PretrainConfig {
        let mut layers = Layers::default();
        layers.file(&self.join("tiny.toml")).expect("tiny.toml");
        for setting in settings {
            layers.set(setting).expect("a setting");
        }
        layers.resolve().expect("settings in range")
    }

    /// Runs `fgvr pretrain --config tiny.toml ARGS`.
    pub fn pretrain(&self, args: &[&str]) -> Output {
        self.fgvr(&["pretrain", "--config", "tiny.toml"])
            .args(args)
            .output()
            .expect("fgvr starts")
    }

    /// A one-line error with exit code 2 that says all of `words`.
    pub fn refused(&self, output: &Output, words: &[&str]) {
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        let errors: Vec<&str> = stderr
            .lines()
            .filter(|l| l.starts_with("error: "))
            .collect();
        assert_eq!(errors.len(), 1, "one line with the error: {stderr}");
        assert_eq!(
            stderr.lines().last(),
            errors.first().copied(),
            "the error comes last: {stderr}"
        );
        assert_eq!(repeated(errors[0]), None, "{stderr}");
        for word in words {
            assert!(
                errors[0].contains(word),
                "expected {word:?} in: {}",
                errors[0]
            );
        }
    }
}

/// A part of a message that stands in it twice.
pub fn repeated(message: &str) -> Option<&str> {
    let parts: Vec<&str> = message
        .split(['\n', ';'])
        .flat_map(|part| part.split(": "))
        .map(str::trim)
        .collect();
    let long = |part: &&&str| part.chars().count() > 8;
    parts
        .iter()
        .enumerate()
        .filter(|(_, part)| long(part))
        .find_map(|(index, part)| parts[index + 1..].contains(part).then_some(*part))
}

/// Writes `count` small pictures, each a pattern of its own, into a new folder.
pub fn photos(folder: &Path, count: u8) {
    std::fs::create_dir_all(folder).expect("a folder");
    for i in 0..count {
        let values: Vec<f32> = (0..3 * 40 * 40u32)
            .map(|v| ((v / 7 + u32::from(i) * 31) % 256) as f32 / 255.)
            .collect();
        let image = Tensor::from_vec(values, (3, 40, 40), &Device::Cpu).expect("an image");
        fgvr_data::write_png(folder.join(format!("{i}.png")), &image).expect("a file");
    }
}

/// Every file of the newest checkpoint by name, as bytes.
pub fn last_checkpoint(run: &Path) -> Vec<(String, Vec<u8>)> {
    let checkpoints = run.join("checkpoints");
    let last = std::fs::read_to_string(checkpoints.join("last")).expect("checkpoints/last");
    let folder = checkpoints.join(last.trim());
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("the checkpoint's folder")
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "safetensors"))
        .map(|p| {
            let name = p
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            (name, std::fs::read(&p).expect("its bytes"))
        })
        .collect();
    files.sort();
    files
}
