//! What queries come to with one network's features, as they are and after the closed form, query by query.

use fgvr_data::Splits;

use super::judge::{LabelFree, Row, ask};
use super::{AdaptOptions, Queries, adapt_embedder};
use crate::answers::Answers;
use crate::{Embedder, Observer, Result};

/// What one network's features came to.
pub(crate) struct Answered {
    /// Which photos asked, and what they came to; `None` without labels.
    pub(crate) asked: Option<AskedOf>,
    /// Plain features, unless only the closed form was asked for.
    pub(crate) plain: Option<AnsweredRow>,
    /// Features after the closed form.
    pub(crate) adapted: AnsweredRow,
    /// Seconds of embedding, fitting and judging.
    pub(crate) seconds: f64,
}

/// The photos that asked.
pub(crate) struct AskedOf {
    pub(crate) queries_of: Queries,
    /// Their classes, in the order of answers.
    pub(crate) labels: Vec<u32>,
    /// Photos left out, since there is no training photo of their class.
    pub(crate) left_out: usize,
    /// Photos among which they searched.
    pub(crate) searched: usize,
}

/// One kind of features.
pub(crate) struct AnsweredRow {
    /// Query by query; `None` without labels.
    pub(crate) answers: Option<Answers>,
    /// Measures of photos that nothing was fitted to.
    pub(crate) label_free: LabelFree,
}

/// Fits the closed form to the training photos of `splits`, measures without labels what the photos of the validation
/// split find if `options` keeps these apart, and asks the test photos. Without `plain`, only the closed form is judged by labels.
///
/// # Errors
/// Fewer than two photos that can be read; features that are not finite or all equal;
/// [`Error::Stopped`](crate::Error::Stopped).
pub(crate) fn answer(
    embedder: &Embedder,
    photos: (&str, &Splits),
    options: &AdaptOptions,
    plain: bool,
    observer: &mut dyn Observer,
) -> Result<Answered> {
    let (adapted, features) = adapt_embedder(embedder, photos, options, true, observer)?;
    let since = std::time::Instant::now();
    let mut asked = None;
    let mut answers = Vec::new();
    if let Some((queries_of, database, queries)) = &features.labelled {
        let row = |adaptation| Row {
            name: String::new(),
            kind: None,
            adaptation,
            probed: true,
            of: [database, queries],
        };
        let mut rows = vec![row(Some(&adapted.adaptation))];
        if plain {
            rows.push(row(None));
        }
        if let Some(found) = ask(&rows, *queries_of, options, observer)? {
            answers = found.answers;
            asked = Some(AskedOf {
                queries_of: *queries_of,
                labels: found.labels,
                left_out: found.left_out,
                searched: found.database,
            });
        }
    }
    let mut answers = answers.into_iter();
    let mut row = |name: &str| {
        let answers = answers.next();
        let mut measured = adapted.label_free.iter();
        let label_free = measured.find(|measured| measured.name == name)?.clone();
        Some(AnsweredRow {
            answers,
            label_free,
        })
    };
    let expected = || crate::Error::config("adapt", "expected measures of adapted features");
    let of_adapted = row("adapted").ok_or_else(expected)?;
    Ok(Answered {
        asked,
        adapted: of_adapted,
        plain: plain.then(|| row("plain")).flatten(),
        seconds: adapted.seconds.total + since.elapsed().as_secs_f64(),
    })
}
