//! Where the workspace is and what is in it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The folder of the workspace's `Cargo.toml`.
pub(crate) fn root() -> Result<PathBuf> {
    // Cargo sets the variable when it runs xtask; the built-in value serves a direct call.
    let xtask = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let root = xtask.parent().context("xtask's folder has no parent")?;
    Ok(root.to_path_buf())
}

/// The members' folders relative to `root`: `benches`, `tests`, `xtask`, `xtask/start` and those in `crates`, in order of
/// name.
pub(crate) fn members(root: &Path) -> Result<Vec<PathBuf>> {
    let crates = root.join("crates");
    let mut members: Vec<PathBuf> = ["benches", "tests", "xtask", "xtask/start"]
        .map(PathBuf::from)
        .into();
    for entry in std::fs::read_dir(&crates).with_context(|| crates.display().to_string())? {
        let name = entry
            .with_context(|| crates.display().to_string())?
            .file_name();
        let member = Path::new("crates").join(name);
        if root.join(&member).join("Cargo.toml").is_file() {
            members.push(member);
        }
    }
    members.sort();
    Ok(members)
}

/// The package's name and its features, without `default`.
///
/// # Errors
/// What is no manifest of a package.
pub(crate) fn name_and_features(manifest: &str) -> Result<(String, Vec<String>)> {
    let manifest: toml::Table = manifest.parse()?;
    let name = manifest
        .get("package")
        .and_then(|package| package.get("name"))
        .and_then(toml::Value::as_str)
        .context("no package.name")?;
    let features = manifest.get("features").and_then(toml::Value::as_table);
    let features = features.into_iter().flat_map(toml::Table::keys);
    let features = features
        .filter(|feature| *feature != "default")
        .cloned()
        .collect();
    Ok((name.to_string(), features))
}
