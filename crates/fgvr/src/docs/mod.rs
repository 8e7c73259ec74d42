//! What the pages and the help texts say of the program is true: commands, options, settings with their
//! defaults, names.

mod commands;
mod names;
mod settings;

use std::fs;
use std::path::{Path, PathBuf};

/// A text that people read.
struct Page {
    /// Its path from the workspace.
    name: String,
    text: String,
}

impl Page {
    /// The file `name` of the workspace.
    fn read(name: &str) -> Self {
        let path = root().join(name);
        let text = fs::read_to_string(&path);
        Self {
            name: name.to_owned(),
            text: text.unwrap_or_else(|error| panic!("{}: {error}", path.display())),
        }
    }

    /// Code spans outside fenced blocks.
    fn spans(&self) -> Vec<&str> {
        let mut fenced = false;
        let lines = self.text.lines().filter(|line| {
            let fence = line.trim_start().starts_with("```");
            fenced ^= fence;
            !fenced && !fence
        });
        // Between the first backtick and the second, the third and the fourth, and so on.
        let spans = lines.flat_map(|line| line.split('`').skip(1).step_by(2));
        spans.collect()
    }

    /// The rows below a table's heading, cell by cell.
    fn table(&self, heading: &str) -> Vec<Vec<&str>> {
        let rows = self.text.lines().skip_while(|line| *line != heading);
        let rows = rows.skip(2).take_while(|line| line.starts_with('|'));
        rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
            .collect()
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The README, the pages in docs/ and the READMEs of the crates.
fn pages() -> Vec<Page> {
    let mut names = vec!["README.md".to_owned()];
    let entries = |folder: &str| -> Vec<String> {
        let entries = fs::read_dir(root().join(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.map(|name| format!("{folder}/{name}")).collect()
    };
    names.extend(
        entries("docs")
            .into_iter()
            .filter(|name| name.ends_with(".md")),
    );
    names.extend(
        entries("crates")
            .iter()
            .map(|folder| format!("{folder}/README.md")),
    );
    names.sort();
    assert!(names.len() > 15, "{names:?}");
    names.iter().map(|name| Page::read(name)).collect()
}

/// The words of a span of code, or of a table's cell with several.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    text.split(move |c| !plain(c))
        .filter(|word| !word.is_empty())
}

#[test]
fn spans_and_tables_are_read() {
    let page = Page {
        name: "page".to_owned(),
        text:
            "a `b` c `d e`\n```\n`no`\n```\n| x | y |\n|---|---|\n| `1` | 2 |\n| 3 | |\n\n| no |\n"
                .to_owned(),
    };
    assert_eq!(page.spans(), ["b", "d e", "1"]);
    assert_eq!(page.table("| x | y |"), [["`1`", "2"], ["3", ""]]);
    assert_eq!(words("`a-b`, `c`").collect::<Vec<_>>(), ["a-b", "c"]);
}
