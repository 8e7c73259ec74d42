//! Builds, checks and runs fgvr: `cargo xtask help` lists what it can do.

mod bench;
mod ci;
mod command;
mod cross;
mod fuzz;
mod gpu;
mod help;
mod interchange;
mod kernels;
mod nearest;
mod page;
mod parity;
mod program;
mod progress;
mod python;
mod sanitize;
mod scratch;
mod server;
mod summary;
mod table;
mod test;
mod tidy;
mod toolchain;
mod workspace;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let Some(name) = args.next() else {
        eprint!("{}", help::text());
        return ExitCode::from(2);
    };
    let args: Vec<String> = args.collect();
    let result = match name.as_str() {
        "pretrain" | "eval" | "study" | "embed" | "export" | "publish" | "weights" | "plan"
        | "calibrate" => program::run(&name, &args),
        "sheet" => program::sheet(&args),
        "bench" => bench::run(&args),
        "parity" => parity::run(&args),
        "interchange" => interchange::run(&args),
        "kernels" => kernels::run(&args),
        "test" => test::run(&args),
        "fuzz" => fuzz::run(&args),
        "ci" => ci::run(&args),
        "tidy" => tidy::run(&args),
        "help" | "--help" | "-h" => {
            print!("{}", help::text());
            Ok(ExitCode::SUCCESS)
        }
        unknown => {
            eprint!("{}", help::unknown(unknown));
            return ExitCode::from(2);
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
