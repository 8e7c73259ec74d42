//! What a run is trained on, remembered: a fingerprint in every checkpoint and in `env.json`, and the list of photos
//! in `data.csv`, which says what changed where a fingerprint differs.

mod changes;
mod compare;
mod list_file;
mod listing;
mod opened;
mod place;

use std::path::Path;

use fgvr_data::Splits;
use serde::{Deserialize, Serialize};

use crate::config::PretrainConfig;
use crate::{Error, Observer, Result, RunFolder, digest};

pub(crate) use compare::{Compared, Difference, UNKNOWN};
pub(crate) use listing::Listing;
pub(crate) use opened::{lacking, lacking_classes, open_data};
pub(crate) use place::Located;

/// What a data set is, in short: the same for the same images on any machine, on any number of threads and wherever
/// the folder lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Images of the training, validation and test split.
    pub images: [usize; 3],
    /// Classes; 0 without labels.
    pub classes: usize,
    /// Bytes of all photos together; 0 for a built-in set.
    pub bytes: u64,
    /// SHA-256 of the list of photos in the order in which they are counted: name, split, class and bytes of each. Of a
    /// built-in set, of its settings.
    pub digest: String,
    /// SHA-256 of the hashes of all photos' contents, where `data.hash_contents` asked for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<String>,
}

/// The data of a run, as a checkpoint and `env.json` hold it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataRecord {
    /// `source` of the run's `config.toml`.
    pub source: String,
    /// The folder it was, from the root; absent for a built-in set, and where its path is no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// The same folder from the run folder, for the two moved together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_run: Option<String>,
    /// What was in it.
    #[serde(flatten)]
    pub fingerprint: Fingerprint,
}

/// A data set that was looked at.
pub(crate) struct Data {
    pub(crate) fingerprint: Fingerprint,
    /// Its photos; none of a built-in set, whose settings say all.
    listing: Option<Listing>,
}

impl Data {
    /// Looks at names and sizes of all photos, and where the settings say so at their contents.
    ///
    /// # Errors
    /// None in practice: a photo that cannot be looked at is listed without size.
    pub(crate) fn look(
        config: &PretrainConfig,
        splits: &Splits,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let test = splits.test.as_ref().map_or(0, |test| test.len());
        let images = [splits.train.len(), splits.val.len(), test];
        let classes = splits.train.classes().len();
        if is_built_in(&config.source) {
            let settings = (&config.source, config.data.size, &config.data.lookalikes);
            let text = serde_json::to_vec(&settings)
                .map_err(|e| Error::config("data.lookalikes", e.to_string()))?;
            return Ok(Self {
                fingerprint: Fingerprint {
                    images,
                    classes,
                    bytes: 0,
                    digest: digest::of_bytes(&text),
                    contents: None,
                },
                listing: None,
            });
        }
        let mut listing = Listing::of(splits);
        if config.data.hash_contents {
            listing.hash_contents(splits, observer);
        }
        Ok(Self {
            fingerprint: Fingerprint {
                images,
                classes,
                bytes: listing.bytes(),
                digest: listing.digest()?,
                contents: listing.contents(),
            },
            listing: Some(listing),
        })
    }

    /// What is remembered of it: `source` is the setting, `place` where the images were found.
    pub(crate) fn record(&self, source: &str, place: &str, run: &Path) -> DataRecord {
        let folder = match is_built_in(place) {
            true => None,
            false => std::path::absolute(place).ok(),
        };
        let from_run = folder.as_ref().zip(std::path::absolute(run).ok());
        let from_run = from_run.map(|(folder, run)| place::from(&run, folder));
        let text = |path: std::path::PathBuf| path.to_str().map(str::to_owned);
        DataRecord {
            source: source.to_owned(),
            from_run: from_run.and_then(text),
            folder: folder.and_then(text),
            fingerprint: self.fingerprint.clone(),
        }
    }

    /// Puts the list of photos into the run folder.
    ///
    /// # Errors
    /// A file that cannot be written; the list that was there still is.
    pub(crate) fn keep(&self, run: &RunFolder) -> Result<()> {
        match &self.listing {
            Some(listing) => list_file::keep(run, listing),
            None => Ok(()),
        }
    }
}

/// Whether a source is a set that the program draws, rather than a folder.
pub(crate) fn is_built_in(source: &str) -> bool {
    source.starts_with("builtin:")
}
