//! A small study from pretrained weights: judged twice, stopped and gone on with, with arms that train nothing.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Output;

use common::Place;
use fgvr_train::study::{StudyConfig, study};
use fgvr_train::{Compute, Observer, Silent};
use serde_json::Value;

const STUDY: &str = r#"
name = "tiny"
about = "A test."
seeds = [0, 1]
control = "still"
closed_form = true
set = [
  "data.lookalikes={families=2, species_per_family=2, train_images=96, val_images=64, test_images=32}",
  "loader.batch=16", "optimizer.steps=2", "adapt.views=2", "monitor.pictures_every=0",
]
[[data]]
name = "birds"
source = "builtin:lookalikes"
weights = "run/export"
[[arm]]
name = "still"
set = ["optimizer.lr=0"]
[[arm]]
name = "trained"
[[arm]]
name = "total"
frozen = true
set = ["adapt.kind=total"]
[[arm]]
name = "ridge"
frozen = true
set = ["adapt.ridge=0.1"]
[[compare]]
arm = "trained"
with = "start"
figure = "kNN"
[[compare]]
arm = "total"
with = "start"
figure = "mAP"
with_form = "plain"
"#;

/// A place with the export of a run of a few steps, `run/export`, and the study.
fn started() -> Place {
    let place = Place::new();
    let settings = ["encoder.width=64", "encoder.stem=imagenet", "arm=base"];
    let set: Vec<&str> = settings.iter().flat_map(|s| ["--set", *s]).collect();
    let run = place.pretrain(&[&["--out", "run", "--steps", "2"][..], &set[..]].concat());
    assert!(run.status.success(), "{run:?}");
    fs::write(place.join("s.toml"), STUDY).expect("s.toml");
    place
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn run(place: &Place, args: &[&str]) -> Output {
    let all = [&["study", "s.toml", "--out", "out"], args].concat();
    place.fgvr(&all).output().expect("fgvr starts")
}

fn succeeded(output: &Output) -> [String; 2] {
    assert!(output.status.success(), "{}", text(&output.stderr));
    [text(&output.stdout), text(&output.stderr)]
}

/// How often photos were embedded for an adaptation, by part of the study that did it.
fn embedded(stderr: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let mut of = String::new();
    for line in stderr.lines() {
        if line.starts_with("run ") && line.contains(" of 7: ") {
            line.clone_into(&mut of);
        } else if line.starts_with("embedding ") {
            *counts.entry(of.clone()).or_default() += 1;
        }
    }
    counts
}

#[test]
fn runs_are_judged_twice_beside_their_start_and_frozen_arms_embed_nothing_again() {
    let place = started();
    let [out, said] = succeeded(&run(&place, &[]));
    assert!(out.contains("7 of 7 runs done"), "{out}");
    assert!(out.lines().all(|line| line.chars().count() <= 100), "{out}");
    for words in [
        "\nstart ",
        "\nstart + closed form ",
        "\ntrained + closed form ",
        "\ntotal, frozen ",
        "named comparisons",
        "trained + closed form over",
        "rank correlation",
    ] {
        assert!(out.contains(words), "{words}: {out}");
    }
    let counts = embedded(&said);
    let embeds = |of: &str| {
        let of = counts.iter().filter(|(job, _)| job.contains(of));
        of.map(|(_, count)| count).sum::<usize>()
    };
    // Photos to fit to, photos held out and photos to judge by.
    let parts = ["birds, start", "birds, still", "birds, trained"].map(embeds);
    assert_eq!(parts, [3, 6, 6], "{said}");
    assert_eq!(["total", "ridge"].map(embeds), [0, 0], "{said}");

    let judged = |of: &str| place.json(&format!("out/birds/{of}/judged.json"));
    let start = judged("start");
    assert_eq!(start["labels"].as_array().map(Vec::len), Some(32));
    assert_eq!(
        (&start["queries_of"], &start["searched"]),
        (&"test".into(), &160.into())
    );
    // At a rate of zero all is as it was at the start, query by query.
    for seed in [0, 1] {
        assert_eq!(judged(&format!("still/seed-{seed}"))["rows"], start["rows"]);
    }
    assert_ne!(judged("trained/seed-0")["rows"], start["rows"]);
    let total = judged("total/all-seeds");
    assert_eq!(total["rows"].as_array().map(Vec::len), Some(1));
    assert_ne!(total["rows"][0], judged("ridge/all-seeds")["rows"][0]);
    let share = |answers: &Value| {
        let right = answers.as_array().expect("answers").iter();
        right.filter(|r| r.as_bool() == Some(true)).count() as f64 / 32.
    };
    for row in start["rows"].as_array().expect("rows") {
        for figure in ["kNN", "probe"] {
            assert_eq!(row[figure].as_f64(), Some(share(&row["answers"][figure])));
        }
        assert!(row["label_free"]["found_first"].is_number(), "{row}");
    }
    // What was embedded for a run is gone, and of the start it stays.
    let kept = |folder: &str| {
        let entries = fs::read_dir(place.join(folder)).expect("a folder");
        let names = entries.map(|e| e.expect("an entry").file_name());
        names
            .filter(|n| n.to_string_lossy().starts_with(".fgvr-adapt-"))
            .count()
    };
    assert_eq!(
        (kept("out/birds/start"), kept("out/birds/still/seed-0")),
        (1, 0)
    );

    let report = place.json("out/study.json");
    let found = &report["data"][0]["judged"];
    let comparisons = found["comparisons"].as_array().expect("comparisons");
    assert_eq!(comparisons.len(), 2);
    let knn = |of: &str| judged(of)["rows"][1]["kNN"].as_f64().expect("a figure");
    let trained = (knn("trained/seed-0") + knn("trained/seed-1")) / 2.;
    let difference = comparisons[0]["difference"]["mean"]
        .as_f64()
        .expect("a mean");
    assert!((difference - (trained - knn("start"))).abs() < 1e-12);
    assert!(comparisons[0]["over_seeds"].is_number() && comparisons[1]["over_seeds"].is_null());
    // Two of the start, four of each of two arms, one of each of two.
    assert_eq!(found["rank_correlations"][0]["rows"], 12);

    // A run that is trained and not judged is judged, and nothing is trained again; so is a frozen arm, from what is there.
    for lost in ["trained/seed-1", "total/all-seeds"] {
        let lost = place.join(&format!("out/birds/{lost}/judged.json"));
        fs::remove_file(lost).expect("a judgement");
    }
    let [out, said] = succeeded(&run(&place, &[]));
    assert!(out.contains("7 of 7 runs done"), "{out}");
    assert!(!said.contains("step 2/2"), "{said}");
    let jobs: Vec<usize> = embedded(&said).into_values().collect();
    assert_eq!(jobs, [3], "{said}");
    assert_eq!(place.json("out/study.json"), report);
}

/// Stops once a run's photos are being embedded.
#[derive(Default)]
struct Stopping {
    is_in_a_run: bool,
    is_stopping: bool,
    said: Vec<String>,
}

impl Observer for Stopping {
    fn on_message(&mut self, line: &str) {
        self.is_in_a_run |= line.contains("still, seed 0");
        self.said.push(line.to_owned());
    }

    fn on_phase(&mut self, name: &str) {
        self.is_stopping |= self.is_in_a_run && name.starts_with("embedding 96 photos");
    }

    fn should_stop(&self) -> bool {
        self.is_stopping
    }
}

#[test]
fn a_stop_while_a_run_is_judged_loses_nothing() {
    let place = started();
    let weights = place.join("run/export");
    let weights = weights.to_str().expect("a path");
    let config = STUDY
        .replace("run/export", weights)
        .replace("[0, 1]", "[0]");
    let config = StudyConfig::parse(&config, "s.toml").expect("a study");
    let (out, whole) = (place.join("out"), place.join("whole"));
    let go = |out: &Path, observer: &mut Stopping| {
        study(&config, out, &Compute::cpu(), observer).expect("a study")
    };
    let mut stopping = Stopping::default();
    let end = go(&out, &mut stopping);
    assert!(end.interrupted);
    assert_eq!(end.report.done, [1, 5]);
    let folder = out.join("birds/still/seed-0");
    assert!(folder.join("eval.json").is_file() && !folder.join("judged.json").exists());
    // Stopped again after every few photos.
    let mut through = Stopping::default();
    let resumed = loop {
        let end = go(&out, &mut through);
        through.is_stopping = false;
        if !end.interrupted {
            break end;
        }
    };
    assert!(
        through
            .said
            .iter()
            .any(|line| line.contains("were embedded before")),
        "{:?}",
        through.said
    );
    assert_eq!(resumed.report.done, [5, 5]);
    study(&config, &whole, &Compute::cpu(), &mut Silent).expect("a study");
    let rows = |out: &Path| -> Value {
        let bytes = fs::read(out.join("birds/still/seed-0/judged.json")).expect("a judgement");
        let judged: Value = serde_json::from_slice(&bytes).expect("JSON");
        judged["rows"].clone()
    };
    assert_eq!(rows(&out), rows(&whole));
}

#[test]
fn weights_and_photos_of_a_study_are_put_in_place_of_its_own() {
    let place = started();
    let study = STUDY.replace("weights = \"run/export\"\n", "");
    fs::write(place.join("s.toml"), study).expect("s.toml");
    place.refused(&run(&place, &[]), &["data birds", "--weights SRC"]);
    let cut = ["--weights", "run/export", "--arm", "total"];
    let [out, _] = succeeded(&run(&place, &cut));
    assert!(out.contains("4 of 4 runs done"), "{out}");
    let config =
        fs::read_to_string(place.join("out/birds/still/seed-0/config.toml")).expect("settings");
    // Careful training, where nobody asks for anything else.
    for words in [
        "base = \"moco-v3\"",
        "kind = \"adamw\"",
        "source = \"run/export\"",
    ] {
        assert!(config.contains(words), "{words}: {config}");
    }
    // Other settings of a closed form in the same place are refused.
    let ridge = run(
        &place,
        &[&cut[..], &["--set", "adapt.neighbours=3"]].concat(),
    );
    place.refused(&ridge, &["adapt.neighbours", "another --out"]);
}

#[test]
fn an_estimate_starts_nothing_and_is_remembered() {
    let place = started();
    let [out, said] = succeeded(&run(&place, &["--estimate"]));
    assert!(
        said.contains("timing a few steps of still on birds"),
        "{said}"
    );
    assert!(
        out.contains("judging, min a run") && out.contains("trained"),
        "{out}"
    );
    assert!(!place.join("out/birds").exists());
    let [again, said] = succeeded(&run(&place, &["--estimate"]));
    assert!(!said.contains("timing"), "{said}");
    assert_eq!(again, out);
    let [json, _] = succeeded(&run(&place, &["--estimate", "--json"]));
    let hours: Value = serde_json::from_str(&json).expect("JSON");
    let arms = hours["arms"].as_array().expect("arms").iter();
    let arms = arms.map(|arm| {
        let known = |key: &str| arm[key].is_number();
        (arm["arm"].as_str(), known("training"), known("judging"))
    });
    let expected = [
        (Some("start"), false, true),
        (Some("still"), true, true),
        (Some("trained"), true, true),
        (Some("total"), false, false),
        (Some("ridge"), false, false),
    ];
    assert_eq!(arms.collect::<Vec<_>>(), expected, "{json}");
}
