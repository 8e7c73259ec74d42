//! The rules on imports, modules and unsafe code, read from the fenced blocks of docs/architecture.md, so that the page and the
//! check cannot differ.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

/// Lists of names under a name.
pub(super) type Lists = BTreeMap<String, Vec<String>>;

/// What the page says. Crates stand without their prefix `fgvr-`.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Rules {
    /// `imports`: the fgvr crates each crate may depend on; `*` is all.
    pub(super) imports: Lists,
    /// `only-in`: the crates that may depend on an external crate; `name/bin` allows it in the
    /// programs of `name` alone.
    pub(super) only_in: Lists,
    /// `nothing-else`: the external crates a light crate may depend on.
    pub(super) nothing_else: Lists,
    /// `own-range`: the external crates of which a crate takes a range of releases, not the workspace's.
    pub(super) own_range: Lists,
    /// `never-below`: the external crates that may stand nowhere below a crate without features.
    pub(super) never_below: Lists,
    /// `names-cuda`: the modules of a member that may name `fgvr-cuda`, by itself or as `fgvr_nn::cuda`; `*` is all.
    pub(super) names_cuda: Lists,
    /// `no-circles`: the members whose modules import each other in no circle.
    pub(super) no_circles: Lists,
    /// `unsafe`: the modules of a member in which unsafe code may stand.
    pub(super) unsafe_in: Lists,
}

/// Reads the blocks that begin with ```` ```text <name> ````; each line in them is
/// `name: other other`, and `#` begins a comment.
pub(super) fn parse(page: &str) -> Result<Rules> {
    Ok(Rules {
        imports: block(page, "imports")?,
        only_in: block(page, "only-in")?,
        nothing_else: block(page, "nothing-else")?,
        own_range: block(page, "own-range")?,
        never_below: block(page, "never-below")?,
        names_cuda: block(page, "names-cuda")?,
        no_circles: block(page, "no-circles")?,
        unsafe_in: block(page, "unsafe")?,
    })
}

fn block(page: &str, name: &str) -> Result<Lists> {
    let mut lines = page.lines().enumerate();
    let fence = format!("```text {name}");
    lines
        .find(|(_, line)| line.trim() == fence)
        .with_context(|| format!("no block {fence}"))?;
    let mut lists = Lists::new();
    for (index, line) in lines {
        if line.trim() == "```" {
            return Ok(lists);
        }
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let Some((key, names)) = line.split_once(':') else {
            bail!("line {}: expected `name: names`, found {line:?}", index + 1);
        };
        let names = names.split_whitespace().map(String::from).collect();
        if lists.insert(key.trim().to_string(), names).is_some() {
            bail!(
                "line {}: {:?} stands twice in the block {name}",
                index + 1,
                key.trim()
            );
        }
    }
    bail!("the block {fence} has no end")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Page\n```text imports\nnn:\nencoder: nn  # a layer up\n\n```\n\
                        ```text only-in\nimage: data\n```\n```text nothing-else\ngradcam: candle-core\n```\n\
                        ```text own-range\ngradcam: candle-core\n```\n\
                        ```text never-below\nnn: tokio\n```\n```text unsafe\nnn: kernels\n```\n\
                        ```text names-cuda\nssl: *\n```\n```text no-circles\ntrain:\n```\n";

    #[test]
    fn blocks_parse_with_comments_and_empty_lists() {
        let rules = parse(PAGE).unwrap();
        assert!(rules.imports["nn"].is_empty());
        assert_eq!(rules.imports["encoder"], ["nn"]);
        assert_eq!(rules.only_in["image"], ["data"]);
        assert_eq!(rules.nothing_else["gradcam"], ["candle-core"]);
        assert_eq!(rules.own_range["gradcam"], ["candle-core"]);
        assert_eq!(rules.never_below["nn"], ["tokio"]);
        assert_eq!(rules.unsafe_in["nn"], ["kernels"]);
        assert_eq!(rules.names_cuda["ssl"], ["*"]);
        assert!(rules.no_circles["train"].is_empty());
    }

    #[test]
    fn a_missing_open_or_malformed_block_is_an_error() {
        let message = |page: &str| format!("{:#}", parse(page).unwrap_err());
        assert!(message("# Page").contains("no block ```text imports"));
        assert!(message("```text imports\nnn:\n").contains("has no end"));
        assert!(message("```text imports\nnn\n```").contains("line 2"));
        assert!(message("```text imports\nnn:\nnn:\n```").contains("stands twice"));
    }
}
