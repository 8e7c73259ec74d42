//! Golden tensors and the scripts that made them stand side by side.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Problem;

/// Golden files are part of every clone, so they stay small.
const MOST_BYTES: u64 = 200_000;

/// Checks every folder `tests/golden`.
pub(super) fn check(root: &Path, tracked: &[PathBuf], problems: &mut Vec<Problem>) -> Result<()> {
    for path in tracked.iter().filter(|path| is_golden(path)) {
        let length = std::fs::metadata(root.join(path))
            .with_context(|| path.display().to_string())?
            .len();
        problems.extend(golden(path, length, tracked));
    }
    Ok(())
}

fn is_golden(path: &Path) -> bool {
    path.parent()
        .is_some_and(|folder| folder.ends_with("tests/golden"))
}

fn golden(path: &Path, length: u64, tracked: &[PathBuf]) -> Option<Problem> {
    let has = |extension| tracked.contains(&path.with_extension(extension));
    // A script of several files writes them into a folder of its name.
    let folder = path.with_extension("");
    let has_folder = tracked.iter().any(|file| file.parent() == Some(&folder));
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("py") if !has("safetensors") && !has_folder => Some(Problem::new(
            path,
            1,
            "the script's tensors are missing",
            "run it and add its output, of the same name, as .safetensors",
        )),
        Some("safetensors") if !has("py") => Some(Problem::new(
            path,
            1,
            "nothing says how these tensors were made",
            "add the script that made them, of the same name, as .py",
        )),
        Some("safetensors") if length > MOST_BYTES => Some(Problem::new(
            path,
            1,
            format!("the file has {length} bytes"),
            format!("take smaller shapes, at most {MOST_BYTES} bytes"),
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_without_tensors_and_tensors_without_a_script_are_found() {
        let files = [
            "a.py",
            "a.safetensors",
            "b.py",
            "c.safetensors",
            "common.md",
            "d.py",
            "d/model.bin",
        ]
        .map(|name| Path::new("crates/x/tests/golden").join(name));
        let what: Vec<Option<String>> = files
            .iter()
            .map(|path| golden(path, 10, &files).map(|p| p.what))
            .collect();
        assert_eq!(what[0], None);
        assert_eq!(what[1], None);
        assert_eq!(what[2].as_deref(), Some("the script's tensors are missing"));
        assert_eq!(
            what[3].as_deref(),
            Some("nothing says how these tensors were made")
        );
        assert_eq!(what[4], None);
        assert_eq!(what[5], None);
        assert!(golden(&files[1], 200_001, &files).is_some());
    }

    #[test]
    fn only_golden_folders_are_looked_at() {
        assert!(is_golden(Path::new("tests/golden/a.py")));
        assert!(is_golden(Path::new("crates/x/tests/golden/a.py")));
        assert!(!is_golden(Path::new("crates/x/tests/a.py")));
        assert!(!is_golden(Path::new("golden/a.py")));
    }
}
