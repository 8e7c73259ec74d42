//! The program `fgvr`: see `fgvr --help`.

mod args;
mod commands;
mod output;
mod progress;
mod signals;
mod tables;
mod weights;

use std::process::ExitCode;

use clap::Parser;

/// Input at fault: settings, paths, data, a checkpoint.
const BAD_INPUT: u8 = 2;

fn main() -> ExitCode {
    fgvr_nn::kernels::heap::keep_freed_memory();
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        // The help, the version, or what is wrong with the command line.
        Err(message) => {
            let code = u8::try_from(message.exit_code()).unwrap_or(BAD_INPUT);
            return match output::print_clap(&message) {
                Ok(()) => ExitCode::from(code),
                Err(error) => failed(&error),
            };
        }
    };
    // On a thread of the pool: kernels then start at once, instead of waking a thread and waiting for
    // it thousands of times a second.
    match rayon::scope(|_| commands::run(cli.command)) {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

/// Says what went wrong, in one line, whatever the libraries below made of it.
fn failed(error: &anyhow::Error) -> ExitCode {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // Most errors name their cause themselves.
        if !text.ends_with(&cause) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&cause);
        }
    }
    let line: Vec<&str> = text.split_whitespace().collect();
    output::say(&format!("error: {}", line.join(" ")));
    let bad_input = match error.downcast_ref::<fgvr_train::Error>() {
        Some(error) => error.is_bad_input(),
        // What the system refuses, as where the disk that standard output leads to is full.
        None => error.chain().any(|cause| cause.is::<std::io::Error>()),
    };
    ExitCode::from(if bad_input { BAD_INPUT } else { 1 })
}
