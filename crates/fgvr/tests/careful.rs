//! Training from pretrained weights: carefully by default, warned of otherwise, and never below the start unsaid.

mod common;

use std::fs;
use std::process::Output;

use candle_core::{DType, Device, Tensor, safetensors};
use common::Place;

/// A place with the export of a run of a few steps, `run/export`.
fn started() -> Place {
    let place = Place::new();
    let settings = ["encoder.width=64", "encoder.stem=imagenet", "arm=base"];
    let set: Vec<&str> = settings.iter().flat_map(|s| ["--set", *s]).collect();
    let run = place.pretrain(&[&["--out", "run", "--steps", "2"][..], &set[..]].concat());
    assert!(run.status.success(), "{run:?}");
    place
}

const SMALL_SET: &str = "data.lookalikes={families=2, species_per_family=2, train_images=96, val_images=64, test_images=32}";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs `fgvr COMMAND --weights run/export` on few images.
fn from_weights(place: &Place, command: &str, args: &[&str], settings: &[&str]) -> Output {
    let mut all = vec![command, "--weights", "run/export"];
    all.extend(args);
    for setting in [SMALL_SET, "loader.batch=16"].iter().chain(settings) {
        all.extend(["--set", *setting]);
    }
    let output = place.fgvr(&all).output().expect("fgvr starts");
    assert!(output.status.success(), "{}", text(&output.stderr));
    output
}

/// All tensors of an export, by name.
fn tensors(place: &Place, export: &str) -> Vec<(String, Vec<f32>)> {
    let file = place.join(export).join("model.safetensors");
    let read = safetensors::load(file, &Device::Cpu).expect("tensors");
    // A counter of batches is an integer.
    let values = |t: &Tensor| {
        let flat = t.flatten_all().and_then(|t| t.to_dtype(DType::F32));
        flat.and_then(|t| t.to_vec1()).expect("values")
    };
    let mut all: Vec<_> = read.iter().map(|(n, t)| (n.clone(), values(t))).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

#[test]
fn weights_alone_are_trained_carefully_and_their_row_is_called_start() {
    let place = started();
    let planned = from_weights(&place, "plan", &[], &[]);
    let plan = text(&planned.stdout);
    for words in [
        "moco-v3, arm base",
        "adamw at 2e-5, heads at 1e-3",
        "100 (6 an epoch)",
        "run/export",
    ] {
        assert!(plan.contains(words), "{words}: {plan}");
    }
    let run = from_weights(&place, "pretrain", &["--out", "a", "--steps", "2"], &[]);
    let (said, out) = (text(&run.stderr), text(&run.stdout));
    for words in ["preset pretrained,", "running statistics", "--preset demo"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains("rate for random"), "{said}");
    assert!(
        out.contains("\nstart ") && !out.contains("untrained"),
        "{out}"
    );
    let eval = place.json("a/eval.json");
    assert!(eval["start"]["knn"]["top1"].is_number() && eval["untrained"].is_null());
    let against = &eval["against_start"];
    assert_eq!(
        (&against["by"], &against["images"]),
        (&"knn".into(), &64.into())
    );
    let card = fs::read_to_string(place.join("a/export/README.md")).unwrap();
    assert!(
        card.contains("| start | ") && !card.contains("untrained"),
        "{card}"
    );
    let page = fs::read_to_string(place.join("a/report.html")).unwrap();
    assert!(page.contains("Start is the same network") && !page.contains("ntrained is"));

    // Whoever asks for a preset for random weights gets it, and is told.
    let args = ["--preset", "photos", "--out", "b", "--steps", "1"];
    let set = [
        "decoder.hidden=16",
        "decoder.channels=16",
        "moco.queue=32",
        "moco.pair_queue=32",
    ];
    let asked = from_weights(&place, "pretrain", &args, &set);
    let said = text(&asked.stderr);
    for words in [
        "optimizer.lr = 0.06 with sgd is a rate for random weights",
        "trunk_norm=running",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let log = fs::read_to_string(place.join("b/train.log")).unwrap();
    assert!(log.contains("rate for random weights"), "{log}");
    // From random weights nothing changed.
    let random = place.json("run/eval.json");
    assert!(random["untrained"]["knn"].is_object() && random["start"].is_null());
    assert!(random["against_start"].is_null());
}

#[test]
fn at_a_rate_of_zero_every_bit_of_a_pretrained_trunk_stays_while_its_heads_learn() {
    let place = started();
    let args = ["--steps", "3", "--out"];
    let run = |out: &str, settings: &[&str]| {
        from_weights(&place, "pretrain", &[&args[..], &[out]].concat(), settings);
        tensors(&place, &format!("{out}/export"))
    };
    let start = tensors(&place, "run/export");
    assert_eq!(run("still", &["optimizer.lr=0"]), start);
    assert_eq!(run("heads", &["optimizer.head_steps=3"]), start);
    let loss = |run: &str| -> Vec<f64> {
        let metrics = fs::read_to_string(place.join(run).join("metrics.jsonl")).unwrap();
        let row = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        metrics
            .lines()
            .map(|l| row(l)["loss"].as_f64().unwrap())
            .collect()
    };
    let learned = loss("heads");
    assert!(learned[2] != learned[0], "{learned:?}");
    // Batch statistics leave a trace in the running ones at the same rate. Where that takes the run below its start,
    // its own weights are beside those of the start.
    run("batch", &["optimizer.lr=0", "optimizer.trunk_norm=batch"]);
    let own = ["batch/export-trained", "batch/export"];
    let own = own.into_iter().find(|own| place.join(own).is_dir());
    assert!(tensors(&place, own.unwrap()) != start);
}

#[test]
fn a_run_that_ends_below_its_start_says_so_first_and_keeps_the_start() {
    let place = started();
    // One step of nothing but weight decay takes all weights away.
    let spoil = [
        "base=moco-v2",
        "moco.temperature=1e6",
        "moco.queue=32",
        "optimizer.kind=sgd",
        "optimizer.lr=1",
        "optimizer.head_lr=1",
        "optimizer.weight_decay=1",
        "optimizer.warm_up=0",
    ];
    let run = from_weights(&place, "pretrain", &["--out", "a", "--steps", "1"], &spoil);
    let out = text(&run.stdout);
    let first = out.lines().next().unwrap_or_default();
    assert!(
        first.starts_with("warning: this run ended below its start: kNN on 64"),
        "{out}"
    );
    assert_eq!(tensors(&place, "a/export"), tensors(&place, "run/export"));
    assert_ne!(
        tensors(&place, "a/export-trained"),
        tensors(&place, "run/export")
    );
    for (export, words) in [
        ("export", "weights of the start, not what was trained"),
        (
            "export-trained",
            "weights that were trained: this run ended below its start",
        ),
    ] {
        let card = fs::read_to_string(place.join("a").join(export).join("README.md")).unwrap();
        assert!(card.contains(words), "{export}: {card}");
    }
    let page = fs::read_to_string(place.join("a/report.html")).unwrap();
    assert!(page.contains("Warning: this run ended below its start"));
    let log = fs::read_to_string(place.join("a/train.log")).unwrap();
    assert!(
        log.contains("warning: this run ended below its start"),
        "{log}"
    );
    let again = place.fgvr(&["eval", "--run", "a"]).output().unwrap();
    let again = text(&again.stdout);
    assert!(
        again.starts_with("warning: this run ended below"),
        "{again}"
    );
}

#[test]
fn without_labels_a_run_and_its_start_are_compared_by_views_found() {
    let place = started();
    common::photos(&place.join("photos"), 130);
    let args = ["--data", "photos", "--out", "a", "--steps", "1"];
    from_weights(&place, "pretrain", &args, &["data.val_fraction=0.5"]);
    let eval = place.json("a/eval.json");
    let against = &eval["against_start"];
    assert_eq!(against["by"], "views-found", "{eval}");
    assert!(
        against["images"].as_u64().is_some_and(|n| n >= 50),
        "{eval}"
    );
    assert!(eval["start"]["knn"].is_null() && eval["untrained"].is_null());
    // Too few to tell by.
    let args = ["--data", "photos", "--out", "b", "--steps", "1"];
    from_weights(&place, "pretrain", &args, &["data.val_fraction=0.1"]);
    assert!(place.json("b/eval.json")["against_start"].is_null());
}

#[test]
fn adapt_with_training_trains_first_compares_all_four_and_trains_once() {
    let place = started();
    let small = "data.lookalikes={families=2, species_per_family=2, train_images=160, val_images=60, test_images=40}";
    let args = [
        "adapt",
        "--train",
        "--weights",
        "run/export",
        "--data",
        "builtin:lookalikes",
        "--out",
        "a",
    ];
    let set = [
        "--set",
        small,
        "--set",
        "loader.batch=16",
        "--set",
        "optimizer.steps=2",
    ];
    let run = |more: &[&str]| {
        let all = [&args[..], &set[..], more].concat();
        place.fgvr(&all).output().expect("fgvr starts")
    };
    let first = run(&[]);
    let (said, out) = (text(&first.stderr), text(&first.stdout));
    assert!(first.status.success(), "{said}");
    assert!(
        said.contains("step 2/2") && said.contains("adapting the trained network"),
        "{said}"
    );
    assert!(
        out.contains("training: ") && out.contains("held-out photos"),
        "{out}"
    );
    let found = place.json("a/adapt.json");
    let rows = found["table"]["rows"].as_array().expect("a table");
    let names: Vec<_> = rows
        .iter()
        .map(|row| row["name"].as_str().unwrap_or(""))
        .collect();
    assert_eq!(
        names,
        ["start", "start, adapted", "trained", "trained, adapted"]
    );
    assert!(rows.iter().all(|row| row["probe"].is_object()), "{found}");
    assert_eq!(
        (&found["photos"]["fitted"], &found["photos"]["held_out"]),
        (&160.into(), &60.into())
    );
    let training = &found["training"];
    assert_eq!(training["steps"], 2);
    let taken = training["is_taken"].as_bool().expect("an answer");
    let open = training["gate"]["answer"] == "open";
    assert_eq!(
        taken,
        open && training["against_start"]["is_below"] == false
    );
    // Again, with the training that is there: the same figures.
    fs::remove_dir_all(place.join("a")).unwrap();
    let again = run(&[]);
    assert!(again.status.success() && !text(&again.stderr).contains("step 2/2"));
    let again = place.json("a/adapt.json");
    for key in ["table", "gate", "label_free"] {
        assert_eq!(found[key], again[key], "{key}");
    }
    assert!(place.join("a-training/checkpoints/last").is_file());
    fs::remove_dir_all(place.join("a")).unwrap();
    place.refused(
        &run(&["--set", "optimizer.lr=1e-5"]),
        &["a-training", "optimizer.lr = 0.00002"],
    );
}
