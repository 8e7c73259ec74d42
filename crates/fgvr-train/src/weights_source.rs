//! Weights from elsewhere, and to elsewhere: files, folders and the Hub.

use std::path::Path;
use std::sync::mpsc::channel;

use fgvr_encoder::hub::{self, PublishOptions, Published};
use fgvr_encoder::weights::{Source, Weights};
use fgvr_encoder::{Architecture, EncoderConfig};

use crate::{Error, Observer, Result};

/// Opens weights by what a person calls them; a Hub repository is fetched first.
///
/// # Errors
/// A source that is not there, cannot be fetched, or holds no weights.
pub fn open_weights(source: &str, observer: &mut dyn Observer) -> Result<Weights> {
    let source: Source = source.parse()?;
    fetching(observer, |progress| Weights::open_with(&source, progress))
}

/// Runs `work`, which talks to the Hub, and tells the observer how far it is.
pub(crate) fn fetching<T: Send>(
    observer: &mut dyn Observer,
    work: impl FnOnce(&mut dyn hub::Progress) -> Result<T, fgvr_encoder::Error> + Send,
) -> Result<T> {
    let (sender, receiver) = channel::<(String, u64, u64)>();
    // An observer stays on its thread.
    let done = std::thread::scope(|scope| {
        let worker = scope.spawn(move || {
            work(&mut |file: &str, done: u64, total: u64| {
                // Nobody listens any more: nothing to tell.
                let _ = sender.send((file.to_owned(), done, total));
            })
        });
        for (file, done, total) in receiver {
            observer.on_download(&file, done, total);
        }
        worker.join()
    });
    match done {
        Ok(done) => Ok(done?),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Puts an export directory on the Hub.
///
/// # Errors
/// No token, a repository that may not be written, or a transfer that fails.
pub fn publish(
    directory: &Path,
    repository: &str,
    options: &PublishOptions,
    observer: &mut dyn Observer,
) -> Result<Published> {
    fetching(observer, |progress| {
        Ok(hub::publish(repository, directory, options, progress)?)
    })
}

/// `error`, and how a person says on the command line that it is meant, if it can be.
pub(crate) fn advised(error: fgvr_encoder::Error, how: impl FnOnce(&[String]) -> String) -> Error {
    match error.allowed_by() {
        Some(names) => Error::Unfit {
            how: how(&names),
            weights: Box::new(error),
        },
        None => error.into(),
    }
}

/// Local weights as a path from the root, by which a run finds them from any folder; `None` for none, and for those of
/// the Hub.
#[must_use]
pub(crate) fn from_root(source: &str) -> Option<String> {
    if !Path::new(source).exists() {
        return None;
    }
    let path = std::path::absolute(source).ok()?;
    path.to_str().map(str::to_owned)
}

/// The architecture that weights are of, found by their tensors, or by `told` where they do not show it.
///
/// # Errors
/// It is none of ours, or cannot be told.
pub(crate) fn architecture(weights: &Weights, told: Option<Architecture>) -> Result<EncoderConfig> {
    let encoder = weights.encoder_as(told).map_err(|error| match error {
        // Its text has the names.
        fgvr_encoder::Error::Untold { .. } => Error::config(
            "encoder.architecture",
            format!("{error}, such as --set encoder.architecture=tf_efficientnet_lite0"),
        ),
        error => error.into(),
    })?;
    encoder.ok_or_else(|| {
        let found = match (weights.architecture(), weights.other_family()) {
            (Some(found), _) => format!("holds {found}, a network that fgvr does not have"),
            (None, Some(family)) => format!("holds {family}, a network that fgvr does not have"),
            (None, None) => "holds no network that is known here".to_owned(),
        };
        Error::config(
            weights.origin(),
            format!(
                "{found}; `fgvr weights inspect` shows its tensors, docs/weights.md the networks"
            ),
        )
    })
}
