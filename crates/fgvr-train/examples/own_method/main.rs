//! A base and an add-on of one's own, trained by the engine like those of fgvr: with SynthPair beside them, settings
//! from a preset and one by one, checkpoints, evaluation and report.
//!
//! `cargo run --example own_method -- NEWFOLDER [key.path=value]…`

mod barlow_twins;
mod uniformity;

use std::error::Error;
use std::io::Write as _;

use fgvr_train::config::Layers;
use fgvr_train::{Compute, Place, Silent, pretrain, register_addon, register_base};

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let folder = words.next().ok_or("where is the run to be written?")?;

    register_base::<barlow_twins::BarlowTwinsConfig>()?;
    register_addon::<uniformity::UniformityConfig>()?;

    let mut layers = Layers::default();
    layers.preset("demo")?;
    layers.set("base=barlow-twins")?;
    layers.set("addons=[\"uniformity\"]")?;
    layers.set("optimizer.lr=0.01")?;
    for setting in words {
        layers.set(&setting)?;
    }
    let place = Place::Folder(folder.into());
    let summary = pretrain(&layers.resolve()?, &place, &Compute::cpu(), &mut Silent)?;
    let report = summary.run.join("report.html");
    writeln!(std::io::stdout(), "{}", report.display())?;
    Ok(())
}
