//! The arguments of `cargo xtask parity`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::nearest::nearest;

pub(crate) const USAGE: &str = "\
usage: cargo xtask parity [options]

  --only NAME    only the networks whose names begin so; may be given more than once
  --photos DIR   also photographs of this folder, for the preprocessing
  --threads N    threads of either side (2)
  --json         the errors as JSON on standard output
  --write        put the tables into docs/parity.md, of those families that were compared as a whole

Every architecture, filled with weights computed from its parameters' names, sees images made the same
way, at the size it was made for and at another. Its features with running statistics (also those of the
frozen network), its features with batch statistics, and the gradient at the images are compared with
timm's in f32, and both with timm's in f64; features also with torchvision's and transformers'. An error is
max|a-b| / max|b|; mean|a-b| / mean|b| stands in brackets. Features must agree within 1e-4, or the
command fails. So must the gradients of ViTs; those of residual networks jump where a ReLU's input is
within rounding of 0, in PyTorch as here, so of them the mean must be within 3e-2, and
`cargo xtask bench gradients --against torch` compares them with such ReLUs decided alike.
Photographs' files as networks see them are compared with timm's transforms; they must be within one grey
level on average.

Python's side runs from a virtual environment that is made in target/venv at the first use (some
gigabytes; PIP_EXTRA_INDEX_URL can name an index with the smaller CPU builds). FGVR_PYTHON names an
interpreter that has the packages of benches/torch/requirements.txt to use instead.
";

/// What was asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Options {
    pub(super) only: Vec<String>,
    pub(super) photos: Option<PathBuf>,
    pub(super) threads: usize,
    pub(super) json: bool,
    pub(super) write: bool,
}

impl Options {
    pub(super) fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self {
            only: Vec::new(),
            photos: None,
            threads: 2,
            json: false,
            write: false,
        };
        let mut args = args.iter().map(String::as_str);
        while let Some(arg) = args.next() {
            let (name, attached) = match arg.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value)),
                _ => (arg, None),
            };
            let mut value = || {
                let value = attached.or_else(|| args.next());
                value.with_context(|| format!("{name} needs a value\n\n{USAGE}"))
            };
            match name {
                "--only" => options.only.push(value()?.to_string()),
                "--photos" => options.photos = Some(value()?.into()),
                "--threads" => {
                    let text = value()?;
                    let count = text.parse().ok().filter(|count| *count > 0);
                    options.threads = count.with_context(|| {
                        format!("--threads {text}: expected a number of at least 1")
                    })?;
                }
                "--json" => options.json = true,
                "--write" => options.write = true,
                _ => {
                    let known = ["--only", "--photos", "--threads", "--json", "--write"];
                    let hint = nearest(name, known)
                        .map_or(String::new(), |near| format!(" (did you mean `{near}`?)"));
                    bail!("parity: `{name}` is no option{hint}\n\n{USAGE}");
                }
            }
        }
        Ok(options)
    }

    /// The command that repeats the comparison.
    pub(super) fn command(&self) -> String {
        let mut text = String::from("cargo xtask parity");
        for name in &self.only {
            text.push_str(&format!(" --only '{name}'"));
        }
        if self.photos.is_some() {
            // Where they lie on this machine is nobody else's concern.
            text.push_str(" --photos DIR");
        }
        if self.threads != 2 {
            text.push_str(&format!(" --threads {}", self.threads));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &str) -> Result<Options> {
        let args: Vec<String> = args.split_whitespace().map(String::from).collect();
        Options::parse(&args)
    }

    #[test]
    fn arguments_are_read_and_the_command_repeats_them() {
        let options = parse("--only=resnet --write --only vit --threads 4").unwrap();
        assert_eq!(options.only, ["resnet", "vit"]);
        assert!(options.write && !options.json);
        assert_eq!(
            options.command(),
            "cargo xtask parity --only 'resnet' --only 'vit' --threads 4"
        );
        assert_eq!(parse("").unwrap().command(), "cargo xtask parity");
    }

    #[test]
    fn wrong_arguments_say_what_is_right() {
        for (args, says) in [
            ("--onyl x", "did you mean `--only`?"),
            ("--threads 0", "at least 1"),
            ("--only", "needs a value"),
        ] {
            let error = parse(args).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
