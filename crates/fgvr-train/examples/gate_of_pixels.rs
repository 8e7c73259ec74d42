//! What `fgvr adapt` says of pixels, without a network: `cargo run --example gate_of_pixels -- photos/ [SIDE]`.

use std::io::Write as _;

use fgvr_data::DataConfig;
use fgvr_train::adapt::adapt_pixels;
use fgvr_train::{AdaptOptions, Silent};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let source = words
        .next()
        .unwrap_or_else(|| "builtin:lookalikes".to_owned());
    let side = words.next().map_or(Ok(16), |side| side.parse())?;
    let data = DataConfig {
        val_fraction: 0.,
        ..DataConfig::default()
    };
    let options = AdaptOptions::default();
    let adapted = adapt_pixels(&data, side, &source, &options, &mut Silent)?;
    std::io::stdout().write_all(adapted.text(None).as_bytes())?;
    Ok(())
}
