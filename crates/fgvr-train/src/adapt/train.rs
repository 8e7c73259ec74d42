//! `fgvr adapt --train`: careful training first, then the closed form on what came of it, each only as far as photos that
//! neither has seen let it through.

use candle_core::{Device, Tensor};
use fgvr_data::{DataConfig, Splits};
use fgvr_eval::{Embeddings, knn};

use super::gate::{answer, nobody};
use super::interpolation::best;
use super::judge::{Row, table_of};
use super::{AdaptOptions, Adapted, Answer, Features, Gate, Training, adapt_embedder, open};
use crate::against_start::{AgainstStart, ComparedBy};
use crate::{Embedder, Observer, PretrainConfig, Result, RunFolder};

/// Adapts `start` and what was `trained` from it to the photos of `source`, and takes the better of the two as far as the
/// photos of the validation split can tell, on which neither was trained nor anything fitted. The table compares all four.
/// The answer is that of the network that is taken, which comes with it.
///
/// Where the settings ask for [weights between the two](crate::config::AdaptSettings::interpolate), the best of these and the
/// trained network, by the same photos, stands for what was trained.
///
/// # Errors
/// Data that cannot be opened or of which fewer than two photos can be read; features that are not finite or all equal; a
/// setting out of range; [`crate::Error::Stopped`] where the observer asked for it.
pub fn adapt_trained(
    [start, trained]: [Embedder; 2],
    (run, config, seconds): (&RunFolder, &PretrainConfig, f64),
    options: &AdaptOptions,
    observer: &mut dyn Observer,
) -> Result<(Adapted, Embedder)> {
    let options = AdaptOptions {
        apart: true,
        ..options.clone()
    };
    let source = config.source.as_str();
    let mut opened: Option<(&DataConfig, Splits)> = None;
    let (mut adapted, mut networks) = (Vec::new(), Vec::new());
    let shares = shares(&options.settings.interpolate);
    for share in std::iter::once(0.).chain(shares.iter().copied()) {
        let (between, name) = match share {
            0. => (None, "the start".to_owned()),
            1. => (None, "the trained network".to_owned()),
            _ => (
                Some(trained.between(&start, share)?),
                format!("weights {share} of the way from the start to the trained network"),
            ),
        };
        let of_end = if share == 0. { &start } else { &trained };
        let embedder = between.as_ref().unwrap_or(of_end);
        let splits = match opened {
            Some((data, splits)) if *data == embedder.data => splits,
            _ => open(source, &embedder.data, &options, observer)?,
        };
        observer.on_message(&format!("adapting {name}"));
        let photos = (source, &splits);
        adapted.push(adapt_embedder(embedder, photos, &options, true, observer)?);
        opened = Some((&of_end.data, splits));
        networks.push(between);
    }
    let candidates = shares
        .iter()
        .copied()
        .zip(adapted.iter().skip(1).map(|(_, of)| of));
    let interpolation = match shares.len() {
        1 => None,
        _ => best(&Vec::from_iter(candidates), &options)?,
    };
    let share = interpolation.as_ref().map_or(1., |found| found.share);
    let chosen = 1 + shares
        .iter()
        .position(|s| *s == share)
        .unwrap_or(shares.len() - 1);
    let (after, trained) = (
        adapted.swap_remove(chosen),
        networks.swap_remove(chosen).unwrap_or(trained),
    );
    let before = adapted.swap_remove(0);
    let gate = compare([&before.1, &after.1], &options)?;
    let against_start = by_labels([&before.1, &after.1], &options)?;
    let below = against_start.as_ref().is_some_and(AgainstStart::is_below);
    let training = Training {
        run: run.path().to_owned(),
        recipe: format!("{}, {}", config.method(), config.recipe()),
        steps: config.total_steps(after.0.photos.fitted),
        seconds,
        interpolation,
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
    let ((mut taken, features), embedder) = match training.is_taken {
        true => (after, trained),
        false => (before, start),
    };
    taken.neighbours = features.neighbours(&taken.adaptation)?;
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
    let found = both.map(|of| knn_of_held_out(of, options));
    let [start, trained] = found;
    let compared = |both| AgainstStart::new(ComparedBy::Knn, both, photos);
    Ok(start?
        .zip(trained?)
        .map(|(start, trained)| compared([start, trained])))
}

/// kNN from the photos that were fitted to, to those that were held out; `None` without labels, or with a class that nothing
/// was fitted to.
pub(super) fn knn_of_held_out(of: &Features, options: &AdaptOptions) -> Result<Option<f64>> {
    let (photos, width) = (of.held_out.photos(), of.held_out.width);
    let [fitted, held] = &of.labels;
    let seen = |label: &u32| fitted.contains(label);
    let has_labels = held.len() == photos && photos > 0 && held.iter().all(seen);
    if !has_labels {
        return Ok(None);
    }
    let set = |features: &[f32], labels: &[u32]| -> Result<Embeddings> {
        let shape = (labels.len(), width);
        let features = Tensor::from_slice(features, shape, &Device::Cpu)?;
        Ok(Embeddings::new(features, labels.to_vec())?)
    };
    let (among, asking) = (set(&of.plain, fitted)?, set(&of.held_out.plain, held)?);
    Ok(Some(knn(&among, &asking, &options.knn)?.top1))
}

/// The shares of a trained network that are tried, rising: those that are asked for, and all of it.
fn shares(asked: &[f64]) -> Vec<f64> {
    let mut shares = [asked, &[1.]].concat();
    shares.sort_by(f64::total_cmp);
    shares.dedup();
    shares
}

#[cfg(test)]
mod tests {
    use candle_core::DType;
    use fgvr_data::{Found, encode_png};
    use fgvr_encoder::weights::Weights;
    use fgvr_encoder::{Architecture, Backbone, EncoderConfig};
    use fgvr_nn::Parameters;

    use super::*;
    use crate::Compute;

    /// Counts the data sets that were opened.
    #[derive(Default)]
    struct Opened(usize);

    impl Observer for Opened {
        fn on_data(&mut self, _: &Found) {
            self.0 += 1;
        }
    }

    /// A network of random weights that sees 32 x 32 pixels.
    fn network(seed: u64) -> Embedder {
        let parameters = Parameters::new(seed);
        let config = EncoderConfig {
            width: 8,
            ..EncoderConfig::from(Architecture::ResNet10)
        };
        Backbone::new(&config, parameters.builder(DType::F32, &Device::Cpu)).unwrap();
        let variables = parameters.all().into_iter();
        let tensors = variables.map(|(name, var)| (name, var.as_tensor().clone()));
        let stored = safetensors::serialize(tensors, None).unwrap();
        let weights = Weights::from_bytes("random", stored).unwrap();
        let settings = ["data.size=32", "data.val_fraction=0.5"];
        let settings = settings.map(str::to_owned);
        Embedder::plain_from_weights_with(&weights, &settings, &[], &Compute::cpu())
            .unwrap()
            .0
    }

    #[test]
    fn both_networks_see_photos_that_were_opened_once_and_neighbours_are_those_of_the_taken_one() {
        let folder = tempfile::tempdir().unwrap();
        let photos = folder.path().join("photos");
        std::fs::create_dir(&photos).unwrap();
        for number in 0..24 {
            let values = (0..3 * 40 * 40).map(|i| (i * (number + 3) % 251) as f32 / 250.);
            let image = Tensor::from_iter(values, &Device::Cpu).unwrap();
            let png = encode_png(&image.reshape((3, 40, 40)).unwrap()).unwrap();
            std::fs::write(photos.join(format!("{number}.png")), png).unwrap();
        }
        let config = PretrainConfig {
            source: photos.to_str().unwrap().to_owned(),
            ..PretrainConfig::default()
        };
        let run = RunFolder::create(&folder.path().join("run")).unwrap();
        let (start, trained) = (network(1), network(2));
        let mut options = AdaptOptions::default();
        options.settings.views = 2;
        let mut opened = Opened::default();
        let origin = start.origin().to_owned();
        let both = [start, trained];
        let (adapted, taken) =
            adapt_trained(both, (&run, &config, 0.), &options, &mut opened).unwrap();
        assert_eq!(opened.0, 1);
        // Too few photos to tell by, so that the start is taken: with the picture that it has by itself.
        assert_eq!(taken.origin(), origin);
        let start = taken;
        let alone_options = AdaptOptions {
            apart: true,
            ..options
        };
        let alone = super::super::adapt(&start, &config.source, &alone_options, &mut opened);
        let alone = alone.unwrap();
        assert_eq!(opened.0, 2);
        let picture = |of: &Adapted| of.neighbours.as_ref().unwrap().draw().unwrap().pixels;
        assert_eq!(picture(&adapted), picture(&alone));
        // Weights between the two are tried, without another look at the data.
        let mut between = alone_options.clone();
        between.settings.interpolate = vec![0.5];
        let both = [network(1), network(2)];
        let (adapted, _) = adapt_trained(both, (&run, &config, 0.), &between, &mut opened).unwrap();
        assert_eq!(opened.0, 3);
        let training = adapted.training.unwrap();
        assert!(training.answer().contains("of the way from the start"));
        let way = training.interpolation.unwrap();
        let shares = way.tried.iter().map(|tried| tried.share);
        assert_eq!(Vec::from_iter(shares), [0.5, 1.]);
        assert!(way.share == 0.5 || way.tried[1].figure > way.tried[0].figure);
    }
}
