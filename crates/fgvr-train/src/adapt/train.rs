//! `fgvr adapt --train`: careful training first, then the closed form on what came of it, each only as far as photos that
//! neither has seen let it through.

use candle_core::{Device, Tensor};
use fgvr_eval::{Embeddings, knn};

use super::gate::{answer, nobody};
use super::judge::{Row, table_of};
use super::{AdaptOptions, Adapted, Answer, Features, Gate, Training, adapt_embedder};
use crate::against_start::{AgainstStart, ComparedBy};
use crate::{Embedder, Error, Observer, PretrainConfig, Result, RunFolder};

/// Adapts `start` and what was `trained` from it to the photos of `source`, and takes the better of the two as far as the
/// photos of the validation split can tell, on which neither was trained nor anything fitted. The table compares all four.
/// The answer is that of the network that is taken, which comes with it.
///
/// # Errors
/// As [`adapt`](super::adapt()).
pub fn adapt_trained<'a>(
    [start, trained]: [&'a Embedder; 2],
    (run, config, seconds): (&RunFolder, &PretrainConfig, f64),
    options: &AdaptOptions,
    observer: &mut dyn Observer,
) -> Result<(Adapted, &'a Embedder)> {
    let options = AdaptOptions {
        apart: true,
        ..options.clone()
    };
    let mut both = Vec::new();
    for (embedder, name) in [(start, "the start"), (trained, "the trained network")] {
        observer.on_message(&format!("adapting {name}"));
        both.push(adapt_embedder(
            embedder,
            &config.source,
            &options,
            true,
            observer,
        )?);
    }
    let Ok([before, after]) = <[_; 2]>::try_from(both) else {
        return Err(Error::config("adapt", "expected two networks"));
    };
    let gate = compare([&before.1, &after.1], &options)?;
    let against_start = by_labels([&before.1, &after.1], &options)?;
    let below = against_start.as_ref().is_some_and(|found| found.is_below);
    let training = Training {
        run: run.path().to_owned(),
        recipe: format!("{}, {}", config.method(), config.recipe()),
        steps: config.total_steps(after.0.photos.fitted),
        seconds,
        is_taken: gate.answer == Answer::Open && !below,
        gate,
        against_start,
    };
    let table = match (&before.1.labelled, &after.1.labelled) {
        (Some((queries_of, database, queries)), Some((_, database_after, queries_after))) => {
            let kind = options.settings.kind;
            let of = [[database, queries], [database_after, queries_after]];
            let adaptations = [&before.0.adaptation, &after.0.adaptation];
            let rows = ["start", "trained"].into_iter().zip(of).zip(adaptations);
            let rows = rows.flat_map(|((name, of), adaptation)| {
                let row = |name: String, adaptation: Option<_>| Row {
                    name,
                    kind: adaptation.map(|_| kind),
                    adaptation,
                    probed: true,
                    of,
                };
                [
                    row(name.to_owned(), None),
                    row(format!("{name}, adapted"), Some(adaptation)),
                ]
            });
            table_of(rows.collect(), *queries_of, Vec::new(), &options, observer)?
        }
        _ => None,
    };
    let (mut taken, embedder) = match training.is_taken {
        true => (after.0, trained),
        false => (before.0, start),
    };
    taken.table = table;
    taken.training = Some(training);
    Ok((taken, embedder))
}

/// What photos without labels say of one network's features beside another's.
fn compare(both: [&Features; 2], options: &AdaptOptions) -> Result<Gate> {
    let (settings, photos) = (&options.settings, both[0].held_out.photos());
    if photos < 2 {
        return Ok(nobody(photos, settings));
    }
    let measured = |of: &Features| of.held_out.measure(None, &of.plain, settings.agreement);
    let [start, trained] = [measured(both[0])?, measured(both[1])?];
    answer([("start", start), ("trained", trained)], photos, settings)
}

/// Both by kNN from the photos that were fitted to, to those that were held out.
fn by_labels(both: [&Features; 2], options: &AdaptOptions) -> Result<Option<AgainstStart>> {
    let photos = both[0].held_out.photos();
    let [fitted, held] = &both[0].labels;
    let seen = |label: &u32| fitted.contains(label);
    let has_labels = held.len() == photos && photos > 0 && held.iter().all(seen);
    if !has_labels {
        return Ok(None);
    }
    let found = both.map(|of| -> Result<f64> {
        let width = of.held_out.width;
        let set = |features: &[f32], labels: &[u32]| -> Result<Embeddings> {
            let shape = (labels.len(), width);
            let features = Tensor::from_slice(features, shape, &Device::Cpu)?;
            Ok(Embeddings::new(features, labels.to_vec())?)
        };
        let [fitted, held] = &of.labels;
        let (among, asking) = (set(&of.plain, fitted)?, set(&of.held_out.plain, held)?);
        Ok(knn(&among, &asking, &options.knn)?.top1)
    });
    let [start, trained] = found;
    let compared = AgainstStart::new(ComparedBy::Knn, [start?, trained?], photos);
    Ok(Some(compared))
}
