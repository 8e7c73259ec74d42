//! Which file of a directory holds its weights.

use std::fs;
use std::path::{Path, PathBuf};

use super::adaptation::AdaptationLayer;
use crate::Error;

/// In the order of preference.
const KNOWN: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// Whether a file of this name belongs to the settings that lie beside it.
pub(crate) fn is_known(name: &str) -> bool {
    KNOWN.contains(&name)
}

/// The file with the weights of `directory`.
pub(crate) fn choose(directory: &Path) -> Result<PathBuf, Error> {
    for name in KNOWN {
        let file = directory.join(name);
        if file.is_file() {
            return Ok(file);
        }
    }
    let io = |source| Error::Io {
        file: directory.to_path_buf(),
        source,
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort();
    for endings in [&[".safetensors"][..], &[".pth", ".pth.tar"]] {
        let ends = |name: &&String| {
            // What lies beside weights is none of them.
            *name != AdaptationLayer::FILE && endings.iter().any(|ending| name.ends_with(ending))
        };
        let mut found = names.iter().filter(ends);
        if let (Some(name), None) = (found.next(), found.next()) {
            return Ok(directory.join(name));
        }
    }
    const SHOWN: usize = 12;
    let found = match names.len() {
        0 => "it is empty".to_owned(),
        count if count > SHOWN => {
            format!(
                "it holds {} and {} more",
                names[..SHOWN].join(", "),
                count - SHOWN
            )
        }
        _ => format!("it holds {}", names.join(", ")),
    };
    Err(Error::Directory {
        directory: directory.to_path_buf(),
        found,
    })
}
