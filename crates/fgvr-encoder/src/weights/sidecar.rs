//! The files of JSON that lie beside weights and say how they are used.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::find::Trunk;
use super::found::FoundArchitecture;
use super::layout::Layout;
use super::preprocessing::Preprocessing;
use super::stated::Stated;
use crate::Error;

/// The largest file of settings read; one with the 21,841 names of ImageNet's classes takes 1.5 MB.
const MAX_BYTES: u64 = 8 << 20;

/// A file's path and text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) file: PathBuf,
    pub(crate) text: String,
}

/// `config.json` and `preprocessor_config.json`, where they are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sidecar {
    pub(crate) config: Option<Text>,
    pub(crate) preprocessor: Option<Text>,
}

impl Sidecar {
    /// Reads what lies in `directory`.
    pub(crate) fn read(directory: &Path) -> Result<Self, Error> {
        Ok(Self {
            config: read(directory.join("config.json"), MAX_BYTES)?,
            preprocessor: read(directory.join("preprocessor_config.json"), MAX_BYTES)?,
        })
    }

    /// What the configuration says of the network; nothing where there is none.
    ///
    /// # Errors
    /// [`Error::Json`].
    pub(crate) fn stated(&self) -> Result<Stated, Error> {
        match &self.config {
            Some(Text { file, text }) => Stated::parse(file, text),
            None => Ok(Stated::default()),
        }
    }

    /// The file of the configuration, for messages.
    pub(crate) fn config_file(&self) -> PathBuf {
        match &self.config {
            Some(text) => text.file.clone(),
            None => PathBuf::from("config.json"),
        }
    }

    /// Preprocessing, and where it is from.
    pub(crate) fn preprocessing(
        &self,
        trunk: Option<&Trunk>,
        found: Option<&FoundArchitecture>,
    ) -> Result<(Preprocessing, String), Error> {
        if let Some(Text { file, text }) = &self.preprocessor {
            let found = Preprocessing::from_transformers(file, text.as_bytes())?;
            return Ok((found, file.display().to_string()));
        }
        if let Some(Text { file, text }) = &self.config
            && let Some(found) = Preprocessing::from_timm(file, text.as_bytes())?
        {
            return Ok((found, file.display().to_string()));
        }
        let default = match found {
            Some(FoundArchitecture::Vit {
                layer_scale: true, ..
            }) => (Preprocessing::dinov2(), "assumed: DINOv2's"),
            Some(FoundArchitecture::Vit { .. })
                if trunk.is_some_and(|trunk| trunk.layout == Layout::TransformersVit) =>
            {
                let vit = Preprocessing {
                    resize: super::preprocessing::Resize::Exact,
                    interpolation: super::preprocessing::Interpolation::Bilinear,
                    ..Preprocessing::timm_vit()
                };
                (vit, "assumed: transformers' for ViT")
            }
            Some(FoundArchitecture::EfficientNetLite { scale }) => (
                Preprocessing::efficientnet_lite(*scale),
                "assumed: ImageNet's",
            ),
            _ => (Preprocessing::imagenet(), "assumed: ImageNet's"),
        };
        Ok((default.0, default.1.to_owned()))
    }
}

/// The text of `file`, if it is there; at most `limit` bytes.
pub(crate) fn read(file: PathBuf, limit: u64) -> Result<Option<Text>, Error> {
    let io = |source| Error::Io {
        file: file.clone(),
        source,
    };
    let opened = match File::open(&file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let mut text = String::new();
    let mut reader = opened.take(limit + 1);
    reader.read_to_string(&mut text).map_err(io)?;
    if text.len() as u64 > limit {
        return Err(Error::Json {
            file,
            reason: format!("larger than the {limit} bytes allowed"),
        });
    }
    Ok(Some(Text { file, text }))
}
