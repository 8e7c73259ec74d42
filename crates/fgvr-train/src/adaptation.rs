//! Adaptations that come with weights or in a file of their own.

use std::path::Path;

use fgvr_encoder::AdaptationLayer;
use fgvr_encoder::weights::Weights;
use fgvr_perturb::Adaptation;

use crate::{Error, Result};

/// The adaptation that comes with `weights`, if one does.
///
/// # Errors
/// A mark of one that their files do not bear out.
pub fn adaptation_of(weights: &Weights) -> Result<Option<Adaptation>> {
    let layer = weights.adaptation()?;
    let read = |layer: AdaptationLayer| {
        let name = format!("{}/{}", weights.origin(), AdaptationLayer::FILE);
        Adaptation::from_bytes(name, layer.bytes())
    };
    Ok(layer.map(read).transpose()?)
}

/// A saved adaptation: a file of one, or a folder such as an export with an `adaptation.safetensors` in it.
///
/// # Errors
/// It is not there, or no adaptation.
pub fn open_adaptation(path: &Path) -> Result<Adaptation> {
    let file = match path.is_dir() {
        true => path.join(AdaptationLayer::FILE),
        false => path.to_owned(),
    };
    if path.is_dir() && !file.is_file() {
        return Err(Error::config(
            path.display().to_string(),
            format!(
                "has no {} in it; name an export with an adaptation, or the file itself",
                AdaptationLayer::FILE
            ),
        ));
    }
    Ok(Adaptation::load(file)?)
}

/// What an adaptation is, on a line.
#[must_use]
pub fn adaptation_in_words(adaptation: &Adaptation) -> String {
    format!(
        "{} of {} features, fitted to {} images",
        adaptation.config().kind,
        adaptation.width(),
        adaptation.fitted().images
    )
}
