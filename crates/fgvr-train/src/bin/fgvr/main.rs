//! The program `fgvr`: see `fgvr --help`.

mod args;
mod commands;
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
