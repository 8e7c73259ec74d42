//! Pages of docs/ with figures: what is measured stands between markers, all else is written by hand.

use std::path::Path;

use anyhow::{Context, Result};

/// Puts each text between the markers of its name on `page`, a path relative to the workspace.
pub(crate) fn write(root: &Path, page: &str, sections: &[(&str, String)]) -> Result<()> {
    let path = root.join(page);
    let mut content = std::fs::read_to_string(&path).with_context(|| page.to_string())?;
    for (name, text) in sections {
        content = replaced(&content, name, text).with_context(|| page.to_string())?;
    }
    std::fs::write(&path, content).with_context(|| page.to_string())
}

pub(crate) fn replaced(page: &str, name: &str, text: &str) -> Result<String> {
    let (begin, end) = (
        format!("<!-- measured: {name} -->"),
        format!("<!-- end: {name} -->"),
    );
    let missing = || format!("write the lines `{begin}` and `{end}` where the figures belong");
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
}
