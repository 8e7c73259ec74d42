//! An error says its cause in its own text or names it as its source: who prints an error with its
//! causes would otherwise print one twice.

use std::path::Path;

use super::Problem;

const REMEDY: &str = "name the field `r#source`, which is no source to thiserror; of an unnamed one write \
                      `From` by hand, or `#[error(transparent)]`";

/// The variants of thiserror's enums in `text` that do both.
pub(super) fn problems(path: &Path, text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    // What the text of the variant shows, while its fields are read.
    let (mut in_text, mut named, mut unnamed) = (false, false, false);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with("#[error(") {
            (in_text, named, unnamed) = (true, false, false);
        }
        if in_text {
            named |= line.contains("{source}") || line.contains("{source:");
            unnamed |= line.contains("{0");
            in_text = !line.ends_with(")]");
            continue;
        }
        let marked = line.contains("#[from]") || line.contains("#[source]");
        let twice = named && (line.starts_with("source:") || line.starts_with("pub source:"))
            || unnamed && marked;
        if twice {
            let what = "the error's text says its source as well";
            problems.push(Problem::new(path, index + 1, what, REMEDY));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        let problems = problems(Path::new("a.rs"), text);
        problems.into_iter().map(|problem| problem.line).collect()
    }

    const NONE: [usize; 0] = [];

    #[test]
    fn a_cause_that_is_shown_and_named_is_found() {
        let named = "#[error(\"{}: {source}\", path.display())]\nIo {\n    path: PathBuf,\n    source: io::Error,\n}";
        assert_eq!(lines(named), [4]);
        assert_eq!(lines(&named.replace("    source", "    r#source")), NONE);
        assert_eq!(lines(&named.replace(": {source}", "")), NONE);
        let over_lines =
            "#[error(\n    \"a {x}\n     {source}\"\n)]\nIo {\n    source: io::Error,\n}";
        assert_eq!(lines(over_lines), [6]);
        assert_eq!(
            lines("#[error(\"sheet: {0}\")]\nTensor(#[from] Error),"),
            [2]
        );
        assert_eq!(lines("#[error(\"sheet: {0}\")]\nTensor(Error),"), NONE);
        assert_eq!(lines("#[error(transparent)]\nTensor(#[from] Error),"), NONE);
        // The next variant is another one.
        assert_eq!(
            lines("#[error(\"{0}\")]\nA(String),\n#[error(\"b\")]\nB(#[from] Error),"),
            NONE
        );
    }
}
