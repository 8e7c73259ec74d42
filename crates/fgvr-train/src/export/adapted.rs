//! An embedder for other programs, with its adaptation as the classifier layer.

use std::path::Path;

use fgvr_encoder::export::{Export, Format};
use fgvr_encoder::{AdaptationLayer, Overwrite};
use fgvr_perturb::Adaptation;

use super::{Exported, card};
use crate::{Embedder, Result};

impl Embedder {
    /// Writes the encoder to a new directory, with `adaptation` folded in as its classifier layer: timm, torchvision and
    /// transformers then give the adapted features by their plain forward pass. `card` is the model card, in Markdown,
    /// for which [`Embedder::usage`] has a section; where it is empty, a short one is written.
    ///
    /// # Errors
    /// A directory that is there, unless it may be replaced; an architecture that the format does not have, or has no
    /// place for an adaptation in; an adaptation of another width.
    pub fn export(
        &self,
        adaptation: Option<&Adaptation>,
        format: Format,
        directory: &Path,
        card: &str,
        overwrite: Overwrite,
    ) -> Result<Exported> {
        let export = self.exported(adaptation, format)?;
        let short;
        let card = if card.is_empty() {
            let name = directory.file_name();
            let name = name.map_or_else(|| "encoder".into(), |name| name.to_string_lossy());
            short = card::adapted(&name, &self.config, &export, &self.preprocessing())?;
            &short
        } else {
            card
        };
        export.save(directory, card, overwrite)?;
        Ok(Exported {
            directory: directory.to_owned(),
            step: self.step,
            tensors: export.tensors().len(),
            obstacle: export.obstacle().map(str::to_owned),
            adaptation: adaptation.map(|adaptation| adaptation.config().kind.to_string()),
        })
    }

    /// The section of a model card that says how other programs load [`Embedder::export`], and which cannot.
    ///
    /// # Errors
    /// A directory that is there, unless it may be replaced; an architecture that the format does not have, or has no
    /// place for an adaptation in; an adaptation of another width.
    pub fn usage(&self, adaptation: Option<&Adaptation>, format: Format) -> Result<String> {
        let export = self.exported(adaptation, format)?;
        Ok(card::usage_of(&self.config, &export))
    }

    fn exported(&self, adaptation: Option<&Adaptation>, format: Format) -> Result<Export> {
        let view = self.preprocessing();
        let export = Export::new(format, &self.config, &self.parameters, &view)?;
        Ok(match adaptation {
            Some(adaptation) => {
                export.adapted(&AdaptationLayer::from_bytes(adaptation.to_bytes())?)?
            }
            None => export,
        })
    }
}
