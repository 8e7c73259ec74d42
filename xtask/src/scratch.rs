//! A folder for files that nobody keeps.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A folder that goes when this does.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// A new folder whose name begins with `name`, where the system keeps such.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        // An error where it exists, so that what is removed is what was made.
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_goes_with_its_owner_and_another_s_is_left_alone() {
        let folder = Folder::new("fgvr-scratch-test").unwrap();
        let path = folder.path().to_path_buf();
        std::fs::write(path.join("file"), "x").unwrap();
        assert!(Folder::new("fgvr-scratch-test").is_err());
        drop(folder);
        assert!(!path.exists());
    }
}
