//! Adapted features: exported, embedded, judged, and refused where they do not fit.
#![allow(clippy::unwrap_used)] // in helpers of tests

mod common;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use common::{Place, photos};
use fgvr_encoder::Overwrite;
use fgvr_encoder::export::Format;
use fgvr_perturb::{AdaptConfig, AdaptKind, Adaptation, NuisanceCovariance};
use fgvr_testkit::{assert_close_values, normal_values};
use fgvr_train::{
    Compute, Embedder, EmbeddingTable, Silent, adaptation_of, embed_set, open_weights,
};

/// A small residual network of 8 features that tests of other crates share.
fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/weights/resnet.safetensors")
}

fn embedder() -> Embedder {
    let weights = open_weights(golden().to_str().unwrap(), &mut Silent).unwrap();
    let compute = Compute::cpu();
    Embedder::from_weights(&weights, Some(32), &[], &compute)
        .unwrap()
        .0
}

/// An adaptation to views that differ from `plain` by noise in the first half of the channels.
fn fitted(plain: &[f32], width: usize) -> Adaptation {
    let noise = normal_values(5, 2 * plain.len());
    let views = (0..2 * plain.len()).map(|at| {
        let (photo, channel) = (at / (2 * width), at % width);
        let strength = if channel < width / 2 { 0.1 } else { 0.01 };
        plain[photo * width + channel] + strength * noise[at]
    });
    let views: Vec<f32> = views.collect();
    let mut statistics = NuisanceCovariance::new(width).unwrap();
    statistics.add_plain(plain).unwrap();
    statistics.add_views(&views, 2).unwrap();
    let config = AdaptConfig::of(AdaptKind::Nuisance);
    Adaptation::fit(&statistics, None, &config).unwrap()
}

/// Photos with labels in `set`, and a network adapted to them in `adapted`.
fn adapted() -> (Place, Adaptation) {
    let place = Place::new();
    for folder in ["set/train/a", "set/train/b", "set/test/a", "set/test/b"] {
        photos(&place.join(folder), 6);
    }
    // Two classes that differ: what is in b stands elsewhere.
    for split in ["train", "test"] {
        for i in 0..6 {
            let name = |class: &str| place.join(&format!("set/{split}/{class}/{i}.png"));
            if i % 2 == 0 {
                fs::copy(name("a"), name("b").with_file_name(format!("{i}-too.png"))).unwrap();
            }
        }
    }
    let embedder = embedder();
    let set = place.join("set");
    let table = embed_set(&embedder, set.to_str().unwrap(), &mut Silent).unwrap();
    let adaptation = fitted(&table.features, table.width);
    let exported = embedder
        .export(
            Some(&adaptation),
            Format::Timm,
            &place.join("adapted"),
            "",
            Overwrite::Never,
        )
        .unwrap();
    assert_eq!(exported.adaptation.as_deref(), Some("nuisance"));
    (place, adaptation)
}

fn fgvr(place: &Place, command: &str) -> Output {
    let arguments: Vec<&str> = command.split(' ').collect();
    place.fgvr(&arguments).output().expect("fgvr starts")
}

/// What `command` says on standard error; it succeeds.
fn told(place: &Place, command: &str) -> String {
    let output = fgvr(place, command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command}: {said}");
    said
}

fn json(place: &Place, command: &str) -> serde_json::Value {
    let output = fgvr(place, command);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn read(place: &Place, name: &str) -> EmbeddingTable {
    EmbeddingTable::read(&place.join(name)).unwrap()
}

#[test]
fn an_adapted_export_is_embedded_and_judged_with_its_adaptation_or_without() {
    let (place, adaptation) = adapted();
    let weights = open_weights(place.join("adapted").to_str().unwrap(), &mut Silent).unwrap();
    assert_eq!(adaptation_of(&weights).unwrap(), Some(adaptation.clone()));
    let card = fs::read_to_string(place.join("adapted/README.md")).unwrap();
    assert!(
        card.contains("no head over classes") && card.contains("fgvr embed"),
        "{card}"
    );

    let said = told(&place, "embed --weights adapted --data set --out a.npz");
    assert!(
        said.contains("features are adapted: nuisance of 8 features"),
        "{said}"
    );
    assert!(said.contains("--plain leaves it off"), "{said}");
    let said = told(
        &place,
        "embed --weights adapted --plain --data set --out p.npz",
    );
    assert!(!said.contains("are adapted"), "{said}");
    let golden = golden();
    let golden = golden.to_str().unwrap();
    told(
        &place,
        &format!("embed --weights {golden} --size 32 --adaptation adapted --data set --out b.npz"),
    );
    let (a, p, b) = (
        read(&place, "a.npz"),
        read(&place, "p.npz"),
        read(&place, "b.npz"),
    );
    assert_eq!(
        a.adaptation.as_deref(),
        Some("nuisance of 8 features, fitted to 30 images")
    );
    assert_eq!(
        (&p.adaptation, &a.splits, &a.labels),
        (&None, &p.splits, &p.labels)
    );
    assert_eq!((&a.features, &a.adaptation), (&b.features, &b.adaptation));
    let expected = adaptation.apply(&p.features).unwrap();
    let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|v| f64::from(*v)).collect() };
    assert_close_values("features", &wide(&a.features), &wide(&expected), 1e-5);

    let inspected = fgvr(&place, "weights inspect adapted");
    let inspected = String::from_utf8_lossy(&inspected.stdout);
    assert!(inspected.contains("nuisance of 8 features"), "{inspected}");

    let of_weights = json(&place, "eval --weights adapted --data set --json");
    let of_file = json(&place, "eval --features p.npz --adaptation adapted --json");
    let of_adapted = json(&place, "eval --features a.npz --json");
    let plain = json(&place, "eval --weights adapted --plain --data set --json");
    let names = |judged: &serde_json::Value| -> Vec<String> {
        let rows = judged["rows"].as_array().unwrap().iter();
        rows.map(|row| row["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&of_weights), ["start", "adapted", "pixels"]);
    assert_eq!(names(&of_file), ["features", "adapted"]);
    assert_eq!(names(&of_adapted), ["adapted"]);
    assert_eq!(names(&plain), ["start", "pixels"]);
    assert_eq!(
        (&of_weights["train_images"], &of_weights["judged_images"]),
        (&15.into(), &15.into())
    );
    for row in [0, 1] {
        for figure in ["knn", "linear", "retrieval", "neighbours", "cross_map"] {
            let one = &of_weights["rows"][row][figure];
            assert!(one.is_object(), "{figure}: {of_weights}");
            assert_eq!(one, &of_file["rows"][row][figure], "{figure}");
        }
    }
    let output = fgvr(
        &place,
        "eval --features p.npz --adaptation adapted/adaptation.safetensors",
    );
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.contains("adapted over features: kNN"), "{table}");
    assert!(
        table.lines().all(|line| line.chars().count() <= 100),
        "{table}"
    );
}

#[test]
fn what_does_not_fit_is_one_line() {
    let (place, _) = adapted();
    let other = normal_values(1, 20 * 4);
    fitted(&other, 4)
        .save(place.join("other.safetensors"))
        .unwrap();
    told(&place, "embed --weights adapted --data set --out a.npz");
    told(
        &place,
        "embed --weights adapted --plain --data set --out p.npz",
    );
    let table = read(&place, "p.npz");
    let write = |name: &str, how: &dyn Fn(&mut EmbeddingTable)| {
        let mut table = table.clone();
        how(&mut table);
        table.write(&place.join(name), false).unwrap();
    };
    write("nan.npz", &|table| table.features[11] = f32::NAN);
    write("bare.npz", &|table| table.labels.fill(-1));
    write("beyond.npz", &|table| table.labels[3] = 7);
    write("all-test.npz", &|table| table.splits.fill("test"));
    fs::write(place.join("text.npz"), "no archive").unwrap();
    let mut archive = zip::ZipWriter::new(fs::File::create(place.join("x.npz")).unwrap());
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    archive.start_file("x.npy", stored).unwrap();
    archive.write_all(b"no array").unwrap();
    archive.finish().unwrap();
    for (command, words) in [
        (
            "embed --weights adapted --adaptation other.safetensors --data set --out x.csv",
            &["is of 4 features", "gives 8"][..],
        ),
        (
            "embed --weights adapted --adaptation nowhere --data set --out x.csv",
            &["nowhere", "No such file"],
        ),
        (
            "embed --weights adapted --adaptation set --data set --out x.csv",
            &["set: has no adaptation.safetensors"],
        ),
        (
            "embed --weights adapted --adaptation adapted/model.safetensors --data set --out x.csv",
            &["model.safetensors", "expected fgvr-adaptation"],
        ),
        (
            "eval --weights adapted --data set --adaptation other.safetensors",
            &["is of 4 features"],
        ),
        (
            "eval --weights adapted --data set --set optimizer.lr=1",
            &["evaluating", "evaluate.knn.*"],
        ),
        (
            "eval --features p.npz --adaptation other.safetensors",
            &["is of 4 features", "8 a row"],
        ),
        (
            "eval --features a.npz --adaptation adapted",
            &["adapted already"],
        ),
        (
            "eval --features nan.npz",
            &["1 of 30 rows", "not finite", "row 1", "column 3"],
        ),
        ("eval --features bare.npz", &["no labels"]),
        ("eval --features beyond.npz", &["label 7", "2 classes"]),
        (
            "eval --features all-test.npz",
            &["no row of the split train"],
        ),
        ("eval --features text.npz", &["no npz archive"]),
        (
            "eval --features x.npz",
            &["`features` or `embeddings`", "there is x"],
        ),
        (
            "eval --features nowhere.npz",
            &["nowhere.npz", "No such file"],
        ),
        (
            "eval --features p.npz --set data.size=3",
            &["data.size", "evaluate.knn.*"],
        ),
    ] {
        place.refused(&fgvr(&place, command), words);
    }
    assert!(!place.join("x.csv").exists());
    // A mark that nothing bears out stops it, and the encoder alone can still be used.
    fs::remove_file(place.join("adapted/adaptation.safetensors")).unwrap();
    let output = fgvr(&place, "embed --weights adapted --data set --out x.csv");
    place.refused(&output, &["not beside it"]);
    told(
        &place,
        "embed --weights adapted --plain --data set --out x.csv",
    );
}

#[test]
fn a_file_without_splits_has_some_of_each_class_held_out() {
    let place = Place::new();
    let rows = 40;
    let values = normal_values(2, rows * 6);
    let table = EmbeddingTable {
        features: (0..rows * 6)
            .map(|at| {
                if at / 6 % 2 == at % 2 {
                    3. + values[at]
                } else {
                    values[at]
                }
            })
            .collect(),
        width: 6,
        paths: (0..rows).map(|row| row.to_string()).collect(),
        splits: vec!["train"; rows],
        labels: (0..rows).map(|row| (row % 2) as i64).collect(),
        classes: vec!["even".to_owned(), "odd".to_owned()],
        device: "cpu".to_owned(),
        adaptation: None,
    };
    table.write(&place.join("f.npz"), false).unwrap();
    let output = fgvr(&place, "eval --features f.npz --json");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("8 of 40, 20 % of each class"), "{said}");
    let judged: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&judged["train_images"], &judged["judged_images"]),
        (&32.into(), &8.into())
    );
    assert!(
        judged["rows"][0]["knn"]["top1"].as_f64() > Some(0.8),
        "{judged}"
    );
}
