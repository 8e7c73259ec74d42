//! `fgvr adapt`: what it writes, what it refuses, and that neither threads, batches nor a stop change a bit.

#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests

mod common;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use candle_core::{Device, Tensor, safetensors};
use common::{Place, photos};
use fgvr_train::adapt::{Answer, Queries};
use fgvr_train::{AdaptOptions, Adapted, Compute, Embedder, Error, Observer, adapt, open_weights};

/// A small residual network that tests of other crates share.
fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/weights/resnet.safetensors")
}

/// `fgvr adapt --weights ... --data DATA ARGS` at 32 pixels.
fn run(place: &Place, data: &str, more: &[&str]) -> Output {
    let weights = golden();
    let mut arguments = vec![
        "adapt",
        "--weights",
        weights.to_str().unwrap(),
        "--data",
        data,
    ];
    arguments.extend(["--set", "data.size=32"]);
    arguments.extend(more);
    place.fgvr(&arguments).output().expect("fgvr starts")
}

#[test]
fn what_cannot_be_adapted_is_one_line() {
    let place = Place::new();
    photos(&place.join("photos"), 12);
    photos(&place.join("one"), 1);
    fs::create_dir(place.join("empty")).unwrap();
    fs::create_dir(place.join("same")).unwrap();
    let copy = fs::read(place.join("photos/0.png")).unwrap();
    for i in 0..12 {
        fs::write(place.join(&format!("same/{i}.png")), &copy).unwrap();
    }
    for (data, more, words) in [
        ("nowhere", &[][..], &["nowhere", "no such folder"][..]),
        ("empty", &[], &["empty", "no images"]),
        (
            "one",
            &[],
            &["one", "photos to fit to: 1, expected 2 or more"],
        ),
        ("same", &[], &["no variance", "images that differ"]),
        ("photos", &["--views", "1"], &["adapt.views", "at least 2"]),
        ("photos", &["--out", "one"], &["one", "exists already"]),
        (
            "photos",
            &["--out", "photos/0.png/x"],
            &["it is not a folder"],
        ),
        (
            "photos",
            &["--set", "adapt.rigde=1"],
            &["did you mean ridge?"],
        ),
        (
            "photos",
            &["--set", "optimizer.lr=1"],
            &["adapting", "adapt.ridge"],
        ),
        ("photos", &["--config", "none.toml"], &["none.toml"]),
    ] {
        place.refused(&run(&place, data, more), words);
    }
    let tensors = safetensors::load(golden(), &Device::Cpu).unwrap();
    let spoilt = [
        (f64::NAN, "holds a value that is not finite"),
        // Weights are numbers, features are not.
        (1e12, "photos are not finite"),
    ];
    for (factor, words) in spoilt {
        let norms = |name: &str| name.contains("bn") && name.ends_with(".weight");
        let spoil = |(name, tensor): (&String, &Tensor)| {
            let factor = if norms(name) { factor } else { 1. };
            (name.clone(), (tensor * factor).unwrap())
        };
        let tensors: HashMap<String, Tensor> = tensors
            .iter()
            .map(|(name, tensor)| match tensor.dtype().is_float() {
                true => spoil((name, tensor)),
                false => (name.clone(), tensor.clone()),
            })
            .collect();
        safetensors::save(&tensors, place.join("spoilt.safetensors")).unwrap();
        let arguments = "adapt --weights spoilt.safetensors --set data.size=32 --data photos";
        let arguments: Vec<&str> = arguments.split(' ').collect();
        place.refused(&place.fgvr(&arguments).output().unwrap(), &[words]);
    }
    // Nothing is left behind.
    assert_eq!(fs::read_dir(place.join("adapted")).unwrap().count(), 0);
}

#[test]
fn few_photos_are_adapted_and_the_answer_is_that_nothing_can_be_told() {
    let place = Place::new();
    photos(&place.join("few"), 40);
    let output = run(&place, "few", &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    let line = text
        .lines()
        .find(|line| line.starts_with("gate: "))
        .unwrap();
    assert!(
        line.contains("cannot tell: 4 photos are held out"),
        "{line}"
    );
    assert!(line.contains("at least 100 photos"), "{line}");
    assert!(line.contains("the start is exported, unchanged"), "{line}");
    let figures = place.json("adapted/few/adapt.json");
    assert_eq!(figures["exported"], "start");
    assert_eq!(figures["table"], serde_json::Value::Null);
    let output = run(&place, "few", &["--if-unsure", "--out", "sure", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let figures: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(figures["exported"], "adapted");
    assert_eq!(figures["photos"]["fitted"], 36);
    for file in ["adapt.json", "adapt.log", "adapt.svg", "README.md"] {
        assert!(place.join("sure").join(file).is_file(), "{file}");
    }
    let card = fs::read_to_string(place.join("sure/README.md")).unwrap();
    assert!(card.contains("no class head"), "{card}");
    // No work is left.
    let left = fs::read_dir(place.join("adapted")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["few"]);
}

/// Says stop after so many words about images, and counts photos.
struct Stop {
    after: Option<usize>,
    said: usize,
    lines: Vec<String>,
}

impl Stop {
    fn after(after: Option<usize>) -> Self {
        Self {
            after,
            said: 0,
            lines: Vec::new(),
        }
    }
}

impl Observer for Stop {
    fn on_images(&mut self, _: usize, _: usize) {
        self.said += 1;
    }
    fn on_message(&mut self, line: &str) {
        self.lines.push(line.to_owned());
    }
    fn should_stop(&self) -> bool {
        self.after.is_some_and(|after| self.said >= after)
    }
}

const SET: &str = "data.lookalikes={families=2, species_per_family=2, train_images=120, val_images=16, test_images=40}";

fn embedder(settings: &[&str]) -> Embedder {
    let weights = open_weights(golden().to_str().unwrap(), &mut Stop::after(None)).unwrap();
    let settings: Vec<String> = settings.iter().map(|s| (*s).to_owned()).collect();
    let compute = Compute::choose("cpu", fgvr_nn::Precision::F32).unwrap();
    Embedder::from_weights_with(&weights, &settings, &[], &compute)
        .unwrap()
        .0
}

fn options(settings: &[&str]) -> AdaptOptions {
    let settings: Vec<String> = settings.iter().map(|s| (*s).to_owned()).collect();
    AdaptOptions::split(&settings).unwrap().0
}

fn bits(adapted: &Adapted) -> (Vec<u32>, String) {
    let weight = adapted.adaptation.weight().iter().map(|v| v.to_bits());
    let figures = format!(
        "{:?} {:?} {:?}",
        adapted.gate, adapted.table, adapted.label_free
    );
    (weight.collect(), figures)
}

#[test]
fn threads_batches_and_a_stop_change_no_bit() {
    let data = "builtin:lookalikes";
    let quick = [
        "adapt.draws=50",
        "adapt.views=2",
        "evaluate.linear.weight_decays=[1]",
    ];
    let seen = ["data.size=32", SET];
    let embedder_of = |more: &str| embedder(&[&seen[..], &[more]].concat());
    let whole = adapt(
        &embedder_of("evaluate.batch=32"),
        data,
        &options(&quick),
        &mut Stop::after(None),
    );
    let whole = whole.unwrap();
    let table = whole.table.as_ref().unwrap();
    assert_eq!(
        (table.queries_of, table.queries, table.database),
        (Queries::Test, 40, 120)
    );
    let names: Vec<&str> = table.rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "plain",
            "centred",
            "adapted",
            "nuisance",
            "total",
            "random-basis",
            "between",
            "neighbours"
        ]
    );
    assert_eq!((whole.photos.fitted, whole.photos.held_out), (70, 50));
    assert_ne!(whole.gate.answer, Answer::Shut, "{:?}", whole.gate);

    // On one thread, in batches of another size.
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    let alone = pool.install(|| {
        adapt(
            &embedder_of("evaluate.batch=7"),
            data,
            &options(&quick),
            &mut Stop::after(None),
        )
    });
    assert_eq!(bits(&alone.unwrap()), bits(&whole));

    // Stopped in each part, and once more where it was stopped already.
    let folder = tempfile::tempdir().unwrap();
    let kept = AdaptOptions {
        work: Some(folder.path().to_owned()),
        ..options(&quick)
    };
    let embedder = embedder_of("evaluate.batch=12");
    for after in [3, 16, 9] {
        let stopped = adapt(&embedder, data, &kept, &mut Stop::after(Some(after)));
        let Err(Error::Stopped { problem }) = stopped else {
            panic!("{stopped:?}")
        };
        assert!(
            problem.contains("of 160 photos, which are kept in"),
            "{problem}"
        );
    }
    // What the features do not depend on may change in between.
    let mut observer = Stop::after(None);
    let again = adapt(&embedder, data, &kept, &mut observer).unwrap();
    let going_on = observer
        .lines
        .iter()
        .any(|line| line.starts_with("going on: "));
    assert!(going_on, "{:?}", observer.lines);
    assert_eq!(bits(&again), bits(&whole));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
