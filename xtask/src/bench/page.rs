//! docs/benchmarks.md: what is measured stands between markers, all else is written by hand.

use std::path::Path;

use anyhow::{Context, Result};

/// The page, relative to the workspace.
pub(super) const PAGE: &str = "docs/benchmarks.md";

/// Puts `text` between the markers of `name` on the page.
pub(super) fn write(root: &Path, sections: &[(&str, String)]) -> Result<()> {
    let path = root.join(PAGE);
    let mut page = std::fs::read_to_string(&path).context(PAGE)?;
    for (name, text) in sections {
        page = replaced(&page, name, text)?;
    }
    std::fs::write(&path, page).context(PAGE)
}

fn replaced(page: &str, name: &str, text: &str) -> Result<String> {
    let (begin, end) = (
        format!("<!-- measured: {name} -->"),
        format!("<!-- end: {name} -->"),
    );
    let missing =
        || format!("{PAGE}: write the lines `{begin}` and `{end}` where the figures belong");
    let (before, rest) = page.split_once(&begin).with_context(missing)?;
    let (_, after) = rest.split_once(&end).with_context(missing)?;
    Ok(format!(
        "{before}{begin}\n\n{}\n\n{end}{after}",
        text.trim()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::case::Group;

    const TEXT: &str =
        "# Page\n\nBy hand.\n\n<!-- measured: a -->\nold\n<!-- end: a -->\n\nBelow.\n";

    #[test]
    fn what_stands_outside_the_markers_is_kept() {
        let once = replaced(TEXT, "a", "new\n").unwrap();
        assert_eq!(
            once,
            "# Page\n\nBy hand.\n\n<!-- measured: a -->\n\nnew\n\n<!-- end: a -->\n\nBelow.\n"
        );
        assert_eq!(replaced(&once, "a", "new").unwrap(), once);
    }

    #[test]
    fn missing_markers_are_named() {
        for page in ["# Page\n", "<!-- measured: a -->\n", "<!-- end: a -->"] {
            let error = replaced(page, "a", "x").unwrap_err().to_string();
            assert!(error.contains("<!-- end: a -->"), "{error}");
        }
    }

    #[test]
    fn the_page_has_markers_for_every_group() {
        let page = crate::workspace::root().unwrap().join(PAGE);
        let page = std::fs::read_to_string(page).unwrap();
        for group in Group::ALL {
            replaced(&page, group.name(), "x").unwrap();
        }
    }
}
