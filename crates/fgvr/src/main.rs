//! The program `fgvr`: see `fgvr --help`.

mod adapt;
mod adapt_args;
mod adapt_train;
mod args;
mod commands;
mod compare;
mod data;
#[cfg(test)]
mod docs;
mod eval_args;
mod failure;
mod output;
mod progress;
mod signals;
mod tables;
mod weights;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    fgvr_nn::kernels::heap::keep_freed_memory();
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        // The help, the version, or what is wrong with the command line.
        Err(message) => {
            let code = u8::try_from(message.exit_code()).unwrap_or(failure::BAD_INPUT);
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

/// Says what went wrong, in one line.
fn failed(error: &anyhow::Error) -> ExitCode {
    output::say(&format!("error: {}", failure::line(error)));
    ExitCode::from(failure::code(error))
}
