//! From a pretrained network to better features of one's own photos, without labels and without training.
//!
//! [`adapt()`] embeds each training photo plainly and in a few augmented views, fits the linear transformation that divides
//! out what views of one photo differ by ([`fgvr_perturb::Adaptation`]), and asks on photos that it held out whether that
//! helps ([`gate()`]). Where there are labels they judge the result beside its controls; they choose nothing.

mod adapted;
mod answered;
mod card;
mod embedding;
mod fresh;
mod gate;
mod head;
mod interpolation;
mod judge;
mod neighbours;
mod pairs;
mod photos;
mod picture;
mod settings;
mod stream;
mod table;
mod train;
mod training;
mod views;
mod work;
mod write;

use std::sync::Arc;
use std::time::Instant;

use candle_core::{Device, Tensor};
use fgvr_data::augment::{EvaluationView, RESIZE_RATIO};
use fgvr_data::check::watch;
use fgvr_data::{DataConfig, Dataset, Normalisation, Splits};
use fgvr_perturb::{AdaptConfig, AdaptError, AdaptKind, Adaptation, Fitter};
use fgvr_report::Sheet;

pub use crate::config::{AdaptSettings, Measure, ViewAugment};
pub use adapted::{Adapted, PhotoCounts, Seconds};
pub use gate::{Answer, Gate, HeldOut, Measured, gate};
pub use interpolation::{Interpolation, Tried};
pub use judge::{Judged, LabelFree, Table};
pub use photos::Queries;
pub use settings::AdaptOptions;
pub use train::adapt_trained;
pub use training::Training;
pub use write::{What, WriteOptions, Written, check_export, check_place, write_adapted};

use crate::data::{Listing, is_built_in};
use crate::embed::pooled;
use crate::leaks::leak_warning;
use crate::view::{Sight, preprocessing};
use crate::{Embedder, Error, JudgedOn, Observer, Result, digest};
pub(crate) use answered::{Answered, AnsweredRow, answer};
pub(crate) use fresh::fresh_views;
pub(crate) use pairs::neighbour_pairs;

use embedding::embed;
use fresh::held_out;
use judge::{Fitting, Labelled};
use neighbours::Seen;
use photos::Photos;
use views::Role;
use work::Work;
pub(crate) use work::forget;

/// Fits an adaptation of `embedder`'s features to the training photos of `source`, and tries it on those that are held
/// out.
///
/// Photos are embedded once, with memory for the plain features of all and the views of a few. If the observer asks to
/// stop, what was embedded is kept in [`AdaptOptions::work`], and the same call goes on from there to the same bits.
///
/// # Errors
/// Data that cannot be opened or of which fewer than two photos can be read; features that are not finite or all equal; a
/// setting out of range; [`Error::Stopped`] where the observer asked for it.
pub fn adapt(
    embedder: &Embedder,
    source: &str,
    options: &AdaptOptions,
    observer: &mut dyn Observer,
) -> Result<Adapted> {
    let splits = open(source, &embedder.data, options, observer)?;
    let (mut adapted, _) = adapt_embedder(embedder, (source, &splits), options, false, observer)?;
    if !options.settings.interpolate.is_empty() {
        let remark = "adapt.interpolate has no effect without training: there is nothing to go toward (--train)";
        adapted.remarks.push(remark.to_owned());
    }
    Ok(adapted)
}

/// The photos of `source`, once `options` are known to be in range.
fn open(
    source: &str,
    data: &DataConfig,
    options: &AdaptOptions,
    observer: &mut dyn Observer,
) -> Result<Splits> {
    options.settings.validate()?;
    let splits = fgvr_data::open(source, data)?;
    observer.on_data(&splits.found);
    Ok(splits)
}

/// Adapts to photos that are open. With `kept` the features that the adaptation was made of are returned, and the table and
/// the picture of neighbours are left to the caller.
///
/// # Errors
/// Fewer than two photos that can be read; features that are not finite or all equal; [`Error::Stopped`].
fn adapt_embedder(
    embedder: &Embedder,
    photos: (&str, &Splits),
    options: &AdaptOptions,
    kept: bool,
    observer: &mut dyn Observer,
) -> Result<(Adapted, Features)> {
    let encode = |images: &Tensor| pooled(&embedder.encoder, images);
    let eye = Eye {
        sight: &embedder.sight,
        data: &embedder.data,
        width: embedder.encoder.width(),
        encode: &encode,
        not_finite: embedder.not_finite,
    };
    let (mut adapted, features) = adapt_keeping(&eye, photos, options, kept, observer)?;
    embedder.origin().clone_into(&mut adapted.encoder);
    embedder.device().clone_into(&mut adapted.device);
    if embedder.adaptation().is_some() {
        adapted.remarks.push(
            "the adaptation that the weights bring is left off: all here is about the plain features below it".to_owned(),
        );
    }
    Ok((adapted, features))
}

/// Fits and tries an adaptation of the pixels themselves, `side` x `side` of them in three colours. This needs no network, and
/// only the pose of a photo is there to be divided out.
///
/// # Errors
/// Data that cannot be opened or of which fewer than two photos can be read; a setting out of range; [`Error::Stopped`]
/// where the observer asked for it.
pub fn adapt_pixels(
    data: &DataConfig,
    side: usize,
    source: &str,
    options: &AdaptOptions,
    observer: &mut dyn Observer,
) -> Result<Adapted> {
    let encode = |images: &Tensor| Ok(images.flatten_from(1)?);
    let sight = Sight {
        view: EvaluationView::of_ratio(side, RESIZE_RATIO),
        batch: BATCH_OF_PIXELS,
        normalisation: Normalisation::none(),
    };
    let eye = Eye {
        sight: &sight,
        data,
        width: 3 * side * side,
        encode: &encode,
        not_finite: crate::finite::OF_WEIGHTS,
    };
    let splits = open(source, data, options, observer)?;
    let (mut adapted, _) = adapt_keeping(&eye, (source, &splits), options, false, observer)?;
    adapted.encoder = format!("{side} x {side} pixels");
    "cpu".clone_into(&mut adapted.device);
    Ok(adapted)
}

/// Images in a piece of work without a network.
const BATCH_OF_PIXELS: usize = 64;

/// What turns photos into features.
struct Eye<'a> {
    sight: &'a Sight,
    data: &'a DataConfig,
    width: usize,
    encode: &'a dyn Fn(&Tensor) -> Result<Tensor>,
    not_finite: &'static str,
}

/// A set, and the numbers of some of its photos.
type Chosen = (Arc<dyn Dataset>, Vec<usize>);

/// What an adaptation was made of and tried on.
#[derive(Default)]
struct Features {
    held_out: HeldOut,
    /// Plain features of the photos that were fitted to, (N, C).
    plain: Vec<f32>,
    /// Labels of those photos, and of those that were held out; empty without.
    labels: [Vec<u32>; 2],
    /// Which photos ask, those that are searched, and those that ask.
    labelled: Option<(Queries, Labelled, Labelled)>,
    /// The photos that were held out and those that were fitted to.
    photos: Option<[Chosen; 2]>,
}

impl Features {
    /// What some held-out photos find with these features and after `adaptation`.
    fn neighbours(&self, adaptation: &Adaptation) -> Result<Option<Sheet>> {
        let Some([(held, asking), (train, among)]) = &self.photos else {
            return Ok(None);
        };
        let asking = Seen {
            numbers: asking,
            features: &self.held_out.plain,
        };
        let among = Seen {
            numbers: among,
            features: &self.plain,
        };
        neighbours::sheet([held, train], &asking, &among, adaptation)
    }
}

/// Adapts the features of any `eye`; `kept_features` is the `kept` of [`adapt_embedder`].
fn adapt_keeping(
    eye: &Eye<'_>,
    (source, splits): (&str, &Splits),
    options: &AdaptOptions,
    kept_features: bool,
    observer: &mut dyn Observer,
) -> Result<(Adapted, Features)> {
    let settings = &options.settings;
    let (splits, leaks) = &watch(splits);
    let photos = Photos::of(splits, options);
    enough(source, photos.fit.len())?;
    let key = key(eye, source, splits, &photos, options)?;
    let mut work = Work::open(
        options.work.as_deref(),
        &key,
        eye.width,
        settings.head.steps > 0,
    )?;
    embed(eye, &photos, settings, &mut work, observer)?;
    let judged_on = match photos.queries {
        Some(Queries::Test) => Some(JudgedOn::Test),
        Some(Queries::Validation) => Some(JudgedOn::Validation),
        Some(Queries::HeldOut) | None => None,
    };
    if let Some(warning) = judged_on.and_then(|judged_on| leak_warning(leaks, judged_on)) {
        observer.on_message(&warning);
    }
    let (embedding, fitting_from) = (work.seconds(), Instant::now());

    let (counts, kept) = counts(&photos, &work);
    enough(source, counts.fitted)?;
    observer.on_phase(&format!("fitting to {} photos", counts.fitted));
    let plain = work.rows(Role::Fit);
    let mut fitter = Fitter::new(&work.statistics, Some(plain));
    let adaptation = match fitter.fit(&settings.config()) {
        // No other setting would help, so there is nothing to keep.
        Err(error @ AdaptError::NoVariance { .. }) => {
            drop(fitter);
            work.finish();
            return Err(error.into());
        }
        fitted => fitted?,
    };
    let both = (plain, work.views());
    let (adaptation, closed) = match head::with_head(&adaptation, both, settings, observer) {
        Ok(Some(whole)) => (whole, Some(adaptation)),
        Ok(None) => (adaptation, None),
        Err(error) => {
            work.save()?;
            return Err(error);
        }
    };
    let centred = AdaptConfig::of(AdaptKind::Centred);
    let centred = fitter.fit(&centred)?;
    let held_out = held_out(work.rows(Role::HeldOut), eye.width);
    let gate = gate(&held_out, plain, &adaptation, settings)?;
    let fitting = Fitting {
        plain,
        adaptation: &adaptation,
        centred: &centred,
        closed: closed.as_ref(),
    };
    let label_free = judge::label_free(&fitting, &held_out, &gate, settings.agreement)?;
    let asking = Seen {
        numbers: &kept.held_out,
        features: &held_out.plain,
    };
    let among = Seen {
        numbers: &kept.fit,
        features: plain,
    };
    let sets = [&photos.held, &photos.train];
    let neighbours = match kept_features {
        true => None,
        false => neighbours::sheet(sets, &asking, &among, &adaptation)?,
    };
    let (fitted_in, judging_from) = (fitting_from.elapsed(), Instant::now());

    let mut remarks = remarks(&adaptation, &counts);
    let mut table = None;
    let mut features = Features::default();
    if let (Some(queries_of), true) = (photos.queries, kept_features) {
        let (database, queries) = labelled(&photos, &kept, plain, &held_out.plain, &work);
        features.labelled = Some((queries_of, database, queries));
    } else if let Some(queries_of) = photos.queries {
        let (database, queries) = labelled(&photos, &kept, plain, &held_out.plain, &work);
        table = judge::table(
            &fitting,
            &mut fitter,
            (queries_of, &database, &queries),
            options,
            observer,
        )?;
        if table.is_none() {
            remarks.push(format!(
                "no table: no {} photo is of a class that a training photo is of",
                queries_of.name()
            ));
        }
    }
    let judged_in = judging_from.elapsed().as_secs_f64();
    if kept_features {
        features.labels = [
            labels_of(&photos.train, &kept.fit),
            labels_of(&photos.held, &kept.held_out),
        ];
        features.photos = Some([
            (Arc::clone(&photos.held), kept.held_out),
            (Arc::clone(&photos.train), kept.fit),
        ]);
        (features.plain, features.held_out) = (plain.to_vec(), held_out);
    }
    drop(fitter);
    if !options.keep {
        work.finish();
    }
    let fitting = fitted_in.as_secs_f64();
    let adapted = Adapted {
        adaptation,
        gate,
        table,
        label_free,
        neighbours,
        settings: settings.clone(),
        photos: counts,
        data: splits.found.clone(),
        encoder: String::new(),
        device: String::new(),
        preprocessing: preprocessing(eye.sight).to_string(),
        seconds: Seconds {
            embedding,
            fitting,
            judging: judged_in,
            total: embedding + fitting + judged_in,
        },
        remarks,
        training: None,
    };
    Ok((adapted, features))
}

/// That there is something to fit to.
fn enough(source: &str, photos: usize) -> Result<()> {
    match photos {
        0 | 1 => Err(Error::config(
            source,
            format!(
                "photos to fit to: {photos}, expected 2 or more, and 100 or more for an answer whether it helps"
            ),
        )),
        _ => Ok(()),
    }
}

/// SHA-256 of all that features depend on.
fn key(
    eye: &Eye<'_>,
    source: &str,
    splits: &Splits,
    photos: &Photos,
    options: &AdaptOptions,
) -> Result<String> {
    let size = eye.sight.view.size;
    // The network by what it gives for an image that nothing else is like, to the bit: wherever it came from.
    let values = (0..3 * size * size).map(|i| (i as f32 * 0.37).sin() + (i % 13) as f32 / 13.);
    let image = Tensor::from_iter(values, &Device::Cpu)?.reshape((1, 3, size, size))?;
    let features = (eye.encode)(&image)?.flatten_all()?.to_vec1::<f32>()?;
    let bits: Vec<u8> = features.iter().flat_map(|v| v.to_le_bytes()).collect();
    let settings = &options.settings;
    let drawn = is_built_in(source).then_some(&eye.data.lookalikes);
    let all = serde_json::json!({
        "format": 1,
        "network": digest::of_bytes(&bits),
        "photos": Listing::of(splits).digest()?,
        "drawn": drawn,
        "sight": format!("{:?}", (eye.sight.view, &eye.sight.normalisation)),
        "views": settings.views,
        "keeps_views": settings.head.steps > 0,
        "seed": settings.seed,
        "augment": settings.augment,
        "roles": [photos.fit.len(), photos.held_out.len()],
        "held_out": digest::of_bytes(format!("{:?}", photos.held_out).as_bytes()),
        "apart": options.apart,
        "queries": photos.queries,
    });
    Ok(digest::of_bytes(all.to_string().as_bytes()))
}

/// Photos of each part that could be read.
struct Kept {
    fit: Vec<usize>,
    held_out: Vec<usize>,
    judged: Vec<usize>,
}

fn counts(photos: &Photos, work: &Work) -> (PhotoCounts, Kept) {
    let kept = |role: Role, of: &[usize]| -> Vec<usize> {
        let bad: std::collections::BTreeSet<usize> =
            work.unreadable(role).iter().map(|bad| bad.index).collect();
        of.iter().copied().filter(|i| !bad.contains(i)).collect()
    };
    let judged = photos.judged.as_ref().map_or(0, |set| set.len());
    let judged: Vec<usize> = (0..judged).collect();
    let kept = Kept {
        fit: kept(Role::Fit, &photos.fit),
        held_out: kept(Role::HeldOut, &photos.held_out),
        judged: kept(Role::Judged, &judged),
    };
    let roles = [Role::Fit, Role::HeldOut, Role::Judged];
    let counts = PhotoCounts {
        fitted: kept.fit.len(),
        held_out: kept.held_out.len(),
        judged: kept.judged.len(),
        unreadable: roles.map(|role| work.unreadable(role).len()).iter().sum(),
    };
    (counts, kept)
}

/// Plain features and labels of the photos that are searched, and of those that ask.
fn labelled(
    photos: &Photos,
    kept: &Kept,
    plain: &[f32],
    held_out: &[f32],
    work: &Work,
) -> (Labelled, Labelled) {
    let mut database = Labelled {
        features: plain.to_vec(),
        labels: labels_of(&photos.train, &kept.fit),
    };
    let held = Labelled {
        features: held_out.to_vec(),
        labels: labels_of(&photos.held, &kept.held_out),
    };
    let Some(set) = &photos.judged else {
        return (database, held);
    };
    // All training photos are searched, as they would be without an adaptation.
    if held.labels.len() == kept.held_out.len() {
        database.features.extend(&held.features);
        database.labels.extend(&held.labels);
    }
    let judged = Labelled {
        features: work.rows(Role::Judged).to_vec(),
        labels: labels_of(set, &kept.judged),
    };
    (database, judged)
}

/// The labels of some photos; fewer than photos where there are none.
fn labels_of(set: &Arc<dyn Dataset>, of: &[usize]) -> Vec<u32> {
    of.iter().filter_map(|index| set.label(*index)).collect()
}

/// What a person should know of a fit.
fn remarks(adaptation: &Adaptation, counts: &PhotoCounts) -> Vec<String> {
    let mut remarks = Vec::new();
    if let (true, Some(rank)) = (adaptation.rank_deficient(), adaptation.fitted().rank) {
        remarks.push(format!(
            "views of a photo vary in {rank} of {} directions; the ridge decides about the others",
            adaptation.width()
        ));
    }
    if counts.unreadable > 0 {
        remarks.push(format!(
            "{} photos cannot be read and are left out",
            counts.unreadable
        ));
    }
    remarks
}
