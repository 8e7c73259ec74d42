//! Going on with a run where its last checkpoint stands.

use crate::checkpoint::{self, Saved, under};
use crate::config::PretrainConfig;
use crate::data::{Compared, Data, Difference, Located, UNKNOWN, is_built_in};
use crate::environment::simd;
use crate::loader::position;
use crate::objective::OBJECTIVE;
use crate::positives::Positives;
use crate::pretrain::log_data;
use crate::renumbered_rows::renumber_rows;
use crate::session::{Origin, Session, Summary};
use crate::start::find_weights;
use crate::teacher::Teacher;
use crate::weights_source::from_root;
use crate::{Compute, Error, Observer, Result, RunFolder, Trainer};

/// How a run is gone on with.
#[derive(Clone, Debug, Default)]
pub struct ResumeOptions {
    /// Where its photos are now; where they were, if not given.
    pub source: Option<String>,
    /// Go on although the data is not what it was.
    pub data_changed: bool,
}

/// Goes on where the last checkpoint of a run stands, with the same bits as if it had never stopped.
///
/// Data that is not what it was is an error that says what changed, unless `how` accepts it. Then training photos are
/// counted anew, and with them the steps of an epoch and, where epochs were asked for, those of the run; keys in queues
/// stay with their photos.
///
/// # Errors
/// A checkpoint that is missing, damaged or of another architecture, data that is gone or changed,
/// settings that do not fit it, an alarm whose policy is to stop.
pub fn resume(
    run: &RunFolder,
    how: &ResumeOptions,
    compute: &Compute,
    observer: &mut dyn Observer,
) -> Result<Summary> {
    resume_with(run, how, compute, true, observer)
}

/// Resumes a run, which ends with its last checkpoint if it is not to be judged.
///
/// # Errors
/// A checkpoint that is missing, damaged or of another architecture, data that is gone or changed,
/// settings that do not fit it, an alarm whose policy is to stop.
pub(crate) fn resume_with(
    run: &RunFolder,
    how: &ResumeOptions,
    compute: &Compute,
    is_judged: bool,
    observer: &mut dyn Observer,
) -> Result<Summary> {
    let mut config = run.config()?;
    compute.check(config.precision)?;
    let mut saved = checkpoint::load_last(run)?;
    let mut lines: Vec<String> = Vec::new();
    if let Some(changed) = saved.settings_changed(&config)? {
        lines.push(format!("{changed}; the run goes on with what it says now"));
    }
    let settings = config.clone();
    let weights = saved.manifest.weights.clone();
    let weights = weights.or_else(|| from_root(&settings.weights.source));
    find_weights(&mut config, weights.as_deref());
    let splits = match &how.source {
        Some(source) => {
            same_kind(&settings.source, source)?;
            config.source.clone_from(source);
            fgvr_data::open(source, &config.data)?
        }
        None => {
            let remedy = format!(
                "say where they are now: --resume {} --data NEWPLACE",
                run.path().display()
            );
            let record = saved.manifest.data.as_ref();
            let located = Located::of(run, &mut config, record, &remedy)?;
            lines.extend(located.note);
            located.splits
        }
    };
    observer.on_data(&splits.found);
    let found = splits.found.clone();
    let images = splits.train.len();
    let data = Data::look(&config, &splits, observer)?;
    let step = saved.manifest.step;
    let mut is_changed = false;
    let remembered = (saved.manifest.data.as_ref(), saved.settings.as_ref());
    match Compared::new(run, remembered, &config, &data)? {
        Compared::Same => {}
        Compared::Unknown => {
            lines.push(UNKNOWN.to_owned());
            if how.data_changed {
                is_changed = true;
                lines.extend(empty_queues(&mut saved, &config, images)?);
            }
        }
        Compared::Different(difference) if how.data_changed => {
            is_changed = true;
            lines.push(format!(
                "the data changed since step {step}: {}",
                difference.text
            ));
            lines.extend(consequences(&mut saved, &config, images, &difference)?);
        }
        Compared::Different(difference) => {
            return Err(Error::run(
                run.path(),
                format!(
                    "the data changed since step {step}: {}; put it back, or go on with what is there now by \
                     --data-changed",
                    difference.text
                ),
            ));
        }
    }
    // Whatever it started from, all of it is in the checkpoint.
    let teacher = Teacher::read(run, &config)?;
    let teacher = teacher.map(|teacher| teacher.rows(splits.train.as_ref()));
    let mut trainer = Trainer::taught(&config, images, teacher.transpose()?.as_ref(), compute)?;
    // Only a state that fits is gone on with; until then nothing in the folder is touched.
    trainer.load_state(step, &saved.tensors).map_err(|error| {
        match saved.manifest.data.is_some() {
            true => saved.unfit(run, &config, error),
            false => perhaps_changed(run, &saved, &config, error),
        }
    })?;
    let positives = Positives::read(run, &config, splits.train.as_ref())?;
    data.keep(run)?;
    let origin = Origin {
        data: data.record(&settings.source, &config.source, run.path()),
        settings,
        weights,
    };
    let mut session = Session::new(&config, run, splits, trainer, compute, origin)?;
    session.saved = Some(step);
    session.is_judged = is_judged;
    session.positives = positives;
    // The best of other validation images is not to be beaten.
    session.best_val = saved.manifest.best_val.filter(|_| !is_changed);
    if saved.manifest.simd != simd() {
        lines.push(format!(
            "this run used {} kernels and goes on with {}: the last bits may differ (FGVR_SIMD chooses)",
            saved.manifest.simd,
            simd()
        ));
    }
    log_data(run, &found)?;
    for line in lines {
        session.say(observer, &line)?;
    }
    session.run(observer)
}

/// That photos do not take the place of a set that the program draws, nor the other way round.
fn same_kind(given: &str, source: &str) -> Result<()> {
    match is_built_in(given) == is_built_in(source) {
        true => Ok(()),
        false => Err(Error::config(
            "--data",
            format!(
                "the run was started on {given}, and {source} cannot take its place; start a new run"
            ),
        )),
    }
}

/// What follows from other data, for a person to read; queues in `saved` are brought into line with it.
fn consequences(
    saved: &mut Saved,
    config: &PretrainConfig,
    images: usize,
    difference: &Difference,
) -> Result<Vec<String>> {
    let step = saved.manifest.step;
    let mut lines = Vec::new();
    if let Some(before) = saved
        .manifest
        .data
        .as_ref()
        .map(|data| data.fingerprint.images[0])
    {
        let [was, is] = [before, images]
            .map(|images| (config.steps_per_epoch(images), config.total_steps(images)));
        let mut line = format!(
            "{images} training images rather than {before}: an epoch has {} steps (it had {}), step {step} stands in \
             epoch {}",
            is.0,
            was.0,
            position(config, images, step).epoch
        );
        line += &match (was.1, is.1) {
            (was, is) if is <= step => format!(", and of {is} steps (it was {was}) none is left"),
            (was, is) if was == is => format!(", and the run has {is} steps as before"),
            (was, is) => format!(", and the run has {is} steps rather than {was}"),
        };
        lines.push(line);
    }
    match &difference.numbers {
        Some(numbers) => {
            let number = |image: u32| {
                let image = usize::try_from(image).ok()?;
                numbers.get(image).copied().flatten()
            };
            lines.extend(renumber_queues(saved, config, images, number)?);
        }
        None => lines.extend(empty_queues(saved, config, images)?),
    }
    if saved.tensors.contains_key("synthpair.bank.features") {
        lines.push(
            "synthpair: the feature bank goes on as it is, it knows no photo by its number"
                .to_owned(),
        );
    }
    if difference.held_out > 0 {
        lines.push(format!(
            "warning: {} photos that were trained on are held out now: figures on validation and test images flatter",
            difference.held_out
        ));
    }
    if saved.manifest.best_val.is_some() {
        lines.push("the best checkpoint by validation is looked for anew".to_owned());
    }
    Ok(lines)
}

/// Queues that begin empty, since nobody can tell which photo a key is of.
fn empty_queues(saved: &mut Saved, config: &PretrainConfig, images: usize) -> Result<Vec<String>> {
    renumber_queues(saved, config, images, |_| None)
}

/// Brings the states of base and add-ons in `saved`, and optimisers' arrays of what has a row for each image, into line with `images` training images, of which `number` says what an image of before
/// is counted as now.
fn renumber_queues(
    saved: &mut Saved,
    config: &PretrainConfig,
    images: usize,
    number: impl Fn(u32) -> Option<u32>,
) -> Result<Vec<String>> {
    let mut state = under(&saved.tensors, OBJECTIVE);
    let base = config.base_config(images)?;
    let mut lines = base.renumber(&mut state, &number)?;
    for name in base.rows_of_images() {
        renumber_rows(&mut saved.tensors, name, images, &number)?;
    }
    for (name, tensor) in state {
        saved.tensors.insert(format!("{OBJECTIVE}.{name}"), tensor);
    }
    for addon in config.addon_configs()? {
        let section = addon.kind().section();
        let mut state = under(&saved.tensors, section);
        lines.extend(addon.renumber(&mut state, &number)?);
        for (name, tensor) in state {
            saved.tensors.insert(format!("{section}.{name}"), tensor);
        }
    }
    Ok(lines)
}

/// What to say of a state that does not fit, where it may be the photos that changed.
fn perhaps_changed(run: &RunFolder, saved: &Saved, config: &PretrainConfig, error: Error) -> Error {
    match saved.unfit(run, config, error) {
        Error::Checkpoint { path, problem } => Error::Checkpoint {
            path,
            problem: format!(
                "{problem} or were photos added or removed? {UNKNOWN}; if so, go on with what is there now by \
                 --data-changed"
            ),
        },
        other => other,
    }
}
