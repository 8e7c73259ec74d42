//! An embedder for other programs, with its adaptation as the classifier layer.

use std::path::Path;

use fgvr_encoder::export::{Export, Format};
use fgvr_encoder::{AdaptationLayer, Overwrite};
use fgvr_perturb::Adaptation;

use super::{Exported, card};
use crate::{Embedder, Result};

impl Embedder {
    /// Writes the encoder to a new directory, with `adaptation` folded in as its classifier layer: timm, torchvision and
    /// transformers then give the adapted features by their plain forward pass. `about` goes into the model card after
    /// its description, in Markdown: where the weights are from, what was measured.
    ///
    /// # Errors
    /// A directory that is there, unless it may be replaced; an architecture that the format does not have, or has no
    /// place for an adaptation in; an adaptation of another width.
    pub fn export(
        &self,
        adaptation: Option<&Adaptation>,
        format: Format,
        directory: &Path,
        about: &str,
        overwrite: Overwrite,
    ) -> Result<Exported> {
        let view = self.preprocessing();
        let mut export = Export::new(format, &self.config, &self.parameters, &view)?;
        if let Some(adaptation) = adaptation {
            export = export.adapted(&AdaptationLayer::from_bytes(adaptation.to_bytes())?)?;
        }
        let name = directory.file_name();
        let name = name.map_or_else(|| "encoder".into(), |name| name.to_string_lossy());
        let card = card::adapted(&name, &self.config, &export, &view, about)?;
        export.save(directory, &card, overwrite)?;
        Ok(Exported {
            directory: directory.to_owned(),
            step: self.step,
            tensors: export.tensors().len(),
            obstacle: export.obstacle().map(str::to_owned),
            adaptation: adaptation.map(|adaptation| adaptation.config().kind.to_string()),
        })
    }
}
