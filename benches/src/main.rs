//! The program that `cargo xtask bench` times and `cargo xtask parity` compares: it prepares a case and
//! repeats it when told to, and writes down what a network makes of images.
//!
//! xtask runs this program and PyTorch's side by side and gives each its turn, so that both see the
//! same state of the machine. See [`protocol`] for what is said between them.

mod ahead;
mod case;
mod embed;
mod gradients;
mod judge;
mod micro;
mod moco;
mod parity;
mod peak;
mod place;
mod preprocess;
mod pretraining;
mod process;
mod protocol;
mod random;
mod shapes;
mod synthpair;
mod train;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::place::{Arguments, Place};

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not `eprintln!`, which panics where nobody reads.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<()> {
    // As the program `fgvr` does.
    fgvr_nn::kernels::heap::keep_freed_memory();
    let Arguments {
        threads,
        device,
        precision,
    } = Arguments::parse(std::env::args().skip(1))?;
    // candle asks the environment; the rest uses the pool it is called from.
    let asked = std::env::var("RAYON_NUM_THREADS").ok();
    if asked.as_deref() != Some(threads.to_string().as_str()) {
        bail!(
            "set RAYON_NUM_THREADS={threads}, as `cargo xtask bench` does: candle takes its number \
             of threads from there"
        );
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .context("cannot start the threads")?;
    // On a thread of the pool, so that no more than `threads` ever compute.
    rayon::scope(|_| {
        let place = Place::choose(&device, precision)?;
        protocol::serve(std::io::stdin().lines(), std::io::stdout(), threads, &place)
    })
}
