//! Links between pages, and to files: each leads somewhere.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};

use super::Problem;
use super::markdown::{anchor, lines, targets};

/// Checks the links of the page `page`.
pub(super) fn check(root: &Path, page: &Path, problems: &mut Vec<Problem>) -> Result<()> {
    let text = std::fs::read_to_string(root.join(page));
    let text = text.with_context(|| page.display().to_string())?;
    let read = |file: &Path| match root.join(file) {
        path if path.is_dir() => Some(String::new()),
        // An image has no headings, whatever its bytes.
        path => std::fs::read(path)
            .ok()
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    };
    problems.extend(broken(page, &text, read));
    Ok(())
}

/// The links of `text` that lead nowhere; `read` gives the text of a file, relative to the workspace, if there
/// is such a file.
fn broken(page: &Path, text: &str, read: impl Fn(&Path) -> Option<String>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for line in lines(text).filter(|line| !line.fenced) {
        for target in targets(line.text).filter(|target| !is_address(target)) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = beside(page, file);
            let found = match file {
                "" => Some(text.to_owned()),
                _ => read(&path),
            };
            let Some(found) = found else {
                problems.push(Problem::new(
                    page,
                    line.number,
                    format!("there is no {}", path.display()),
                    "link to what is there",
                ));
                continue;
            };
            let mut anchors = lines(&found)
                .filter(|line| !line.fenced)
                .filter_map(|line| anchor(line.text));
            if !heading.is_empty() && !anchors.any(|anchor| anchor == heading) {
                problems.push(Problem::new(
                    page,
                    line.number,
                    format!("no heading of {} is `#{heading}`", path.display()),
                    "link to one that is there",
                ));
            }
        }
    }
    problems
}

fn is_address(target: &str) -> bool {
    ["https:", "http:", "mailto:"]
        .iter()
        .any(|scheme| target.starts_with(scheme))
}

/// The file that `page` calls `target`, relative to the workspace.
fn beside(page: &Path, target: &str) -> PathBuf {
    if target.is_empty() {
        return page.to_path_buf();
    }
    let mut path = page.parent().unwrap_or(Path::new("")).to_path_buf();
    for part in Path::new(target).components() {
        match part {
            Component::ParentDir => {
                path.pop();
            }
            Component::CurDir => {}
            part => path.push(part),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_to_nothing_and_to_no_heading_is_found() {
        let read = |file: &Path| match file.to_str() {
            Some("docs/b.md") => Some("# B\n```\n# no heading\n```\n## On a GPU\n".to_owned()),
            Some("README.md") => Some("# R\n".to_owned()),
            _ => None,
        };
        let found = |text: &str| -> Vec<String> {
            let problems = broken(Path::new("docs/a.md"), text, read);
            problems.iter().map(ToString::to_string).collect()
        };
        let none: [&str; 0] = [];
        let right = "# A\n[b](b.md) [b](b.md#on-a-gpu) [r](../README.md#r) [own](#a) [w](https://x.y/z)\n\
                     ```\n[code](gone.md)\n```\n`[code](gone.md)`\n";
        assert_eq!(found(right), none);
        assert_eq!(
            found("\n![picture](images/gone.png)"),
            ["docs/a.md:2: there is no docs/images/gone.png, link to what is there"]
        );
        assert_eq!(
            found("[b](b.md#no-heading)"),
            ["docs/a.md:1: no heading of docs/b.md is `#no-heading`, link to one that is there"]
        );
        assert_eq!(
            found("[own](#gone)").len() + found("[r](README.md)").len(),
            2
        );
    }
}
