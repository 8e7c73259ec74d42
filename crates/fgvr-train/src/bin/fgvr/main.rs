//! The program `fgvr`: see `fgvr --help`.

mod args;
mod commands;
#[cfg(test)]
mod docs;
mod failure;
mod progress;
mod tables;
mod weights;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    fgvr_nn::kernels::heap::keep_freed_memory();
    let cli = args::Cli::parse();
    // On a thread of the pool: kernels then start at once, instead of waking a thread and waiting for
    // it thousands of times a second.
    match rayon::scope(|_| commands::run(cli.command)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", failure::line(&error));
            ExitCode::from(failure::code(&error))
        }
    }
}

/// The error and its causes. Some errors tell their cause in their own text: it is not said twice.
fn chain(error: &anyhow::Error) -> String {
    error
        .chain()
        .skip(1)
        .fold(error.to_string(), |text, cause| {
            let cause = cause.to_string();
            if text.contains(&cause) {
                text
            } else {
                format!("{text}: {cause}")
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let source = std::io::Error::other("the disk is gone");
        let inner = fgvr_train::Error::Io {
            path: "a.png".into(),
            source,
        };
        let error = anyhow::Error::new(inner);
        assert_eq!(chain(&error), "a.png: the disk is gone");
        assert_eq!(
            chain(&error.context("no table")),
            "no table: a.png: the disk is gone"
        );
    }
}
