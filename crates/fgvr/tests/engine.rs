//! Whole runs of a few steps through the library: what they leave, and that arms nest.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use candle_core::{DType, Device, Tensor};
use common::{Place as Folder, last_checkpoint, photos};
use fgvr_data::Batch;
use fgvr_encoder::Backbone;
use fgvr_nn::ParameterGradients;
use fgvr_nn::Parameters;
use fgvr_nn::optim::{Sgd, SgdConfig};
use fgvr_ssl::{Base, MoCoConfig, MoCoV2, Network};
use fgvr_train::{
    Compute, Observer, Place, PretrainConfig, RunFolder, Silent, Trainer, evaluate_run,
    learning_rate, pretrain,
};
use serde_json::Value;

/// Three steps; pairs from the second one on, as soon as the bank holds a batch.
const SHORT: [&str; 3] = [
    "optimizer.steps=3",
    "synthpair.warm_up=0",
    "synthpair.ramp=0",
];

fn run(folder: &Folder, name: &str, config: &PretrainConfig) -> PathBuf {
    let place = Place::Folder(folder.join(name));
    let summary = pretrain(config, &place, &Compute::cpu(), &mut Silent).expect("a run");
    assert_eq!(summary.steps, [3, 3]);
    summary.run
}

fn short(folder: &Folder, settings: &[&str]) -> PretrainConfig {
    folder.config(&[&SHORT, settings].concat())
}

fn rows(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a row"))
        .collect()
}

#[test]
fn every_row_has_every_figure_and_null_where_an_arm_has_no_such_term() {
    let folder = Folder::new();
    for arm in ["base", "full"] {
        let mut config = short(&folder, &[&format!("arm={arm}")]);
        config.name = "tiny".to_owned();
        let run = run(&folder, arm, &config);
        let rows = rows(&run);
        assert_eq!(rows.len(), 3);
        for row in &rows {
            for key in [
                "step",
                "epoch",
                "loss",
                "loss_base",
                "loss_contrastive",
                "lr",
                "images_per_second",
                "data_wait",
                "embedding_std",
            ] {
                assert!(row[key].is_number(), "{arm}: {key} in {row}");
            }
            for key in [
                "loss_reconstruction",
                "loss_pair",
                "masked_fraction",
                "dead_fraction",
            ] {
                assert!(row.get(key).is_some(), "{arm}: {key} in {row}");
            }
        }
        let last = &rows[2];
        for key in ["loss_reconstruction", "loss_pair", "masked_fraction"] {
            assert_eq!(
                last[key].is_number(),
                arm == "full",
                "{arm}: {key} in {last}"
            );
        }
        let log = fs::read_to_string(run.join("train.log")).expect("train.log");
        let mut lines = log.lines();
        let data = lines.next().expect("a line");
        assert!(data.starts_with("builtin:lookalikes: 144 images"), "{data}");
        let first = lines.next().expect("a second line");
        assert!(
            first.contains(&format!("settings tiny, moco-v2, arm {arm}, seed 0")),
            "{first}"
        );
        for words in ["epoch 0: loss ", ", base ", "Frozen features", "untrained"] {
            assert!(log.contains(words), "{words:?} in {log}");
        }
        assert!(run.join("report.html").is_file());
    }
}

#[test]
fn every_file_of_a_run_stands_in_the_list_on_the_page() {
    let folder = Folder::new();
    let run = run(&folder, "run", &short(&folder, &["addons=[\"lcr\"]"]));
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/architecture.md");
    let page = fs::read_to_string(page).expect("the page");
    let list = page
        .split("<run>/")
        .nth(1)
        .expect("the list of a run folder");
    let list = list.split("```").next().expect("its end");
    let mut names = names_below(&run);
    assert!(names.len() > 20, "{names:?}");
    names.retain(|name| !is_listed(list, name));
    assert!(
        names.is_empty(),
        "not in the list of docs/architecture.md: {names:?}"
    );
    assert!(!is_listed(list, "checkpoint.json") && !is_listed(list, "pretext.safetensors"));
}

/// Whether a word of `list` stands for `name`; `…` and `*` stand for anything, `NAME` for an add-on or a sheet.
fn is_listed(list: &str, name: &str) -> bool {
    let trim = |c: char| "(),;:/".contains(c);
    let mut words = list.split_whitespace().map(|word| word.trim_matches(trim));
    words.any(|word| {
        let word = word.replace("NAME.safetensors", "lcr.safetensors");
        let word = word.replace("NAME", "*").replace('…', "*");
        let (first, rest) = word.split_once('*').unwrap_or((word.as_str(), ""));
        let last = rest.rsplit('*').next().unwrap_or_default();
        match word.contains('*') {
            true => !first.is_empty() && name.starts_with(first) && name.ends_with(last),
            false => word == name,
        }
    })
}

/// The names of all files and folders below `folder`.
fn names_below(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        names.push(entry.file_name().to_string_lossy().into_owned());
        if entry.path().is_dir() {
            names.extend(names_below(&entry.path()));
        }
    }
    names
}

#[test]
fn figures_of_a_labelled_set_are_all_there() {
    let folder = Folder::new();
    let config = short(&folder, &[]);
    let run = run(&folder, "run", &config);
    let eval = folder.json("run/eval.json");
    for features in ["trained", "untrained", "pixels"] {
        for figure in [
            "knn/top1",
            "linear/top1",
            "linear/top5",
            "retrieval/rank1",
            "retrieval/rank5",
            "retrieval/map",
        ] {
            let value = eval
                .pointer(&format!("/{features}/{figure}"))
                .and_then(Value::as_f64);
            assert!(
                value.is_some_and(|v| (0. ..=1.).contains(&v)),
                "{features} {figure}: {eval}"
            );
        }
    }
    for key in ["held_out", "mean_image"] {
        assert!(eval["psnr"][key].is_number(), "{eval}");
    }
    let counts = ["classes", "train_images", "test_images"].map(|key| eval[key].as_u64());
    assert_eq!(counts, [Some(4), Some(96), Some(32)]);

    // Judged again from the checkpoint, the figures are the same.
    let opened = RunFolder::open(&run).unwrap();
    let again = evaluate_run(&opened, None, None, &Compute::cpu(), &mut Silent).unwrap();
    let text = fs::read_to_string(run.join("eval.json")).unwrap();
    assert_eq!(serde_json::to_string_pretty(&again).unwrap(), text);
}

/// Puts a folder where a picture should go, and takes it away before the report looks for pictures.
struct InTheWay(Vec<String>);

const IN_THE_WAY: &str = "samples/epoch-0000-views.png";

impl Observer for InTheWay {
    fn on_start(&mut self, run: Option<&Path>, _: u64, _: u64) {
        let place = run.expect("a run folder").join(IN_THE_WAY);
        fs::create_dir(&place).expect("a folder");
        // Before what was said already.
        self.0.insert(0, place.to_string_lossy().into_owned());
    }

    fn on_message(&mut self, line: &str) {
        self.0.push(line.to_owned());
    }

    fn on_phase(&mut self, _: &str) {
        // Gone after the first phase.
        let _ = fs::remove_dir(&self.0[0]);
    }
}

#[test]
fn a_picture_that_cannot_be_made_is_a_warning_and_the_run_goes_on() {
    let folder = Folder::new();
    let config = short(&folder, &["arm=base"]);
    let place = Place::Folder(folder.join("run"));
    let mut observer = InTheWay(Vec::new());
    let summary = pretrain(&config, &place, &Compute::cpu(), &mut observer).unwrap();
    assert!(summary.evaluation.is_some());
    let warned = |line: &String| line.starts_with("warning: step 3: no pictures: ");
    assert!(observer.0.iter().any(warned), "{:?}", observer.0);
    let log = fs::read_to_string(summary.run.join("train.log")).unwrap();
    assert!(log.contains("warning: step 3: no pictures: "), "{log}");
}

#[test]
fn exported_weights_are_those_of_the_checkpoint_and_say_how_to_use_them() {
    let folder = Folder::new();
    let config = short(&folder, &["arm=base"]);
    let run = run(&folder, "run", &config);
    let file = run.join("export/model.safetensors");
    let parameters = Parameters::new(9);
    Backbone::new(
        &config.encoder,
        parameters.builder(DType::F32, &Device::Cpu),
    )
    .unwrap();
    let weights = fgvr_encoder::Weights::open_file(&file).unwrap();
    fgvr_encoder::load(&parameters, &weights, &Default::default())
        .unwrap()
        .strict()
        .unwrap();
    let last = run.join("checkpoints/step-00000003/objective.safetensors");
    let saved = candle_core::safetensors::load(last, &Device::Cpu).unwrap();
    for (name, var) in parameters.all() {
        let saved = &saved[&format!("objective.encoder.{name}")];
        assert_eq!(values(saved), values(&var), "{name}");
    }
    let read = |name: &str| fs::read_to_string(run.join("export").join(name)).unwrap();
    let about: serde_json::Value = serde_json::from_str(&read("config.json")).unwrap();
    let encoder = &about["fgvr"]["encoder"];
    assert_eq!(encoder["architecture"], "resnet10");
    assert_eq!(
        (&encoder["stem"], &encoder["width"]),
        (&"small".into(), &4.into())
    );
    let view = &about["pretrained_cfg"];
    assert_eq!(view["input_size"], serde_json::json!([3, 32, 32]));
    assert_eq!(view["mean"], serde_json::json!([0.485, 0.456, 0.406]));
    // timm has no such network, and is not told that it has.
    assert!(about.get("architecture").is_none(), "{about}");
    assert!(read("README.md").contains("no residual network of 4 base channels"));
}

#[test]
fn without_labels_the_figures_are_null_and_nothing_fails() {
    let folder = Folder::new();
    photos(&folder.join("photos"), 40);
    let mut config = short(&folder, &[]);
    config.source = folder.join("photos").to_string_lossy().into_owned();
    run(&folder, "run", &config);
    let eval = folder.json("run/eval.json");
    for features in ["trained", "untrained", "pixels"] {
        for figure in ["knn", "linear", "retrieval"] {
            assert!(eval[features][figure].is_null(), "{eval}");
        }
    }
    assert!(eval["classes"].is_null() && eval["parts"].is_null());
    assert!(eval["psnr"]["held_out"].is_number());
}

#[test]
fn without_reconstruction_and_pairs_the_full_arm_is_the_base_bit_for_bit() {
    let folder = Folder::new();
    let base = run(&folder, "base", &short(&folder, &["arm=base"]));
    let zero = ["arm=full", "synthpair.alpha=0", "synthpair.nu=0"];
    let full = run(&folder, "full", &short(&folder, &zero));
    assert!(last_checkpoint(&base) == last_checkpoint(&full));
}

#[test]
fn the_base_arm_is_moco_alone_bit_for_bit() {
    let folder = Folder::new();
    let config = short(&folder, &["arm=base"]);
    let mut trainer = Trainer::new(&config, 96, &Compute::cpu()).unwrap();

    let network = || {
        let parameters = Parameters::new(config.seed);
        let vb = parameters.builder(DType::F32, &Device::Cpu);
        let encoder = Backbone::new(&config.encoder, vb).unwrap();
        Network {
            encoder,
            parameters,
        }
    };
    let cfg = MoCoConfig {
        seed: config.seed,
        ..config.methods.get::<MoCoConfig>()
    };
    let mut moco = MoCoV2::new(network(), network(), Parameters::new(config.seed), &cfg).unwrap();
    let sgd = SgdConfig {
        momentum: config.optimizer.momentum,
        weight_decay: config.optimizer.weight_decay,
        exclude_norm_and_bias: true,
        ..SgdConfig::default()
    };
    let mut sgd = Sgd::new(moco.trainable(), &sgd).unwrap();
    for step in 0..3 {
        let batch = batch(step, 16);
        let (row, _) = trainer.step(std::slice::from_ref(&batch), false).unwrap();
        let pass = moco
            .real([&batch.views[0], &batch.views[1]].into(), &batch.indices)
            .unwrap();
        assert_eq!(
            row.loss,
            f64::from(pass.found.tensor().unwrap().to_scalar::<f32>().unwrap())
        );
        let leaves = pass.found.tensor().unwrap().backward().unwrap();
        let mut gradients = ParameterGradients::default();
        pass.backward(leaves.into(), &moco.trainable(), &mut gradients)
            .unwrap();
        sgd.step(&gradients, learning_rate(&config.optimizer, step, 3))
            .unwrap();
        moco.after_step().unwrap();
    }
    assert_eq!(bits(trainer.base()), bits(&moco));
}

#[test]
fn accumulated_batches_are_one_step_and_all_their_keys_are_kept() {
    let folder = Folder::new();
    let config = short(&folder, &["arm=full"]);
    let batches = [batch(1, 16), batch(2, 16)];
    let mut trainer = Trainer::new(&config, 96, &Compute::cpu()).unwrap();
    let (row, _) = trainer.step(&batches, false).unwrap();
    assert_eq!((row.step, trainer.step_count()), (1, 1));
    assert_eq!(queued(&trainer), 32);
    // Twice the same batch has the mean gradient of that batch, but for its batch statistics' second
    // update: the trained variables agree.
    let mut once = Trainer::new(&config, 96, &Compute::cpu()).unwrap();
    let mut twice = Trainer::new(&config, 96, &Compute::cpu()).unwrap();
    // Pairs apart, as the queue differs; the first step has none.
    once.step(&[batch(3, 16)], false).unwrap();
    twice.step(&[batch(3, 16), batch(3, 16)], false).unwrap();
    for (name, var) in once.encoder_parameters().trainable() {
        let other = &twice.encoder_parameters().trainable()[&name];
        let (a, b) = (values(&var), values(other));
        let difference = a.iter().zip(&b).map(|(a, b)| (a - b).abs());
        let largest = difference.fold(0f32, f32::max);
        assert!(largest < 1e-5, "{name}: {largest}");
    }
}

#[test]
fn a_step_that_is_not_finite_changes_no_weight() {
    let folder = Folder::new();
    let config = short(&folder, &["arm=recon-only"]);
    let mut trainer = Trainer::new(&config, 96, &Compute::cpu()).unwrap();
    trainer.step(&[batch(1, 16)], false).unwrap();
    let weights = |trainer: &Trainer| -> Vec<Vec<f32>> {
        trainer
            .base()
            .trainable()
            .values()
            .map(|var| values(var))
            .collect()
    };
    let before = (weights(&trainer), queued(&trainer));
    // Large enough that the reconstruction's squared error overflows.
    let mut sick = batch(2, 16);
    sick.views = sick.views.iter().map(|v| (v * 1e30).unwrap()).collect();
    let (row, _) = trainer.step(&[sick], true).unwrap();
    assert!(!row.loss.is_finite());
    assert!(row.to_map().unwrap()["loss"].is_null());
    assert_eq!((weights(&trainer), queued(&trainer)), before);
}

/// Keys in MoCo's queue.
fn queued(trainer: &Trainer) -> i64 {
    let state = trainer.state().expect("a state");
    let position = &state["objective.queue.position"];
    position.to_vec1::<i64>().expect("two counters")[1]
}

/// Two views of noise.
fn batch(seed: u64, n: usize) -> Batch {
    let view = |v: u64| fgvr_testkit::normal(10 * seed + v, (n, 3, 32, 32));
    Batch {
        views: vec![view(0), view(1)],
        crops: Vec::new(),
        indices: (0..n as u32).collect(),
        labels: vec![None; n],
        epoch: 0,
        batch: seed,
        last_of_epoch: false,
        wait: Duration::ZERO,
    }
}

fn values(tensor: &Tensor) -> Vec<f32> {
    let flat = tensor.flatten_all().expect("a tensor");
    flat.to_vec1().expect("f32 values")
}

fn bits(base: &dyn Base) -> BTreeMap<String, Vec<u64>> {
    let state = base.state().expect("a state");
    state
        .into_iter()
        .map(|(name, tensor)| {
            let flat = tensor.flatten_all().and_then(|t| t.to_dtype(DType::F64));
            let values: Vec<f64> = flat.and_then(|t| t.to_vec1()).expect("values");
            (name, values.into_iter().map(f64::to_bits).collect())
        })
        .collect()
}
