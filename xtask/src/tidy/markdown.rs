//! Markdown as far as the rules read it: fenced blocks apart from the rest, and code spans.

/// A line of a page.
pub(super) struct Line<'t> {
    /// From 1.
    pub(super) number: usize,
    pub(super) text: &'t str,
    /// Whether it stands in a fenced block, the fences included.
    pub(super) fenced: bool,
}

/// The lines of a page.
pub(super) fn lines(page: &str) -> impl Iterator<Item = Line<'_>> {
    let mut open = false;
    page.lines().enumerate().map(move |(index, text)| {
        let fence = text.trim_start().starts_with("```");
        let fenced = open || fence;
        open ^= fence;
        Line {
            number: index + 1,
            text,
            fenced,
        }
    })
}

/// The code spans of a line.
pub(super) fn spans(line: &str) -> impl Iterator<Item = &str> {
    // Between the first backtick and the second, the third and the fourth, and so on.
    let parts: Vec<&str> = line.split('`').collect();
    let closed = parts.len() - 1;
    let inner = parts.into_iter().take(closed).skip(1).step_by(2);
    inner.filter(|span| !span.is_empty())
}

/// The targets of the links and images of a line, but for those in code spans.
pub(super) fn targets(line: &str) -> impl Iterator<Item = &str> {
    let prose = line.split('`').step_by(2);
    // A code span in a link's text leaves its end in the next part of the prose.
    prose.flat_map(|part| {
        let ends = part.match_indices("](").map(|(at, _)| at + 2);
        ends.filter_map(|at| Some(&part[at..at + part[at..].find(')')?]))
    })
}

/// The name by which a heading can be linked to, as GitHub makes it.
pub(super) fn anchor(line: &str) -> Option<String> {
    let title = line.trim_start_matches('#');
    let is_heading = title.len() < line.len() && title.starts_with(' ');
    let kept = |c: char| match c {
        ' ' => Some('-'),
        '-' | '_' => Some(c),
        c if c.is_alphanumeric() => c.to_lowercase().next(),
        _ => None,
    };
    is_heading.then(|| title.trim().chars().filter_map(kept).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_spans_and_links_are_told_apart() {
        let page = "a `b` [c](d.md) `[e](f.md)`\n```sh\n[g](h.md)\n```\n[`i`](j.md#k) and `l";
        let fenced: Vec<bool> = lines(page).map(|line| line.fenced).collect();
        assert_eq!(fenced, [false, true, true, true, false]);
        let rows: Vec<&str> = page.lines().collect();
        assert_eq!(
            spans(rows[0]).collect::<Vec<_>>(),
            ["b", "[e](f.md)"],
            "both spans"
        );
        assert_eq!(targets(rows[0]).collect::<Vec<_>>(), ["d.md"]);
        assert_eq!(targets(rows[4]).collect::<Vec<_>>(), ["j.md#k"]);
        // A backtick that opens nothing.
        assert_eq!(spans(rows[4]).collect::<Vec<_>>(), ["i"]);
    }

    #[test]
    fn headings_have_the_names_that_github_gives_them() {
        let name = "## Does it help? The study `seeds`";
        assert_eq!(
            anchor(name).as_deref(),
            Some("does-it-help-the-study-seeds")
        );
        assert_eq!(
            anchor("# The forward_t pass").as_deref(),
            Some("the-forward_t-pass")
        );
        assert_eq!(anchor("#hash"), None);
        assert_eq!(anchor("text"), None);
    }
}
