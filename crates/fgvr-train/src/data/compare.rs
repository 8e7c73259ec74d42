//! Whether the data of a run is what it was.

use super::changes::Changes;
use super::{Data, DataRecord, Fingerprint, is_built_in, list_file};
use crate::config::PretrainConfig;
use crate::{Result, RunFolder};

/// The data now, beside that of a checkpoint.
pub(crate) enum Compared {
    /// The same.
    Same,
    /// The version that made the checkpoint remembered nothing of it.
    Unknown,
    /// Something else.
    Different(Difference),
}

/// How it is something else.
pub(crate) struct Difference {
    /// On one line.
    pub(crate) text: String,
    /// For each training image of before its number now, if it is still one; `None` where nobody can tell.
    pub(crate) numbers: Option<Vec<Option<u32>>>,
    /// Photos that were trained on and are held out now.
    pub(crate) held_out: usize,
}

/// What is said where there is nothing to compare with.
pub(crate) const UNKNOWN: &str = "this run was made by a version that did not remember its data: whether the photos are \
     the same as then cannot be told";

impl Compared {
    /// `now` is the data of `config`; `record` what `run` remembers of its data, if anything, and `saved` the settings that
    /// this is of, if known.
    ///
    /// # Errors
    /// A run folder that cannot be read.
    pub(crate) fn new(
        run: &RunFolder,
        (record, saved): (Option<&DataRecord>, Option<&PretrainConfig>),
        config: &PretrainConfig,
        now: &Data,
    ) -> Result<Self> {
        let Some(record) = record else {
            return Ok(Self::Unknown);
        };
        let (was, is) = (&record.fingerprint, &now.fingerprint);
        let contents = was.contents.as_ref().zip(is.contents.as_ref());
        if was.digest == is.digest && contents.is_none_or(|(was, is)| was == is) {
            return Ok(Self::Same);
        }
        let different = |text| {
            Ok(Self::Different(Difference {
                text,
                numbers: None,
                held_out: 0,
            }))
        };
        match (is_built_in(&record.source), &now.listing) {
            (true, None) => match saved.map(|saved| settings(saved, config)).transpose()? {
                // The program knows more settings now, which are at what was always done.
                Some(None) => Ok(Self::Same),
                Some(Some(text)) => different(text),
                None => different(counts(was, is)),
            },
            (false, Some(listing)) => match list_file::find(run, was)? {
                Some(before) => {
                    let changes = Changes::between(&before, listing);
                    Ok(Self::Different(Difference {
                        text: changes.to_string(),
                        held_out: changes.held_out,
                        numbers: Some(changes.numbers),
                    }))
                }
                None => different(format!(
                    "{}; data.csv, which would say what changed, is missing or not as it was written",
                    counts(was, is)
                )),
            },
            _ => different(format!("it was {} and is {}", record.source, config.source)),
        }
    }
}

/// What differs between the settings of two built-in sets.
fn settings(saved: &PretrainConfig, config: &PretrainConfig) -> Result<Option<String>> {
    let all = saved.differences(config)?.into_iter();
    let drawn = |key: &String| key == "data.size" || key.starts_with("data.lookalikes.");
    let told: Vec<String> = all
        .filter(|(key, ..)| drawn(key))
        .map(|(key, was, is)| format!("{key} was {was} and is {is}"))
        .collect();
    Ok((!told.is_empty()).then(|| told.join(", ")))
}

fn counts(was: &Fingerprint, is: &Fingerprint) -> String {
    let say = |of: &Fingerprint| {
        let [train, val, test] = of.images;
        format!(
            "{train} training, {val} validation and {test} test images of {} classes and {} bytes",
            of.classes, of.bytes
        )
    };
    format!("it was {} and is {}", say(was), say(is))
}
