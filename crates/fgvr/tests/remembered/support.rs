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
        for (set, numbers) in [("photos", 0..20), ("others", 20..40)] {
            for (class, seed) in [("finch", 0), ("wren", 100)] {
                photos(&place.join(set).join(class), numbers.clone(), seed);
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
            "--set=monitor.knn_every=0",
            "--set=data.size=16",
        ];
        args.extend(settings);
        succeeded(&self.place.pretrain(&args));
        self.join("run")
    }

    /// Makes the run one that was stopped in the middle.
    pub(crate) fn stop(&self) {
        self.stop_at(STOPPED);
    }

    /// Makes the run one that was stopped after this step.
    pub(crate) fn stop_at(&self, step: u64) {
        let last = self.join("run/checkpoints/last");
        fs::write(last, format!("step-{step:08}")).expect("checkpoints/last");
    }

    /// Copies run and photos, for [`World::restore`].
    pub(crate) fn keep(&self) {
        for folder in ["run", "photos"] {
            copy(&self.join(folder), &self.join("kept").join(folder));
        }
    }

    /// Run and photos as they were when they were copied.
    pub(crate) fn restore(&self) {
        for folder in ["run", "photos"] {
            fs::remove_dir_all(self.join(folder)).expect("a folder");
            copy(&self.join("kept").join(folder), &self.join(folder));
        }
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

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let there = to.join(path.file_name().expect("a name"));
        match path.is_dir() {
            true => copy(&path, &there),
            false => drop(fs::copy(&path, &there).expect("a copy")),
        }
    }
}
