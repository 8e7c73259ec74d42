//! The run folder: made once, never overwritten.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use fgvr_data::{Existing, can_hold_files, write_whole};

use crate::config::{Layers, PretrainConfig, Use};
use crate::{Error, Result};

/// The folder of a run with the weights to use: its own, or the start's where it ended below.
pub(crate) const EXPORT: &str = "export";
/// The folder with a run's own weights, of one that ended below its start.
pub(crate) const EXPORT_TRAINED: &str = "export-trained";

/// Where a new run goes.
#[derive(Clone, Debug)]
pub enum Place {
    /// This folder, which must not exist.
    Folder(PathBuf),
    /// A folder below `runs` named after `stem`, with a number where that name is taken.
    Numbered {
        /// The folder of runs.
        runs: PathBuf,
        /// The name without a number.
        stem: String,
    },
}

impl Place {
    /// Whether the folder can be made, as far as can be told without making it.
    ///
    /// # Errors
    /// The folder exists, or would be below a file or in a folder that takes no files.
    pub fn check(&self) -> Result<()> {
        match self {
            // Not `exists`: a link that leads nowhere is there, too.
            Self::Folder(path) if path.symlink_metadata().is_ok() => Err(taken(path)),
            Self::Folder(path) | Self::Numbered { runs: path, .. } => {
                let above = path.ancestors().find(|above| above.exists());
                let above = above.unwrap_or(Path::new("."));
                if !above.is_dir() {
                    return Err(no_room(path, above, "it is not a folder"));
                }
                can_hold_files(above).map_err(|error| no_room(path, above, error))
            }
        }
    }

    /// Makes the folder.
    ///
    /// # Errors
    /// The path exists, or a part of it is not a folder.
    pub fn create(&self) -> Result<RunFolder> {
        match self {
            Self::Folder(path) => RunFolder::create(path),
            Self::Numbered { runs, stem } => {
                let mut path = runs.join(stem);
                let mut number = 1;
                while path.symlink_metadata().is_ok() {
                    number += 1;
                    path = runs.join(format!("{stem}-{number}"));
                }
                RunFolder::create(&path)
            }
        }
    }
}

fn no_room(path: &Path, above: &Path, problem: impl std::fmt::Display) -> Error {
    Error::run(
        path,
        format!(
            "{} cannot hold a run folder ({problem}); choose another --out",
            above.display()
        ),
    )
}

fn taken(path: &Path) -> Error {
    Error::run(
        path,
        "exists already and is not overwritten; choose another --out, or continue it with --resume",
    )
}

/// The files of a run.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Makes a new folder.
    ///
    /// # Errors
    /// The path exists, or a part of it is not a folder.
    pub fn create(path: &Path) -> Result<Self> {
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(|e| no_room(path, parent, e))?;
        }
        fs::create_dir(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => taken(path),
            _ => Error::run(path, format!("cannot be made ({e}); choose another --out")),
        })?;
        let run = Self {
            path: path.to_owned(),
        };
        for folder in ["checkpoints", "samples"] {
            let folder = path.join(folder);
            let made = fs::create_dir(&folder).map_err(Error::io(&folder));
            made.inspect_err(|_| run.give_up())?;
        }
        Ok(run)
    }

    /// Removes a folder that was made for a run that could not begin.
    pub(crate) fn give_up(&self) {
        // The error that kept the run from beginning is the one to report.
        let _ = fs::remove_dir_all(&self.path);
    }

    /// Opens the folder of an earlier run.
    ///
    /// # Errors
    /// No such folder, or one that holds no run.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.join("config.toml").is_file() {
            return Err(Error::run(
                path,
                "holds no run (there is no config.toml); give the folder that a run printed at its start",
            ));
        }
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// The settings the run was started with.
    ///
    /// # Errors
    /// A `config.toml` that was changed into something that is no valid setting.
    pub fn config(&self) -> Result<PretrainConfig> {
        let mut layers = Layers::default();
        layers.file(&self.join("config.toml"))?;
        layers.resolve()
    }

    /// The run's settings with some more over them, each `key.path=value`, for what its network is used
    /// for now.
    ///
    /// # Errors
    /// A `config.toml` that was changed into something that is no valid setting; a setting that is unknown or has no
    /// effect there.
    pub fn config_for(&self, purpose: Use, settings: &[String]) -> Result<PretrainConfig> {
        let mut layers = Layers::default();
        layers.file(&self.join("config.toml"))?;
        for setting in settings {
            layers.set_for(purpose, setting)?;
        }
        layers.resolve_frozen()
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file or folder in it.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a whole file aside, syncs it and renames it into place.
    ///
    /// # Errors
    /// The file cannot be written; what stood there before still stands.
    pub fn write(&self, name: impl AsRef<Path>, contents: &[u8]) -> Result<()> {
        write_atomically(&self.join(name), contents)
    }

    /// Appends a line to `train.log`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn log(&self, line: &str) -> Result<()> {
        let path = self.join("train.log");
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(Error::io(&path))?;
        writeln!(file, "{line}").map_err(Error::io(&path))
    }
}

/// Writes a whole file aside, syncs it and renames it into place.
pub(crate) fn write_atomically(path: &Path, contents: &[u8]) -> Result<()> {
    write_whole(path, Existing::Replace, |file| file.write_all(contents))
        .map(drop)
        .map_err(Error::io(path))
}

/// Makes renames inside `folder` durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    fgvr_data::sync_folder(folder).map_err(Error::io(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_folder_is_never_reused() {
        let runs = tempfile::tempdir().unwrap();
        let first = RunFolder::create(&runs.path().join("a")).unwrap();
        let error = RunFolder::create(first.path()).unwrap_err();
        assert!(error.to_string().contains("not overwritten"), "{error}");
        assert!(error.is_bad_input());
        assert!(Place::Folder(first.path().to_owned()).check().is_err());
        let numbered = Place::Numbered {
            runs: runs.path().to_owned(),
            stem: "a".to_owned(),
        };
        assert_eq!(numbered.create().unwrap().path(), runs.path().join("a-2"));
    }

    #[test]
    fn a_folder_below_a_file_is_refused() {
        let runs = tempfile::tempdir().unwrap();
        let file = runs.path().join("file");
        fs::write(&file, "x").unwrap();
        let error = RunFolder::create(&file.join("run")).unwrap_err();
        assert!(
            error.to_string().contains("choose another --out"),
            "{error}"
        );
        assert_eq!(fs::read_to_string(&file).unwrap(), "x");
    }
}
