//! A network's features judged as they are and after the closed form, resumable.

use std::path::Path;

use super::judged::Judged;
use crate::adapt::{answer, forget};
use crate::data::open_data;
use crate::{AdaptOptions, Compute, Embedder, Error, Observer, PretrainConfig, Result};
use crate::{RunFolder, Which};

/// Whose features are judged.
#[derive(Clone, Copy, Debug)]
pub(super) enum Of<'a> {
    /// What a run trained, in both forms; what is embedded for it is not needed again.
    Run(&'a RunFolder),
    /// The start, in both forms.
    Start,
    /// The start, after a closed form of its own.
    Frozen,
}

/// Judges by `config` and puts [`Judged`] into `folder`. What is embedded is kept in `work` until then, so that a stop loses
/// nothing, and of the start further, for whatever is fitted to it later. False after a stop.
///
/// # Errors
/// Data that cannot be read; features that are not finite or all equal; weights that do not fit.
pub(super) fn judge(
    of: Of<'_>,
    config: &PretrainConfig,
    [folder, work]: [&Path; 2],
    compute: &Compute,
    observer: &mut dyn Observer,
) -> Result<bool> {
    let embedder = match of {
        Of::Run(run) => Embedder::from_run_with(run, Which::Last, &[], compute)?,
        Of::Start | Of::Frozen => Embedder::of_start(config, compute, observer)?,
    };
    let splits = match of {
        // Told of before, for the start.
        Of::Frozen => fgvr_data::open(&config.source, &config.data)?,
        Of::Run(_) | Of::Start => open_data(config, observer)?,
    };
    let options = AdaptOptions {
        settings: config.adapt.clone(),
        knn: config.evaluate.knn.clone(),
        linear: config.evaluate.linear.clone(),
        work: Some(work.to_owned()),
        keep: true,
        judge: true,
        apart: true,
    };
    let photos = (config.source.as_str(), &splits);
    let plain = !matches!(of, Of::Frozen);
    let answered = match answer(&embedder, photos, &options, plain, observer) {
        Err(Error::Stopped { problem }) => {
            observer.on_message(&problem);
            return Ok(false);
        }
        answered => answered?,
    };
    Judged::new(&answered).write(folder)?;
    if let Of::Run(_) = of {
        forget(work);
    }
    Ok(true)
}
