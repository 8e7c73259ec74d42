//! Fine-tuning of a network with a share of the labels, to judge what it starts from.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use fgvr_data::{Dataset, LoaderConfig, Splits};
use fgvr_eval::{BootstrapConfig, Judged, Measure, Protocol, label_fraction_rows};
use fgvr_nn::NormMode;

use crate::config::{FineTuneSettings, OptimizerKind, OptimizerSettings, PretrainConfig};
use crate::labelled::{Classifying, LightViews, Subset};
use crate::learning_rate::learning_rate;
use crate::optimizer::TrunkOptimizer;
use crate::{Compute, Embedder, Error, JudgedOn, Observer, Result};

/// Parts of a training after which it is judged, where the best is asked for.
const PARTS: u64 = 10;

const REMEDY: &str = "fine-tuning diverged: take a smaller evaluate.fine_tune.lr";

/// Fine-tunes the network of `embedder` with each share of the labels and judges it on test images. Batch norm takes its running
/// statistics, views are lightly cropped and mirrored, AdamW's rate rises over a tenth of the steps and falls on a cosine. What is
/// judged is the last step. `None` where no share is asked for.
///
/// # Errors
/// Images without labels, settings out of range, a training that diverges.
pub(crate) fn fine_tune(
    embedder: &Embedder,
    config: &PretrainConfig,
    splits: &Splits,
    compute: &Compute,
    observer: &mut dyn Observer,
) -> Result<Option<Judged>> {
    let settings = &config.evaluate.fine_tune;
    settings.check()?;
    if settings.fractions.is_empty() {
        return Ok(None);
    }
    let train = labelled(&splits.train);
    let (_, judged) = JudgedOn::choose(splits);
    let test: Arc<dyn Dataset> = Arc::new(labelled(judged));
    let labels = |set: &dyn Dataset| -> Vec<u32> {
        (0..set.len())
            .filter_map(|index| set.label(index))
            .collect()
    };
    let (seen, wanted) = (labels(&train), labels(test.as_ref()));
    let distinct: BTreeSet<u32> = seen.iter().copied().collect();
    if distinct.len() < 2 || wanted.is_empty() {
        let problem = "fine-tuning takes labelled images of two classes or more, and labelled images to judge";
        return Err(Error::config("--fine-tune", problem));
    }
    let train: Arc<dyn Dataset> = Arc::new(train);
    let begun = Instant::now();
    let mut found = Judged::default();
    for fraction in &settings.fractions {
        let (mut hits, mut best, mut rows) = (Vec::new(), Vec::new(), 0);
        for seed in 0..settings.seeds {
            let kept = label_fraction_rows(&seen, *fraction, seed)?;
            rows = kept.len();
            observer.on_phase(&format!(
                "fine-tuning with {} % of the labels ({rows} images), seed {} of {}",
                100. * fraction,
                seed + 1,
                settings.seeds
            ));
            let part: Arc<dyn Dataset> = Arc::new(Subset::new(&train, kept));
            let tuned = one(embedder, config, (&part, &test), seed, compute, observer)?;
            hits.push(tuned.hits);
            best.extend(tuned.best);
        }
        let name = format!("fine-tuned, {} % of labels ({rows})", 100. * fraction);
        let cfg = BootstrapConfig::default();
        let mut measure = Measure::of_hits(Protocol::FineTune, &name, &hits, &wanted, &cfg)?;
        if !best.is_empty() {
            measure.best_on_test = Some(best.iter().sum::<f64>() / best.len() as f64);
        }
        found.measures.push(measure);
    }
    found
        .seconds
        .push((Protocol::FineTune, begun.elapsed().as_secs_f64()));
    Ok(Some(found))
}

/// The images of a set that have a label.
fn labelled(set: &Arc<dyn Dataset>) -> Subset {
    let rows = (0..set.len()).filter(|index| set.label(*index).is_some());
    Subset::new(set, rows.collect())
}

/// What one training came to.
struct Tuned {
    /// For each image to judge whether its class is named; false for one that cannot be read.
    hits: Vec<bool>,
    best: Option<f64>,
}

fn one(
    embedder: &Embedder,
    config: &PretrainConfig,
    (train, test): (&Arc<dyn Dataset>, &Arc<dyn Dataset>),
    seed: u64,
    compute: &Compute,
    observer: &mut dyn Observer,
) -> Result<Tuned> {
    let settings: &FineTuneSettings = &config.evaluate.fine_tune;
    let network = embedder.fresh(compute)?;
    let model = Classifying::new(network, train.classes().len(), seed, compute)?;
    let mut trained = model.parameters.trainable();
    if embedder.encoder_config().positions == fgvr_encoder::Positions::Sincos {
        trained.remove("pos_embed");
    }
    let trained = trained
        .into_iter()
        .map(|(name, var)| (format!("encoder.{name}"), var));
    let optimizer = OptimizerSettings {
        kind: OptimizerKind::Adamw,
        lr: settings.lr,
        head_lr: Some(settings.head_lr),
        weight_decay: settings.weight_decay,
        warm_up: 0.1,
        ..OptimizerSettings::default()
    };
    let variables = trained.chain(model.of_head()).collect();
    let mut adamw = TrunkOptimizer::new(variables, &optimizer, (&[], false), 0, None)?;
    let batch = settings.batch.min(train.len());
    let loader = LoaderConfig {
        batch,
        seed,
        prefetch_bytes: config.loader.prefetch_mib << 20,
        bad_image_budget: config.loader.bad_image_budget,
        threads: config.loader.threads,
        ..LoaderConfig::default()
    };
    let sight = &embedder.sight;
    let views = LightViews {
        size: sight.view.size,
        normalisation: sight.normalisation.clone(),
        settings: loader,
    };
    let total = (settings.epochs * (train.len() / batch).max(1) as u64).max(settings.least_steps);
    let part = (total / PARTS).max(1);
    let mut best: Option<f64> = None;
    model.train(
        views.of(train)?,
        (NormMode::Eval, total),
        |gradients, number| {
            adamw.step(gradients, number, total)?;
            Ok(learning_rate(&optimizer, number, total))
        },
        |model, done| {
            if settings.best_on_test && done % part == 0 {
                let hits = model.hits(test, sight, REMEDY)?;
                let right = hits.iter().filter(|(_, hit)| *hit).count();
                let top1 = right as f64 / test.len() as f64;
                best = Some(best.map_or(top1, |before| before.max(top1)));
            }
            Ok(())
        },
        observer,
    )?;
    let mut hits = vec![false; test.len()];
    for (index, hit) in model.hits(test, sight, REMEDY)? {
        hits[index] = hit;
    }
    let last = hits.iter().filter(|hit| **hit).count() as f64 / hits.len() as f64;
    Ok(Tuned {
        best: best.map(|best| best.max(last)),
        hits,
    })
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};
    use fgvr_encoder::weights::Weights;
    use fgvr_encoder::{Architecture, Backbone, EncoderConfig};
    use fgvr_nn::Parameters;

    use super::*;
    use crate::Silent;

    /// A network of random weights that sees 32 x 32 pixels.
    fn network() -> Embedder {
        let parameters = Parameters::new(3);
        let config = EncoderConfig {
            width: 8,
            ..EncoderConfig::from(Architecture::ResNet10)
        };
        Backbone::new(&config, parameters.builder(DType::F32, &Device::Cpu)).unwrap();
        let variables = parameters.all().into_iter();
        let tensors = variables.map(|(name, var)| (name, var.as_tensor().clone()));
        let stored = safetensors::serialize(tensors, None).unwrap();
        let weights = Weights::from_bytes("random", stored).unwrap();
        let settings = ["data.size=32".to_owned()];
        Embedder::plain_from_weights_with(&weights, &settings, &[], &Compute::cpu())
            .unwrap()
            .0
    }

    /// Two classes of stripes, across or down.
    fn photos() -> (tempfile::TempDir, Splits) {
        let folder = tempfile::tempdir().unwrap();
        for (split, count) in [("train", 16), ("test", 9)] {
            for class in 0..2 {
                let path = folder.path().join(split).join(format!("c{class}"));
                std::fs::create_dir_all(&path).unwrap();
                for number in 0..count {
                    let value = |at: usize| {
                        let (y, x) = (at / 40 % 40, at % 40);
                        let along = if class == 0 { x } else { y };
                        f32::from(u8::from((along + number) % 8 < 4)) * (0.6 + number as f32 / 40.)
                    };
                    let values: Vec<f32> = (0..3 * 40 * 40).map(value).collect();
                    let image = Tensor::from_vec(values, (3, 40, 40), &Device::Cpu).unwrap();
                    let png = fgvr_data::encode_png(&image).unwrap();
                    std::fs::write(path.join(format!("{number}.png")), png).unwrap();
                }
            }
        }
        let data = fgvr_data::DataConfig {
            val_fraction: 0.,
            ..fgvr_data::DataConfig::default()
        };
        let splits = fgvr_data::open(folder.path().to_str().unwrap(), &data).unwrap();
        (folder, splits)
    }

    fn config(lr: f64) -> PretrainConfig {
        let mut config = PretrainConfig::default();
        config.evaluate.fine_tune = FineTuneSettings {
            fractions: vec![0.5, 1.],
            epochs: 1,
            least_steps: 20,
            batch: 8,
            lr,
            head_lr: 1e-2,
            seeds: 2,
            best_on_test: true,
            ..FineTuneSettings::default()
        };
        config
    }

    #[test]
    fn the_network_learns_the_classes_the_same_at_every_run() {
        let (_folder, splits) = photos();
        let run = |config: &PretrainConfig| {
            let found = fine_tune(&network(), config, &splits, &Compute::cpu(), &mut Silent);
            found.unwrap().unwrap()
        };
        let tuned = run(&config(3e-3));
        let names: Vec<&str> = tuned.measures.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "fine-tuned, 50 % of labels (16)",
                "fine-tuned, 100 % of labels (32)"
            ]
        );
        for measure in &tuned.measures {
            assert!(measure.value > 0.7, "{measure:?}");
            assert_eq!(measure.seeds.len(), 2);
            assert!(measure.best_on_test.unwrap() >= measure.value);
        }
        assert_eq!(run(&config(3e-3)).measures, tuned.measures);
        let mut none = config(1e-3);
        none.evaluate.fine_tune.fractions.clear();
        let found = fine_tune(&network(), &none, &splits, &Compute::cpu(), &mut Silent);
        assert!(found.unwrap().is_none());
        none.evaluate.fine_tune.fractions = vec![1.5];
        let error = fine_tune(&network(), &none, &splits, &Compute::cpu(), &mut Silent);
        assert!(error.unwrap_err().to_string().contains("fractions"));
    }

    #[test]
    fn a_rate_of_zero_leaves_the_network_as_it_is_and_another_reaches_all_of_it() {
        let (_folder, splits) = photos();
        let embedder = network();
        let moved = |lr: f64| -> Vec<(String, bool)> {
            let model = embedder.fresh(&Compute::cpu()).unwrap();
            let model = Classifying::new(model, 2, 0, &Compute::cpu()).unwrap();
            let trained = model.parameters.trainable();
            let named = trained
                .iter()
                .map(|(name, var)| (format!("encoder.{name}"), var.clone()));
            let settings = OptimizerSettings {
                kind: OptimizerKind::Adamw,
                lr,
                head_lr: Some(1e-3),
                weight_decay: 0.,
                ..OptimizerSettings::default()
            };
            let variables = named.chain(model.of_head()).collect();
            let mut adamw =
                TrunkOptimizer::new(variables, &settings, (&[], false), 0, None).unwrap();
            let views = LightViews {
                size: 32,
                normalisation: embedder.sight.normalisation.clone(),
                settings: LoaderConfig {
                    batch: 8,
                    ..LoaderConfig::default()
                },
            };
            let step = |gradients: &_, number| {
                adamw.step(gradients, number, 2)?;
                Ok(lr)
            };
            let loader = views.of(&splits.train).unwrap();
            let how = (NormMode::Eval, 2);
            model
                .train(loader, how, step, |_, _| Ok(()), &mut Silent)
                .unwrap();
            let before = embedder.parameters.trainable();
            let changed = |(name, var): (&String, &candle_core::Var)| {
                let values = |var: &candle_core::Var| {
                    let values = var.as_tensor().flatten_all().unwrap();
                    values.to_vec1::<f32>().unwrap()
                };
                (name.clone(), values(var) != values(&before[name]))
            };
            trained.iter().map(changed).collect()
        };
        assert!(moved(0.).iter().all(|(_, moved)| !moved));
        let still: Vec<_> = moved(1e-3)
            .into_iter()
            .filter(|(_, moved)| !moved)
            .collect();
        assert_eq!(still, []);
    }
}
