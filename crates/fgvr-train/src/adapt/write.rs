//! The folder that is written in the end.

use std::fs;
use std::path::{Path, PathBuf};

use fgvr_data::{can_hold_files, encode_png};
use fgvr_encoder::Overwrite;
use fgvr_encoder::export::Format;
use fgvr_perturb::{AdaptConfig, AdaptKind, Adaptation, NuisanceCovariance};
use serde::Serialize;
use serde_json::Value;

use super::card::card;
use super::picture::picture;
use super::{Adapted, Answer};
use crate::{Embedder, Error, Exported, Result};

/// Which network is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// The adapted one.
    Adapted,
    /// The one that it started from, unchanged.
    Start,
}

/// How a folder is written.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// Whether the adapted network is exported where the gate cannot tell.
    pub if_unsure: bool,
    /// Whose names the tensors get.
    pub format: Format,
    /// The licence that the model card states, by its identifier.
    pub license: Option<String>,
}

/// What was written.
#[derive(Clone, Debug, Serialize)]
pub struct Written {
    /// The folder.
    #[serde(serialize_with = "crate::path_text::serialize")]
    pub directory: PathBuf,
    /// Which network is in it.
    pub what: What,
    /// What to do with it, in words.
    pub next: String,
}

impl Adapted {
    /// Which network the gate lets through: the adapted one where it is open and, if `if_unsure`, where it cannot tell;
    /// otherwise the start.
    #[must_use]
    pub fn what(&self, if_unsure: bool) -> What {
        match self.gate.answer {
            Answer::Open => What::Adapted,
            Answer::CannotTell if if_unsure => What::Adapted,
            Answer::CannotTell | Answer::Shut => What::Start,
        }
    }

    /// All figures, as in `adapt.json`.
    ///
    /// # Errors
    /// None in practice.
    pub fn json(&self, written: Option<&Written>) -> Result<Value> {
        let problem = |error: serde_json::Error| Error::config("adapt.json", error.to_string());
        let mut value = serde_json::to_value(self.record()).map_err(problem)?;
        if let Some(written) = written {
            value["exported"] = serde_json::to_value(written.what).map_err(problem)?;
            value["directory"] = crate::path_text(&written.directory).into();
        }
        Ok(value)
    }
}

/// Whether a folder can be made at `directory`: worth knowing before photos are embedded.
///
/// # Errors
/// It exists, or its parent takes no files.
pub fn check_place(directory: &Path) -> Result<()> {
    if directory.symlink_metadata().is_ok() {
        return Err(Error::run(
            directory,
            "exists already and is not overwritten; choose another --out",
        ));
    }
    let above = directory.ancestors().skip(1).find(|above| above.exists());
    let above = above.filter(|above| !above.as_os_str().is_empty());
    let above = above.unwrap_or(Path::new("."));
    let problem = match above.is_dir() {
        true => can_hold_files(above).err().map(|error| error.to_string()),
        false => Some("it is not a folder".to_owned()),
    };
    match problem {
        None => Ok(()),
        Some(problem) => Err(Error::run(
            directory,
            format!(
                "cannot be made in {} ({problem}); choose another --out",
                above.display()
            ),
        )),
    }
}

/// Writes `directory`, which must not exist: the network, `adapt.json` with all figures, `adapt.log`, `adapt.svg`,
/// `neighbours.png` and a model card. The folder is made aside and gets its name once it is whole.
///
/// # Errors
/// A folder that is there, or a file that cannot be written.
pub fn write_adapted(
    adapted: &Adapted,
    embedder: &Embedder,
    directory: &Path,
    options: &WriteOptions,
) -> Result<Written> {
    check_place(directory)?;
    let parent = directory.parent().filter(|p| !p.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(Error::io(parent))?;
    // In the same folder, so that a rename stays within one file system; it goes with whatever is in it on an error.
    let aside = tempfile::Builder::new()
        .prefix(".fgvr-adapted-")
        .tempdir_in(parent)
        .map_err(Error::io(parent))?;
    let whole = aside.path().join("whole");
    let what = adapted.what(options.if_unsure);
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    // The start as it came, with an adaptation of its own if it brought one.
    let adaptation = match what {
        What::Adapted => Some(&adapted.adaptation),
        What::Start => embedder.adaptation(),
    };
    let usage = embedder.usage(adaptation, options.format)?;
    let card = card(adapted, what, options, &name, &usage);
    let format = options.format;
    let exported = embedder.export(adaptation, format, &whole, &card, Overwrite::Never)?;
    let written = Written {
        directory: directory.to_owned(),
        what,
        next: next(&exported, directory, format, what),
    };
    let files = [
        (
            "adapt.json",
            format!("{:#}\n", adapted.json(Some(&written))?),
        ),
        ("adapt.log", adapted.log(what)),
        ("adapt.svg", picture(adapted)),
    ];
    for (name, text) in files {
        let path = whole.join(name);
        fs::write(&path, text).map_err(Error::io(&path))?;
    }
    if let Some(sheet) = &adapted.neighbours {
        let png = encode_png(&sheet.draw()?.to_tensor()?)?;
        let path = whole.join("neighbours.png");
        fs::write(&path, png).map_err(Error::io(&path))?;
    }
    check_place(directory)?;
    fs::rename(&whole, directory).map_err(Error::io(directory))?;
    Ok(written)
}

/// Whether `embedder` can be exported in `format`, with an adaptation and without: worth knowing before photos are embedded.
///
/// # Errors
/// An architecture that the format does not have, or has no place for an adaptation in.
pub fn check_export(embedder: &Embedder, format: Format) -> Result<()> {
    // Only its width matters.
    let width = embedder.width();
    let mut statistics = NuisanceCovariance::new(width)?;
    let mut rows = vec![0.; 2 * width];
    rows[0] = 1.;
    statistics.add_plain(&rows)?;
    let any = Adaptation::fit(&statistics, None, &AdaptConfig::of(AdaptKind::Centred))?;
    embedder.usage(Some(&any), format).map(drop)
}

/// What to do with what was exported, in words.
fn next(exported: &Exported, directory: &Path, format: Format, what: What) -> String {
    let directory = crate::path_text(directory);
    let class = match what {
        What::Adapted => "AutoModelForImageClassification",
        What::Start => "AutoModel",
    };
    match (&exported.obstacle, format) {
        (Some(obstacle), _) => format!("{obstacle}; its README.md says how to load it"),
        (None, Format::Timm) => {
            format!("timm.create_model(\"local-dir:{directory}\", pretrained=True) builds it")
        }
        (None, Format::Transformers) => {
            format!("transformers.{class}.from_pretrained(\"{directory}\") builds it")
        }
    }
}
