//! Golden tensors: small files that PyTorch made, in `tests/golden` of the workspace.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

/// The tensors of one golden file, by name.
pub struct Golden {
    path: PathBuf,
    tensors: HashMap<String, Tensor>,
}

impl Golden {
    /// The tensor called `name`.
    ///
    /// # Panics
    /// With the file's path and its names where it has none of this name.
    #[must_use]
    #[track_caller]
    pub fn get(&self, name: &str) -> Tensor {
        match self.tensors.get(name) {
            Some(tensor) => tensor.clone(),
            None => {
                let mut names: Vec<_> = self.tensors.keys().collect();
                names.sort();
                panic!(
                    "{}: no tensor {name:?} among {names:?}",
                    self.path.display()
                )
            }
        }
    }

    /// All tensors by name.
    #[must_use]
    pub fn tensors(&self) -> &HashMap<String, Tensor> {
        &self.tensors
    }
}

/// Where `tests/golden/<file>` of the workspace lies.
#[must_use]
pub fn golden_path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden")
        .join(file)
}

/// Loads `tests/golden/<file>`.
///
/// # Panics
/// With the path and the command that makes the file, where it cannot be read.
#[must_use]
#[track_caller]
pub fn golden(file: &str) -> Golden {
    let path = golden_path(file);
    match candle_core::safetensors::load(&path, &Device::Cpu) {
        Ok(tensors) => Golden { path, tensors },
        Err(error) => {
            let script = path.with_extension("py");
            panic!(
                "{}: {error}; made by `python {} {}`",
                path.display(),
                script.display(),
                path.display()
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "made by `python ")]
    fn a_missing_file_names_its_script() {
        let _ = golden("no_such_file.safetensors");
    }

    #[test]
    #[should_panic(expected = "no tensor \"b\" among [\"a\"]")]
    fn a_missing_tensor_names_those_that_are_there() {
        let golden = Golden {
            path: "file".into(),
            tensors: HashMap::from([("a".to_owned(), crate::normal(0, 2))]),
        };
        let _ = golden.get("b");
    }
}
