//! The program `fgvr`: see `fgvr --help`.

mod args;
mod commands;
mod progress;
mod tables;
mod weights;

use std::process::ExitCode;

use clap::Parser;

/// Input at fault: settings, paths, data, a checkpoint.
const BAD_INPUT: u8 = 2;

fn main() -> ExitCode {
    fgvr_nn::kernels::heap::keep_freed_memory();
    let cli = args::Cli::parse();
    // On a thread of the pool: kernels then start at once, instead of waking a thread and waiting for
    // it thousands of times a second.
    match rayon::scope(|_| commands::run(cli.command)) {
        Ok(code) => code,
        Err(error) => {
            // One line, whatever the libraries below made of it.
            let text = chain(&error);
            let line: Vec<&str> = text.split_whitespace().collect();
            eprintln!("error: {}", line.join(" "));
            let bad_input = error
                .downcast_ref::<fgvr_train::Error>()
                .is_some_and(fgvr_train::Error::is_bad_input);
            ExitCode::from(if bad_input { BAD_INPUT } else { 1 })
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
