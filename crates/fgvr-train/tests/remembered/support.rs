//! Small runs on small photos.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::common::{Place, last_checkpoint};

/// The step that [`World::stop`] goes back to.
pub(crate) const STOPPED: u64 = 4;

/// A place with `photos/` and `others/`, each with two classes of twenty.
pub(crate) struct World {
    pub(crate) place: Place,
}

impl World {
    pub(crate) fn new() -> Self {
        let place = Place::new();
        for (number, set) in ["photos", "others"].iter().enumerate() {
            for (class, seed) in [("finch", 0), ("wren", 100)] {
                let seed = seed + 1000 * number;
                photos(&place.join(set).join(class), 0..20, seed);
            }
        }
        Self { place }
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.place.join(name)
    }

    /// A finished run of eight steps on `photos/`, with a checkpoint after every step, in the folder `run`.
    pub(crate) fn run(&self, settings: &[&str]) -> PathBuf {
        let mut args = vec![
            "--data=photos",
            "--out=run",
            "--steps=8",
            "--set=loader.batch=4",
            "--set=checkpoint.every=1",
            "--set=checkpoint.keep=20",
            "--set=synthpair.bank_minimum=4",
            "--set=monitor.pictures_every=0",
        ];
        args.extend(settings);
        succeeded(&self.place.pretrain(&args));
        self.join("run")
    }

    /// Makes the run one that was stopped in the middle.
    pub(crate) fn stop(&self) {
        let last = self.join("run/checkpoints/last");
        fs::write(last, format!("step-{STOPPED:08}")).expect("checkpoints/last");
        // What a run has once it has ended.
        fs::remove_file(self.join("run/eval.json")).expect("eval.json");
    }

    pub(crate) fn resume(&self, args: &[&str]) -> Output {
        let mut command = self.place.fgvr(&["pretrain", "--resume=run"]);
        command.args(args).output().expect("fgvr starts")
    }

    pub(crate) fn eval(&self, args: &[&str]) -> Output {
        let mut command = self.place.fgvr(&["eval", "--run=run", "--json"]);
        command.args(args).output().expect("fgvr starts")
    }

    /// Says no word of the data, and ends with the same tensors as `whole`.
    pub(crate) fn resumes_as(&self, args: &[&str], whole: &[(String, Vec<u8>)]) {
        let said = succeeded(&self.resume(args));
        assert!(!said.contains("changed"), "{said}");
        let rest = last_checkpoint(&self.join("run"));
        assert!(rest == whole, "other bits after {args:?}");
    }

    /// The run's checkpoint of a step, as a folder.
    pub(crate) fn checkpoint(&self, step: u64) -> PathBuf {
        self.join(&format!("run/checkpoints/step-{step:08}"))
    }
}

/// Standard error of a command that succeeded.
pub(crate) fn succeeded(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

/// Bitmaps `000.bmp` and so on, each with a pattern of its own, all of the same size.
pub(crate) fn photos(folder: &Path, numbers: std::ops::Range<usize>, seed: usize) {
    fs::create_dir_all(folder).expect("a folder");
    for number in numbers {
        bitmap(&folder.join(format!("{number:03}.bmp")), 40, seed + number);
    }
}

/// A bitmap without compression, `side` pixels wide and high.
pub(crate) fn bitmap(path: &Path, side: u32, seed: usize) {
    let pixels = side * side * 3;
    let mut bytes = b"BM".to_vec();
    bytes.extend((54 + pixels).to_le_bytes());
    bytes.extend([0; 4]);
    for word in [
        54,
        40,
        side,
        side,
        24 << 16 | 1,
        0,
        pixels,
        2835,
        2835,
        0,
        0,
    ] {
        bytes.extend(u32::to_le_bytes(word));
    }
    let value = |at: u32| (at as usize / (2 + seed % 7) + seed * 37) % 256;
    bytes.extend((0..pixels).map(|at| value(at) as u8));
    fs::write(path, bytes).expect("a file");
}
