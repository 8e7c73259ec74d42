//! What would be uploaded of each crate that is published.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command::Cargo;

/// A package larger than this holds what no user needs, such as golden tensors.
const MOST_BYTES: u64 = 4 << 20;

/// What every package holds.
const NEEDED: [&str; 4] = ["Cargo.toml", "README.md", "LICENSE-APACHE", "LICENSE-MIT"];

/// Folders of what stays in the project.
const OURS: [&str; 2] = ["tests", "golden"];

/// Packages all crates that are published, without compiling them again, and says a line for each.
///
/// # Errors
/// A crate that cannot be packaged, one without what a registry asks for, files that are missing or do not belong there.
pub(crate) fn check(root: &Path) -> Result<Option<String>> {
    let metadata = Cargo::new(["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&metadata.output(root)?.0)?;
    let published = published(&metadata)?;
    let names: Vec<&str> = published
        .iter()
        .filter_map(|package| package["name"].as_str())
        .collect();
    let mut all = Cargo::new(["package", "--no-verify", "--allow-dirty"]);
    for name in &names {
        all = all.args(["-p", name]);
    }
    say!("    {all}");
    let (_, told) = all.output(root)?;
    let mut problems = Vec::new();
    for (package, name) in published.iter().zip(&names) {
        let list = Cargo::new(["package", "--list", "--allow-dirty", "-p", name]);
        let (files, _) = list.output(root)?;
        let missing = missing(package).into_iter();
        problems.extend(missing.map(|field| format!("{name}: no {field} in its manifest")));
        problems.extend(
            wrong_files(&files)
                .into_iter()
                .map(|what| format!("{name}: {what}")),
        );
        let told = size(&told, name).with_context(|| format!("`{all}` says no size of {name}"))?;
        say!("    {name:<14} {told}");
        let version = package["version"].as_str().unwrap_or_default();
        let file = target(&metadata)?.join(format!("package/{name}-{version}.crate"));
        let bytes = std::fs::metadata(&file)
            .with_context(|| file.display().to_string())?
            .len();
        if bytes > MOST_BYTES {
            problems.push(format!(
                "{name}: {bytes} bytes, expected at most {MOST_BYTES}; `{list}` shows what is in it"
            ));
        }
    }
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(None)
}

fn target(metadata: &Value) -> Result<&Path> {
    let folder = metadata["target_directory"].as_str();
    Ok(Path::new(
        folder.context("cargo metadata names no target_directory")?,
    ))
}

/// The packages that may be published; there is at least one.
fn published(metadata: &Value) -> Result<Vec<&Value>> {
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata lists no packages")?;
    // `publish` is null for anywhere, and a list of registries: an empty one for nowhere.
    let anywhere = |package: &&Value| {
        package["publish"]
            .as_array()
            .is_none_or(|to| !to.is_empty())
    };
    let found: Vec<&Value> = packages.iter().filter(anywhere).collect();
    if found.is_empty() {
        bail!("no crate of the workspace is published");
    }
    Ok(found)
}

/// The fields that a registry asks for, or shows, and that `package` lacks.
fn missing(package: &Value) -> Vec<&'static str> {
    let fields = [
        "description",
        "license",
        "readme",
        "rust_version",
        "keywords",
        "categories",
    ];
    let lacks = |field: &&str| match &package[*field] {
        Value::String(text) => text.is_empty(),
        Value::Array(words) => words.is_empty(),
        _ => true,
    };
    fields.into_iter().filter(lacks).collect()
}

/// What is wrong with the files of a package, a name a line.
fn wrong_files(list: &str) -> Vec<String> {
    let lacking = NEEDED
        .iter()
        .filter(|name| !list.lines().any(|file| file == **name));
    let mut problems: Vec<String> = lacking.map(|name| format!("without {name}")).collect();
    let ours = |file: &&str| {
        Path::new(file)
            .iter()
            .any(|part| OURS.iter().any(|our| part == *our))
    };
    // `src/…/tests/` and `tests.rs` are unit tests, small and part of the sources.
    let strays = list.lines().filter(|file| !file.starts_with("src/"));
    problems.extend(
        strays
            .filter(ours)
            .map(|file| format!("with {file}, which is for the project's own tests")),
    );
    problems
}

/// What cargo says of the package `name` in its messages: `15 files, 86.2KiB (26.1KiB compressed)`.
fn size(messages: &str, name: &str) -> Option<String> {
    let begins = |line: &str| {
        let rest = line.trim().strip_prefix("Packaging ");
        rest.is_some_and(|rest| rest.split(' ').next() == Some(name))
    };
    let mut lines = messages.lines().skip_while(|line| !begins(line));
    lines.next()?;
    let told = lines
        .take_while(|line| !line.trim().starts_with("Packaging "))
        .find_map(|line| line.trim().strip_prefix("Packaged "));
    told.map(String::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn sizes_are_found_under_the_crates_own_name() {
        let messages = "   Packaging a-b v0.1.0 (x)\nwarning: y\n    Packaged 3 files, 1.0KiB (0.5KiB compressed)\n\
                        \x20  Packaging a v0.1.0 (x)\n    Packaged 4 files, 2.0KiB (1.5KiB compressed)\n";
        let of = |name| size(messages, name);
        assert_eq!(
            of("a").as_deref(),
            Some("4 files, 2.0KiB (1.5KiB compressed)")
        );
        assert_eq!(
            of("a-b").as_deref(),
            Some("3 files, 1.0KiB (0.5KiB compressed)")
        );
        assert_eq!(of("b"), None);
        assert_eq!(
            size("Packaging a v1\nPackaging b v1\nPackaged 1 files", "a"),
            None
        );
    }

    #[test]
    fn files_that_are_missing_and_those_that_stay_here_are_named() {
        let whole = NEEDED.join("\n") + "\nsrc/lib.rs\nsrc/a/tests/b.rs\n";
        assert!(wrong_files(&whole).is_empty());
        let strays = whole.replace("README.md", "tests/golden/a.safetensors");
        assert_eq!(
            wrong_files(&strays),
            [
                "without README.md",
                "with tests/golden/a.safetensors, which is for the project's own tests"
            ]
        );
    }

    #[test]
    fn what_a_manifest_lacks_is_named_and_unpublished_crates_are_left_out() {
        let metadata = serde_json::json!({"packages": [
            {"name": "a", "publish": null, "description": "x", "license": "MIT", "readme": "README.md",
             "rust_version": "1", "keywords": [], "categories": ["science"]},
            {"name": "b", "publish": []},
        ]});
        let found = published(&metadata).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(missing(found[0]), ["keywords"]);
        assert!(published(&serde_json::json!({"packages": []})).is_err());
    }

    #[test]
    fn what_only_tests_need_is_not_published() {
        let root = workspace::root().unwrap();
        let metadata = Cargo::new(["metadata", "--no-deps", "--format-version", "1"]);
        let metadata = metadata.output(&root).unwrap().0;
        let metadata: Value = serde_json::from_str(&metadata).unwrap();
        let names: Vec<&str> = published(&metadata)
            .unwrap()
            .iter()
            .filter_map(|package| package["name"].as_str())
            .collect();
        assert!(names.contains(&"fgvr-gradcam") && names.contains(&"fgvr-train"));
        for ours in [
            "fgvr-testkit",
            "fgvr-tests",
            "fgvr-bench",
            "xtask",
            "xtask-start",
        ] {
            assert!(!names.contains(&ours), "{ours}");
        }
    }
}
