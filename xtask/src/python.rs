//! The Python interpreter that has PyTorch, timm and transformers.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Names an interpreter to use as it is.
pub(crate) const VARIABLE: &str = "FGVR_PYTHON";
/// The versions, one place for all.
const PINS: &str = "benches/torch/requirements.txt";

/// The interpreter that `FGVR_PYTHON` names, or that of a virtual environment under `target`,
/// which is made or renewed where it does not hold the pinned versions.
pub(crate) fn interpreter(root: &Path) -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(VARIABLE) {
        let named = PathBuf::from(named);
        call(Command::new(&named).arg("--version")).with_context(|| {
            format!(
                "{VARIABLE} names {}; name one that runs, or unset it",
                named.display()
            )
        })?;
        return Ok(named);
    }
    let pins = std::fs::read_to_string(root.join(PINS)).context(PINS)?;
    let folder = root.join("target/venv");
    let python = folder.join(if cfg!(windows) {
        "Scripts/python.exe"
    } else {
        "bin/python"
    });
    // Written last, so that an environment half made is made again.
    let stamp = folder.join("installed.txt");
    if python.exists() && std::fs::read_to_string(&stamp).is_ok_and(|held| held == pins) {
        return Ok(python);
    }
    say!(
        "making {} with {}; this loads some gigabytes once (PIP_EXTRA_INDEX_URL can name an \
         index with the smaller CPU builds)",
        folder.display(),
        pins.split_whitespace().collect::<Vec<_>>().join(", ")
    );
    let remedy = || format!("or set {VARIABLE} to an interpreter that has them");
    call(Command::new("python3").args(["-m", "venv"]).arg(&folder))
        .with_context(|| format!("install python3 with its module venv, {}", remedy()))?;
    call(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "-r"])
            .arg(root.join(PINS)),
    )
    .with_context(|| format!("pip could not install {PINS}; see above, {}", remedy()))?;
    std::fs::write(&stamp, &pins).with_context(|| stamp.display().to_string())?;
    Ok(python)
}

/// Says which of `packages`, with the versions found, are not the pinned ones.
pub(crate) fn warn_of_other_versions(root: &Path, packages: &[(&str, Option<&str>)]) -> Result<()> {
    for (package, found) in packages {
        let found = found.unwrap_or_default();
        let pinned = pinned(root, package)?.unwrap_or_default();
        // A build's name, such as +cpu, does not count.
        if found.split('+').next() != Some(pinned.as_str()) {
            say!("{package} is {found}, not {pinned} as pinned in {PINS}");
        }
    }
    Ok(())
}

/// The version of `package` that is pinned.
fn pinned(root: &Path, package: &str) -> Result<Option<String>> {
    let pins = std::fs::read_to_string(root.join(PINS)).context(PINS)?;
    Ok(version(&pins, package).map(str::to_string))
}

fn version<'a>(pins: &'a str, package: &str) -> Option<&'a str> {
    let mut found = pins.lines().filter_map(|line| line.split_once("=="));
    found
        .find(|(name, _)| name.trim() == package)
        .map(|(_, version)| version.trim())
}

fn call(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    // Standard output is for figures.
    let status = command
        .stdout(std::process::Stdio::null())
        .status()
        .with_context(|| format!("cannot run {name}"))?;
    if !status.success() {
        bail!("{name} failed ({status})");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_pinned_in_one_place() {
        assert_eq!(
            version("torch==2.1\ntorchvision==0.3\n", "torch"),
            Some("2.1")
        );
        assert_eq!(version("torch\n", "torch"), None);
        let root = crate::workspace::root().unwrap();
        for package in ["torch", "torchvision", "timm", "transformers"] {
            assert!(pinned(&root, package).unwrap().is_some(), "{package}");
        }
    }
}
