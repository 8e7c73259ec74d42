//! Judging features that no run of ours trained: those of anyone's weights, and those in a file.

use candle_core::{Device, Tensor};
use fgvr_data::check::watch;
use fgvr_data::{Found, shown};
use fgvr_encoder::weights::{LoadReport, Weights};
use fgvr_eval::{BootstrapConfig, Bootstrapped, Embeddings, JudgeSets, Judged};
use fgvr_perturb::Adaptation;
use serde::Serialize;

use crate::adaptation::{adaptation_in_words, adaptation_of};
use crate::answers::{Answers, intervals};
use crate::config::{Layers, PretrainConfig, Use};
use crate::data::lacking;
use crate::embed::Embedded;
use crate::embed_set::embed_splits;
use crate::embedder::{at_least_one, fitted_to};
use crate::figures::{Figures, figures, pixel_figures};
use crate::fine_tune::fine_tune;
use crate::judged_on::JudgedOn;
use crate::leaks::leak_warning;
use crate::protocols::run_protocols;
use crate::{Compute, Embedder, EmbeddingTable, Error, Observer, Result};

/// Share of the rows of every class that are held out where a file has no test rows.
const HELD_OUT: f64 = 0.2;

/// How weights are judged.
#[derive(Clone, Debug, Default)]
pub struct JudgeOptions {
    /// Settings over what the weights bring, each `key.path=value`: `data.*`, `normalisation.*`, `evaluate.*`.
    pub settings: Vec<String>,
    /// What may say that the weights are of another network.
    pub allow_mismatch: Vec<String>,
    /// An adaptation in place of the one that may come with the weights.
    pub adaptation: Option<Adaptation>,
    /// Leave the adaptation off that comes with the weights.
    pub plain: bool,
    /// Images a forward pass.
    pub batch: Option<usize>,
}

/// Features and what they are worth: fractions in [0, 1].
#[derive(Clone, Debug, Serialize)]
pub struct Judgement {
    /// Kinds of features, the plain ones first.
    pub rows: Vec<JudgedRow>,
    /// Where the features are from, in words.
    pub from: String,
    /// What the row `adapted` was transformed by, in words.
    pub adaptation: Option<String>,
    /// The split that the judged rows are from.
    pub judged_on: JudgedOn,
    /// Rows with labels that neighbours and probe learn from.
    pub train_images: usize,
    /// Rows with labels that are judged.
    pub judged_images: usize,
    /// Classes.
    pub classes: usize,
    /// Judged rows left out of retrieval queries, since they are the only ones of their class.
    pub single_image_queries: usize,
    /// The network, fine-tuned with shares of the labels (`evaluate.fine_tune`), an adaptation left off; absent where that is not
    /// asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fine_tuned: Option<Judged>,
    /// What was found where photos were opened; absent for a file of features.
    pub data: Option<Found>,
    /// Where the network ran; absent for a file of features.
    pub device: Option<String>,
}

/// One kind of features.
#[derive(Clone, Debug, Serialize)]
pub struct JudgedRow {
    /// `start` for features of weights as they are, `features` for those of a file, `adapted` for either after an
    /// adaptation, `pixels` for pixels.
    pub name: String,
    /// What they are worth; `retrieval` is among the judged images.
    #[serde(flatten)]
    pub figures: Figures,
    /// Nearest neighbours as in `figures`, with intervals from a bootstrap over classes, and the gain over the first row.
    pub neighbours: Option<Bootstrapped>,
    /// Mean average precision of training images for judged ones, likewise.
    pub cross_map: Option<Bootstrapped>,
    /// The protocols of `evaluate.protocols.run`; absent where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocols: Option<Judged>,
}

/// Judges the features of `weights` on the photos of `source`, from train to test, as they are and after their
/// adaptation, if there is one. A folder without splits has 20 % of each class held out as test.
///
/// # Errors
/// Weights that do not fit, photos without labels, features that are not finite.
pub fn evaluate_weights(
    weights: &Weights,
    source: &str,
    options: &JudgeOptions,
    compute: &Compute,
    observer: &mut dyn Observer,
) -> Result<(Judgement, LoadReport)> {
    let own = match (&options.adaptation, options.plain) {
        (Some(given), _) => Some(given.clone()),
        (None, true) => None,
        (None, false) => adaptation_of(weights)?,
    };
    let (mut embedder, config, report) =
        Embedder::to_judge(weights, &options.settings, &options.allow_mismatch, compute)?;
    if let Some(batch) = options.batch {
        embedder.sight.batch = at_least_one(batch)?;
    }
    if options.adaptation.is_none() && own.is_some() {
        fitted_to(weights, &embedder)?;
    }
    if let Some(adaptation) = &own {
        // The width is looked at before photos are.
        embedder = embedder.with_adaptation(adaptation.clone())?.plain();
    }
    observer.on_message(&format!("photos seen {}", embedder.preprocessing()));
    observer.on_message(&compute.line());
    let splits = fgvr_data::open(source, &embedder.data)?;
    observer.on_data(&splits.found);
    let (splits, leaks) = watch(&splits);
    let table = embed_splits(&embedder, source, &splits, observer)?;
    let from = embedder.origin().to_owned();
    let mut judged = judge(&table, "start", &from, own.as_ref(), &config, observer)?;
    if let Some(warning) = leak_warning(&leaks, judged.judged_on) {
        observer.on_message(&warning);
    }
    let test = match judged.judged_on {
        JudgedOn::Test => splits.test.as_ref(),
        JudgedOn::Validation => Some(&splits.val),
    };
    if let Some(test) = test {
        observer.on_phase("evaluating pixels");
        judged.rows.push(JudgedRow {
            name: "pixels".to_owned(),
            figures: pixel_figures(&config, &splits.train, test)?,
            neighbours: None,
            cross_map: None,
            protocols: None,
        });
    }
    judged.fine_tuned = fine_tune(&embedder, &config, &splits, compute, observer)?;
    judged.data = Some(splits.found);
    judged.device = Some(compute.name().to_owned());
    Ok((judged, report))
}

/// Judges the features of a file, which `source` names, from its rows of `train` to those of `test`, as they are and
/// after `adaptation`, if one is given. Where a file has no other rows than `train`, 20 % of each class are held out.
/// `settings` are `evaluate.*`, each `key.path=value`.
///
/// # Errors
/// No labels, an adaptation of another width, features that are adapted already.
pub fn evaluate_features(
    table: &EmbeddingTable,
    source: &str,
    adaptation: Option<&Adaptation>,
    settings: &[String],
    observer: &mut dyn Observer,
) -> Result<Judgement> {
    let mut layers = Layers::default();
    for setting in settings {
        if !setting.trim_start().starts_with("evaluate.") {
            return Err(Error::config(
                format!("--set {setting}"),
                "has no effect on features in a file; what can be set is evaluate.knn.* and evaluate.linear.*",
            ));
        }
        layers.set_for(Use::Evaluate, setting)?;
    }
    let config = layers.resolve_frozen()?;
    if !config.evaluate.fine_tune.fractions.is_empty() {
        let problem = "takes the network itself, and a file has its features alone; give --weights";
        return Err(Error::config("--fine-tune", problem));
    }
    if let (Some(_), Some(already)) = (adaptation, &table.adaptation) {
        return Err(Error::config(
            source,
            format!(
                "its features are adapted already ({already}); embed with --plain to judge another adaptation of them"
            ),
        ));
    }
    if let Some(adaptation) = adaptation
        && adaptation.width() != table.width
    {
        return Err(Error::config(
            "--adaptation",
            format!(
                "is of {} features, and {source} has {} a row",
                adaptation.width(),
                table.width
            ),
        ));
    }
    let name = match table.adaptation {
        Some(_) => "adapted",
        None => "features",
    };
    let mut judged = judge(table, name, source, adaptation, &config, observer)?;
    judged.adaptation = judged.adaptation.or_else(|| table.adaptation.clone());
    Ok(judged)
}

/// Rows of a table by what they are for.
pub(crate) struct Parts {
    pub(crate) train: Vec<usize>,
    /// What choices are made by, where it is not judged.
    validation: Vec<usize>,
    pub(crate) judged: Vec<usize>,
    pub(crate) judged_on: JudgedOn,
}

impl Parts {
    /// # Errors
    /// No labels, or nothing to learn from.
    pub(crate) fn of(
        table: &EmbeddingTable,
        source: &str,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let rows = |split: &str| -> Vec<usize> {
            let rows = 0..table.labels.len();
            rows.filter(|row| table.splits[*row] == split && table.labels[*row] >= 0)
                .collect()
        };
        let (train, val, test) = (rows("train"), rows("val"), rows("test"));
        let labelled = train.len() + val.len() + test.len();
        if labelled == 0 {
            return Err(Error::config(
                source,
                "has no labels, so there is nothing to judge features by; kNN, probe and retrieval need classes",
            ));
        }
        let left = table.labels.len() - labelled;
        if left > 0 {
            observer.on_message(&format!(
                "warning: evaluation: {left} of {} rows have no label and are left out",
                table.labels.len()
            ));
        }
        if train.is_empty() {
            return Err(Error::config(
                source,
                "has labels in no row of the split train, and neighbours and probe learn from those",
            ));
        }
        let none = Vec::new();
        let (train, validation, judged, judged_on) = if !test.is_empty() {
            (train, val, test, JudgedOn::Test)
        } else if !val.is_empty() {
            (train, none, val, JudgedOn::Validation)
        } else {
            let (kept, held_out) = hold_out(&train, &table.labels);
            observer.on_message(&format!(
                "warning: evaluation: all rows are of the split train; {} of {}, {:.0} % of each class, are held out \
                 and judged",
                held_out.len(),
                train.len(),
                100. * HELD_OUT
            ));
            (kept, none, held_out, JudgedOn::Test)
        };
        if judged.is_empty() {
            return Err(Error::config(
                source,
                "has a single row of each class, and none can be held out; two are needed",
            ));
        }
        Ok(Self {
            train,
            validation,
            judged,
            judged_on,
        })
    }
}

/// `rows` without and those with [`HELD_OUT`] of each class, by a hash of their number: at least one of two.
fn hold_out(rows: &[usize], labels: &[i64]) -> (Vec<usize>, Vec<usize>) {
    let mut classes: std::collections::BTreeMap<i64, Vec<usize>> =
        std::collections::BTreeMap::new();
    for row in rows {
        classes.entry(labels[*row]).or_default().push(*row);
    }
    let (mut kept, mut held_out) = (Vec::new(), Vec::new());
    for mut rows in classes.into_values() {
        rows.sort_by_key(|row| (scrambled(*row as u64), *row));
        let count = (HELD_OUT * rows.len() as f64).round() as usize;
        let count = count.max(usize::from(rows.len() > 1)).min(rows.len() - 1);
        held_out.extend(rows.drain(..count));
        kept.extend(rows);
    }
    kept.sort_unstable();
    held_out.sort_unstable();
    (kept, held_out)
}

/// The finaliser of splitmix64 (Steele, Lea and Flood 2014).
fn scrambled(number: u64) -> u64 {
    let mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The rows of `table`, plain under `name` and then adapted.
fn judge(
    table: &EmbeddingTable,
    name: &str,
    source: &str,
    adaptation: Option<&Adaptation>,
    config: &PretrainConfig,
    observer: &mut dyn Observer,
) -> Result<Judgement> {
    let parts = Parts::of(table, source, observer)?;
    let labels = |rows: &[usize]| -> Vec<u32> {
        let labels = rows.iter().map(|row| table.labels[*row]);
        labels
            .filter_map(|label| u32::try_from(label).ok())
            .collect()
    };
    let (seen, wanted) = (labels(&parts.train), labels(&parts.judged));
    let lacking = lacking(&seen, &wanted, &table.classes);
    if !lacking.is_empty() {
        observer.on_message(&format!(
            "warning: evaluation: no figures of kNN and linear probe: there are no training rows of these classes of \
             the {} rows: {}",
            parts.judged_on.name(),
            shown(&lacking.join(", "))
        ));
    }
    let set = |features: &[f32], rows: &[usize]| -> Result<Tensor> {
        let width = table.width;
        let rows_of = rows
            .iter()
            .flat_map(|row| &features[row * width..][..width]);
        let values: Vec<f32> = rows_of.copied().collect();
        Ok(Tensor::from_vec(values, (rows.len(), width), &Device::Cpu)?)
    };
    let mut single = 0;
    observer.on_phase("judging the features");
    let mut measure = |name: &str, features: &[f32]| -> Result<(JudgedRow, Answers)> {
        let (train, judged) = (set(features, &parts.train)?, set(features, &parts.judged)?);
        let (figures, left_out) = figures(
            config,
            Some(&Embedded::labelled(train.clone(), seen.clone())),
            Some(&Embedded::labelled(judged.clone(), wanted.clone())),
        )?;
        single = left_out.unwrap_or_default();
        let database = Embeddings::new(train, seen.clone())?;
        let queries = Embeddings::new(judged, wanted.clone())?;
        let validation = match parts.validation.is_empty() {
            true => None,
            false => {
                let rows = set(features, &parts.validation)?;
                Some(Embeddings::new(rows, labels(&parts.validation))?)
            }
        };
        let sets = JudgeSets {
            train: &database,
            validation: validation.as_ref(),
            test: &queries,
        };
        let knn = figures.knn.map(|_| &config.evaluate.knn);
        let row = JudgedRow {
            name: name.to_owned(),
            figures,
            neighbours: None,
            cross_map: None,
            protocols: run_protocols(&config.evaluate, sets, name, observer)?,
        };
        Ok((row, Answers::of([&database, &queries], knn, None)?))
    };
    let mut measured = vec![measure(name, &table.features)?];
    if let Some(adaptation) = adaptation {
        measured.push(measure("adapted", &adaptation.apply(&table.features)?)?);
    }
    let (mut rows, answers): (Vec<_>, Vec<_>) = measured.into_iter().unzip();
    let intervals = intervals(&answers, &wanted, &BootstrapConfig::default())?;
    for (row, intervals) in rows.iter_mut().zip(intervals) {
        (row.neighbours, row.cross_map) = (intervals.knn, intervals.map);
    }
    if single > 0 {
        observer.on_message(&format!(
            "warning: retrieval: {single} {} rows are the only ones of their class and ask no query",
            parts.judged_on.name()
        ));
    }
    Ok(Judgement {
        rows,
        from: source.to_owned(),
        adaptation: adaptation.map(adaptation_in_words),
        judged_on: parts.judged_on,
        train_images: parts.train.len(),
        judged_images: parts.judged.len(),
        classes: table.classes.len(),
        single_image_queries: single,
        fine_tuned: None,
        data: None,
        device: None,
    })
}
