//! The encoder's weights for other programs.

use std::collections::BTreeMap;
use std::fs;

use fgvr_data::Normalisation;
use fgvr_encoder::{Overwrite, Stem, save};

use crate::config::PretrainConfig;
use crate::{Error, Result, RunFolder, Trainer};

/// Writes `export/model.safetensors`: the encoder under torchvision's names, with what a reader needs
/// to build the network and its input.
///
/// # Errors
/// A file that cannot be written.
pub(crate) fn export(run: &RunFolder, config: &PretrainConfig, trainer: &Trainer) -> Result<()> {
    let folder = run.join("export");
    fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
    let normalisation = Normalisation::imagenet();
    let stem = match config.encoder.stem {
        Stem::ImageNet => "imagenet",
        Stem::Small => "small",
    };
    let metadata = [
        ("format", "pt".to_owned()),
        ("architecture", format!("resnet{}", config.encoder.depth)),
        ("width", config.encoder.width.to_string()),
        ("stem", stem.to_owned()),
        ("features", config.encoder.out_channels().to_string()),
        ("image_size", config.data.size.to_string()),
        ("mean", numbers(&normalisation.mean)),
        ("std", numbers(&normalisation.std)),
        ("arm", config.arm.to_string()),
        ("steps", trainer.step_count().to_string()),
        ("fgvr", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    let metadata: BTreeMap<String, String> = metadata
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    // A finished run that is resumed exports the same weights again.
    save(
        folder.join("model.safetensors"),
        trainer.encoder_parameters(),
        &metadata,
        Overwrite::Replace,
    )?;
    Ok(())
}

/// `0.485,0.456,0.406`
fn numbers(values: &[f32]) -> String {
    let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
    texts.join(",")
}
