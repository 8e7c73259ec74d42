//! The program `fgvr`: see `fgvr --help`.

mod args;
mod commands;
#[cfg(test)]
mod docs;
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
            let text = format!("{error:#}");
            let line: Vec<&str> = text.split_whitespace().collect();
            eprintln!("error: {}", line.join(" "));
            let bad_input = error
                .downcast_ref::<fgvr_train::Error>()
                .is_some_and(fgvr_train::Error::is_bad_input);
            ExitCode::from(if bad_input { BAD_INPUT } else { 1 })
        }
    }
}
